use std::slice::from_ref;

use serde::{Deserialize, Serialize};

use super::*;
use crate::actors::serving::idents;
use crate::event::EventMeta;
use crate::state::ViewTag;
use crate::views::{Reject, RustView, View, from_text};

/// The view `rusty`, in Rust, of that version and of a type of its own for each `TYPE`.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Rusty<const VERSION: u32, const TYPE: char>;

impl<const VERSION: u32, const TYPE: char> View for Rusty<VERSION, TYPE> {
    const NAME: &'static str = "rusty";
    const VERSION: u32 = VERSION;
    type Event = serde_json::Value;

    fn apply(&mut self, _: &serde_json::Value, _: &EventMeta<'_>) -> Result<(), Reject> {
        Ok(())
    }
}

type Known = Arc<dyn Definition>;

fn rust<const VERSION: u32, const TYPE: char>() -> Known {
    Arc::new(RustView::<Rusty<VERSION, TYPE>>::new())
}

/// A declared view whose fold is told apart by `step`.
fn declared(name: &str, version: u32, step: u32) -> Known {
    let text = format!(
        r#"{{"name":"{name}","version":{version},"initial":{{"n":0}},"types":{{"n":"int"}},"on":{{"{name}":{{"n":"state.n+{step}"}}}},"ignore":[],"reject_when":[]}}"#
    );
    from_text(&text).unwrap()
}

fn none() -> Definitions {
    Arc::default()
}

fn all(views: &[Known]) -> Definitions {
    views.to_vec().into()
}

fn stored(views: &[Known]) -> Vec<StoredView> {
    let stored = |(view, tag): (&Known, u16)| StoredView {
        tag: ViewTag(tag),
        name: view.name().to_owned(),
        version: view.version(),
        text: view.text(),
        fingerprint: u128::from(tag) + u128::from(view.version()),
        left_at: None,
    };
    views.iter().zip(0..).map(stored).collect()
}

fn live(position: u64, views: &[Known]) -> Option<LiveViews> {
    Some(LiveViews { position: Position(position), views: stored(views) })
}

fn decide(live: &[Option<LiveViews>], wanted: &[Known], previous: &[Known]) -> Result<Inheritance, StartError> {
    inherit("t", live, &all(wanted), &all(previous), OnChange::Wait)
}

#[track_caller]
fn same(live: &[Option<LiveViews>], wanted: &[Known]) {
    assert!(matches!(decide(live, wanted, &[]), Ok(Inheritance::Same)));
}

type Names = Vec<(String, u32, String)>;

fn names(views: &[Known]) -> Names {
    views.iter().map(|view| (view.name().to_owned(), view.version(), view.text())).collect()
}

