//! The filters of `get` and `follow` (SPEC 8.5).

use std::str::FromStr;

use anyhow::{Context as _, Result};
use p2pdb_protocol::{
    filter::{Cursor, Filter, FilterError},
    id::{EntryId, RecipientId},
    limits::DEFAULT_GET_ENTRIES,
    network::Network,
};

use crate::{
    cli::{
        context::Context,
        failure::{Advise as _, Exit},
        format::Time,
        keyring::{Keyring, PrivateHalf},
        tables,
    },
    config::Period,
};

/// Which entries are wanted: those that fulfil every condition; at least one is needed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct FilterArgs {
    /// Entries of this table, by name or id; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Entries with this id; may be repeated
    #[arg(long = "id", value_name = "ENTRY")]
    ids: Vec<EntryId>,
    /// Entries for this recipient, by name or id of the key; may be repeated
    #[arg(long = "recipient", value_name = "KEY")]
    recipients: Vec<String>,
    /// Entries for any of the private keys of this home
    #[arg(long)]
    mine: bool,
    /// Entries in this bucket
    #[arg(long, value_name = "NUMBER")]
    bucket: Option<u16>,
    /// Entries that arrived at the node within this period, such as "2 hours"
    #[arg(long, value_name = "PERIOD")]
    since: Option<Period>,
    /// Entries created at this time or later: unix seconds, 2026-11-23 or 2026-11-23T20:11:15Z
    #[arg(long, value_name = "TIME")]
    created_from: Option<Time>,
    /// Entries created before this time
    #[arg(long, value_name = "TIME")]
    created_until: Option<Time>,
}

impl FilterArgs {
    /// The filter, with names resolved in the home.
    pub(super) fn filter(&self, context: &Context, network: &Network) -> Result<Filter> {
        let home = context.home()?;
        let keyring = Keyring::new(home.clone());
        let mut recipients = self
            .recipients
            .iter()
            .map(|text| {
                text.parse::<RecipientId>().or_else(|_| Ok(keyring.find(text)?.public.recipient_id()))
            })
            .collect::<Result<Vec<_>>>()?;
        if self.mine {
            let own = keyring.all()?.into_iter().filter(|key| key.private != PrivateHalf::None);
            recipients.extend(own.map(|key| key.public.recipient_id()));
            let cards = tables::all(&home)?.into_iter();
            recipients
                .extend(cards.filter_map(|t| Some(t.card.recipient_private?.public_key().recipient_id())));
            if recipients.is_empty() {
                return Err(anyhow::anyhow!("this home has no private key that could read"))
                    .hint("make one with `p2pdb key new NAME`");
            }
        }
        let buckets = 1 << network.bucket_bits;
        if let Some(got) = self.bucket.map(u64::from).filter(|bucket| *bucket >= buckets) {
            return Err(FilterError::NoSuchBucket { got, buckets })
                .exit(Exit::Usage, "name a bucket that exists");
        }
        Ok(Filter {
            ids: self.ids.clone(),
            tables: self.tables.iter().map(|text| tables::id_of(&home, text)).collect::<Result<_>>()?,
            recipients,
            bucket: self.bucket,
            seconds_since: self.since.map(|period| period.0),
            created_from: self.created_from.map(|time| time.0),
            created_until: self.created_until.map(|time| time.0),
            cursor: None,
            limit: DEFAULT_GET_ENTRIES,
        })
    }
}

/// Refuses a filter that the protocol cannot ask for.
pub(super) fn check(filter: &Filter) -> Result<()> {
    let checked = if filter.is_unbounded() { Err(FilterError::Empty) } else { Ok(()) };
    checked
        .context("which entries?")
        .exit(Exit::Usage, "name a table with --table, or see --help for all filters")
}

/// A cursor as people pass it on: the store in hex, a colon, the arrival number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CursorText(pub(super) Cursor);

impl FromStr for CursorText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (store, arrival) = text.split_once(':')?;
            let is_hex = store.len() == 16 && store.bytes().all(|c| c.is_ascii_hexdigit());
            let store = is_hex.then(|| u64::from_str_radix(store, 16).ok())??;
            Some(Self(Cursor { store: store.to_be_bytes(), arrival: arrival.parse().ok()? }))
        };
        parse().ok_or_else(|| {
            "expected a cursor such as 0123456789abcdef:42, as an earlier get printed it".to_owned()
        })
    }
}

impl std::fmt::Display for CursorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}:{}", u64::from_be_bytes(self.0.store), self.0.arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let cursor = CursorText(Cursor { store: [0, 1, 2, 3, 4, 5, 6, 0xff], arrival: 42 });
        assert_eq!(cursor.to_string(), "00010203040506ff:42");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in [
            "",
            "42",
            "00010203040506ff",
            "0001:42",
            "00010203040506fg:42",
            "+0010203040506ff:42",
            "00010203040506ff:x",
        ] {
            assert!(bad.parse::<CursorText>().is_err(), "{bad}");
        }
    }
}
