//! Random histories of a partition against a model that is nothing but a list.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use segno::position::Position;
use segno::record::NewRecord;
use segno::streams::{Limit, Watermarks};

use super::times::{at_end, found, look_up};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<NewRecord>),
    Gap,
    /// Truncate to this place between start and end.
    Truncate(prop::sample::Index),
    /// A reader from this place reads all, with this limit.
    Read(prop::sample::Index, Limit),
    /// The reader that is there from the first step on reads to the end.
    Tail(Limit),
    LookUp(i64),
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60))
}

prop_compose! {
    fn any_record()(
        key in bytes(),
        value in bytes(),
        timestamp in 0_i64..50,
        headers in proptest::collection::vec(("[a-z]{1,5}", bytes()), 0..3),
    ) -> NewRecord {
        NewRecord { partition: Some(0), key, value, timestamp: Some(T0 + timestamp), headers }
    }
}

fn any_limit() -> impl Strategy<Value = Limit> {
    (1_usize..20, 1_usize..400).prop_map(|(records, bytes)| Limit { records, bytes })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(any_record(), 1..12).prop_map(Step::Append),
        1 => Just(Step::Gap),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        2 => (any::<prop::sample::Index>(), any_limit()).prop_map(|(from, limit)| Step::Read(from, limit)),
        2 => any_limit().prop_map(Step::Tail),
        3 => (-5_i64..60).prop_map(Step::LookUp),
    ]
}

/// What a partition must hold.
#[derive(Default)]
struct Model {
    records: Vec<Got>,
    start: u64,
    end: u64,
}

impl Model {
    fn from(&self, position: u64) -> Vec<Got> {
        self.records.iter().filter(|got| got.offset >= position).cloned().collect()
    }

    fn place(&self, index: &prop::sample::Index) -> u64 {
        self.start + index.index((self.end - self.start + 1) as usize) as u64
    }
}

fn run<S: Strategy>(subject: &dyn Subject, strategy: &S, property: impl Fn(S::Value)) {
    let config = Config { cases: subject.cases(), failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(strategy, |value| {
        property(value);
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

pub fn histories_match_the_model(subject: &dyn Subject) {
    run(subject, &proptest::collection::vec(any_step(), 1..30), |steps| {
        let log = subject.log();
        let topic = subject.create_topic("history", 1);
        let at = at(&topic, 0);
        let mut model = Model::default();
        let mut tail = open(&*log, &at, Position::ZERO).unwrap();
        for step in steps {
            match step {
                Step::Append(records) => {
                    model.records.extend(append(&*log, &topic, &records).into_iter().map(|(_, got)| got));
                    model.end = model.records.last().map_or(model.end, |last| last.offset + 1);
                }
                Step::Gap => {
                    if subject.gap(&at) {
                        model.end = end_of(&*log, &at).0;
                    }
                }
                Step::Truncate(to) => {
                    let to = model.place(&to);
                    if subject.truncate(&at, Position(to)) {
                        model.start = to;
                        model.records.retain(|got| got.offset >= to);
                        if tail.position().0 < to {
                            tail = open(&*log, &at, Position(to)).unwrap();
                        }
                    }
                }
                Step::Read(from, limit) => {
                    let from = model.place(&from);
                    let mut reader = open(&*log, &at, Position(from)).unwrap();
                    let got = read_until(&mut *reader, Position(model.end), limit, subject.patience());
                    assert_eq!(got, model.from(from));
                }
                Step::Tail(limit) => {
                    let from = tail.position().0;
                    let got = read_until(&mut *tail, Position(model.end), limit, subject.patience());
                    assert_eq!(got, model.from(from));
                }
                Step::LookUp(ms) => {
                    let first = model.records.iter().find(|got| got.timestamp >= T0 + ms);
                    let expected = first.map_or(at_end(model.end), |got| found(got.offset, got.timestamp));
                    // A gap may carry a timestamp of its own (Kafka's markers do), so only gap-free histories compare.
                    if model.records.len() as u64 == model.end - model.start {
                        assert_eq!(look_up(&*log, &at, T0 + ms), expected);
                    }
                }
            }
            let expected = Watermarks { start: Position(model.start), end: Position(model.end) };
            assert_eq!(log.watermarks(&at).unwrap(), expected);
        }
    });
}

/// Longer partitions, so that an index has something to skip: times rise as a whole, with disorder and leaps.
pub fn times_match_a_linear_scan(subject: &dyn Subject) {
    let time = prop_oneof![8 => 0_i64..40, 1 => 0_i64..2000, 1 => Just(0)];
    let times = proptest::collection::vec(time, 1..600);
    let cut = proptest::option::of(any::<prop::sample::Index>());
    run(subject, &(times, cut, proptest::collection::vec(-10_i64..4000, 20)), |(times, cut, questions)| {
        let log = subject.log();
        let topic = subject.create_topic("scan", 1);
        let at = at(&topic, 0);
        let times: Vec<_> = times.iter().enumerate().map(|(i, jitter)| T0 + 3 * i as i64 + jitter).collect();
        for part in times.chunks(97) {
            let records: Vec<_> = part.iter().map(|ms| record(0, "k", "v", *ms)).collect();
            append(&*log, &topic, &records);
        }
        let mut start = 0;
        if let Some(cut) = cut {
            let cut = cut.index(times.len() + 1);
            if subject.truncate(&at, Position(cut as u64)) {
                start = cut;
            }
        }
        let known = times.iter().flat_map(|ms| [*ms, ms + 1]).step_by(7);
        for asked in questions.into_iter().map(|q| T0 + q).chain(known) {
            let scan = times.iter().enumerate().skip(start).find(|(_, ms)| **ms >= asked);
            let expected = scan.map_or(at_end(times.len() as u64), |(i, ms)| found(i as u64, *ms));
            assert_eq!(look_up(&*log, &at, asked), expected, "asked for {asked}, from {start}");
        }
    });
}
