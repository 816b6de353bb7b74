//! Generations beside the live one: equal to their base, apart from it afterwards, with rows of other definitions taken
//! over, and never left half made.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use segno::position::{Offset, Position, Timestamp, TopicPartition};
use segno::state::{
    Commit, Delta, Durability, Error, Fingerprint, Generation, Held, HeldChange, Identity, Source, Standing, Store,
    ViewIdent, ViewTotals,
};

use crate::harness::*;

const DURABILITIES: [Durability; 3] = [Durability::Log, Durability::Wal, Durability::WalSync];

pub fn store(root: &Path) -> Arc<Store> {
    Store::open(root, options(Durability::Log)).unwrap()
}

/// A shadow whose definitions are those of the base.
pub fn same(store: &Store, source: &Source) -> Result<Arc<Generation>, Error> {
    same_of(store, &identity(), source)
}

pub fn same_of(store: &Store, identity: &Identity, source: &Source) -> Result<Arc<Generation>, Error> {
    let mut nothing_changed = |_: usize, _: &[u8], _: &[u8]| panic!("a row was to be taken over");
    store.create_shadow(identity, &views(), source, &mut nothing_changed)
}

/// Everything that a generation holds, as far as a reader can tell.
#[derive(Debug, PartialEq)]
pub struct Contents {
    position: Position,
    last: Option<Fingerprint>,
    totals: Vec<ViewTotals>,
    rows: Vec<(Vec<u8>, segno::state::Row)>,
    held: Vec<Held>,
    dead: Vec<Held>,
}

pub fn contents(generation: &Generation) -> Contents {
    let read = generation.snapshot_read();
    let rows = generation.tags().iter().flat_map(|tag| read.list(*tag, b"", None, usize::MAX).unwrap().rows);
    let keys = generation.held_keys().unwrap();
    for (tag, totals) in generation.tags().iter().zip(generation.view_totals()) {
        assert_eq!(generation.recompute(*tag).unwrap(), totals);
    }
    Contents {
        position: generation.applied(),
        last: generation.last(),
        totals: generation.view_totals(),
        rows: rows.collect(),
        held: keys.iter().flat_map(|k| generation.held_of(k.view, &k.key, Offset(0), 99).unwrap()).collect(),
        dead: generation.dead(Offset(0), 99).unwrap(),
    }
}

/// One record: what it does to its key in each of the two views, or that it is set aside.
#[derive(Clone, Debug)]
enum Event {
    Set(u8, [Option<u8>; 2]),
    Hold(u8, bool),
}

fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0u8..12, option::of(any::<u8>()), option::of(any::<u8>())).prop_map(|(k, a, b)| Event::Set(k, [a, b])),
        1 => (0u8..12, any::<bool>()).prop_map(|(key, dead)| Event::Hold(key, dead)),
    ];
    vec(event, 1..most)
}

/// Rows of both views by key, as stored.
type Rows = BTreeMap<(usize, u8), Vec<u8>>;

/// Commits each event by itself, and flushes now and then.
fn fold(generation: &Generation, rows: &mut Rows, events: &[Event]) {
    for event in events {
        let offset = generation.applied().0;
        match event {
            Event::Set(key, values) => {
                let mut delta = Delta::new(2);
                for (index, after) in values.iter().enumerate() {
                    let after = after.map(|n| value(offset, &format!("{{\"n\":{n}}}")));
                    let before = match &after {
                        Some(after) => rows.insert((index, *key), after.clone()),
                        None => rows.remove(&(index, *key)),
                    };
                    put(&mut delta, index, generation.tags()[index], &[*key], before.as_deref(), after.as_deref());
                    (delta.views[index].books.consumed, delta.views[index].books.applied) = (1, 1);
                }
                delta.sort();
                generation.commit(&generation.take_writer(), &commit(vec![delta], offset + 1)).unwrap();
            }
            Event::Hold(key, dead) => {
                let standing = if *dead { Standing::Dead } else { Standing::Parked };
                let record = held(generation.tags()[0], &format!("key {key}"), offset, standing);
                generation.commit(&generation.take_writer(), &first_held(generation, record)).unwrap();
            }
        }
        if offset.is_multiple_of(5) {
            generation.flush().unwrap();
        }
    }
}

