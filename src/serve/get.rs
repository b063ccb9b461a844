//! Hands out entries (SPEC 8.5).

use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    filter::{BySids, Filter},
    limits,
    message::{
        Reply, Status,
        get::{Get, GetRequest, GetResponse},
    },
    network::Network,
};

use crate::{
    serve::{Answer, QUOTA_RETRY_MS, Service, quota::Limiter, store_failed},
    store::Page,
    swarm::Incoming,
};

/// What a request asks for.
enum Wanted {
    Filter(Filter),
    BySids(BySids),
}

impl Answer for Get {
    fn cost<'a>(service: &'a Service, _: &GetRequest) -> (&'a Limiter, usize) {
        (&service.gets, 1)
    }

    async fn answer(service: &Service, incoming: &Incoming<Self>, request: GetRequest) -> Reply<GetResponse> {
        let bad_request = |error| {
            tracing::debug!(%error, "not a filter");
            Reply::refused(Status::BadRequest)
        };
        let network = service.swarm.network();
        let wanted = match BySids::from_request(&request) {
            // Of a table that is not mirrored there is nothing.
            Ok(Some(asked)) if !service.gate.mirror().takes(&asked.table) => {
                return Reply::refused(Status::BadRequest);
            }
            Ok(Some(asked)) => Wanted::BySids(asked),
            Ok(None) => match Filter::from_request(request, network) {
                Ok(filter) => Wanted::Filter(filter),
                Err(error) => return bad_request(error),
            },
            Err(error) => return bad_request(error),
        };
        let (peer, origin) = (incoming.peer, incoming.origin);
        // Charged before anything is read, for the most that it can be, and put right afterwards.
        let estimate = match &wanted {
            Wanted::Filter(filter) => most_bytes(filter, network),
            Wanted::BySids(asked) => at_most(asked.sids.len().min(asked.limit), network),
        };
        if service.get_bytes.charge(peer, origin, estimate).is_err() {
            return Reply::retry(Status::RateLimited, QUOTA_RETRY_MS);
        }
        let page = match wanted {
            Wanted::Filter(filter) => {
                let allowed = service.gate.mirror().tables();
                service.store.get(filter, allowed, limits::MAX_GET_BYTES).await
            }
            Wanted::BySids(asked) => service.store.by_sids(asked, limits::MAX_GET_BYTES).await,
        };
        let bytes = page.as_ref().map_or(0, |page| page.entries.iter().map(|(_, entry)| entry.len()).sum());
        service.get_bytes.correct(peer, origin, estimate, bytes);
        match page {
            Ok(page) => response(page).map_or(Reply::refused(Status::Failed), Reply::Ok),
            Err(error) => store_failed(&error),
        }
    }
}

/// The bytes of entries that a page can have at most.
fn most_bytes(filter: &Filter, network: &Network) -> usize {
    at_most(if filter.ids.is_empty() { filter.limit } else { filter.limit.min(filter.ids.len()) }, network)
}

/// The most that so many entries can be answered with, in bytes.
fn at_most(entries: usize, network: &Network) -> usize {
    let entry = usize::try_from(network.max_entry_bytes).unwrap_or(usize::MAX);
    entries.saturating_mul(entry).min(limits::MAX_GET_BYTES)
}

fn response(page: Page) -> Option<GetResponse> {
    let entries =
        page.entries.into_iter().map(|(arrival, entry)| Some((arrival, Blob::try_from(entry).ok()?)));
    let keys = page.keys.into_iter().map(|key| Blob::try_from(key).ok());
    Some(GetResponse {
        entries: List::try_from(entries.collect::<Option<Vec<_>>>()?).ok()?,
        keys: List::try_from(keys.collect::<Option<Vec<_>>>()?).ok()?,
        next: page.next,
        more: page.more,
    })
}
