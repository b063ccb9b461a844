//! `/v1/jobs`: what became of what was put.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{StreamExt as _, stream};
use p2pdb_protocol::id::EntryId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Query, Segments},
    ok,
    openapi::{OrConflict, OrNotFound},
    put::parse_id,
};
use crate::gateway::{
    App,
    outbox::{Job, JobState, NodeAnswer},
    places::Place,
    problem::{Kind, Problem},
    tokens::{Access, Permission},
};

/// How often a stream without news says that it is alive.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(25);
/// Pause between two events of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);
/// Jobs in one answer, at most, and unless it is said.
const MAX_JOBS: usize = 1000;
const USUAL_JOBS: usize = 100;

/// An entry on its way to the nodes.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobShown {
    /// The id of the entry, which is the job's too.
    id: String,
    /// The space it was put to.
    space: String,
    /// How far it is.
    state: JobState,
    /// When it was accepted, in unix seconds.
    accepted: u64,
    /// How far its proof of work is, while that is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressShown>,
    /// The nodes that hold it durably.
    nodes: Vec<String>,
    /// What each node of the last try answered.
    answers: Vec<NodeAnswer>,
    /// Tries to send it.
    tries: u32,
    /// When it is tried again, in unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<u64>,
    /// Why the last try found no node, or why the job failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it was settled, in unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<u64>,
    /// Whether it can still be withdrawn, so that nobody has it; one that is `sending` can be given up in any case.
    can_cancel: bool,
}

/// How far a proof of work is.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Progress)]
pub(super) struct ProgressShown {
    /// Puzzles solved.
    solved: u32,
    /// Puzzles in all.
    of: u32,
    /// Hashes done.
    hashes: u64,
    /// Estimated seconds left; nothing until the speed is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_s: Option<u64>,
}

/// Jobs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobList {
    jobs: Vec<JobShown>,
}

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only jobs of this space, for the table that it has now.
    space: Option<String>,
    /// Only jobs in this state.
    state: Option<JobState>,
    /// Only jobs that were accepted before this one.
    before: Option<String>,
    /// Most jobs wanted, 1 to 1000; 100 by default.
    limit: Option<usize>,
}

impl JobShown {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn space(&self) -> &str {
        &self.space
    }

    /// For people: how far it is, and how many puzzles are solved of how many.
    pub(super) fn summary(&self) -> (String, Option<(u32, u32)>) {
        let state = match (self.state, self.nodes.len()) {
            (JobState::Stored, nodes) => format!("stored at {nodes}"),
            (state, _) => format!("{state:?}").to_lowercase(),
        };
        (state, self.progress.as_ref().map(|progress| (progress.solved, progress.of)))
    }

    pub(super) fn new(app: &App, job: Job) -> Self {
        let progress = app.outbox.progress(&job.id).filter(|_| job.state == JobState::Queued);
        Self {
            id: job.id.to_string(),
            space: job.space,
            state: job.state,
            accepted: job.accepted,
            progress: progress.map(|progress| ProgressShown {
                solved: progress.solved,
                of: progress.of,
                hashes: progress.hashes,
                eta_s: progress.eta_seconds,
            }),
            nodes: job.holders,
            answers: job.answers,
            tries: job.tries,
            next_try: job.next_try,
            error: job.error,
            settled: job.settled,
            can_cancel: !job.state.is_settled() && !job.handed_out,
        }
    }
}

/// The job, if the token may know of it: apps see their own.
async fn find(app: &App, access: &Access, text: &str) -> Result<Job, Problem> {
    let job = app.outbox.find(parse_id(text)?).await?;
    job.filter(|job| may_see(app, access, job))
        .ok_or_else(|| Problem::not_found("job", text, "list the jobs with GET /v1/jobs"))
}

fn may_see(app: &App, access: &Access, job: &Job) -> bool {
    let is_own = || {
        access.name() == job.app && access.permit(Permission::Put, &job.space).is_ok() && is_current(app, job)
    };
    matches!(access, Access::Owner) || is_own()
}

/// Whether the space of a job still has the table that the job is for.
fn is_current(app: &App, job: &Job) -> bool {
    app.spaces.find(&job.space).is_ok_and(|space| job.is_for(&space.card.table_public))
}