/// The bytes of all files below a directory.
fn bytes(root: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    files(root).into_iter().map(|(path, _)| (path.clone(), fs::read(path).unwrap())).collect()
}

fn now() -> Timestamp {
    Timestamp(1_700_000_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// A snapshot, a shadow of it in any mode of durability, and then events of its own for each of the two generations.
    #[test]
    fn a_shadow_equals_its_base_and_never_touches_it(
        first in events(40), live_only in events(20), shadow_only in events(40), modes in (0usize..3, 0usize..3),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut live_rows, mut shadow_rows) = (Rows::new(), Rows::new());
        let opened = |mode: usize| Store::open(directory.path(), options(DURABILITIES[mode])).unwrap();
        let mut generation = opened(modes.0).open_generation(&identity(), &views()).unwrap();
        fold(&generation, &mut live_rows, &first);
        shadow_rows.clone_from(&live_rows);
        let base = contents(&generation);
        drop(generation);
        let store = opened(modes.0);
        generation = store.open_generation(&identity(), &views()).unwrap();
        let snapshot = store.take_snapshot(&[Arc::clone(&generation)], "a test", now()).unwrap();
        fold(&generation, &mut live_rows, &live_only);
        generation.flush().unwrap();
        let live = contents(&generation);
        drop((generation, store));

        // The process starts again, in another mode of durability.
        let store = opened(modes.1);
        let generation = store.open_generation(&identity(), &views()).unwrap();
        let before = bytes(&snapshot.parts[0].path);
        let source = store.snapshot_source(snapshot.id, &at()).unwrap();
        let shadow = same(&store, &source).unwrap();
        prop_assert_eq!(contents(&shadow), base);
        prop_assert_eq!((shadow.number(), shadow.durable()), (1, shadow.applied()));
        fold(&shadow, &mut shadow_rows, &shadow_only);
        shadow.flush().unwrap();
        let grown = contents(&shadow);
        prop_assert_eq!(grown.rows.len(), shadow_rows.len());
        prop_assert!(shadow.metrics().files > 0 && shadow.bytes() >= shadow.metrics().files);
        drop(shadow);
        prop_assert_eq!(contents(&store.open_numbered(&identity(), 1, &views()).unwrap().unwrap()), grown);
        prop_assert_eq!(contents(&generation), live);
        prop_assert_eq!(bytes(&snapshot.parts[0].path), before);
        store.verify_snapshot(snapshot.id).unwrap();
        store.drop_numbered(&at(), 1).unwrap();
        store.verify_snapshot(snapshot.id).unwrap();
    }

    /// A view that another definition made is taken over row by row, one that did not change is not asked about, and the
    /// totals are those of the new rows.
    #[test]
    fn the_digest_of_rows_taken_over_is_that_of_the_rows(events in events(60), changed in any::<[bool; 2]>(), every in 1u8..4) {
        let directory = tempfile::tempdir().unwrap();
        let generation = open(directory.path(), Durability::Log).unwrap();
        let mut rows = Rows::new();
        fold(&generation, &mut rows, &events);
        let base = contents(&generation);
        drop(generation);

        let store = store(directory.path());
        let source = Source::Checkpoint { path: generation_dir(directory.path()) };
        let [balance, count] = views();
        // In another order than before: the index is that of the wanted views.
        let mut wanted = [count, balance];
        wanted.iter_mut().zip(changed).filter(|(_, changed)| *changed).for_each(|(view, _)| {
            view.version += 1;
            view.text += " + 0";
        });
        let mut asked = Vec::new();
        let mut take_over = |index: usize, key: &[u8], json: &[u8]| {
            assert!(changed[index]);
            asked.push((1 - index, key[0]));
            Ok(key[0].is_multiple_of(every).then(|| [json, b" "].concat()))
        };
        let shadow = store.create_shadow(&identity(), &wanted, &source, &mut take_over).unwrap();

        let mut want: Vec<_> = rows.keys().copied().filter(|(view, _)| changed[1 - view]).collect();
        want.sort_by_key(|(view, key)| (1 - view, *key));
        prop_assert_eq!(asked, want);
        let found = contents(&shadow);
        prop_assert_eq!((found.position, found.last, found.held, found.dead), (base.position, base.last, base.held, base.dead));
        for (index, (totals, view)) in found.totals.iter().zip(shadow.views()).enumerate() {
            let before = base.totals[1 - index];
            prop_assert_eq!((totals.view, totals.books, totals.rows), (before.view, before.books, before.rows));
            prop_assert_eq!((&view.name, view.version, &view.text), (&wanted[index].name, wanted[index].version, &wanted[index].text));
            for ((_, key), stored) in rows.iter().filter(|((view, _), _)| *view == 1 - index) {
                let mut json = stored[keys_header()..].to_vec();
                json.extend((changed[index] && key.is_multiple_of(every)).then_some(b' '));
                prop_assert_eq!(load(&shadow, totals.view, &[*key]).unwrap(), Some(json));
            }
        }
        drop(shadow);
        let again = store.open_numbered(&identity(), 1, &wanted).unwrap().unwrap();
        prop_assert_eq!(contents(&again).totals, found.totals);
        prop_assert_eq!(contents(&store.open_generation(&identity(), &views()).unwrap()).totals, base.totals);
    }
}

