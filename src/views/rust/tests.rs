use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;
use crate::event::EventMeta;
use crate::position::{Offset, PartitionId, Timestamp};

fn event<'a>(event_type: &'a str, event_version: u32, payload: &'a str) -> Event<'a> {
    let meta = EventMeta {
        topic: "bank",
        partition: PartitionId(0),
        offset: Offset(0),
        record_timestamp: Timestamp(0),
        key: b"k",
        event_id: None,
        event_type: Cow::Borrowed(event_type),
        event_version,
        timestamp: Timestamp(0),
        correlation_id: None,
        causation_id: None,
        user_id: None,
    };
    Event { meta, payload: payload.as_bytes() }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "eventType", content = "body")]
enum Adjacent {
    Opened {
        owner: String,
    },
    #[serde(rename = "money-deposited")]
    Deposited(Amount),
    Pair(i64, i64),
    Noted(Option<i64>),
    Closed,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Plain {
    Opened { owner: String },
    Deposited(Amount),
    Pair(i64, i64),
    Noted(Option<i64>),
    Closed,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Amount {
    amount: i64,
    #[serde(default)]
    rate: f64,
    #[serde(default)]
    inner: Option<Inner>,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Inner {
    Known,
}

fn amount(amount: i64) -> Amount {
    Amount { amount, rate: 0.0, inner: None }
}

#[test]
fn an_adjacently_tagged_enum_takes_type_and_payload() {
    let decode = |name: &str, payload: &str| typed::decode::<Adjacent>(name, payload.as_bytes());
    assert_eq!(decode("Opened", r#"{"owner":"a","x":[1]}"#), Ok(Adjacent::Opened { owner: "a".into() }));
    assert_eq!(decode("money-deposited", r#" {"amount":5} "#), Ok(Adjacent::Deposited(amount(5))));
    assert_eq!(decode("Pair", "[1,2]"), Ok(Adjacent::Pair(1, 2)));
    for (payload, noted) in [("null", None), ("3", Some(3))] {
        assert_eq!(decode("Noted", payload), Ok(Adjacent::Noted(noted)));
    }
    for payload in ["null", "{}", " { } "] {
        assert_eq!(decode("Closed", payload), Ok(Adjacent::Closed), "{payload}");
    }
}

#[test]
fn a_plain_enum_takes_type_and_payload() {
    let decode = |name: &str, payload: &str| typed::decode::<Plain>(name, payload.as_bytes());
    assert_eq!(decode("Opened", r#"{"owner":"a","x":[1]}"#), Ok(Plain::Opened { owner: "a".into() }));
    assert_eq!(decode("Deposited", r#"{"amount":5}"#), Ok(Plain::Deposited(amount(5))));
    assert_eq!(decode("Pair", "[1,2]"), Ok(Plain::Pair(1, 2)));
    assert_eq!(decode("Noted", "null"), Ok(Plain::Noted(None)));
    for payload in ["null", "{}"] {
        assert_eq!(decode("Closed", payload), Ok(Plain::Closed), "{payload}");
    }
}

#[test]
fn a_struct_or_a_json_value_takes_the_envelope() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Whole {
        payload: Amount,
        event_type: String,
    }
    let whole = typed::decode::<Whole>("A", br#"{"amount":1}"#).unwrap();
    assert_eq!(whole, Whole { payload: amount(1), event_type: "A".into() });
    let value = typed::decode::<serde_json::Value>("A", b"[1]").unwrap();
    assert_eq!(value, serde_json::json!({"event_type": "A", "payload": [1]}));
}

#[test]
fn an_unknown_type_is_not_a_bad_payload() {
    fn check<T: DeserializeOwnedDebug>() {
        let unknown = |result: Result<T, Failure>| matches!(result, Err(Failure::UnknownType(name)) if name == "Nope");
        assert!(unknown(typed::decode("Nope", br#"{"amount":5}"#)));
        assert!(unknown(typed::decode("Nope", b"{}")));
        let name = if T::RENAMED { "money-deposited" } else { "Deposited" };
        for payload in [
            r#"{"amount":"5"}"#,
            r#"{"amount":5.5}"#,
            r#"{"amount":1e400}"#,
            r#"{"amount":9223372036854775808}"#,
            r#"{"amount":18446744073709551616}"#,
            r#"{"amount":1,"rate":1e400}"#,
            r#"{"amount":1,"amount":2}"#,
            r#"{"amount":1,"inner":"Unheard"}"#,
            r#"{}"#,
            "null",
            "[]x",
            "{\"amount\":1} x",
            "",
        ] {
            let result = typed::decode::<T>(name, payload.as_bytes());
            assert!(matches!(result, Err(Failure::Undecodable(_))), "{payload}: {result:?}");
        }
    }
    check::<Adjacent>();
    check::<Plain>();
}

trait DeserializeOwnedDebug: serde::de::DeserializeOwned + std::fmt::Debug {
    const RENAMED: bool;
}
impl DeserializeOwnedDebug for Adjacent {
    const RENAMED: bool = true;
}
impl DeserializeOwnedDebug for Plain {
    const RENAMED: bool = false;
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Ratios {
    ratio: f64,
    by_pair: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
enum RatioEvent {
    Divided { by: f64 },
    Put { key: String, value: f64 },
    Wait,
}

impl View for Ratios {
    const NAME: &'static str = "ratios";
    const VERSION: u32 = 3;
    const MAX_EVENT_VERSION: u32 = 2;
    type Event = RatioEvent;

    fn apply(&mut self, event: &RatioEvent, _: &EventMeta<'_>) -> Result<(), Reject> {
        match event {
            RatioEvent::Divided { by } => self.ratio = 1.0 / by,
            RatioEvent::Put { key, value } => {
                self.by_pair.insert(key.clone(), *value);
            }
            RatioEvent::Wait => return Err(Reject::try_again("not yet")),
        }
        Ok(())
    }
}

fn encoded(row: &dyn Row) -> String {
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_row_is_applied_encoded_and_decoded() {
    let view = RustView::<Ratios>::new();
    assert_eq!((view.name(), view.version()), ("ratios", 3));
    assert!(view.text().starts_with("rust:segno::views::rust::tests::Ratios"));
    let mut row = view.initial();
    assert_eq!(row.apply(&event("Divided", 1, r#"{"by":3.0}"#)), Ok(Applied::Folded));
    let before = row.footprint();
    let json = encoded(row.as_ref());
    assert!(row.footprint() == before + json.len());
    assert_eq!(encoded(view.decode(json.as_bytes()).unwrap().as_ref()), json);
    assert!(view.decode(b"{\"ratio\":\"x\"}").err().unwrap().contains("Ratios"));
}

#[test]
fn failures_keep_their_class() {
    let view = RustView::<Ratios>::new();
    let mut row = view.initial();
    let good = encoded(row.as_ref());
    assert_eq!(row.apply(&event("Divided", 3, "{}")), Err(Failure::TooNew { found: 3, known: 2 }));
    assert_eq!(row.apply(&event("Nope", 1, "{}")), Err(Failure::UnknownType("Nope".into())));
    assert_eq!(row.apply(&event("Wait", 1, "null")), Err(Failure::Transient("not yet".into())));
    let checkpoint = row.checkpoint().unwrap();
    let result = row.apply(&event("Divided", 1, r#"{"by":0.0}"#));
    assert!(matches!(&result, Err(Failure::Rejected(reason)) if reason.contains("inf")), "{result:?}");
    assert_eq!(encoded(checkpoint.as_ref()), good, "the caller goes back to this");
    assert_eq!(checkpoint.copy().footprint(), checkpoint.footprint());
}

/// Torn by whatever fails: it changes first and looks then.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Tally {
    sum: i64,
    ratio: f64,
}

#[derive(Deserialize)]
struct Added {
    by: i64,
}

#[derive(Deserialize)]
enum TallyEvent {
    Added(Added),
}

impl View for Tally {
    const NAME: &'static str = "tally";
    const VERSION: u32 = 1;
    type Event = TallyEvent;

    fn apply(&mut self, event: &TallyEvent, _: &EventMeta<'_>) -> Result<(), Reject> {
        let TallyEvent::Added(Added { by }) = event;
        self.sum += by;
        match by {
            1 => return Err(Reject::because("not one")),
            2 => panic!("not two"),
            3 => self.ratio = f64::INFINITY,
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_plain_state_is_what_it_was_after_a_failure_and_after_a_panic() {
    let mut row = RustView::<Tally>::new().initial();
    let mut add = |by: i64| {
        let payload = format!(r#"{{"by":{by}}}"#);
        let applied =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| row.apply(&event("Added", 1, &payload))));
        (applied, encoded(row.as_ref()), row.checkpoint().is_none())
    };
    let good = r#"{"sum":10,"ratio":0.0}"#.to_owned();
    assert!(matches!(add(10), (Ok(Ok(Applied::Folded)), row, true) if row == good));
    assert!(matches!(add(1), (Ok(Err(Failure::Rejected(_))), row, true) if row == good));
    assert!(matches!(add(2), (Err(_), row, true) if row == good));
    assert!(matches!(add(3), (Ok(Err(Failure::Rejected(_))), row, true) if row == good));
}

/// Ends with a panic, as do its events.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Loud {
    ends: u64,
}

#[derive(Deserialize)]
struct Ended {
    payload: u64,
}

impl Drop for Loud {
    fn drop(&mut self) {
        panic!("a state that does not want to go");
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        panic!("an event that does not want to go");
    }
}

impl View for Loud {
    const NAME: &'static str = "loud";
    const VERSION: u32 = 1;
    type Event = Ended;

    fn apply(&mut self, event: &Ended, _: &EventMeta<'_>) -> Result<(), Reject> {
        self.ends += event.payload;
        match event.payload {
            7 => panic!("and not even that"),
            8 => Err(Reject::because("no")),
            _ => Ok(()),
        }
    }
}

/// In the wake of another panic it would end the process, and with it this test.
#[test]
fn a_state_or_an_event_whose_end_panics_harms_nothing_else() {
    let view = RustView::<Loud>::new();
    let mut row = view.initial();
    let mut apply = |payload: &str| {
        let event = event("Any", 1, payload);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| row.apply(&event)))
    };
    assert!(matches!(apply("2"), Ok(Ok(Applied::Folded))));
    assert!(matches!(apply("8"), Ok(Err(Failure::Rejected(_)))));
    assert!(matches!(apply("7"), Err(panic) if panic.downcast_ref() == Some(&"and not even that")));
    let copy = row.checkpoint().unwrap();
    assert_eq!(encoded(copy.as_ref()), r#"{"ends":17}"#);
    let read = view.decode(br#"{"ends":3}"#).unwrap();
    drop(row);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _dropped_on_the_way = (copy, read);
        panic!("the first");
    }));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"the first"));
}

#[test]
fn what_json_cannot_hold_is_found() {
    assert!(storable::check(&serde_json::json!({"a": [1, {"b": null}]})).is_ok());
    assert!(storable::check(&BTreeMap::from([(1u8, Some((1, "x", 'c')))])).is_ok());
    assert!(storable::check(&BTreeMap::from([((1, 2), 3)])).is_err());
    assert!(storable::check(&vec![Some(f32::NAN)]).is_err());
    assert!(storable::check(&BTreeMap::from([("a", Ok::<f64, ()>(f64::NEG_INFINITY))])).is_err());
}
