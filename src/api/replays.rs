//! `/v1/replays`: what a replay would do, starting one, and what becomes of it.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Face;
use super::order::{Nothing, Order};
use super::reply::Refusal;
use super::request::{Query, number, segments};
use crate::actors::replay::words::{JobAction, JobStatus, ReplayPlan, ReplayRequest};

/// What it would do. Changes nothing.
pub async fn plan(State(face): State<Face>, Order(request): Order<ReplayRequest>) -> Result<Json<ReplayPlan>, Refusal> {
    Ok(Json(face.node()?.plan_replay(request).await?))
}

/// Starts one, which goes on by itself.
pub async fn start(State(face): State<Face>, Order(request): Order<ReplayRequest>) -> Result<Response, Refusal> {
    Ok(goes_on(face.node()?.start_replay(request).await?))
}

/// Every job that is known, the newest first.
pub async fn list(State(face): State<Face>, uri: Uri) -> Result<Response, Refusal> {
    Query::of(&uri, &[])?;
    Ok(Json(json!({ "replays": face.node()?.replays() })).into_response())
}

/// One job, or the newest.
pub async fn one(State(face): State<Face>, uri: Uri) -> Result<Json<JobStatus>, Refusal> {
    Query::of(&uri, &[])?;
    let (id, _) = segments(&uri, "/v1/replays/")?;
    Ok(Json(face.node()?.replay(job(&id)?)?))
}

/// Cancels, resumes, approves or rolls back.
pub async fn act(State(face): State<Face>, uri: Uri, Order(Nothing {}): Order<Nothing>) -> Result<Response, Refusal> {
    let (id, action) = segments(&uri, "/v1/replays/")?;
    let id = job(&id)?;
    let node = face.node()?;
    match &action[..] {
        b"cancel" => Ok(Json(node.act(id, JobAction::Cancel).await?).into_response()),
        b"resume" => Ok(goes_on(node.act(id, JobAction::Resume).await?)),
        b"approve" => Ok(goes_on(node.act(id, JobAction::Approve).await?)),
        b"rollback" => Ok(goes_on(node.roll_back(id).await?)),
        other => {
            let message = format!("a job cannot be told to {:?}", String::from_utf8_lossy(other));
            Err(Refusal::new(StatusCode::NOT_FOUND, "no-such-route", message)
                .next("there are: cancel, resume, approve, rollback"))
        }
    }
}

/// Accepted, and where it can be followed.
fn goes_on(status: JobStatus) -> Response {
    let place = format!("/v1/replays/{}", status.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(status)).into_response()
}

/// `latest` is `None`.
pub fn job(text: &str) -> Result<Option<u64>, Refusal> {
    if text == "latest" { Ok(None) } else { number(text, "a job's number, or `latest`").map(Some) }
}
