//! Views written in Rust as the flow sees them: [`RustView`] makes a [`Definition`] of any [`View`].

use std::any::type_name;
use std::cell::Cell;
use std::marker::PhantomData;

use super::stored::RUST;
use super::{Applied, Definition, Failure, Reject, Row, View};
use crate::event::Event;

mod storable;
mod typed;

/// The [`Definition`] of the view `V`.
pub struct RustView<V> {
    view: PhantomData<fn() -> V>,
}

impl<V: View> RustView<V> {
    pub fn new() -> Self {
        RustView { view: PhantomData }
    }
}

impl<V: View> Default for RustView<V> {
    fn default() -> Self {
        RustView::new()
    }
}

impl<V: View> Definition for RustView<V> {
    fn name(&self) -> &str {
        V::NAME
    }

    fn version(&self) -> u32 {
        V::VERSION
    }

    fn text(&self) -> String {
        format!("{RUST}{}", type_name::<V>())
    }

    fn initial(&self) -> Box<dyn Row> {
        Box::new(RustRow { state: V::default(), encoded: Cell::new(0) })
    }

    fn decode(&self, json: &[u8]) -> Result<Box<dyn Row>, String> {
        let state: V = serde_json::from_slice(json)
            .map_err(|error| format!("the stored row is not a `{}`: {error}", type_name::<V>()))?;
        Ok(Box::new(RustRow { state, encoded: Cell::new(json.len()) }))
    }
}

#[derive(Clone)]
struct RustRow<V> {
    state: V,
    /// Length of the JSON when the row was last written or read: the best cheap guess at what the state owns.
    encoded: Cell<usize>,
}

impl<V: View> Row for RustRow<V> {
    fn apply(&mut self, event: &Event<'_>) -> Result<Applied, Failure> {
        let meta = &event.meta;
        if meta.event_version > V::MAX_EVENT_VERSION {
            return Err(Failure::TooNew { found: meta.event_version, known: V::MAX_EVENT_VERSION });
        }
        let typed: V::Event = typed::decode(&meta.event_type, event.payload)?;
        self.state.apply(&typed, meta).map_err(|reject| match reject {
            Reject::Permanent(reason) => Failure::Rejected(reason),
            Reject::Transient(reason) => Failure::Transient(reason),
        })?;
        storable::check(&self.state)
            .map_err(|error| Failure::Rejected(format!("the row could not be stored after it: {error}")))?;
        Ok(Applied::Folded)
    }

    fn checkpoint(&self) -> Option<Box<dyn Row>> {
        Some(self.copy())
    }

    fn copy(&self) -> Box<dyn Row> {
        Box::new(self.clone())
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        if let Err(error) = serde_json::to_writer(&mut *into, &self.state) {
            // `storable::check` ran this very `Serialize` after the last event; an error here is one that depends on
            // something else than the state, which a view must not do. The panic is that view's own.
            panic!("view `{}`: its row can no longer be written as JSON: {error}", V::NAME);
        }
        self.encoded.set(into.len() - start);
    }

    fn footprint(&self) -> usize {
        size_of::<Self>() + self.encoded.get()
    }
}

#[cfg(test)]
mod tests;
