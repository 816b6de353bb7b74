//! What an operator asks over HTTP: routes, status codes, the shape of answers, and who is kept out. The node behind
//! them is a stand-in that answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use segno::actors::admin::*;
use segno::actors::handle::*;
use segno::actors::replay::words::*;
use segno::api::{Inside, NodeSlot, Options};
use segno::position::{Offset, PartitionId, PositionVector, Timestamp};
use segno::record::NewRecord;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Answers as it is told, and notes what it was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    /// What every fallible question is answered with, if anything.
    error: Mutex<Option<ReplayError>>,
}

impl Fake {
    fn answer<T: Send + 'static>(&self, asked: String, value: T) -> BoxFuture<'_, Result<T, ReplayError>> {
        self.asked.lock().unwrap().push(asked);
        let error = self.error.lock().unwrap().clone();
        Box::pin(async move { error.map_or(Ok(value), Err) })
    }
}

fn job(id: u64) -> JobStatus {
    let plan = json!({ "request": { "from": "-PT2H" }, "time": null, "topics": [], "records": 3, "bytes": null,
        "exact": true, "seconds": null, "disk_needed": 1, "disk_free": 2, "warnings": [] });
    let status = json!({ "id": id, "kind": "replay", "phase": "building", "plan": plan, "created": 0, "topics": [],
        "rate": 0.0, "losing": false, "live_lag_records": null, "live_lag_seconds": null, "approved": false });
    serde_json::from_value(status).unwrap()
}

fn snapshot(id: u64) -> SnapshotInfo {
    SnapshotInfo {
        id,
        topic: "bank".to_owned(),
        taken: Timestamp(0),
        why: "operator".to_owned(),
        views: Vec::new(),
        partitions: Vec::new(),
        bytes: 5,
        damaged: None,
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn row(key: Vec<u8>) -> Option<Row> {
    let json = raw(r#"{"n":12345678901234567890123}"#);
    let found = Row { key, partition: PartitionId(1), offset: Offset(7), timestamp: Timestamp(0), json };
    (found.key != b"gone").then_some(found)
}

fn at() -> PositionVector {
    "bank@0:9".parse().unwrap()
}

fn cost() -> Cost {
    Cost { base: "snapshot 3".to_owned(), records: 6 }
}

impl Admin for Fake {
    fn plan_replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<ReplayPlan, ReplayError>> {
        let plan = ReplayPlan { request: request.clone(), ..job(1).plan };
        self.answer(format!("plan {}", request.from), plan)
    }

    fn start_replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        self.answer(format!("start {} {:?}", request.from, request.base), job(4))
    }

    fn replays(&self) -> Vec<JobStatus> {
        vec![job(4), job(3)]
    }

    fn replay(&self, id: Option<u64>) -> Result<JobStatus, ReplayError> {
        match id {
            None => Ok(job(4)),
            Some(id @ 3..=4) => Ok(job(id)),
            Some(id) => Err(ReplayError::NoSuchJob { id }),
        }
    }

    fn act(&self, id: Option<u64>, action: JobAction) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        self.answer(format!("{action:?} {id:?}"), job(id.unwrap_or(4)))
    }

    fn roll_back(&self, id: Option<u64>) -> BoxFuture<'_, Result<JobStatus, ReplayError>> {
        self.answer(format!("roll back {id:?}"), job(5))
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>> {
        self.answer("snapshots".to_owned(), vec![snapshot(2)])
    }

    fn take_snapshot(&self, topics: Vec<String>) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>> {
        self.answer(format!("take {topics:?}"), vec![snapshot(3)])
    }

    fn verify_snapshot(&self, id: u64) -> BoxFuture<'_, Result<SnapshotInfo, ReplayError>> {
        self.answer(format!("verify {id}"), snapshot(id))
    }

    fn delete_snapshot(&self, id: u64) -> BoxFuture<'_, Result<(), ReplayError>> {
        self.answer(format!("delete {id}"), ())
    }

    fn verify(&self) -> BoxFuture<'_, Result<Vec<ViewCheck>, ReplayError>> {
        let check = json!({ "topic": "bank", "partition": 0, "view": "account", "position": 9, "rows": 2, "kept": "a",
            "found": "b", "ok": false });
        self.answer("verify".to_owned(), vec![serde_json::from_value(check).unwrap()])
    }

    fn get_at(&self, view: &str, key: Vec<u8>, when: String) -> BoxFuture<'_, Result<AsOf, ReplayError>> {
        let asked = format!("get {view} {} at {when}", key.escape_ascii());
        self.answer(asked, AsOf { row: row(key), position: at(), cost: cost() })
    }

    fn explain(&self, question: Explain) -> BoxFuture<'_, Result<Explanation, ReplayError>> {
        let Explain { view, key, from, to, limit } = question;
        let step = Step {
            partition: PartitionId(0),
            offset: Offset(8),
            timestamp: Timestamp(0),
            event_type: Some("Opened".to_owned()),
            event_id: None,
            outcome: "applied".to_owned(),
            detail: None,
            state: Some(raw("{\"n\":1}")),
        };
        let found = Explanation { before: None, steps: vec![step], left_out: 2, cost: cost() };
        self.answer(format!("explain {view} {} {from:?} {to:?} {limit}", key.escape_ascii()), found)
    }

    fn changes(&self, view: &str, from: String, to: String) -> BoxFuture<'_, Result<Changes, ReplayError>> {
        let found = json!({ "view": view, "from": at(), "to": at(), "added": 1, "removed": 0, "changed": 0,
            "unchanged": 0, "rows": [], "cost": cost() });
        self.answer(format!("changes {view} {from} {to}"), serde_json::from_value(found).unwrap())
    }

    fn peek(
        &self,
        view: &str,
        key: Vec<u8>,
        id: Option<u64>,
    ) -> BoxFuture<'_, Result<Reading<Option<Row>>, PeekError>> {
        let asked = format!("peek {view} {} {id:?}", key.escape_ascii());
        let answer = self.answer(asked, Reading { value: row(key), position: at() });
        Box::pin(async move { Ok(answer.await?) })
    }
}

