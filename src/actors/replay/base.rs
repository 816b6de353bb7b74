//! What a partition's rebuild starts from: a snapshot that fits, the beginning of the log, or nothing; and why not.

use super::cut::{Cut, Gap, log_failed};
use super::plan::{KnownPart, KnownSnapshot, LivePartition, PlanContext, TopicContext};
use super::words::{Base, BaseChoice, ReplayError};
use crate::actors::opening::look_back;
use crate::actors::plan::History;
use crate::position::{Position, Timestamp};
use crate::state::{StoredView, ViewIdent};

/// As many reasons are told why snapshots were passed over.
const REASONS: usize = 3;

/// A partition for which a base is sought.
pub(super) struct Seeking<'a> {
    pub context: &'a PlanContext<'a>,
    pub topic: &'a TopicContext,
    pub live: &'a LivePartition,
    pub cut: &'a Cut,
    /// Views that live does not have.
    pub added: &'a [&'a str],
    /// Every view has the definition that made live's rows.
    pub same: bool,
}

/// The snapshots that were looked at and not taken.
#[derive(Default)]
struct PassedOver {
    /// Why, for each.
    reasons: Vec<String>,
    /// The newest that fits, but for not being of live's own past.
    foreign: Option<u64>,
}

/// A base that fits.
pub(super) struct Chosen<'a> {
    pub base: Base,
    /// Where reading begins.
    pub from: Position,
    /// The timestamp of the last record in the base.
    pub time: Option<Timestamp>,
    pub part: Option<&'a KnownPart>,
    pub warnings: Vec<String>,
}

