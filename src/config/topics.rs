//! `[[topics]]`: a topic, how its records become events, and what happens to those that do not.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::read::{Section, count, size, text};
use super::tree::Place;
use super::views;
use crate::actors::plan::{Decision, History, Policy};
use crate::actors::progress::VIEWS_MAX;
use crate::streams::decode::{DecodeOptions, Format};
use crate::views::cel::ViewSpec;

/// Only the embedded log makes topics.
pub const MOST_PARTITIONS: u64 = crate::streams::embedded::MAX_PARTITIONS as u64;

/// One topic as declared.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    /// Embedded log only: what the topic is created with.
    pub partitions: Option<u32>,
    /// Embedded log only.
    pub timestamps: Timestamps,
    pub decoder: DecodeOptions,
    pub policy: Policy,
    pub history: History,
    pub views: Vec<ViewSpec>,
}

/// Whose clock a record's timestamp is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// The record's own.
    #[default]
    Create,
    /// The log's, at the append.
    Append,
}

impl Topic {
    /// A topic with the defaults and without a view.
    pub fn named(name: impl Into<String>) -> Self {
        Topic {
            name: name.into(),
            partitions: None,
            timestamps: Timestamps::default(),
            decoder: DecodeOptions { format: Format::Json, max_key_bytes: DEFAULT_MAX_KEY_SIZE },
            policy: Policy::default(),
            history: History::default(),
            views: Vec::new(),
        }
    }
}

const DEFAULT_MAX_KEY_SIZE: usize = 16 << 10;

/// RocksDB's own bound is higher; a key beyond this is no name of anything.
const LARGEST_KEY: u64 = 1 << 20;

/// Reads all topics; a name that is used twice is reported at its second place.
pub(super) fn read(root: &Section<'_>) -> Vec<Topic> {
    let mut topics = Vec::new();
    let mut topic_names: BTreeMap<String, Place> = BTreeMap::new();
    let mut view_names: BTreeMap<String, Place> = BTreeMap::new();
    for section in root.sections("topics") {
        let at = section.place("name");
        let topic = topic(section, &mut view_names);
        if let Some(first) = topic_names.get(&topic.name) {
            let message = format!("topic `{}` is declared twice, first at {first}", topic.name);
            root.report(Problem::at(at, message).next("put its views under one [[topics]]"));
        } else {
            topic_names.insert(topic.name.clone(), at);
            topics.push(topic);
        }
    }
    topics
}

fn topic(s: Section<'_>, view_names: &mut BTreeMap<String, Place>) -> Topic {
    let name = s.required("name", |value, context| {
        let name = text(value, context)?;
        if is_topic_name(&name) {
            Ok(name)
        } else {
            Err(format!("expected 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`, found {name:?}"))
        }
    });
    let timestamps = [("create", Timestamps::Create), ("append", Timestamps::Append)];
    let histories = [("complete", History::Complete), ("retained", History::Retained)];
    let (max_key_size, policy) = policy(s.section("policy"));
    let views = s.sections("views");
    if let Some(one_more) = views.get(VIEWS_MAX) {
        let message = format!("topic `{name}` has {} views, at most {VIEWS_MAX} are possible", views.len());
        let next = "leave some out, or declare them in a second program with a data directory of its own";
        s.report(Problem::at(one_more.place("name"), message).next(next));
    }
    let topic = Topic {
        name,
        partitions: s.optional("partitions", count(MOST_PARTITIONS)).map(|n| n as u32),
        timestamps: s.choice("timestamps", &timestamps).unwrap_or_default(),
        decoder: DecodeOptions { format: envelope(s.section("envelope")), max_key_bytes: max_key_size },
        policy,
        history: s.choice("history", &histories).unwrap_or_default(),
        views: views.into_iter().filter_map(|view| views::read(view, view_names)).collect(),
    };
    s.finish();
    topic
}

/// Kafka's rule for topic names.
pub fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.bytes().all(legal)
}

fn envelope(s: Section<'_>) -> Format {
    let raw = s.choice("format", &[("json", false), ("raw", true)]).unwrap_or_default();
    let [type_header, type_field, default_type] =
        ["type-header", "type-field", "default-type"].map(|key| s.optional(key, text));
    let named = type_header.is_some() || type_field.is_some() || default_type.is_some();
    if raw && !named {
        let next = "add type-header, type-field or default-type";
        s.report(Problem::at(s.place("format"), "a raw envelope does not say what type its events are of").next(next));
    }
    if !raw && named {
        let message = "type-header, type-field and default-type belong to format = \"raw\"";
        s.report(Problem::at(s.at.clone(), message).next("set format = \"raw\", or leave them out"));
    }
    s.finish();
    if raw { Format::Raw { type_header, type_field, default_type } } else { Format::Json }
}

const DEAD_LETTER: (&str, Decision) = ("dead-letter", Decision::DeadLetter);
const SKIP: (&str, Decision) = ("skip", Decision::Skip);
const HALT: (&str, Decision) = ("halt", Decision::Halt);
const DELETE: (&str, Decision) = ("delete", Decision::Delete);
const PARK: (&str, Decision) = ("park", Decision::Park);

fn policy(s: Section<'_>) -> (usize, Policy) {
    let default = Policy::default();
    let no_event = |key| s.choice(key, &[DEAD_LETTER, SKIP, HALT]).unwrap_or(Decision::DeadLetter);
    let not_applied = |key| s.choice(key, &[PARK, DEAD_LETTER, SKIP, HALT]).unwrap_or(Decision::Park);
    let policy = Policy {
        null_key: no_event("null-key"),
        undecodable: no_event("undecodable"),
        unknown_type: no_event("unknown-type"),
        key_too_large: no_event("key-too-large"),
        null_value: s.choice("null-value", &[DEAD_LETTER, SKIP, DELETE, HALT]).unwrap_or(default.null_value),
        version_too_new: not_applied("version-too-new"),
        rejected: not_applied("rejected"),
    };
    let max_key_size = s.optional("max-key-size", |value, context| match size(value, context)? {
        bytes if bytes <= LARGEST_KEY => Ok(bytes as usize),
        bytes => Err(format!("expected at most \"1MiB\", found {bytes} bytes")),
    });
    s.finish();
    (max_key_size.unwrap_or(DEFAULT_MAX_KEY_SIZE), policy)
}
