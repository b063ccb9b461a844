//! `GET /openapi.json`: the description of this API, generated from the code.

use std::collections::BTreeMap;

use axum::response::IntoResponse;
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{
    changes, get, health, hello, index, jobs, keys, login, metrics, ok, page, put, select, spaces, tokens,
};
use crate::gateway::problem::{Kind, Problem, Shown};

/// A response for each status of these kinds.
fn problems(kinds: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut titles: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for kind in kinds {
        titles.entry(kind.status().as_str().to_owned()).or_default().push(kind.title());
    }
    let response = |titles: Vec<&str>| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(titles.join("; "));
        RefOr::T(response.content("application/problem+json", content).build())
    };
    titles.into_iter().map(|(status, titles)| (status, response(titles))).collect()
}

macro_rules! responses {
    ($($(#[$doc:meta])* $of:ty = $($kind:ident),+;)*) => {
        $($(#[$doc])* impl IntoResponses for $of {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                problems(&[$(Kind::$kind),+])
            }
        })*
    };
}

/// What else an operation may answer, besides what all of them may.
pub(super) struct OrNotFound;
pub(super) struct OrConflict;
pub(super) struct OrCursorGone;
pub(super) struct OrUnreachable;
pub(super) struct OrUnfit;
/// Of an operation that takes a body.
pub(super) struct OrBadBody;

responses! {
    Problem = BadRequest, NoToken, OutOfScope, ForeignOrigin, BadChallenge, WrongHost, Busy, Internal;
    OrNotFound = NotFound;
    OrConflict = Conflict;
    OrCursorGone = CursorGone;
    OrUnreachable = Unreachable;
    OrUnfit = Unfit;
    OrBadBody = TooLarge, NotJson, Unfit, KeyReused;
}

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        if let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut("Problem")
            && let Some(RefOr::T(Schema::Object(slug))) = problem.properties.get_mut("type")
        {
            slug.enum_values = Some(Kind::ALL.iter().map(|kind| kind.uri().into()).collect());
        }
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "p2pdb gateway",
        description = "The local daemon: p2pdb as a backend for apps on the same machine.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        health::health,
        health::status,
        metrics::metrics,
        document,
        page::link,
        spaces::list,
        spaces::one,
        spaces::put,
        spaces::remove,
        keys::list,
        tokens::list,
        tokens::make,
        tokens::remove,
        put::put,
        jobs::list,
        jobs::one,
        jobs::cancel,
        jobs::events,
        get::get,
        changes::changes,
        index::index,
        hello::hello,
        login::login,
    ),
    components(schemas(Shown<'static>, select::Mode, put::Wait)),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Api;

/// This document; needs no token.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "daemon", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value)))]
pub(super) async fn document() -> impl IntoResponse {
    ok(Api::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_is_described_with_its_problems() {
        let document = serde_json::to_value(Api::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 19);
        let mut ids = BTreeSet::new();
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                assert!(
                    operation["description"].as_str().or(operation["summary"].as_str()).is_some(),
                    "{method} {path}"
                );
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    assert!(response["description"] != "", "{method} {path} {status}");
                }
                // A default would let every answer pass for one that is described.
                let responses = &operation["responses"];
                assert!(responses["default"].is_null(), "{method} {path}");
                let is_public = ["/health", "/openapi.json"].contains(&path.as_str());
                assert_eq!(responses["401"].is_object(), !is_public, "{method} {path}");
                let is_named = path.contains('{');
                assert!(responses["404"].is_object() || !is_named, "{method} {path}");
                let takes_body = operation["requestBody"].is_object();
                assert_eq!(responses["415"].is_object(), takes_body, "{method} {path}");
            }
        }
        let problem = &document["components"]["schemas"]["Problem"]["properties"];
        assert!(problem["fix"].is_object());
        let types: Vec<&str> =
            problem["type"]["enum"].as_array().unwrap().iter().filter_map(|of| of.as_str()).collect();
        assert!(types.contains(&"urn:p2pdb:problem:no-token"));
        assert_eq!(types.len(), Kind::ALL.len());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(Api::openapi()).unwrap();
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name} is not described");
        }
    }
}
