//! Errors as apps get them: RFC 9457 problem details with a stable type and what to do about it.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{client::ClientError, store::StoreError};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        /// What went wrong, as apps may branch on it. The slug never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];

            /// The status of the response.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Kind::$variant => StatusCode::$status,)* }
            }

            /// The end of the type's URI.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Kind::$variant => $slug,)* }
            }

            /// What all problems of the kind have in common.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Kind::$variant => $title,)* }
            }
        }
    };
}

kinds! {
    /// A query, a header or a body that makes no sense.
    BadRequest = BAD_REQUEST, "bad-request", "The request makes no sense";
    /// No token, or none that is valid.
    NoToken = UNAUTHORIZED, "no-token", "A token is needed";
    /// The token does not permit this.
    OutOfScope = FORBIDDEN, "out-of-scope", "The token does not permit this";
    /// A web page of somewhere else asks.
    ForeignOrigin = FORBIDDEN, "foreign-origin", "Other web pages may not ask";
    /// A challenge that this daemon must not answer.
    BadChallenge = FORBIDDEN, "bad-challenge", "The login challenge is not answered";
    /// There is no such thing.
    NotFound = NOT_FOUND, "not-found", "There is no such thing";
    /// The path exists, with other methods.
    BadMethod = METHOD_NOT_ALLOWED, "bad-method", "The path does not have this method";
    /// It is too late for that.
    Conflict = CONFLICT, "conflict", "This cannot be done any more";
    /// The cursor was made for another table or mirror.
    CursorGone = GONE, "cursor-gone", "The cursor is of another table or mirror";
    /// The body is too long.
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "The body is too long";
    /// The body is not declared to be JSON.
    NotJson = UNSUPPORTED_MEDIA_TYPE, "not-json", "Bodies must be JSON";
    /// A host name that this daemon does not have.
    WrongHost = MISDIRECTED_REQUEST, "wrong-host", "The daemon has another name";
    /// The JSON lacks something or says something impossible.
    Unfit = UNPROCESSABLE_ENTITY, "unfit", "This cannot be done as asked";
    /// The idempotency key was used with another body.
    KeyReused = UNPROCESSABLE_ENTITY, "key-reused", "The idempotency key is of another request";
    /// A bound is reached.
    Busy = SERVICE_UNAVAILABLE, "busy", "The daemon has as much to do as it takes";
    /// No node answers.
    Unreachable = BAD_GATEWAY, "unreachable", "No node can be reached";
    /// A fault of the machine or of the daemon.
    Internal = INTERNAL_SERVER_ERROR, "internal", "The daemon failed";
}

impl Kind {
    /// The type as it stands in responses.
    #[must_use]
    pub fn uri(self) -> String {
        format!("urn:p2pdb:problem:{}", self.slug())
    }
}

/// An error response.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    fix: String,
}

/// An error, by RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Shown<'a> {
    /// What went wrong, stable: `urn:p2pdb:problem:SLUG`.
    #[schema(example = "urn:p2pdb:problem:no-token")]
    r#type: String,
    /// The same for all problems of the type.
    title: &'a str,
    /// The status of the response.
    status: u16,
    /// What went wrong this time.
    detail: &'a str,
    /// What to do about it.
    fix: &'a str,
}

impl Problem {
    /// A problem with what happened and what to do about it.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), fix: fix.into() }
    }

    /// There is no such thing.
    pub(super) fn not_found(what: &str, name: &str, fix: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} {name}"), fix)
    }

    /// A fault of the machine; the cause is for the log alone.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Kind::Internal, "the daemon could not do it", "look into the daemon's log, then try again")
    }

    /// What kind of problem it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::new(Kind::Busy, error.to_string(), "try again in a moment"),
            error => Self::internal(&error),
        }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Filter(error) => Self::new(Kind::BadRequest, error.to_string(), "correct the query"),
            error => Self::new(
                Kind::Unreachable,
                error.to_string(),
                "check the connection and the bootstrap addresses of the network file, or ask without mode=remote",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let shown = Shown {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            fix: &self.fix,
        };
        // Strings and a number always have a JSON form.
        let mut response = Response::new(Body::from(serde_json::to_vec(&shown).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::NoToken {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.kind == Kind::Busy {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn types_are_unique_and_errors() {
        let slugs: HashSet<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let status = kind.status();
            assert!(status.is_client_error() || status.is_server_error(), "{kind:?}");
        }
    }

    #[test]
    fn a_fault_of_the_machine_is_not_told_to_apps() {
        let problem = Problem::internal(&"/home/user/secret: permission denied");
        assert!(!problem.detail().contains("secret"));
        assert_eq!(problem.into_response().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