/// Bytes of a stored row before its JSON.
fn keys_header() -> usize {
    segno::state::keys::ROW_HEADER
}

/// A live generation with some rows, closed, and the store.
fn filled(root: &Path) -> (Arc<Store>, Source) {
    let generation = open(root, Durability::Log).unwrap();
    let set = |n: u8| Event::Set(n, [Some(n), Some(n)]);
    let events = [set(0), set(1), Event::Hold(1, false), Event::Hold(2, true), set(2)];
    fold(&generation, &mut Rows::new(), &events);
    drop(generation);
    (store(root), Source::Checkpoint { path: generation_dir(root) })
}

fn generations(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("bank.accounts/3")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("gen-"));
    names.sort();
    names
}

#[test]
fn a_view_that_is_not_wanted_goes_with_all_that_is_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (store, source) = filled(directory.path());
    let [balance, count] = views();
    let mut never = |_: usize, _: &[u8], _: &[u8]| panic!("nothing changed");
    let shadow = store.create_shadow(&identity(), std::slice::from_ref(&count), &source, &mut never).unwrap();
    let found = contents(&shadow);
    assert_eq!((found.rows.len(), found.held.len(), found.dead.len()), (3, 0, 0));
    assert_eq!((shadow.tags().len(), found.totals[0].rows), (1, 3));
    drop(shadow);
    // Nothing of it is left under its tag.
    let gone = store.open_numbered(&identity(), 1, &[balance, count]).err().unwrap();
    assert!(matches!(&gone, Error::ViewAdded { view, .. } if view == "balance"), "{gone}");
}

