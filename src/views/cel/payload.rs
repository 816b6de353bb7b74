//! Which parts of a payload the expressions for one event type name, and how just those are read.

use super::datum::Datum;
use super::json::{Bad, Reader};

/// One part of a payload, by the names that lead to it; none for the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub names: Vec<String>,
    /// The value itself is needed, not only whether it is there.
    pub value: bool,
}

/// What was found at a path.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Missing,
    /// It is there, and nothing asks what it is.
    Seen,
    Value(Datum<'a>),
}

/// The paths of one rule; a path's number is its slot.
#[derive(Debug, Default)]
pub(super) struct Paths {
    paths: Vec<Path>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    slot: Option<usize>,
    children: Vec<(String, Node)>,
}

impl Paths {
    /// The slot of a path, a new one if need be.
    pub fn slot(&mut self, names: &[String], value: bool) -> usize {
        if let Some(slot) = self.paths.iter().position(|path| path.names == names) {
            self.paths[slot].value |= value;
            return slot;
        }
        let slot = self.paths.len();
        self.paths.push(Path { names: names.to_vec(), value });
        let mut node = &mut self.root;
        for name in names {
            let at = node.children.iter().position(|(child, _)| child == name).unwrap_or_else(|| {
                node.children.push((name.clone(), Node::default()));
                node.children.len() - 1
            });
            node = &mut node.children[at].1;
        }
        node.slot = Some(slot);
        slot
    }

    /// As messages name it.
    pub fn name(&self, slot: usize) -> String {
        let names = self.paths.get(slot).map_or(&[][..], |path| &path.names);
        names.iter().fold("event.payload".to_owned(), |sum, name| sum + "." + name)
    }

    /// Reads what the paths lead to, by slot. Within the objects on the way, a key that is given twice is an error.
    pub fn read<'a>(&self, payload: &'a [u8]) -> Result<Vec<Found<'a>>, Bad> {
        let mut found: Vec<_> = self.paths.iter().map(|_| Found::Missing).collect();
        if !found.is_empty() {
            self.descend(&self.root, &mut Reader::new(payload), &mut found)?;
        }
        Ok(found)
    }

    fn descend<'a>(&self, node: &Node, reader: &mut Reader<'a>, found: &mut [Found<'a>]) -> Result<(), Bad> {
        let is_object = reader.peek()? == b'{';
        let walk = is_object && !node.children.is_empty();
        if let Some(slot) = node.slot {
            if self.paths[slot].value {
                let start = reader.mark();
                found[slot] = Found::Value(reader.value()?);
                if !walk {
                    return Ok(());
                }
                reader.back_to(start);
            } else {
                found[slot] = Found::Seen;
            }
        }
        if !walk {
            return reader.skip();
        }
        let mut keys = Vec::new();
        reader.members(|reader, key| {
            match node.children.iter().find(|(name, _)| *name == key) {
                Some((_, child)) => self.descend(child, reader, found)?,
                None => reader.skip()?,
            }
            keys.push(key);
            Ok(())
        })?;
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(format!("the key `{}` is given twice in one object", twice[0])),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<String> {
        path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    fn read(paths: &[(&str, bool)], payload: &str) -> Result<Vec<String>, Bad> {
        let mut all = Paths::default();
        for (path, value) in paths {
            all.slot(&names(path), *value);
        }
        let show = |found: &Found<'_>| match found {
            Found::Missing => "-".to_owned(),
            Found::Seen => "+".to_owned(),
            Found::Value(datum) => {
                let mut out = Vec::new();
                super::super::json::write(datum.as_val(), &mut out);
                String::from_utf8(out).unwrap()
            }
        };
        Ok(all.read(payload.as_bytes())?.iter().map(show).collect())
    }

    #[test]
    fn only_what_is_named_is_read() {
        let paths = [("a", true), ("b.c", true), ("b.d", false), ("x.y.z", true), ("b", true)];
        let payload = r#" {"a": 1, "n": [1e999, {"q":2,"q":2}], "b": {"c": "t\u0065xt", "d": null}} "#;
        assert_eq!(read(&paths, payload).unwrap(), ["1", "\"text\"", "+", "-", r#"{"c":"text","d":null}"#]);
        assert_eq!(read(&paths, "[1]").unwrap(), ["-"; 5]);
        assert_eq!(read(&paths, "null").unwrap(), ["-"; 5]);
        assert_eq!(read(&[("", true), ("a", true)], r#"{"a":[2]}"#).unwrap(), [r#"{"a":[2]}"#, "[2]"]);
        assert!(read(&[], "not even JSON").unwrap().is_empty());
    }

    #[test]
    fn a_key_given_twice_on_the_way_is_an_error() {
        for payload in
            [r#"{"a":1,"a":1}"#, r#"{"q":1,"a":1,"q":2}"#, r#"{"b":{"c":1,"c":2}}"#, r#"{"a":{"k":1,"k":1}}"#]
        {
            assert!(read(&[("a", true), ("b.c", true)], payload).unwrap_err().contains("twice"), "{payload}");
        }
    }
}
