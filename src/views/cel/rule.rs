//! What one event type does to a row: guards, then assignments.

use cel::common::ast::IdedExpr;
use cel::common::types::CelBool;

use super::compile::{Fields, expression};
use super::constants::storable;
use super::datum::{Datum, FieldType};
use super::evaluate::{evaluate, explain};
use super::frame::Frame;
use super::functions::ROOT;
use super::payload::Paths;
use super::spec::{Fault, Located, SpecError, ViewSpec};
use super::types::{Type, nearest};
use crate::event::Event;
use crate::views::Failure;

#[derive(Debug, Default)]
pub(super) struct Rule {
    guards: Vec<Guard>,
    sets: Vec<Set>,
    paths: Paths,
}

#[derive(Debug)]
struct Guard {
    when: IdedExpr,
    reason: String,
}

#[derive(Debug)]
struct Set {
    field: usize,
    to: IdedExpr,
}

impl Rule {
    /// Compiles the assignments of `on.<event_type>` and the guards that are for it.
    pub fn compile(spec: &ViewSpec, event_type: &str, fields: &Fields) -> Result<Rule, SpecError> {
        let mut rule = Rule::default();
        for guard in spec.reject_when.iter().filter(|guard| guard.on == event_type || guard.on == "*") {
            let when = expression(&guard.when.text, fields, &mut rule.paths)
                .map_err(|fault| spec.fault(&guard.when, fault))?;
            if !when.of.may_be(Type::Bool) {
                let fault = Fault::new(0, format!("a guard says true or false, and this is {}", when.of.a()));
                return Err(spec.fault(&guard.when, fault));
            }
            rule.guards.push(Guard { when: when.expr, reason: guard.reason.clone() });
        }
        for (name, to) in spec.on.get(event_type).into_iter().flatten() {
            let Some(field) = fields.iter().position(|(field, _)| field == name) else {
                return Err(spec.fault(to, unknown_field(event_type, name, fields)));
            };
            let compiled = expression(&to.text, fields, &mut rule.paths);
            let compiled = compiled.map_err(|fault| spec.fault(to, fault))?;
            let of = fields[field].1;
            check_type(name, of, compiled.of).map_err(|fault| spec.fault(to, fault))?;
            if compiled.constant {
                storable(&compiled.expr, of).map_err(|got| {
                    let message = format!("`{name}` can never be this: expected {}, got {got}", wanted(of));
                    spec.fault(to, Fault::new(0, message))
                })?;
            }
            rule.sets.push(Set { field, to: compiled.expr });
        }
        Ok(rule)
    }

    /// Changes the row as the event says. An error leaves it as it was: everything is computed before anything is set.
    pub fn apply(&self, state: &mut [Datum<'static>], fields: &Fields, event: &Event<'_>) -> Result<(), Failure> {
        for (field, value) in self.compute(state, fields, event)? {
            state[field] = value;
        }
        Ok(())
    }

    /// The new values by field.
    fn compute(
        &self,
        state: &[Datum<'static>],
        fields: &Fields,
        event: &Event<'_>,
    ) -> Result<Vec<(usize, Datum<'static>)>, Failure> {
        let payload = self.paths.read(event.payload).map_err(Failure::Undecodable)?;
        let frame = Frame { state, payload: &payload, meta: &event.meta };
        let mut context = ROOT.new_inner_scope();
        context.set_variable_resolver(&frame);
        for guard in &self.guards {
            let rejects = evaluate(&guard.when, &context)
                .map_err(|error| explain(&error, &self.paths))
                .and_then(|value| match value.downcast_ref::<CelBool>() {
                    Some(rejects) => Ok(*rejects.inner()),
                    None => Err("it gives neither true nor false".to_owned()),
                })
                .map_err(|why| Failure::Rejected(format!("the guard \"{}\": {why}", guard.reason)))?;
            if rejects {
                return Err(Failure::Rejected(guard.reason.clone()));
            }
        }
        let mut new = Vec::with_capacity(self.sets.len());
        for set in &self.sets {
            let (name, of) = &fields[set.field];
            let value = evaluate(&set.to, &context)
                .map_err(|error| Failure::Rejected(format!("`{name}`: {}", explain(&error, &self.paths))))?;
            let value =
                Datum::result(&value).and_then(|value| of.fit(value)).map_err(|got| mismatch(name, *of, &got))?;
            new.push((set.field, value));
        }
        Ok(new)
    }
}

fn wanted(of: FieldType) -> &'static str {
    match of {
        FieldType::Any => "a JSON value",
        of => of.name(),
    }
}

fn mismatch(name: &str, of: FieldType, got: &str) -> Failure {
    Failure::Rejected(format!("`{name}`: expected {}, got {got}", wanted(of)))
}

fn unknown_field(event_type: &str, name: &str, fields: &Fields) -> Fault {
    let fault = Fault::new(0, format!("on `{event_type}` assigns `{name}`, which `initial` does not have"));
    let near = nearest(name, fields.iter().map(|(field, _)| field.as_str()));
    fault.help(near.unwrap_or_else(|| format!("give `{name}` a first value in `initial`")))
}

fn check_type(name: &str, field: FieldType, of: Type) -> Result<(), Fault> {
    if of.fits(field) {
        return Ok(());
    }
    let fault = match field {
        FieldType::Any => Fault::new(0, format!("{} cannot be kept in a row", of.a())),
        field => {
            Fault::new(0, format!("`{name}` is {} by its first value, and this is {}", Type::from(field).a(), of.a()))
        }
    };
    Err(match (field, of) {
        (FieldType::Text, Type::Time | Type::Int | Type::Float | Type::Bool) => fault.help("convert it with string()"),
        (FieldType::Int, Type::Float | Type::Text | Type::Time) => fault.help("convert it with int()"),
        (_, Type::Span) => fault.help("keep its number of seconds: `(…).getSeconds()`"),
        _ => fault,
    })
}

/// A guard for a type that the view does not apply would never run.
pub(super) fn check_guard(spec: &ViewSpec, on: &str, when: &Located) -> Result<(), SpecError> {
    if on == "*" || spec.on.contains_key(on) || spec.on.contains_key("*") {
        return Ok(());
    }
    let fault = Fault::new(0, format!("this guard is for `{on}`, which `on` does not name"));
    let near = nearest(on, spec.on.keys().map(String::as_str));
    Err(spec.fault(when, fault.help(near.unwrap_or_else(|| format!("name `{on}` in `on`, if only as `{on} = {{}}`")))))
}
