//! Says what is stored of a table, bucket by bucket (SPEC 8.6).

use p2pdb_protocol::{
    codec::bounded::List,
    id::TableId,
    limits,
    message::{
        Reply, Status,
        index::{Index, IndexRequest, IndexResponse},
    },
};

use crate::{
    serve::{Answer, Service, quota::Limiter, store_failed},
    swarm::Incoming,
};

impl Answer for Index {
    fn cost<'a>(service: &'a Service, request: &IndexRequest) -> (&'a Limiter, usize) {
        let whole = request.table.is_some() && request.bucket.is_none();
        (if whole { &service.indexes } else { &service.index_pages }, 1)
    }

    async fn answer(
        service: &Service,
        _: &mut Incoming<Self>,
        request: IndexRequest,
    ) -> Reply<IndexResponse> {
        let limit = request.limit.unwrap_or(limits::MAX_INDEX_IDS as u64);
        let limit = match usize::try_from(limit) {
            Ok(limit @ 1..=limits::MAX_INDEX_IDS) => limit,
            _ => return Reply::refused(Status::BadRequest),
        };
        let Some(table) = request.table else {
            return tables(service, request.after_table, limit).await;
        };
        if !service.gate.mirror().takes(&table) {
            return Reply::refused(Status::BadRequest);
        }
        let Some(bucket) = request.bucket else {
            return match service.store.index(table, request.since).await {
                Ok(index) => match List::try_from(index.buckets) {
                    Ok(buckets) => {
                        Reply::Ok(IndexResponse { since: index.since, buckets, ..Default::default() })
                    }
                    Err(_) => Reply::refused(Status::Failed),
                },
                Err(error) => store_failed(&error),
            };
        };
        let bucket = match u16::try_from(bucket) {
            Ok(bucket) if u64::from(bucket) < 1 << service.swarm.network().bucket_bits => bucket,
            _ => return Reply::refused(Status::BadRequest),
        };
        match service.store.bucket_ids(table, request.since, bucket, request.after, limit).await {
            Ok(page) => match List::try_from(page.ids) {
                Ok(ids) => {
                    Reply::Ok(IndexResponse { since: page.since, ids, more: page.more, ..Default::default() })
                }
                Err(_) => Reply::refused(Status::Failed),
            },
            Err(error) => store_failed(&error),
        }
    }
}

async fn tables(service: &Service, after: Option<TableId>, limit: usize) -> Reply<IndexResponse> {
    let held = match service.store.tables().await {
        Ok(held) => held,
        Err(error) => return store_failed(&error),
    };
    let held = held.into_iter().filter(|summary| summary.entries > 0).map(|summary| summary.table);
    let mut tables: Vec<TableId> =
        held.filter(|t| service.gate.mirror().takes(t) && after.is_none_or(|after| *t > after)).collect();
    tables.sort_unstable();
    let more = tables.len() > limit;
    tables.truncate(limit);
    match List::try_from(tables) {
        Ok(tables) => Reply::Ok(IndexResponse { tables, more, ..Default::default() }),
        Err(_) => Reply::refused(Status::Failed),
    }
}
