//! The page: what the user would want to see at a glance. It changes nothing and needs no JavaScript.

mod card;

use std::{fmt, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use p2pdb_protocol::filter::Filter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(super) use self::card::card;
use super::{
    Json,
    extract::{Body, Query, Segments},
    jobs::JobShown,
    openapi::OrBadBody,
    select::{Selection, page as entries_page},
};
use crate::gateway::{
    App,
    problem::{Kind, Problem},
    sessions::COOKIE,
    spaces::Space,
    tokens::Access,
};

/// Jobs, and entries of each space, that are shown.
const MAX_SHOWN: usize = 10;
/// Characters of an entry that are shown.
const MAX_EXCERPT: usize = 200;

const STYLE: &str = ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;\
    padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2.2rem 0 .4rem}h3{font-size:1rem;margin:1.2rem 0 0}\
    table{border-collapse:collapse;width:100%;margin:.4rem 0}th,td{text-align:left;padding:.3rem .9rem .3rem 0;\
    border-bottom:1px solid #8883;vertical-align:baseline}th{font-weight:600;font-size:.85em;opacity:.7}\
    td:last-child,th:last-child{width:1%;white-space:nowrap;padding-right:0}code,pre{font:.85em ui-monospace,monospace}\
    code{overflow-wrap:anywhere}pre{overflow-x:auto;padding:.6rem;background:#8881}p{margin:.4rem 0}\
    progress{width:8rem;vertical-align:middle}.quiet{opacity:.65;font-weight:400}.code{width:30rem;max-width:100%}";

/// The secret of a link that works once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkParams {
    once: Option<String>,
}

/// What can be said about a new link: nothing, as an empty object.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoOptions {}

/// A link to the page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Link {
    /// Opens the page, once.
    url: String,
}

/// Makes a link that opens the page in a browser, once. Only the owner may.
#[utoipa::path(post, path = "/v1/page", operation_id = "link", tag = "daemon", request_body = NoOptions, responses((status = 201, description = "the link", body = Link), Problem, OrBadBody))]
pub(super) async fn link(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Body(NoOptions {}): Body<NoOptions>,
) -> Result<impl IntoResponse, Problem> {
    access.permit_owner()?;
    let url = format!("{}/?once={}", app.url, *app.sessions.link());
    Ok(Json(StatusCode::CREATED, Link { url }))
}

fn refused(detail: &str) -> Problem {
    let fix = "open the link that `p2pdb gateway` prints when it starts, or make one with POST /v1/page";
    Problem::new(Kind::NoToken, detail, fix)
}

/// Opens a link: the way to the page, and the cookie for it.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Query(params): Query<LinkParams>,
) -> Result<Response, Problem> {
    let link = params.once.ok_or_else(|| refused("the page opens by a link"))?;
    let opened = app.sessions.open(&link);
    let (secret, place) =
        opened.ok_or_else(|| refused("the link was opened before, or is of an earlier start"))?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| Problem::internal(&error));
    let path = format!("/page/{place}");
    let cookie = value(&format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path={path}", *secret))?;
    // The secret is used up, and leaves the address bar.
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, value(&path)?), (header::SET_COOKIE, cookie)])
        .into_response())
}

/// Fails unless the request has the cookie of the session at this place.
fn check(app: &App, place: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let cookies = headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    if app.sessions.knows(place, cookies) {
        return Ok(());
    }
    Err(refused("this browser has not opened a link to the page"))
}

/// The page.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Segments([place]): Segments<1>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check(&app, &place, &headers)?;
    let body = render(&app, &place).await?;
    Ok(document("p2pdb", "<meta http-equiv=refresh content=5>", &body))
}

/// A document with this title, further things for its head, and this body.
fn document(title: &str, head: &str, body: &str) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>{head}<meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    );
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

/// Text that is no markup.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// A table: its head, and rows of cells that are markup already.
fn table(head: &[&str], rows: &[Vec<String>], empty: &str) -> String {
    if rows.is_empty() {
        return format!("<p class=quiet>{empty}");
    }
    let head: String = head.iter().map(|cell| format!("<th>{cell}</th>")).collect();
    let rows: String = rows
        .iter()
        .map(|row| {
            format!("<tr>{}</tr>", row.iter().map(|cell| format!("<td>{cell}</td>")).collect::<String>())
        })
        .collect();
    format!("<table><tr>{head}</tr>{rows}</table>")
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", Escaped(text))
}

/// An id of which people look at the ends.
fn short(id: &str) -> String {
    let (head, tail) = (id.get(..16), id.get(id.len().saturating_sub(6)..));
    match (head, tail) {
        (Some(head), Some(tail)) if id.len() > 26 => {
            format!("<code title=\"{0}\">{1}…{2}</code>", Escaped(id), Escaped(head), Escaped(tail))
        }
        _ => code(id),
    }
}

