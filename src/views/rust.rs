//! Views written in Rust as the flow sees them: [`RustView`] makes a [`Definition`] of any [`View`].

use std::any::type_name;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::stored::RUST;
use super::{Applied, Definition, Failure, Reject, Row, View};
use crate::event::Event;

mod storable;
mod typed;

/// A state of up to so many bytes that owns no memory is copied before each event.
const PLAIN_BYTES: usize = 128;

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
        Box::new(RustRow { state: Guarded::new(V::default()), encoded: Cell::new(0) })
    }

    fn decode(&self, json: &[u8]) -> Result<Box<dyn Row>, String> {
        let state: V = serde_json::from_slice(json)
            .map_err(|error| format!("the stored row is not a `{}`: {error}", type_name::<V>()))?;
        Ok(Box::new(RustRow { state: Guarded::new(state), encoded: Cell::new(json.len()) }))
    }
}

/// A value of a user's type, whose end may panic. Rows end where no event is being folded, in the middle of others, or in
/// the wake of a panic, where a second one would end the process: so the panic is caught here. It has been reported by
/// then, as every panic is.
#[derive(Clone)]
struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    fn new(value: T) -> Self {
        Guarded(Some(value))
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // Proven: only `drop` takes the value.
        self.0.as_ref().expect("a value until its end")
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        // Proven: only `drop` takes the value.
        self.0.as_mut().expect("a value until its end")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() {
            let value = self.0.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
        }
    }
}

#[derive(Clone)]
struct RustRow<V> {
    state: Guarded<V>,
    /// Length of the JSON when the row was last written or read: the best cheap guess at what the state owns.
    encoded: Cell<usize>,
}

impl<V> RustRow<V> {
    /// Whether a copy of the state is a few words and no allocation. Then each `apply` takes one, on the stack, which is
    /// cheaper than a checkpoint that the caller takes once a batch.
    const PLAIN: bool = !std::mem::needs_drop::<V>() && size_of::<V>() <= PLAIN_BYTES;
}

/// A plain state with what it was before the event, which it is again unless the event has been folded: after a panic
/// too.
struct Kept<'a, V> {
    state: &'a mut V,
    before: V,
    folded: bool,
}

impl<V> Drop for Kept<'_, V> {
    fn drop(&mut self) {
        if !self.folded {
            std::mem::swap(self.state, &mut self.before);
        }
    }
}

/// Applies the event to the state, which is torn after an error or a panic.
fn fold<V: View>(state: &mut V, event: &Event<'_>) -> Result<Applied, Failure> {
    let typed: Guarded<V::Event> = Guarded::new(typed::decode(&event.meta.event_type, event.payload)?);
    state.apply(&typed, &event.meta).map_err(|reject| match reject {
        Reject::Permanent(reason) => Failure::Rejected(reason),
        Reject::Transient(reason) => Failure::Transient(reason),
    })?;
    storable::check(state)
        .map_err(|error| Failure::Rejected(format!("the row could not be stored after it: {error}")))?;
    Ok(Applied::Folded)
}

impl<V: View> Row for RustRow<V> {
    fn apply(&mut self, event: &Event<'_>) -> Result<Applied, Failure> {
        let meta = &event.meta;
        if meta.event_version > V::MAX_EVENT_VERSION {
            return Err(Failure::TooNew { found: meta.event_version, known: V::MAX_EVENT_VERSION });
        }
        if !Self::PLAIN {
            return fold(&mut *self.state, event);
        }
        let mut kept = Kept { before: V::clone(&self.state), state: &mut *self.state, folded: false };
        let applied = fold(kept.state, event)?;
        kept.folded = true;
        Ok(applied)
    }

    /// None for a plain state: `apply` puts it back itself.
    fn checkpoint(&self) -> Option<Box<dyn Row>> {
        (!Self::PLAIN).then(|| self.copy())
    }

    fn copy(&self) -> Box<dyn Row> {
        Box::new(self.clone())
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        if let Err(error) = serde_json::to_writer(&mut *into, &*self.state) {
            // `storable::check` ran this very `Serialize` after the last event; an error here is one that depends on
            // something else than the state, which a view must not do. The panic is that view's own.
            panic!("view `{}`: its row can no longer be written as JSON: {error}", V::NAME);
        }
        self.encoded.set(into.len() - start);
    }

    fn footprint(&self) -> usize {
        size_of::<Self>() + self.encoded.get()
    }

    fn fetch(&self) {
        std::hint::black_box(self.encoded.get());
    }
}

#[cfg(test)]
mod tests;
