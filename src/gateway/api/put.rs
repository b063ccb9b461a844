//! `POST /v1/put`: seals an entry and takes it on; the outbox does the rest.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use p2pdb_protocol::{
    id::{EntryId, RecipientId},
    keys::{PrivateKey, PublicKey},
    seal::{Content, Draft, SealError, SealedEntry},
};
use rand_core::UnwrapErr;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{
    Json, blocking,
    extract::{Body, Query},
    jobs::JobShown,
    openapi::{OrBadBody, OrNotFound},
};
use crate::gateway::{
    App,
    content::ContentJson,
    outbox::{Accepted, Idempotency, Job, JobState, NewJob},
    problem::{Kind, Problem},
    spaces::Space,
    tokens::{Access, Permission},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest idempotency key, in bytes.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// How long a request with `wait` waits, in seconds, unless it says.
const USUAL_WAIT: u64 = 120;
/// How long it waits at most, in seconds.
const LONGEST_WAIT: u64 = 3600;

/// An entry to be posted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEntry {
    /// The space to post to.
    space: String,
    /// Who is to read it: 1 to 16 names or ids of keys, public keys as PEM, or `me` for every key of which the daemon has the
    /// private half. By default the recipient that the readers of the space share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipients: Option<Vec<String>>,
    /// What they are to read.
    content: ContentJson,
    /// The name of an own key, to sign as the author; needs the permission `sign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    /// After how many seconds nodes may drop it; by default when they have to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_after: Option<u64>,
}

/// How to answer a put.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PutParams {
    /// `stored`: answer when a node holds the entry (200), or after the timeout (202). It counts as a stream meanwhile.
    wait: Option<Wait>,
    /// How long to wait, in seconds; 120 by default, 3600 at most.
    timeout: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wait {
    Stored,
}

