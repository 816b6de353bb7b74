//! In which partitions a key is looked for.

use super::{Served, Travel, store_failed};
use crate::actors::replay::words::ReplayError;
use crate::position::Offset;
use crate::state::Generation;
use crate::streams::murmur2;

/// Partitions in the order in which reads look: where Kafka's default partitioner puts the key, then the others.
pub(super) struct Places<'a> {
    pub partitions: Vec<&'a Generation>,
    /// Live has the key in each of them: in no other need it be looked for.
    pub known: bool,
}

impl Travel<'_> {
    /// Where the key may lie. Reads live, not the log.
    ///
    /// A key that live has in some partitions, as a row or set aside, is looked for there only. One that it does not have
    /// (never seen, or removed since) may lie anywhere.
    pub(super) fn places(&self, served: &Served, key: &[u8]) -> Result<Places<'_>, ReplayError> {
        let home = murmur2::partition_of(key, self.live.len().max(1) as u32) as usize;
        let (before, from_home) = self.live.split_at(home.min(self.live.len()));
        let all: Vec<&Generation> = from_home.iter().chain(before).map(|generation| &**generation).collect();
        let mut having = Vec::new();
        for &generation in &all {
            let (read, tag) = (generation.snapshot_read(), served.tag(generation)?);
            let row = read.get(tag, key).map_err(store_failed)?;
            if row.is_some() || !read.held_of(tag, key, Offset(0), 1).map_err(store_failed)?.is_empty() {
                having.push(generation);
            }
        }
        let known = !having.is_empty();
        Ok(Places { partitions: if known { having } else { all }, known })
    }
}
