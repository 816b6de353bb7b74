//! The house rules as tests: who imports whom, how long a file is, what nobody may leave behind.
//!
//! Each rule is a function from one file to its findings; `tidy/samples.rs` feeds every one of them a bad sample.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/rust_rules.rs"]
mod rust_rules;
#[path = "tidy/samples.rs"]
mod samples;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text_rules.rs"]
mod text_rules;

use source::Source;

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

fn finding(file: &Source, line: usize, what: String) -> Finding {
    Finding { path: file.path.clone(), line, what }
}

/// A text file.
pub struct Page {
    path: String,
    text: String,
}

/// The project's own text files, by path. Walks named places, so that build output and data stay out.
fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "scripts", "docs", ".ci"] {
        walk(&root.join(folder), &mut files);
    }
    let entries = fs::read_dir(root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    files.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    files.sort();
    let mut pages = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        let kind = path.rsplit(['.', '/']).next().unwrap_or_default();
        let text = ["rs", "md", "toml", "sh", "py", "xml", "properties", "Makefile", "run"];
        if text.contains(&kind) {
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{path}: {e}"));
            pages.push(Page { path, text });
        }
    }
    pages
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let files: Vec<Source> = pages()
        .iter()
        .filter(|page| page.path.ends_with(".rs"))
        .map(|page| Source::new(&page.path, &page.text))
        .collect();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "no src/lib.rs: looked in the wrong place");
    files
}

/// Files of `src` that hold no test code of their own: a module declared under `#[cfg(test)]` is a test.
fn shipped() -> Vec<Source> {
    let files = sources();
    let tests: Vec<PathBuf> = files.iter().flat_map(|file| file.test_files.clone()).collect();
    files.into_iter().filter(|file| file.in_src() && !tests.iter().any(|t| t == Path::new(&file.path))).collect()
}

fn report(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.what)).collect();
    assert!(lines.is_empty(), "{} to tidy up:\n{}", lines.len(), lines.join("\n"));
}

fn check(files: &[Source], rule: fn(&Source) -> Vec<Finding>) {
    report(files.iter().flat_map(rule).collect());
}

/// The checker itself spells out the words that it looks for.
fn check_pages(rule: fn(&Page) -> Vec<Finding>) {
    report(pages().iter().filter(|page| !page.path.starts_with("tests/tidy")).flat_map(rule).collect());
}

#[test]
fn imports_follow_the_arrows() {
    check(&shipped(), rust_rules::arrows);
}

#[test]
fn external_crates_stay_in_their_places() {
    check(&shipped(), rust_rules::places);
}

#[test]
fn views_are_pure() {
    check(&shipped(), rust_rules::pure_views);
}

#[test]
fn the_code_of_a_view_is_called_behind_its_guard() {
    check(&shipped(), rust_rules::guarded_views);
}

#[test]
fn files_are_short() {
    check(&sources(), rust_rules::length);
}

#[test]
fn unwraps_are_proven() {
    check(&shipped(), rust_rules::proven);
}

#[test]
fn unsafe_stays_in_its_place() {
    check(&shipped(), rust_rules::safe);
}

#[test]
fn work_is_finished() {
    check(&sources(), rust_rules::finished);
    check_pages(text_rules::leftovers);
}

#[test]
fn names_say_something() {
    check(&sources(), rust_rules::names);
}

#[test]
fn public_items_are_documented() {
    check(&shipped(), rust_rules::documented);
}

#[test]
fn only_the_command_line_prints() {
    check(&shipped(), rust_rules::printing);
}

#[test]
fn markdown_has_one_title() {
    check_pages(text_rules::one_title);
}

#[test]
fn every_configuration_key_is_explained() {
    let config = pages().into_iter().find(|page| page.path == "config.toml").expect("config.toml at the root");
    report(text_rules::keys_explained(&config));
}