impl<'a> Seeking<'a> {
    pub fn choose(&self, choice: BaseChoice) -> Result<Chosen<'a>, ReplayError> {
        match choice {
            BaseChoice::Auto => self.newest(),
            BaseChoice::Genesis => self.genesis(None),
            BaseChoice::Empty => self.empty(),
            BaseChoice::Snapshot(id) => self.named(id),
        }
    }

    /// The snapshot of live's own past that leaves the least to read, else the beginning of the log.
    fn newest(&self) -> Result<Chosen<'a>, ReplayError> {
        if !self.added.is_empty() {
            return self.genesis(Some(&PassedOver::default()));
        }
        let mut parts: Vec<_> = self.parts().collect();
        parts.sort_by_key(|(snapshot, part)| std::cmp::Reverse((part.position, snapshot.id)));
        let mut passed_over = PassedOver::default();
        for (snapshot, part) in parts {
            let why = match self.misfit(snapshot, part)? {
                // It holds nothing; the beginning of the log is the same, and needs no snapshot.
                None if part.position == Position::ZERO => continue,
                None => match self.foreign(part) {
                    None => return Ok(self.on(snapshot, part)),
                    Some(why) => {
                        passed_over.foreign.get_or_insert(snapshot.id);
                        why
                    }
                },
                Some(why) => why,
            };
            passed_over.reasons.push(format!("snapshot {} does not fit: {why}", snapshot.id));
        }
        if self.same && !self.live.lineage.is_whole() {
            return Err(self.no_origin(&passed_over.reasons));
        }
        self.genesis(Some(&passed_over))
    }

    /// Why it is no piece of live's own past. Such a base is right for somebody who names it, and for nobody else: it may
    /// be of what was rolled back.
    fn foreign(&self, part: &KnownPart) -> Option<String> {
        if part.began != self.live.began {
            return Some(format!("its history begins at {}, and live's at {}", part.began, self.live.began));
        }
        if self.same {
            return (!self.of_live_s_history(part)).then(|| "it is of another history than live".to_owned());
        }
        let strange = || format!("it is of generation {}, which live does not come from", part.generation);
        (!self.of_live_s_past(part)).then(strange)
    }

    /// Live had these rows when it stood there: it is of live itself, or of what live was made of, or of a generation
    /// that live's definitions have made over the same history.
    fn of_live_s_past(&self, part: &KnownPart) -> bool {
        let live = self.live;
        let before = |&(of, up_to): &(u64, Position)| of == part.generation && part.position <= up_to;
        let as_live = |view: &StoredView| {
            let found = stored(&part.views, &view.name);
            found.is_some_and(|found| found.version == view.version && found.text == view.text)
        };
        part.generation == live.number
            || live.ancestors.iter().any(before)
            || part.lineage == live.lineage && live.views.iter().filter(|view| view.left_at.is_none()).all(as_live)
    }

    /// Folding on from it gives live's rows: it began where live did, and is of live's own lineage, or what live's rows
    /// were taken over from.
    fn of_live_s_history(&self, part: &KnownPart) -> bool {
        let lineage = self.live.lineage;
        if part.began != self.live.began {
            return false;
        }
        match self.made_by_wanted(part) {
            true => part.lineage == lineage,
            false => !lineage.is_whole() && part.position == lineage.position,
        }
    }

    /// With unchanged definitions a replay must give what live has, and here nothing that is left can.
    fn no_origin(&self, passed_over: &[String]) -> ReplayError {
        let (at, cut, from) = (&self.live.identity.at, self.cut.cut, self.live.lineage.position);
        let why: Vec<String> = passed_over.iter().take(REASONS).cloned().collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        ReplayError::Refused(format!(
            "{at}: live's rows were taken over from older definitions at position {from}, and no snapshot of that, or of \
             live since, stands at or before the cut at {cut}{why}: nothing that is left gives live's rows again. \
             Options: a later `--from`; `--base genesis`, which folds everything by the new definitions and will differ \
             from live; a snapshot by its number"
        ))
    }

    fn named(&self, id: u64) -> Result<Chosen<'a>, ReplayError> {
        let at = &self.live.identity.at;
        let Some((snapshot, part)) = self.parts().find(|(snapshot, _)| snapshot.id == id) else {
            let known = self.context.snapshots.iter().find(|snapshot| snapshot.id == id);
            if let Some(why) = known.and_then(|snapshot| snapshot.damaged.as_ref()) {
                return Err(ReplayError::Refused(format!(
                    "{at}: snapshot {id} cannot be the base: it is damaged ({why}); {AUTO}"
                )));
            }
            return Err(ReplayError::Refused(format!("{at}: snapshot {id} does not cover this partition; {AUTO}")));
        };
        if let Some(why) = self.misfit(snapshot, part)? {
            return Err(ReplayError::Refused(format!("{at}: snapshot {id} cannot be the base: {why}; {AUTO}")));
        }
        let mut chosen = self.on(snapshot, part);
        if part.began != self.live.began {
            let what = match part.began > self.live.began {
                _ if self.same => "the new rows will differ from live's",
                true => "nothing before that is in the new rows",
                false => "the new rows have what came before that, too",
            };
            chosen.warnings.push(format!(
                "{at}: the history of snapshot {id} begins at {}, and live's at {}: {what}",
                part.began, self.live.began
            ));
        } else if self.same && !self.of_live_s_history(part) {
            chosen.warnings.push(format!(
                "{at}: other definitions made snapshot {id} than live: the new rows will differ from live's"
            ));
        }
        Ok(chosen)
    }

    /// The parts of this partition in all snapshots.
    fn parts(&self) -> impl Iterator<Item = (&'a KnownSnapshot, &'a KnownPart)> + use<'a> {
        let at = &self.live.identity.at;
        let of_it = |snapshot: &'a KnownSnapshot| {
            snapshot.parts.iter().find(|part| part.identity.at == *at).map(|part| (snapshot, part))
        };
        self.context.snapshots.iter().filter_map(of_it)
    }

    /// Why a snapshot cannot be the base here.
    fn misfit(&self, snapshot: &KnownSnapshot, part: &KnownPart) -> Result<Option<String>, ReplayError> {
        let Cut { log_start, log_end, cut, .. } = *self.cut;
        let position = part.position;
        if let Some(why) = &snapshot.damaged {
            return Ok(Some(format!("it is damaged ({why})")));
        }
        if part.identity != self.live.identity {
            return Ok(Some("it was taken of another log".to_owned()));
        }
        if position > cut {
            return Ok(Some(format!("it stands at {position}, after the cut at {cut}")));
        }
        if position < log_start {
            return Ok(Some(format!("it stands at {position}, and the log begins at {log_start}")));
        }
        // Of the records that are gone, the last one is known; those before it are taken to be no later.
        if let (Some(gap), Some(last)) = (self.cut.gap, part.last)
            && last.timestamp >= gap.asked
        {
            return Ok(Some(format!("its last record is of {}, not before {}", last.timestamp, gap.asked)));
        }
        let lacks = |want: &&ViewIdent| stored(&part.views, &want.name).is_none();
        if let Some(want) = self.topic.wanted.iter().find(lacks) {
            return Ok(Some(format!("it does not have view `{}`", want.name)));
        }
        if let Some(last) = part.last {
            let at = &part.identity.at;
            let found = look_back(self.context.log, at, &last, log_start, log_end);
            let found = found.map_err(|source| log_failed(&at.topic, &source))?;
            if found.is_some_and(|found| found != last) {
                return Ok(Some(format!("the log has another record at offset {} than it has folded", last.offset)));
            }
        }
        Ok((self.context.compatible)(snapshot.id, &part.identity.at).err())
    }

    /// The definitions that are wanted made the rows of the snapshot.
    fn made_by_wanted(&self, part: &KnownPart) -> bool {
        self.topic.wanted.iter().all(|want| stored(&part.views, &want.name).is_some_and(|view| is(view, want)))
    }

    fn on(&self, snapshot: &KnownSnapshot, part: &'a KnownPart) -> Chosen<'a> {
        let (id, position) = (snapshot.id, part.position);
        let mut warnings = Vec::new();
        if !self.of_live_s_past(part) {
            warnings.push(format!(
                "{}: snapshot {id} was taken of generation {}, and live is generation {}: what was set right between the \
                 two is not in the base",
                part.identity.at, part.generation, self.live.number
            ));
        }
        let base = Base::Snapshot { snapshot: id, position };
        let time = part.last.map(|last| last.timestamp);
        Chosen { base, from: position, time, part: Some(part), warnings }
    }

    /// The beginning of the log, if it is the beginning of history.
    fn genesis(&self, passed_over: Option<&PassedOver>) -> Result<Chosen<'a>, ReplayError> {
        let start = self.cut.log_start;
        let mut warnings = Vec::new();
        if start > Position::ZERO {
            if self.topic.history == History::Complete {
                return Err(self.no_beginning(passed_over));
            }
            warnings.push(format!(
                "{}: the log begins at {start}; with `history = \"retained\"` the new rows begin there, too",
                self.live.identity.at
            ));
        }
        if self.live.began > start {
            warnings.push(format!(
                "{}: live's history begins at {}; from the beginning of the log, the new rows have what came before it, too",
                self.live.identity.at, self.live.began
            ));
        }
        if self.same && !self.live.lineage.is_whole() {
            warnings.push(format!(
                "{}: live's rows up to position {} were made by older definitions; from the beginning, the new ones make \
                 them too, and they may differ",
                self.live.identity.at, self.live.lineage.position
            ));
        }
        Ok(Chosen { base: Base::Genesis, from: start, time: None, part: None, warnings })
    }

    fn empty(&self) -> Result<Chosen<'a>, ReplayError> {
        let mut warnings = Vec::new();
        if let Some(gap) = self.cut.gap {
            let at = &self.live.identity.at;
            if self.topic.history == History::Complete {
                return Err(ReplayError::Refused(format!("{at}: {}. Options: {}", self.hole(gap), LATER)));
            }
            warnings.push(format!("{at}: {}", self.hole(gap)));
        }
        Ok(Chosen { base: Base::Empty, from: self.cut.cut, time: None, part: None, warnings })
    }

    /// What is missing between the time that was asked for and the oldest record.
    fn hole(&self, Gap { asked, oldest }: Gap) -> String {
        let start = self.cut.log_start;
        match oldest {
            Some(oldest) => format!(
                "{asked} lies in a retention gap: the log begins at {start} with a record of {oldest}, and the {start} \
                 offsets before it are gone"
            ),
            None => {
                format!("{asked} may lie in a retention gap: the log is empty, and the {start} offsets in it are gone")
            }
        }
    }

    /// Refuses to fold a log whose beginning is gone. `None`: it was asked for by name; else the snapshots that were passed
    /// over.
    fn no_beginning(&self, passed_over: Option<&PassedOver>) -> ReplayError {
        let Cut { log_start: start, cut, gap, .. } = *self.cut;
        let at = &self.live.identity.at;
        let mut why: Vec<String> = gap.map(|gap| self.hole(gap)).into_iter().collect();
        why.push(match self.added {
            [view, ..] => format!("view `{view}` is new and needs the whole log, which begins at {start} and not at 0"),
            [] => format!("the log begins at {start} and not at 0, so it cannot be folded from its beginning"),
        });
        let reasons = passed_over.map(|passed_over| passed_over.reasons.as_slice()).unwrap_or_default();
        why.extend(reasons.iter().take(REASONS).cloned());
        if reasons.len() > REASONS {
            why.push(format!("{} more do not fit", reasons.len() - REASONS));
        }
        let mut options = Vec::new();
        if passed_over.is_none() && self.added.is_empty() {
            options.push("`--base auto`, which takes a snapshot if one fits".to_owned());
        } else if self.added.is_empty() {
            if let Some((snapshot, part)) = self.later() {
                let last = part.last.map_or_else(String::new, |last| format!(" with a record of {}", last.timestamp));
                options.push(format!("a later `--from` (snapshot {} stands at {}{last})", snapshot.id, part.position));
            }
            if let Some(id) = passed_over.and_then(|passed_over| passed_over.foreign) {
                options.push(format!("`--base {id}`, if its rows are right all the same"));
            }
            let live = self.live.position;
            let before = |gap: Gap| self.live.last.is_none_or(|last| last.timestamp < gap.asked);
            if live <= cut && gap.is_none_or(before) {
                options.push(format!("`segno snapshot create`, for live stands at {live}, not after the cut at {cut}"));
            }
        }
        if gap.is_none() {
            options.push("`--base empty`, as if history began at the cut".to_owned());
        }
        options.push("`history = \"retained\"` for the topic, if a view of what is left is what you want".to_owned());
        ReplayError::Refused(format!("{at}: {}. Options: {}", why.join("; "), options.join("; ")))
    }

    /// The oldest snapshot that would fit a later cut.
    fn later(&self) -> Option<(&'a KnownSnapshot, &'a KnownPart)> {
        let cut = self.cut.cut;
        let fits = |(snapshot, part): &(&KnownSnapshot, &KnownPart)| {
            let missing = |want: &ViewIdent| stored(&part.views, &want.name).is_none();
            let in_the_log = part.position >= self.cut.log_start && part.position > cut;
            let whole = snapshot.damaged.is_none() && part.identity == self.live.identity;
            in_the_log && whole && self.foreign(part).is_none() && !self.topic.wanted.iter().any(missing)
        };
        self.parts().filter(fits).min_by_key(|(_, part)| part.position)
    }
}

const AUTO: &str = "`--base auto` chooses one that fits, and `segno snapshot list` shows all";
const LATER: &str = "a later `--from`; `--from beginning` for all that is left; \
                     `history = \"retained\"` for the topic, if a view of what is left is what you want";

/// The view of that name, unless it has left.
pub(super) fn stored<'v>(views: &'v [StoredView], name: &str) -> Option<&'v StoredView> {
    views.iter().find(|view| view.name == name && view.left_at.is_none())
}

/// The definition is the same. The text of a view in Rust is its type's name, so the version counts, too.
pub(super) fn is(view: &StoredView, want: &ViewIdent) -> bool {
    view.version == want.version && view.text == want.text
}
