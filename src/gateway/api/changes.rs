//! `GET /v1/changes`: entries as they arrive, by cursor or as a stream of events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{StreamExt as _, stream};
use p2pdb_protocol::filter::{Cursor, Filter};
use tokio::sync::watch;

use super::{
    extract::Query,
    get::local,
    jobs::HEARTBEAT,
    ok,
    openapi::{OrCursorGone, OrNotFound},
    select::{EntryPage, Mode, SelectParams, Selection, page},
};
use crate::gateway::{
    App,
    places::Place,
    problem::{Kind, Problem},
    tokens::Access,
};

/// Arrivals that pass no filter before a stream says how far it is.
const UNTOLD: u64 = 1000;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Entries that pass the filters, in the order in which they arrive in the mirror.
///
/// As JSON, a page behind the cursor. With `Accept: text/event-stream`, events named `entry`, whose ids are cursors, without
/// end; `Last-Event-ID` goes before the cursor of the query. Events named `cursor` carry an id alone: the place where the stream
/// begins, and now and then the one it has come to, if nothing passes the filters. An event named `reset` says that the cursor
/// was made for another table, and that the stream begins anew. Both begin with the first entry if there is no cursor, and with the next one
/// if the cursor is `now`.
#[utoipa::path(get, path = "/v1/changes", tag = "entries",
    params(SelectParams, ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event seen")),
    responses((status = 200, description = "a page, or a stream of events named `entry`", content((EntryPage = "application/json"), (String = "text/event-stream"))), Problem, OrNotFound, OrCursorGone))]
pub(super) async fn changes(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Query(params): Query<SelectParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if params.mode == Mode::Remote {
        let detail = "changes are those of the mirror";
        return Err(Problem::new(Kind::BadRequest, detail, "leave out mode=remote"));
    }
    let mut selection = params.select(&app, &access)?;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let wants_stream = accepts.is_some_and(|accept| accept.contains("text/event-stream"));
    if wants_stream {
        let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        selection.cursor = last.map(str::to_owned).or(selection.cursor);
        return Ok(events(app, access, selection).await?.into_response());
    }
    if selection.cursor.as_deref() == Some("now") {
        let next = newest(&app, &selection).await?;
        let next = Some(selection.cursor_text(next));
        let entries = super::select::Entries(Vec::new());
        return Ok(ok(EntryPage { entries, next, more: false, nodes: None }).into_response());
    }
    Ok(ok(local(&app, &selection).await?).into_response())
}

async fn newest(app: &App, selection: &Selection) -> Result<Cursor, Problem> {
    Ok(app.mirror.newest(Filter::table(selection.space.table())).await?)
}

async fn events(
    app: Arc<App>,
    access: Arc<Access>,
    selection: Selection,
) -> Result<impl IntoResponse, Problem> {
    let permit = app.streams.take(access.name())?;
    let store = app.mirror.store().id();
    let mut waiting = VecDeque::new();
    let cursor = match selection.cursor.as_deref() {
        None => None,
        Some("now") => Some(newest(&app, &selection).await?),
        Some(text) => match selection.parse_cursor(text, store) {
            Ok(cursor) => Some(cursor),
            Err(problem) if problem.kind() == Kind::CursorGone => {
                waiting.push_back(Event::default().event("reset").data("{}"));
                None
            }
            Err(problem) => return Err(problem),
        },
    };
    // Who is cut off before the first entry goes on from here, and not from whatever `now` is by then.
    let begin = cursor.unwrap_or(Cursor { store, arrival: 0 });
    waiting.push_back(place(&selection, begin));
    let shutdown = app.shutdown.clone().cancelled_owned();
    let feed = Feed {
        arrivals: app.mirror.changes(),
        spaces: app.spaces.changes(),
        app,
        access,
        selection,
        cursor,
        told: begin.arrival,
        waiting,
        _permit: permit,
    };
    let events = stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    Ok(Sse::new(events.take_until(shutdown)).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// An event that says how far the stream is.
fn place(selection: &Selection, cursor: Cursor) -> Event {
    Event::default().event("cursor").id(selection.cursor_text(cursor)).data("{}")
}

struct Feed {
    app: Arc<App>,
    access: Arc<Access>,
    selection: Selection,
    cursor: Option<Cursor>,
    /// The arrival in the last event.
    told: u64,
    waiting: VecDeque<Event>,
    arrivals: watch::Receiver<()>,
    spaces: watch::Receiver<()>,
    _permit: Place,
}

impl Feed {
    /// The next event; none when the space has another card or the token is no longer valid, so that the reader
    /// connects anew and is told.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let space = self.app.spaces.find(self.selection.space.name.as_ref()).ok()?;
            if !space.is_same(&self.selection.space) || !self.app.tokens.is_valid(&self.access) {
                return None;
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            // What arrives from here on wakes the wait below, even if the page does not have it yet.
            self.arrivals.mark_unchanged();
            let page = page(&self.app, &self.selection, self.cursor)
                .await
                .inspect_err(|problem| tracing::error!(detail = problem.detail(), "a stream of changes ends"))
                .ok()?;
            let store = page.next.store;
            for (arrival, entry) in &page.entries {
                let id = self.selection.cursor_text(Cursor { store, arrival: *arrival });
                let data = serde_json::to_string(&**entry).ok()?;
                self.waiting.push_back(Event::default().event("entry").id(id).data(data));
                self.told = *arrival;
            }
            if page.next.arrival.saturating_sub(self.told) >= UNTOLD {
                self.waiting.push_back(place(&self.selection, page.next));
                self.told = page.next.arrival;
            }
            self.cursor = Some(page.next);
            if self.waiting.is_empty() && !page.more {
                tokio::select! {
                    arrived = self.arrivals.changed() => arrived.ok()?,
                    changed = self.spaces.changed() => changed.ok()?,
                }
            }
        }
    }
}
