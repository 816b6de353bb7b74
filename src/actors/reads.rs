//! Reads over the generations of one topic: one function a question, used by the running node and by the CLI when no
//! node runs. They block on the store.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::handle::{Page, ReadError, Reading, Row};
use crate::position::{PartitionId, PositionVector};
use crate::state::{self, Generation, ReadView, ViewTag};
use crate::streams::murmur2;

/// The most rows of one page.
pub const LIST_MAX: usize = 1000;

/// One row. The partition that Kafka's default partitioner would choose is asked first, then the others, for a topic's
/// writers may choose partitions otherwise.
pub fn get(
    topic: &str,
    generations: &[Arc<Generation>],
    view: &str,
    key: &[u8],
) -> Result<Reading<Option<Row>>, ReadError> {
    let mut position = PositionVector::new(topic);
    let first = murmur2::partition_of(key, generations.len().max(1) as u32) as usize;
    let order = (first..generations.len()).chain(0..first);
    let mut found = None;
    for generation in order.filter_map(|index| generations.get(index)) {
        let read = generation.snapshot_read();
        let at = generation.at().partition;
        position.raise(at, read.position().map_err(store)?);
        if found.is_none() {
            let row = read.get(tag(generation, view)?, key).map_err(store)?;
            found = row.map(|row| shown(at, key.to_vec(), row)).transpose()?;
        }
    }
    Ok(Reading { value: found, position })
}

/// A page of rows, partition after partition. The answer's position names every partition; each row is as of its own
/// partition's.
pub fn list(
    topic: &str,
    generations: &[Arc<Generation>],
    view: &str,
    prefix: &[u8],
    cursor: Option<&str>,
    limit: usize,
) -> Result<Reading<Page>, ReadError> {
    if limit == 0 || limit > LIST_MAX {
        return Err(ReadError::TooLarge { what: "the limit", found: limit, max: LIST_MAX });
    }
    let (start, mut after) = match cursor {
        None => (0, None),
        Some(cursor) => {
            let (partition, key) = parse_cursor(cursor, view)?;
            (partition.0 as usize, Some(key))
        }
    };
    if start > generations.len() {
        return Err(ReadError::BadCursor(format!("there is no partition {start}")));
    }
    let reads: Vec<ReadView<'_>> = generations.iter().map(|generation| generation.snapshot_read()).collect();
    let mut position = PositionVector::new(topic);
    for (generation, read) in generations.iter().zip(&reads) {
        position.raise(generation.at().partition, read.position().map_err(store)?);
    }
    let mut page = Page::default();
    for (generation, read) in generations.iter().zip(&reads).skip(start) {
        let at = generation.at().partition;
        let wanted = limit - page.rows.len();
        let some = read.list(tag(generation, view)?, prefix, after.as_deref(), wanted).map_err(store)?;
        after = None;
        for (key, row) in some.rows {
            page.rows.push(shown(at, key, row)?);
        }
        if page.rows.len() == limit {
            let more = some.next.is_some() || at.0 as usize + 1 < generations.len();
            page.next = page.rows.last().filter(|_| more).map(|last| make_cursor(view, at, &last.key));
            break;
        }
    }
    Ok(Reading { value: page, position })
}

fn tag(generation: &Generation, view: &str) -> Result<ViewTag, ReadError> {
    let in_use = |tag: &&ViewTag| generation.views().iter().any(|known| known.tag == **tag && known.name == view);
    generation.tags().iter().find(in_use).copied().ok_or_else(|| ReadError::NoSuchView {
        name: view.to_owned(),
        known: generation.views().iter().map(|known| known.name.clone()).collect(),
    })
}

fn shown(partition: PartitionId, key: Vec<u8>, row: state::Row) -> Result<Row, ReadError> {
    let unreadable = |why: String| ReadError::Store(format!("a stored row is not JSON: {why}"));
    let json = String::from_utf8(row.json).map_err(|error| unreadable(error.to_string()))?;
    let json = RawValue::from_string(json).map_err(|error| unreadable(error.to_string()))?;
    Ok(Row { key, partition, offset: row.offset, timestamp: row.timestamp, json })
}

fn store(error: state::Error) -> ReadError {
    ReadError::Store(error.to_string())
}

/// `view.partition.key in hexadecimal`: opaque to readers, refused by another view.
fn make_cursor(view: &str, partition: PartitionId, key: &[u8]) -> String {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{view}.{partition}.{hex}")
}

fn parse_cursor(cursor: &str, view: &str) -> Result<(PartitionId, Vec<u8>), ReadError> {
    let bad = || ReadError::BadCursor(cursor.chars().take(64).collect());
    let (rest, hex) = cursor.rsplit_once('.').ok_or_else(bad)?;
    let (of, partition) = rest.rsplit_once('.').ok_or_else(bad)?;
    if of != view || hex.len() % 2 != 0 || !hex.is_ascii() {
        return Err(bad());
    }
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| bad());
    let key = (0..hex.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, _>>()?;
    Ok((PartitionId(partition.parse().map_err(|_| bad())?), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_round_trip_and_is_refused_elsewhere() {
        let cursor = make_cursor("a.b", PartitionId(3), &[0, 255, 7]);
        assert_eq!(parse_cursor(&cursor, "a.b").unwrap(), (PartitionId(3), vec![0, 255, 7]));
        for bad in ["", "x", "a.b.3.0", "a.b.x.00", "a.b.3.zz", "other.3.00"] {
            assert!(parse_cursor(bad, "a.b").is_err(), "{bad}");
        }
    }
}
