//! What the house asks of Rust files. Each rule is a function from a file to its findings.

use crate::source::{Kind, Source, Token};
use crate::{Finding, finding};

/// The layers from the bottom up: a module may import what its own row names, and what the rows it builds on name.
/// `lib.rs` and `main.rs` tie everything together and are free.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    // Module, layers it stands on with all that those stand on, and single modules beside them.
    ("moment", &[], &[]),
    ("position", &[], &["moment"]),
    ("fault", &[], &[]),
    ("telemetry", &[], &[]),
    ("record", &[], &["position"]),
    ("event", &[], &["position", "record"]),
    ("views", &["event"], &["moment"]),
    ("streams", &["views"], &["fault"]),
    ("state", &["views"], &["fault"]),
    ("actors", &["streams", "state"], &["telemetry"]),
    ("config", &["actors"], &[]),
    ("intake", &[], &["record", "position", "moment"]),
    ("api", &["config", "intake"], &[]),
    // The command line is given what an `App` declares, and an `App` runs the command line: one face, two files.
    ("cli", &["api"], &["app"]),
    ("app", &["cli"], &[]),
];

/// Whether `from` may import `to`.
fn may_import(from: &str, to: &str) -> bool {
    LAYERS.iter().filter(|(name, ..)| *name == from).any(|(_, below, beside)| {
        beside.contains(&to) || below.iter().any(|layer| *layer == to || may_import(layer, to))
    })
}

