//! Credits: what bounds the work in flight (law *Bounded*).
//!
//! ractor's mailboxes are unbounded, so the partition admits a batch only while its credits last, and gets them back
//! when the batch is committed. Records and bytes are counted apart; the first batch is always admitted, so that one
//! record larger than all the credits cannot block the partition.

use crate::streams::Limit;

/// The credits of one partition. Owned by its actor, hence plain numbers.
#[derive(Debug)]
pub struct Credits {
    limit: Limit,
    used: Limit,
}

impl Credits {
    /// Both numbers of `limit` must be at least 1.
    pub fn new(limit: Limit) -> Self {
        Credits { limit, used: Limit { records: 0, bytes: 0 } }
    }

    /// How large the next batch may be: `batch`, cut to what is left. `None` when nothing is left.
    pub fn available(&self, batch: Limit) -> Option<Limit> {
        if self.used.records == 0 {
            return Some(Limit {
                records: batch.records.min(self.limit.records),
                bytes: batch.bytes.min(self.limit.bytes),
            });
        }
        let records = self.limit.records.saturating_sub(self.used.records).min(batch.records);
        let bytes = self.limit.bytes.saturating_sub(self.used.bytes).min(batch.bytes);
        // A reader admits its first record whatever its size, so a sliver of credit would be overdrawn by every
        // batch: wait until a fair share of a batch is free again.
        let worthwhile =
            records * 4 >= batch.records.min(self.limit.records) && bytes * 4 >= batch.bytes.min(self.limit.bytes);
        worthwhile.then_some(Limit { records, bytes })
    }

    /// Takes the credits of an admitted batch.
    pub fn take(&mut self, records: usize, bytes: usize) {
        self.used.records += records;
        self.used.bytes += bytes;
        debug_assert!(self.used.records <= self.limit.records, "Bounded: {:?} of {:?}", self.used, self.limit);
    }

    /// Gives back those of a committed one.
    pub fn give_back(&mut self, records: usize, bytes: usize) {
        debug_assert!(records <= self.used.records && bytes <= self.used.bytes, "Bounded: more back than taken");
        self.used.records = self.used.records.saturating_sub(records);
        self.used.bytes = self.used.bytes.saturating_sub(bytes);
    }

    /// What is in flight.
    pub fn used(&self) -> Limit {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BATCH: Limit = Limit { records: 10, bytes: 100 };

    #[test]
    fn the_first_batch_is_admitted_and_a_sliver_is_not() {
        let mut credits = Credits::new(Limit { records: 25, bytes: 1000 });
        assert_eq!(credits.available(BATCH), Some(BATCH));
        credits.take(23, 10);
        assert_eq!(credits.available(BATCH), None);
        credits.give_back(23, 10);
        assert_eq!(credits.available(BATCH), Some(BATCH));
    }

    proptest! {
        #[test]
        fn bounded_records_in_flight_never_exceed_the_credits(steps in proptest::collection::vec((1usize..30, any::<bool>()), 1..200)) {
            let limit = Limit { records: 40, bytes: 4000 };
            let mut credits = Credits::new(limit);
            let mut flying = std::collections::VecDeque::new();
            for (want, finish) in steps {
                if let Some(room) = credits.available(BATCH) {
                    let records = want.min(room.records);
                    credits.take(records, records * 10);
                    flying.push_back(records);
                }
                prop_assert!(credits.used().records <= limit.records);
                if finish && let Some(records) = flying.pop_front() {
                    credits.give_back(records, records * 10);
                }
            }
        }
    }
}
