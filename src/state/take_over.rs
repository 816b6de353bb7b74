//! A database that was linked from a base becomes one of the wanted views: what they do not want goes, and rows that
//! another definition made are taken over one by one.

use std::path::Path;

use rocksdb::{IteratorMode, WriteBatch};

use crate::position::{Position, TopicPartition};
use crate::state::definitions::ViewIdent;
use crate::state::delta::ViewTag;
use crate::state::error::{Error, show_key};
use crate::state::generation::Opened;
use crate::state::keys::{self, ParkedKey, StoredRow};
use crate::state::meta::{Identity, Lineage, StoredView};
use crate::state::shadow::TakeOver;
use crate::state::store::Root;
use crate::state::{digest, options};

/// Bytes of rows that are written at once.
const BATCH: usize = 4 << 20;

/// What the base's views become.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Descriptions to be stored, under the tags that they have in the base.
    put: Vec<StoredView>,
    /// Indexes of wanted views whose rows another definition made, and their tags.
    changed: Vec<(usize, ViewTag)>,
    /// Views that go, with all that is theirs.
    gone: Vec<ViewTag>,
}

/// Changes the database in `path`, which nobody uses yet. Not in one piece: until this has returned, and everything is
/// durable then, the directory is of no use.
pub(super) fn adapt(
    root: &Root,
    (path, number): (&Path, u64),
    base: &Path,
    identity: &Identity,
    wanted: &[ViewIdent],
    take_over: TakeOver<'_>,
) -> Result<(), Error> {
    let opened = Opened::open(root, path, false)?;
    if opened.check(identity)?.is_none() {
        return Err(Error::NoBase { at: identity.at.clone(), path: base.to_owned() });
    }
    let plan = plan(&identity.at, base, &opened.views()?, wanted, opened.progress()?.position)?;
    let mut writing = Writing { root, opened: &opened, batch: WriteBatch::default() };
    for tag in plan.gone {
        writing.remove_view(tag)?;
    }
    if !plan.changed.is_empty() {
        let lineage = Lineage { generation: number, position: opened.progress()?.position };
        writing.batch.put_cf(opened.family(keys::META)?, keys::meta_lineage(), lineage.encode());
    }
    for (index, tag) in plan.changed {
        writing.take_over(&identity.at, (index, &wanted[index]), tag, &mut *take_over)?;
    }
    for view in plan.put {
        writing.batch.put_cf(opened.family(keys::META)?, keys::meta_view(view.tag), view.encode());
    }
    writing.write()?;
    opened.flush()
}

/// A view can go on from rows that saw everything up to `position`, whatever definition made them.
fn plan(
    at: &TopicPartition,
    base: &Path,
    stored: &[StoredView],
    wanted: &[ViewIdent],
    position: Position,
) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut taken = Vec::with_capacity(wanted.len());
    for (index, want) in wanted.iter().enumerate() {
        if wanted[..index].iter().any(|earlier| earlier.name == want.name) {
            return Err(Error::DuplicateView { at: at.clone(), view: want.name.clone() });
        }
        let same = |view: &StoredView| view.version == want.version && view.text == want.text;
        let complete = |view: &StoredView| view.left_at.is_none_or(|left| left == position);
        // Of several, the one with the fewest rows to take over; at most one of a name is in use.
        let named = stored.iter().filter(|view| view.name == want.name);
        let found = named.max_by_key(|view| (complete(view), same(view), view.left_at.is_none(), view.left_at));
        let why = match found {
            None => "which does not have it".to_owned(),
            Some(view) if !complete(view) => {
                let left = view.left_at.unwrap_or_default();
                format!("whose rows of it end at position {left} while the snapshot goes up to {position}")
            }
            Some(view) => {
                taken.push(view.tag);
                let new = StoredView {
                    tag: view.tag,
                    name: want.name.clone(),
                    version: want.version,
                    text: want.text.clone(),
                    fingerprint: digest::text(&want.text),
                    left_at: None,
                };
                if !same(view) {
                    plan.changed.push((index, view.tag));
                }
                if new != *view {
                    plan.put.push(new);
                }
                continue;
            }
        };
        let (at, view, path) = (at.clone(), want.name.clone(), base.into());
        return Err(Error::Incompatible { at, view, version: want.version, path, why: why.into() });
    }
    plan.gone = stored.iter().map(|view| view.tag).filter(|tag| !taken.contains(tag)).collect();
    Ok(plan)
}

