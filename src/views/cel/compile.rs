//! From the text of an expression to something that can be evaluated: parsed, its names replaced by slots, its types
//! checked as far as they are known, its constants tried out.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SelectExpr, operators,
};

use super::constants;
use super::datum::FieldType;
use super::frame::{META, Slot};
use super::functions::{self, HAS, LANGUAGE, ORDERED, PATH_GAP};
use super::names::{Chain, Step, chain, is_test, split};
use super::payload::Paths;
use super::places::Places;
use super::spec::Fault;
use super::types::{self, Type, nearest};

/// Longer texts are refused, as are deeper expressions: both cost stack.
const MAX_TEXT: usize = 4096;
const MAX_DEPTH: usize = 200;

/// A row's fields in the order of their names.
pub(super) type Fields = [(String, FieldType)];

/// An expression that can be evaluated.
pub(super) struct Compiled {
    pub expr: IdedExpr,
    pub of: Type,
    /// It names nothing that changes.
    pub constant: bool,
}

/// Compiles one expression; the payload's paths that it names go into `paths`.
pub(super) fn expression(text: &str, fields: &Fields, paths: &mut Paths) -> Result<Compiled, Fault> {
    if text.len() > MAX_TEXT {
        return Err(Fault::new(
            0,
            format!("the expression is {} bytes long, at most {MAX_TEXT} are allowed", text.len()),
        ));
    }
    let program = LANGUAGE.compile(text).map_err(|errors| super::syntax::fault(text, errors))?;
    let places = Places { text, source: program.source_info() };
    Compiler { places, fields, paths, scope: Vec::new() }.check(program.expression(), 0)
}

struct Compiler<'c> {
    places: Places<'c>,
    fields: &'c Fields,
    paths: &'c mut Paths,
    /// Variables of the macros around, innermost last.
    scope: Vec<(String, Type)>,
}

fn varies(id: u64, expr: Expr, of: Type) -> Compiled {
    Compiled { expr: IdedExpr { id, expr }, of, constant: false }
}

