//! `POST /v1/topics/{topic}/events`: records in, coordinates and a position token out, once all are durable.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::json;
use serde_json::value::RawValue;

use super::Face;
use super::reply::{self, Refusal};
use super::request::{Query, segments};
use crate::actors::handle::AppendError;
use crate::intake::{self, KeyFrom, Shape};
use crate::record::NewRecord;
use crate::streams;

const PARAMETERS: [&str; 5] = ["key", "key-field", "timestamp-field", "type-field", "partition"];

/// How the body's items are separated.
#[derive(Clone, Copy)]
enum Body {
    /// One JSON value, or an array of them.
    Json,
    /// One JSON value a line.
    Lines,
}

/// All records of the body, or none of them where one is bad; answers once they are durable.
pub async fn append(
    State(face): State<Face>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let (topic, _) = segments(&uri, "/v1/topics/")?;
    let shape = shape(Query::of(&uri, &PARAMETERS)?)?;
    let kind = content_type(&headers)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is larger than {} bytes", face.options.body_limit);
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", message)
                .next("send fewer records at once, or raise http.body-limit")
        }
        status => Refusal::new(status, "body-incomplete", rejection.body_text()).next("send the request again"),
    })?;
    let body = std::str::from_utf8(&body).map_err(|error| {
        let message = format!("the body is not UTF-8, from byte {}", error.valid_up_to());
        Refusal::bad("bad-body", message).next("send bytes that are not text as {\"base64\": …}")
    })?;
    let records = records(body, kind, &shape)?;
    if records.is_empty() {
        return Err(Refusal::bad("bad-body", "the body has no record").next("send at least one"));
    }
    let receipt = face.node()?.append(&topic, records).await.map_err(|error| match error {
        AppendError::Log(streams::Error::Refused { index, source }) => {
            reply::refused_record(&place(body, kind, index), index, &source)
        }
        other => other.into(),
    })?;
    let places: Vec<_> =
        receipt.appended.iter().map(|at| json!({ "partition": at.partition, "offset": at.offset })).collect();
    Ok(reply::at(&receipt.token, StatusCode::OK, json!({ "topic": topic, "records": places, "token": receipt.token })))
}

fn shape(mut query: Query) -> Result<Shape, Refusal> {
    let key = match (query.bytes("key"), query.text("key-field")?) {
        (None, None) => KeyFrom::Record,
        (Some(key), None) => KeyFrom::Fixed(key),
        (None, Some(field)) => KeyFrom::Field(field),
        (Some(_), Some(_)) => {
            return Err(Refusal::bad("bad-query", "both `key` and `key-field` are given").next("send one of them"));
        }
    };
    let shape = Shape {
        key,
        timestamp: query.text("timestamp-field")?,
        event_type: query.text("type-field")?,
        partition: query.parsed("partition", "a partition's number")?,
    };
    if shape.key == KeyFrom::Record && (shape.timestamp.is_some() || shape.event_type.is_some()) {
        return Err(Refusal::bad(
            "bad-query",
            "timestamp-field and type-field are for events, and the items are records",
        )
        .next("add key or key-field, or put `timestamp` and `headers` into each record"));
    }
    Ok(shape)
}

/// Also keeps web pages out: a browser asks before it sends one of these types across origins.
fn content_type(headers: &HeaderMap) -> Result<Body, Refusal> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Body::Json),
        "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => Ok(Body::Lines),
        _ => Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", format!("content type {value:?}"))
            .next("send application/json (one value or an array) or application/x-ndjson (one value a line)")),
    }
}

/// The lines that are items, with their numbers.
fn lines(body: &str) -> impl Iterator<Item = (usize, &str)> {
    body.lines().enumerate().map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim().is_empty())
}

fn is_array(body: &str) -> bool {
    body.trim_start().starts_with('[')
}

/// What the item of a record is called.
fn place(body: &str, kind: Body, index: usize) -> String {
    match kind {
        Body::Lines => format!("line {}", lines(body).nth(index).map_or(index + 1, |(number, _)| number)),
        Body::Json if is_array(body) => format!("item {index}"),
        Body::Json => "the body".to_owned(),
    }
}

/// All records, or the first item that is none: nothing of a body with a bad item is appended.
fn records(body: &str, kind: Body, shape: &Shape) -> Result<Vec<NewRecord>, Refusal> {
    let bad = |place: String, reason: String| {
        Refusal::bad("bad-record", format!("{place}: {reason}"))
            .next("nothing was appended; correct it and send all again")
    };
    match kind {
        Body::Lines => lines(body)
            .map(|(number, line)| intake::record(line, shape).map_err(|reason| bad(format!("line {number}"), reason)))
            .collect(),
        Body::Json if is_array(body) => {
            let items: Vec<&RawValue> =
                serde_json::from_str(body).map_err(|error| bad("the array".to_owned(), error.to_string()))?;
            let items = items.iter().enumerate();
            items
                .map(|(i, item)| intake::record(item.get(), shape).map_err(|why| bad(format!("item {i}"), why)))
                .collect()
        }
        Body::Json => {
            let record = intake::record(body, shape).map_err(|reason| bad("the body".to_owned(), reason))?;
            Ok(vec![record])
        }
    }
}
