//! `/v1/spaces`: the table cards of the home under their names.

use std::sync::Arc;

use axum::{Extension, extract::State, http::StatusCode, response::IntoResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    blocking,
    extract::{Body, Segments},
    ok,
    openapi::{OrBadBody, OrConflict, OrNotFound, OrUnfit},
};
use crate::{
    config::Name,
    gateway::{
        App,
        keys::KeyShown,
        problem::{Kind, Problem},
        spaces::Space,
        tokens::Access,
    },
};

/// A table under the name that apps are pointed at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Space)]
pub(super) struct SpaceShown {
    /// Its name.
    name: String,
    /// What the card calls the table.
    title: String,
    /// Id of the table, `p2table1...`.
    table: String,
    /// Whether the card lets its holder post.
    can_post: bool,
    /// The recipient that the table's readers share, who is posted to if no recipient is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_recipient: Option<KeyShown>,
    /// Whether the card lets its holder read what is for the shared recipient.
    can_read_shared: bool,
    /// Entries of the table in the mirror.
    entries: u64,
    /// Whole rounds over the nodes since the daemon started: after the first one the mirror has what they have.
    rounds: u64,
}

/// Every space.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SpaceList {
    spaces: Vec<SpaceShown>,
}

/// A table card.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Card {
    /// Its text, as `p2pdb table share` writes it.
    card: String,
}

async fn shown(app: &App, space: &Space) -> Result<SpaceShown, Problem> {
    let table = space.table();
    let tables = app.mirror.store().tables().await?;
    let entries = tables.iter().find(|summary| summary.table == table).map_or(0, |summary| summary.entries);
    let card = &space.card;
    Ok(SpaceShown {
        name: space.name.to_string(),
        title: card.name.clone(),
        table: table.to_string(),
        can_post: card.table_private.is_some(),
        shared_recipient: card.recipient_public.as_ref().map(|key| app.keys.shown(&key.recipient_id())),
        can_read_shared: card.recipient_private.is_some(),
        entries,
        rounds: app.rounds.borrow().get(&table).copied().unwrap_or_default(),
    })
}

/// A name that can be a space's.
pub(super) fn parse_name(text: &str) -> Result<Name, Problem> {
    text.parse().map_err(|error: crate::config::home::NameError| {
        Problem::new(Kind::Unfit, error.to_string(), "choose another name")
    })
}

/// The spaces that the token is for.
#[utoipa::path(get, path = "/v1/spaces", operation_id = "list_spaces", tag = "spaces",
    responses((status = 200, description = "the spaces", body = SpaceList), Problem))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
) -> Result<impl IntoResponse, Problem> {
    // `p2pdb table` may have added cards meanwhile.
    let spaces = Arc::clone(&app.spaces);
    blocking(move || spaces.reload().map_err(|error| Problem::internal(&error))).await?;
    let mut list = Vec::new();
    for space in app.spaces.all().iter().filter(|space| access.sees(space.name.as_ref())) {
        list.push(shown(&app, space).await?);
    }
    Ok(ok(SpaceList { spaces: list }))
}

/// One space.
#[utoipa::path(get, path = "/v1/spaces/{name}", operation_id = "space", tag = "spaces", params(("name" = String, Path, description = "its name")),
    responses((status = 200, description = "the space", body = SpaceShown), Problem, OrNotFound))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Segments([name]): Segments<1>,
) -> Result<impl IntoResponse, Problem> {
    let space = app
        .spaces
        .find(&name)
        .ok()
        .filter(|_| access.sees(&name))
        .ok_or_else(|| Problem::not_found("space", &name, "list the spaces with GET /v1/spaces"))?;
    Ok(ok(shown(&app, &space).await?))
}

/// Imports a card under this name. Another card under a name that is there is another table: whoever is pointed at the space
/// has forked. Only the owner may.
#[utoipa::path(put, path = "/v1/spaces/{name}", operation_id = "put_space", tag = "spaces", request_body = Card,
    params(("name" = String, Path, description = "its name")),
    responses((status = 200, description = "the space", body = SpaceShown), Problem, OrNotFound, OrConflict, OrBadBody))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Segments([name]): Segments<1>,
    Body(Card { card }): Body<Card>,
) -> Result<impl IntoResponse, Problem> {
    access.permit_owner()?;
    let name = parse_name(&name)?;
    let card = zeroize::Zeroizing::new(card);
    let spaces = Arc::clone(&app.spaces);
    let space = blocking(move || spaces.put(&name, &card)).await?;
    Ok(ok(shown(&app, &space).await?))
}

/// Removes the card of a space. Only the owner may.
#[utoipa::path(delete, path = "/v1/spaces/{name}", operation_id = "remove_space", tag = "spaces", params(("name" = String, Path, description = "its name")),
    responses((status = 204, description = "it is removed"), Problem, OrNotFound, OrUnfit))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Segments([name]): Segments<1>,
) -> Result<impl IntoResponse, Problem> {
    access.permit_owner()?;
    let name = parse_name(&name)?;
    let spaces = Arc::clone(&app.spaces);
    blocking(move || spaces.remove(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}
