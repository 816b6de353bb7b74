//! From the text of an expression to something that can be evaluated: parsed, its names replaced by slots, its types
//! checked as far as they are known, its constants tried out.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators};

use super::datum::FieldType;
use super::evaluate::{evaluate, explain};
use super::frame::{META, Slot};
use super::functions::{self, LANGUAGE, ORDERED, ROOT};
use super::names::{Chain, chain};
use super::payload::Paths;
use super::spec::Fault;
use super::types::{self, Type, nearest};

/// Longer texts are refused, as are deeper expressions: both cost stack.
const MAX_TEXT: usize = 4096;
const MAX_DEPTH: usize = 200;

/// A row's fields in the order of their names.
pub(super) type Fields = [(String, FieldType)];

/// Compiles one expression; the payload's paths that it names go into `paths`.
pub(super) fn expression(text: &str, fields: &Fields, paths: &mut Paths) -> Result<(IdedExpr, Type), Fault> {
    if text.len() > MAX_TEXT {
        return Err(Fault::new(
            0,
            format!("the expression is {} bytes long, at most {MAX_TEXT} are allowed", text.len()),
        ));
    }
    let program = LANGUAGE.compile(text).map_err(|errors| super::syntax::fault(text, errors))?;
    let mut compiler = Compiler { text, source: program.source_info(), fields, paths, scope: Vec::new() };
    let checked = compiler.check(program.expression(), 0)?;
    Ok((checked.expr, checked.of))
}

struct Compiler<'c> {
    text: &'c str,
    source: &'c SourceInfo,
    fields: &'c Fields,
    paths: &'c mut Paths,
    /// Variables of the macros around, innermost last.
    scope: Vec<(String, Type)>,
}

struct Checked {
    expr: IdedExpr,
    of: Type,
    /// It names nothing that changes.
    constant: bool,
}

fn varies(id: u64, expr: Expr, of: Type) -> Checked {
    Checked { expr: IdedExpr { id, expr }, of, constant: false }
}

