//! Views declared in the configuration: each field of a row is what a CEL expression says.
//!
//! [`Declared::compile`] turns a [`ViewSpec`] into a [`Definition`](super::Definition), or says what is wrong with it
//! and where. In an expression, `state` is the row before the event and `event` the event: `event.payload.…`,
//! `event.type`, `.id`, `.version`, `.timestamp`, `.key`, `.offset`, `.partition`, `.topic` and `event.metadata.…`.
//! All assignments for one event see the same old row and take effect together, or not at all.
//!
//! The reading order: `spec` (what a declaration is), `datum` and `json` (values), `payload` and `frame` (what an
//! expression sees), `functions` and `types` (the language), `compile`, `constants`
//! and `evaluate`, `view`.

mod compile;
mod constants;
mod datum;
mod evaluate;
mod frame;
mod functions;
mod json;
mod names;
mod payload;
mod places;
mod rule;
mod spec;
mod syntax;
mod text;
mod types;
mod view;

pub use spec::{GuardSpec, Literal, Located, Quoted, SpecError, ViewSpec};
pub use view::Declared;

#[cfg(test)]
mod tests;
