//! After a failed fold a row is put back by folding again what had gone in since its copy. Folds are pure, but they are
//! also somebody's code: one that does not go in again must cost nothing that had.

use std::sync::Arc;
use std::time::Duration;

use segno::actors::plan::Placement;
use segno::event::EventMeta;
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};

use crate::stage::{Entry, Setup, Stage, tries, try_again};

/// Of a [`Entry::Flaky`] the second try panics, and no other.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Fickle {
    balance: i64,
    seen: Vec<u64>,
}

impl View for Fickle {
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, event: &Entry, _: &EventMeta<'_>) -> Result<(), Reject> {
        let torn = std::mem::take(&mut self.seen);
        let n = match event {
            Entry::Flaky { n, name, .. } => {
                assert!(try_again(name) != 2, "the second time");
                *n
            }
            Entry::Panics { n, name, times } => {
                assert!(try_again(name) >= *times, "on purpose");
                *n
            }
            Entry::Add { n, .. } => *n,
            other => panic!("not for this view: {other:?}"),
        };
        self.seen = torn;
        self.seen.push(n);
        Ok(())
    }
}

fn fickle() -> Arc<dyn Definition> {
    Arc::new(RustView::<Fickle>::new())
}

#[test]
fn accounted_a_row_that_cannot_be_put_back_is_not_handed_over() {
    for placement in [Placement::Shared, Placement::Own] {
        let setup = Setup { partitions: 1, shards: 1, placement, attempts: 5, view: fickle, ..Setup::default() };
        let mut stage = Stage::new(setup);
        let add = |n| Entry::Add { n, amount: 1 };
        let name = |what: &str| format!("back/{placement:?}/{what}");
        stage.send("sick", &add(0));
        stage.settle();
        stage.stop();
        // All of these are one batch.
        stage.send("sick", &add(1));
        stage.send("sick", &Entry::Flaky { n: 2, name: name("fickle"), times: 0 });
        stage.send("sick", &Entry::Panics { n: 3, name: name("panics"), times: 2 });
        stage.send("sick", &add(4));
        stage.send("well", &add(0));
        stage.start();
        stage.settle_within(Duration::from_secs(10));
        let (rows, books) = (stage.ledgers(), stage.books());
        assert_eq!(rows["sick"].seen, [0, 1, 2, 3, 4], "{placement:?}: {books:?}");
        assert_eq!(rows["well"].seen, [0]);
        assert_eq!((books.applied, books.parked, books.waiting), (6, 0, 0), "{placement:?}");
        assert!(tries(&name("fickle")) > 2, "it was folded again");
        stage.verify();
    }
}
