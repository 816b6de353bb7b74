//! The rules, held against samples: each bad one must be found, on its line, and its good neighbour must not.

use crate::source::Source;
use crate::{Finding, Page, rust_rules, text_rules};

/// Lines of the findings.
fn lines(found: Vec<Finding>) -> Vec<usize> {
    found.iter().map(|f| f.line).collect()
}

fn rust(path: &str, text: &str, rule: fn(&Source) -> Vec<Finding>) -> Vec<usize> {
    lines(rule(&Source::new(path, text)))
}

fn page(path: &str, text: &str, rule: fn(&Page) -> Vec<Finding>) -> Vec<usize> {
    lines(rule(&Page { path: path.to_owned(), text: text.to_owned() }))
}

#[test]
fn arrows_see_every_way_to_write_an_import() {
    let bad = "use crate::state::Store;\n\
               use crate::{record::RecordBatch, actors::{self, Node}};\n\
               use super::state;\n\
               fn f() -> crate::config::Config { super::super::state::open() }\n\
               use crate::{\n    event,\n    cli::run,\n};\n\
               use crate::App;\n";
    assert_eq!(rust("src/streams/mod.rs", bad, rust_rules::arrows), [1, 2, 3, 4, 7, 9]);
    assert_eq!(rust("src/streams/kafka/batch.rs", "use super::super::super::state::Store;", rust_rules::arrows), [1]);
    assert_eq!(rust("src/actors/node.rs", "use crate::config::Config;", rust_rules::arrows), [1]);
    assert_eq!(rust("src/novel.rs", "", rust_rules::arrows), [1]);
}

#[test]
fn arrows_let_through_what_is_allowed() {
    let good = "use crate::position::Offset;\nuse super::{Log, Reader};\n\
                // use crate::state::Store;\n/* crate::actors::x */\n\
                const S: &str = \"crate::state::x\"; const R: &str = r#\"crate::state::\"x\"#;\n\
                fn f<'a>(c: &'a str) -> impl Sized + use<'a> { let _ = ('\"', '\\'', b'\"'); c }\n\
                mod inner { use super::super::Log; fn g() { self::h() } }\n\
                #[cfg(test)]\nmod tests { use crate::state::Store; }\n\
                #[cfg(test)]\nuse crate::actors::Node;\n";
    assert_eq!(rust("src/streams/kafka/batch.rs", good, rust_rules::arrows), [0usize; 0]);
    assert_eq!(rust("src/lib.rs", "use crate::anything::X;", rust_rules::arrows), [0usize; 0]);
}

#[test]
fn test_modules_in_files_are_known() {
    let file = Source::new("src/state/keys.rs", "#[cfg(test)]\nmod tests;\nmod real;");
    assert!(file.test_files.contains(&"src/state/keys/tests.rs".into()), "{:?}", file.test_files);
    assert!(!file.test_files.contains(&"src/state/keys/real.rs".into()));
}

#[test]
fn external_crates_are_seen_in_use_and_in_code() {
    let bad = "use rocksdb::DB;\nuse {std::fmt, ractor::Actor};\nfn f(m: rdkafka::Message) {}\n\
               fn g() { ::rocksdb::DB::open() }\n#[derive(clap::Parser)]\nstruct A;\nuse backoff as b;\n";
    assert_eq!(rust("src/config.rs", bad, rust_rules::places), [1, 2, 3, 4, 5, 7]);
    assert_eq!(rust("src/streams/kafka/reader.rs", "use rdkafka::Message;", rust_rules::places), [0usize; 0]);
    assert_eq!(rust("src/streams/embedded.rs", "use rocksdb::DB;", rust_rules::places), [0usize; 0]);
    let ours = "use crate::views::{View, cel};\nfn f() { cel::compile() }\n";
    assert_eq!(rust("src/cli/run.rs", ours, rust_rules::places), [0usize; 0]);
    let inner = "use crate::views::cel::Program; fn f() { self::rocksdb::x(); }";
    assert_eq!(rust("src/actors/node.rs", inner, rust_rules::places), [0usize; 0]);
}

#[test]
fn calls_past_the_guard_are_found() {
    let bad = "fn f() { definition.initial(); }\nfn g() { row\n.checkpoint()\n}\n";
    assert_eq!(rust("src/actors/shard.rs", bad, rust_rules::guarded_views), [1, 3]);
    assert_eq!(rust("src/views/guard.rs", bad, rust_rules::guarded_views), [0usize; 0]);
    let good = "fn f() { guard::initial(&definition); plan.initial; }\n";
    assert_eq!(rust("src/actors/shard.rs", good, rust_rules::guarded_views), [0usize; 0]);
}

#[test]
fn impure_views_are_found() {
    let bad = "use std::time::Instant;\nuse std::fs::File;\nfn f() { jiff::Timestamp::now(); }\nuse tokio::spawn;\n";
    assert_eq!(rust("src/views/cel.rs", bad, rust_rules::pure_views), [1, 2, 3, 4]);
    assert_eq!(rust("src/views/cel.rs", "use std::sync::Arc;", rust_rules::pure_views), [0usize; 0]);
    assert_eq!(rust("src/actors/node.rs", bad, rust_rules::pure_views), [0usize; 0]);
}

