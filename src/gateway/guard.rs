//! Turns away what must not get in, before anything of a request is looked at.
//!
//! Any web page that the user visits can send requests to loopback. A page cannot set `Authorization` or read an answer
//! without the daemon's consent, but it can have its own host name resolve to 127.0.0.1. So the order is: the name that was
//! asked for, the page that asks, the token; then, where there is one, the form of the body.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    App,
    problem::{Kind, Problem},
    tokens::Access,
};

/// Paths that need no token: they tell nothing.
const PUBLIC: &[&str] = &["/", "/health", "/openapi.json"];
/// What lies below needs a cookie instead.
const PAGES: &str = "/page/";
/// What a browser says of the page that asks.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names that this daemon has.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// The names of an address, and further ones.
    pub(super) fn new(address: SocketAddr, further: Vec<String>) -> Self {
        let mut hosts = further;
        hosts.push(address.to_string());
        if address.ip().is_loopback() {
            hosts.push(format!("localhost:{}", address.port()));
        }
        Self(hosts)
    }

    /// Fails unless there is exactly one `Host`, and it is one of these.
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut named = headers.get_all(header::HOST).iter();
        match (named.next(), named.next()) {
            (Some(host), None) if self.0.iter().any(|own| own.as_bytes() == host.as_bytes()) => Ok(()),
            (host, _) => {
                let got = host.map_or("none", |host| host.to_str().unwrap_or("another one"));
                let detail = format!("expected the host {}, got {got}", self.0.join(" or "));
                Err(Problem::new(Kind::WrongHost, detail, "use the URL in the file gateway/url of the home"))
            }
        }
    }

    /// Fails if a web page asks that is not the daemon's own.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let is_own = |origin: &HeaderValue| {
            let host = origin.as_bytes().strip_prefix(b"http://");
            host.is_some_and(|host| self.0.iter().any(|own| own.as_bytes() == host))
        };
        // `none` is a person who typed the address, `same-origin` the daemon's own page.
        let is_near = |site: &HeaderValue| matches!(site.as_bytes(), b"none" | b"same-origin");
        if headers.get_all(header::ORIGIN).iter().all(is_own)
            && headers.get_all(FETCH_SITE).iter().all(is_near)
        {
            return Ok(());
        }
        Err(Problem::new(
            Kind::ForeignOrigin,
            "a web page of another origin asks",
            "let the app's server ask: pages have no access, whatever they send",
        ))
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn check(app: &App, request: &mut Request) -> Result<(), Problem> {
    let headers = request.headers();
    app.hosts.check(headers)?;
    app.hosts.check_origin(headers)?;
    let path = request.uri().path();
    if PUBLIC.contains(&path) || path.starts_with(PAGES) {
        return Ok(());
    }
    let access = bearer(headers).and_then(|token| app.tokens.access(token)).ok_or_else(|| {
        Problem::new(
            Kind::NoToken,
            "the request has no valid token",
            "send Authorization: Bearer TOKEN, with the app's token, or with the owner's from the file gateway/token of the \
             home, which changes with each start",
        )
    })?;
    request.extensions_mut().insert(access);
    Ok(())
}

/// The middleware that every request goes through.
pub(super) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let mut response = match check(&app, &mut request) {
        Err(problem) => problem.into_response(),
        Ok(()) => {
            // What needs no token tells nothing, and takes no time.
            let access = request.extensions().get::<Arc<Access>>();
            match app.requests.take(access.map_or("", |access| access.name())) {
                Ok(_place) => next.run(request).await,
                Err(problem) => problem.into_response(),
            }
        }
    };
    // Answers are for whoever asked: not for a cache, a frame, or a page that guesses at their type.
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    fn hosts() -> Hosts {
        Hosts::new(SocketAddr::from(([127, 0, 0, 1], 4780)), Vec::new())
    }

    #[test]
    fn only_the_exact_host_is_answered() {
        for good in ["127.0.0.1:4780", "localhost:4780"] {
            assert!(hosts().check(&headers(&[("host", good)])).is_ok(), "{good}");
        }
        for bad in
            ["evil.example:4780", "127.0.0.1", "localhost", "127.0.0.1:4781", "127.0.0.1.evil:4780", ""]
        {
            let problem = hosts().check(&headers(&[("host", bad)])).unwrap_err();
            assert_eq!(problem.kind(), Kind::WrongHost, "{bad}");
        }
        assert!(hosts().check(&headers(&[])).is_err());
        let twice = [("host", "127.0.0.1:4780"), ("host", "127.0.0.1:4780")];
        assert!(hosts().check(&headers(&twice)).is_err());
    }

    #[test]
    fn only_the_own_page_is_answered() {
        for good in [
            &[][..],
            &[("origin", "http://127.0.0.1:4780")],
            &[("origin", "http://localhost:4780"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(hosts().check_origin(&headers(good)).is_ok(), "{good:?}");
        }
        for bad in [
            &[("origin", "https://127.0.0.1:4780")][..],
            &[("origin", "http://127.0.0.1:4781")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "http://127.0.0.1:4780"), ("origin", "http://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            let problem = hosts().check_origin(&headers(bad)).unwrap_err();
            assert_eq!(problem.kind(), Kind::ForeignOrigin, "{bad:?}");
        }
    }
}
