//! The filters of get and changes, and the cursors that apps keep.

use std::sync::Arc;

use p2pdb_protocol::{
    filter::{Cursor, Filter},
    id::{EntryId, RecipientId},
};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::extract::flag;
use crate::gateway::{
    App,
    problem::{Kind, Problem},
    reader::EntryShown,
    spaces::Space,
    tokens::{Access, Permission, hex},
};

/// Entries in one answer, at most, and unless it is said.
const MAX_ENTRIES: usize = 1000;
const USUAL_ENTRIES: usize = 100;

/// Which entries are wanted: those that pass all of these.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectParams {
    /// The space; needed.
    space: String,
    /// One of its recipients is one of these: names or ids of keys, or `me` for every key of which the daemon has the
    /// private half. May be repeated.
    #[serde(default)]
    recipient: Vec<String>,
    /// Its id is one of these. May be repeated.
    #[serde(default)]
    id: Vec<String>,
    /// It lies in this bucket.
    bucket: Option<u16>,
    /// It arrived here, or at the node with mode=remote, at most so many seconds ago.
    seconds_since: Option<u64>,
    /// It was created at this time or later, in unix seconds.
    created_from: Option<u64>,
    /// It was created before this time, in unix seconds.
    created_until: Option<u64>,
    /// Most entries wanted, 1 to 1000; 100 by default.
    limit: Option<usize>,
    /// Continues behind this place: the `next` of an earlier answer. For changes also `now`.
    cursor: Option<String>,
    /// 1: with the whole entry as nodes have it, in base64.
    #[serde(default, deserialize_with = "flag")]
    raw: bool,
    /// `local`, by default: what the mirror has. `remote`: what nodes answer now.
    #[serde(default)]
    pub(super) mode: Mode,
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// The daemon's mirror.
    #[default]
    Local,
    /// Nodes.
    Remote,
}

/// What is wanted, checked.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) space: Arc<Space>,
    /// Without a cursor.
    pub(super) filter: Filter,
    /// The app's cursor.
    pub(super) cursor: Option<String>,
    pub(super) raw: bool,
}

/// Entries that need not be copied to be sent.
#[derive(Debug)]
pub(super) struct Entries(pub(super) Vec<Arc<EntryShown>>);

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|entry| &**entry))
    }
}

/// A page of entries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryPage {
    /// The entries, in the order in which they arrived in the mirror; from nodes, by the time they were made.
    #[schema(value_type = Vec<EntryShown>)]
    pub(super) entries: Entries,
    /// The cursor that continues behind them; absent with mode=remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    /// Whether there may be further ones already.
    pub(super) more: bool,
    /// The nodes that answered, with mode=remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nodes: Option<Vec<String>>,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail, "correct the query")
}

impl SelectParams {
    /// Checks the token and the filters.
    pub(super) fn select(self, app: &App, access: &Access) -> Result<Selection, Problem> {
        access.permit(Permission::Get, &self.space)?;
        let space = app.spaces.find(&self.space)?;
        let limit = self.limit.unwrap_or(USUAL_ENTRIES);
        if !(1..=MAX_ENTRIES).contains(&limit) {
            return Err(bad(format!("expected a limit of 1 to {MAX_ENTRIES}, got {limit}")));
        }
        let buckets = 1_u32 << app.client.network().bucket_bits;
        if let Some(bucket) = self.bucket.filter(|bucket| u32::from(*bucket) >= buckets) {
            return Err(bad(format!("expected a bucket below {buckets}, got {bucket}")));
        }
        let ids = self.id.iter().map(|id| id.parse::<EntryId>().map_err(|error| bad(error.to_string())));
        let mut recipients: Vec<RecipientId> = Vec::new();
        for text in &self.recipient {
            match (text.as_str(), text.parse::<RecipientId>()) {
                ("me", _) => {
                    let own = app.keys.all().filter(|key| key.private.is_some());
                    recipients.extend(own.map(|key| key.public.recipient_id()));
                    let shared = space.card.recipient_private.as_ref();
                    recipients.extend(shared.map(|key| key.public_key().recipient_id()));
                }
                (_, Ok(id)) => recipients.push(id),
                (name, Err(_)) => recipients.push(app.keys.find(name)?.public.recipient_id()),
            }
        }
        if !self.recipient.is_empty() && recipients.is_empty() {
            return Err(bad("recipient=me means nobody: the daemon has no private key"));
        }
        let filter = Filter {
            ids: ids.collect::<Result<_, _>>()?,
            recipients,
            bucket: self.bucket,
            seconds_since: self.seconds_since,
            created_from: self.created_from,
            created_until: self.created_until,
            limit,
            ..Filter::table(space.table())
        };
        // What one request to a node could not ask for is too much here as well.
        filter.to_request().map_err(|error| bad(error.to_string()))?;
        Ok(Selection { space, filter, cursor: self.cursor, raw: self.raw })
    }
}

impl Selection {
    /// The text of a cursor. It names table and mirror: under another card, arrivals mean something else.
    pub(super) fn cursor_text(&self, cursor: Cursor) -> String {
        format!("{}-{}-{}", self.tag(), hex(&cursor.store), cursor.arrival)
    }

    fn tag(&self) -> String {
        let table = self.space.table();
        hex(table.as_bytes().first_chunk::<4>().map_or(&[], |tag| &tag[..]))
    }

    /// Reads a cursor's text.
    pub(super) fn parse_cursor(&self, text: &str, store: [u8; 8]) -> Result<Cursor, Problem> {
        let mut parts = text.split('-');
        let parsed = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(tag), Some(of), Some(arrival), None) if tag.len() == 8 && of.len() == 16 => {
                arrival.parse().ok().map(|arrival| (tag, of, arrival))
            }
            _ => None,
        };
        let Some((tag, of, arrival)) = parsed else {
            return Err(bad(format!("{text:?} is not a cursor")));
        };
        if tag != self.tag() || of != hex(&store) {
            let detail = "the cursor was made for another table or another mirror";
            return Err(Problem::new(Kind::CursorGone, detail, "begin anew, without a cursor"));
        }
        Ok(Cursor { store, arrival })
    }
}

/// A page of the mirror behind `cursor`, opened. Each entry with its own cursor.
pub(super) async fn page(
    app: &Arc<App>,
    selection: &Selection,
    cursor: Option<Cursor>,
) -> Result<LocalPage, Problem> {
    let page = app.mirror.page(Filter { cursor, ..selection.filter.clone() }).await?;
    let (next, more) = (page.next, page.more);
    let (app, space, raw) = (Arc::clone(app), Arc::clone(&selection.space), selection.raw);
    let entries = super::blocking(move || {
        let opened = app.reader.open_stored(&page.entries, &space);
        if !raw {
            return Ok(opened);
        }
        let encoded =
            |arrival| page.entries.iter().find(|(of, _)| *of == arrival).map(|(_, encoded)| encoded);
        let with_raw = opened.into_iter().map(|(arrival, shown)| {
            let raw = encoded(arrival).map(|encoded| Arc::new(shown.with_raw(encoded)));
            (arrival, raw.unwrap_or(shown))
        });
        Ok(with_raw.collect())
    });
    Ok(LocalPage { entries: entries.await?, next, more })
}

/// A page of the mirror.
pub(super) struct LocalPage {
    /// Each with its arrival.
    pub(super) entries: Vec<(u64, Arc<EntryShown>)>,
    pub(super) next: Cursor,
    pub(super) more: bool,
}
