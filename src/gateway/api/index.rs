//! `GET /v1/index`: what there is of a table, bucket by bucket.

use std::sync::Arc;

use axum::{Extension, extract::State, response::IntoResponse};
use p2pdb_protocol::{
    bucket::BucketSummary,
    id::EntryId,
    limits::MAX_INDEX_IDS,
    message::index::{IndexRequest, IndexResponse},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::Query,
    ok,
    openapi::{OrNotFound, OrUnreachable},
    put::parse_id,
    select::Mode,
};
use crate::gateway::{
    App,
    problem::{Kind, Problem},
    spaces::Space,
    tokens::{Access, Permission},
};

/// What to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct IndexParams {
    /// The space; needed.
    space: String,
    /// Only entries created at this time or later, in unix seconds.
    since: Option<u64>,
    /// The bucket whose ids are wanted; absent: the summaries of all buckets.
    bucket: Option<u16>,
    /// Only ids greater than this one.
    after: Option<String>,
    /// `local`, by default: what the mirror has. `remote`: what nodes answer now.
    #[serde(default)]
    mode: Mode,
}

/// A bucket in the sum.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BucketShown {
    /// Its number.
    bucket: u16,
    /// Entries in it.
    count: u64,
    /// MD5 of their ids, ascending, in hex.
    md5: String,
}

/// What the mirror, or a node, has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listing {
    /// The node; absent: the mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Why the node did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Start of the scope, in unix seconds: later than asked for if less is kept, and the start of an epoch.
    since: u64,
    /// The buckets that are not empty, ascending, if no bucket is asked for.
    buckets: Vec<BucketShown>,
    /// The ids of the bucket, ascending, if one is asked for.
    ids: Vec<String>,
    /// Whether there are further ids.
    more: bool,
}

/// One listing of the mirror, or one of each node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IndexAnswer {
    listings: Vec<Listing>,
}

fn buckets_shown(buckets: &[BucketSummary]) -> Vec<BucketShown> {
    let shown = |BucketSummary { bucket, count, digest }: &BucketSummary| BucketShown {
        bucket: *bucket,
        count: *count,
        md5: digest.to_string(),
    };
    buckets.iter().map(shown).collect()
}

/// What there is of the table of a space: counts and digests of its buckets, or the ids of one.
#[utoipa::path(get, path = "/v1/index", tag = "entries", params(IndexParams), responses((status = 200, description = "the listings", body = IndexAnswer), Problem, OrNotFound, OrUnreachable))]
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Query(params): Query<IndexParams>,
) -> Result<impl IntoResponse, Problem> {
    access.permit(Permission::Get, &params.space)?;
    let space = app.spaces.find(&params.space)?;
    let after = params.after.as_deref().map(parse_id).transpose()?;
    let buckets = 1_u32 << app.client.network().bucket_bits;
    if let Some(bucket) = params.bucket.filter(|bucket| u32::from(*bucket) >= buckets) {
        let detail = format!("expected a bucket below {buckets}, got {bucket}");
        return Err(Problem::new(Kind::BadRequest, detail, "correct the query"));
    }
    let listings = match params.mode {
        Mode::Local => vec![local(&app, &space, &params, after).await?],
        Mode::Remote => remote(&app, &space, &params, after).await?,
    };
    Ok(ok(IndexAnswer { listings }))
}

async fn local(
    app: &App,
    space: &Space,
    params: &IndexParams,
    after: Option<EntryId>,
) -> Result<Listing, Problem> {
    let (store, since) = (app.mirror.store(), params.since.unwrap_or_default());
    let mut listing =
        Listing { node: None, error: None, since, buckets: Vec::new(), ids: Vec::new(), more: false };
    match params.bucket {
        None => {
            let index = store.index(space.table(), since).await?;
            (listing.since, listing.buckets) = (index.since, buckets_shown(&index.buckets));
        }
        Some(bucket) => {
            let page = store.bucket_ids(space.table(), since, bucket, after, MAX_INDEX_IDS).await?;
            (listing.since, listing.more) = (page.since, page.more);
            listing.ids = page.ids.iter().map(EntryId::to_string).collect();
        }
    }
    Ok(listing)
}

async fn remote(
    app: &App,
    space: &Space,
    params: &IndexParams,
    after: Option<EntryId>,
) -> Result<Vec<Listing>, Problem> {
    let table = space.table();
    let request = IndexRequest {
        table: Some(table),
        since: params.since.unwrap_or_default(),
        bucket: params.bucket.map(u64::from),
        after,
        ..IndexRequest::default()
    };
    let nodes = app.client.nodes(&[table], crate::client::DEFAULT_NODES).await?;
    let asked = nodes.into_iter().map(|node| {
        let request = request.clone();
        async move {
            let answer = app.client.index(node, request).await;
            let error = answer.as_ref().err().map(ToString::to_string);
            let IndexResponse { since, buckets, ids, more, .. } = answer.unwrap_or_default();
            Listing {
                node: Some(node.to_string()),
                error,
                since,
                buckets: buckets_shown(&buckets),
                ids: ids.iter().map(EntryId::to_string).collect(),
                more,
            }
        }
    });
    Ok(futures::future::join_all(asked).await)
}
