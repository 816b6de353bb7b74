//! A compiled declaration and its rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::datum::{Datum, FieldType};
use super::json;
use super::rule::{Rule, check_guard};
use super::spec::{SpecError, ViewSpec};
use super::text::{canonical, read};
use super::types::nearest;
use crate::event::Event;
use crate::views::{Applied, Definition, Failure, Row, is_view_name};

/// A view that was declared in the configuration.
#[derive(Clone, Debug)]
pub struct Declared {
    view: Arc<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    name: String,
    version: u32,
    text: String,
    /// Sorted by name, which is the order in which rows are written.
    fields: Vec<(String, FieldType)>,
    initial: Vec<Datum<'static>>,
    /// Sorted by event type.
    rules: Vec<(String, Arc<Rule>)>,
    /// For every type that is not named.
    other: Option<Arc<Rule>>,
    ignore: BTreeSet<String>,
    ignore_all: bool,
    /// Types that other views of the topic name.
    elsewhere: BTreeSet<String>,
    max_event_version: u32,
}

impl Declared {
    /// Compiles a declaration and checks it as far as can be done without events.
    pub fn compile(spec: &ViewSpec) -> Result<Declared, SpecError> {
        check_words(spec)?;
        let fields: Vec<_> =
            spec.initial.iter().map(|(name, literal)| (name.clone(), FieldType::of(literal))).collect();
        let initial = spec.initial.iter().map(|(name, literal)| {
            Datum::literal(literal).map_err(|what| spec.error(format!("the first value of `{name}` is {what}"), None))
        });
        let initial = initial.collect::<Result<_, _>>()?;
        let mut rules = Vec::new();
        let mut other = None;
        for event_type in spec.on.keys() {
            let rule = Arc::new(Rule::compile(spec, event_type, &fields)?);
            match event_type.as_str() {
                "*" => other = Some(rule),
                _ => rules.push((event_type.clone(), rule)),
            }
        }
        // A guard for a type that only `*` applies makes a rule of its own.
        for guard in spec.reject_when.iter().filter(|guard| guard.on != "*" && !spec.on.contains_key(&guard.on)) {
            if let (Some(all), Err(at)) =
                (spec.on.get("*"), rules.binary_search_by(|(name, _)| name.as_str().cmp(&guard.on)))
            {
                let mut named = spec.clone();
                named.on.insert(guard.on.clone(), all.clone());
                rules.insert(at, (guard.on.clone(), Arc::new(Rule::compile(&named, &guard.on, &fields)?)));
            }
        }
        let ignore_all = spec.ignore.iter().any(|name| name == "*");
        let compiled = Compiled {
            name: spec.name.clone(),
            version: spec.version,
            text: canonical(spec),
            fields,
            initial,
            rules,
            other,
            ignore: spec.ignore.iter().filter(|name| *name != "*").cloned().collect(),
            ignore_all,
            elsewhere: BTreeSet::new(),
            max_event_version: spec.max_event_version.unwrap_or(u32::MAX),
        };
        Ok(Declared { view: Arc::new(compiled) })
    }

    /// The view that [`Definition::text`] gave this text of: the same name, version, text and fold. What the text does
    /// not have is the types that other views of its topic named; see [`Declared::with_topic_types`].
    pub fn from_text(text: &str) -> Result<Declared, String> {
        let spec = read(text)?;
        let mut view = Declared::compile(&spec).map_err(|error| format!("view `{}`: {}", error.view, error.message))?;
        // As it was stored, even where this program would write it in another way.
        Arc::make_mut(&mut view.view).text = text.to_owned();
        Ok(view)
    }

    /// Compiles all declared views of one topic. A type that one of them names is no unknown type to the others.
    pub fn compile_topic(specs: &[ViewSpec]) -> Result<Vec<Declared>, SpecError> {
        let views = specs.iter().map(Declared::compile).collect::<Result<Vec<_>, _>>()?;
        let types: BTreeSet<String> = views.iter().flat_map(Declared::event_types).map(str::to_owned).collect();
        Ok(views.into_iter().map(|view| view.with_topic_types(&types)).collect())
    }

    /// The event types that the declaration names in `on`.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.view.rules.iter().map(|(name, _)| name.as_str())
    }

    /// Makes events of these types, which other views of the topic apply, ignored here instead of unknown.
    pub fn with_topic_types(mut self, types: &BTreeSet<String>) -> Declared {
        let named = |name: &&String| self.view.rules.binary_search_by(|(rule, _)| rule.cmp(name)).is_err();
        let elsewhere = types.iter().filter(named).cloned().collect();
        Arc::make_mut(&mut self.view).elsewhere = elsewhere;
        self
    }
}

