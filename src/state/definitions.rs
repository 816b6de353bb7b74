//! Whether the views that the configuration wants are the ones that a generation was made by.

use crate::position::{Position, TopicPartition};
use crate::state::delta::ViewTag;
use crate::state::digest;
use crate::state::error::Error;
use crate::state::meta::StoredView;

/// A view of the configuration, for comparison with what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewIdent {
    pub name: String,
    pub version: u32,
    /// What the fold is made of, as `Definition::text` gives it.
    pub text: String,
}

/// What opening does to the views of a generation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    /// In the order of the configuration.
    pub active: Vec<StoredView>,
    /// Descriptions that are new or have changed.
    pub changed: Vec<StoredView>,
}

/// Compares `wanted` with `stored` in a generation that is at `position`.
///
/// Where nothing has been folded yet, everything may change. Later a view must be there with the same definition and
/// must have seen everything up to `position`; the alternative is a rebuild, never a start in the middle.
pub(crate) fn compare(
    at: &TopicPartition,
    stored: &[StoredView],
    wanted: &[ViewIdent],
    position: Position,
) -> Result<Matched, Error> {
    let mut active = Vec::with_capacity(wanted.len());
    let mut changed = Vec::new();
    let mut next_tag = stored.iter().map(|view| usize::from(view.tag.0) + 1).max().unwrap_or(0);
    for (index, want) in wanted.iter().enumerate() {
        if wanted[..index].iter().any(|earlier| earlier.name == want.name) {
            return Err(Error::DuplicateView { at: at.clone(), view: want.name.clone() });
        }
        let same = stored.iter().find(|view| view.name == want.name && view.version == want.version);
        let view = match same {
            Some(view) => take_up(at, view, want, position)?,
            None => {
                refuse_newcomer(at, stored, want, position)?;
                let tag = u16::try_from(next_tag).ok().map(ViewTag).filter(|tag| *tag != ViewTag::ALL);
                let limit = usize::from(ViewTag::ALL.0);
                let tag = tag.ok_or_else(|| Error::TooManyViews { at: at.clone(), limit })?;
                next_tag += 1;
                StoredView {
                    tag,
                    name: want.name.clone(),
                    version: want.version,
                    text: want.text.clone(),
                    fingerprint: digest::text(&want.text),
                    left_at: None,
                }
            }
        };
        if same != Some(&view) {
            changed.push(view.clone());
        }
        active.push(view);
    }
    for view in stored {
        if view.left_at.is_none() && !active.iter().any(|one| one.tag == view.tag) {
            changed.push(StoredView { left_at: Some(position), ..view.clone() });
        }
    }
    Ok(Matched { active, changed })
}

/// A view that the generation knows by name and version.
fn take_up(at: &TopicPartition, view: &StoredView, want: &ViewIdent, now: Position) -> Result<StoredView, Error> {
    let (at, name, version) = (at.clone(), want.name.clone(), want.version);
    if view.text != want.text && now > Position::ZERO {
        return Err(Error::DefinitionChanged { at, view: name, version, position: view.left_at.unwrap_or(now) });
    }
    match view.left_at {
        Some(seen) if seen != now => Err(Error::ViewAdded { at, view: name, version, seen, position: now }),
        _ => Ok(StoredView {
            text: want.text.clone(),
            fingerprint: digest::text(&want.text),
            left_at: None,
            ..view.clone()
        }),
    }
}

