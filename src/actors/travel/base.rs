//! What a fold begins with: a snapshot, or the beginning of the log.

use std::sync::Arc;

use super::{Served, Travel, log_failed, store_failed};
use crate::actors::replay::words::ReplayError;
use crate::position::{Position, TopicPartition};
use crate::state::{Generation, Lineage};
use crate::streams::Watermarks;

/// A possible base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// `None`: the beginning of the log.
    pub snapshot: Option<u64>,
    /// The generation that the snapshot was taken of.
    generation: u64,
    pub position: Position,
}

impl Candidate {
    /// Whether the generation has itself been folded from this state. One that a replay has made of a snapshot may have
    /// taken over rows that other definitions made, and then the beginning of the log gives other rows, rightly.
    pub fn of_its_own(&self, live: &Generation) -> bool {
        match self.snapshot {
            Some(_) => self.generation == live.number(),
            None => live.number() == 0,
        }
    }
}

/// A base that is open.
pub(super) struct Base {
    pub candidate: Candidate,
    /// The snapshot's rows.
    pub generation: Option<Arc<Generation>>,
}

impl Base {
    /// As a cost names it.
    pub fn name(&self) -> String {
        match self.candidate.snapshot {
            Some(id) => format!("snapshot {id}"),
            None => "genesis".to_owned(),
        }
    }

    pub fn position(&self) -> Position {
        self.candidate.position
    }
}

impl Travel<'_> {
    /// Refuses a cut that the log has not reached.
    pub(super) fn watermarks(&self, at: &TopicPartition, cut: Position) -> Result<Watermarks, ReplayError> {
        let watermarks = self.log.watermarks(at).map_err(log_failed)?;
        if cut > watermarks.end {
            let end = watermarks.end;
            return Err(ReplayError::Refused(format!(
                "{at}: position {cut} lies beyond the end of the log, which is {end}: ask for a position up to {end}"
            )));
        }
        Ok(watermarks)
    }

    /// Every base from which the state at `cut` can be folded, the newest first. Reads the list of snapshots and asks
    /// the log for its ends and for its retention; no record.
    pub(super) fn candidates(
        &self,
        served: &Served,
        at: &TopicPartition,
        cut: Position,
    ) -> Result<Vec<Candidate>, ReplayError> {
        let start = self.watermarks(at, cut)?.start;
        let began = self.began(at.partition);
        let mut found = Vec::new();
        for snapshot in self.usable(served, at)? {
            if snapshot.position <= cut && (start <= snapshot.position || snapshot.position == cut) {
                found.push(snapshot);
            }
        }
        found.sort_by_key(|candidate| std::cmp::Reverse((candidate.position, candidate.snapshot)));
        let whole = self.log.compacted(&self.topic.name).map_err(log_failed)? != Some(true);
        if whole && start <= began && self.lineage(at).is_whole() {
            // Before it began the history is empty.
            found.push(Candidate { snapshot: None, generation: 0, position: began.min(cut) });
        }
        Ok(found)
    }

    /// Opens the newest base at or before `cut` that can be opened.
    pub(super) fn base(&self, served: &Served, at: &TopicPartition, cut: Position) -> Result<Base, ReplayError> {
        for candidate in self.candidates(served, at, cut)? {
            if let Some(base) = self.open(at, candidate) {
                return Ok(base);
            }
        }
        Err(self.refused(served, at, cut)?)
    }

    /// Opens the oldest base at or before `cut`: the longest history there is.
    pub(super) fn oldest_base(&self, served: &Served, at: &TopicPartition, cut: Position) -> Result<Base, ReplayError> {
        for candidate in self.candidates(served, at, cut)?.into_iter().rev() {
            if let Some(base) = self.open(at, candidate) {
                return Ok(base);
            }
        }
        Err(self.refused(served, at, cut)?)
    }

    /// Opens a base; `None` when it is of another history, and, with a line in the log, when it is damaged or gone
    /// meanwhile.
    pub(super) fn open(&self, at: &TopicPartition, candidate: Candidate) -> Option<Base> {
        let Some(id) = candidate.snapshot else { return Some(Base { candidate, generation: None }) };
        match self.store.open_snapshot(id, at) {
            Ok(generation) if generation.applied() != candidate.position => {
                let (said, found) = (candidate.position.0, generation.applied().0);
                tracing::warn!(%at, snapshot = id, said, found, "the snapshot is not at its position; not used");
                None
            }
            // Of a history that began elsewhere, or that took its rows over somewhere else.
            Ok(generation) if generation.began() != self.began(at.partition) => None,
            Ok(generation) if generation.lineage() != self.lineage(at) => None,
            Ok(generation) => Some(Base { candidate, generation: Some(generation) }),
            Err(error) => {
                tracing::warn!(%at, snapshot = id, %error, "the snapshot cannot be opened; not used");
                None
            }
        }
    }

    /// Where live's rows were last taken over from other definitions.
    fn lineage(&self, at: &TopicPartition) -> Lineage {
        let live = self.live.iter().find(|generation| generation.at() == at);
        live.map(|live| live.lineage()).unwrap_or_default()
    }

    /// The snapshots of the partition that know the view by this definition.
    fn usable(&self, served: &Served, at: &TopicPartition) -> Result<Vec<Candidate>, ReplayError> {
        let live = self.live.iter().find(|generation| generation.at() == at);
        let mut found = Vec::new();
        for snapshot in self.store.snapshots().map_err(store_failed)? {
            if snapshot.topic != self.topic.name || snapshot.damaged.is_some() {
                continue;
            }
            let part = snapshot.parts.iter().find(|part| part.at == *at && served.among(&part.views).is_some());
            let Some(part) = part else { continue };
            let same = |live: &Arc<Generation>| *live.identity() == part.identity && live.lineage() == part.lineage;
            if live.is_none_or(same) {
                let (snapshot, generation) = (Some(snapshot.id), part.generation);
                found.push(Candidate { snapshot, generation, position: part.position });
            }
        }
        Ok(found)
    }

    /// Why there is no base, and what can be asked instead.
    fn refused(&self, served: &Served, at: &TopicPartition, cut: Position) -> Result<ReplayError, ReplayError> {
        let Watermarks { start, end } = self.watermarks(at, cut)?;
        let began = self.began(at.partition);
        let lineage = self.lineage(at);
        let why = if !lineage.is_whole() {
            let from = lineage.position;
            format!(
                "its rows were taken over from an older definition at position {from}, which does not count any more"
            )
        } else if start <= began {
            "its log is compacted: what compaction took is missing from the history".to_owned()
        } else {
            format!("the log holds {start}..{end}, so that the records {began}..{start} are gone")
        };
        let view = &served.ident.name;
        let next = self.usable(served, at)?.into_iter().map(|snapshot| snapshot.position).filter(|p| *p >= start).min();
        let options = match next {
            Some(position) if position > cut => {
                format!("ask for position {position} or later, where a snapshot stands")
            }
            _ => {
                "ask without a time for the row as it is now; snapshots that are taken from now on reach back to their \
                  own positions (`segno snapshot create`)"
                    .to_owned()
            }
        };
        Ok(ReplayError::Refused(format!(
            "{at}: view `{view}` as of position {cut} needs a base, and there is none: {why}, and no snapshot of the \
             same definition can be used at or before {cut}; {options}"
        )))
    }
}
