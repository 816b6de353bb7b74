//! The aggregates that a shard keeps in memory: a hash table over seats, and a clock hand that makes room.
//!
//! Only an aggregate whose rows are all in the store may go: clean, and its last hand-over committed.

use hashbrown::HashTable;

use super::aggregate::Aggregate;

/// Seats in a row. Rows never move, so that a shard that grows copies no aggregates and leaves no memory unused.
const ROW: usize = 512;

/// Resident aggregates by key. A *seat* is an aggregate's index, stable while it is resident.
#[derive(Default)]
pub struct Residents {
    table: HashTable<u32>,
    /// All but the last are full; `None` is a free seat.
    rows: Vec<Vec<Option<Aggregate>>>,
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

    /// The seat of a key, which counts as used by it; `hash` is [`key_hash`] of it.
    pub fn find(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
        let rows = &mut self.rows;
        let here = |&seat: &u32| match &mut rows[seat as usize / ROW][seat as usize % ROW] {
            Some(aggregate) if aggregate.hash == hash && *aggregate.key == *key => {
                aggregate.used = true;
                true
            }
            _ => false,
        };
        self.table.find(hash, here).copied()
    }

    /// Seats a new aggregate; its key must not have a seat yet.
    pub fn insert(&mut self, mut aggregate: Aggregate) -> u32 {
        let hash = aggregate.hash;
        aggregate.measured = aggregate.footprint();
        self.bytes += aggregate.measured as usize;
        let seat = self.free.pop().unwrap_or_else(|| self.seats());
        match self.seat(seat) {
            Some(free) => *free = Some(aggregate),
            None => self.append(aggregate),
        }
        let rows = &self.rows;
        let hash_of = |&seat: &u32| match &rows[seat as usize / ROW][seat as usize % ROW] {
            Some(aggregate) => aggregate.hash,
            None => 0,
        };
        self.table.insert_unique(hash, seat, hash_of);
        seat
    }

    fn seats(&self) -> u32 {
        self.rows.last().map_or(0, |last| (self.rows.len() - 1) * ROW + last.len()) as u32
    }

    fn seat(&mut self, seat: u32) -> Option<&mut Option<Aggregate>> {
        self.rows.get_mut(seat as usize / ROW)?.get_mut(seat as usize % ROW)
    }

    fn append(&mut self, aggregate: Aggregate) {
        match self.rows.last_mut() {
            Some(last) if last.len() < ROW => {
                // The first row grows: a shard may serve a single key.
                if last.len() == last.capacity() {
                    last.reserve_exact(last.len());
                }
                last.push(Some(aggregate));
            }
            Some(_) => {
                let mut row = Vec::with_capacity(ROW);
                row.push(Some(aggregate));
                self.rows.push(row);
            }
            None => self.rows.push(vec![Some(aggregate)]),
        }
    }

    /// The aggregate in a seat that [`Residents::find`] or [`Residents::insert`] has just named.
    pub fn get_mut(&mut self, seat: u32) -> &mut Aggregate {
        // Proven: seats are handed out by `find` and `insert` and only freed between batches, by `make_room`.
        self.rows[seat as usize / ROW][seat as usize % ROW].as_mut().expect("a named seat is taken")
    }

    /// Reads what a fold will need of the aggregate in that seat.
    pub fn fetch(&self, seat: u32) {
        if let Some(aggregate) = &self.rows[seat as usize / ROW][seat as usize % ROW] {
            aggregate.slots.iter().filter_map(|slot| slot.row.as_ref()).for_each(|row| row.fetch());
        }
    }

    /// Corrects the estimate after the aggregate in that seat has grown or shrunk.
    pub fn remeasure(&mut self, seat: u32) {
        let aggregate = self.get_mut(seat);
        let after = aggregate.footprint();
        let before = std::mem::replace(&mut aggregate.measured, after);
        self.bytes = self.bytes + after as usize - before as usize;
    }

    /// Lets aggregates go until the estimate is within `budget` bytes, those not used since the hand last passed
    /// first. `committed` is the newest committed epoch. Answers how many went.
    pub fn make_room(&mut self, budget: usize, committed: u64) -> usize {
        let mut gone = 0;
        let seats = self.seats() as usize;
        // Twice round: the first pass may only clear the marks.
        let mut steps = seats * 2;
        while self.bytes > budget && steps > 0 {
            steps -= 1;
            self.hand = (self.hand + 1) % seats;
            let seat = &mut self.rows[self.hand / ROW][self.hand % ROW];
            let Some(aggregate) = seat.as_mut() else { continue };
            if aggregate.used {
                aggregate.used = false;
                continue;
            }
            if aggregate.dirty || aggregate.epoch > committed {
                continue;
            }
            self.bytes -= aggregate.measured as usize;
            let (hash, hand) = (aggregate.hash, self.hand as u32);
            *seat = None;
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
            residents.insert(Aggregate::new(key_hash(&key), &key, 1));
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
        assert_eq!(residents.seats(), 1000);
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