/// Where an external crate may be named: beginnings of paths.
pub const PLACES: &[(&str, &[&str])] = &[
    ("rdkafka", &["src/streams/kafka"]),
    ("rdkafka_sys", &["src/streams/kafka"]),
    ("rocksdb", &["src/state/", "src/streams/embedded"]),
    ("ractor", &["src/actors/"]),
    ("backoff", &["src/actors/retry"]),
    ("cel", &["src/views/"]),
    ("axum", &["src/api/"]),
    ("hyper", &["src/api/"]),
    ("hyper_util", &["src/api/"]),
    ("tower", &["src/api/"]),
    ("tower_http", &["src/api/"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/"]),
    ("indicatif", &["src/cli/"]),
    ("comfy_table", &["src/cli/"]),
    ("ureq", &["src/cli/"]),
    ("signal_hook", &["src/cli/leave"]),
];

const SRC_LINES: usize = 400;
const TEST_LINES: usize = 600;

pub fn arrows(file: &Source) -> Vec<Finding> {
    let module = file.module();
    let Some(from) = module.get(1).filter(|_| file.in_src()) else { return Vec::new() };
    let known = |module: &str| LAYERS.iter().any(|(name, ..)| *name == module);
    if !known(from) {
        return vec![finding(file, 1, format!("module `{from}` has no place in LAYERS (tests/tidy/rust_rules.rs)"))];
    }
    let mut found = Vec::new();
    for path in file.paths().iter().filter(|p| p.segments[0] == "crate") {
        let Some(to) = path.segments.get(1) else { continue };
        if to == from || may_import(from, to) {
            continue;
        }
        let why = if known(to) {
            format!("`{from}` must not import `{to}`")
        } else {
            format!("`crate::{to}` is not a module: name the module that defines it")
        };
        found.push(finding(file, path.line, why));
    }
    found.dedup();
    found
}

pub fn places(file: &Source) -> Vec<Finding> {
    let paths = file.paths();
    // `use crate::views::cel;` makes `cel::compile` ours.
    let ours = |name: &str| {
        paths.iter().any(|path| path.segments[0] == "crate" && path.segments.last().is_some_and(|last| last == name))
    };
    let mut found = Vec::new();
    for path in paths.iter().filter(|_| file.in_src()) {
        let name = &path.segments[0];
        if let Some((_, homes)) = PLACES.iter().find(|(krate, _)| krate == name && !ours(name))
            && !homes.iter().any(|home| file.path.starts_with(home))
        {
            found.push(finding(file, path.line, format!("`{name}` belongs in {} only", homes.join(", "))));
        }
    }
    found
}

/// Folds have no clock, no randomness, no input or output.
pub fn pure_views(file: &Source) -> Vec<Finding> {
    const IMPURE: &[&str] = &["fs", "net", "process", "env", "thread"];
    if !file.path.starts_with("src/views/") {
        return Vec::new();
    }
    let impure = |segments: &[String]| match segments[0].as_str() {
        "std" => {
            segments.get(1).is_some_and(|s| IMPURE.contains(&s.as_str()))
                || segments.iter().any(|s| s == "SystemTime" || s == "Instant")
        }
        "tokio" | "tokio_stream" | "rand" => true,
        _ => segments.len() > 1 && segments.last().is_some_and(|s| s == "now"),
    };
    let paths = file.paths();
    let found = paths.iter().filter(|p| impure(&p.segments));
    found.map(|p| finding(file, p.line, format!("views are pure: no `{}`", p.segments.join("::")))).collect()
}

pub fn length(file: &Source) -> Vec<Finding> {
    let limit = if file.in_src() { SRC_LINES } else { TEST_LINES };
    let lines = file.text.lines().count();
    if lines <= limit {
        return Vec::new();
    }
    vec![finding(file, lines, format!("{lines} lines, at most {limit}: one idea a file"))]
}

/// The code of a view is called behind one guard. The names of two of its methods are like no others.
pub fn guarded_views(file: &Source) -> Vec<Finding> {
    if !file.in_src() || file.path.starts_with("src/views/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for call in file.tokens.windows(3) {
        let [dot, name, open] = call else { continue };
        if dot.is(".") && (name.is("initial") || name.is("checkpoint")) && open.is("(") {
            let why = format!("`.{}(` may panic: call it through `views::guard`", name.text);
            found.push(finding(file, name.line, why));
        }
    }
    found
}

/// `unwrap` and `expect` stand in tests, or under a comment that begins with `// Proven:`.
pub fn proven(file: &Source) -> Vec<Finding> {
    if !file.in_src() {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let mut found = Vec::new();
    for call in file.tokens.windows(4) {
        let [dot, name, open, first] = call else { continue };
        let panics = name.is("unwrap") || (name.is("expect") && (first.kind == Kind::Text || first.is("&")));
        if dot.is(".") && panics && open.is("(") && !has_proof(&lines, name.line) {
            let why = format!("`.{}(` outside tests needs `// Proven: why` on the line above", name.text);
            found.push(finding(file, name.line, why));
        }
    }
    found
}

/// Looks at the comment above the statement that line `line` is part of.
fn has_proof(lines: &[&str], line: usize) -> bool {
    let mut at = line - 1;
    while at > 0 {
        at -= 1;
        let text = lines[at].trim();
        if text.starts_with("// Proven:") {
            return true;
        }
        if !text.starts_with("//") && text.ends_with([';', '{', '}', ',']) {
            return false;
        }
    }
    false
}

/// Nothing unfinished and nothing switched off.
pub fn finished(file: &Source) -> Vec<Finding> {
    let tokens = &file.all;
    let mut found = Vec::new();
    for pair in tokens.windows(2) {
        if pair[1].is("!") && ["todo", "unimplemented", "dbg"].iter().any(|name| pair[0].is(name)) {
            found.push(finding(file, pair[0].line, format!("`{}!` is not finished work", pair[0].text)));
        }
    }
    for three in tokens.windows(3) {
        if three[0].is("#") && three[1].is("[") && three[2].is("ignore") {
            found.push(finding(file, three[0].line, "a test that is switched off proves nothing".to_owned()));
        }
    }
    found
}

/// Words that say nothing about what a thing is.
pub fn names(file: &Source) -> Vec<Finding> {
    const EMPTY: &[&str] = &["manager", "handler", "util", "utility", "utilitie", "helper"];
    let hollow = |name: &str| words(name).iter().any(|w| EMPTY.contains(&w.strip_suffix('s').unwrap_or(w)));
    let mut found = Vec::new();
    if let Some(name) = file.path.split(['/', '.']).find(|name| hollow(name)) {
        found.push(finding(file, 1, format!("`{name}`: name what it is or does")));
    }
    for pair in file.all.windows(2) {
        let defines = ["struct", "enum", "trait", "type", "mod", "union"].iter().any(|word| pair[0].is(word));
        if defines && pair[1].kind == Kind::Word && hollow(&pair[1].text) {
            found.push(finding(file, pair[1].line, format!("`{}`: name what it is or does", pair[1].text)));
        }
    }
    found
}

/// `snake_case` and `CamelCase` as lower-case words; an acronym is one word.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (i, c) in chars.iter().enumerate() {
        let after_lower = i > 0 && !chars[i - 1].is_uppercase();
        let before_lower = chars.get(i + 1).is_some_and(|next| next.is_lowercase());
        if *c == '_' || (c.is_uppercase() && (after_lower || before_lower)) {
            words.push(String::new());
        }
        if *c != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// A file says what it is in `//!`, and each public item at the top level in `///`. Fields, variants and methods whose
/// names say it all may go without, which is why this is not rustc's `missing_docs`.
pub fn documented(file: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    if !file.text.starts_with("//!") && file.path != "src/main.rs" {
        found.push(finding(file, 1, "begin the file with `//!` and what it is".to_owned()));
    }
    if !file.in_src() {
        return found;
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let mut depth = 0usize;
    for (i, token) in file.tokens.iter().enumerate() {
        if token.kind == Kind::Sign {
            match token.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if depth > 0 || !token.is("pub") {
            continue;
        }
        if let Some(item) = public_item(&file.tokens[i + 1..])
            && !lines[..first_line(&file.tokens, i) - 1].last().is_some_and(|above| above.starts_with("///"))
        {
            found.push(finding(file, token.line, format!("`pub {item}` has no doc comment")));
        }
    }
    found
}

fn public_item(after: &[Token]) -> Option<String> {
    let mut words = after.iter().take_while(|t| t.kind != Kind::Sign).filter(|t| t.kind == Kind::Word);
    let item = words.find(|t| !["async", "unsafe", "extern"].iter().any(|w| t.is(w)))?;
    let items = ["struct", "enum", "trait", "fn", "const", "static", "type", "union"];
    let mut name = words.next()?.text.clone();
    if item.is("const") && name == "fn" {
        name = words.next()?.text.clone();
    }
    // A module's `Result` is its error with a name that everybody knows.
    (items.iter().any(|w| item.is(w)) && name != "Result").then(|| format!("{} {name}", item.text))
}

/// The line where the item at token `at` begins with its first attribute.
fn first_line(tokens: &[Token], at: usize) -> usize {
    let mut start = at;
    while start > 0 && tokens[start - 1].is("]") {
        let mut open = start - 1;
        let mut depth = 1;
        while depth > 0 && open > 0 {
            open -= 1;
            depth += usize::from(tokens[open].is("]"));
            depth -= usize::from(tokens[open].is("["));
        }
        if open == 0 || !tokens[open - 1].is("#") {
            break;
        }
        start = open - 1;
    }
    tokens[start].line
}

/// Output is for the command line; everything else logs.
pub fn printing(file: &Source) -> Vec<Finding> {
    const HOMES: &[&str] = &["src/cli/", "src/main.rs", "src/app.rs"];
    if !file.in_src() || HOMES.iter().any(|home| file.path.starts_with(home)) {
        return Vec::new();
    }
    let prints = |pair: &[Token]| {
        pair[1].is("!") && ["println", "print", "eprintln", "eprint"].iter().any(|name| pair[0].is(name))
    };
    let found = file.tokens.windows(2).filter(|pair| prints(pair));
    found.map(|pair| finding(file, pair[0].line, format!("`{}!` outside src/cli: use tracing", pair[0].text))).collect()
}

/// One place has the right to `unsafe`: the one that reads librdkafka's own batches.
pub fn safe(file: &Source) -> Vec<Finding> {
    if !file.in_src() || file.path.starts_with("src/streams/kafka") {
        return Vec::new();
    }
    let found = file.tokens.iter().filter(|t| t.is("unsafe"));
    found.map(|t| finding(file, t.line, "`unsafe` belongs in src/streams/kafka only".to_owned())).collect()
}
