//! Who may ask, and for how long; and the count of what was answered.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::{counter, histogram};

use super::Face;
use super::reply::Refusal;
use crate::telemetry::names;

/// How the token is sent: `Authorization: Bearer <token>`.
pub const AUTH_SCHEME: &str = "Bearer";

/// What a request may take beyond the longest wait for a bound.
const SLACK: Duration = Duration::from_secs(30);

/// Lets a request in when it has the token, or, where none is asked for, when it names this machine: that keeps out web
/// pages whose name was pointed at a loopback address.
pub async fn admit(State(face): State<Face>, request: Request, next: Next) -> Response {
    let token = &face.options.token;
    if token.is_empty() {
        if !names_loopback(request.headers()) {
            return Refusal::new(StatusCode::FORBIDDEN, "wrong-host", "the Host header does not name this machine")
                .next("ask 127.0.0.1 or localhost, or set http.token")
                .into_response();
        }
    } else if !bearer(request.headers()).is_some_and(|found| same(found.as_bytes(), token.reveal().as_bytes())) {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or wrong")
            .next("send `Authorization: Bearer <token>` with the token of http.token");
        return ([(header::WWW_AUTHENTICATE, AUTH_SCHEME)], refusal).into_response();
    }
    if takes_its_time(request.uri()) {
        return next.run(request).await;
    }
    let limit = face.options.read_wait + SLACK;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::new(StatusCode::GATEWAY_TIMEOUT, "timeout", format!("no answer within {limit:?}"))
            .next("ask again; the records of an append may have gone in")
            .into_response(),
    }
}

/// What reads as much as there is to read: it ends when it is done, or when nobody waits for it any more.
fn takes_its_time(uri: &Uri) -> bool {
    let path = uri.path();
    let travels = path.starts_with("/v1/views/")
        && uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("at=")));
    travels
        || ["/v1/replays", "/v1/snapshots", "/v1/verify", "/v1/explain/", "/v1/changes/"]
            .iter()
            .any(|long| path.starts_with(long))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(AUTH_SCHEME).then(|| token.trim())
}

/// Compares without telling by its time where the difference is. The length is no secret.
fn same(found: &[u8], wanted: &[u8]) -> bool {
    let differences = found.iter().zip(wanted).fold(0u8, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    found.len() == wanted.len() && differences == 0
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_loopback = |address: std::net::IpAddr| address.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

/// Counts and times every answer.
pub async fn observe(State(_): State<Face>, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let start = Instant::now();
    let response = next.run(request).await;
    let took = start.elapsed();
    let status = response.status();
    counter!(names::REQUESTS, "route" => route.clone(), "status" => status.as_u16().to_string()).increment(1);
    histogram!(names::REQUEST_SECONDS, "route" => route.clone()).record(took.as_secs_f64());
    if status.is_server_error() {
        tracing::warn!(%method, route, status = status.as_u16(), ?took, "a request failed");
    } else {
        tracing::debug!(%method, route, status = status.as_u16(), ?took, "a request was answered");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        let admitted = |host: &'static str| {
            let headers = HeaderMap::from_iter([(header::HOST, axum::http::HeaderValue::from_static(host))]);
            names_loopback(&headers)
        };
        for host in ["localhost", "localhost:7878", "127.0.0.1:7878", "127.0.0.2", "[::1]:7878", "[::1]"] {
            assert!(admitted(host), "{host}");
        }
        for host in ["evil.example", "evil.example:7878", "127.0.0.1.evil.example", "10.0.0.1:7878", ""] {
            assert!(!admitted(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_compared_in_full() {
        assert!(same(b"abc", b"abc"));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!same(other.as_bytes(), b"abc"), "{other}");
        }
    }
}
