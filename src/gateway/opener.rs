//! Opens entries when they arrive, so that a query finds them opened: RSA is most of what it costs otherwise.
//!
//! What is opened stays in memory, within the bounds of [`Reader`]. It is never written: keys that are encrypted at rest would
//! protect nothing if the contents lay beside them.

use std::{collections::HashMap, sync::Arc};

use p2pdb_protocol::{
    filter::{Cursor, Filter},
    id::{RecipientId, TableId},
};
use tokio_util::sync::CancellationToken;

use crate::{
    gateway::{
        keys::Keys,
        mirror::Mirror,
        reader::Reader,
        spaces::{Space, Spaces},
    },
    store::StoreError,
};

/// How far back in the order of arrivals the opener begins: some seconds of one core. What is older is opened when it is asked
/// for.
const MAX_BEHIND: u64 = 10_000;
/// Entries that are opened at a time, so that a stop need not wait.
const PAGE: usize = 64;

/// How far arrivals were opened, of each table with each recipient whose key came with a card.
type Places = HashMap<(TableId, Option<RecipientId>), Cursor>;

/// What opening needs.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) keys: Arc<Keys>,
    pub(super) mirror: Arc<Mirror>,
    pub(super) reader: Arc<Reader>,
    pub(super) spaces: Arc<Spaces>,
}

impl Opener {
    /// Opens what arrives, until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let (mut arrivals, mut changes) = (self.mirror.changes(), self.spaces.changes());
        let mut opened = HashMap::new();
        loop {
            for space in self.spaces.all() {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    done = self.open(&space, &mut opened) => if let Err(error) = done {
                        tracing::debug!(name = %space.name, %error, "entries are opened when they are asked for");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                arrived = arrivals.changed() => if arrived.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Opens what a space has behind the place up to which that was done.
    async fn open(&self, space: &Arc<Space>, opened: &mut Places) -> Result<(), StoreError> {
        let recipients = self.recipients(space);
        if recipients.is_empty() {
            return Ok(());
        }
        let (table, shared) = (space.table(), space.shared_reader());
        let mut cursor = match opened.get(&(table, shared)) {
            Some(cursor) => *cursor,
            None => {
                let store = self.mirror.store();
                let newest = store.stats().await?.newest_arrival;
                Cursor { store: store.id(), arrival: newest.saturating_sub(MAX_BEHIND) }
            }
        };
        loop {
            let filter = Filter {
                recipients: recipients.clone(),
                cursor: Some(cursor),
                limit: PAGE,
                ..Filter::table(table)
            };
            let page = self.mirror.page(filter).await?;
            cursor = page.next;
            let (reader, space) = (Arc::clone(&self.reader), Arc::clone(space));
            let opening = tokio::task::spawn_blocking(move || _ = reader.open_stored(&page.entries, &space));
            // A panic there is the log's matter; the entries are opened when they are asked for.
            let _ = opening.await;
            opened.insert((table, shared), cursor);
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Whose entries can be opened.
    fn recipients(&self, space: &Space) -> Vec<RecipientId> {
        let own = self.keys.all().filter_map(|key| key.private.as_ref());
        let keys = own.chain(&space.card.recipient_private);
        keys.map(|key| key.public_key().recipient_id()).collect()
    }
}
