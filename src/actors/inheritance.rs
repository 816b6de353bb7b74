//! What a topic goes on under when it starts: the definitions of the configuration, or those that made the stored rows.
//! Pure: it is told what is stored, and decides.

use std::sync::Arc;

use super::plan::{OnChange, StartError};
use super::replay::words::{DefinitionChange, ViewReplay};
use crate::position::{Position, TopicPartition};
use crate::state::{self, StoredView};
use crate::views::{Definition, Definitions, Registered, from_texts, is_rust};

/// A partition's live generation, as far as it matters here.
#[derive(Clone, Debug)]
pub struct LiveViews {
    pub position: Position,
    /// Those that are active: `left_at` is `None`.
    pub views: Vec<StoredView>,
}

/// How a topic starts.
pub enum Inheritance {
    /// Its generations are opened with the definitions of the configuration.
    Same,
    /// Live goes on under these, which made its rows, in the order in which they are stored.
    Runs {
        definitions: Definitions,
        /// What a replay has to do: the views whose definitions are not the same.
        changes: Vec<ViewReplay>,
    },
    /// The generations can be read, and nothing is applied to them.
    Frozen {
        changes: Vec<ViewReplay>,
        /// Which definition is not at hand, and what to do.
        missing: String,
    },
}

/// Decides for `topic`, whose partitions have stored `live` (`None` where there is nothing yet). `previous` has the
/// older versions of views in Rust that the program knows.
///
/// A partition that has folded nothing has no say. An error refuses the start: a changed definition under the same
/// version, a version that is lower than the stored one, partitions that contradict each other.
pub fn inherit(
    topic: &str,
    live: &[Option<LiveViews>],
    wanted: &Definitions,
    previous: &Definitions,
    on_change: OnChange,
) -> Result<Inheritance, StartError> {
    let moved: Vec<Moved<'_>> = live
        .iter()
        .zip(0..)
        .filter_map(|(live, partition)| {
            let live = live.as_ref().filter(|live| live.position > Position::ZERO)?;
            Some(Moved { at: TopicPartition::new(topic, partition), live })
        })
        .collect();
    let Some(first) = moved.first() else { return Ok(Inheritance::Same) };
    let stored = common(&moved)?;
    refuse(first, &stored, wanted)?;
    let mut changes = relate(&stored, wanted);
    let needs_replay = |view: &ViewReplay| matches!(view.change, DefinitionChange::Changed | DefinitionChange::Added);
    if !changes.iter().any(needs_replay) {
        return Ok(Inheritance::Same);
    }
    changes.retain(|view| view.change != DefinitionChange::Same);
    // A view that the configuration no longer has goes with the cut-over, or now when nobody knows its code.
    let is_wanted = |view: &StoredView| wanted.iter().any(|want| want.name() == view.name);
    let found = find(&stored, wanted, previous);
    let mut definitions = Vec::new();
    let mut missing = Vec::new();
    for (view, found) in stored.iter().zip(found) {
        match found {
            Ok(definition) => definitions.push(definition),
            Err(why) if is_wanted(view) => missing.push(why),
            Err(_) => {}
        }
    }
    if missing.is_empty() {
        return Ok(Inheritance::Runs { definitions: definitions.into(), changes });
    }
    let or_else = match on_change {
        OnChange::Wait => "; or build the rows again under the new definitions with `segno replay`",
        OnChange::Replay => "; the replay into the new definitions goes on all the same",
    };
    Ok(Inheritance::Frozen { changes, missing: format!("{}{or_else}", missing.join("; ")) })
}

/// How the views of the configuration relate to those that are stored: first all wanted ones in their order, then the
/// stored ones that are not wanted.
pub fn relate(stored: &[StoredView], wanted: &Definitions) -> Vec<ViewReplay> {
    let in_store = |want: &dyn Definition| stored.iter().find(|view| view.name == want.name());
    let wanted_ones = wanted.iter().map(|want| {
        let live = in_store(&**want);
        let change = match live {
            None => DefinitionChange::Added,
            Some(live) if is(live, &**want) => DefinitionChange::Same,
            Some(_) => DefinitionChange::Changed,
        };
        let live = live.map(|live| live.version);
        ViewReplay { view: want.name().to_owned(), live, wanted: Some(want.version()), change }
    });
    let gone = stored.iter().filter(|view| wanted.iter().all(|want| want.name() != view.name));
    let gone = gone.map(|view| {
        let change = DefinitionChange::Removed;
        ViewReplay { view: view.name.clone(), live: Some(view.version), wanted: None, change }
    });
    wanted_ones.chain(gone).collect()
}

