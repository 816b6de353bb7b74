//! Time travel: a row as it was, how it came to be, and what changed in a view.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;

use super::Face;
use super::body::{ExplainAnswer, RowAnswer};
use super::reply::{self, Refusal};
use super::request::{Query, segments};
use crate::actors::admin::{Changes, Explain};
use crate::actors::handle::{Node, ReadError};
use crate::intake::show_bytes;

/// Steps that are answered when the question names no limit, and the most that may be asked for.
const STEPS: usize = 100;
const STEPS_MAX: usize = 10_000;

/// A row at a time or position: `GET /v1/views/{view}/{key}?at=`.
pub async fn as_of(face: &Face, view: String, key: Vec<u8>, at: String) -> Result<Response, Refusal> {
    let node = face.node()?;
    known(&**node, &view)?;
    let found = node.get_at(&view, key.clone(), at.clone()).await?;
    let position = found.position.clone();
    match found.row {
        Some(row) => {
            let row = RowAnswer { cost: Some(found.cost), ..RowAnswer::of(view, row, found.position) };
            Ok(reply::at(&position, StatusCode::OK, row))
        }
        None => {
            let message = format!("view `{view}` had no row for key {} at {at}", show_bytes(&key));
            Err(Refusal::new(StatusCode::NOT_FOUND, "no-such-key", message)
                .next("no event of this key had been applied then; /v1/explain shows its history")
                .with("cost", json!(found.cost))
                .at(&position))
        }
    }
}

/// A row of the generation that a job builds, or of the previous one: `GET /v1/views/{view}/{key}?job=`.
pub async fn peek(face: &Face, view: String, key: Vec<u8>, job: &str) -> Result<Response, Refusal> {
    let job = super::replays::job(job)?;
    let reading = face.node()?.peek(&view, key.clone(), job).await?;
    let position = reading.position;
    match reading.value {
        Some(row) => Ok(reply::at(&position.clone(), StatusCode::OK, RowAnswer::of(view, row, position))),
        None => {
            let message = format!("view `{view}` of that generation has no row for key {}", show_bytes(&key));
            Err(Refusal::new(StatusCode::NOT_FOUND, "no-such-key", message)
                .next("what live has is answered without ?job=")
                .at(&position))
        }
    }
}

/// The records that made a row.
pub async fn explain(State(face): State<Face>, uri: Uri) -> Result<Json<ExplainAnswer>, Refusal> {
    let (view, key) = segments(&uri, "/v1/explain/")?;
    let mut query = Query::of(&uri, &["from", "to", "limit"])?;
    let (from, to) = (query.text("from")?, query.text("to")?);
    let limit = query.parsed("limit", "a number from 1 to 10000")?.unwrap_or(STEPS);
    if !(1..=STEPS_MAX).contains(&limit) {
        let message = format!("parameter `limit` is {limit}");
        return Err(Refusal::bad("bad-query", message).next("expected a number from 1 to 10000"));
    }
    let node = face.node()?;
    known(&**node, &view)?;
    let question = Explain { view: view.clone(), key: key.clone(), from, to, limit };
    Ok(Json(ExplainAnswer::of(view, &key, node.explain(question).await?)))
}

/// What changed between two times or positions.
pub async fn changes(State(face): State<Face>, uri: Uri) -> Result<Json<Changes>, Refusal> {
    let (view, _) = segments(&uri, "/v1/changes/")?;
    let mut query = Query::of(&uri, &["from", "to"])?;
    let mut needed = |name: &str| {
        query.text(name)?.ok_or_else(|| {
            Refusal::bad("bad-query", format!("parameter `{name}` is missing"))
                .next("send from= and to=: times or position tokens")
        })
    };
    let (from, to) = (needed("from")?, needed("to")?);
    let node = face.node()?;
    known(&**node, &view)?;
    Ok(Json(node.changes(&view, from, to).await?))
}

fn known(node: &dyn Node, view: &str) -> Result<(), Refusal> {
    let known: Vec<String> = node.views().into_iter().map(|info| info.name).collect();
    match known.iter().any(|name| name == view) {
        true => Ok(()),
        false => Err(ReadError::NoSuchView { name: view.to_owned(), known }.into()),
    }
}
