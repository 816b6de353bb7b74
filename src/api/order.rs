//! What an order to the node must look like: a JSON body, and no web page behind it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::reply::Refusal;

/// How long a client may take to send a body. An order's is small, and no other clock runs for it.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A body of JSON; an empty one is `{}`.
///
/// The content type must be said: a page of another origin cannot send this one without asking first, and is never
/// answered that it may.
pub struct Order<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Order<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            let message = format!("content type {kind:?}");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", message)
                .next("send application/json, also with an empty body"));
        }
        let body = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state)).await.map_err(|_| {
            let message = format!("the body has not come within {BODY_WITHIN:?}");
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "body-incomplete", message).next("send the request again")
        })?;
        let body = body.map_err(|rejection: BytesRejection| {
            Refusal::new(rejection.status(), "bad-body", rejection.body_text()).next("send a smaller body")
        })?;
        let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &body[..] };
        serde_json::from_slice(body)
            .map(Order)
            .map_err(|error| Refusal::bad("bad-body", error.to_string()).next("nothing was done; see docs/http.md"))
    }
}

/// An order without content.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Keeps web pages of other origins away from what costs or changes something.
pub async fn no_web_page(request: Request, next: Next) -> Response {
    match refuse_web_page(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Refuses what a web page of another origin asks. Browsers say where a request comes from; programs do not.
pub fn refuse_web_page(headers: &HeaderMap) -> Result<(), Refusal> {
    if !comes_from_elsewhere(headers) {
        return Ok(());
    }
    let message = "the request comes from a web page of another origin";
    Err(Refusal::new(StatusCode::FORBIDDEN, "wrong-origin", message)
        .next("use the command line, or a program of your own"))
}

fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match text("sec-fetch-site") {
        Some(site) => !matches!(site, "same-origin" | "none"),
        // Old browsers say only this, and of a page of ours they name this very host.
        None => match (text("origin"), text("host")) {
            (None, _) => false,
            (Some(origin), Some(host)) => {
                origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host))
            }
            (Some(_), None) => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn a_page_of_another_origin_is_told_from_a_program() {
        let elsewhere = |pairs: &[(&'static str, &'static str)]| {
            let header = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            comes_from_elsewhere(&pairs.iter().map(header).collect())
        };
        let host = ("host", "127.0.0.1:7878");
        for from in
            [&[host][..], &[host, ("sec-fetch-site", "same-origin")], &[host, ("origin", "http://127.0.0.1:7878")]]
        {
            assert!(!elsewhere(from), "{from:?}");
        }
        for from in [
            &[host, ("sec-fetch-site", "cross-site")][..],
            &[host, ("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:7878")],
            &[host, ("origin", "http://127.0.0.1:3000")],
            &[host, ("origin", "null")],
        ] {
            assert!(elsewhere(from), "{from:?}");
        }
    }
}
