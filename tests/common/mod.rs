//! What integration tests share.

pub mod broker;
