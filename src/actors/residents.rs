//! The aggregates that a shard keeps in memory: a hash table over a slab, and a clock hand that makes room.
//!
//! Only an aggregate whose rows are all in the store may go: clean, and its last hand-over committed.

use hashbrown::HashTable;

use super::aggregate::Aggregate;

struct Seat {
    hash: u64,
    /// `None` when the seat is free.
    aggregate: Option<Aggregate>,
}

/// Resident aggregates by key. A *seat* is an aggregate's index, stable while it is resident.
#[derive(Default)]
pub struct Residents {
    table: HashTable<u32>,
    seats: Vec<Seat>,
    free: Vec<u32>,
    /// Estimated bytes of all residents, as of when each was last measured.
    bytes: usize,
    hand: usize,
}

impl Residents {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Estimated bytes of all residents.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The seat of a key; `hash` is [`key_hash`] of it.
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.table.find(hash, |&seat| self.has_key(seat, hash, key)).copied()
    }

    fn has_key(&self, seat: u32, hash: u64, key: &[u8]) -> bool {
        let seat = &self.seats[seat as usize];
        seat.hash == hash && seat.aggregate.as_ref().is_some_and(|aggregate| *aggregate.key == *key)
    }

    /// Seats a new aggregate; its key must not have a seat yet.
    pub fn insert(&mut self, hash: u64, mut aggregate: Aggregate) -> u32 {
        aggregate.measured = aggregate.footprint();
        self.bytes += aggregate.measured;
        let seat = match self.free.pop() {
            Some(seat) => {
                self.seats[seat as usize] = Seat { hash, aggregate: Some(aggregate) };
                seat
            }
            None => {
                self.seats.push(Seat { hash, aggregate: Some(aggregate) });
                self.seats.len() as u32 - 1
            }
        };
        let seats = &self.seats;
        self.table.insert_unique(hash, seat, |&other| seats[other as usize].hash);
        seat
    }

    /// The aggregate in a seat that [`Residents::find`] or [`Residents::insert`] has just named.
    pub fn get_mut(&mut self, seat: u32) -> &mut Aggregate {
        // Proven: seats are handed out by `find` and `insert` and only freed between batches, by `make_room`.
        self.seats[seat as usize].aggregate.as_mut().expect("a named seat is taken")
    }

    /// Corrects the estimate after the aggregate in that seat has grown or shrunk.
    pub fn remeasure(&mut self, seat: u32) {
        let aggregate = self.get_mut(seat);
        let after = aggregate.footprint();
        let before = std::mem::replace(&mut aggregate.measured, after);
        self.bytes = self.bytes + after - before;
    }

    /// Lets aggregates go until the estimate is within `budget` bytes, those not used since the hand last passed
    /// first. `committed` is the newest committed epoch. Answers how many went.
    pub fn make_room(&mut self, budget: usize, committed: u64) -> usize {
        let mut gone = 0;
        // Twice round: the first pass may only clear the marks.
        let mut steps = self.seats.len() * 2;
        while self.bytes > budget && steps > 0 {
            steps -= 1;
            self.hand = (self.hand + 1) % self.seats.len();
            let seat = &mut self.seats[self.hand];
            let Some(aggregate) = seat.aggregate.as_mut() else { continue };
            if aggregate.used {
                aggregate.used = false;
                continue;
            }
            if aggregate.dirty || aggregate.epoch > committed {
                continue;
            }
            self.bytes -= aggregate.measured;
            let (hash, hand) = (seat.hash, self.hand as u32);
            seat.aggregate = None;
            if let Ok(entry) = self.table.find_entry(hash, |&other| other == hand) {
                entry.remove();
            }
            self.free.push(hand);
            gone += 1;
        }
        gone
    }
}

/// The hash by which keys are dealt to shards and found in them.
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(residents: &mut Residents, keys: std::ops::Range<u32>) {
        for key in keys {
            let key = key.to_be_bytes();
            residents.insert(key_hash(&key), Aggregate::new(&key, 1));
        }
    }

    #[test]
    fn a_seat_is_found_by_its_key_and_used_again() {
        let mut residents = Residents::default();
        fill(&mut residents, 0..1000);
        for key in 0..1000u32 {
            let key = key.to_be_bytes();
            let seat = residents.find(key_hash(&key), &key).unwrap();
            assert_eq!(*residents.get_mut(seat).key, key);
        }
        assert_eq!(residents.make_room(0, 0), 1000);
        assert_eq!((residents.len(), residents.bytes()), (0, 0));
        fill(&mut residents, 0..1000);
        assert_eq!(residents.seats.len(), 1000);
    }

    #[test]
    fn what_the_store_does_not_have_yet_stays() {
        let mut residents = Residents::default();
        fill(&mut residents, 0..3);
        residents.get_mut(0).dirty = true;
        residents.get_mut(1).epoch = 7;
        assert_eq!(residents.make_room(0, 6), 1);
        residents.get_mut(0).dirty = false;
        assert_eq!(residents.make_room(0, 7), 2);
    }
}
