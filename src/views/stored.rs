//! Definitions as generations know them: by their text.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cel::Declared;
use super::{Definition, Row};

/// What the text of a view in Rust begins with; its code is not in it.
pub(super) const RUST: &str = "rust:";

/// Whether a text is of a view in Rust.
pub fn is_rust(text: &str) -> bool {
    text.starts_with(RUST)
}

/// The view that [`Definition::text`] gave this text of. Of a view in Rust the text has no more than the type's name: the
/// error names it and says how to bring the code.
pub fn from_text(text: &str) -> Result<Arc<dyn Definition>, String> {
    declared(text).map(|view| Arc::new(view) as Arc<dyn Definition>)
}

/// The views of one topic, each from its text. As in a configuration, an event type that one declared view of the topic
/// names is no unknown type to the others.
pub fn from_texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Vec<Result<Arc<dyn Definition>, String>> {
    let views: Vec<_> = texts.into_iter().map(declared).collect();
    let types: BTreeSet<String> =
        views.iter().flatten().flat_map(|view| view.event_types().map(str::to_owned)).collect();
    let together = |view: Declared| Arc::new(view.with_topic_types(&types)) as Arc<dyn Definition>;
    views.into_iter().map(|view| view.map(together)).collect()
}

fn declared(text: &str) -> Result<Declared, String> {
    match text.strip_prefix(RUST) {
        Some(name) => Err(format!(
            "its definition is the Rust type `{name}`, whose code is not stored: keep the code of that version, in \
             whatever type V, and register it on the topic with `.previous::<V>()`"
        )),
        None => Declared::from_text(text).map_err(|why| format!("its stored definition cannot be used: {why}")),
    }
}

/// Code that somebody has registered as the one that a stored text stands for, whatever its type is called today.
pub struct Registered {
    pub code: Arc<dyn Definition>,
    pub text: String,
}

impl Definition for Registered {
    fn name(&self) -> &str {
        self.code.name()
    }

    fn version(&self) -> u32 {
        self.code.version()
    }

    fn text(&self) -> String {
        self.text.clone()
    }

    fn initial(&self) -> Box<dyn Row> {
        self.code.initial()
    }

    fn decode(&self, json: &[u8]) -> Result<Box<dyn Row>, String> {
        self.code.decode(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, on: &str) -> String {
        format!(
            r#"{{"name":"{name}","version":1,"initial":{{"n":0}},"types":{{"n":"int"}},"on":{{"{on}":{{"n":"state.n+1"}}}},"ignore":[],"reject_when":[]}}"#
        )
    }

    #[test]
    fn the_text_of_a_view_in_rust_says_what_to_do() {
        let why = from_text("rust:bank::Account").err().unwrap();
        assert!(why.contains("`bank::Account`") && why.contains("`.previous::<V>()`"), "{why}");
        assert!(is_rust("rust:x") && !is_rust(&text("a", "A")));
    }

    #[test]
    fn a_text_that_is_none_is_refused() {
        for bad in ["", "{}", "null", &text("a", "A").replace("\"ignore\"", "\"newer\":1,\"ignore\""), &text("A", "A")]
        {
            assert!(from_text(bad).err().unwrap().contains("cannot be used"), "{bad}");
        }
        for (from, to) in [("\"int\"", "\"text\""), (":0}", ":18446744073709551615}"), ("state.n+1", "state.x+1")] {
            let bad = text("a", "A").replace(from, to);
            assert!(from_text(&bad).is_err(), "{bad}");
        }
        assert_eq!(from_text(&text("a", "A")).unwrap().text(), text("a", "A"));
    }

    #[test]
    fn views_of_one_topic_know_each_others_types() {
        let (a, b) = (text("a", "A"), text("b", "B"));
        let ignores = |view: &Arc<dyn Definition>, event_type: &str| {
            let (payload, mut row) = (b"{}", view.initial());
            let meta = crate::event::EventMeta {
                topic: "t",
                partition: crate::position::PartitionId(0),
                offset: crate::position::Offset(0),
                record_timestamp: crate::position::Timestamp(0),
                key: b"k",
                event_id: None,
                event_type: event_type.into(),
                event_version: 1,
                timestamp: crate::position::Timestamp(0),
                correlation_id: None,
                causation_id: None,
                user_id: None,
            };
            row.apply(&crate::event::Event { meta, payload })
        };
        let views = from_texts([a.as_str(), "rust:x::Y", b.as_str()]);
        assert!(views[1].is_err());
        let view = views[0].as_ref().unwrap();
        assert_eq!(ignores(view, "B"), Ok(super::super::Applied::Ignored));
        assert!(ignores(view, "C").is_err());
        assert!(ignores(&from_text(&a).unwrap(), "B").is_err(), "alone it does not know it");
    }
}