/// As many as there are, in words.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

async fn render(app: &Arc<App>, place: &str) -> Result<String, Problem> {
    let connected = app.client.swarm().serving_peers().await.unwrap_or_default();
    let jobs = app.outbox.list(None, MAX_SHOWN, |_| true).await?;
    let spaces = app.spaces.all();
    let [queued, sending, _] = app.outbox.count_open().await?;
    let waiting = queued + sending;
    let entries = || counted(waiting, "entry is", "entries are");
    let nodes = counted(connected.len() as u64, "node", "nodes");
    let health = match (connected.len(), waiting) {
        (0, 0) => "No node is reached now. Nothing waits to be sent.".to_owned(),
        (0, _) => format!("No node is reached now. {} kept, and sent when one is.", entries()),
        (_, 0) => format!("Connected with {nodes}. All that was posted is stored."),
        _ => format!("Connected with {nodes}. {} on the way.", entries()),
    };
    let job = |job: JobShown| {
        let (state, solved) = job.summary();
        let progress = solved
            .map_or(String::new(), |(solved, of)| format!(" <progress value={solved} max={of}></progress>"));
        vec![format!("{}{progress}", Escaped(&state)), Escaped(job.space()).to_string(), short(job.id())]
    };
    let jobs: Vec<_> = jobs.into_iter().map(|one| job(JobShown::new(app, one))).collect();
    let keys: Vec<_> = (app.keys.all())
        .map(|key| {
            let own = if key.private.is_some() { "yours" } else { "somebody else's" };
            vec![
                Escaped(key.name.as_ref()).to_string(),
                own.to_owned(),
                code(&key.public.recipient_id().to_string()),
            ]
        })
        .collect();
    let mut tables = String::new();
    for space in &spaces {
        tables += &render_space(app, space, place).await?;
    }
    if spaces.is_empty() {
        tables =
            "<p class=quiet>None yet: <code>p2pdb table new NAME</code> or <code>p2pdb table import CARD</code>."
                .to_owned();
    }
    let nodes: Vec<_> = connected.iter().map(|node| vec![code(&node.to_string())]).collect();
    Ok(format!(
        "<h1>p2pdb</h1><p>{health}<h2>Spaces</h2>{tables}<h2>Outbox</h2>{}<h2>Keys</h2>{}<h2>Nodes</h2>{}",
        table(&["State", "Space", "Entry"], &jobs, "Nothing was posted yet."),
        table(
            &["Name", "Whose", "Id"],
            &keys,
            "None yet: <code>p2pdb key new NAME</code>, then start the daemon again."
        ),
        table(&["Connected with"], &nodes, "None."),
    ))
}

/// A space with the newest of its entries.
async fn render_space(app: &Arc<App>, space: &Arc<Space>, place: &str) -> Result<String, Problem> {
    let store = app.mirror.store();
    let summaries = store.tables().await?;
    let summary = summaries.iter().find(|summary| summary.table == space.table());
    // Arrival numbers of all tables are one sequence: this looks back far enough for a quiet daemon, and cheaply.
    let newest = summary.map_or(0, |summary| summary.newest_arrival);
    let window = u64::try_from(8 * MAX_SHOWN).unwrap_or(u64::MAX);
    let cursor = p2pdb_protocol::filter::Cursor { store: store.id(), arrival: newest.saturating_sub(window) };
    let filter = Filter { limit: 8 * MAX_SHOWN, ..Filter::table(space.table()) };
    let selection = Selection { space: Arc::clone(space), filter, cursor: None, raw: false };
    let page = entries_page(app, &selection, Some(cursor)).await?;
    let rows: Vec<_> = (page.entries.iter().rev().take(MAX_SHOWN))
        .map(|(_, entry)| match entry.excerpt(MAX_EXCERPT) {
            Some(text) => vec![Escaped(&text).to_string(), short(&entry.id)],
            None => vec!["<span class=quiet>not for you</span>".to_owned(), short(&entry.id)],
        })
        .collect();
    Ok(format!(
        "<h3>{name} <span class=quiet>{}, <a href=\"/page/{place}/card/{name}\">card</a></span></h3><p>{}{}",
        counted(summary.map_or(0, |summary| summary.entries), "entry", "entries"),
        code(&space.table().to_string()),
        table(&["Newest", "Entry"], &rows, "No entry yet."),
        name = Escaped(space.name.as_ref()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let hostile = "<script>alert('1')</script> & \"x\"";
        let expected = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;";
        assert_eq!(Escaped(hostile).to_string(), expected);
    }
}
