//! Law *Refuse*: where a correct answer cannot be had, it says which partition, which numbers, and what the options are.

use super::*;

#[test]
fn a_cut_beyond_the_end_is_refused() {
    let stage = Stage::new(1, Policy::default());
    stage.add(0, "a", 1);
    let told = refusal(stage.travel().get_at("ledger", b"a", &cut(&[Position(9)])));
    assert_eq!(told, "ledger/0: position 9 lies beyond the end of the log, which is 1: ask for a position up to 1");
}

#[test]
fn history_that_is_gone_is_refused_with_the_next_snapshot() {
    let stage = Stage::new(1, Policy::default());
    (0..10).for_each(|_| stage.add(0, "a", 1));
    stage.feed(3);
    let gone = refusal({
        stage.log.truncate_before(&at(0), Position(4));
        stage.travel().get_at("ledger", b"a", &cut(&[Position(6)]))
    });
    assert_eq!(
        gone,
        "ledger/0: view `ledger` as of position 6 needs a base, and there is none: the log holds 4..10, so that the \
         records 0..4 are gone, and no snapshot of the same definition can be used at or before 6; ask without a time for \
         the row as it is now; snapshots that are taken from now on reach back to their own positions (`segno snapshot \
         create`)"
    );
    stage.snapshot();
    let gone = refusal(stage.travel().get_at("ledger", b"a", &cut(&[Position(6)])));
    assert!(gone.ends_with("ask for position 10 or later, where a snapshot stands"), "{gone}");
    stage.add(0, "a", 1);
    stage.add(0, "a", 1);
    let row = stage.travel().get_at("ledger", b"a", &cut(&[Position(11)])).unwrap();
    assert!(row.cost.base.starts_with("snapshot ") && row.cost.records == 1);
}

#[test]
fn a_snapshot_at_the_cut_needs_no_log() {
    let stage = Stage::new(1, Policy::default());
    (0..10).for_each(|_| stage.add(0, "a", 1));
    stage.feed(3);
    stage.snapshot();
    (0..10).for_each(|_| stage.add(0, "a", 1));
    stage.feed(3);
    stage.log.truncate_before(&at(0), Position(15));
    let row = stage.travel().get_at("ledger", b"a", &cut(&[Position(10)])).unwrap();
    assert_eq!((row.cost.records, row.row.unwrap().offset), (0, Offset(9)));
    refusal(stage.travel().get_at("ledger", b"a", &cut(&[Position(12)])));
}

#[test]
fn a_snapshot_of_another_definition_is_not_used() {
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Other(u64);
    impl View for Other {
        const NAME: &'static str = "ledger";
        const VERSION: u32 = 1;
        type Event = serde::de::IgnoredAny;
        fn apply(&mut self, _: &serde::de::IgnoredAny, _: &EventMeta<'_>) -> Result<(), Reject> {
            Ok(())
        }
    }
    let stage = Stage::new(1, Policy::default());
    stage.add(0, "a", 1);
    stage.feed(3);
    stage.snapshot();
    let mut travel = stage.travel();
    travel.definitions = Arc::from([Arc::new(RustView::<Other>::new()) as Arc<dyn Definition>]);
    let told = refusal(travel.get_at("ledger", b"a", &cut(&[Position(1)])));
    assert!(told.contains("made the rows of view `ledger` is not at hand"), "{told}");
    travel.definitions = Arc::from([]);
    let told = refusal(travel.get_at("ledger", b"a", &cut(&[Position(1)])));
    assert!(told.contains("made the rows of view `ledger` is not at hand"), "{told}");
}

#[test]
fn a_history_that_began_later_knows_nothing_before() {
    let stage = Stage::new(1, Policy::default());
    (0..10).for_each(|_| stage.add(0, "a", 1));
    let live = &stage.live[0];
    live.begin_at(Position(5)).unwrap();
    stage.feed(3);
    let travel = stage.travel();
    let balance = |position| {
        let row = travel.get_at("ledger", b"a", &cut(&[Position(position)])).unwrap().row;
        row.map(|row| serde_json::from_str::<Ledger>(row.json.get()).unwrap().balance)
    };
    assert_eq!([balance(3), balance(5), balance(7), balance(10)], [None, None, Some(2), Some(5)]);
}

#[test]
fn questions_that_make_no_sense_are_told_so() {
    let stage = Stage::new(2, Policy::default());
    let travel = stage.travel();
    let bad = |result: Result<(), ReplayError>| match result {
        Err(ReplayError::Bad(text)) => text,
        other => panic!("{other:?}"),
    };
    let whole = cut(&[Position(0), Position(0)]);
    let told = bad(travel.get_at("ledgre", b"a", &whole).map(drop));
    assert_eq!(told, "topic `ledger` has no view `ledgre`; there are: ledger");
    let told = bad(travel.get_at("ledger", b"a", &"other@0:1".parse().unwrap()).map(drop));
    assert_eq!(told, "the cut other@0:1 is of topic `other`, and the view is of topic `ledger`");
    let told = bad(travel.get_at("ledger", b"nobody", &PositionVector::new(TOPIC)).map(drop));
    assert!(told.contains("does not name partition") && told.contains("name all 2 partitions"), "{told}");
    stage.add(0, "a", 1);
    let told = bad(travel.changes("ledger", &cut(&[Position(1), Position(0)]), &whole).map(drop));
    assert_eq!(told, "ledger/0: the range from 1 to 0 ends before it begins");
}

/// Live was made by a replay with `--base empty`: what came before its beginning is in no answer.
#[test]
fn a_question_from_before_the_beginning_sees_nothing_of_it() {
    let stage = Stage::new(1, Policy::default());
    (0..10).for_each(|_| stage.add(0, "a", 1));
    stage.live[0].begin_at(Position(5)).unwrap();
    stage.feed(3);
    let travel = stage.travel();
    let balance = |json: &serde_json::value::RawValue| serde_json::from_str::<Ledger>(json.get()).unwrap().balance;
    for to in [4u64, 10] {
        let row = travel.get_at("ledger", b"a", &cut(&[Position(to)])).unwrap().row;
        let live = to.saturating_sub(5) as i64;
        assert_eq!(row.map_or(0, |row| balance(&row.json)), live);
        let (from, to) = (cut(&[Position(2)]), cut(&[Position(to)]));
        let explained = travel.explain("ledger", b"a", Some(&from), &to, 100).unwrap();
        assert_eq!(explained.steps.len() as i64, live);
        assert_eq!(explained.steps.last().map_or(0, |step| balance(step.state.as_ref().unwrap())), live);
        let changes = travel.changes("ledger", &from, &to).unwrap();
        assert_eq!(changes.added, u64::from(live > 0));
        assert!(changes.rows.iter().all(|row| row.new.as_ref().unwrap()["balance"] == live), "{:?}", changes.rows);
    }
}

#[test]
fn a_stopping_node_ends_the_question() {
    let stage = Stage::new(1, Policy::default());
    stage.add(0, "a", 1);
    let travel = stage.travel();
    travel.stop.store(true, Ordering::Relaxed);
    assert_eq!(travel.get_at("ledger", b"a", &cut(&[Position(1)])).unwrap_err(), ReplayError::Stopping);
}
