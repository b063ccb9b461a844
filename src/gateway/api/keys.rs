//! `/v1/keys`: the keys of the home.

use std::sync::Arc;

use axum::{Extension, extract::State, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::ok;
use crate::gateway::{App, problem::Problem, tokens::Access};

/// A key of the home.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnKey {
    /// Its name.
    name: String,
    /// Its id, `p2key1...`: what a user is known by.
    id: String,
    /// Its length, in bits.
    bits: usize,
    /// Whether the daemon has the private half, so that it reads what is for this key, and signs with it.
    private: bool,
    /// The public half, as PEM.
    public_key: String,
}

/// The keys of the home.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyList {
    keys: Vec<OwnKey>,
}

/// The keys of the home. Private halves never leave the daemon. Apps see those that they could post to, which is all.
#[utoipa::path(get, path = "/v1/keys", operation_id = "list_keys", tag = "keys",
    responses((status = 200, description = "the keys", body = KeyList), Problem))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(_): Extension<Arc<Access>>,
) -> Result<impl IntoResponse, Problem> {
    let keys = app.keys.all().map(|key| {
        Ok(OwnKey {
            name: key.name.to_string(),
            id: key.public.recipient_id().to_string(),
            bits: key.public.bits(),
            private: key.private.is_some(),
            public_key: key.public.to_pem().map_err(|error| Problem::internal(&error))?,
        })
    });
    Ok(ok(KeyList { keys: keys.collect::<Result<_, Problem>>()? }))
}
