//! Says by roots and sketches what is stored (SPEC 8.7).

use std::collections::BTreeSet;

use p2pdb_protocol::{
    codec::bounded::Blob,
    id::TableId,
    message::{
        Reply, Status,
        sync::{Asked, Groups, Question, Sync, SyncRequest, SyncResponse, word_bytes},
    },
    reconcile::{roots, sketch::Summary},
};

use crate::{
    serve::{Answer, Service, quota::Limiter, store_failed},
    store::StoreError,
    swarm::Incoming,
};

impl Answer for Sync {
    fn cost<'a>(service: &'a Service, request: &SyncRequest) -> (&'a Limiter, usize) {
        let Some(groups) = &request.groups else { return (&service.syncs, 1) };
        let count = match &groups.which {
            Some(bits) => bits.iter().map(|byte| byte.count_ones() as usize).sum(),
            None => 1 << groups.level.min(16),
        };
        let syndromes = groups.to.saturating_sub(groups.from).min(64) as usize;
        (&service.sync_bytes, 8 * count * syndromes)
    }

    async fn answer(
        service: &Service,
        incoming: &Incoming<Self>,
        request: SyncRequest,
    ) -> Reply<SyncResponse> {
        let since = service.store.scope_for(request.since);
        let Some(question) = request.question() else { return Reply::refused(Status::BadRequest) };
        let response = match question {
            Question::All(candidates) => {
                let theirs =
                    service.routes.of(&incoming.peer).and_then(|route| route.record().tables.clone());
                let theirs = theirs.map(BTreeSet::from_iter);
                let is_common = |table: &TableId| {
                    service.gate.mirror().takes(table)
                        && theirs.as_ref().is_none_or(|theirs| theirs.contains(table))
                };
                service.store.summaries(since).await.map(|summaries| {
                    let common = summaries.iter().filter(|(table, _)| is_common(table));
                    let tallies = common.map(|(table, summary)| (*table, *summary.tally()));
                    Some(roots::answer_for_all(since, &candidates, tallies))
                })
            }
            Question::Tables(tables) => {
                let mut own = Vec::with_capacity(tables.len());
                for (table, candidates) in tables {
                    match summary(service, table, since).await {
                        Ok(summary) => own.push((candidates, summary)),
                        Err(error) => return store_failed(&error),
                    }
                }
                Ok(Some(roots::answer_for_each(since, &own)))
            }
            Question::Groups(asked) => groups(service, asked, since).await,
        };
        match response {
            Ok(Some(response)) => Reply::Ok(response),
            Ok(None) => Reply::refused(Status::BadRequest),
            Err(error) => store_failed(&error),
        }
    }
}

/// Of a table that is not mirrored there is nothing.
async fn summary(service: &Service, table: TableId, since: u64) -> Result<Summary, StoreError> {
    if service.gate.mirror().takes(&table) {
        service.store.summary(table, since).await
    } else {
        Ok(Summary::default())
    }
}

async fn groups(service: &Service, asked: Asked, since: u64) -> Result<Option<SyncResponse>, StoreError> {
    let Asked { table, level, groups, syndromes } = asked;
    if !service.gate.mirror().takes(&table) {
        return Ok(None);
    }
    let sketched = service.store.groups(table, since, level, Some(groups)).await?;
    let ranges = sketched.groups.iter().filter_map(|group| group.syndromes().get(syndromes.clone()));
    let bytes = word_bytes(ranges.flatten().copied());
    let (n, root) = (sketched.tally.len(), sketched.tally.root());
    let groups = Blob::try_from(bytes).ok().map(|syndromes| Groups { n, root, syndromes });
    Ok(groups.map(|groups| SyncResponse { since, groups: Some(groups), ..SyncResponse::default() }))
}