/// The definitions that made stored views, in their order: for a generation of any age that is to go on or to be read.
/// The error names every view whose definition is not at hand, and says what to do.
pub fn at_hand(stored: &[StoredView], wanted: &Definitions, previous: &Definitions) -> Result<Definitions, String> {
    let (mut definitions, mut missing) = (Vec::new(), Vec::new());
    for found in find(stored, wanted, previous) {
        match found {
            Ok(definition) => definitions.push(definition),
            Err(why) => missing.push(why),
        }
    }
    if missing.is_empty() { Ok(definitions.into()) } else { Err(missing.join("; ")) }
}

/// A partition that has folded something.
struct Moved<'l> {
    at: TopicPartition,
    live: &'l LiveViews,
}

fn is(stored: &StoredView, view: &dyn Definition) -> bool {
    stored.name == view.name() && stored.version == view.version() && stored.text == view.text()
}

/// The views that every partition has, in the order of the first. One that some partitions lack was being left out, or
/// taken up, when a start ended early: for the topic it is not there.
fn common(moved: &[Moved<'_>]) -> Result<Vec<StoredView>, StartError> {
    let Some((first, others)) = moved.split_first() else { return Ok(Vec::new()) };
    let mut stored = first.live.views.clone();
    for other in others {
        for view in &stored {
            let differs = |there: &&StoredView| (there.version, &*there.text) != (view.version, &*view.text);
            if let Some(there) = other.live.views.iter().filter(|there| there.name == view.name).find(differs) {
                return Err(StartError::Mixed {
                    view: view.name.clone(),
                    one: (first.at.clone(), view.version, view.fingerprint),
                    other: (other.at.clone(), there.version, there.fingerprint),
                });
            }
        }
        stored.retain(|view| other.live.views.iter().any(|there| there.name == view.name));
    }
    Ok(stored)
}

/// What no replay makes right: one name and version for two folds, and a way back.
fn refuse(first: &Moved<'_>, stored: &[StoredView], wanted: &Definitions) -> Result<(), StartError> {
    for want in wanted.iter() {
        let Some(view) = stored.iter().find(|view| view.name == want.name()) else { continue };
        let (at, position) = (first.at.clone(), first.live.position);
        let source = if want.version() < view.version {
            let (view, stored) = (view.name.clone(), view.version);
            state::Error::VersionChanged { at, view, stored, wanted: want.version(), position }
        } else if want.version() == view.version && !is(view, &**want) {
            state::Error::DefinitionChanged { at, view: view.name.clone(), version: view.version, position }
        } else {
            continue;
        };
        return Err(StartError::Store { at: first.at.clone(), source });
    }
    Ok(())
}

/// Each view's definition, or why it is not at hand.
fn find(
    stored: &[StoredView],
    wanted: &Definitions,
    previous: &Definitions,
) -> Vec<Result<Arc<dyn Definition>, String>> {
    // Read from their texts even where the configuration has them: its views know event types of views that are not here.
    let read = from_texts(stored.iter().map(|view| &*view.text));
    let known = |view: &StoredView| wanted.iter().chain(previous.iter()).find(|known| is(view, &***known)).cloned();
    let find = |(view, read): (&StoredView, Result<Arc<dyn Definition>, String>)| {
        let fits = |read: &Arc<dyn Definition>| is(view, &**read);
        let read = match read {
            Ok(read) if fits(&read) => return Ok(read),
            Ok(_) => Err("its stored definition is of another view".to_owned()),
            Err(why) => Err(why),
        };
        let found = known(view).or_else(|| registered(view, previous)).map(Ok);
        found.unwrap_or(read).map_err(|why| format!("view `{}`, version {}: {why}", view.name, view.version))
    };
    stored.iter().zip(read).map(find).collect()
}

/// The code that the program gives for that version of a view in Rust. Its type may have another name by now, as the one
/// that it had is usually the newer version's.
fn registered(view: &StoredView, previous: &Definitions) -> Option<Arc<dyn Definition>> {
    let fits = |known: &&Arc<dyn Definition>| {
        known.name() == view.name && known.version() == view.version && is_rust(&known.text()) && is_rust(&view.text)
    };
    let code = previous.iter().find(fits)?.clone();
    Some(Arc::new(Registered { code, text: view.text.clone() }))
}

#[cfg(test)]
mod tests;
