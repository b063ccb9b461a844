//! `/v1/tokens`: what apps may do.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Extension, extract::State, http::StatusCode, response::IntoResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Json, blocking,
    extract::{Body, Segments},
    ok,
    openapi::{OrBadBody, OrConflict, OrNotFound},
    spaces::parse_name,
};
use crate::gateway::{
    App,
    problem::{Kind, Problem},
    tokens::{Access, AppToken, Permission},
};

/// Longest origin, in bytes.
const MAX_ORIGIN: usize = 256;
/// Spaces that one token is for, at most.
const MAX_SPACES: usize = 64;

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What the app is called. A token of the same name stops being valid.
    #[schema(example = "forum")]
    name: String,
    /// The spaces it is for.
    spaces: BTreeSet<String>,
    /// What it permits in them.
    may: BTreeSet<Permission>,
    /// The origin whose login challenges may be answered, as in `http://localhost:5000`; needed for `login`.
    origin: Option<String>,
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// What the app is called.
    name: String,
    /// The token. Nobody is told it a second time.
    token: String,
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenShown {
    name: String,
    spaces: BTreeSet<String>,
    may: BTreeSet<Permission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// When it was made, in unix seconds.
    created: u64,
}

/// The apps' tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenList {
    tokens: Vec<TokenShown>,
}

/// The apps' tokens. Only the owner may see them.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "list_tokens", tag = "tokens",
    responses((status = 200, description = "the tokens", body = TokenList), Problem))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
) -> Result<impl IntoResponse, Problem> {
    access.permit_owner()?;
    let shown = |token: AppToken| {
        let AppToken { name, spaces, may, origin, created, .. } = token;
        TokenShown { name, spaces, may, origin, created }
    };
    Ok(ok(TokenList { tokens: app.tokens.all().into_iter().map(shown).collect() }))
}

/// Makes a token for an app, valid until it is removed. Only the owner may.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "make_token", tag = "tokens", request_body = NewToken,
    responses((status = 201, description = "the token", body = MadeToken), Problem, OrNotFound, OrConflict, OrBadBody))]
pub(super) async fn make(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Body(NewToken { name, spaces, may, origin }): Body<NewToken>,
) -> Result<impl IntoResponse, Problem> {
    access.permit_owner()?;
    let name = parse_name(&name)?.to_string();
    if spaces.len() > MAX_SPACES {
        let detail = format!("expected at most {MAX_SPACES} spaces, got {}", spaces.len());
        return Err(Problem::new(Kind::Unfit, detail, "make several tokens"));
    }
    for space in &spaces {
        app.spaces.find(space)?;
    }
    let is_origin = |origin: &String| {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let is_host =
            |host: &str| !host.is_empty() && host.bytes().all(|c| c.is_ascii_graphic() && c != b'/');
        origin.len() <= MAX_ORIGIN && host.is_some_and(is_host)
    };
    if origin.as_ref().is_some_and(|origin| !is_origin(origin))
        || (may.contains(&Permission::Login) && origin.is_none())
    {
        let detail = "expected an origin such as http://localhost:5000, without a path";
        return Err(Problem::new(Kind::Unfit, detail, "give the origin that the app is visited at"));
    }
    let token =
        AppToken { hash: String::new(), name: name.clone(), spaces, may, origin, created: app.clock.now() };
    let token = blocking(move || app.tokens.make(token)).await?;
    Ok(Json(StatusCode::CREATED, MadeToken { name, token: token.to_string() }))
}

/// Makes an app's token invalid. Only the owner may.
#[utoipa::path(delete, path = "/v1/tokens/{name}", operation_id = "remove_token", tag = "tokens", params(("name" = String, Path, description = "the app")),
    responses((status = 204, description = "it is invalid"), Problem, OrNotFound))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Segments([name]): Segments<1>,
) -> Result<impl IntoResponse, Problem> {
    access.permit_owner()?;
    let of = name.clone();
    let removed = blocking(move || app.tokens.remove(&of).map_err(|error| Problem::internal(&error))).await?;
    if removed {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found("token", &name, "list the tokens with GET /v1/tokens"))
    }
}
