//! The records that made a row, each with what became of it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::base::Base;
use super::fold::{Account, Fold, one};
use super::{Served, Travel};
use crate::actors::admin::{Cost, Explanation, Step};
use crate::actors::replay::words::ReplayError;
use crate::position::{Position, PositionVector};
use crate::record::{RecordBatch, RecordRef};
use crate::state::{Books, Generation, Reason};
use crate::views::{Applied, Row, guard};

/// The most steps of an answer, and about how many bytes their rows may take.
const STEPS: usize = 10_000;
const BYTES: usize = 32 << 20;

/// The newest steps, and the row before them.
struct Newest {
    limit: usize,
    before: Option<Box<RawValue>>,
    steps: VecDeque<Step>,
    bytes: usize,
    left_out: u64,
}

impl Newest {
    fn push(&mut self, step: Step) {
        self.bytes += size(&step);
        self.steps.push_back(step);
        while self.steps.len() > self.limit || (self.bytes > BYTES && self.steps.len() > 1) {
            let Some(first) = self.steps.pop_front() else { return };
            self.bytes -= size(&first);
            self.before = first.state;
            self.left_out += 1;
        }
    }
}

fn size(step: &Step) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let state = step.state.as_ref().map_or(0, |state| state.get().len());
    size_of::<Step>() + state + text(&step.detail) + text(&step.event_id) + text(&step.event_type)
}

impl Travel<'_> {
    /// The records of `key` at or above `from` and below `to`, in their order, each with what became of it and the row
    /// after it: the newest `limit` of them (at most 10 000, or 32 MiB), the number of those before, and the row before
    /// the first that is answered. Without `from`, from the oldest base that can be had: the cost names it.
    ///
    /// Reads the key's partition from the nearest snapshot at or before `from` to `to`. For a key that live does not have,
    /// all partitions are read until one has events of the key.
    pub fn explain(
        &self,
        view: &str,
        key: &[u8],
        from: Option<&PositionVector>,
        to: &PositionVector,
        limit: usize,
    ) -> Result<Explanation, ReplayError> {
        self.own_cut(to)?;
        from.map_or(Ok(()), |from| self.own_cut(from))?;
        let served = self.served(view)?;
        let mut answer: Option<Explanation> = None;
        for live in self.places(&served, key)?.partitions {
            let partition = live.at().partition;
            let to = self.position_in(to, partition)?;
            let from = from.map(|from| self.position_in(from, partition)).transpose()?;
            if let Some(from) = from.filter(|from| *from > to) {
                let at = live.at();
                return Err(ReplayError::Bad(format!("{at}: the range from {from} to {to} ends before it begins")));
            }
            let mut found = self.explain_in(&served, live, key, (from, to), limit)?;
            found.cost.records += answer.as_ref().map_or(0, |answer| answer.cost.records);
            if !found.steps.is_empty() || found.before.is_some() {
                return Ok(found);
            }
            // Of what has no history, the base of the first place is told.
            let base = answer.map_or_else(|| found.cost.base.clone(), |answer| answer.cost.base);
            answer = Some(Explanation { cost: Cost { base, ..found.cost }, ..found });
        }
        let nothing = || Explanation { before: None, steps: Vec::new(), left_out: 0, cost: Cost::default() };
        Ok(answer.unwrap_or_else(nothing))
    }

    /// The history in one partition.
    fn explain_in(
        &self,
        served: &Served,
        live: &Generation,
        key: &[u8],
        (from, to): (Option<Position>, Position),
        limit: usize,
    ) -> Result<Explanation, ReplayError> {
        let base: Base = match from {
            Some(from) => self.base(served, live.at(), from)?,
            None => self.oldest_base(served, live.at(), to)?,
        };
        let from = from.unwrap_or(base.position());
        let mut fold = Fold::begin(self, served, live, &base, one(key))?;
        let mut scan = self.scan(live.at(), base.position(), to)?;
        let mut newest = Newest {
            limit: limit.clamp(1, STEPS),
            before: state(&fold, key)?,
            steps: VecDeque::new(),
            bytes: 0,
            left_out: 0,
        };
        while let Some((batch, below)) = scan.next()? {
            let indexes = fold.mine(&batch, below);
            let batch = Arc::new(batch);
            for index in indexes {
                let before = newest.steps.back().map_or(&newest.before, |step| &step.state).clone();
                fold.account();
                fold.fold(&batch, vec![index])?;
                let after = state(&fold, key)?;
                if from.0 <= batch.get(index as usize).offset.0 {
                    newest.push(fold.step(served, &batch, index, before.as_deref(), after));
                } else {
                    newest.before = after;
                }
            }
        }
        let cost = Cost { base: base.name(), records: scan.records };
        Ok(Explanation { before: newest.before, steps: newest.steps.into(), left_out: newest.left_out, cost })
    }
}