impl Compiler<'_> {
    fn check(&mut self, node: &IdedExpr, depth: usize) -> Result<Compiled, Fault> {
        let (first, steps) = split(node);
        // A name with dots is as deep as it has steps.
        if depth + steps.len() > MAX_DEPTH {
            return Err(Fault::new(self.places.start(node), format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(chain) = chain(node).filter(|chain| !self.in_scope(chain.root)) {
            match chain.root {
                "state" => return self.state(node, chain),
                "event" => return self.event(node, chain),
                _ => {}
            }
        }
        if is_test(node) {
            return self.has(node, first, &steps, depth);
        }
        match &node.expr {
            Expr::Literal(literal) => {
                let of = self.literal(node, literal)?;
                Ok(Compiled { expr: node.clone(), of, constant: true })
            }
            Expr::Ident(name) => self.ident(node, name),
            Expr::Select(select) => self.select(node, select, depth),
            Expr::Call(call) => self.call(node, call, depth),
            Expr::List(list) => {
                let mut list = list.clone();
                let mut constant = true;
                for element in &mut list.elements {
                    let checked = self.check(element, depth + 1)?;
                    constant &= checked.constant;
                    *element = checked.expr;
                }
                Ok(Compiled { expr: IdedExpr { id: node.id, expr: Expr::List(list) }, of: Type::List, constant })
            }
            Expr::Map(map) => self.map(node, map, depth),
            Expr::Comprehension(comprehension) => self.comprehension(node, comprehension, depth),
            Expr::Struct(_) | Expr::Unspecified => {
                Err(Fault::new(self.places.start(node), "there are no struct types here")
                    .help("write a map: {'field': value}"))
            }
        }
    }

    fn map(&mut self, node: &IdedExpr, map: &MapExpr, depth: usize) -> Result<Compiled, Fault> {
        let mut map = map.clone();
        let mut constant = true;
        let mut known = Vec::new();
        for entry in &mut map.entries {
            let EntryExpr::MapEntry(entry) = &mut entry.expr else { continue };
            let key = self.check(&entry.key, depth + 1)?;
            let value = self.check(&entry.value, depth + 1)?;
            constant &= key.constant && value.constant;
            (entry.key, entry.value) = (key.expr, value.expr);
            known.extend(key.constant.then(|| entry.key.clone()));
        }
        self.tried(node, &constants::known_keys(node.id, known.into_iter()))?;
        Ok(Compiled { expr: IdedExpr { id: node.id, expr: Expr::Map(map) }, of: Type::Map, constant })
    }

    /// Refuses a constant that cannot be evaluated.
    fn tried(&self, node: &IdedExpr, constant: &IdedExpr) -> Result<(), Fault> {
        constants::tried(constant).map_err(|message| Fault::new(self.places.start(node), message))
    }

    fn literal(&self, node: &IdedExpr, literal: &LiteralValue) -> Result<Type, Fault> {
        Ok(match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Bytes(_) => Type::Bytes,
            LiteralValue::Double(_) => Type::Float,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::Null => Type::Null,
            LiteralValue::String(_) => Type::Text,
            LiteralValue::UInt(_) => {
                return Err(Fault::new(self.places.at(node), "there is one type of integer").help("leave out the `u`"));
            }
        })
    }

    fn ident(&self, node: &IdedExpr, name: &str) -> Result<Compiled, Fault> {
        if let Some((_, of)) = self.scope.iter().rev().find(|(variable, _)| variable == name) {
            return Ok(varies(node.id, node.expr.clone(), *of));
        }
        if name != "uint" && LANGUAGE.types().find_type(name).is_some() {
            return Ok(Compiled { expr: node.clone(), of: Type::Kind, constant: true });
        }
        let fault = Fault::new(self.places.at(node), format!("there is no variable `{name}`"));
        let field = self.fields.iter().find(|(field, _)| field == name);
        Err(match (field, nearest(name, ["state", "event"])) {
            (Some(_), _) => fault.help(format!("did you mean `state.{name}`?")),
            (None, Some(help)) => fault.help(help),
            (None, None) => fault.help(format!("did you mean `event.payload.{name}`?")),
        })
    }

    /// `state.field` and what follows it.
    fn state(&mut self, node: &IdedExpr, chain: Chain<'_>) -> Result<Compiled, Fault> {
        let known = || self.fields.iter().map(|(name, _)| name.as_str());
        let Some((name, id)) = chain.steps.first() else {
            return Err(Fault::new(self.places.at(node), "`state` alone is no value")
                .help("name one of its fields: `state.field`"));
        };
        let Some(number) = self.fields.iter().position(|(field, _)| field == name) else {
            let fault = Fault::new(self.places.step_at(*id), format!("`state` has no field `{name}`"));
            let list =
                || format!("`initial` has {}", known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "));
            return Err(fault.help(nearest(name, known()).unwrap_or_else(list)));
        };
        let of = Type::from(self.fields[number].1);
        let rest = &chain.steps[1..];
        if rest.is_empty() && chain.test {
            return Ok(varies(node.id, Expr::Literal(LiteralValue::Boolean(true.into())), Type::Bool));
        }
        let slot = Expr::Ident(Slot::State(number).name());
        let Some((_, next)) = rest.first() else { return Ok(varies(node.id, slot, of)) };
        if !of.may_be(Type::Map) {
            return Err(Fault::new(
                self.places.step_at(*next),
                format!("`state.{name}` is {}, which has no fields", of.a()),
            ));
        }
        let mut expr = IdedExpr { id: *id, expr: slot };
        if chain.test {
            return Ok(varies(node.id, has(expr, rest), Type::Bool));
        }
        for (field, id) in rest {
            let select = SelectExpr { operand: Box::new(expr), field: field.to_string(), test: false };
            expr = IdedExpr { id: *id, expr: Expr::Select(select) };
        }
        Ok(Compiled { expr, of: Type::Any, constant: false })
    }

    /// `event.payload…` and the fields of the envelope.
    fn event(&mut self, node: &IdedExpr, chain: Chain<'_>) -> Result<Compiled, Fault> {
        let Some((first, id)) = chain.steps.first() else {
            return Err(Fault::new(self.places.at(node), "`event` alone is no value")
                .help("name one of its fields: `event.payload.field`"));
        };
        if *first == "payload" {
            let names: Vec<String> = chain.steps[1..].iter().map(|(name, _)| name.to_string()).collect();
            let number = self.paths.slot(&names, !chain.test);
            let (slot, of) =
                if chain.test { (Slot::HasPayload(number), Type::Bool) } else { (Slot::Payload(number), Type::Any) };
            return Ok(varies(node.id, Expr::Ident(slot.name()), of));
        }
        let (name, id, used) = match (*first, chain.steps.get(1)) {
            ("metadata", Some((second, id))) => (format!("metadata.{}", snake_case(second)), *id, 2),
            ("metadata", None) => {
                let fault = Fault::new(self.places.step_at(*id), "`event.metadata` alone is no value");
                return Err(fault.help("it has `correlation_id`, `causation_id` and `user_id`"));
            }
            (first, _) => (first.to_owned(), *id, 1),
        };
        let Some(number) = META.iter().position(|(known, ..)| *known == name) else {
            let known = META.iter().map(|(known, ..)| *known).chain(["payload", "metadata"]);
            let fault = Fault::new(self.places.step_at(id), format!("`event` has no field `{name}`"));
            let help = nearest(&name, known).unwrap_or_else(|| format!("did you mean `event.payload.{name}`?"));
            return Err(fault.help(help));
        };
        if let Some((_, next)) = chain.steps.get(used) {
            return Err(Fault::new(self.places.step_at(*next), format!("`event.{name}` has no fields")));
        }
        let (slot, of) =
            if chain.test { (Slot::HasMeta(number), Type::Bool) } else { (Slot::Meta(number), META[number].2) };
        Ok(varies(node.id, Expr::Ident(slot.name()), of))
    }

    fn select(&mut self, node: &IdedExpr, select: &SelectExpr, depth: usize) -> Result<Compiled, Fault> {
        let operand = self.check(&select.operand, depth + 1)?;
        if !operand.of.may_be(Type::Map) {
            let fault = format!("{} has no field `{}`", operand.of.a(), select.field);
            return Err(Fault::new(self.places.step_at(node.id), fault));
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field: select.field.clone(), test: false };
        let expr = IdedExpr { id: node.id, expr: Expr::Select(select) };
        Ok(Compiled { expr, of: Type::Any, constant: operand.constant })
    }

    /// `has(first.step.step)` of anything that is not of the event or the row.
    fn has(&mut self, node: &IdedExpr, first: &IdedExpr, steps: &[Step<'_>], depth: usize) -> Result<Compiled, Fault> {
        let of = self.check(first, depth + 1)?;
        if let Some((name, id)) = steps.first().filter(|_| !of.of.may_be(Type::Map)) {
            let fault = format!("{} has no field `{name}`", of.of.a());
            return Err(Fault::new(self.places.step_at(*id), fault));
        }
        let expr = IdedExpr { id: node.id, expr: has(of.expr, steps) };
        Ok(Compiled { expr, of: Type::Bool, constant: of.constant })
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr, depth: usize) -> Result<Compiled, Fault> {
        let mut args = Vec::with_capacity(call.args.len());
        let mut types = Vec::with_capacity(call.args.len());
        let mut constant = true;
        for arg in &call.args {
            let checked = self.check(arg, depth + 1)?;
            constant &= checked.constant;
            types.push(checked.of);
            args.push(checked.expr);
        }
        let mut name = call.func_name.clone();
        let mut target = None;
        let mut on = None;
        match call.target.as_deref() {
            Some(IdedExpr { expr: Expr::Ident(space), .. }) if self.is_namespace(space) => {
                name = format!("{space}.{name}");
            }
            Some(receiver) => {
                let checked = self.check(receiver, depth + 1)?;
                constant &= checked.constant;
                on = Some(checked.of);
                target = Some(Box::new(checked.expr));
            }
            None => {}
        }
        let of = match (on, types.as_slice()) {
            (None, [condition, then, otherwise]) if name == operators::CONDITIONAL => {
                if !condition.may_be(Type::Bool) {
                    let message = format!("the condition is {}, not a bool", condition.a());
                    return Err(Fault::new(self.places.start(&call.args[0]), message));
                }
                if then == otherwise { *then } else { Type::Any }
            }
            (None, [left, right]) if let Some(of) = types::binary(&name, *left, *right) => {
                of.map_err(|message| Fault::new(self.places.at(node), message))?
            }
            (None, [operand]) if let Some(of) = types::unary(&name, *operand) => {
                of.map_err(|message| Fault::new(self.places.at(node), message))?
            }
            _ => functions::call(&name, on, &types).map_err(|(message, help)| Fault {
                at: self.places.name_at(node, &call.func_name),
                message,
                help,
            })?,
        };
        constants::pattern(&name, on.is_some(), &args)
            .map_err(|(pattern, message)| Fault::new(self.places.at(pattern), message))?;
        let expr = IdedExpr { id: node.id, expr: Expr::Call(CallExpr { func_name: name, target, args }) };
        if constant {
            self.tried(node, &expr)?;
        }
        Ok(Compiled { expr, of, constant })
    }

    fn comprehension(&mut self, node: &IdedExpr, c: &ComprehensionExpr, depth: usize) -> Result<Compiled, Fault> {
        let depth = depth + 1;
        let range = self.check(&c.iter_range, depth)?;
        if !range.of.may_be(Type::List) && !range.of.may_be(Type::Map) {
            let message = format!("{} cannot be iterated over", range.of.a());
            return Err(Fault::new(self.places.start(&c.iter_range), message));
        }
        for name in [Some(&c.iter_var), c.iter_var2.as_ref()].into_iter().flatten() {
            if matches!(name.as_str(), "state" | "event") {
                let fault = Fault::new(
                    self.places.at(node),
                    format!("the variable `{name}` would hide the `{name}` of the view"),
                );
                return Err(fault.help("give it another name"));
            }
        }
        let accu_init = self.check(&c.accu_init, depth)?;
        let before = self.scope.len();
        self.scope.push((c.accu_var.clone(), accu_init.of));
        self.scope.push((c.iter_var.clone(), Type::Any));
        self.scope.extend(c.iter_var2.iter().map(|name| (name.clone(), Type::Any)));
        let loop_cond = self.check(&c.loop_cond, depth)?;
        let loop_step = self.check(&c.loop_step, depth)?;
        let result = self.check(&c.result, depth)?;
        self.scope.truncate(before);
        let id = range.expr.id;
        let ordered = CallExpr { func_name: ORDERED.to_owned(), target: None, args: vec![range.expr] };
        let rewritten = ComprehensionExpr {
            iter_range: IdedExpr { id, expr: Expr::Call(ordered) },
            iter_var: c.iter_var.clone(),
            iter_var2: c.iter_var2.clone(),
            accu_var: c.accu_var.clone(),
            accu_init: accu_init.expr,
            loop_cond: loop_cond.expr,
            loop_step: loop_step.expr,
            result: result.expr,
        };
        Ok(varies(node.id, Expr::Comprehension(Box::new(rewritten)), result.of))
    }

    fn in_scope(&self, name: &str) -> bool {
        self.scope.iter().any(|(variable, _)| variable == name)
    }

    fn is_namespace(&self, name: &str) -> bool {
        let within = |full: &str| full.split_once('.').is_some_and(|(space, _)| space == name);
        !self.in_scope(name) && functions::FUNCTIONS.iter().any(|f| within(f.name))
    }
}

/// Asks for a path, which is given as one text.
fn has(of: IdedExpr, steps: &[Step<'_>]) -> Expr {
    let path = steps.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(PATH_GAP);
    let path = IdedExpr { id: of.id, expr: Expr::Literal(LiteralValue::String(path.into())) };
    Expr::Call(CallExpr { func_name: HAS.to_owned(), target: None, args: vec![of, path] })
}

fn snake_case(name: &str) -> &str {
    match name {
        "correlationId" => "correlation_id",
        "causationId" => "causation_id",
        "userId" => "user_id",
        other => other,
    }
}
