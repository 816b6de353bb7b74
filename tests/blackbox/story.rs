//! The story of README.md, "The views are wrong since Tuesday": every command as it stands there, and what each prints.

use crate::harness::*;
use crate::readme::{Checkout, Step, steps};

/// Nobody has said yes, and there is nobody to ask.
const NEEDS_YES: i32 = 9;

#[test]
fn the_views_are_wrong_since_tuesday_and_then_they_are_not() {
    let _alone = alone();
    let checkout = Checkout::new("scripts/tuesday.sh");
    let story = steps("The views are wrong since Tuesday");
    assert!(
        story.iter().filter(|step| !step.prints.is_empty()).count() >= 6,
        "the README shows no more what is printed"
    );
    let mut exports = "true".to_owned();
    let mut needed_a_yes = false;
    for Step { command, prints } in &story {
        let output = checkout.run(&format!("{exports}\n{command}"));
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        match output.status.code() {
            Some(0) => {}
            Some(NEEDS_YES) if command == "segno replay --from tuesday" => needed_a_yes = true,
            code => panic!("{command}: {code:?}\n{out}\n{err}"),
        }
        if let Some(line) = out.lines().find(|line| line.trim_start().starts_with("export ")) {
            exports = line.trim().to_owned();
        }
        // The lines of the README, in their order; there may be more between them.
        let mut printed = out.lines().map(plain);
        for line in prints.iter().map(|line| plain(line)).filter(|line| line != "…") {
            assert!(printed.any(|printed| printed == line), "{command} does not print {line:?} there:\n{out}\n{err}");
        }
    }
    assert!(needed_a_yes, "it did not wait for a yes");
    // What the README ends with is so, too: a rollback can be rolled back.
    for command in ["segno replay rollback", "segno get account_balance account-007"] {
        let output = checkout.run(&format!("{exports}\n{command}"));
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && (out.contains("done") || out.contains("908")), "{command}: {out}");
    }
    let stopped = checkout.run("scripts/tuesday.sh stop");
    assert!(stopped.status.success() && stopped.stdout.starts_with(b"stopped"), "{stopped:?}");
}

/// A line without what differs from week to week: times, and how wide a column is.
fn plain(line: &str) -> String {
    let time = |word: &str| word.len() > 19 && word.as_bytes()[4] == b'-' && word.ends_with('Z');
    let words = line.split_whitespace().map(|word| if time(word) { "TIME" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
