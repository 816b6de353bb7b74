//! Readers that ask all the time, while a daemon is killed, replays and switches. They judge at once what can be told
//! from one answer to the next, and remember answers for the oracle to judge the rows by their positions.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::faces::Answer;

/// Of how many answers to one key one is remembered.
const ONE_IN: u32 = 3;
/// Pages are dearer to judge.
const PAGES_ONE_IN: u32 = 5;
/// How long answers may keep away.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(3);

/// Where a daemon answers now, for those that ask while it is killed and started again.
#[derive(Default)]
pub struct Front {
    /// Which life it is, and its address from ready to the moment before it is killed.
    at: Mutex<(usize, Option<String>)>,
    /// Held during an append to the embedded log, and during a kill: nobody is left without an answer to an append.
    pub quiet: Mutex<()>,
    pub over: AtomicBool,
    /// What is going on, for the account of the answers.
    era: Mutex<String>,
}

impl Front {
    /// Another part of the story begins.
    pub fn era(&self, name: &str) {
        *self.era.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
    }

    fn now(&self) -> String {
        self.era.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn opens(&self, base: &str) {
        let mut at = self.at();
        *at = (at.0 + 1, Some(base.to_owned()));
    }

    pub fn closes(&self) {
        self.at().1 = None;
    }

    fn at(&self) -> MutexGuard<'_, (usize, Option<String>)> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life, and the address.
    pub fn address(&self) -> Option<(usize, String)> {
        let at = self.at();
        at.1.clone().map(|base| (at.0, base))
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// Ends the threads that ask, however a test ends.
pub struct EndsWith(pub Arc<Front>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// What readers have seen.
#[derive(Default)]
pub struct Seen {
    /// A line each, as `bank.py answers` takes them.
    remembered: Mutex<String>,
    wrong: Mutex<Vec<String>>,
    pub answers: AtomicUsize,
    pub pages: AtomicUsize,
    /// Cursors that were refused because something was switched in between.
    pub cursors_refused: AtomicUsize,
    /// The longest that an answer took, in microseconds.
    pub slowest: AtomicUsize,
}

impl Seen {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    #[track_caller]
    pub fn nothing_wrong(&self) {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty(), "{} answers were wrong, such as: {:#?}", wrong.len(), &wrong[..wrong.len().min(3)]);
    }

    pub fn told(&self) -> String {
        let [answers, pages, refused, slowest] =
            [&self.answers, &self.pages, &self.cursors_refused, &self.slowest].map(|n| n.load(Ordering::Relaxed));
        format!("{answers} answers, {pages} of them pages; {refused} cursors refused; the slowest took {slowest} us")
    }

    pub fn take(&self) -> String {
        std::mem::take(&mut *self.remembered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub struct Readers {
    pub seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub fn begin(front: &Arc<Front>, count: usize, accounts: usize, seed: u64) -> Readers {
        let seen = Arc::new(Seen::default());
        let begin = |number: usize| {
            let (front, seen) = (front.clone(), seen.clone());
            let rng = StdRng::seed_from_u64(seed ^ (number as u64 + 1));
            let agent = crate::faces::agent();
            let last = (0, BTreeMap::new(), String::new());
            let reader = Reader { number, front, seen, rng, agent, accounts, last, cursor: None };
            std::thread::spawn(move || reader.run())
        };
        Readers { threads: (0..count).map(begin).collect(), seen }
    }

    /// Waits until they have been given so many answers more.
    pub fn go_on(&self, answers: usize) {
        let answered = || self.seen.answers.load(Ordering::Relaxed);
        let (enough, deadline) = (answered() + answers, Instant::now() + PATIENCE);
        while answered() < enough {
            assert!(Instant::now() < deadline, "{} of {enough} answers", answered());
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits for them. Call it when the front is over.
    pub fn end(self) -> Arc<Seen> {
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.seen
    }
}

struct Reader {
    number: usize,
    front: Arc<Front>,
    seen: Arc<Seen>,
    rng: StdRng,
    agent: ureq::Agent,
    accounts: usize,
    /// The life that answered last, and its position: as numbers, and the token.
    last: (usize, BTreeMap<u64, u64>, String),
    /// Where a list goes on: the view, and the cursor.
    cursor: Option<(&'static str, String)>,
}

impl Reader {
    fn run(mut self) {
        let mut turn = self.number;
        while !self.front.is_over() {
            turn += 1;
            if let Some((life, base)) = self.front.address() {
                self.ask(turn, life, &base);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn ask(&mut self, turn: usize, life: usize, base: &str) {
        // What was given out once is never taken back: after a crash a reader with a token waits until it is there
        // again. Within a life nobody needs a token for that.
        let new_life = life != self.last.0 && !self.last.2.is_empty();
        let bound =
            if new_life || turn.is_multiple_of(4) { format!("at-least={}", self.last.2) } else { String::new() };
        let view = if self.rng.random_ratio(1, 3) { "account_activity" } else { "account_balance" };
        let lists = turn.is_multiple_of(8);
        let key = format!("account-{:07}", self.rng.random_range(0..self.accounts));
        let (view, path) = match (lists, &self.cursor) {
            (false, _) => (view, format!("/v1/views/{view}/{key}?{bound}")),
            (true, None) => (view, format!("/v1/views/{view}?limit=60&{bound}")),
            (true, Some((view, cursor))) => (*view, format!("/v1/views/{view}?limit=60&cursor={cursor}&{bound}")),
        };
        let (begun, era) = (Instant::now(), self.front.now());
        let answer = crate::faces::answer(self.agent.get(format!("{base}{path}")).call());
        let died = self.front.address().is_none_or(|(now, _)| now != life);
        match (answer.status, answer.code()) {
            (200, _) | (404, "no-such-key") => {}
            (409, "behind") if new_life => return,
            (400, "bad-cursor") => {
                self.cursor = None;
                self.seen.cursors_refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // No answer, or that it stops: only at the end of a life.
            _ if died => return,
            _ => return self.seen.wrong(format!("reader {}: {path}: {answer:?}", self.number)),
        }
        // What was answered while one part of the story ended and the next began belongs to neither.
        let era = if self.front.now() == era { era } else { String::new() };
        self.seen.slowest.fetch_max(begun.elapsed().as_micros() as usize, Ordering::Relaxed);
        self.position(life, &path, &answer);
        self.seen.answers.fetch_add(1, Ordering::Relaxed);
        let mut memory = json!({ "reader": self.number, "view": view, "position": answer.position, "era": era });
        if lists {
            self.seen.pages.fetch_add(1, Ordering::Relaxed);
            self.cursor = answer.body["next"].as_str().map(|next| (view, next.to_owned()));
            memory["rows"] = answer.body["rows"].clone();
            self.remember(PAGES_ONE_IN, &memory);
        } else {
            memory["key"] = key.into();
            memory["rows"] = if answer.status == 200 { json!([answer.body]) } else { json!([]) };
            self.remember(ONE_IN, &memory);
        }
    }

    /// Holds the position of an answer against that of the one before.
    fn position(&mut self, life: usize, path: &str, answer: &Answer) {
        let token = answer.position.clone().unwrap_or_default();
        let now = numbers(&token);
        let (_, before, before_token) = &self.last;
        if before.iter().any(|(partition, position)| now.get(partition) < Some(position)) {
            self.seen.wrong(format!("reader {}: {path}: back from {before_token} to {token}", self.number));
        }
        if answer.body["position"] != token && answer.status == 200 {
            self.seen.wrong(format!("{path}: two positions: {answer:?}"));
        }
        self.last = (life, now, token);
    }

    fn remember(&mut self, one_in: u32, memory: &Value) {
        if self.rng.random_ratio(1, one_in) {
            let mut remembered = self.seen.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(remembered, "{memory}").unwrap();
        }
    }
}

/// Of `topic@0:17,1:4`.
pub fn numbers(token: &str) -> BTreeMap<u64, u64> {
    let Some((_, positions)) = token.split_once('@') else { return BTreeMap::new() };
    let pairs = positions.split(',').filter_map(|pair| pair.split_once(':'));
    pairs.map(|(partition, position)| (partition.parse().unwrap(), position.parse().unwrap())).collect()
}
