//! The index keys of many entries, collected to be written together.

use p2pdb_protocol::{id::EntryId, network::Network};
use redb::{Error, Key, Table, Value};

use super::{record::Facts, schema::Place};

/// An entry to be removed, and the index row that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) arrival: u64,
    pub(super) key: FoundBy,
}

/// An index row, but for the arrival number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FoundBy {
    /// Table number and class.
    Class(u32, u16),
    /// Table number, epoch and id.
    Epoch(u32, u64, EntryId),
    /// `expires`.
    Expiry(u64),
}

/// Index keys of many entries, to be written in ascending order: that touches each page once. Those of ids and recipients are sorted
/// when everything that comes and goes is known.
#[derive(Default)]
pub(super) struct Keys {
    /// No place: the id is not known any longer.
    pub(super) by_id: Vec<(u32, EntryId, Option<Place>)>,
    pub(super) by_table: Vec<(u32, u64)>,
    pub(super) by_recipient: Vec<(u64, u64)>,
    pub(super) by_class: Vec<(u32, u16, u64)>,
    pub(super) by_epoch: Vec<((u32, u64, u64), EntryId)>,
    pub(super) by_expiry: Vec<(u64, u64)>,
}

impl Keys {
    pub(super) fn add(&mut self, facts: &Facts, network: &Network, place: Option<Place>) {
        self.by_id.push((facts.table_no, facts.id, place));
        self.by_table.push(facts.table_key());
        self.by_recipient.extend(facts.recipient_keys());
        self.by_class.push(facts.class_key());
        self.by_epoch.push((facts.epoch_key(network), facts.id));
        self.by_expiry.extend(facts.expiry_key());
    }

    pub(super) fn add_found(&mut self, found: FoundBy, arrival: u64) {
        match found {
            FoundBy::Class(table_no, class) => self.by_class.push((table_no, class, arrival)),
            FoundBy::Epoch(table_no, epoch, id) => self.by_epoch.push(((table_no, epoch, arrival), id)),
            FoundBy::Expiry(expires) => self.by_expiry.push((expires, arrival)),
        }
    }

    pub(super) fn sort(&mut self) {
        self.by_table.sort_unstable();
        self.by_class.sort_unstable();
        self.by_epoch.sort_unstable();
        self.by_expiry.sort_unstable();
    }
}

pub(super) fn insert_all<K>(table: &mut Table<'_, K, ()>, keys: &[K]) -> Result<(), Error>
where
    K: Key + Copy + 'static + for<'a> Value<SelfType<'a> = K>,
{
    keys.iter().try_for_each(|key| table.insert(*key, ()).map(drop).map_err(Error::from))
}

pub(super) fn remove_all<K>(table: &mut Table<'_, K, ()>, keys: &[K]) -> Result<(), Error>
where
    K: Key + Copy + 'static + for<'a> Value<SelfType<'a> = K>,
{
    keys.iter().try_for_each(|key| table.remove(*key).map(drop).map_err(Error::from))
}