struct Writing<'a> {
    root: &'a Root,
    opened: &'a Opened,
    batch: WriteBatch,
}

impl Writing<'_> {
    /// Rows, held records, description and totals. A dead record that stands for all views stays.
    fn remove_view(&mut self, tag: ViewTag) -> Result<(), Error> {
        let meta = self.opened.family(keys::META)?;
        let parked = self.opened.family(keys::PARKED)?;
        let mut rows = Vec::new();
        keys::row_key(tag, &[], &mut rows);
        // No tag is the last possible one, which stands for all views: there is always a key behind it.
        let end = keys::after_prefix(&rows).unwrap_or_default();
        self.batch.delete_range_cf(self.opened.family(keys::STATE)?, rows, end);
        self.batch.delete_cf(meta, keys::meta_view(tag));
        self.batch.delete_cf(meta, keys::meta_totals(tag));
        for item in self.opened.db.iterator_cf_opt(parked, options::reading(false), IteratorMode::Start) {
            let (key, _) = item.map_err(|error| self.rocks(error))?;
            let of = |error| Error::malformed(&self.opened.path, "family `parked`", &error);
            let (ParkedKey::Held { view, .. } | ParkedKey::Dead { view, .. }) = ParkedKey::parse(&key).map_err(of)?;
            if view == tag {
                self.batch.delete_cf(parked, key);
                self.write_if_full()?;
            }
        }
        Ok(())
    }

    /// Passes every row of a view through `take_over`; the digest follows what it changes.
    fn take_over(
        &mut self,
        at: &TopicPartition,
        (index, want): (usize, &ViewIdent),
        tag: ViewTag,
        take_over: TakeOver<'_>,
    ) -> Result<(), Error> {
        let opened = self.opened;
        let state = opened.family(keys::STATE)?;
        let mut totals = opened.totals(tag)?;
        let mut prefix = Vec::new();
        keys::row_key(tag, &[], &mut prefix);
        let mut reading = options::reading(false);
        if let Some(end) = keys::after_prefix(&prefix) {
            reading.set_iterate_upper_bound(end);
        }
        // It sees the rows as they are now, whatever is written meanwhile.
        let mut rows = opened.db.raw_iterator_cf_opt(state, reading);
        rows.seek(&prefix);
        let mut value = Vec::new();
        while let Some((stored_key, stored)) = rows.item() {
            let key = keys::split_row_key(stored_key).map_or(&[] as &[u8], |(_, key)| key);
            let row = StoredRow::parse(stored).map_err(|error| {
                let what = format!("{at}, view `{}`, key {}", want.name, show_key(key));
                Error::malformed(&opened.path, what, &error)
            })?;
            let taken = take_over(index, key, row.json).map_err(|why| {
                let (at, view, key) = (at.clone(), want.name.clone(), show_key(key).into());
                Error::RowUnfit { at, view, version: want.version, key, why: why.into() }
            })?;
            if let Some(json) = taken.filter(|json| json != row.json) {
                value.clear();
                keys::row_value_header(row.offset, row.timestamp, &mut value);
                value.extend_from_slice(&json);
                totals.digest = totals.digest.wrapping_sub(digest::row(stored_key, stored));
                totals.digest = totals.digest.wrapping_add(digest::row(stored_key, &value));
                self.batch.put_cf(state, stored_key, &value);
                self.write_if_full()?;
            }
            rows.next();
        }
        rows.status().map_err(|error| self.rocks(error))?;
        value.clear();
        totals.encode(&mut value);
        self.batch.put_cf(opened.family(keys::META)?, keys::meta_totals(tag), &value);
        Ok(())
    }

    fn write_if_full(&mut self) -> Result<(), Error> {
        if self.batch.size_in_bytes() < BATCH { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        let written = self.opened.db.write_opt(batch, &self.root.shared.writing());
        written.map_err(|error| self.rocks(error))
    }

    fn rocks(&self, error: rocksdb::Error) -> Error {
        Error::rocks(&self.opened.path, error)
    }
}
