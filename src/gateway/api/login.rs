//! `POST /v1/login`: answers the login challenge of an app with a recipient key.

use std::sync::Arc;

use axum::{Extension, extract::State, response::IntoResponse};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    blocking,
    extract::Body,
    ok,
    openapi::{OrBadBody, OrNotFound},
};
use crate::gateway::{
    App,
    problem::{Kind, Problem},
    tokens::{Access, Permission},
};

/// A login challenge.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Challenge {
    /// The name or id of the own key to log in with.
    key: String,
    /// The challenge, in base64: 40 bytes encrypted with RSA-OAEP-SHA256 to the key under the label
    /// `p2pdb-login-v1|ORIGIN`.
    challenge: String,
    /// The app's origin, as the user sees it in the address bar. With an app's token it is the token's.
    origin: Option<String>,
}

/// The answer, which the app compares with its own.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginAnswer {
    /// Id of the key, `p2key1...`: the user's name.
    key: String,
    /// SHA-256 over `p2pdb login answer v1` and the challenge in the clear, in base64.
    answer: String,
}

/// Shows an app that the user has a key. The challenge must be fresh, for the app's own origin, and not answered before.
///
/// An app's token answers for the origin that the owner bound it to; the owner, who pastes the challenge of a hosted app,
/// says which origin he sees.
#[utoipa::path(post, path = "/v1/login", tag = "login", request_body = Challenge, responses((status = 200, description = "the answer to the challenge", body = LoginAnswer), Problem, OrNotFound, OrBadBody))]
pub(super) async fn login(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Body(Challenge { key, challenge, origin }): Body<Challenge>,
) -> Result<impl IntoResponse, Problem> {
    let origin = origin_of(&access, origin)?;
    let private = app.keys.private(&key)?.clone();
    let challenge = BASE64.decode(challenge.as_bytes()).map_err(|error| {
        let detail = format!("the challenge is not base64: {error}");
        Problem::new(Kind::Unfit, detail, "send it as the app gave it")
    })?;
    let now = app.clock.now();
    let key = private.public_key().recipient_id().to_string();
    let answer = blocking(move || app.answered.answer(&private, &origin, &challenge, now)).await?;
    Ok(ok(LoginAnswer { key, answer: BASE64.encode(&answer) }))
}

/// Whose challenge may be answered.
fn origin_of(access: &Access, said: Option<String>) -> Result<String, Problem> {
    let Access::App(token) = access else {
        let missing = || Problem::new(Kind::Unfit, "the origin is missing", "say the origin of the app");
        return said.ok_or_else(missing);
    };
    let own = token.origin.as_ref().filter(|_| token.may.contains(&Permission::Login));
    match own {
        Some(own) if said.as_ref().is_none_or(|said| said == own) => Ok(own.clone()),
        _ => {
            let detail = format!("the token of {} does not permit to answer for this origin", token.name);
            let fix = "let the owner make a token with `login` and the app's origin";
            Err(Problem::new(Kind::OutOfScope, detail, fix))
        }
    }
}
