//! Appends. Callers queue; one of them at a time leads, and takes everything that waits into one write and one fsync.
//! The others sleep until their answer is there. So offsets are given out in one place, a write holds whole groups,
//! and readers see a record only after its group is as durable as the policy says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rocksdb::WriteBatch;

use super::partition::{Partition, Topic};
use super::store::Store;
use super::{Fsync, Inner, Timestamps, clock, codec, keys};
use crate::position::{Offset, PartitionId};
use crate::record::NewRecord;
use crate::streams::{Appended, Error, Result, WentIn, murmur2};

/// Records and bytes of one request; a longer append goes in as several.
const REQUEST_RECORDS: usize = 8192;
const REQUEST_BYTES: usize = 4 << 20;
/// A leader takes no further request once its group has this many bytes.
const GROUP_BYTES: usize = 16 << 20;

/// Requests that wait, and answers that nobody has fetched yet.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    leading: bool,
    next_ticket: u64,
    answers: BTreeMap<u64, Answer>,
}

type Answer = std::result::Result<Vec<Appended>, Failed>;

/// Why a request was not written.
#[derive(Clone, Debug)]
struct Failed {
    error: Error,
    /// It may have been, all the same.
    doubt: bool,
}

impl Failed {
    /// Before anything of it was written.
    fn before(error: Error) -> Failed {
        Failed { error, doubt: false }
    }

    /// When it was being written.
    fn within(error: Error) -> Failed {
        Failed { error, doubt: true }
    }

    /// The error of a whole append: its first records went in as `appended` says, and the `length` after them failed.
    fn after(self, appended: Vec<Appended>, length: usize) -> Error {
        let first = appended.len();
        let in_doubt = if self.doubt { (first..first + length).collect() } else { Vec::new() };
        Error::halfway(self.error, WentIn { appended: appended.into_iter().enumerate().collect(), in_doubt })
    }
}

struct Request {
    ticket: u64,
    topic: Arc<Topic>,
    records: Vec<NewRecord>,
    bytes: usize,
}

impl Inner {
    pub(super) fn append(&self, topic: &str, mut records: Vec<NewRecord>) -> Result<Vec<Appended>> {
        self.check_open()?;
        let topic = self.topic(topic)?;
        self.admit(&topic, &mut records)?;
        let mut appended = Vec::with_capacity(records.len());
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(record) = records.next_if(|_| part.len() < REQUEST_RECORDS && bytes < REQUEST_BYTES) {
                bytes += codec::size_of(&record);
                part.push(record);
            }
            let length = part.len();
            match self.submit(&topic, part, bytes) {
                Ok(places) => appended.extend(places),
                Err(failed) => return Err(failed.after(appended, length)),
            }
        }
        Ok(appended)
    }

    /// Gives each record its partition, and refuses all of them for the first that cannot go in.
    fn admit(&self, topic: &Topic, records: &mut [NewRecord]) -> Result<()> {
        let max = self.options.max_record_bytes;
        for (index, record) in records.iter_mut().enumerate() {
            let refuse = |source| Err(Error::Refused { index, source: Box::new(source) });
            let bytes = codec::size_of(record);
            if bytes > max {
                return refuse(Error::TooLarge { bytes, max });
            }
            let partition = match (record.partition, &record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => murmur2::partition_of(key, topic.count()),
                (None, None) => topic.next_turn(),
            };
            record.partition = Some(partition);
            match topic.partition(partition) {
                Ok(_) => {}
                Err(missing @ Error::PartitionMissing { .. }) => return refuse(missing),
                // Damage, which is not the record's fault.
                Err(damaged) => return Err(damaged),
            }
        }
        Ok(())
    }

    fn submit(&self, topic: &Arc<Topic>, records: Vec<NewRecord>, bytes: usize) -> Answer {
        let mut state = self.queue.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Request { ticket, topic: topic.clone(), records, bytes });
        loop {
            if let Some(answer) = state.answers.remove(&ticket) {
                return answer;
            }
            if state.leading {
                state = self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.leading = true;
            let group = state.take_group();
            drop(state);
            let lead = Lead { queue: &self.queue, tickets: group.iter().map(|r| r.ticket).collect() };
            let answers = self.commit(&group);
            state = lead.finish(group, answers);
        }
    }

    fn commit(&self, group: &[Request]) -> std::result::Result<Vec<Vec<Appended>>, Failed> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sound().map_err(Failed::before)?;
        let store = self.store().map_err(Failed::before)?;
        let _unsettled = Unsettled { log: self };
        let mut write = GroupWrite::new(&store, group);
        let answers = group.iter().map(|request| write.add(self, request)).collect::<Result<Vec<_>>>();
        let GroupWrite { batch, touched, .. } = write;
        let sync = self.options.fsync == Fsync::Always;
        let written = answers
            .map_err(Failed::before)
            .and_then(|answers| store.write(batch, sync).map(|()| answers).map_err(Failed::within));
        // After a failure nobody knows what is on disk: the offsets just given out are in doubt, and only opening
        // the log again can tell.
        let answers = written.inspect_err(|failed| self.fail(&failed.error))?;
        self.mark_unsynced();
        for partition in touched.values() {
            let end = partition.tail().next;
            partition.publish_end(end);
        }
        Ok(answers)
    }
}

