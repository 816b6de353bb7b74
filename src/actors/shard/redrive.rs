//! Applies the waiting events of one cell, in order, with retries: what a shard does that serves a single cell.
//!
//! It reads them from the store, where they are durable, and each step's rows and removals are one commit, so that a
//! crash leaves each event either waiting or applied. Nothing newer overtakes them: the cell's home shard queues what
//! comes behind them until [`Shard::release`](super::core::Shard::release) lets the cell back in.

use std::sync::Arc;
use std::time::Duration;

use super::Setting;
use super::activate::{load_slot, store_failed};
use super::aside::{halt, shorten};
use super::collect::hand_over;
use super::core::reason_of;
use crate::actors::aggregate::{Copies, Outcome, Slot};
use crate::actors::board::Cell;
use crate::actors::plan::{Decision, Fatal};
use crate::actors::progress::Progress;
use crate::actors::retry::Retry;
use crate::event::Undecodable;
use crate::position::Offset;
use crate::record::RecordRef;
use crate::state::{Delta, Held, HeldChange, Reason, Standing};
use crate::views::guard::Panicked;

/// Waiting events that one step applies at most: a step is one commit.
const STEP: usize = 256;

/// What a step leads to, once its delta is committed.
#[derive(Debug)]
pub enum Next {
    /// There may be more: take another step.
    More,
    /// Nothing waits any more; the last event that this redrive has seen off, if there was one.
    Drained(Option<Offset>),
    /// The event at the head failed; try it again after the wait.
    After(Duration),
    /// The attempts are used up, or the event was rejected: the cell is parked.
    Parked,
}

/// A cell that is served apart.
pub struct Redrive {
    setting: Arc<Setting>,
    progress: Arc<Progress>,
    cell: Cell,
    retry: Retry,
    /// The event for which the waits grow: they begin anew with each.
    retrying: Option<Offset>,
    through: Option<Offset>,
    /// How the attempt ended that was made before this redrive.
    setback: Option<Setback>,
    /// Parking was decided; what is still marked as waiting is to be marked as parked.
    parking: bool,
    /// One event a step: a row could not be written, and it is to be found after which event.
    singly: bool,
}

/// How an attempt ended without an answer. It counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The fold of this event did not come back.
    Overran(Offset),
    /// The shard was lost with whatever event was first.
    Lost,
}

/// What came of one waiting event.
enum Verdict {
    Done,
    /// Folded again later; everything behind it waits too.
    Retry(Held, Duration),
    Park(Held),
}

impl Redrive {
    pub fn new(setting: Arc<Setting>, progress: Arc<Progress>, cell: Cell, setback: Option<Setback>) -> Self {
        let retry = Retry::new(&setting.retry);
        let (retrying, through) = (None, None);
        Redrive { setting, progress, cell, retry, retrying, through, setback, parking: false, singly: false }
    }

    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Applies the next waiting events, up to the first that fails.
    pub fn step(&mut self) -> Result<(Delta, Next), Fatal> {
        let setting = self.setting.clone();
        let (view, tag) = (self.cell.view, setting.tags[self.cell.view]);
        let failed = |error| store_failed(&setting.at, &error);
        let mut delta = Delta::new(setting.definitions.len());
        let through = self.through;
        let from = through.map_or(Offset(0), |offset| Offset(offset.0 + 1));
        let most = if self.singly { 1 } else { STEP };
        // Read before the store is looked at: of what lies below, all that the cell has ever held is in the store.
        let applied = setting.generation.applied();
        let waiting = setting.generation.held_of(tag, &self.cell.key, from, most).map_err(failed)?;
        if waiting.is_empty() {
            // Or it was applied by a shard that did not live to tell.
            self.through = self.through.max(applied.0.checked_sub(1).map(Offset));
            return Ok((delta, if self.parking { Next::Parked } else { Next::Drained(self.through) }));
        }
        // A crash may have come between the parking of the head and that of what queues behind it.
        self.parking |= waiting[0].standing == Standing::Parked;
        if self.parking {
            self.park_behind(waiting, &mut delta);
            return Ok((delta, Next::More));
        }
        let (mut slot, mut unreadable) = match load_slot(&setting, view, &self.cell.key).map_err(failed)? {
            Ok(slot) => (slot, None),
            Err((slot, why)) => (slot, Some(why)),
        };
        let mut next = Next::More;
        for (i, held) in waiting.into_iter().enumerate() {
            let offset = held.offset;
            match self.apply(i, held, &mut slot, &mut unreadable, &mut delta)? {
                Verdict::Done => self.through = Some(offset),
                Verdict::Retry(held, wait) => {
                    delta.held.push(HeldChange::Put(held));
                    next = Next::After(wait);
                    break;
                }
                Verdict::Park(held) => {
                    self.park(held, &mut delta);
                    break;
                }
            }
        }
        self.progress.idle();
        let (rows, change) = delta.split(view);
        match hand_over(&self.cell.key, &mut slot, tag, rows, change) {
            Ok(()) => Ok((delta, next)),
            Err(why) => {
                // What the step has decided does not count either.
                (self.through, self.parking) = (through, false);
                self.unwritable(from, why)
            }
        }
    }

