//! What two generations of a partition hold differently, row by row, and which of it counts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::words::{DefinitionChange, Difference, FieldDifference, ViewVerdict};
use crate::position::{Offset, PartitionId, TopicPartition};
use crate::state::{self, Compared as Counts, Generation, Held, ReadView, Standing, StoredRow, ViewTag, digest};

/// Differences that are kept of one view.
pub const SAMPLES: usize = 50;
/// They lie in the job's record, which is written at every step. So a row that is longer is shown by its beginning, a
/// field of it too, and no more fields than that.
const ROW_BYTES: usize = 4 << 10;
const FIELD_BYTES: usize = 512;
const FIELDS: usize = 20;

/// The words for rows that are not the same though nothing has changed.
pub fn differs_all_the_same(view: &ViewVerdict) -> String {
    let first: Vec<String> =
        view.samples.iter().take(3).map(|row| format!("partition {} key \"{}\"", row.partition, row.key)).collect();
    format!(
        "topic `{}`, view `{}`: the same definitions gave other rows ({} added, {} removed, {} changed; first: {}), so \
         there is no cut-over. Either a fold is not pure (a clock, random numbers, the order of a HashMap), or the code of \
         a Rust view or a policy was changed without raising the view's version (raise it, and this becomes a change that \
         can be looked at and approved), or live's rows are damaged (`segno verify` tells). `segno replay diff` shows the \
         rows",
        view.topic,
        view.view,
        view.added,
        view.removed,
        view.changed,
        first.join(", "),
    )
}

/// The view's number in a generation, if it has the view.
pub fn tag_of(generation: &Generation, view: &str) -> Option<ViewTag> {
    generation.views().iter().find(|stored| stored.name == view).map(|stored| stored.tag)
}

/// What two generations of a partition hold differently in one view.
pub struct Found {
    pub counts: Counts,
    pub samples: Vec<Difference>,
    /// Rows were counted as the same although one side has yet to apply an event of theirs.
    pub excused: bool,
}

