//! The notice board of a partition: what its shards and writer have to tell it.
//!
//! Messages flow one way, from the partition down; what comes back is a value that the partition looks at when it
//! wakes, never a mailbox, so that no cycle of actors can fill up or deadlock.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::plan::Fatal;
use super::shard::Unwritable;
use crate::position::Offset;

/// One view of one aggregate: what can be held and set apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Number of the view among the topic's.
    pub view: usize,
    pub key: Box<[u8]>,
}

/// Which own shard: a cell may have one after the other, and what an earlier one has said counts no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnShard {
    pub cell: Cell,
    /// Unlike that of any other in the life of the partition.
    pub number: u64,
}

/// Who speaks for the partition's shards: what was said by one that was given up is not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A home shard of this incarnation.
    Home {
        incarnation: u64,
    },
    Own(OwnShard),
    /// No shard.
    Other,
}

/// What can be on the board.
#[derive(Debug)]
pub enum Notice {
    /// Events of this cell are stored as waiting: give it a shard of its own. Posted after the commit.
    Waiting(Cell),
    /// The own shard has applied and committed everything up to and including `through`; `None`: there was nothing. It
    /// rests until the wake-up number `turn`.
    Drained { own: OwnShard, turn: u64, through: Option<Offset> },
    /// The own shard gave up: the cell's events are parked. It rests until the wake-up number `turn`.
    Parked { own: OwnShard, turn: u64 },
    /// The cell's home shard let it back in, or has queued more events behind it in the meantime.
    Released { own: OwnShard, incarnation: u64, back: bool },
    /// By the writer: nothing of this own shard, which was given up, can be committed any more.
    Fenced(OwnShard),
    /// A home shard cannot hand over what it has folded, because of one row.
    Unwritable { incarnation: u64, row: Unwritable },
    /// The partition cannot go on.
    Fatal { by: Speaker, fatal: Fatal },
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
