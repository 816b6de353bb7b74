//! The configuration: one commented `config.toml` that is the default set, and what users lay over it.
//!
//! [`load`] reads the layers (defaults, file, environment, flags), joins them and gives every key its type. It reports
//! everything that is wrong, each with file, line, column and the line itself, or nothing. See `docs/config.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod memory;
mod print;
mod problem;
pub mod quantity;
mod read;
mod replay;
mod schema;
mod secret;
mod topics;
mod tree;
mod views;

pub use print::Printed;
pub use problem::{Problem, Problems};
pub use replay::{AuditSection, ReplaySection, SnapshotsSection};
pub use schema::{
    Compression, Config, Durability, EmbeddedSection, FlowSection, Fsync, HttpSection, KafkaSection, LogFormat,
    LogKind, LogSection, MemorySection, NodeSection, RetrySection, StateSection,
};
pub use secret::Secret;
pub use topics::{Timestamps, Topic, is_topic_name};

use read::{Context, Section};
use tree::{Node, Source, SourceKind, Value};

/// The default set, as text.
pub const DEFAULT: &str = include_str!("../../config.toml");

/// An example that runs, as text.
pub const EXAMPLE: &str = include_str!("../../examples/bank.toml");

/// The prefix of environment variables that set a key.
const PREFIX: &str = "SEGNO__";

/// What a configuration is made of, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; it must exist.
    pub file: Option<PathBuf>,
    /// The environment. Only `SEGNO__…` sets keys; all of it can be referred to by `${env:X}`.
    pub env: Vec<(String, String)>,
    /// Flags, in their order; the last one wins.
    pub flags: Vec<Setting>,
}

/// One key set by a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// How the user wrote it, for messages: `--data-dir`.
    pub flag: String,
    /// `["node", "data-dir"]`.
    pub path: Vec<String>,
    pub value: String,
}

impl Sources {
    /// The process's own environment; variables that are not UTF-8 are left out.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Setting>) -> Self {
        let env =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Sources { file, env: env.collect(), flags }
    }

    fn var(&self, name: &str) -> Option<String> {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    /// The user's file: the one that was named, else the first of the usual ones that exists.
    fn user_file(&self) -> Option<PathBuf> {
        if self.file.is_some() {
            return self.file.clone();
        }
        let home = || self.var("HOME").map(|home| Path::new(&home).join(".config"));
        let user = self.var("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from).or_else(home);
        let usual = [Some(PathBuf::from("segno.toml")), user.map(|dir| dir.join("segno").join("config.toml"))];
        usual.into_iter().flatten().find(|path| path.is_file())
    }
}

/// A configuration, and the tree it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The user's file, if there is one.
    pub file: Option<PathBuf>,
    tree: Node,
}

impl Loaded {
    /// What is in force, as TOML, without a secret.
    pub fn print(&self) -> Printed<'_> {
        Printed::of(&self.tree)
    }
}

/// Reads all layers.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let defaults =
        Source { name: "config.toml (built in)".to_owned(), text: DEFAULT.to_owned(), kind: SourceKind::Default };
    let mut tree = tree::parse(Arc::new(defaults)).map_err(Problems)?;
    let file = sources.user_file();
    if let Some(path) = &file {
        tree::overlay(&mut tree, read_file(path)?);
    }
    let mut problems = Vec::new();
    let mut variables: Vec<_> = sources.env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        let source =
            Source { name: format!("environment variable {name}"), text: value.clone(), kind: SourceKind::Single };
        match variable_path(name) {
            Ok(path) => set(&mut tree, &path, source, &mut problems),
            Err(reason) => problems.push(Problem::general(format!("environment variable {name}: {reason}"))),
        }
    }
    for setting in &sources.flags {
        let source = Source { name: setting.flag.clone(), text: setting.value.clone(), kind: SourceKind::Single };
        set(&mut tree, &setting.path, source, &mut problems);
    }
    let env = |name: &str| sources.var(name);
    let context = Context { problems: problems.into(), env: &env };
    let config = schema::read(Section::of("", &tree, &context));
    match context.problems.into_inner() {
        problems if problems.is_empty() => Ok(Loaded { config, file, tree }),
        mut problems => {
            let place = |problem: &Problem| {
                problem
                    .at
                    .as_ref()
                    .map(|at| (at.source.kind == SourceKind::Single, at.source.name.clone(), at.span.start))
            };
            problems.sort_by_key(place);
            Err(Problems(problems))
        }
    }
}

fn read_file(path: &Path) -> Result<Node, Problems> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => tree::parse(Arc::new(Source { name, text, kind: SourceKind::File })).map_err(Problems),
        Err(error) => {
            let problem = Problem::general(format!("cannot read the configuration {name}: {error}"));
            Err(Problems::one(problem.next("check the path given with --config")))
        }
    }
}

/// `SEGNO__NODE__DATA_DIR` is `node.data-dir`; librdkafka's properties have dots: `SEGNO__KAFKA__PROPERTIES__SASL_USERNAME`.
fn variable_path(name: &str) -> Result<Vec<String>, &'static str> {
    let parts: Vec<String> = name[PREFIX.len()..].split("__").map(|part| part.to_ascii_lowercase()).collect();
    if parts.iter().any(String::is_empty) {
        return Err("expected SEGNO__SECTION__KEY, such as SEGNO__NODE__DATA_DIR");
    }
    match parts.as_slice() {
        [topics, ..] if topics == "topics" => Err("topics are declared in the file only; name one with --config"),
        [kafka, properties, name] if kafka == "kafka" && properties == "properties" => {
            Ok(vec![kafka.clone(), properties.clone(), name.replace('_', ".")])
        }
        [_, _] => Ok(parts.iter().map(|part| part.replace('_', "-")).collect()),
        _ => Err("expected SEGNO__SECTION__KEY, such as SEGNO__NODE__DATA_DIR"),
    }
}

/// Lays one value over the tree. What is not a table on the way to it is not replaced, but reported.
fn set(tree: &mut Node, path: &[String], source: Source, problems: &mut Vec<Problem>) {
    let mut node: &Node = tree;
    for key in &path[..path.len().saturating_sub(1)] {
        match &node.value {
            Value::Table(table) => match table.get(key) {
                Some(entry) => node = &entry.node,
                None => break,
            },
            _ => break,
        }
    }
    let is_topics = path.first().is_some_and(|section| section == "topics");
    if matches!(node.value, Value::Table(_)) && !is_topics && path.len() > 1 {
        tree::overlay(tree, tree::single(path, source));
    } else {
        let message = format!("{} cannot set `{}`", source.name, path.join("."));
        problems.push(Problem::general(message).next("name a key of a section, such as node.data-dir"));
    }
}

/// Reads `section.key=value`, as `--set` takes it. The property's name in `kafka.properties.NAME` keeps its dots.
pub fn parse_setting(text: &str) -> Result<Setting, String> {
    let (path, value) = text.split_once('=').ok_or("expected section.key=value")?;
    let path: Vec<String> = match path.trim().strip_prefix("kafka.properties.") {
        Some(property) => vec!["kafka".to_owned(), "properties".to_owned(), property.to_owned()],
        None => path.trim().split('.').map(str::to_owned).collect(),
    };
    if path.len() < 2 || path.iter().any(String::is_empty) {
        return Err("expected section.key=value, such as node.data-dir=/var/lib/segno".to_owned());
    }
    Ok(Setting { flag: format!("--set {}", path.join(".")), path, value: value.to_owned() })
}
