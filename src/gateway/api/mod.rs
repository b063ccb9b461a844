//! The HTTP API: one file for each thing that can be asked for.

mod changes;
mod extract;
mod get;
mod health;
mod hello;
mod index;
mod jobs;
mod keys;
mod login;
mod metrics;
mod openapi;
mod page;
mod put;
mod select;
mod spaces;
mod tokens;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing,
};
use serde::Serialize;
use tokio::task::JoinError;

use super::{
    App, guard,
    outbox::OutboxError,
    problem::{Kind, Problem},
};

/// Every path of the daemon.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", routing::get(page::open))
        .route("/page/{place}", routing::get(page::page))
        .route("/page/{place}/card/{name}", routing::get(page::card))
        .route("/v1/page", routing::post(page::link))
        .route("/health", routing::get(health::health))
        .route("/openapi.json", routing::get(openapi::document))
        .route("/metrics", routing::get(metrics::metrics))
        .route("/v1/status", routing::get(health::status))
        .route("/v1/spaces", routing::get(spaces::list))
        .route("/v1/spaces/{name}", routing::get(spaces::one).put(spaces::put).delete(spaces::remove))
        .route("/v1/keys", routing::get(keys::list))
        .route("/v1/tokens", routing::get(tokens::list).post(tokens::make))
        .route("/v1/tokens/{name}", routing::delete(tokens::remove))
        .route("/v1/put", routing::post(put::put))
        .route("/v1/jobs", routing::get(jobs::list))
        .route("/v1/jobs/{id}", routing::get(jobs::one).delete(jobs::cancel))
        .route("/v1/jobs/{id}/events", routing::get(jobs::events))
        .route("/v1/get", routing::get(get::get))
        .route("/v1/changes", routing::get(changes::changes))
        .route("/v1/index", routing::get(index::index))
        .route("/v1/hello", routing::get(hello::hello))
        .route("/v1/login", routing::post(login::login))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

async fn no_path(uri: Uri) -> Problem {
    Problem::not_found("path", uri.path(), "see /openapi.json for those that there are")
}

async fn no_method(uri: Uri) -> Problem {
    let detail = format!("{} does not have this method", uri.path());
    Problem::new(Kind::BadMethod, detail, "see /openapi.json for those that it has")
}

/// A JSON answer.
struct Json<T>(StatusCode, T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(body) => {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = self.0;
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

fn ok<T: Serialize>(answer: T) -> Json<T> {
    Json(StatusCode::OK, answer)
}

impl From<OutboxError> for Problem {
    fn from(error: OutboxError) -> Self {
        Self::internal(&error)
    }
}

impl From<JoinError> for Problem {
    fn from(error: JoinError) -> Self {
        Self::internal(&error)
    }
}

/// Works off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await?
}