/// Compares one view of `live` with one of `new`. With `exact`, rows are taken as the same while either side still tries
/// an event of theirs again: whoever has tried until it was done is only ahead.
pub fn differences(
    partition: PartitionId,
    (live, live_tag): (&ReadView<'_>, ViewTag),
    (new, new_tag): (&ReadView<'_>, ViewTag),
    exact: bool,
    most: usize,
) -> Result<Found, state::Error> {
    let mut waiting = Vec::new();
    for (read, tag) in [(live, live_tag), (new, new_tag)] {
        if exact && read.totals(tag)?.books.waiting > 0 {
            waiting.push((read, tag));
        }
    }
    let waits = |key: &[u8]| -> Result<bool, state::Error> {
        for (read, tag) in &waiting {
            let first = read.held_of(*tag, key, Offset(0), 1)?;
            if first.first().is_some_and(|held: &Held| held.standing == Standing::Waiting) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let (mut samples, mut excused) = (Vec::new(), Counts::default());
    let mut counts = state::compare(live, live_tag, new, new_tag, exact, &mut |key, before, after| {
        if waits(key)? {
            match (before, after) {
                (None, _) => excused.added += 1,
                (_, None) => excused.removed += 1,
                _ => excused.changed += 1,
            }
        } else if samples.len() < most {
            samples.push(difference(partition, key, before, after));
        }
        Ok(())
    })?;
    counts.added -= excused.added;
    counts.removed -= excused.removed;
    counts.changed -= excused.changed;
    counts.unchanged += excused.different();
    Ok(Found { counts, samples, excused: excused.different() > 0 })
}

/// The first view in which two generations that stand still at one position differ. Reads no rows but those that are
/// excused, as long as nothing else differs: live waits for the answer.
pub fn unequal(at: &TopicPartition, live: &Generation, new: &Generation) -> Result<Option<ViewVerdict>, state::Error> {
    let (still, built) = (live.snapshot_read(), new.snapshot_read());
    for view in live.views() {
        let Some(tag) = tag_of(new, &view.name) else { continue };
        let (before, after) = (still.totals(view.tag)?, built.totals(tag)?);
        if (before.digest, before.rows) == (after.digest, after.rows) {
            continue;
        }
        let mut waiting = BTreeSet::new();
        for (generation, tag) in [(live, view.tag), (new, tag)] {
            let queues = generation.held_keys()?.into_iter();
            let waits = queues.filter(|queue| queue.view == tag && queue.standing == Standing::Waiting);
            waiting.extend(waits.map(|queue| queue.key));
        }
        let keys: Vec<&[u8]> = waiting.iter().map(Vec::as_slice).collect();
        let (of_live, of_new) = (of_rows(live, view.tag, &keys)?, of_rows(new, tag, &keys)?);
        let but_for = |digest: u128, rows: i64, of: (u128, i64)| (digest.wrapping_sub(of.0), rows - of.1);
        if but_for(before.digest, before.rows, of_live) == but_for(after.digest, after.rows, of_new) {
            continue;
        }
        let found = differences(at.partition, (&still, view.tag), (&built, tag), true, 10)?;
        let counts = found.counts;
        return Ok(Some(ViewVerdict {
            topic: at.topic.to_string(),
            view: view.name.clone(),
            change: DefinitionChange::Same,
            live_digest: format!("{:032x}", before.digest),
            new_digest: format!("{:032x}", after.digest),
            added: counts.added,
            removed: counts.removed,
            changed: counts.changed,
            unchanged: counts.unchanged,
            samples: found.samples,
        }));
    }
    Ok(None)
}

/// Digest and number of the rows that these keys have.
fn of_rows(generation: &Generation, tag: ViewTag, sorted_keys: &[&[u8]]) -> Result<(u128, i64), state::Error> {
    let (mut sum, mut rows) = (0u128, 0);
    generation.load(tag, sorted_keys, |index, row| {
        if let Some(row) = row {
            sum = sum.wrapping_add(digest::stored(tag, sorted_keys[index], &row));
            rows += 1;
        }
        Ok(())
    })?;
    Ok((sum, rows))
}

/// A row that differs, for people.
pub fn difference(
    partition: PartitionId,
    key: &[u8],
    live: Option<StoredRow<'_>>,
    new: Option<StoredRow<'_>>,
) -> Difference {
    let (live, new) = (live.map(|row| row.json), new.map(|row| row.json));
    let object = |json: Option<&[u8]>| match json.map(serde_json::from_slice) {
        Some(Ok(Value::Object(fields))) => Some(fields),
        _ => None,
    };
    let mut fields = Vec::new();
    if let (Some(live), Some(new)) = (object(live), object(new)) {
        let mut names: Vec<&String> = live.keys().chain(new.keys().filter(|name| !live.contains_key(*name))).collect();
        names.sort();
        names.retain(|name| live.get(*name) != new.get(*name));
        for name in names.into_iter().take(FIELDS) {
            let [live, new] = [live.get(name), new.get(name)].map(|value| value.map(|value| cut(value, FIELD_BYTES)));
            fields.push(FieldDifference { field: name.clone(), live, new });
        }
    }
    let key = std::str::from_utf8(key).map_or_else(|_| key.escape_ascii().to_string(), str::to_owned);
    let [live, new] = [live, new].map(|json| json.map(row));
    Difference { partition, key, live, new, fields }
}

/// The row's JSON; what is not JSON is shown as text.
fn row(json: &[u8]) -> Value {
    match serde_json::from_slice(json) {
        Ok(value) => cut(&value, ROW_BYTES),
        Err(_) => cut(&Value::String(json.escape_ascii().to_string()), ROW_BYTES),
    }
}

/// The value, or the beginning of its text where that is longer than `most`.
fn cut(value: &Value, most: usize) -> Value {
    let text = value.to_string();
    if text.len() <= most {
        return value.clone();
    }
    let begin = &text[..text.floor_char_boundary(most / 2)];
    Value::String(format!("{begin}… ({} bytes)", text.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::position::Timestamp;

    fn compared(live: &Value, new: &Value) -> Difference {
        let (live, new) = (live.to_string(), new.to_string());
        let [live, new] =
            [&live, &new].map(|json| StoredRow { offset: Offset(1), timestamp: Timestamp(2), json: json.as_bytes() });
        difference(PartitionId(3), b"key", Some(live), Some(new))
    }

    #[test]
    fn a_row_that_differs_is_shown_with_its_fields() {
        let found = compared(&json!({"a": 1, "b": 2, "c": 3}), &json!({"a": 1, "b": 5, "d": 4}));
        assert_eq!((found.live.unwrap()["b"].clone(), found.new.unwrap()["b"].clone()), (json!(2), json!(5)));
        let fields = found.fields.into_iter().map(|field| (field.field, field.live, field.new));
        let (b, c, d) = (Some(json!(2)), Some(json!(3)), Some(json!(4)));
        let want = [("b", b, Some(json!(5))), ("c", c, None), ("d", None, d)];
        assert!(fields.eq(want.map(|(name, live, new)| (name.to_owned(), live, new))));
    }

    /// Samples are written with every change of a job's record.
    #[test]
    fn samples_of_large_rows_are_bounded() {
        let long = "ä".repeat(1 << 20);
        let of = |n: u32| (0..1000).map(|i| (format!("f{i:03}"), json!(n))).collect::<serde_json::Map<_, _>>();
        let (mut live, mut new) = (of(1), of(2));
        live.insert("a".to_owned(), json!(long));
        new.insert("a".to_owned(), json!(format!("{long}!")));
        let found = compared(&Value::Object(live), &Value::Object(new));
        assert_eq!(found.fields.len(), FIELDS);
        let first = found.fields[0].live.as_ref().unwrap().as_str().unwrap();
        assert!(first.starts_with("\"ä") && first.ends_with("… (2097154 bytes)"), "{first}");
        let stored = serde_json::to_vec(&found).unwrap().len();
        assert!(stored < 3 * ROW_BYTES + 2 * FIELDS * FIELD_BYTES, "{stored}");
    }
}
