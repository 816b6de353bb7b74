//! Where the log and the store meet: the flow from records to rows, and the handle through which the faces see it.

pub mod handle;
pub mod plan;