/// Held from the first offset given out until its record is written. A panic in between leaves tails that no record
/// stands behind: the next append would make a hole in the log. So it is the last one, until the log is opened again.
struct Unsettled<'a> {
    log: &'a Inner,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.fail(&panicked());
        }
    }
}

fn panicked() -> Error {
    Error::Storage { reason: "the append that was to write this record panicked".into() }
}

/// One write in the making.
struct GroupWrite<'a> {
    store: &'a Store,
    batch: WriteBatch,
    touched: BTreeMap<(u32, u32), Arc<Partition>>,
    stored: Vec<u8>,
    now: i64,
}

impl<'a> GroupWrite<'a> {
    fn new(store: &'a Store, group: &[Request]) -> Self {
        let bytes = group.iter().map(|request| request.bytes + 64 * request.records.len()).sum();
        GroupWrite {
            store,
            batch: WriteBatch::with_capacity_bytes(bytes),
            touched: BTreeMap::new(),
            stored: Vec::new(),
            now: clock(),
        }
    }

    fn add(&mut self, log: &Inner, request: &Request) -> Result<Vec<Appended>> {
        request.records.iter().map(|record| self.add_record(log, &request.topic, record)).collect()
    }

    fn add_record(&mut self, log: &Inner, topic: &Topic, record: &NewRecord) -> Result<Appended> {
        let partition = topic.partition(record.partition.unwrap_or_default())?;
        let timestamp = match topic.timestamps {
            Timestamps::Create => record.timestamp.unwrap_or(self.now),
            Timestamps::Append => self.now,
        };
        codec::encode(record, timestamp, &mut self.stored);
        let slot = partition.slot;
        let mut tail = partition.tail();
        let offset = tail.next;
        self.store.put_record(&mut self.batch, slot, offset, &self.stored)?;
        let size = codec::size_of_stored(&self.stored);
        tail.next += 1;
        tail.bytes += size as u64;
        tail.block.add(timestamp, size, self.now);
        if tail.block.is_complete(log.options.index_records) {
            let entry = tail.block.entry(tail.bytes);
            self.batch.put(keys::block_key(slot, tail.next), entry.encode());
            tail.block = super::times::Block::new();
        }
        drop(tail);
        self.touched.entry((slot.topic, slot.partition)).or_insert_with(|| partition.clone());
        Ok(Appended { partition: PartitionId(slot.partition), offset: Offset(offset) })
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_group(&mut self) -> Vec<Request> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < GROUP_BYTES
            && let Some(request) = self.waiting.pop_front()
        {
            bytes += request.bytes;
            group.push(request);
        }
        group
    }
}

/// The lead, held while a group is written. Should the leader panic, its followers get an error, not silence.
struct Lead<'a> {
    queue: &'a Queue,
    tickets: Vec<u64>,
}

impl<'a> Lead<'a> {
    fn finish(
        mut self,
        group: Vec<Request>,
        answers: std::result::Result<Vec<Vec<Appended>>, Failed>,
    ) -> MutexGuard<'a, State> {
        self.tickets.clear();
        let queue = self.queue;
        let mut state = queue.lock();
        match answers {
            Ok(answers) => {
                for (request, answer) in group.iter().zip(answers) {
                    state.answers.insert(request.ticket, Ok(answer));
                }
            }
            Err(failed) => {
                for request in &group {
                    state.answers.insert(request.ticket, Err(failed.clone()));
                }
            }
        }
        state.leading = false;
        queue.changed.notify_all();
        state
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        let mut state = self.queue.lock();
        for ticket in self.tickets.drain(..) {
            state.answers.insert(ticket, Err(Failed::within(panicked())));
        }
        state.leading = false;
        self.queue.changed.notify_all();
    }
}