impl Compiler<'_> {
    fn check(&mut self, node: &IdedExpr, depth: usize) -> Result<Checked, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new(self.start(node), format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(chain) = chain(node).filter(|chain| !self.in_scope(chain.root)) {
            match chain.root {
                "state" => return self.state(node, chain),
                "event" => return self.event(node, chain),
                _ => {}
            }
        }
        match &node.expr {
            Expr::Literal(literal) => {
                let of = self.literal(node, literal)?;
                Ok(Checked { expr: node.clone(), of, constant: true })
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
                Ok(Checked { expr: IdedExpr { id: node.id, expr: Expr::List(list) }, of: Type::List, constant })
            }
            Expr::Map(map) => {
                use cel::common::ast::EntryExpr;
                let mut map = map.clone();
                let mut constant = true;
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else { continue };
                    for part in [&mut entry.key, &mut entry.value] {
                        let checked = self.check(part, depth + 1)?;
                        constant &= checked.constant;
                        *part = checked.expr;
                    }
                }
                Ok(Checked { expr: IdedExpr { id: node.id, expr: Expr::Map(map) }, of: Type::Map, constant })
            }
            Expr::Comprehension(comprehension) => self.comprehension(node, comprehension, depth),
            Expr::Struct(_) | Expr::Unspecified => {
                Err(Fault::new(self.start(node), "there are no struct types here")
                    .help("write a map: {'field': value}"))
            }
        }
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
                return Err(Fault::new(self.at(node), "there is one type of integer").help("leave out the `u`"));
            }
        })
    }

    fn ident(&self, node: &IdedExpr, name: &str) -> Result<Checked, Fault> {
        if let Some((_, of)) = self.scope.iter().rev().find(|(variable, _)| variable == name) {
            return Ok(varies(node.id, node.expr.clone(), *of));
        }
        if name != "uint" && LANGUAGE.types().find_type(name).is_some() {
            return Ok(Checked { expr: node.clone(), of: Type::Kind, constant: true });
        }
        let fault = Fault::new(self.at(node), format!("there is no variable `{name}`"));
        let field = self.fields.iter().find(|(field, _)| field == name);
        Err(match (field, nearest(name, ["state", "event"])) {
            (Some(_), _) => fault.help(format!("did you mean `state.{name}`?")),
            (None, Some(help)) => fault.help(help),
            (None, None) => fault.help(format!("did you mean `event.payload.{name}`?")),
        })
    }

    /// `state.field` and what follows it.
    fn state(&mut self, node: &IdedExpr, chain: Chain<'_>) -> Result<Checked, Fault> {
        let known = || self.fields.iter().map(|(name, _)| name.as_str());
        let Some((name, id)) = chain.steps.first() else {
            return Err(
                Fault::new(self.at(node), "`state` alone is no value").help("name one of its fields: `state.field`")
            );
        };
        let Some(number) = self.fields.iter().position(|(field, _)| field == name) else {
            let fault = Fault::new(self.step_at(*id), format!("`state` has no field `{name}`"));
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
            return Err(Fault::new(self.step_at(*next), format!("`state.{name}` is {}, which has no fields", of.a())));
        }
        let mut expr = IdedExpr { id: *id, expr: slot };
        for (index, (field, id)) in rest.iter().enumerate() {
            let test = chain.test && index + 1 == rest.len();
            let select = SelectExpr { operand: Box::new(expr), field: field.to_string(), test };
            expr = IdedExpr { id: *id, expr: Expr::Select(select) };
        }
        Ok(Checked { expr, of: if chain.test { Type::Bool } else { Type::Any }, constant: false })
    }

    /// `event.payload…` and the fields of the envelope.
    fn event(&mut self, node: &IdedExpr, chain: Chain<'_>) -> Result<Checked, Fault> {
        let Some((first, id)) = chain.steps.first() else {
            return Err(Fault::new(self.at(node), "`event` alone is no value")
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
                let fault = Fault::new(self.step_at(*id), "`event.metadata` alone is no value");
                return Err(fault.help("it has `correlation_id`, `causation_id` and `user_id`"));
            }
            (first, _) => (first.to_owned(), *id, 1),
        };
        let Some(number) = META.iter().position(|(known, ..)| *known == name) else {
            let known = META.iter().map(|(known, ..)| *known).chain(["payload", "metadata"]);
            let fault = Fault::new(self.step_at(id), format!("`event` has no field `{name}`"));
            let help = nearest(&name, known).unwrap_or_else(|| format!("did you mean `event.payload.{name}`?"));
            return Err(fault.help(help));
        };
        if let Some((_, next)) = chain.steps.get(used) {
            return Err(Fault::new(self.step_at(*next), format!("`event.{name}` has no fields")));
        }
        let (slot, of) =
            if chain.test { (Slot::HasMeta(number), Type::Bool) } else { (Slot::Meta(number), META[number].2) };
        Ok(varies(node.id, Expr::Ident(slot.name()), of))
    }

    fn select(&mut self, node: &IdedExpr, select: &SelectExpr, depth: usize) -> Result<Checked, Fault> {
        let operand = self.check(&select.operand, depth + 1)?;
        if !operand.of.may_be(Type::Map) {
            let fault = format!("{} has no field `{}`", operand.of.a(), select.field);
            return Err(Fault::new(self.step_at(node.id), fault));
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field: select.field.clone(), test: select.test };
        let of = if select.test { Type::Bool } else { Type::Any };
        let expr = IdedExpr { id: node.id, expr: Expr::Select(select) };
        Ok(Checked { expr, of, constant: operand.constant })
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr, depth: usize) -> Result<Checked, Fault> {
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
                    return Err(Fault::new(self.start(&call.args[0]), message));
                }
                if then == otherwise { *then } else { Type::Any }
            }
            (None, [left, right]) if let Some(of) = types::binary(&name, *left, *right) => {
                of.map_err(|message| Fault::new(self.at(node), message))?
            }
            (None, [operand]) if let Some(of) = types::unary(&name, *operand) => {
                of.map_err(|message| Fault::new(self.at(node), message))?
            }
            _ => functions::call(&name, on, &types).map_err(|(message, help)| Fault {
                at: self.name_at(node, &call.func_name),
                message,
                help,
            })?,
        };
        self.check_pattern(&name, on, &args)?;
        let expr = IdedExpr { id: node.id, expr: Expr::Call(CallExpr { func_name: name, target, args }) };
        if constant && let Err(error) = evaluate(&expr, &ROOT) {
            let message = format!("this can never be evaluated: {}", explain(&error, &Paths::default()));
            return Err(Fault::new(self.start(node), message));
        }
        Ok(Checked { expr, of, constant })
    }

    /// A pattern that is written out is tried now, even where the text to match is not known.
    fn check_pattern(&self, name: &str, on: Option<Type>, args: &[IdedExpr]) -> Result<(), Fault> {
        let pattern = if on.is_some() { args.first() } else { args.get(1) };
        let Some(pattern @ IdedExpr { expr: Expr::Literal(LiteralValue::String(_)), .. }) = pattern else {
            return Ok(());
        };
        if name != "matches" {
            return Ok(());
        }
        let text = IdedExpr { id: pattern.id, expr: Expr::Literal(LiteralValue::String("".into())) };
        let call = CallExpr { func_name: name.to_owned(), target: None, args: vec![text, pattern.clone()] };
        match evaluate(&IdedExpr { id: pattern.id, expr: Expr::Call(call) }, &ROOT) {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::new(self.at(pattern), explain(&error, &Paths::default()))),
        }
    }

    fn comprehension(&mut self, node: &IdedExpr, c: &ComprehensionExpr, depth: usize) -> Result<Checked, Fault> {
        let depth = depth + 1;
        let range = self.check(&c.iter_range, depth)?;
        if !range.of.may_be(Type::List) && !range.of.may_be(Type::Map) {
            let message = format!("{} cannot be iterated over", range.of.a());
            return Err(Fault::new(self.start(&c.iter_range), message));
        }
        for name in [Some(&c.iter_var), c.iter_var2.as_ref()].into_iter().flatten() {
            if matches!(name.as_str(), "state" | "event") {
                let fault =
                    Fault::new(self.at(node), format!("the variable `{name}` would hide the `{name}` of the view"));
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

    /// Where a node's own token is.
    fn at(&self, node: &IdedExpr) -> usize {
        self.source.offset_for(node.id).map_or(0, |(start, _)| start as usize)
    }

    /// Where a node's text begins: at the leftmost of its parts.
    fn start(&self, node: &IdedExpr) -> usize {
        let at = self.at(node);
        let inner = match &node.expr {
            Expr::Select(select) => Some(self.start(&select.operand)),
            Expr::Call(call) if call.target.is_none() && is_word(&call.func_name) => {
                Some(self.name_at(node, &call.func_name))
            }
            Expr::Call(call) => {
                call.target.iter().map(AsRef::as_ref).chain(&call.args).map(|part| self.start(part)).min()
            }
            Expr::Comprehension(c) => Some(self.start(&c.iter_range)),
            Expr::Struct(new) => Some(self.name_at(node, &new.type_name)),
            _ => None,
        };
        inner.map_or(at, |inner| inner.min(at))
    }

    /// Where a field's name is: its node points at the dot or the bracket before it.
    fn step_at(&self, id: u64) -> usize {
        let at = self.source.offset_for(id).map_or(0, |(start, _)| start as usize);
        let after = self.text.get(at..).and_then(|rest| rest.strip_prefix(['.', '[', '(']));
        match after {
            Some(rest) => self.text.len() - rest.trim_start().len(),
            None => at,
        }
    }

    /// Where a called function's name is: its node points at the parenthesis behind it.
    fn name_at(&self, node: &IdedExpr, name: &str) -> usize {
        let before = self.text.get(..self.at(node)).unwrap_or("").trim_end();
        let name = if name.contains('@') { before.rsplit(['.', ' ', '(']).next().unwrap_or("") } else { name };
        before.strip_suffix(name).map_or(before.len(), str::len)
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn snake_case(name: &str) -> &str {
    match name {
        "correlationId" => "correlation_id",
        "causationId" => "causation_id",
        "userId" => "user_id",
        other => other,
    }
}
