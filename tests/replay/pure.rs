//! *Pure*: a fold that reads a clock or rolls dice does not get through the comparison, and is told apart by its keys.

use std::time::{SystemTime, UNIX_EPOCH};

use segno::actors::replay::words::{BaseChoice, JobAction, Phase, ReplayError, ReplayRequest};
use segno::event::EventMeta;
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::stage::{Setup, Stage};
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

fn impure<const A: char>(base: BaseChoice) {
    let impure: Arc<dyn Definition> = Arc::new(RustView::<Impure<A>>::new());
    let stage = Stage::new(Setup::of(&[ledger::<1>(), impure]));
    for n in 0..100 {
        let key = if n % 7 == 0 { format!("touched-{n}") } else { format!("clean-{n}") };
        stage.pen.send(&key, n as i64, &What::Add { n, amount: if n % 7 == 0 { 13 } else { 1 } });
    }
    stage.settle();
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
