//! A configuration that is wrong: the daemon refuses to start with exit code 78, says where and what, and has touched
//! nothing.

use crate::faces::{CONFIG, Place, exists};

#[track_caller]
fn refused(config: &str, parts: &[&str]) {
    let place = Place::new(config);
    let ran = place.run(&["run", "--set", "http.listen=127.0.0.1:0"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    for part in parts {
        assert!(ran.err.contains(part), "{part:?} is not in:\n{}", ran.err);
    }
    assert_eq!(ran.out, "");
    assert!(!exists(&place.path("data")), "a refused start made a data directory");
}

#[test]
fn malformed_toml_is_shown_with_its_line() {
    refused(&format!("[http\nlisten = 1\n{CONFIG}"), &["segno.toml:1:6:", "[http", "^"]);
}

#[test]
fn an_unknown_key_is_answered_with_the_one_that_was_meant() {
    refused(&format!("[htpp]\nlisten = \"127.0.0.1:0\"\n{CONFIG}"), &["segno.toml:1:", "htpp", "did you mean `http`"]);
    refused(
        &format!("[state]\nflush-intervall = \"1s\"\n{CONFIG}"),
        &["segno.toml:2:", "did you mean `flush-interval`"],
    );
}

#[test]
fn a_wrong_type_names_the_key_and_what_it_takes() {
    refused(&format!("[flow]\nbatch-records = \"many\"\n{CONFIG}"), &["segno.toml:2:", "batch-records", "\"many\""]);
    refused(&format!("[http]\nread-wait = 10\n{CONFIG}"), &["segno.toml:2:", "read-wait"]);
}

#[test]
fn an_expression_that_does_not_compile_is_shown_with_a_caret() {
    let broken = CONFIG.replace("state.balance + event.payload.amount", "state.balanse + event.payload.amount");
    refused(&broken, &["segno.toml:16:", "balanse", "^", "balance"]);
}

#[test]
fn what_is_in_force_is_shown_without_its_secrets() {
    let secrets =
        "[http]\ntoken = \"correct-horse\"\n[kafka.properties]\n\"sasl.password\" = \"battery-${env:STAPLE}\"\n";
    let place = Place::new(&format!("{secrets}\"ssl.key.pem\" = \"-----BEGIN\"\n{CONFIG}"));
    for args in [&["config", "print"][..], &["config", "print", "--json"], &["config", "check"]] {
        let output = place.command(args).env("STAPLE", "staple-itself").output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {said}");
        for secret in ["correct-horse", "staple-itself", "-----BEGIN"] {
            assert!(!said.contains(secret), "{secret} is in what {args:?} says: {said}");
        }
    }
    // The reference is no secret, and one that leads nowhere is named.
    let ran = place.run(&["config", "check"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.err.contains("STAPLE") && !ran.err.contains("correct-horse"), "{ran:?}");
}
