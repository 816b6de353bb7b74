//! Two rows side by side.

use serde_json::Value;

use crate::actors::replay::words::{Difference, FieldDifference};
use crate::position::PartitionId;
use crate::state::Row;

/// How the rows of a key differ.
pub(super) fn difference(partition: PartitionId, key: &[u8], live: Option<&Row>, new: Option<&Row>) -> Difference {
    let (live, new) = (live.map(value), new.map(value));
    let mut fields = Vec::new();
    if let (Some(Value::Object(live)), Some(Value::Object(new))) = (&live, &new) {
        for (field, before) in live {
            let after = new.get(field);
            if after != Some(before) {
                let field = field.clone();
                fields.push(FieldDifference { field, live: Some(before.clone()), new: after.cloned() });
            }
        }
        for (field, after) in new.iter().filter(|(field, _)| !live.contains_key(*field)) {
            fields.push(FieldDifference { field: field.clone(), live: None, new: Some(after.clone()) });
        }
    }
    Difference { partition, key: text(key), live, new, fields }
}

/// A key as text; bytes that are not are written as `\xNN`.
pub(super) fn text(key: &[u8]) -> String {
    let mut text = String::new();
    for chunk in key.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The row's JSON; what is not JSON is shown as text.
fn value(row: &Row) -> Value {
    serde_json::from_slice(&row.json).unwrap_or_else(|_| Value::String(text(&row.json)))
}
