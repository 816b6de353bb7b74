//! The law *Pure*: folding twice, or with stays in the store in between, gives the same bytes. For views in Rust and
//! for declared ones, over random events, good and bad, that go the whole way from record to row.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::bank::{Account, declared};
use proptest::prelude::*;
use segno::config::{self, Sources};
use segno::event::EventMeta;
use segno::moment::Moment;
use segno::position::{Offset, PartitionId, Timestamp};
use segno::record::RecordRef;
use segno::streams::decode::{DecodeOptions, Decoder, Format};
use segno::views::cel::{Declared, Literal, Located, ViewSpec};
use segno::views::{Definition, Reject, Row, RustView, View, from_text, is_rust};
use serde::{Deserialize, Serialize};

/// A state with everything that is hard to write and read again.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Sensor {
    mean: f64,
    extremes: Option<(f64, f64)>,
    by_label: BTreeMap<String, f64>,
    last: Option<i64>,
}

#[derive(Deserialize)]
enum Measured {
    Reading { value: f64, label: Option<String> },
    Reset,
}

impl View for Sensor {
    const NAME: &'static str = "sensor";
    const VERSION: u32 = 1;
    type Event = Measured;

    fn apply(&mut self, event: &Measured, meta: &EventMeta<'_>) -> Result<(), Reject> {
        match event {
            Measured::Reading { value, label } => {
                self.mean = self.mean * 0.9 + value * 0.1;
                let (low, high) = self.extremes.unwrap_or((*value, *value));
                self.extremes = Some((low.min(*value), high.max(*value)));
                if let Some(label) = label {
                    *self.by_label.entry(label.clone()).or_default() += value;
                }
                self.last = Some(meta.timestamp.0);
            }
            Measured::Reset => *self = Sensor::default(),
        }
        Ok(())
    }
}

/// The same kind of state, declared.
fn declared_sensor() -> ViewSpec {
    let set = |field: &str, text: &str| (field.to_owned(), Located { text: text.to_owned(), line: 1, column: 1 });
    let reading = [
        set("mean", "state.mean * 0.9 + double(event.payload.value) * 0.1"),
        set("high", "math.greatest(state.high, double(event.payload.value))"),
        set("recent", "([event.payload] + state.recent).slice(0, math.least(3, size(state.recent) + 1))"),
        set(
            "labels",
            "has(event.payload.label) ? {'label': event.payload.label, 'at': event.timestamp} : state.labels",
        ),
        set("keys", "event.payload.map(key, key)"),
        set("last", "event.timestamp"),
        set("any", "has(event.payload.label) ? event.payload.label : event.payload.value"),
    ];
    let initial = [
        ("mean", Literal::Float(0.0)),
        ("high", Literal::Float(0.0)),
        ("recent", Literal::List(vec![])),
        ("labels", Literal::Map(BTreeMap::new())),
        ("keys", Literal::List(vec![])),
        ("last", Literal::Time(Moment::EPOCH)),
        ("any", Literal::Null),
    ];
    ViewSpec {
        name: "sensor".into(),
        initial: initial.map(|(name, literal)| (name.to_owned(), literal)).into(),
        on: BTreeMap::from([("Reading".into(), BTreeMap::from(reading)), ("Reset".into(), BTreeMap::new())]),
        reject_when: Vec::new(),
        ..declared()
    }
}

fn views() -> Vec<Arc<dyn Definition>> {
    let compiled = |spec: ViewSpec| Declared::compile(&spec).unwrap_or_else(|error| panic!("{error}"));
    vec![
        Arc::new(RustView::<Account>::new()),
        Arc::new(compiled(common::bank::declared())),
        Arc::new(RustView::<Sensor>::new()),
        Arc::new(compiled(declared_sensor())),
    ]
}

/// The declared views of every example.
fn examples() -> Vec<Arc<dyn Definition>> {
    let mut views: Vec<Arc<dyn Definition>> = Vec::new();
    for example in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = example.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let loaded = config::load(&Sources { file: Some(path), ..Sources::default() }).unwrap();
            for spec in loaded.config.topics.iter().flat_map(|topic| &topic.views) {
                views.push(Arc::new(Declared::compile(spec).unwrap_or_else(|error| panic!("{error}"))));
            }
        }
    }
    assert!(!views.is_empty());
    views
}

