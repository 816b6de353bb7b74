//! Answers: a body, the position vector that it was read at, and refusals that say what to do next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::actors::admin::PeekError;
use crate::actors::handle::{AppendError, ReadError};
use crate::actors::replay::words::ReplayError;
use crate::position::PositionVector;
use crate::streams;

/// Carries the position token of every answer that has one.
pub const POSITION_HEADER: &str = "segno-position";

/// A body and its position.
pub fn at(position: &PositionVector, status: StatusCode, body: impl serde::Serialize) -> Response {
    with_position((status, Json(body)).into_response(), position)
}

fn with_position(mut response: Response, position: &PositionVector) -> Response {
    // Topic names and numbers are ASCII; a name that is not has no token in the header, only in the body.
    if let Ok(value) = HeaderValue::from_str(&position.to_string()) {
        response.headers_mut().insert(POSITION_HEADER, value);
    }
    response
}

/// Why there is no answer: `{"error": {"code", "message", "next"}}`.
#[derive(Debug)]
pub struct Refusal(Box<Reason>);

#[derive(Debug)]
struct Reason {
    status: StatusCode,
    code: &'static str,
    message: String,
    next: Option<String>,
    more: Map<String, Value>,
    position: Option<PositionVector>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Refusal(Box::new(Reason { status, code, message, next: None, more: Map::new(), position: None }))
    }

    /// What the client got wrong.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.0.next = Some(next.into());
        self
    }

    /// A field more in `error`.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.more.insert(name.to_owned(), value);
        self
    }

    pub fn at(mut self, position: &PositionVector) -> Self {
        self.0.position = Some(position.clone());
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Reason { status, code, message, next, more, position } = *self.0;
        let mut error = Map::from_iter([
            ("code".to_owned(), Value::from(code)),
            ("message".to_owned(), Value::from(message)),
            ("next".to_owned(), Value::from(next.unwrap_or_else(|| "see docs/http.md".to_owned()))),
        ]);
        error.extend(more);
        let mut body = Map::from_iter([("error".to_owned(), Value::Object(error))]);
        if let Some(position) = &position {
            body.insert("position".to_owned(), json!(position));
        }
        let response = (status, Json(body)).into_response();
        match &position {
            Some(position) => with_position(response, position),
            None => response,
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::NoSuchView { .. } => {
                Refusal::new(StatusCode::NOT_FOUND, "no-such-view", message).next("name one of the views of /v1/views")
            }
            ReadError::Behind { have, want } => Refusal::new(StatusCode::CONFLICT, "behind", message)
                .next("ask again, wait longer with ?wait=, or ask for a lower position")
                .with("have", json!(have))
                .with("want", json!(want))
                .at(&have),
            ReadError::OtherTopic { .. } | ReadError::NoSuchPartition { .. } => {
                Refusal::bad("wrong-bound", message).next("use a token that an append to the view's topic answered")
            }
            ReadError::BadCursor(_) => {
                Refusal::bad("bad-cursor", message).next("use `next` of the previous page, or leave the cursor out")
            }
            ReadError::TooLarge { .. } => Refusal::bad("too-large", message).next("ask for less"),
            ReadError::Store(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "store-failed", message)
                .next("look at /readyz and at the node's log"),
            ReadError::Stopping => stopping(message),
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let message = error.to_string();
        match error {
            AppendError::NoSuchTopic { .. } => Refusal::new(StatusCode::NOT_FOUND, "no-such-topic", message)
                .next("declare the topic in the configuration, or name one that is"),
            AppendError::Stopping => stopping(message),
            AppendError::Log(streams::Error::Refused { index, source }) => {
                refused_record(&format!("record {index}, counted from 0"), index, &source)
            }
            AppendError::Log(streams::Error::Halfway { went_in, source }) => halfway(&went_in, &source),
            AppendError::Log(error) => {
                log_failed(&error, message).next("nothing was appended; send the records again once that is put right")
            }
        }
    }
}

impl From<PeekError> for Refusal {
    fn from(error: PeekError) -> Self {
        match error {
            PeekError::Job(error) => error.into(),
            PeekError::Read(error) => error.into(),
        }
    }
}

/// A record that the log does not take, and how its place in the body is called. Nothing was appended.
pub fn refused_record(place: &str, index: usize, error: &streams::Error) -> Refusal {
    let message = format!("{place}: {error}");
    let (refusal, next) = match error {
        streams::Error::TooLarge { .. } => {
            let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "record-too-large", message);
            (refusal, "make it smaller, or raise the log's limit, and send all again")
        }
        streams::Error::PartitionMissing { .. } => {
            (Refusal::bad("no-such-partition", message), "leave `partition` out, and send all again")
        }
        _ => (Refusal::bad("bad-record", message), "correct it and send all again"),
    };
    refusal.next(format!("nothing was appended; {next}")).with("record", json!(index))
}