impl Node for Fake {
    fn status(&self) -> Status {
        Status {
            node: "fake".to_owned(),
            version: String::new(),
            state: NodeState::Ready,
            reason: None,
            log: "memory".to_owned(),
            uptime_seconds: 0.0,
            replay: None,
            topics: Vec::new(),
        }
    }

    fn views(&self) -> Vec<ViewInfo> {
        vec![ViewInfo { name: "account".to_owned(), version: 1, topic: "bank".to_owned() }]
    }

    fn topics(&self) -> Vec<String> {
        vec!["bank".to_owned()]
    }

    fn get(&self, _: &str, key: Vec<u8>, _: Option<Bound>) -> BoxFuture<'_, Result<Reading<Option<Row>>, ReadError>> {
        self.asked.lock().unwrap().push(format!("get {}", key.escape_ascii()));
        Box::pin(async move { Ok(Reading { value: row(key), position: at() }) })
    }

    fn list(
        &self,
        _: &str,
        _: Vec<u8>,
        _: Option<String>,
        _: usize,
        _: Option<Bound>,
    ) -> BoxFuture<'_, Result<Reading<Page>, ReadError>> {
        Box::pin(async { Err(ReadError::Stopping) })
    }

    fn append(&self, _: &str, _: Vec<NewRecord>) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        Box::pin(async { Err(AppendError::Stopping) })
    }

    fn live(&self) -> Health {
        Health::default()
    }

    fn ready(&self) -> Health {
        Health::default()
    }

    fn started(&self) -> Health {
        Health::default()
    }
}

/// The API over the stand-in.
struct Stage {
    api: Inside,
    fake: Arc<Fake>,
}

impl Stage {
    fn new() -> Stage {
        let fake = Arc::new(Fake::default());
        let slot = NodeSlot::default();
        slot.fill(fake.clone());
        let options = Options { body_limit: 1 << 20, read_wait: Duration::from_secs(1), token: Default::default() };
        Stage { api: Inside::new(slot, options), fake }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let body = (method == "POST").then(|| body.as_bytes().to_vec());
        let (status, body) = self.api.request(method, path, body).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.fake.asked.lock().unwrap())
    }
}