/// The row as JSON.
fn state(fold: &Fold, key: &[u8]) -> Result<Option<Box<RawValue>>, ReplayError> {
    let Some(row) = fold.row(key)? else { return Ok(None) };
    let unreadable = |why: String| {
        ReplayError::Failed(format!("{}, key \"{}\": the row is not JSON: {why}", fold.at(), key.escape_ascii()))
    };
    let json = String::from_utf8(row.json).map_err(|error| unreadable(error.to_string()))?;
    RawValue::from_string(json).map(Some).map_err(|error| unreadable(error.to_string()))
}

impl Fold {
    /// What became of the record that was folded last.
    fn step(
        &mut self,
        served: &Served,
        batch: &RecordBatch,
        index: u32,
        before: Option<&RawValue>,
        state: Option<Box<RawValue>>,
    ) -> Step {
        let record = batch.get(index as usize);
        let account = self.account();
        let (outcome, detail) = match outcome(&account.books) {
            // By tombstone: nothing else is applied without a value.
            "applied" if record.value.is_none() => ("removed", None),
            "applied" => ("applied", tried(&account)),
            "skipped" => self.why_skipped(served, record, before),
            "parked" => ("parked", Some(parked(&account))),
            set_aside => (set_aside, account.why.map(|(_, detail)| detail).filter(|detail| !detail.is_empty())),
        };
        let setting = self.setting();
        let event = setting.decoder.decode((&setting.at.topic, setting.at.partition), record).ok();
        Step {
            partition: setting.at.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            event_type: event.as_ref().map(|event| event.meta.event_type.clone().into_owned()),
            event_id: event.as_ref().and_then(|event| event.meta.event_id.clone()).map(|id| id.into_owned()),
            outcome: outcome.to_owned(),
            detail,
            state,
        }
    }

    /// A skipped record is one that the view does not care for, or one that the policy passes over: then why it is not
    /// applied is found by asking the view once more.
    fn why_skipped(
        &self,
        served: &Served,
        record: RecordRef<'_>,
        before: Option<&RawValue>,
    ) -> (&'static str, Option<String>) {
        let setting = self.setting();
        let event = match setting.decoder.decode((&setting.at.topic, setting.at.partition), record) {
            Ok(event) => event,
            Err(undecodable) => return ("skipped", Some(undecodable.to_string())),
        };
        let row = match before {
            Some(json) => guard::decode(&*served.definition, json.get().as_bytes()),
            None => guard::initial(&*served.definition).map_err(|panicked| panicked.to_string()),
        };
        self.progress().at(record.offset, 0);
        let folded = |mut row: Box<dyn Row>| guard::apply(&mut *row, &event).map_err(|panicked| panicked.to_string());
        let applied = row.and_then(folded);
        self.progress().idle();
        match applied {
            Ok(Ok(Applied::Ignored)) => ("ignored", None),
            Ok(Ok(Applied::Folded)) => ("skipped", None),
            Ok(Err(failure)) => ("skipped", Some(failure.to_string())),
            Err(why) => ("skipped", Some(why)),
        }
    }
}

/// Where one record went, by the books: every record is in one column (law *Accounted*).
fn outcome(books: &Books) -> &'static str {
    let columns =
        [(books.applied, "applied"), (books.skipped, "skipped"), (books.parked, "parked"), (books.waiting, "waiting")];
    columns.into_iter().find(|(count, _)| *count > 0).map_or("dead", |(_, name)| name)
}

/// An event that went in, but not at once.
fn tried(account: &Account) -> Option<String> {
    account.why.as_ref().map(|(reason, detail)| format!("at first {}: {detail}", reason.name()))
}

fn parked(account: &Account) -> String {
    match &account.why {
        Some((Reason::Behind, _)) => "queues behind an earlier event that is parked".to_owned(),
        Some((_, detail)) => detail.clone(),
        None => String::new(),
    }
}
