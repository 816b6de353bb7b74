//! *Pure*: a fold that reads a clock or rolls dice does not get through the comparison, and is told apart by its keys.

use std::time::{SystemTime, UNIX_EPOCH};

use segno::actors::replay::words::{BaseChoice, JobAction, Phase, ReplayError, ReplayRequest};
use segno::event::EventMeta;
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};

use metrics_exporter_prometheus::PrometheusHandle;

use crate::stage::{Setup, Stage};
use crate::tape::Written;
use crate::views::{LEDGER, What, ledger};

/// What reaches into the world; `A` says for what.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Impure<const A: char> {
    n: u64,
    noise: u64,
}

#[derive(Deserialize)]
#[serde(tag = "event_type", content = "payload")]
enum Entry {
    Add { amount: i64 },
}

impl<const A: char> View for Impure<A> {
    const NAME: &'static str = "impure";
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, Entry::Add { amount }: &Entry, _: &EventMeta<'_>) -> Result<(), Reject> {
        self.n += 1;
        // Only some of the rows are touched by it.
        if *amount == 13 {
            self.noise = match A {
                'c' => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
                _ => rand::random(),
            };
        }
        Ok(())
    }
}

/// Fifteen rows of a hundred are touched.
fn stage<const A: char>(audit: u32) -> Stage {
    let impure: Arc<dyn Definition> = Arc::new(RustView::<Impure<A>>::new());
    let stage = Stage::new(Setup { audit, ..Setup::of(&[ledger::<1>(), impure]) });
    for n in 0..100 {
        let key = if n % 7 == 0 { format!("touched-{n}") } else { format!("clean-{n}") };
        stage.pen.send(&key, n as i64, &What::Add { n, amount: if n % 7 == 0 { 13 } else { 1 } });
    }
    stage.settle();
    stage
}

fn impure<const A: char>(base: BaseChoice) {
    let stage = stage::<A>(0);
    let (rows, generations, directories) = (stage.rows("impure"), stage.generations(), stage.directories());
    // A yes does not help.
    let request = ReplayRequest { from: "beginning".to_owned(), base, yes: true, ..ReplayRequest::default() };
    let begun = stage.replay(&request).unwrap();
    let job = stage.outcome(begun.id);
    assert_eq!(job.phase, Phase::Failed, "{job:#?}");
    let reason = job.reason.unwrap();
    for part in ["`impure`", "the same definitions gave other rows", "15 changed", "touched-", "not pure", "segno"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert!(!reason.contains("clean-") && !reason.contains(LEDGER.to_uppercase().as_str()), "{reason}");
    let verification = job.verification.unwrap();
    assert!(!verification.identical);
    let verdict = verification.views.iter().find(|verdict| verdict.view == "impure").unwrap();
    assert_eq!((verdict.added, verdict.removed, verdict.changed, verdict.unchanged), (0, 0, 15, 85));
    for sample in &verdict.samples {
        assert!(sample.key.starts_with("touched-"), "{sample:?}");
        assert_eq!(sample.fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>(), ["noise"]);
    }
    let other = verification.views.iter().find(|verdict| verdict.view == LEDGER).unwrap();
    assert_eq!((&other.live_digest, other.changed), (&other.new_digest, 0));
    assert_eq!((stage.rows("impure"), stage.generations()), (rows, generations), "live is as it was");
    // Nor does a yes that comes later.
    let late = stage.act(begun.id, JobAction::Approve).unwrap_err();
    assert!(matches!(&late, ReplayError::NotNow(_)), "{late}");
    stage.act(begun.id, JobAction::Cancel).unwrap();
    assert_eq!(stage.directories(), directories);
}

#[test]
fn pure_a_view_that_reads_the_clock_is_never_cut_over() {
    impure::<'c'>(BaseChoice::Auto);
}

#[test]
fn pure_a_view_that_rolls_dice_is_never_cut_over() {
    impure::<'r'>(BaseChoice::Genesis);
}

/// What the program logs, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The audit names the row in `/readyz`, in the log and in the metrics: view, key, partition, and the offset up to which
/// it was folded.
fn told<const A: char>(lines: &Lines, metrics: &PrometheusHandle) {
    let stage = stage::<A>(60_000);
    let detail =
        || stage.node().ready().checks.into_iter().find(|check| check.name == "audit").map(|check| check.detail);
    stage.until("told by the audit", || detail().is_some());
    let detail = detail().unwrap();
    assert!(stage.node().ready().ok, "the other rows are as right as before");
    let tracks = stage.pen.tracks().clone();
    let records =
        tracks.iter().enumerate().flat_map(|(at, track)| track.records.iter().map(move |record| (at, record)));
    let place = |(at, record): (usize, &Written)| {
        let begins = format!("ledger/{at}: view `impure`, key \"{}\", up to offset {}: ", record.key, record.offset);
        detail.starts_with(&begins).then(|| (at, record.key.clone(), record.offset))
    };
    let (at, key, offset) = records.clone().find_map(place).unwrap_or_else(|| panic!("of no record: {detail}"));
    assert!(key.starts_with("touched-") && detail.contains("reads something beside its events"), "{detail}");
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.lines().any(|line| line.contains("ERROR") && line.contains(&detail)), "{detail}: {logged}");
    let metrics = metrics.render();
    let has = |name: &str, labels: &[String]| {
        let of =
            |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
        let line = metrics.lines().find(of).unwrap_or_else(|| panic!("{name} {labels:?}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let mut labels =
        vec![r#"topic="ledger""#.to_owned(), r#"view="impure""#.to_owned(), format!(r#"partition="{at}""#)];
    assert!(has("segno_audit_diverged_total", &labels) > 0.0);
    labels.push(format!(r#"key="{key}""#));
    assert_eq!(has("segno_audit_first_diverging_offset", &labels), offset as f64);
}

#[test]
fn pure_the_audit_tells_of_a_view_that_reads_the_clock_or_rolls_dice() {
    let (lines, metrics) = (Lines::default(), segno::telemetry::metrics().unwrap());
    let kept = lines.clone();
    let logs = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_ansi(false);
    logs.with_writer(move || kept.clone()).try_init().unwrap();
    told::<'c'>(&lines, &metrics);
    told::<'r'>(&lines, &metrics);
}
