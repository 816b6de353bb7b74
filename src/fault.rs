//! Whose turn it is when something fails.

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The configuration or the request.
    User,
    /// The network, the broker, the disk.
    Environment,
    /// Segno itself.
    Internal,
}
