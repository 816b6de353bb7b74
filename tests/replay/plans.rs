//! What a plan says before anything was measured.

use std::time::Duration;

use segno::actors::replay::words::{BaseChoice, ReplayRequest};

use crate::stage::{Setup, Stage};
use crate::views::{Tally, What};

#[test]
fn a_first_plan_knows_how_long_by_a_trial_that_changes_nothing() {
    let tally = Tally { version: 1, factor: 1, floor: None };
    let stage = Stage::new(Setup { batch: 4096, flush: Duration::from_secs(3600), ..Setup::of(&[tally.definition()]) });
    let request = ReplayRequest { from: "beginning".to_owned(), base: BaseChoice::Genesis, ..ReplayRequest::default() };
    for n in 0..30_000 {
        stage.pen.send(&format!("key-{}", n % 1000), n as i64, &What::Add { n, amount: 1 });
        if n == 10_000 {
            stage.settle();
            assert_eq!(stage.plan(&request).unwrap().seconds, None, "too little to tell by");
        }
    }
    stage.settle();
    let (rows, positions, directories) = (stage.rows(crate::views::TALLY), stage.positions(), stage.directories());
    let plan = stage.plan(&request).unwrap();
    // A thousand small rows, of thirty changes each, of which a batch leaves one in memory: 2.4 MB if each were there.
    assert!(
        (5_000..1_500_000).contains(&plan.disk_needed),
        "what is not flushed takes room, once: {}",
        plan.disk_needed
    );
    let seconds = stage.plan(&request).unwrap().seconds.expect("a trial tells");
    assert!(seconds > 0.0 && seconds.is_finite(), "{seconds}");
    let capped = stage.plan(&ReplayRequest { rate: Some(10), ..request }).unwrap();
    assert_eq!(capped.seconds, Some(3000.0), "a cap that is lower than any trial");
    let applied =
        |all: Vec<(_, _, u64)>| all.into_iter().map(|(applied, _, number)| (applied, number)).collect::<Vec<_>>();
    assert_eq!(stage.rows(crate::views::TALLY), rows);
    assert_eq!(applied(stage.positions()), applied(positions));
    assert_eq!(stage.directories(), directories);
}