    /// A step ended with a row that the view cannot write: nothing of the step counts. Of one event it was an attempt.
    fn unwritable(&mut self, from: Offset, why: String) -> Result<(Delta, Next), Fatal> {
        let setting = self.setting.clone();
        let mut delta = Delta::new(setting.definitions.len());
        if !std::mem::replace(&mut self.singly, true) {
            return Ok((delta, Next::More));
        }
        let tag = setting.tags[self.cell.view];
        let head = setting.generation.held_of(tag, &self.cell.key, from, 1);
        let head = head.map_err(|error| store_failed(&setting.at, &error))?;
        let Some(head) = head.into_iter().next() else { return Ok((delta, Next::More)) };
        Ok(match self.failed(head, Reason::Panicked, why) {
            Verdict::Retry(held, wait) => {
                delta.held.push(HeldChange::Put(held));
                (delta, Next::After(wait))
            }
            Verdict::Park(held) => {
                self.park(held, &mut delta);
                (delta, Next::More)
            }
            Verdict::Done => (delta, Next::More),
        })
    }

    /// Tries one waiting event. `unreadable` says why the stored row cannot be read, until it is removed.
    fn apply(
        &mut self,
        i: usize,
        held: Held,
        slot: &mut Slot,
        unreadable: &mut Option<String>,
        delta: &mut Delta,
    ) -> Result<Verdict, Fatal> {
        let (setting, view) = (self.setting.clone(), self.cell.view);
        match self.setback {
            Some(Setback::Overran(offset)) if offset == held.offset => {
                self.setback = None;
                return Ok(self.failed(held, Reason::Overran, "the fold ran over its time limit".to_owned()));
            }
            Some(Setback::Lost) => {
                self.setback = None;
                return Ok(self.failed(held, Reason::Panicked, "the shard that tried it was lost".to_owned()));
            }
            _ => {}
        }
        let record = RecordRef::from_parts(
            held.offset,
            held.timestamp,
            held.key.as_deref(),
            held.value.as_deref(),
            &held.headers,
        );
        let books = &mut delta.views[view].books;
        let (reason, detail) = match setting.decoder.decode((&setting.at.topic, setting.at.partition), record) {
            Err(Undecodable::NullValue) if setting.policy.null_value == Decision::Delete => {
                slot.remove();
                *unreadable = None;
                books.applied += 1;
                return Ok(self.done(held, delta));
            }
            Err(why) => (Reason::Undecodable, why.to_string()),
            Ok(_) if unreadable.is_some() => (Reason::RowUnreadable, unreadable.clone().unwrap_or_default()),
            Ok(event) => {
                // One way back per event: a redrive is rare, and its events come from the store, not from a slice.
                slot.forget();
                let mut copies = Copies::default();
                self.progress.at(held.offset, view);
                if let Err(Panicked(text)) = slot.remember(i, &mut copies) {
                    return Ok(self.failed(held, Reason::Panicked, text));
                }
                match slot.fold(&*setting.definitions[view], &event) {
                    Outcome::Folded => {
                        books.applied += 1;
                        return Ok(self.done(held, delta));
                    }
                    Outcome::Ignored => {
                        books.skipped += 1;
                        return Ok(self.done(held, delta));
                    }
                    Outcome::Panicked(text) => {
                        slot.go_back(&mut copies);
                        return Ok(self.failed(held, Reason::Panicked, text));
                    }
                    Outcome::Failed(failure) => {
                        slot.go_back(&mut copies);
                        let (reason, detail) = (reason_of(&failure), failure.to_string());
                        if reason == Reason::Transient {
                            return Ok(self.failed(held, reason, detail));
                        }
                        (reason, detail)
                    }
                }
            }
        };
        match setting.policy.decide(reason) {
            Decision::Halt => Err(halt(&setting.at, record, reason, &detail)),
            Decision::Skip => {
                delta.views[view].books.skipped += 1;
                Ok(self.done(held, delta))
            }
            Decision::DeadLetter => {
                let (attempts, detail) = (held.attempts + 1, shorten(detail));
                let dead = Held { standing: Standing::Dead, reason, detail, attempts, ..held.clone() };
                delta.views[view].books.dead += 1;
                delta.held.push(HeldChange::Put(dead));
                Ok(self.done(held, delta))
            }
            Decision::Park | Decision::Delete => {
                Ok(Verdict::Park(Held { reason, detail: shorten(detail), attempts: held.attempts + 1, ..held }))
            }
        }
    }

