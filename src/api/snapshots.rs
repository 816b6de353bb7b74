//! `/v1/snapshots`, and `/v1/verify`: what could be started from, and whether what is there is what was written.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Face;
use super::order::{Nothing, Order};
use super::reply::Refusal;
use super::request::{Query, number, segments};
use crate::actors::admin::SnapshotInfo;

/// What a snapshot is asked of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Empty: all.
    #[serde(default)]
    topics: Vec<String>,
}

/// All of them, the newest first.
pub async fn list(State(face): State<Face>, uri: Uri) -> Result<Response, Refusal> {
    Query::of(&uri, &[])?;
    Ok(Json(json!({ "snapshots": face.node()?.snapshots().await? })).into_response())
}

/// Takes one of each topic.
pub async fn create(State(face): State<Face>, Order(wanted): Order<Wanted>) -> Result<Response, Refusal> {
    let taken = face.node()?.take_snapshot(wanted.topics).await?;
    Ok((StatusCode::CREATED, Json(json!({ "snapshots": taken }))).into_response())
}

/// Reads one through. A damaged one is an answer, and says so in `damaged`.
pub async fn verify(
    State(face): State<Face>,
    uri: Uri,
    Order(Nothing {}): Order<Nothing>,
) -> Result<Json<SnapshotInfo>, Refusal> {
    Ok(Json(face.node()?.verify_snapshot(id(&uri)?).await?))
}

/// Deletes one.
pub async fn delete(State(face): State<Face>, uri: Uri) -> Result<Response, Refusal> {
    let id = id(&uri)?;
    face.node()?.delete_snapshot(id).await?;
    Ok(Json(json!({ "deleted": id })).into_response())
}

/// Recomputes the digests of all live views by reading every row.
pub async fn digests(State(face): State<Face>, Order(Nothing {}): Order<Nothing>) -> Result<Response, Refusal> {
    let views = face.node()?.verify().await?;
    let ok = views.iter().all(|view| view.ok);
    Ok(Json(json!({ "ok": ok, "views": views })).into_response())
}

fn id(uri: &Uri) -> Result<u64, Refusal> {
    let (id, _) = segments(uri, "/v1/snapshots/")?;
    number(&id, "a snapshot's number")
}
