//! Hands out entries (SPEC 8.5).

use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    filter::Filter,
    limits,
    message::{
        Reply, Status,
        get::{Get, GetRequest, GetResponse},
    },
};

use crate::{
    serve::{Answer, QUOTA_RETRY_MS, Service, quota::Limiter, store_failed},
    store::Page,
    swarm::Incoming,
};

impl Answer for Get {
    fn cost<'a>(service: &'a Service, _: &GetRequest) -> (&'a Limiter, usize) {
        (&service.gets, 1)
    }

    async fn answer(service: &Service, incoming: &Incoming<Self>, request: GetRequest) -> Reply<GetResponse> {
        let filter = match Filter::from_request(request, service.swarm.network()) {
            Ok(filter) => filter,
            Err(error) => {
                tracing::debug!(%error, "not a filter");
                return Reply::refused(Status::BadRequest);
            }
        };
        let allowed = service.gate.mirror().tables();
        let page = match service.store.get(filter, allowed, limits::MAX_GET_BYTES).await {
            Ok(page) => page,
            Err(error) => return store_failed(&error),
        };
        let bytes: usize = page.entries.iter().map(|(_, entry)| entry.len()).sum();
        if service.get_bytes.charge(incoming.peer, incoming.origin, bytes).is_err() {
            return Reply::retry(Status::RateLimited, QUOTA_RETRY_MS);
        }
        response(page).map_or(Reply::refused(Status::Failed), Reply::Ok)
    }
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
