//! `segno snapshot create|list|verify|delete`.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::exit::{Code, Failure};
use super::figures::{bytes, count};
use super::operator::{Method, Operator};
use super::out;
use super::replay::plan_table::{table, to_the_right};
use crate::actors::admin::SnapshotInfo;
use crate::app::Declared;
use crate::config::Loaded;

/// Take, list, check and delete snapshots, from which replays and time travel start
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Take one now
    ///
    /// Flushes each partition and links its files: it reads and copies nothing, and takes no room until live's files
    /// change. Live goes on.
    Create {
        /// Only this topic; may be given several times. Without it all of the node.
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
    },
    /// Show all, the newest first. Reads manifests only
    List,
    /// Read one through and compare it with its manifest: checksums of files, and a digest of all rows
    Verify {
        /// The snapshot's number.
        id: u64,
    },
    /// Delete one. Live is not touched; replays and time travel before the next one read more of the log
    Delete {
        /// The snapshot's number.
        id: u64,
    },
}

#[derive(Deserialize)]
struct Snapshots {
    snapshots: Vec<SnapshotInfo>,
}

impl Snapshot {
    pub fn run(self, loaded: &Loaded, declared: Vec<Declared>, json: bool) -> Result<(), Failure> {
        let operator = Operator::open(loaded, declared)?;
        let raw = match &self {
            Snapshot::Create { topics } => {
                operator.raw(Method::Post, "/v1/snapshots", Some(&json!({ "topics": topics })))
            }
            Snapshot::List => operator.raw(Method::Get, "/v1/snapshots", None),
            Snapshot::Verify { id } => operator.raw(Method::Post, &format!("/v1/snapshots/{id}/verify"), None),
            Snapshot::Delete { id } => operator.raw(Method::Delete, &format!("/v1/snapshots/{id}"), None),
        }?;
        if json {
            out::line(String::from_utf8_lossy(&raw))?;
        }
        match self {
            Snapshot::Create { .. } | Snapshot::List if json => Ok(()),
            Snapshot::Create { .. } | Snapshot::List => out::line(show(&operator.read::<Snapshots>(&raw)?.snapshots)),
            Snapshot::Verify { id } => {
                let snapshot: SnapshotInfo = operator.read(&raw)?;
                match &snapshot.damaged {
                    Some(why) => Err(Failure::new(Code::Differs, format!("snapshot {id} is damaged: {why}"))
                        .next(format!("no replay starts from it; delete it: `segno snapshot delete {id}`"))),
                    None if json => Ok(()),
                    None => out::line(format_args!(
                        "Snapshot {id} is what was written: files and rows as its manifest says."
                    )),
                }
            }
            Snapshot::Delete { .. } if json => Ok(()),
            Snapshot::Delete { id } => out::line(format_args!("Snapshot {id} is deleted; live is as it was.")),
        }
    }
}

fn show(snapshots: &[SnapshotInfo]) -> String {
    if snapshots.is_empty() {
        return "no snapshot yet; `segno snapshot create` takes one".to_owned();
    }
    let mut table = table(&["snapshot", "topic", "taken", "why", "partitions", "rows", "size", "views", "state"]);
    for snapshot in snapshots {
        let views: Vec<String> = snapshot.views.iter().map(|view| format!("{} v{}", view.view, view.version)).collect();
        table.add_row(vec![
            snapshot.id.to_string(),
            snapshot.topic.clone(),
            snapshot.taken.to_string(),
            snapshot.why.clone(),
            snapshot.partitions.len().to_string(),
            count(snapshot.partitions.iter().map(|partition| partition.rows).sum()),
            bytes(snapshot.bytes),
            views.join(", "),
            snapshot.damaged.as_ref().map_or("intact".to_owned(), |why| format!("DAMAGED, not used: {why}")),
        ]);
    }
    to_the_right(&mut table, &[0, 4, 5, 6]);
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::admin::{SnapshotPartition, SnapshotView};
    use crate::position::{PartitionId, Position, Timestamp};

    #[test]
    fn a_damaged_snapshot_says_why() {
        let partition = |partition, rows| SnapshotPartition {
            partition: PartitionId(partition),
            generation: 1,
            position: Position(9),
            last_time: None,
            rows,
        };
        let snapshot = SnapshotInfo {
            id: 4,
            topic: "bank".to_owned(),
            taken: Timestamp(0),
            why: "time".to_owned(),
            views: vec![SnapshotView { view: "account".to_owned(), version: 2, fingerprint: String::new() }],
            partitions: vec![partition(0, 600), partition(1, 500)],
            bytes: 2048,
            damaged: Some("000004.sst is missing".to_owned()),
        };
        let text = show(&[snapshot]);
        for part in ["1970-01-01", "account v2", "1,100", "2.0 KiB", "not used: 000004.sst is missing"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(show(&[]).contains("segno snapshot create"));
    }
}
