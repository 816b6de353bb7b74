//! `GET /v1/views/{view}/{key}` and `GET /v1/views/{view}`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;

use super::Face;
use super::body::{PageAnswer, RowAnswer};
use super::order::refuse_web_page;
use super::reply::{self, Refusal};
use super::request::{Query, segments};
use super::travel;
use crate::actors::reads::LIST_MAX;
use crate::intake::show_bytes;

const ROWS: usize = 100;

/// One row, of live, of a time or of a job; 404 with the position when there is none.
pub async fn get(State(face): State<Face>, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    let (view, key) = segments(&uri, "/v1/views/")?;
    let mut query = Query::of(&uri, &["at-least", "wait", "at", "job"])?;
    let (at, job) = (query.text("at")?, query.text("job")?);
    let bound = query.bound(face.options.read_wait)?;
    match (at, job) {
        (None, None) => {}
        (Some(at), None) if bound.is_none() => {
            // A fold of what may be a long history.
            refuse_web_page(&headers)?;
            return travel::as_of(&face, view, key, at).await;
        }
        (None, Some(job)) if bound.is_none() => return travel::peek(&face, view, key, &job).await,
        _ => {
            let message = "only one of `at`, `job` and `at-least` may be given";
            return Err(Refusal::bad("bad-query", message).next("they name different states of the row"));
        }
    }
    let reading = face.node()?.get(&view, key.clone(), bound).await?;
    match reading.value {
        Some(row) => {
            let position = reading.position;
            Ok(reply::at(&position.clone(), StatusCode::OK, RowAnswer::of(view, row, position)))
        }
        None => {
            let shown = show_bytes(&key);
            let message = format!("view `{view}` has no row for key {shown}");
            Err(Refusal::new(StatusCode::NOT_FOUND, "no-such-key", message)
                .next("no event of this key has been applied at this position; use at-least to wait for one")
                .at(&reading.position))
        }
    }
}

/// A page of rows.
pub async fn list(State(face): State<Face>, uri: Uri) -> Result<Response, Refusal> {
    let (view, _) = segments(&uri, "/v1/views/")?;
    let mut query = Query::of(&uri, &["prefix", "cursor", "limit", "at-least", "wait"])?;
    let prefix = query.bytes("prefix").unwrap_or_default();
    let cursor = query.text("cursor")?.filter(|cursor| !cursor.is_empty());
    let limit = query.parsed("limit", "a number from 1 to 1000")?.unwrap_or(ROWS);
    if !(1..=LIST_MAX).contains(&limit) {
        let message = format!("parameter `limit` is {limit}");
        return Err(Refusal::bad("bad-query", message).next("expected a number from 1 to 1000"));
    }
    let bound = query.bound(face.options.read_wait)?;
    let reading = face.node()?.list(&view, prefix, cursor, limit, bound).await?;
    let position = reading.position.clone();
    Ok(reply::at(&position, StatusCode::OK, PageAnswer::of(view, reading)))
}