/// Posts an entry: it is sealed and durable when this answers, and mined and sent after that.
///
/// With an `Idempotency-Key`, the same request sent again leads to the same entry, until the space has another card.
#[utoipa::path(post, path = "/v1/put", tag = "entries", request_body = NewEntry,
    params(PutParams, ("Idempotency-Key" = Option<String>, Header, description = "names this request among the app's; 1 to 255 visible ASCII characters")),
    responses(
        (status = 200, description = "a node holds it, or the job is over", body = JobShown),
        (status = 202, description = "it is accepted", body = JobShown, headers(("Location" = String, description = "the job"))),
        Problem, OrNotFound, OrBadBody))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Query(params): Query<PutParams>,
    headers: HeaderMap,
    Body(new): Body<NewEntry>,
) -> Result<Response, Problem> {
    access.permit(Permission::Put, &new.space)?;
    let space = app.spaces.find(&new.space)?;
    let idempotency = idempotency(&headers, &new, &space)?;
    // Before anything is done, so that who finds no place can ask again.
    let _place = match params.wait {
        Some(Wait::Stored) => Some(app.streams.take(access.name())?),
        None => None,
    };
    let before = match &idempotency {
        Some(idempotency) => app.outbox.before(access.name(), idempotency).await?,
        None => None,
    };
    let accepted = match before {
        Some(before) => before,
        None => {
            let sealed = seal(&app, &access, Arc::clone(&space), &new).await?;
            let new_job = NewJob {
                space: space.name.to_string(),
                app: access.name().to_owned(),
                table_key: space.card.table_public.clone(),
            };
            app.outbox.accept(new_job, sealed, idempotency).await?
        }
    };
    let mut job = match accepted {
        Accepted::New(job) | Accepted::Before(job) => job,
        Accepted::KeyReused => {
            let detail = "the Idempotency-Key was used for another entry";
            return Err(Problem::new(Kind::KeyReused, detail, "choose a new key for a new entry"));
        }
        Accepted::Full => {
            let detail = "the outbox is full";
            return Err(Problem::new(Kind::Busy, detail, "wait until nodes can be reached, or cancel jobs"));
        }
    };
    let mut status = StatusCode::ACCEPTED;
    if params.wait.is_some() {
        let timeout = params.timeout.unwrap_or(USUAL_WAIT).min(LONGEST_WAIT);
        job = settled(&app, job, Duration::from_secs(timeout)).await?;
        if job.state.is_settled() {
            status = StatusCode::OK;
        }
    }
    let location = format!("/v1/jobs/{}", job.id);
    let mut response = Json(status, JobShown::new(&app, job)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The job when it is settled, or as it is after the timeout.
async fn settled(app: &App, mut job: Job, timeout: Duration) -> Result<Job, Problem> {
    let mut changes = app.outbox.changes();
    // It may have been settled before the line above.
    job = app.outbox.find(job.id).await?.unwrap_or(job);
    let deadline = tokio::time::Instant::now() + timeout;
    while !job.state.is_settled() {
        let changed = tokio::select! {
            () = app.shutdown.cancelled() => break,
            changed = tokio::time::timeout_at(deadline, changes.changed()) => changed,
        };
        match changed {
            // Progress of the work changes no state: what is mined is looked at when that ends.
            Ok(Ok(())) if job.state == JobState::Queued && app.outbox.progress(&job.id).is_some() => {}
            Ok(Ok(())) => job = app.outbox.find(job.id).await?.unwrap_or(job),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    if !job.state.is_settled() {
        job = app.outbox.find(job.id).await?.unwrap_or(job);
    }
    Ok(job)
}

fn idempotency(headers: &HeaderMap, new: &NewEntry, space: &Space) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()));
    let key = key.ok_or_else(|| {
        let detail =
            format!("expected an Idempotency-Key of 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters");
        Problem::new(Kind::BadRequest, detail, "use a random UUID")
    })?;
    let body = serde_json::to_vec(new).map_err(|error| Problem::internal(&error))?;
    // Of the table, not of the space: under another card the same request is another entry.
    let key = format!("{} {key}", space.table());
    Ok(Some(Idempotency { key, body_hash: Sha256::digest(body).into() }))
}

async fn seal(
    app: &Arc<App>,
    access: &Access,
    space: Arc<Space>,
    new: &NewEntry,
) -> Result<SealedEntry, Problem> {
    space.posting_key()?;
    let content = new.content.to_content()?;
    let recipients = recipients(app, &space, new.recipients.as_deref())?;
    let author = match &new.author {
        None => None,
        Some(name) => {
            access.permit(Permission::Sign, &new.space)?;
            Some(app.keys.private(name)?.clone())
        }
    };
    let created = app.clock.now();
    let expires = new.expires_after.map(|seconds| created.saturating_add(seconds));
    let app = Arc::clone(app);
    blocking(move || seal_now(&app, &space, &recipients, &content, author.as_ref(), created, expires)).await
}

fn seal_now(
    app: &App,
    space: &Space,
    recipients: &[PublicKey],
    content: &Content,
    author: Option<&PrivateKey>,
    created: u64,
    expires: Option<u64>,
) -> Result<SealedEntry, Problem> {
    let draft = Draft { table: space.posting_key()?, recipients, created, expires, content, author };
    draft.seal(&mut UnwrapErr(getrandom::SysRng), app.client.network()).map_err(|error| match error {
        SealError::Operation(error) => Problem::internal(&error),
        error => Problem::new(Kind::Unfit, error.to_string(), "correct the entry"),
    })
}

fn recipients(app: &App, space: &Space, given: Option<&[String]>) -> Result<Vec<PublicKey>, Problem> {
    let Some(given) = given else {
        let shared = space.card.recipient_public.clone().ok_or_else(|| {
            let detail = format!("nobody could read this: the readers of {} share no recipient", space.name);
            Problem::new(
                Kind::Unfit,
                detail,
                "name the recipients: names or ids of keys, or public keys as PEM",
            )
        });
        return shared.map(|key| vec![key]);
    };
    let mut recipients = Vec::new();
    for text in given {
        if text == "me" {
            let own = app.keys.all().filter(|key| key.private.is_some());
            recipients.extend(own.map(|key| key.public.clone()));
        } else {
            recipients.push(recipient(app, space, text)?);
        }
    }
    Ok(recipients)
}

fn recipient(app: &App, space: &Space, text: &str) -> Result<PublicKey, Problem> {
    if text.starts_with("-----BEGIN PUBLIC KEY-----") {
        return PublicKey::from_pem(text)
            .map_err(|error| Problem::new(Kind::Unfit, error.to_string(), "send a public key as PEM"));
    }
    if let Some(shared) = &space.card.recipient_public
        && text.parse().is_ok_and(|id: RecipientId| id == shared.recipient_id())
    {
        return Ok(shared.clone());
    }
    Ok(app.keys.find(text)?.public.clone())
}

/// The id in a path.
pub(super) fn parse_id(text: &str) -> Result<EntryId, Problem> {
    text.parse().map_err(|error: p2pdb_protocol::id::ParseIdError| {
        Problem::new(Kind::BadRequest, error.to_string(), "use the id that the put answered")
    })
}