/// A view that the generation does not know can only be there from the beginning.
fn refuse_newcomer(at: &TopicPartition, stored: &[StoredView], want: &ViewIdent, now: Position) -> Result<(), Error> {
    if now == Position::ZERO {
        return Ok(());
    }
    let (at, view) = (at.clone(), want.name.clone());
    // The newest stored version is the one to go back to: the one in use, else the one that was taken up last.
    match stored.iter().filter(|view| view.name == want.name).max_by_key(|view| (view.left_at.is_none(), view.tag)) {
        Some(other) => Err(Error::VersionChanged {
            at,
            view,
            stored: other.version,
            wanted: want.version,
            position: other.left_at.unwrap_or(now),
        }),
        None => Err(Error::ViewAdded { at, view, version: want.version, seen: Position::ZERO, position: now }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(name: &str, version: u32, text: &str) -> ViewIdent {
        ViewIdent { name: name.to_owned(), version, text: text.to_owned() }
    }

    fn at() -> TopicPartition {
        TopicPartition::new("t", 0)
    }

    /// What a generation stores after it was opened with `wanted` at `position`.
    fn opened(stored: &[StoredView], wanted: &[ViewIdent], position: u64) -> Result<Vec<StoredView>, Error> {
        let matched = compare(&at(), stored, wanted, Position(position))?;
        assert_eq!(
            matched.active.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(),
            wanted.iter().map(|v| v.name.as_str()).collect::<Vec<_>>()
        );
        let mut all = stored.to_vec();
        for view in matched.changed {
            all.retain(|old| old.tag != view.tag);
            all.push(view);
        }
        Ok(all)
    }

    #[test]
    fn tags_are_given_in_order_and_kept() {
        let first = opened(&[], &[want("a", 1, "x"), want("b", 1, "y")], 0).unwrap();
        let matched = compare(&at(), &first, &[want("b", 1, "y"), want("a", 1, "x")], Position(5)).unwrap();
        assert_eq!(matched.active.iter().map(|v| v.tag.0).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(matched.changed, []);
    }

    #[test]
    fn before_the_first_record_everything_may_change() {
        let first = opened(&[], &[want("a", 1, "x")], 0).unwrap();
        let second = opened(&first, &[want("a", 1, "z"), want("b", 1, "y")], 0).unwrap();
        let third = opened(&second, &[want("a", 2, "z")], 0).unwrap();
        assert_eq!(third.iter().filter(|v| v.left_at.is_none()).map(|v| v.tag.0).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn another_definition_of_the_same_version_is_refused() {
        let stored = opened(&[], &[want("a", 1, "x")], 0).unwrap();
        let refused = opened(&stored, &[want("a", 1, "z")], 7).unwrap_err();
        let position = Position(7);
        assert_eq!(refused, Error::DefinitionChanged { at: at(), view: "a".into(), version: 1, position });
    }

    #[test]
    fn another_version_is_refused() {
        let stored = opened(&[], &[want("a", 1, "x")], 0).unwrap();
        let refused = opened(&stored, &[want("a", 2, "x")], 7).unwrap_err();
        let position = Position(7);
        assert_eq!(refused, Error::VersionChanged { at: at(), view: "a".into(), stored: 1, wanted: 2, position });
    }

    #[test]
    fn a_new_view_is_refused_in_the_middle() {
        let stored = opened(&[], &[want("a", 1, "x")], 0).unwrap();
        let refused = opened(&stored, &[want("a", 1, "x"), want("b", 3, "y")], 7).unwrap_err();
        let (seen, position) = (Position::ZERO, Position(7));
        assert_eq!(refused, Error::ViewAdded { at: at(), view: "b".into(), version: 3, seen, position });
    }

    #[test]
    fn a_view_may_come_back_only_where_it_left() {
        let both = [want("a", 1, "x"), want("b", 1, "y")];
        let stored = opened(&[], &both, 0).unwrap();
        let without = opened(&stored, &both[..1], 7).unwrap();
        assert_eq!(opened(&without, &both[..1], 9).unwrap(), without);
        let again = opened(&without, &both, 7).unwrap();
        assert_eq!(opened(&again, &both, 9).unwrap(), again);
        let refused = opened(&without, &both, 9).unwrap_err();
        let (seen, position) = (Position(7), Position(9));
        assert_eq!(refused, Error::ViewAdded { at: at(), view: "b".into(), version: 1, seen, position });
    }

    #[test]
    fn a_name_is_used_once() {
        let refused = opened(&[], &[want("a", 1, "x"), want("a", 2, "y")], 0).unwrap_err();
        assert_eq!(refused, Error::DuplicateView { at: at(), view: "a".into() });
    }
}
