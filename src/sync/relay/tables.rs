//! New tables: a full mirror that hears of one gets its first entries at once (SPEC 9.3).

use std::collections::BTreeSet;

use libp2p::PeerId;
use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    filter::Filter,
    id::TableId,
};

use super::{Relay, Unfit, judged};
use crate::{ingest::Way, sync::Context};

/// Entries that are asked for to see that a table is real; reconciliation brings the rest.
const FIRST_ENTRIES: usize = 16;

impl Relay {
    /// Gets the first entries of those of the tables that this node holds nothing of.
    pub(super) async fn fetch_tables(&self, peer: PeerId, tables: &[TableId]) -> Result<(), Unfit> {
        let held = self.context.held_tables().await.ok_or(Unfit::Own)?;
        let lacking: BTreeSet<TableId> =
            tables.iter().filter(|table| !held.contains(table)).copied().collect();
        if lacking.is_empty() {
            return Ok(());
        }
        if held.len() + lacking.len() > self.context.max_tables {
            return Err(Unfit::Own);
        }
        for table in lacking {
            // Gossip passes on what is said of it; should it come to nothing, this node may say it itself.
            let heard = Heard::new(self, table);
            self.fetch_first(peer, table).await?;
            heard.keep();
        }
        self.context.hint(peer);
        Ok(())
    }

    async fn fetch_first(&self, peer: PeerId, table: TableId) -> Result<(), Unfit> {
        let filter = Filter { limit: FIRST_ENTRIES, ..Filter::table(table) };
        let answer = self.ask(peer, &filter).await?;
        let entries = answer.entries.into_iter().map(|(_, entry)| entry.into_inner()).collect();
        let keys = List::into_inner(answer.keys).into_iter().map(Blob::into_inner).collect();
        // As if reconciled: who follows the table here is told of its entries.
        for judgement in self.context.gate.admit_patiently(Way::Sync, entries, keys).await {
            judged(&judgement)?;
        }
        let held = self.context.held_tables().await.ok_or(Unfit::Own)?;
        if held.contains(&table) { Ok(()) } else { Err(Unfit::Missing) }
    }
}

/// A table of which gossip speaks, until its entries could not be had after all.
struct Heard<'a> {
    relay: &'a Relay,
    table: TableId,
    is_kept: bool,
}

impl<'a> Heard<'a> {
    fn new(relay: &'a Relay, table: TableId) -> Self {
        relay.lock_heard().put(table, ());
        Self { relay, table, is_kept: false }
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.relay.lock_heard().pop(&self.table);
        }
    }
}

impl Context {
    /// The tables that this node holds entries of; none if the store cannot say.
    pub(super) async fn held_tables(&self) -> Option<BTreeSet<TableId>> {
        match self.store.tables().await {
            Ok(tables) => {
                let held = tables.into_iter().filter(|summary| summary.entries > 0);
                Some(held.map(|summary| summary.table).collect())
            }
            Err(error) => {
                tracing::error!(error = error.with_causes(), "the tables could not be read");
                None
            }
        }
    }
}