/// An append that failed with records in the log. Whoever sends all of them again has some twice, so this is never a
/// refusal of the 400s, which say that nothing was done.
fn halfway(went_in: &streams::WentIn, source: &streams::Error) -> Refusal {
    let streams::WentIn { appended, in_doubt } = went_in;
    let appended: Vec<_> = appended
        .iter()
        .map(|(record, at)| json!({ "record": record, "partition": at.partition, "offset": at.offset }))
        .collect();
    log_failed(source, format!("{source}; {went_in}"))
        .next("`appended` has what is in the log, `in_doubt` what may be: send the others again, and look for these first")
        .with("appended", json!(appended))
        .with("in_doubt", json!(in_doubt))
}

fn log_failed(error: &streams::Error, message: String) -> Refusal {
    if error.retryable() {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "log-unavailable", message)
    } else {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "log-failed", message)
    }
}

impl From<ReplayError> for Refusal {
    fn from(error: ReplayError) -> Self {
        let message = error.to_string();
        let unchanged = "nothing was changed; see docs/http.md";
        match error {
            ReplayError::Bad(_) => Refusal::bad("bad-request", message).next(unchanged),
            ReplayError::Refused(_) => {
                Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message).next("nothing was changed")
            }
            ReplayError::Busy { id, phase } => Refusal::new(StatusCode::CONFLICT, "busy", message)
                .next("nothing was changed")
                .with("job", json!(id))
                .with("phase", json!(phase)),
            ReplayError::NoSuchJob { id } => Refusal::new(StatusCode::NOT_FOUND, "no-such-job", message)
                .next("GET /v1/replays has those that are known")
                .with("job", json!(id)),
            ReplayError::NoJob => {
                Refusal::new(StatusCode::NOT_FOUND, "no-job", message).next("POST /v1/replays starts one")
            }
            ReplayError::NotNow(_) => {
                Refusal::new(StatusCode::CONFLICT, "not-now", message).next("look at the job: GET /v1/replays/latest")
            }
            ReplayError::NoSuchSnapshot { id } => Refusal::new(StatusCode::NOT_FOUND, "no-such-snapshot", message)
                .next("GET /v1/snapshots has those that are known")
                .with("snapshot", json!(id)),
            ReplayError::Failed(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
                .next("live is as it was; look at the node's log"),
            ReplayError::Stopping => stopping(message),
        }
    }
}

fn stopping(message: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message).next("ask again when the node is back")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Offset, PartitionId};
    use crate::streams::{Appended, WentIn};

    fn of(error: streams::Error) -> (StatusCode, &'static str, Map<String, Value>) {
        let Reason { status, code, more, .. } = *Refusal::from(AppendError::Log(error)).0;
        (status, code, more)
    }

    #[test]
    fn a_refusal_of_the_400s_says_that_nothing_was_appended() {
        let too_large = || Box::new(streams::Error::TooLarge { bytes: 9, max: 8 });
        let (status, code, more) = of(streams::Error::Refused { index: 3, source: too_large() });
        assert_eq!((status.as_u16(), code, &more["record"]), (413, "record-too-large", &json!(3)));
        let timestamp = Box::new(streams::Error::Timestamp { timestamp: 0, reason: "use 1" });
        let (status, code, _) = of(streams::Error::Refused { index: 0, source: timestamp });
        assert_eq!((status.as_u16(), code), (400, "bad-record"));

        let appended = vec![(1, Appended { partition: PartitionId(2), offset: Offset(7) })];
        let went_in = WentIn { appended, in_doubt: vec![4, 5] };
        let (status, code, more) = of(streams::Error::halfway(*too_large(), went_in.clone()));
        assert_eq!((status.as_u16(), code), (500, "log-failed"), "records are in: it is not a 413");
        assert_eq!(more["appended"], json!([{ "record": 1, "partition": 2, "offset": 7 }]));
        assert_eq!(more["in_doubt"], json!([4, 5]));
        let failed = streams::Error::Append { at: "t/0".into(), reason: "no answer".into() };
        assert_eq!(of(streams::Error::halfway(failed.clone(), went_in)).1, "log-unavailable");
        let (status, _, more) = of(streams::Error::halfway(failed, WentIn::default()));
        assert_eq!((status.as_u16(), more.is_empty()), (503, true));
    }
}
