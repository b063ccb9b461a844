//! Queries and bodies, with errors that say what is wrong.

use std::time::Duration;

use axum::{
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::gateway::problem::{Kind, Problem};

/// Longest body, in bytes: the largest entry in base64, and what stands around it.
pub(super) const MAX_BODY: usize = 1 << 20;

/// How long a body may take to arrive: it holds a place among the requests.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// The query of the URL. An unknown parameter is refused: it may be a mistyped filter.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        serde_html_form::from_str(parts.uri.query().unwrap_or_default()).map(Self).map_err(|error| {
            Problem::new(Kind::BadRequest, format!("the query does not fit: {error}"), "see /openapi.json")
        })
    }
}

/// The body, which has to be declared as JSON: what a web page can send without asking first is not.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body is not declared to be JSON";
            return Err(Problem::new(Kind::NotJson, detail, "send Content-Type: application/json"));
        }
        let arrived = tokio::time::timeout(BODY_PATIENCE, to_bytes(request.into_body(), MAX_BODY));
        let late = || Problem::new(Kind::BadRequest, "the body did not arrive in time", "send it at once");
        let bytes = arrived.await.map_err(|_| late())?.map_err(|error| {
            let is_length = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("length limit"));
            if is_length {
                let detail = format!("expected a body of at most {MAX_BODY} bytes");
                Problem::new(Kind::TooLarge, detail, "send less: entries are for small content")
            } else {
                Problem::new(Kind::BadRequest, "the body did not arrive", "send it again")
            }
        })?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| {
            Problem::new(Kind::Unfit, format!("the body does not fit: {error}"), "see /openapi.json")
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        Some(text.split(';').next()?.trim().eq_ignore_ascii_case("application/json"))
    };
    headers.get(header::CONTENT_TYPE).and_then(essence).unwrap_or(false)
}

/// The parts of the path that have names.
#[derive(Debug)]
pub(super) struct Segments<const N: usize>(pub(super) [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Segments<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(Kind::BadRequest, detail, "encode the path as UTF-8");
        let named = Path::<Vec<(String, String)>>::from_request_parts(parts, state);
        let Path(named) = named.await.map_err(|error| bad(format!("the path does not fit: {error}")))?;
        let texts: Vec<String> = named.into_iter().map(|(_, text)| text).collect();
        texts.try_into().map(Self).map_err(|_| bad("the path does not fit".to_owned()))
    }
}

/// A flag of a query: `1` or `true`, `0` or `false`.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match String::deserialize(from)?.as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!("expected 1 or 0, got {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_declared_by_its_type() {
        let is_json = |declared: &'static str| {
            is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(declared))]))
        };
        for good in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
            assert!(is_json(good), "{good}");
        }
        for other in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "text/json"]
        {
            assert!(!is_json(other), "{other}");
        }
        assert!(!super::is_json(&HeaderMap::new()));
    }
}
