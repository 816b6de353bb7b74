//! Commits: everything that a batch changes goes into the store in one `WriteBatch`, or none of it (law *Atomic*).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::WriteBatch;

use crate::position::Position;
use crate::state::delta::{Commit, Delta, HeldChange, Standing};
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::meta::{Progress, ViewTotals};
use crate::state::options::Durability;
use crate::state::{held, keys};

/// The right to write a generation. [`Generation::take_writer`] hands it out, and it is valid until the next one is: a
/// *fencing token*. Whoever was given up and still writes gets an error, and nothing of it is stored.
#[derive(Debug, PartialEq, Eq)]
pub struct WriterToken(u64);

/// Tokens differ in the whole process, so that one of another generation is never taken for valid.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);

/// What RocksDB would answer, kept at hand; changed only after it has taken a batch.
pub(super) struct Written {
    pub progress: Progress,
    pub totals: Vec<ViewTotals>,
    /// Commits since opening, and how many of them are in files.
    commits: u64,
    flushed: u64,
    /// Bytes of all commits since opening, and how many of them are in files.
    bytes: u64,
    flushed_bytes: u64,
    /// The first write error. RocksDB may refuse everything after it or, worse, accept it.
    poison: Option<String>,
    /// The number of the token that is valid; 0: nobody has asked for one.
    writer: u64,
    scratch: Vec<u8>,
}

impl Written {
    pub fn new(progress: Progress, totals: Vec<ViewTotals>) -> Written {
        Written {
            progress,
            totals,
            commits: 0,
            flushed: 0,
            bytes: 0,
            flushed_bytes: 0,
            poison: None,
            writer: 0,
            scratch: Vec::new(),
        }
    }
}

impl Generation {
    /// Hands out the right to write, and takes it from whoever had it. Waits for a commit that is under way, so that
    /// [`Generation::applied`] stands still when this returns, until the new writer commits. Blocks as long as a commit
    /// does.
    pub fn take_writer(&self) -> WriterToken {
        let token = WriterToken(NEXT_TOKEN.fetch_add(1, Ordering::Relaxed));
        self.written().writer = token.0;
        token
    }

    /// Commits a batch: rows, held records, digests, books, position and fingerprint together. Only the writer to whom the
    /// right was handed out last may: of two, one would count what the other has counted.
    ///
    /// After an error nothing of the batch is visible, and unless the error is [`Error::Law`] or [`Error::Fenced`] every
    /// later commit is refused with [`Error::Poisoned`]: the partition has to be opened again.
    pub fn commit(&self, writer: &WriterToken, commit: &Commit) -> Result<(), Error> {
        self.store(writer, commit, false)
    }

    /// Lets a generation that has seen nothing begin at `position`: what lies below is no part of its history. A gap at
    /// the beginning of the log, which is committed like any other, is no such thing.
    pub fn begin_at(&self, position: Position) -> Result<(), Error> {
        self.store(&self.take_writer(), &Commit { deltas: Vec::new(), position, last: None }, true)
    }

    fn store(&self, writer: &WriterToken, commit: &Commit, begins: bool) -> Result<(), Error> {
        let mut written = self.written();
        self.writable(&written)?;
        if written.writer != writer.0 {
            return Err(Error::Fenced { at: self.at().clone() });
        }
        let written = &mut *written;
        let next = self.check_laws(written, commit)?;

        let mut batch = self.batch(commit, written, &next)?;
        let begins = begins && written.progress.position == Position::ZERO;
        if begins {
            batch.put_cf(self.family(keys::META)?, keys::meta_began(), commit.position.0.to_be_bytes());
        }
        let bytes = batch.size_in_bytes() as u64;
        if let Err(error) = self.db.write_opt(batch, &self.root.shared.writing()) {
            let error = self.rocks(error);
            written.poison = Some(error.to_string());
            return Err(error);
        }
        if begins {
            self.publish_began(commit.position);
        }
        (written.progress, written.totals) = next;
        self.publish_totals(&written.totals);
        written.commits += 1;
        written.bytes += bytes;
        self.publish_applied(commit.position);
        if self.durability == Durability::WalSync {
            self.publish_durable(commit.position);
        }
        Ok(())
    }

    /// Makes everything durable that was committed before the call, and answers the position that is durable afterwards.
    pub fn flush(&self) -> Result<Position, Error> {
        let (position, commits, bytes) = {
            let written = self.written();
            self.writable(&written)?;
            if written.flushed == written.commits {
                return Ok(self.durable());
            }
            (written.progress.position, written.commits, written.bytes)
        };
        // Not under the lock: commits go on meanwhile, and what they add may or may not be in the files.
        if let Err(error) = self.flush_files() {
            self.written().poison.get_or_insert_with(|| error.to_string());
            return Err(error);
        }
        let mut written = self.written();
        written.flushed = written.flushed.max(commits);
        written.flushed_bytes = written.flushed_bytes.max(bytes);
        drop(written);
        self.publish_durable(position);
        Ok(self.durable())
    }

    /// Whether anything was committed since the last [`Generation::flush`]: with or without a new position.
    pub fn has_unflushed(&self) -> bool {
        let written = self.written();
        written.flushed < written.commits
    }

