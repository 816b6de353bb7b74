//! The notice board of a partition: what its shards and writer have to tell it.
//!
//! Messages flow one way, from the partition down; what comes back is a value that the partition looks at when it
//! wakes, never a mailbox, so that no cycle of actors can fill up or deadlock.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::plan::Fatal;
use crate::position::Offset;

/// One view of one aggregate: what can be held and set apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Number of the view among the topic's.
    pub view: usize,
    pub key: Box<[u8]>,
}

/// What can be on the board.
#[derive(Debug)]
pub enum Notice {
    /// Events of this cell are stored as waiting: give it a shard of its own. Posted after the commit.
    Waiting(Cell),
    /// The cell's own shard has applied and committed everything up to and including `through`; `None`: there was nothing.
    Drained { cell: Cell, through: Option<Offset> },
    /// The cell's own shard gave up: its events are parked.
    Parked(Cell),
    /// The cell's home shard let it back in.
    Released(Cell),
    /// The cell's home shard has queued more events behind it in the meantime.
    StillHeld(Cell),
    /// The partition cannot go on.
    Fatal(Fatal),
}

/// The notices that the partition has not read yet.
#[derive(Debug, Default)]
pub struct Board {
    notices: Mutex<Vec<Notice>>,
    wake: Arc<Notify>,
}

impl Board {
    pub fn post(&self, notice: Notice) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
        self.wake.notify_one();
    }

    pub fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notified after each post.
    pub fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }
}