/// What live goes on under, and how each view that differs does.
#[track_caller]
fn runs(live: &[Option<LiveViews>], wanted: &[Known], previous: &[Known]) -> (Names, Vec<String>) {
    match decide(live, wanted, previous) {
        Ok(Inheritance::Runs { definitions, changes }) => (names(&definitions), shown(&changes)),
        Ok(Inheritance::Same) => panic!("the same"),
        Ok(Inheritance::Frozen { missing, .. }) => panic!("{missing}"),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn frozen(live: &[Option<LiveViews>], wanted: &[Known], previous: &[Known], on_change: OnChange) -> String {
    match inherit("t", live, &all(wanted), &all(previous), on_change) {
        Ok(Inheritance::Frozen { missing, changes }) => {
            assert!(!changes.is_empty());
            missing
        }
        _ => panic!("not frozen"),
    }
}

#[track_caller]
fn refused(live: &[Option<LiveViews>], wanted: &[Known]) -> StartError {
    decide(live, wanted, &[]).err().expect("is refused")
}

fn shown(changes: &[ViewReplay]) -> Vec<String> {
    let one =
        |change: &ViewReplay| format!("{} {:?} {:?} {:?}", change.view, change.live, change.wanted, change.change);
    changes.iter().map(one).collect()
}

#[test]
fn before_the_first_record_the_configuration_decides() {
    same(&[], &[declared("a", 1, 1)]);
    same(&[None, None], &[declared("a", 1, 1)]);
    same(&[live(0, &[declared("a", 7, 1)]), None], &[declared("a", 1, 2), rust::<1, 'a'>()]);
}

#[test]
fn what_is_stored_goes_on_whatever_its_order() {
    let (a, b, r) = (declared("a", 1, 1), declared("b", 1, 1), rust::<1, 'a'>());
    same(&[live(7, &[a.clone(), b.clone(), r.clone()])], &[r, b, a]);
}

#[test]
fn a_view_that_is_only_taken_out_needs_no_replay() {
    let (a, b) = (declared("a", 1, 1), declared("b", 1, 1));
    same(&[live(7, &[a.clone(), b.clone()])], from_ref(&b));
    // Nor when the start that left it out ended between two partitions.
    same(&[live(7, from_ref(&b)), live(9, &[a.clone(), b.clone()]), None], &[b]);
    same(&[live(7, &[a])], &[]);
}

#[test]
fn another_definition_under_the_same_version_is_refused() {
    let error = refused(&[None, live(7, &[declared("a", 1, 1)])], &[declared("a", 1, 2)]);
    let StartError::Store { at, source } = error else { panic!("{error}") };
    assert_eq!(at, TopicPartition::new("t", 1));
    let position = Position(7);
    let expected = state::Error::DefinitionChanged { at, view: "a".into(), version: 1, position };
    assert_eq!(source, expected);
    assert!(source.to_string().contains("raise the version"), "{source}");
    // A view in Rust is known by its type, as its code cannot be read.
    let error = refused(&[live(7, &[rust::<1, 'a'>()])], &[rust::<1, 'b'>()]);
    assert!(matches!(error, StartError::Store { source: state::Error::DefinitionChanged { .. }, .. }));
    // It is refused beside a view whose version was raised, too.
    let error =
        refused(&[live(7, &[declared("a", 1, 1), declared("b", 1, 1)])], &[declared("b", 2, 1), declared("a", 1, 2)]);
    assert!(matches!(error, StartError::Store { source: state::Error::DefinitionChanged { .. }, .. }));
}

#[test]
fn a_lower_version_is_refused_with_the_way_back() {
    let error = refused(&[live(7, &[declared("a", 3, 1)])], &[declared("a", 2, 1)]);
    let StartError::Store { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(source, state::Error::VersionChanged { stored: 3, wanted: 2, .. }));
    assert!(error.to_string().contains("segno replay rollback"), "{error}");
    // After the way back was taken, the lower one is what is stored.
    same(&[live(7, &[declared("a", 2, 1)])], &[declared("a", 2, 1)]);
}

#[test]
fn a_higher_version_lets_live_go_on_under_the_stored_text() {
    let (old, b) = (declared("a", 1, 1), declared("b", 1, 1));
    let partitions = [live(0, &[]), live(7, &[old.clone(), b.clone()]), None, live(1, &[old.clone(), b.clone()])];
    let (definitions, changes) = runs(&partitions, &[b.clone(), declared("a", 2, 5)], &[]);
    assert_eq!(definitions, names(&[old, b]), "in the order of the stored views");
    assert_eq!(changes, ["a Some(1) Some(2) Changed"]);
}

#[test]
fn a_new_view_waits_for_its_replay() {
    let a = declared("a", 1, 1);
    let (definitions, changes) = runs(&[live(7, from_ref(&a))], &[declared("n", 4, 1), a.clone()], &[]);
    assert_eq!(definitions, names(&[a]));
    assert_eq!(changes, ["n None Some(4) Added"]);
}

#[test]
fn a_view_that_goes_while_another_changes_goes_with_the_cut_over() {
    let (a, b) = (declared("a", 1, 1), declared("b", 1, 1));
    let (definitions, changes) = runs(&[live(7, &[a.clone(), b.clone()])], &[declared("b", 2, 1)], &[]);
    assert_eq!(definitions, names(&[a, b]));
    assert_eq!(changes, ["b Some(1) Some(2) Changed", "a Some(1) None Removed"]);
    // Unless nobody has its code any more: then it is left out now, as it would be without the other change.
    let b = declared("b", 1, 1);
    let (definitions, changes) = runs(&[live(7, &[rust::<1, 'a'>(), b.clone()])], &[declared("b", 2, 1)], &[]);
    assert_eq!(definitions, names(&[b]));
    assert_eq!(changes, ["b Some(1) Some(2) Changed", "rusty Some(1) None Removed"]);
}

#[test]
fn a_view_in_rust_goes_on_when_its_old_code_is_registered() {
    let old = rust::<1, 'a'>();
    let partitions = [live(7, from_ref(&old))];
    let (definitions, changes) = runs(&partitions, &[rust::<2, 'a'>()], &[rust::<3, 'a'>(), old.clone()]);
    assert_eq!((definitions, changes), (names(from_ref(&old)), vec!["rusty Some(1) Some(2) Changed".to_owned()]));
    // Its type has been renamed: it answers for the text that is stored.
    let (definitions, _) = runs(&partitions, &[rust::<2, 'a'>()], &[rust::<1, 'b'>()]);
    assert_eq!(definitions, names(from_ref(&old)));
    // Beside a change of another view it is the one of the configuration.
    let a = declared("a", 1, 1);
    let (definitions, _) = runs(&[live(7, &[old.clone(), a.clone()])], &[declared("a", 2, 1), old.clone()], &[]);
    assert_eq!(definitions, names(&[old, a]));
}

#[test]
fn without_its_old_code_a_view_in_rust_is_frozen() {
    let partitions = [live(7, &[declared("a", 1, 1), rust::<1, 'a'>()])];
    let wanted = [declared("a", 1, 1), rust::<2, 'a'>()];
    for previous in [&[][..], &[rust::<3, 'a'>()], &[declared("rusty", 1, 1)]] {
        let said = frozen(&partitions, &wanted, previous, OnChange::Wait);
        for part in ["view `rusty`, version 1", "Rusty", ".previous::<V>()", "with `segno replay`"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let said = frozen(&partitions, &wanted, &[], OnChange::Replay);
    assert!(said.contains("goes on all the same"), "{said}");
}

#[test]
fn a_stored_text_that_cannot_be_read_is_no_definition() {
    let mut odd = stored(&[declared("a", 1, 1)]);
    odd[0].text = "{}".to_owned();
    let partitions = [Some(LiveViews { position: Position(3), views: odd })];
    let said = frozen(&partitions, &[declared("a", 2, 1)], &[], OnChange::Wait);
    assert!(said.contains("view `a`, version 1: its stored definition cannot be used"), "{said}");
    // Nor is one that is of another view than it says.
    let mut odd = stored(&[declared("a", 1, 1)]);
    odd[0].text = declared("b", 1, 1).text();
    let partitions = [Some(LiveViews { position: Position(3), views: odd })];
    let said = frozen(&partitions, &[declared("a", 2, 1)], &[], OnChange::Wait);
    assert!(said.contains("of another view"), "{said}");
}

#[test]
fn views_of_the_old_set_know_each_others_event_types() {
    let (a, b) = (declared("a", 1, 1), declared("b", 1, 1));
    let Ok(Inheritance::Runs { definitions, .. }) =
        decide(&[live(7, &[a.clone(), b])], &[a, declared("b", 2, 1), declared("n", 1, 1)], &[])
    else {
        panic!("does not run")
    };
    let apply = |event_type: &str| {
        let meta = EventMeta {
            topic: "t",
            partition: crate::position::PartitionId(0),
            offset: crate::position::Offset(0),
            record_timestamp: crate::position::Timestamp(0),
            key: b"k",
            event_id: None,
            event_type: event_type.into(),
            event_version: 1,
            timestamp: crate::position::Timestamp(0),
            correlation_id: None,
            causation_id: None,
            user_id: None,
        };
        definitions[0].initial().apply(&crate::event::Event { meta, payload: b"{}" })
    };
    assert_eq!(apply("b"), Ok(crate::views::Applied::Ignored));
    assert!(apply("n").is_err(), "`n` is not of that set: its types are as unknown as they were");
}

#[test]
fn partitions_that_contradict_each_other_are_refused_by_name() {
    let (one, two) = (declared("a", 1, 1), declared("a", 2, 1));
    let partitions = [None, live(7, from_ref(&one)), live(9, from_ref(&two))];
    for wanted in [one.clone(), two.clone(), declared("a", 3, 1)] {
        let said = refused(&partitions, &[wanted]).to_string();
        for part in ["view `a`", "version 1", "t/1", "version 2", "t/2", "new data directory"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    // One that has folded nothing does not contradict.
    same(&[live(0, from_ref(&two)), live(7, from_ref(&one))], from_ref(&one));
    let (definitions, _) = runs(&[live(0, from_ref(&two)), live(7, from_ref(&one))], &[two], &[]);
    assert_eq!(definitions, names(&[one]));
}

#[test]
fn a_view_that_some_partitions_lack_is_built_anew() {
    let (a, b) = (declared("a", 1, 1), declared("b", 1, 1));
    let partitions = [live(7, from_ref(&a)), live(9, &[b.clone(), a.clone()])];
    let (definitions, changes) = runs(&partitions, &[a.clone(), b], &[]);
    assert_eq!((definitions, changes), (names(&[a]), vec!["b None Some(1) Added".to_owned()]));
}

#[test]
fn definitions_for_any_generation() {
    let (a, old) = (declared("a", 1, 1), rust::<1, 'a'>());
    let of = stored(&[old.clone(), a.clone()]);
    let found = at_hand(&of, &none(), &all(&[rust::<1, 'z'>()])).unwrap();
    assert_eq!(names(&found), names(&[old, a]));
    let missing = at_hand(&of, &none(), &none()).err().unwrap();
    assert!(missing.contains("view `rusty`, version 1"), "{missing}");
}

/// The store, which compares texts itself, takes what was found.
#[test]
fn a_generation_opens_under_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = state::Store::open(dir.path(), state::StoreOptions::default()).unwrap();
    let at = TopicPartition::new("t", 0);
    let identity = state::Identity { at: at.clone(), cluster: "c".to_owned(), partitions: 1 };
    let generation = store.open_generation(&identity, &idents(&all(&[rust::<1, 'a'>(), declared("a", 1, 1)]))).unwrap();
    let commit = state::Commit { deltas: Vec::new(), position: Position(3), last: None };
    generation.commit(&generation.take_writer(), &commit).unwrap();
    let live = [Some(LiveViews { position: generation.applied(), views: generation.views().to_vec() })];
    generation.flush().unwrap();
    drop(generation);
    drop(store);
    let store = state::Store::open(dir.path(), state::StoreOptions::default()).unwrap();
    let wanted = all(&[rust::<2, 'a'>(), declared("a", 2, 1)]);
    assert!(store.open_generation(&identity, &idents(&wanted)).is_err(), "the new ones would start in the middle");
    let Ok(Inheritance::Runs { definitions, .. }) =
        inherit("t", &live, &wanted, &all(&[rust::<1, 'z'>()]), OnChange::Replay)
    else {
        panic!("does not run")
    };
    let generation = store.open_generation(&identity, &idents(&definitions)).unwrap();
    assert_eq!(generation.views(), live[0].as_ref().unwrap().views);
}

#[test]
fn every_view_of_both_sides_is_related() {
    let (a, b, c) = (declared("a", 1, 1), declared("b", 1, 1), declared("c", 1, 1));
    let related = relate(&stored(&[a.clone(), b, c.clone()]), &all(&[c, declared("n", 1, 1), declared("a", 2, 1)]));
    let expected =
        ["c Some(1) Some(1) Same", "n None Some(1) Added", "a Some(1) Some(2) Changed", "b Some(1) None Removed"];
    assert_eq!(shown(&related), expected);
}
