//! How the node is: `/v1/status`, `/v1/views`, the three probes, and `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::gauge;
use serde_json::json;

use super::Face;
use super::reply::Refusal;
use crate::actors::handle::{Check, Health, PartitionStatus, Status, ViewStatus};
use crate::telemetry::names;

/// How far every partition is.
pub async fn status(State(face): State<Face>) -> Result<Json<Status>, Refusal> {
    Ok(Json(face.node()?.status()))
}

/// What can be read.
pub async fn views(State(face): State<Face>) -> Result<Response, Refusal> {
    Ok(Json(json!({ "views": face.node()?.views() })).into_response())
}

/// 503 when the process should be killed.
pub async fn livez(State(face): State<Face>) -> Response {
    health(face.node().map_or_else(|_| starting(true), |node| node.live()))
}

/// 503 while reads are not answered.
pub async fn readyz(State(face): State<Face>) -> Response {
    health(face.node().map_or_else(|_| starting(false), |node| node.ready()))
}

/// 503 until the start is over.
pub async fn startupz(State(face): State<Face>) -> Response {
    health(face.node().map_or_else(|_| starting(false), |node| node.started()))
}

fn starting(ok: bool) -> Health {
    Health::of(vec![Check { name: "node".to_owned(), ok, detail: "starting".to_owned() }])
}

fn health(health: Health) -> Response {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// Prometheus's text format. What the status knows is brought up to date first.
pub async fn metrics(State(face): State<Face>) -> Result<Response, Refusal> {
    let Some(handle) = &face.metrics else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "no-metrics", "metrics are not collected in this process"));
    };
    let node = face.node()?;
    let status = node.status();
    gauge!(names::READY).set(if node.ready().ok { 1.0 } else { 0.0 });
    gauge!(names::UPTIME_SECONDS).set(status.uptime_seconds);
    for topic in &status.topics {
        topic.partitions.iter().for_each(|partition| partition_gauges(&topic.name, partition));
        topic.views.iter().for_each(|view| view_gauges(&topic.name, view));
    }
    handle.run_upkeep();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response())
}

fn partition_gauges(topic: &str, status: &PartitionStatus) {
    let labels = [("topic", topic.to_owned()), ("partition", status.partition.to_string())];
    gauge!(names::APPLIED, &labels).set(status.applied.0 as f64);
    gauge!(names::DURABLE, &labels).set(status.durable.0 as f64);
    gauge!(names::RESIDENT, &labels).set(status.resident as f64);
    gauge!(names::BATCH_RECORDS, &labels).set(status.batch_records as f64);
    gauge!(names::IN_FLIGHT, &labels).set(status.in_flight as f64);
    if let Some(end) = status.log_end {
        gauge!(names::LOG_END, &labels).set(end.0 as f64);
    }
    if let Some(lag) = status.lag_records {
        gauge!(names::LAG_RECORDS, &labels).set(lag as f64);
    }
    if let Some(lag) = status.lag_seconds {
        gauge!(names::LAG_SECONDS, &labels).set(lag);
    }
    for (standing, count) in [("waiting", status.waiting), ("parked", status.parked), ("dead", status.dead)] {
        let [topic, partition] = labels.clone();
        gauge!(names::HELD_NOW, &[topic, partition, ("standing", standing.to_owned())]).set(count as f64);
    }
}

fn view_gauges(topic: &str, status: &ViewStatus) {
    let labels = [("topic", topic.to_owned()), ("view", status.view.clone())];
    gauge!(names::ROWS, &labels).set(status.rows as f64);
    let books = &status.books;
    for (column, count) in [
        ("consumed", books.consumed),
        ("applied", books.applied),
        ("skipped", books.skipped),
        ("waiting", books.waiting),
        ("parked", books.parked),
        ("dead", books.dead),
    ] {
        let [topic, view] = labels.clone();
        gauge!(names::BOOKS, &[topic, view, ("column", column.to_owned())]).set(count as f64);
    }
}