/// Values of records: envelopes of all types with payloads that fit, nearly fit, or do not.
fn values() -> impl Strategy<Value = Vec<String>> {
    let number = prop_oneof![
        (-1000i64..100_000).prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| serde_json::to_string(&n).unwrap()),
        Just("1e400".to_owned()),
        Just("92233720368547758070".to_owned()),
        Just("\"5\"".to_owned()),
        Just("null".to_owned()),
    ];
    let text = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
    let payload = (number, text, any::<u8>()).prop_map(|(number, text, shape)| match shape % 8 {
        0..3 => format!(r#"{{"amount":{number},"value":{number},"owner":{text}}}"#),
        3..5 => format!(r#"{{"owner":{text},"value":{number},"label":{text},"amount":7}}"#),
        5 => format!(r#"{{"z":{{"b":{number},"a":[{text}]}},"label":{text},"value":1.5,"amount":1}}"#),
        6 => format!(r#"{{"value":1,"value":2,"amount":{number},"amount":1,"owner":{text}}}"#),
        _ => "null".to_owned(),
    });
    let types =
        ["AccountOpened", "MoneyDeposited", "MoneyDeposited", "MoneyWithdrawn", "Reading", "Reading", "Reset", "X"];
    let value = (proptest::sample::select(types.to_vec()), 0i64..4_000_000_000_000, payload).prop_map(
        |(name, time, payload)| format!(r#"{{"event_type":"{name}","timestamp":{time},"payload":{payload}}}"#),
    );
    proptest::collection::vec(value, 0..40)
}

fn encoded(row: &dyn Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    bytes
}

/// Folds the values as a shard does, with a stay in the store before each event that `stored` names.
fn fold(view: &dyn Definition, values: &[String], stored: impl Fn(usize) -> bool) -> (Vec<u8>, Vec<String>) {
    let decoder = Decoder::new(DecodeOptions { format: Format::Json, max_key_bytes: 64 });
    let mut row = view.initial();
    let mut outcomes = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if stored(index) {
            row = view.decode(&encoded(row.as_ref())).unwrap_or_else(|error| panic!("{error}"));
        }
        let at = Offset(index as u64);
        let record = RecordRef::from_parts(at, Timestamp(1), Some(b"key"), Some(value.as_bytes()), b"");
        let event = decoder.decode(("topic", PartitionId(0)), record).unwrap();
        let before = encoded(row.as_ref());
        let checkpoint = row.checkpoint();
        let outcome = row.apply(&event);
        if outcome.is_err() {
            match checkpoint {
                Some(checkpoint) => row = checkpoint,
                None => assert_eq!(encoded(row.as_ref()), before, "a row without checkpoints is never torn"),
            }
            assert_eq!(encoded(row.as_ref()), before);
        }
        outcomes.push(format!("{outcome:?}"));
    }
    (encoded(row.as_ref()), outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn pure_folding_twice_gives_the_same_bytes(values in values()) {
        for (one, two) in views().iter().zip(views()) {
            prop_assert_eq!(fold(one.as_ref(), &values, |_| false), fold(two.as_ref(), &values, |_| false));
        }
    }

    #[test]
    fn pure_a_stay_in_the_store_changes_nothing(values in values(), every in 1usize..6) {
        for view in views() {
            let resident = fold(view.as_ref(), &values, |_| false);
            let stored = fold(view.as_ref(), &values, |index| index % every == 0);
            prop_assert_eq!(&stored, &resident, "{}", view.text());
            let row = view.decode(&resident.0).unwrap();
            prop_assert_eq!(encoded(row.as_ref()), resident.0);
        }
    }

    #[test]
    fn pure_a_declared_view_goes_on_under_its_stored_text(values in values(), every in 1usize..6) {
        let declared = views().into_iter().filter(|view| !is_rust(&view.text())).chain(examples());
        for view in declared {
            let read = from_text(&view.text()).unwrap_or_else(|why| panic!("{why}"));
            prop_assert_eq!(read.text(), view.text());
            let under_its_text = fold(read.as_ref(), &values, |index| index % every == 0);
            prop_assert_eq!(under_its_text, fold(view.as_ref(), &values, |_| false), "{}", view.text());
        }
    }

    /// Where no key is given twice: serde steps over keys that a type does not have, a declared view minds them.
    #[test]
    fn pure_a_view_in_rust_and_its_declaration_agree(values in values()) {
        let all = views();
        let fits = |value: &&String| !value.contains(r#""value":1,"value""#);
        let values: Vec<_> = values.iter().filter(fits).cloned().collect();
        let json = |view: &Arc<dyn Definition>| -> serde_json::Value {
            serde_json::from_slice(&fold(view.as_ref(), &values, |_| false).0).unwrap()
        };
        prop_assert_eq!(json(&all[0]), json(&all[1]));
    }
}