#[test]
fn long_files_are_found() {
    assert_eq!(rust("src/a.rs", &"\n".repeat(401), rust_rules::length), [401]);
    assert_eq!(rust("src/a.rs", &"\n".repeat(400), rust_rules::length), [0usize; 0]);
    assert_eq!(rust("tests/a.rs", &"\n".repeat(601), rust_rules::length), [601]);
}

#[test]
fn unproven_unwraps_are_found() {
    let bad = "fn f() {\n    a.unwrap();\n    // Because.\n    b.expect(\"b\");\n    c\n        .unwrap();\n}\n";
    assert_eq!(rust("src/a.rs", bad, rust_rules::proven), [2, 4, 6]);
    let good = "fn f() {\n    // Proven: it was pushed above,\n    // just now.\n    let x = a\n        .b()\n        .unwrap();\n\
                self.expect(Token::Comma)?;\n    d.unwrap_or(1);\n}\n\
                #[cfg(test)]\nmod tests {\n    #[test]\n    fn t() { a.unwrap(); }\n}\n";
    assert_eq!(rust("src/a.rs", good, rust_rules::proven), [0usize; 0]);
    let later = "fn f() {\n    // Proven: for this one.\n    a.unwrap();\n    b.unwrap();\n}\n";
    assert_eq!(rust("src/a.rs", later, rust_rules::proven), [4]);
}

#[test]
fn unfinished_work_is_found() {
    let bad = "fn f() { todo!() }\nfn g() { unimplemented!(\"x\") }\n#[test]\n#[ignore = \"slow\"]\nfn t() {}\n";
    assert_eq!(rust("tests/a.rs", bad, rust_rules::finished), [1, 2, 4]);
    assert_eq!(
        page("a.md", "fine\nnot TODO yet\n// FIXME: x\nXXX\nmktemp a.XXXXXX\n", text_rules::leftovers),
        [2, 3, 4]
    );
    assert_eq!(page("a.sh", "cd /root/x\ncat /home/y\ncd \"$HOME\"\n", text_rules::leftovers), [1, 2]);
}

#[test]
fn hollow_names_are_found() {
    let bad = "struct TopicManager;\nenum ErrorHandlers {}\nmod utils {}\ntype HTTPHelper = u8;\n";
    assert_eq!(rust("src/a.rs", bad, rust_rules::names), [1, 2, 3, 4]);
    let good = "struct Managed;\nuse rocksdb::WriteBufferManager;\nfn f(m: WriteBufferManager) {}\n// a Helper\n";
    assert_eq!(rust("src/a.rs", good, rust_rules::names), [0usize; 0]);
    assert_eq!(rust("src/string_utils.rs", "", rust_rules::names), [1]);
}

#[test]
fn undocumented_items_are_found() {
    let bad =
        "//! A file.\n\npub struct A;\n#[derive(Debug)]\npub enum B { C }\npub const fn d() {}\npub async fn e() {}\n";
    assert_eq!(rust("src/a.rs", bad, rust_rules::documented), [3, 5, 6, 7]);
    let good = "//! A file.\n\n/// One.\n#[derive(\n    Debug,\n    Clone,\n)]\n#[error(\n    \"words [in\"\n)]\npub struct A { pub b: u8 }\n\
                pub use x::Y;\npub mod z;\npub(crate) fn f() {}\npub type Result<T> = std::result::Result<T, E>;\n\
                impl A { pub fn b(&self) {} }\n";
    assert_eq!(rust("src/a.rs", good, rust_rules::documented), [0usize; 0]);
    assert_eq!(rust("tests/a.rs", "fn f() {}\n", rust_rules::documented), [1]);
}

#[test]
fn printing_and_unsafe_are_found() {
    let text = "fn f() {\n    println!(\"x\");\n    unsafe { g() }\n}\n";
    assert_eq!(rust("src/actors/node.rs", text, rust_rules::printing), [2]);
    assert_eq!(rust("src/actors/node.rs", text, rust_rules::safe), [3]);
    assert_eq!(rust("src/cli/get.rs", text, rust_rules::printing), [0usize; 0]);
    assert_eq!(rust("src/streams/kafka/batch.rs", text, rust_rules::safe), [0usize; 0]);
}

#[test]
fn titles_are_counted_outside_code() {
    let rule = text_rules::one_title;
    assert_eq!(page("a.md", "# One\n\n```sh\n# a comment\n```\n## Two\n", rule), [0usize; 0]);
    assert_eq!(page("a.md", "# One\n# Two\n", rule), [2]);
    assert_eq!(page("a.md", "## Two\n# One\n", rule), [2]);
    assert_eq!(page("a.md", "text\n", rule), [1]);
}

#[test]
fn unexplained_keys_are_found() {
    let text = "[a]\n# Explained above.\nx = 1\nx1 = \"# no comment\"\nx2 = 2\ny = 3\nz = 2 # explained here\n\n\
                # Not this one:\n\nw = [\n  1,\n]\n";
    assert_eq!(page("config.toml", text, text_rules::keys_explained), [6, 11]);
}