    /// The event no longer waits.
    fn done(&mut self, held: Held, delta: &mut Delta) -> Verdict {
        delta.views[self.cell.view].books.waiting -= 1;
        let key = held.key.unwrap_or_default();
        delta.held.push(HeldChange::Remove { view: held.view, key, offset: held.offset });
        Verdict::Done
    }

    /// The event failed in a way that may pass.
    fn failed(&mut self, held: Held, reason: Reason, detail: String) -> Verdict {
        let attempts = held.attempts + 1;
        if self.retrying.replace(held.offset) != Some(held.offset) {
            self.retry.succeeded();
        }
        let held = Held { reason, detail: shorten(detail), attempts, ..held };
        match self.retry.next(attempts) {
            Some(wait) => Verdict::Retry(held, wait),
            None => Verdict::Park(held),
        }
    }

    /// Parks the event at the head; those behind it follow in the next steps.
    fn park(&mut self, held: Held, delta: &mut Delta) {
        tracing::warn!(
            at = %self.setting.at, offset = held.offset.0, view = self.setting.definitions[self.cell.view].name(),
            reason = held.reason.name(), attempts = held.attempts, detail = held.detail, "event parked"
        );
        self.parking = true;
        self.through = Some(held.offset);
        let books = &mut delta.views[self.cell.view].books;
        books.waiting -= 1;
        books.parked += 1;
        delta.held.push(HeldChange::Put(Held { standing: Standing::Parked, ..held }));
    }

    /// Parks what queues behind.
    fn park_behind(&mut self, waiting: Vec<Held>, delta: &mut Delta) {
        let books = &mut delta.views[self.cell.view].books;
        for held in waiting {
            self.through = Some(held.offset);
            if held.standing == Standing::Waiting {
                books.waiting -= 1;
                books.parked += 1;
                delta.held.push(HeldChange::Put(Held { standing: Standing::Parked, reason: Reason::Behind, ..held }));
            }
        }
    }
}