#[tokio::test]
async fn every_route_asks_the_node_what_it_says() {
    let stage = Stage::new();
    for (method, path, body, status, asked) in [
        ("POST", "/v1/replays/plan", r#"{"from":"-PT2H"}"#, 200, "plan -PT2H"),
        ("POST", "/v1/replays", r#"{"from":"x","base":{"snapshot":3}}"#, 202, "start x Snapshot(3)"),
        ("POST", "/v1/replays/latest/cancel", "", 200, "Cancel None"),
        ("POST", "/v1/replays/3/resume", "{}", 202, "Resume Some(3)"),
        ("POST", "/v1/replays/3/approve", "", 202, "Approve Some(3)"),
        ("POST", "/v1/replays/latest/rollback", "", 202, "roll back None"),
        ("GET", "/v1/snapshots", "", 200, "snapshots"),
        ("POST", "/v1/snapshots", r#"{"topics":["bank"]}"#, 201, "take [\"bank\"]"),
        ("POST", "/v1/snapshots", "", 201, "take []"),
        ("POST", "/v1/snapshots/2/verify", "", 200, "verify 2"),
        ("DELETE", "/v1/snapshots/2", "", 200, "delete 2"),
        ("POST", "/v1/verify", "", 200, "verify"),
        ("GET", "/v1/views/account/a%2Fb?at=-PT2H", "", 200, "get account a/b at -PT2H"),
        ("GET", "/v1/views/account/?at=x", "", 200, "get account  at x"),
        ("GET", "/v1/views/account/a?job=latest", "", 200, "peek account a None"),
        ("GET", "/v1/views/account/a?job=4", "", 200, "peek account a Some(4)"),
        ("GET", "/v1/views/account/plan", "", 200, "get plan"),
        ("GET", "/v1/explain/account/%FF/b?limit=5&to=y", "", 200, "explain account \\xff/b None Some(\"y\") 5"),
        ("GET", "/v1/explain/account/", "", 200, "explain account  None None 100"),
        ("GET", "/v1/changes/account?from=bank%400:1&to=y", "", 200, "changes account bank@0:1 y"),
    ] {
        let (found, answer) = stage.ask(method, path, body).await;
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert_eq!(stage.asked(), [asked], "{method} {path}");
    }
}

#[tokio::test]
async fn answers_have_their_shape() {
    let stage = Stage::new();
    let (_, jobs) = stage.ask("GET", "/v1/replays", "").await;
    assert_eq!(jobs["replays"].as_array().unwrap().len(), 2);
    for path in ["/v1/replays/latest", "/v1/replays/4"] {
        let (status, answer) = stage.ask("GET", path, "").await;
        assert_eq!((status, &answer), (200, &json!(job(4))), "{path}");
    }
    let (_, taken) = stage.ask("POST", "/v1/snapshots", "").await;
    assert_eq!(taken, json!({ "snapshots": [snapshot(3)] }));
    assert_eq!(stage.ask("DELETE", "/v1/snapshots/2", "").await.1, json!({ "deleted": 2 }));
    let (_, checked) = stage.ask("POST", "/v1/verify", "").await;
    assert_eq!((&checked["ok"], &checked["views"][0]["found"]), (&json!(false), &json!("b")));
    let (_, explained) = stage.ask("GET", "/v1/explain/account/a", "").await;
    assert_eq!(
        explained,
        json!({ "view": "account", "key": "a", "before": null, "left_out": 2, "cost": cost(),
            "steps": [{ "partition": 0, "offset": 8, "timestamp": 0, "time": "1970-01-01T00:00:00.000Z",
                "event_type": "Opened", "event_id": null, "outcome": "applied", "detail": null, "state": { "n": 1 } }] })
    );
    // A row as it was is a row, byte for byte, with what it cost.
    let (_, bytes) = stage.api.request("GET", "/v1/views/account/a?at=x", None).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(r#""value":{"n":12345678901234567890123}"#), "{text}");
    assert!(text.contains(r#""position":"bank@0:9","cost":{"base":"snapshot 3","records":6}"#), "{text}");
    let (status, none) = stage.ask("GET", "/v1/views/account/gone?at=x", "").await;
    assert_eq!((status, &none["error"]["code"], &none["position"]), (404, &json!("no-such-key"), &json!("bank@0:9")));
    assert_eq!(none["error"]["cost"]["records"], 6);
    assert_eq!(stage.ask("GET", "/v1/views/account/gone?job=latest", "").await.0, 404);
    let live = stage.api.request("GET", "/v1/views/account/a", None).await.unwrap().1;
    assert!(!String::from_utf8(live).unwrap().contains("cost"));
}

#[tokio::test]
async fn every_refusal_has_its_status_and_a_next_step() {
    let stage = Stage::new();
    for (error, status, code) in [
        (ReplayError::Bad("no time".to_owned()), 400, "bad-request"),
        (ReplayError::Refused("bank/1 begins at 7".to_owned()), 422, "refused"),
        (ReplayError::Busy { id: 3, phase: Phase::CuttingOver }, 409, "busy"),
        (ReplayError::NoSuchJob { id: 9 }, 404, "no-such-job"),
        (ReplayError::NoJob, 404, "no-job"),
        (ReplayError::NotNow("job 3 is done".to_owned()), 409, "not-now"),
        (ReplayError::NoSuchSnapshot { id: 9 }, 404, "no-such-snapshot"),
        (ReplayError::Failed("the disk is full".to_owned()), 500, "failed"),
        (ReplayError::Stopping, 503, "stopping"),
    ] {
        *stage.fake.error.lock().unwrap() = Some(error.clone());
        for (method, path) in [
            ("POST", "/v1/replays"),
            ("POST", "/v1/replays/latest/approve"),
            ("DELETE", "/v1/snapshots/9"),
            ("POST", "/v1/verify"),
            ("GET", "/v1/explain/account/a"),
            ("GET", "/v1/views/account/a?at=x"),
            ("GET", "/v1/views/account/a?job=9"),
        ] {
            let (found, answer) = stage.ask(method, path, "{}").await;
            let refusal = &answer["error"];
            assert_eq!((found, &refusal["code"]), (status, &json!(code)), "{method} {path}: {answer}");
            assert_eq!(refusal["message"], error.to_string());
            assert!(refusal["next"].as_str().is_some_and(|next| !next.is_empty()), "{answer}");
        }
    }
    *stage.fake.error.lock().unwrap() = Some(ReplayError::Busy { id: 3, phase: Phase::CuttingOver });
    let (_, busy) = stage.ask("POST", "/v1/replays", "").await;
    assert_eq!((&busy["error"]["job"], &busy["error"]["phase"]), (&json!(3), &json!("cutting-over")));
}

#[tokio::test]
async fn what_is_wrong_does_not_reach_the_node() {
    let stage = Stage::new();
    for (method, path, body, status, code) in [
        ("POST", "/v1/replays", r#"{"form":"x"}"#, 400, "bad-body"),
        ("POST", "/v1/replays", "[", 400, "bad-body"),
        ("POST", "/v1/replays/plan", r#"{"base":"newest"}"#, 400, "bad-body"),
        ("POST", "/v1/snapshots", r#"{"topic":"x"}"#, 400, "bad-body"),
        ("POST", "/v1/replays/3/cancel", r#"{"x":1}"#, 400, "bad-body"),
        ("POST", "/v1/replays/first/cancel", "", 400, "bad-path"),
        ("POST", "/v1/replays/3/forget", "", 404, "no-such-route"),
        ("GET", "/v1/replays/-1", "", 400, "bad-path"),
        ("GET", "/v1/replays/9", "", 404, "no-such-job"),
        ("GET", "/v1/replays?limit=3", "", 400, "unknown-parameter"),
        ("GET", "/v1/replays/3/cancel", "", 405, "wrong-method"),
        ("DELETE", "/v1/snapshots/x", "", 400, "bad-path"),
        ("GET", "/v1/changes/account?from=x", "", 400, "bad-query"),
        ("GET", "/v1/changes/nope?from=x&to=y", "", 404, "no-such-view"),
        ("GET", "/v1/explain/nope/a", "", 404, "no-such-view"),
        ("GET", "/v1/explain/account/a?limit=0", "", 400, "bad-query"),
        ("GET", "/v1/explain/account/a?limit=10001", "", 400, "bad-query"),
        ("GET", "/v1/views/nope/a?at=x", "", 404, "no-such-view"),
        ("GET", "/v1/views/account/a?at=x&at-least=bank@0:1", "", 400, "bad-query"),
        ("GET", "/v1/views/account/a?at=x&job=latest", "", 400, "bad-query"),
        ("GET", "/v1/views/account/a?job=x", "", 400, "bad-path"),
    ] {
        let (found, answer) = stage.ask(method, path, body).await;
        assert_eq!((found, &answer["error"]["code"]), (status, &json!(code)), "{method} {path} {body}: {answer}");
        assert_eq!(stage.asked(), Vec::<String>::new(), "{method} {path}");
    }
}
