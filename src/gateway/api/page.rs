//! The page: what the user would want to see at a glance. It changes nothing and needs no JavaScript.

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

use super::{
    Json,
    extract::{Query, Segment},
    jobs::JobShown,
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

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}th,td{text-align:left;padding:.25rem .75rem .25rem 0;\
    border-bottom:1px solid #8884;vertical-align:top}code{font-size:.85em;overflow-wrap:anywhere}\
    :root{color-scheme:light dark}progress{width:8rem}.quiet{opacity:.6}";

/// The secret of a link that works once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkParams {
    once: Option<String>,
}

/// A link to the page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Link {
    /// Opens the page, once.
    url: String,
}

/// Makes a link that opens the page in a browser, once. Only the owner may.
#[utoipa::path(post, path = "/v1/page", tag = "daemon", request_body = serde_json::Value, responses((status = 201, body = Link), Problem))]
pub(super) async fn link(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
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

/// The page.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Segment(place): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let cookies = headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    if !app.sessions.knows(&place, cookies) {
        return Err(refused("this browser has not opened a link to the page"));
    }
    let html = render(&app).await?;
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response())
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
        return format!("<p class=quiet>{empty}</p>");
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

async fn render(app: &Arc<App>) -> Result<String, Problem> {
    let connected = app.client.swarm().serving_peers().await.unwrap_or_default();
    let jobs = app.outbox.list(None, MAX_SHOWN, |_| true).await?;
    let spaces = app.spaces.all();
    let health = match (connected.len(), jobs.iter().filter(|job| !job.state.is_settled()).count()) {
        (0, 0) => "No node is reached now; nothing waits to be sent.".to_owned(),
        (0, waiting) => format!("No node is reached now; {waiting} entries wait, and are sent when one is."),
        (nodes, 0) => format!("Connected with {nodes} nodes; everything that was posted is stored."),
        (nodes, waiting) => format!("Connected with {nodes} nodes; {waiting} entries are on their way."),
    };
    let job = |job: JobShown| {
        let (state, solved) = job.summary();
        let progress = solved
            .map_or(String::new(), |(solved, of)| format!(" <progress value={solved} max={of}></progress>"));
        vec![format!("{}{progress}", Escaped(&state)), Escaped(job.space()).to_string(), code(job.id())]
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
        tables += &render_space(app, space).await?;
    }
    if spaces.is_empty() {
        tables =
            "<p class=quiet>None yet: <code>p2pdb table new</code> or <code>p2pdb table import</code>.</p>"
                .to_owned();
    }
    let nodes: Vec<_> = connected.iter().map(|node| vec![code(&node.to_string())]).collect();
    Ok(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>\
         <meta name=viewport content=\"width=device-width\"><title>p2pdb</title><style>{STYLE}</style>\
         <h1>p2pdb</h1><p>{health}</p><h2>Spaces</h2>{tables}<h2>Outbox</h2>{}<h2>Keys</h2>{}<h2>Nodes</h2>{}</html>",
        table(&["State", "Space", "Entry"], &jobs, "Nothing was posted yet."),
        table(&["Name", "", "Id"], &keys, "None yet: <code>p2pdb key new</code>."),
        table(&["Connected"], &nodes, "None."),
    ))
}

/// A space with the newest of its entries.
async fn render_space(app: &Arc<App>, space: &Arc<Space>) -> Result<String, Problem> {
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
            Some(text) => vec![Escaped(&text).to_string(), code(&entry.id)],
            None => vec!["<span class=quiet>not for you</span>".to_owned(), code(&entry.id)],
        })
        .collect();
    Ok(format!(
        "<h3>{} <span class=quiet>{} entries</span></h3><p>{}</p>{}",
        Escaped(space.name.as_ref()),
        summary.map_or(0, |summary| summary.entries),
        code(&space.table().to_string()),
        table(&["Newest", "Entry"], &rows, "No entry yet."),
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
