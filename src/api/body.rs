//! The JSON of rows, which the server writes and the command line reads.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::actors::admin::{Cost, Explanation, Step};
use crate::actors::handle::{Page, Reading, Row};
use crate::intake::show_bytes;
use crate::position::{Offset, PartitionId, PositionVector, Timestamp};

/// One row and the position that it was read at.
#[derive(Debug, Serialize, Deserialize)]
pub struct RowAnswer {
    pub view: String,
    /// A string, or `{"base64": …}`.
    pub key: Value,
    /// The row, byte for byte as it is stored.
    pub value: Box<RawValue>,
    pub partition: PartitionId,
    /// Of the last event that was folded into the row.
    pub offset: Offset,
    /// Of the same event, in milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// The same as RFC 3339; absent beyond the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    pub position: PositionVector,
    /// What finding it took, when it was asked for as of a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// A page of rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct PageAnswer {
    pub view: String,
    pub rows: Vec<PageRow>,
    /// The cursor of the next page; null when there is none.
    pub next: Option<String>,
    pub position: PositionVector,
}

/// A row of a page; the fields are those of [`RowAnswer`].
#[derive(Debug, Serialize, Deserialize)]
pub struct PageRow {
    pub key: Value,
    pub value: Box<RawValue>,
    pub partition: PartitionId,
    pub offset: Offset,
    pub timestamp: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// How a row came to be.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExplainAnswer {
    pub view: String,
    pub key: Value,
    /// The row before the first step.
    pub before: Option<Box<RawValue>>,
    pub steps: Vec<StepAnswer>,
    /// Steps before those that are here.
    pub left_out: u64,
    pub cost: Cost,
}

/// One record of a row's history; the fields are those of [`Step`].
#[derive(Debug, Serialize, Deserialize)]
pub struct StepAnswer {
    pub partition: PartitionId,
    pub offset: Offset,
    pub timestamp: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    pub event_type: Option<String>,
    pub event_id: Option<String>,
    pub outcome: String,
    pub detail: Option<String>,
    /// The row after it.
    pub state: Option<Box<RawValue>>,
}

impl ExplainAnswer {
    pub fn of(view: String, key: &[u8], found: Explanation) -> Self {
        let Explanation { before, steps, left_out, cost } = found;
        let steps = steps.into_iter().map(StepAnswer::from).collect();
        ExplainAnswer { view, key: show_bytes(key), before, steps, left_out, cost }
    }
}

impl From<Step> for StepAnswer {
    fn from(step: Step) -> Self {
        let Step { partition, offset, timestamp, event_type, event_id, outcome, detail, state } = step;
        let time = timestamp.to_rfc3339();
        StepAnswer { partition, offset, timestamp, time, event_type, event_id, outcome, detail, state }
    }
}

impl RowAnswer {
    pub fn of(view: String, row: Row, position: PositionVector) -> Self {
        let PageRow { key, value, partition, offset, timestamp, time } = row.into();
        RowAnswer { view, key, value, partition, offset, timestamp, time, position, cost: None }
    }
}

impl From<Row> for PageRow {
    fn from(row: Row) -> Self {
        PageRow {
            key: show_bytes(&row.key),
            value: row.json,
            partition: row.partition,
            offset: row.offset,
            timestamp: row.timestamp,
            time: row.timestamp.to_rfc3339(),
        }
    }
}

impl PageAnswer {
    pub fn of(view: String, reading: Reading<Page>) -> Self {
        let rows = reading.value.rows.into_iter().map(PageRow::from).collect();
        PageAnswer { view, rows, next: reading.value.next, position: reading.position }
    }
}
