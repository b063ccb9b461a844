//! `GET /v1/get`: entries that pass a filter, from the mirror or from nodes.

use std::sync::Arc;

use axum::{Extension, extract::State, response::IntoResponse};
use p2pdb_protocol::limits;

use super::{
    blocking,
    extract::Query,
    ok,
    openapi::{OrCursorGone, OrNotFound, OrUnreachable},
    select::{Entries, EntryPage, Mode, SelectParams, Selection, page},
};
use crate::gateway::{
    App,
    problem::{Kind, Problem},
    tokens::Access,
};

/// Entries that pass the filters, opened as far as the daemon has the keys: from its mirror, so that it costs no round trip
/// and works offline, or with mode=remote from several nodes, merged.
#[utoipa::path(get, path = "/v1/get", tag = "entries", params(SelectParams), responses((status = 200, description = "a page of entries", body = EntryPage), Problem, OrNotFound, OrCursorGone, OrUnreachable))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Query(params): Query<SelectParams>,
) -> Result<impl IntoResponse, Problem> {
    let mode = params.mode;
    let selection = params.select(&app, &access)?;
    let answer = match mode {
        Mode::Local => local(&app, &selection).await?,
        Mode::Remote => remote(&app, selection).await?,
    };
    Ok(ok(answer))
}

/// A page of the mirror behind the app's cursor.
pub(super) async fn local(app: &Arc<App>, selection: &Selection) -> Result<EntryPage, Problem> {
    let store = app.mirror.store().id();
    let cursor = selection.cursor.as_deref().map(|text| selection.parse_cursor(text, store)).transpose()?;
    let page = page(app, selection, cursor).await?;
    Ok(EntryPage {
        entries: Entries(page.entries.into_iter().map(|(_, entry)| entry).collect()),
        next: Some(selection.cursor_text(page.next)),
        more: page.more,
        nodes: None,
    })
}

async fn remote(app: &Arc<App>, selection: Selection) -> Result<EntryPage, Problem> {
    if selection.cursor.is_some() {
        let detail = "a cursor is a place in the mirror, and nodes have their own";
        return Err(Problem::new(Kind::BadRequest, detail, "leave out the cursor, or mode=remote"));
    }
    let mut filter = selection.filter.clone();
    filter.limit = filter.limit.min(limits::MAX_GET_ENTRIES);
    let fetched = app.client.get(&filter).await?;
    let app = Arc::clone(app);
    let more = fetched.entries.len() >= filter.limit;
    let entries = blocking(move || {
        let open = |entry| {
            let shown = app.reader.open(entry, &selection.space);
            Arc::new(if selection.raw { shown.with_raw(entry.encoded()) } else { shown })
        };
        Ok(fetched.entries.iter().map(open).collect())
    });
    Ok(EntryPage {
        entries: Entries(entries.await?),
        next: None,
        more,
        nodes: Some(fetched.nodes.iter().map(ToString::to_string).collect()),
    })
}