    /// Bytes that were committed since the last [`Generation::flush`]: what a crash may take back.
    pub fn unflushed_bytes(&self) -> u64 {
        let written = self.written();
        written.bytes - written.flushed_bytes
    }

    fn writable(&self, written: &Written) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly { at: self.at().clone() });
        }
        match &written.poison {
            Some(first) => Err(Error::Poisoned { at: self.at().clone(), first: first.clone() }),
            None => Ok(()),
        }
    }

    /// The numbers after the commit, if no law forbids it. Checked in every build, for it costs little once a batch and
    /// what it would let through could not be taken back.
    fn check_laws(&self, written: &Written, commit: &Commit) -> Result<(Progress, Vec<ViewTotals>), Error> {
        let broken = |law, detail| Err(Error::Law { at: self.at().clone(), law, detail });
        let before = written.progress;
        if commit.position < before.position {
            return broken("Forward", format!("position {} after {}", commit.position, before.position));
        }
        if let Some(last) = commit.last.filter(|last| !commit.position.is_past(last.offset)) {
            return broken("Forward", format!("last record {} at position {}", last.offset, commit.position));
        }
        let mut totals = written.totals.clone();
        for delta in &commit.deltas {
            if delta.views.len() != totals.len() {
                return broken("Accounted", format!("{} views of {}", delta.views.len(), totals.len()));
            }
            for (total, change) in totals.iter_mut().zip(&delta.views) {
                total.digest = total.digest.wrapping_add(change.digest);
                total.rows += change.rows;
                total.books += change.books;
            }
        }
        for (total, view) in totals.iter().zip(self.views()) {
            let books = total.books;
            let columns = [books.consumed, books.applied, books.skipped, books.waiting, books.parked, books.dead];
            if !books.balanced() || total.rows < 0 || columns.iter().any(|column| *column < 0) {
                return broken("Accounted", format!("view `{}`: {} rows, {books:?}", view.name, total.rows));
            }
        }
        Ok((Progress { position: commit.position, last: commit.last.or(before.last) }, totals))
    }

    fn batch(
        &self,
        commit: &Commit,
        written: &mut Written,
        next: &(Progress, Vec<ViewTotals>),
    ) -> Result<WriteBatch, Error> {
        let (progress, totals) = next;
        let state = self.family(keys::STATE)?;
        let parked = self.family(keys::PARKED)?;
        let meta = self.family(keys::META)?;
        // One allocation: each entry has a tag, a family number and two lengths beside its bytes.
        let rows: usize = commit.deltas.iter().map(|delta| delta.bytes() + delta.len() * 12).sum();
        let mut batch = WriteBatch::with_capacity_bytes(rows + 128 * (totals.len() + 1));

        merged(&commit.deltas, |key, value| match value {
            Some(value) => batch.put_cf(state, key, value),
            None => batch.delete_cf(state, key),
        });

        let scratch = &mut written.scratch;
        for change in commit.deltas.iter().flat_map(|delta| &delta.held) {
            scratch.clear();
            match change {
                HeldChange::Put(record) => {
                    match record.standing {
                        Standing::Waiting | Standing::Parked => {
                            let key = record.key.as_deref().unwrap_or_default();
                            keys::held_key(record.view, key, record.offset, scratch);
                        }
                        Standing::Dead => keys::dead_key(record.offset, record.view, scratch),
                    }
                    let key_len = scratch.len();
                    held::encode(record, scratch);
                    let (key, value) = scratch.split_at(key_len);
                    batch.put_cf(parked, key, value);
                }
                HeldChange::Remove { view, key, offset } => {
                    keys::held_key(*view, key, *offset, scratch);
                    batch.delete_cf(parked, &*scratch);
                }
            }
        }

        for (total, before) in totals.iter().zip(&written.totals) {
            if total != before {
                scratch.clear();
                total.encode(scratch);
                batch.put_cf(meta, keys::meta_totals(total.view), &*scratch);
            }
        }
        scratch.clear();
        progress.encode(scratch);
        batch.put_cf(meta, keys::meta_position(), &*scratch);
        Ok(batch)
    }
}

/// Calls `each` with the rows of all deltas in ascending order of their stored keys, which RocksDB's skip list takes
/// 40 % faster than any other order.
fn merged<'a>(deltas: &'a [Delta], mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
    let mut before: Option<&[u8]> = None;
    let mut in_order = |key: &'a [u8], value| {
        debug_assert!(before.is_none_or(|before| before < key), "Once: a stored key occurs twice or out of order");
        before = Some(key);
        each(key, value);
    };
    if let [only] = deltas {
        only.rows().for_each(|(key, value)| in_order(key, value));
        return;
    }
    let mut rows: Vec<_> = deltas.iter().map(Delta::rows).collect();
    let mut heads: BinaryHeap<_> = rows
        .iter_mut()
        .enumerate()
        .filter_map(|(index, rows)| rows.next().map(|(key, value)| Reverse((key, index, value))))
        .collect();
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((key, index, value)) = *head;
        in_order(key, value);
        match rows[index].next() {
            Some((key, value)) => *head = Reverse((key, index, value)),
            None => {
                PeekMut::pop(head);
            }
        }
    }
}