#[test]
fn refuse_a_base_that_does_not_fit_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (store, source) = filled(directory.path());
    let [balance, count] = views();
    let refused = |wanted: &[ViewIdent], identity: &Identity, source: &Source| {
        let mut unfit = |_: usize, _: &[u8], _: &[u8]| Err("missing field `owner`".to_owned());
        let error = store.create_shadow(identity, wanted, source, &mut unfit).err().unwrap();
        assert_eq!(generations(directory.path()), ["gen-0"]);
        assert_eq!(store.sweep(&[]).unwrap(), [""; 0].map(std::path::PathBuf::from));
        error
    };

    let added = refused(&[balance.clone(), count.clone(), view("new", 1, "x")], &identity(), &source);
    assert!(matches!(&added, Error::Incompatible { view, .. } if view == "new"), "{added}");
    assert!(added.to_string().contains("--base genesis"), "{added}");
    let changed = refused(&[balance.clone(), view("count", 2, "state.count + 2")], &identity(), &source);
    let Error::RowUnfit { view: name, version: 2, key, why, .. } = &changed else { panic!("{changed}") };
    assert_eq!((name.as_str(), &**key, &**why), ("count", r#""\x00""#, "missing field `owner`"));
    let twice = refused(&[balance.clone(), balance.clone()], &identity(), &source);
    assert!(matches!(twice, Error::DuplicateView { .. }), "{twice}");
    let moved = refused(&views(), &Identity { cluster: "another".into(), ..identity() }, &source);
    assert!(matches!(moved, Error::ClusterChanged { .. }), "{moved}");
    let path = directory.path().join("nothing");
    let missing = refused(&views(), &identity(), &Source::Checkpoint { path: path.clone() });
    assert_eq!(missing, Error::NoBase { at: at(), path });
    let unknown = Identity { at: TopicPartition::new("bank.accounts", 2), ..identity() };
    assert_eq!(same_of(&store, &unknown, &source).err(), Some(Error::NoGeneration { at: unknown.at }));

    // Every number was given once, whatever became of its generation.
    assert_eq!(same(&store, &source).unwrap().number(), 6);
}

#[test]
fn refuse_a_view_that_has_missed_records() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path()));
    let [balance, count] = views();
    let only = open_views(directory.path(), Durability::Log, std::slice::from_ref(&balance)).unwrap();
    drop(only);
    let store = store(directory.path());
    let source = Source::Checkpoint { path: generation_dir(directory.path()) };
    // It left where the base ends: it has missed nothing.
    let both = same(&store, &source).unwrap();
    assert_eq!(contents(&both).rows.len(), 6);
    drop(both);
    let live = store.open_generation(&identity(), std::slice::from_ref(&balance)).unwrap();
    live.commit(&live.take_writer(), &first_row(&live, "new", "1", 6)).unwrap();
    drop(live);
    let refused = same(&store, &source).err().unwrap();
    assert!(matches!(&refused, Error::Incompatible { view, .. } if *view == count.name), "{refused}");
    assert!(refused.to_string().contains("end at position 5 while the snapshot goes up to 6"), "{refused}");
}

#[test]
fn a_shadow_of_nothing_begins_at_its_position() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = filled(directory.path());
    for (number, position) in [(1, Position::ZERO), (2, Position(40))] {
        let made = same(&store, &Source::Nothing { position }).unwrap();
        assert_eq!((made.number(), made.applied(), made.durable(), made.last()), (number, position, position, None));
        assert_eq!(made.began(), position);
        made.commit(&made.take_writer(), &first_row(&made, "a", "1", position.0 + 1)).unwrap();
        made.flush().unwrap();
        drop(made);
        let again = store.open_numbered(&identity(), number, &views()).unwrap().unwrap();
        assert_eq!((again.applied(), again.view_totals()[0].rows), (Position(position.0 + 1), 1));
    }
}

/// Offsets without records at the beginning of the log are read like any others.
#[test]
fn a_gap_at_the_beginning_is_part_of_history() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = filled(directory.path());
    let made = same(&store, &Source::Nothing { position: Position::ZERO }).unwrap();
    made.commit(&made.take_writer(), &Commit { deltas: Vec::new(), position: Position(3), last: None }).unwrap();
    assert_eq!((made.applied(), made.began()), (Position(3), Position::ZERO));
}

/// A waiting record of the base waits in the shadow too, and can be decided there alone.
#[test]
fn held_records_carry_over() {
    let directory = tempfile::tempdir().unwrap();
    let (store, source) = filled(directory.path());
    let shadow = same(&store, &source).unwrap();
    let [parked] = shadow.held_keys().unwrap().try_into().unwrap();
    assert_eq!((parked.key.as_slice(), parked.first, parked.count), (b"key 1".as_slice(), Offset(2), 1));
    let mut delta = Delta::new(2);
    delta.held.push(HeldChange::Remove { view: parked.view, key: parked.key, offset: parked.first });
    (delta.views[0].books.parked, delta.views[0].books.applied) = (-1, 1);
    shadow.commit(&shadow.take_writer(), &commit(vec![delta], 5)).unwrap();
    assert_eq!(contents(&shadow).held, []);
    let live = store.open_generation(&identity(), &views()).unwrap();
    assert_eq!((contents(&live).held.len(), contents(&live).dead.len()), (1, 1));
}
