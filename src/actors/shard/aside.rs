//! What happens to a record that is not applied: it goes into the `parked` family in the same `WriteBatch` as the
//! position, or is skipped by a decision on record, or stops the partition. There is no fourth way (law *Accounted*).

use super::core::{NOBODY, Shard, Tail};
use crate::actors::board::Cell;
use crate::actors::plan::{Decision, Fatal};
use crate::position::TopicPartition;
use crate::record::RecordRef;
use crate::state::{Held, HeldChange, Reason, Standing, ViewTag};
use crate::streams::Fault;

/// The longest reason that is stored, in bytes.
const DETAIL_MAX: usize = 1024;

impl Shard {
    /// Stores a record behind those that its cell already holds.
    pub(super) fn queue_behind(&mut self, view: usize, record: RecordRef<'_>, standing: Standing) {
        let held = held(self.setting.tags[view], record, standing, Reason::Behind, String::new(), 0);
        self.hold(view, held);
    }

    /// Decides on an event that one view could not apply.
    pub(super) fn set_aside(
        &mut self,
        i: usize,
        view: usize,
        record: RecordRef<'_>,
        reason: Reason,
        detail: String,
    ) -> Result<(), Fatal> {
        let tag = self.setting.tags[view];
        let standing = match reason {
            Reason::Transient | Reason::Panicked | Reason::Overran => Standing::Waiting,
            _ => match self.setting.policy.decide(reason) {
                Decision::Park | Decision::Delete => Standing::Parked,
                Decision::DeadLetter => Standing::Dead,
                Decision::Skip => {
                    self.handover.delta.views[view].books.skipped += 1;
                    return Ok(());
                }
                Decision::Halt => return Err(halt(&self.setting.at, record, reason, &detail)),
            },
        };
        tracing::debug!(at = %self.setting.at, offset = record.offset.0, view, reason = reason.name(), ?standing, detail, "event set aside");
        let held = held(tag, record, standing, reason, detail, 1);
        if standing == Standing::Dead {
            self.handover.delta.views[view].books.held(standing, 1);
            self.handover.delta.held.push(HeldChange::Put(held));
            return Ok(());
        }
        let seat = self.seats[i];
        debug_assert!(seat != NOBODY, "only a record with a key reaches a view");
        self.residents.get_mut(seat).slots[view].held = Some(standing);
        if standing == Standing::Waiting {
            let key = record.key.unwrap_or_default().into();
            self.handover.waiting.push(Cell { view, key });
        }
        self.hold(view, held);
        Ok(())
    }

    /// Decides on a record that no view has seen.
    pub(super) fn set_record_aside(
        &mut self,
        record: RecordRef<'_>,
        reason: Reason,
        detail: String,
    ) -> Result<(), Fatal> {
        match self.setting.policy.decide(reason) {
            Decision::Skip => {
                for view in &mut self.handover.delta.views {
                    view.books.skipped += 1;
                }
            }
            Decision::Halt => return Err(halt(&self.setting.at, record, reason, &detail)),
            Decision::Park | Decision::Delete | Decision::DeadLetter => {
                for view in &mut self.handover.delta.views {
                    view.books.held(Standing::Dead, 1);
                }
                let held = held(ViewTag::ALL, record, Standing::Dead, reason, detail, 1);
                self.handover.delta.held.push(HeldChange::Put(held));
            }
        }
        Ok(())
    }

    /// Stores a held event and notes the new end of its cell's queue.
    fn hold(&mut self, view: usize, held: Held) {
        self.handover.delta.views[view].books.held(held.standing, 1);
        let cell = Cell { view, key: held.key.as_deref().unwrap_or_default().into() };
        self.held.insert(cell, Tail { last: held.offset, standing: held.standing });
        self.handover.delta.held.push(HeldChange::Put(held));
    }
}

/// A record with all that is needed to apply it later.
fn held(
    view: ViewTag,
    record: RecordRef<'_>,
    standing: Standing,
    reason: Reason,
    detail: String,
    attempts: u32,
) -> Held {
    Held {
        view,
        standing,
        reason,
        detail: shorten(detail),
        attempts,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.packed_headers().to_vec(),
    }
}

/// Cuts a reason to [`DETAIL_MAX`] bytes, at a character.
pub(super) fn shorten(mut detail: String) -> String {
    if detail.len() > DETAIL_MAX {
        let end = (0..=DETAIL_MAX).rev().find(|&end| detail.is_char_boundary(end)).unwrap_or(0);
        detail.truncate(end);
    }
    detail
}

/// The policy says `halt`.
pub(super) fn halt(at: &TopicPartition, record: RecordRef<'_>, reason: Reason, detail: &str) -> Fatal {
    Fatal {
        at: Some(at.clone()),
        fault: Fault::User,
        reason: format!("offset {}: {} ({detail}), and the policy for it is `halt`", record.offset, reason.name()),
        next: format!(
            "correct what writes to the topic, or set `{}` under [topics.policy] to another decision, and start again",
            reason.name()
        ),
    }
}