impl Compiled {
    /// What to do with an event of this type; `None` is to ignore it.
    fn rule(&self, event_type: &str) -> Result<Option<&Rule>, Failure> {
        if let Ok(at) = self.rules.binary_search_by(|(name, _)| name.as_str().cmp(event_type)) {
            return Ok(Some(&self.rules[at].1));
        }
        if self.ignore.contains(event_type) {
            return Ok(None);
        }
        match &self.other {
            Some(rule) => Ok(Some(rule)),
            None if self.ignore_all || self.elsewhere.contains(event_type) => Ok(None),
            None => Err(Failure::UnknownType(event_type.to_owned())),
        }
    }
}

/// What can be wrong beside the expressions.
fn check_words(spec: &ViewSpec) -> Result<(), SpecError> {
    if !is_view_name(&spec.name) {
        let message = "its name is not 1 to 64 of a-z, 0-9, `_` and `-`, beginning with a letter or a digit";
        return Err(spec.error(message, None));
    }
    if spec.initial.is_empty() {
        return Err(spec.error("`initial` has no fields", Some("name each field and its first value".to_owned())));
    }
    if spec.on.is_empty() {
        return Err(spec.error("`on` has no event types", Some("say what each event type changes".to_owned())));
    }
    if let Some(twice) = spec.ignore.iter().find(|name| spec.on.contains_key(*name)) {
        return Err(spec.error(format!("`{twice}` is both in `on` and in `ignore`"), None));
    }
    spec.reject_when.iter().try_for_each(|guard| {
        if spec.ignore.contains(&guard.on) && guard.on != "*" {
            let near = nearest(&guard.on, spec.on.keys().map(String::as_str));
            return Err(spec.error(format!("a guard is for `{}`, which is ignored", guard.on), near));
        }
        check_guard(spec, &guard.on, &guard.when)
    })
}

impl Definition for Declared {
    fn name(&self) -> &str {
        &self.view.name
    }

    fn version(&self) -> u32 {
        self.view.version
    }

    fn text(&self) -> String {
        self.view.text.clone()
    }

    fn initial(&self) -> Box<dyn Row> {
        Box::new(DeclaredRow { view: Arc::clone(&self.view), state: self.view.initial.clone() })
    }

    fn decode(&self, stored: &[u8]) -> Result<Box<dyn Row>, String> {
        let fields = &self.view.fields;
        let mut read: Vec<Option<Datum<'static>>> = vec![None; fields.len()];
        json::Reader::new(stored).members(|reader, key| {
            let at = fields.binary_search_by(|(name, _)| name.as_str().cmp(&key));
            let at = at.map_err(|_| format!("the stored row has a field `{key}`, the view has none"))?;
            let value = fields[at]
                .1
                .restore(reader.value()?)
                .map_err(|got| format!("the stored row's `{key}` is {got}, the view's is {}", fields[at].1.name()))?;
            match read[at].replace(value) {
                None => Ok(()),
                Some(_) => Err(format!("the stored row has the field `{key}` twice")),
            }
        })?;
        let state = read.into_iter().zip(fields).map(|(value, (name, _))| {
            value.ok_or_else(|| format!("the stored row has no field `{name}`, the view has one"))
        });
        Ok(Box::new(DeclaredRow { view: Arc::clone(&self.view), state: state.collect::<Result<_, _>>()? }))
    }
}

struct DeclaredRow {
    view: Arc<Compiled>,
    state: Vec<Datum<'static>>,
}

impl Row for DeclaredRow {
    fn apply(&mut self, event: &Event<'_>) -> Result<Applied, Failure> {
        let rule = self.view.rule(&event.meta.event_type);
        let (found, known) = (event.meta.event_version, self.view.max_event_version);
        match rule {
            Ok(None) => Ok(Applied::Ignored),
            _ if found > known => Err(Failure::TooNew { found, known }),
            Ok(Some(rule)) => rule.apply(&mut self.state, &self.view.fields, event).map(|()| Applied::Folded),
            Err(unknown) => Err(unknown),
        }
    }

    /// None: all values of an event are computed before the first is stored.
    fn checkpoint(&self) -> Option<Box<dyn Row>> {
        None
    }

    fn copy(&self) -> Box<dyn Row> {
        Box::new(DeclaredRow { view: Arc::clone(&self.view), state: self.state.clone() })
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.push(b'{');
        for (index, ((name, _), value)) in self.view.fields.iter().zip(&self.state).enumerate() {
            if index > 0 {
                into.push(b',');
            }
            json::push(into, name.as_str());
            into.push(b':');
            json::write(value.as_val(), into);
        }
        into.push(b'}');
    }

    fn footprint(&self) -> usize {
        size_of::<Self>() + self.state.iter().map(|value| size_of::<Datum<'_>>() + value.heap()).sum::<usize>()
    }
}
