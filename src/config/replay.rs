//! `[replay]`, `[snapshots]` and `[audit]`: building the views again, what it starts from, and whether they are right.

use std::time::Duration;

use super::read::{Section, count, duration, none_or_count, or_never};
use crate::actors::plan::OnChange;

/// `[replay]`.
#[derive(Clone, Debug)]
pub struct ReplaySection {
    pub on_change: OnChange,
    pub keep: Duration,
    pub live_lag: Duration,
    pub epoch_records: u64,
    pub epoch_time: Duration,
}

/// `[snapshots]`.
#[derive(Clone, Debug)]
pub struct SnapshotsSection {
    /// 0 is never.
    pub records: u64,
    /// `None` is never.
    pub interval: Option<Duration>,
    pub keep: Duration,
    pub keep_daily: u32,
}

/// `[audit]`.
#[derive(Clone, Debug)]
pub struct AuditSection {
    /// Keys a minute; 0 is off.
    pub rate: u32,
}

pub(super) fn replay(s: Section<'_>) -> ReplaySection {
    let section = ReplaySection {
        on_change: s.choice("on-change", &[("wait", OnChange::Wait), ("replay", OnChange::Replay)]).unwrap_or_default(),
        keep: s.required("keep", duration),
        live_lag: s.required("live-lag", duration),
        epoch_records: s.required("epoch-records", count(1_000_000_000)),
        epoch_time: s.required("epoch-time", duration),
    };
    s.finish();
    section
}

pub(super) fn snapshots(s: Section<'_>) -> SnapshotsSection {
    let section = SnapshotsSection {
        records: s.required("records", none_or_count(1_000_000_000_000)),
        interval: s.required("interval", or_never(duration)),
        keep: s.required("keep", duration),
        keep_daily: s.required("keep-daily", none_or_count(10_000)) as u32,
    };
    s.finish();
    section
}

pub(super) fn audit(s: Section<'_>) -> AuditSection {
    let section = AuditSection { rate: s.required("rate", none_or_count(1_000_000)) as u32 };
    s.finish();
    section
}
