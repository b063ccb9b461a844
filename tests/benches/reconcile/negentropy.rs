//! The `negentropy` crate, in memory on both sides.

use std::time::Duration;

use anyhow::Result;
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use p2pdb::protocol::id::EntryId;

use super::{
    Cost,
    sets::{Item, Sets},
};
use crate::support::machine::thread_cpu;

/// No limit of a frame: as few round trips as it can.
const NO_LIMIT: u64 = 0;

/// What it has to be built before it can begin.
#[derive(Debug)]
pub(super) struct Storages {
    requester: NegentropyStorageVector,
    responder: NegentropyStorageVector,
    /// What building the responder's took.
    pub(super) build: Duration,
}

impl Storages {
    pub(super) fn new(sets: &Sets) -> Result<Self> {
        let build = |items: &[Item]| -> Result<NegentropyStorageVector> {
            let mut storage = NegentropyStorageVector::with_capacity(items.len());
            for (id, created) in items {
                storage.insert(*created, Id::from_byte_array(*id.as_bytes()))?;
            }
            storage.seal()?;
            Ok(storage)
        };
        let requester = build(&sets.requester)?;
        let began = thread_cpu();
        let responder = build(&sets.responder)?;
        Ok(Self { requester, responder, build: thread_cpu() - began })
    }

    pub(super) fn find(&self) -> Result<(Cost, Vec<EntryId>)> {
        let mut cost = Cost::default();
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let began = thread_cpu();
        let mut requester = Negentropy::borrowed(&self.requester, NO_LIMIT)?;
        let mut next = Some(requester.initiate()?);
        cost.requester += thread_cpu() - began;
        let mut responder = Negentropy::borrowed(&self.responder, NO_LIMIT)?;
        while let Some(query) = next {
            let began = thread_cpu();
            let answer = responder.reconcile(&query)?;
            cost.responder += thread_cpu() - began;
            cost.bytes += (query.len() + answer.len()) as u64;
            cost.round_trips += 1;
            let began = thread_cpu();
            next = requester.reconcile_with_ids(&answer, &mut have, &mut need)?;
            cost.requester += thread_cpu() - began;
        }
        Ok((cost, need.into_iter().map(|id| EntryId::from_bytes(id.to_bytes())).collect()))
    }
}
