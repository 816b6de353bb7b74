//! The first minute, as README.md tells it: `scripts/demo.sh` in a directory of its own, then every command of the tour
//! against the daemon that it leaves running.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::*;

/// A checkout in miniature. The daemon of the script is stopped when it goes.
pub struct Checkout {
    dir: tempfile::TempDir,
    script: &'static str,
    pub address: String,
}

impl Checkout {
    pub fn new(script: &'static str) -> Checkout {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["scripts", "examples"] {
            let copied = Command::new("cp").arg("-r").arg(repository(folder)).arg(dir.path()).status().unwrap();
            assert!(copied.success());
        }
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        Checkout { dir, script, address }
    }

    /// Runs a line of shell, with the binary under test in the path.
    pub fn run(&self, line: &str) -> Output {
        let binary = Path::new(env!("CARGO_BIN_EXE_segno"));
        let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(self.dir.path()).env("PATH", &path);
        command.env("SEGNO__HTTP__LISTEN", &self.address).env("SEGNO_BIN", binary).env_remove("KAFKA");
        command.env("SEGNO_DEMO_EVENTS", "20000").env("SEGNO_DEMO_ACCOUNTS", "500").output().unwrap()
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = Command::new("bash").args([self.script, "stop"]).current_dir(self.dir.path()).output();
    }
}

/// A command of the README, and what it says that the command prints.
pub struct Step {
    pub command: String,
    pub prints: Vec<String>,
}

/// The shell commands of a section of the README, in order; a command that goes on after a pipe is one. A block of text
/// is what the last command before it prints.
pub fn steps(section: &str) -> Vec<Step> {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let start = readme.find(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("README.md has no {section:?}"));
    let text = &readme[start + 4..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let mut found: Vec<Step> = Vec::new();
    let (mut block, mut goes_on) = ("", false);
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            block = kind;
        } else if ["sh", "console"].contains(&block) && !line.trim().is_empty() {
            match found.last_mut().filter(|_| goes_on) {
                Some(step) => step.command = format!("{} {}", step.command, line.trim()),
                None => found.push(Step { command: line.to_owned(), prints: Vec::new() }),
            }
            goes_on = line.trim_end().ends_with(['|', '\\']);
        } else if block == "text" && !line.trim().is_empty() {
            found.last_mut().expect("a command before the text").prints.push(line.to_owned());
        }
    }
    found
}

fn commands(section: &str) -> Vec<String> {
    steps(section).into_iter().map(|step| step.command).collect()
}

#[test]
fn the_demo_and_the_tour_work_as_they_are_written() {
    let _alone = alone();
    let checkout = Checkout::new("scripts/demo.sh");
    let run = |line: &str| checkout.run(line);
    let say = |output: &Output| {
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let demo = run("scripts/demo.sh start");
    assert!(demo.status.success(), "{}", say(&demo));
    let told = String::from_utf8(demo.stdout).unwrap();
    for part in ["bank.accounts", "account-0000000", "Try:", "alias segno="] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    // What the demo says a second shell has to set.
    let exports = told.lines().find_map(|line| line.trim().strip_prefix("export ")).expect("an export line");

    let tour = commands("A tour");
    assert!(tour.len() >= 6, "{tour:#?}");
    let mut last = String::new();
    for command in &tour {
        assert!(!command.contains("TOKEN") || last.starts_with("bank.accounts@"), "no token before {command}: {last}");
        let command = command.replace("TOKEN", &last).replace("127.0.0.1:7878", &checkout.address);
        let output = run(&format!("export {exports}\n{command}"));
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {}", say(&output));
        assert!(say(&output).contains("account"), "{command}: {}", say(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        last = text.trim().lines().last().unwrap().to_owned();
    }
    // What the demo itself offers to try.
    let offered = told.split("export ").last().unwrap().split_once('\n').unwrap().1;
    let offered = &offered[..offered.find("\n\nkill").expect("the end of what is offered")];
    let output = run(&format!("export {exports}\n{offered}"));
    assert!(output.status.success(), "{offered}: {}", say(&output));

    let stopped = run("scripts/demo.sh stop");
    assert!(stopped.status.success() && say(&stopped).contains("stopped"), "{}", say(&stopped));
}