/// Jobs, the newest first. Apps see their own, those of a space until it has another card.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "jobs", params(ListParams), responses((status = 200, description = "the jobs", body = JobList), Problem))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Query(params): Query<ListParams>,
) -> Result<impl IntoResponse, Problem> {
    let ListParams { space, state, before, limit } = params;
    let before = before.as_deref().map(parse_id).transpose()?;
    let limit = limit.unwrap_or(USUAL_JOBS);
    if !(1..=MAX_JOBS).contains(&limit) {
        let detail = format!("expected a limit of 1 to {MAX_JOBS}, got {limit}");
        return Err(Problem::new(Kind::BadRequest, detail, "correct the query"));
    }
    let listing = Arc::clone(&app);
    let wanted = move |job: &Job| {
        may_see(&listing, &access, job)
            && space.as_ref().is_none_or(|space| *space == job.space && is_current(&listing, job))
            && state.is_none_or(|state| state == job.state)
    };
    let jobs = app.outbox.list(before, limit, wanted).await?;
    Ok(ok(JobList { jobs: jobs.into_iter().map(|job| JobShown::new(&app, job)).collect() }))
}

/// One job.
#[utoipa::path(get, path = "/v1/jobs/{id}", operation_id = "job", tag = "jobs", params(("id" = String, Path, description = "id of the entry")),
    responses((status = 200, description = "the job", body = JobShown), Problem, OrNotFound))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Segments([id]): Segments<1>,
) -> Result<impl IntoResponse, Problem> {
    let job = find(&app, &access, &id).await?;
    Ok(ok(JobShown::new(&app, job)))
}

/// Withdraws a job, as long as no node was given its entry. After that it is given up, as long as no node said that it
/// holds it: it is not sent any more, and may be out there.
#[utoipa::path(delete, path = "/v1/jobs/{id}", operation_id = "cancel_job", tag = "jobs", params(("id" = String, Path, description = "id of the entry")),
    responses((status = 200, description = "it is cancelled or abandoned", body = JobShown), Problem, OrNotFound, OrConflict))]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Segments([id]): Segments<1>,
) -> Result<impl IntoResponse, Problem> {
    let job = find(&app, &access, &id).await?;
    let job = app.outbox.cancel(job.id).await?.unwrap_or(job);
    if !matches!(job.state, JobState::Cancelled | JobState::Abandoned) {
        let detail = format!("the job is {:?} already", job.state).to_lowercase();
        return Err(Problem::new(Kind::Conflict, detail, "what has left cannot be taken back"));
    }
    Ok(ok(JobShown::new(&app, job)))
}

/// The job as it is, and again whenever it changes, until it is settled: server-sent events named `job`.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", operation_id = "job_events", tag = "jobs", params(("id" = String, Path, description = "id of the entry")),
    responses((status = 200, description = "events named `job`, each with a job as JSON", content_type = "text/event-stream", body = String), Problem, OrNotFound))]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Segments([id]): Segments<1>,
) -> Result<impl IntoResponse, Problem> {
    let job = find(&app, &access, &id).await?;
    let permit = app.streams.take(access.name())?;
    let shutdown = app.shutdown.clone().cancelled_owned();
    let watch = Watch {
        changes: app.outbox.changes(),
        id: job.id,
        last: None,
        is_over: false,
        app,
        access,
        _permit: permit,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Ok(Sse::new(events.take_until(shutdown)).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

struct Watch {
    app: Arc<App>,
    access: Arc<Access>,
    id: EntryId,
    changes: tokio::sync::watch::Receiver<u64>,
    last: Option<JobShown>,
    is_over: bool,
    _permit: Place,
}

impl Watch {
    /// The job when it is another than before; none when it is settled, or not to be seen any more.
    async fn next(&mut self) -> Option<Event> {
        while !self.is_over {
            if self.last.is_some() {
                tokio::time::sleep(PROGRESS_PAUSE).await;
                self.changes.changed().await.ok()?;
            }
            self.changes.mark_unchanged();
            let job = self.app.outbox.find(self.id).await.ok()??;
            if !self.app.tokens.is_valid(&self.access) || !may_see(&self.app, &self.access, &job) {
                return None;
            }
            self.is_over = job.state.is_settled();
            let shown = JobShown::new(&self.app, job);
            if self.last.as_ref() != Some(&shown) {
                let data = serde_json::to_string(&shown).ok()?;
                self.last = Some(shown);
                return Some(Event::default().event("job").data(data));
            }
        }
        None
    }
}
