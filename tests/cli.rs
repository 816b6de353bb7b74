//! The command line of the real binary: answers, exit codes, and the life of the daemon.

mod faces;

use faces::{CONFIG, Place, exists};
use serde_json::json;

fn events(from: u32, to: u32) -> String {
    (from..to)
        .map(|i| {
            format!("{{\"event_type\":\"Deposited\",\"id\":\"k{}\",\"at\":{i},\"payload\":{{\"amount\":1}}}}\n", i % 10)
        })
        .collect()
}

const APPEND: [&str; 8] = ["append", "bank.accounts", "-", "--key", "id", "--timestamp", "at", "--json"];

#[test]
fn append_get_list_and_status_agree_with_and_without_a_daemon() {
    let place = Place::new(CONFIG);
    // Before there was a daemon: the log is written directly.
    let first = place.run_with(&APPEND, &events(0, 2500)).ok().json();
    assert_eq!((&first["records"], &first["skipped"]), (&json!(2500), &json!(0)));
    assert_eq!(place.run(&["list", "account"]).code, 3, "nothing is there to read yet");

    let mut daemon = place.daemon(&[]);
    let second = place.run_with(&APPEND, &events(2500, 5000)).ok().json();
    let token = second["token"].as_str().unwrap();
    let online = place.run(&["get", "account", "k3", "--at-least", token, "--json"]).ok().json();
    assert_eq!(online["value"], json!({ "owner": "", "balance": 500 }));
    assert_eq!(online["timestamp"], 4993);
    let rows = place.run(&["list", "account", "--all"]).ok();
    assert_eq!(rows.out.lines().count(), 10);
    let status = place.run(&["status", "--json"]).ok().json();
    assert_eq!((&status["state"], &status["log"]), (&json!("ready"), &json!("embedded")));
    let books = &status["topics"][0]["views"][0]["books"];
    assert_eq!((&books["consumed"], &books["applied"]), (&json!(5000), &json!(5000)));
    let table = place.run(&["status"]).ok().out;
    for word in ["applied", "durable", "log end", "lag s", "resident", "batch", "waiting", "parked", "dead", "total"] {
        assert!(table.contains(word), "{word} is not in {table}");
    }

    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
    assert!(!exists(&place.path("data/http~")));
    let offline = place.run(&["get", "account", "k3", "--json"]).ok().json();
    assert_eq!(offline, online);
    assert_eq!(place.run(&["list", "account", "--all"]).ok().out, rows.out);
    let status = place.run(&["status", "--json"]).ok().json();
    assert_eq!(status["state"], "offline");
    for partition in status["topics"][0]["partitions"].as_array().unwrap() {
        assert_eq!(partition["applied"], partition["durable"]);
        assert_eq!(partition["lag_records"], 0);
    }
}

#[test]
fn a_bad_line_stops_the_append_and_says_how_far_it_came() {
    let place = Place::new(CONFIG);
    let mut input = events(0, 3);
    input.push_str("{\"event_type\":\"Deposited\"}\nnot json\n");
    input.push_str(&events(3, 5));
    let stopped = place.run_with(&APPEND, &input);
    assert_eq!(stopped.code, 1);
    for part in ["-:4:", "no field `id`", "3 records had gone in", "--skip-bad"] {
        assert!(stopped.err.contains(part), "{part}: {stopped:?}");
    }
    let mut args = APPEND.to_vec();
    args.push("--skip-bad");
    let skipped = place.run_with(&args, &input).ok();
    assert_eq!((&skipped.json()["records"], &skipped.json()["skipped"]), (&json!(5), &json!(2)));
    assert!(skipped.err.contains("-:4:") && skipped.err.contains("-:5:"), "{skipped:?}");
    let missing = place.run_with(&["append", "nope", "--key", "id"], &events(0, 1));
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.err.contains("bank.accounts"), "{missing:?}");
}

/// Lines of which the fourth is a record that the log does not take.
fn lines_with(bad: &str) -> String {
    let good = |n: u32| format!("{{\"key\":\"k{n}\",\"value\":{{\"event_type\":\"Deposited\"}}}}\n");
    (1..4).map(good).chain([format!("{bad}\n")]).chain((5..7).map(good)).collect()
}

#[test]
fn a_record_that_the_log_does_not_take_is_like_a_bad_line() {
    let place = Place::new(CONFIG);
    let large = format!("{{\"key\":\"x\",\"value\":\"{}\"}}", "x".repeat(1_500_000));
    let astray = "{\"key\":\"x\",\"value\":1,\"partition\":9}";
    let stops = |told: &str, bad: &str| {
        let stopped = place.run_with(&["append", "bank.accounts"], &lines_with(bad));
        for part in ["-:4: ", told, "3 records had gone in before (token bank.accounts@"] {
            assert!(stopped.code != 0 && stopped.err.contains(part), "{part}: {stopped:?}");
        }
    };
    stops("too large", &large);
    stops("9 does not exist", astray);
    let daemon = place.daemon(&[]);
    stops("too large", &large);
    stops("9 does not exist", astray);
    let status = daemon.get("/v1/status");
    let partitions = status.body["topics"][0]["partitions"].as_array().unwrap().clone();
    assert_eq!(partitions.iter().map(|partition| partition["log_end"].as_u64().unwrap()).sum::<u64>(), 4 * 3);
}

#[test]
fn batches_fit_into_what_the_daemon_takes_as_one_body() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&["--set", "http.body-limit=1MiB"]);
    let append =
        |input: &str| place.run_with(&["append", "bank.accounts", "--set", "http.body-limit=1MiB", "--json"], input);
    // Headers count, and so does what JSON makes of control characters.
    let header = "h".repeat(12_000);
    let headers: String = (0..300)
        .map(|n| {
            format!("{{\"key\":\"k{n}\",\"value\":{{\"event_type\":\"Opened\"}},\"headers\":{{\"h\":\"{header}\"}}}}\n")
        })
        .collect();
    assert_eq!(append(&headers).ok().json()["records"], 300);
    let control = "\\u0001".repeat(15_000);
    let keys: String = (0..50).map(|n| format!("{{\"key\":\"{n}{control}\",\"value\":null}}\n")).collect();
    assert_eq!(append(&keys).ok().json()["records"], 50);
    // One that does not fit alone is named, after those before it.
    let large = format!("{{\"key\":\"x\",\"value\":\"{}\"}}", "x".repeat(1_100_000));
    let refused = append(&lines_with(&large));
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in ["-:4: ", "http.body-limit", "3 records had gone in"] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    drop(daemon);
}

#[test]
fn an_append_that_gets_no_answer_says_that_records_may_be_in() {
    let place = Place::new(CONFIG);
    let mut daemon = place.daemon(&[]);
    // Stopped, it takes requests in and answers none.
    daemon.signal("STOP");
    let args = ["append", "bank.accounts", "--set", "http.read-wait=1ms"];
    let mut child = place.command(&args);
    let input = place.path("lines");
    std::fs::write(&input, lines_with("")).unwrap();
    child.stdin(std::fs::File::open(input).unwrap()).stderr(std::process::Stdio::piped());
    let child = child.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    daemon.signal("KILL");
    daemon.ended();
    let ran = faces::Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 5, "{ran:?}");
    for part in ["nothing is known to have gone in", "lines 1 to 3, 5 to 6 may be in", "before you send them again"] {
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn a_token_is_sent_to_a_daemon_that_lives_and_to_nobody_else() {
    let place = Place::new(CONFIG);
    let token = ["--set", "http.token=hunter2secret"];
    let mut daemon = place.daemon(&token);
    daemon.signal("KILL");
    daemon.ended();
    // Somebody else listens where the daemon did, and another command has the log.
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let address = stranger.local_addr().unwrap();
    std::fs::write(place.path("data/http~"), format!("{address}\n")).unwrap();
    let held: Vec<_> = ["data/LOCK", "data/log/lock"].map(|name| std::fs::File::open(place.path(name)).unwrap()).into();
    held.iter().for_each(|file| file.lock().unwrap());
    let listen = format!("http.listen={address}");
    for args in [&["status"][..], &["replay", "list"], &["append", "bank.accounts"]] {
        let mut all = args.to_vec();
        all.extend(token);
        all.extend(["--set", &listen]);
        let ran = place.run_with(&all, &events(0, 1));
        assert_eq!(ran.code, 5, "{ran:?}");
        assert!(ran.err.contains("does not say where it answers"), "{ran:?}");
    }
    assert!(stranger.accept().is_err(), "a command has called a stranger");
}

#[test]
fn exit_codes_are_as_documented() {
    let place = Place::new(CONFIG);
    assert_eq!(place.run(&["--help"]).code, 0);
    assert_eq!(place.run(&["nonsense"]).code, 2);
    assert_eq!(place.run(&["get", "account", "a", "--at-least", "nonsense"]).code, 2);
    assert_eq!(place.run(&["config", "check", "--set", "http.lisen=x"]).code, 78);
    assert_eq!(place.run(&["config", "check", "--config", "no-such-file"]).code, 78);
    let daemon = place.daemon(&[]);
    assert_eq!(place.run(&["get", "account", "a"]).code, 3);
    assert_eq!(place.run(&["get", "nope", "a"]).code, 3);
    assert_eq!(place.run(&["get", "account", "a", "--at-least", "bank.accounts@0:9", "--wait", "50ms"]).code, 4);
    assert_eq!(place.run(&["list", "account", "--cursor", "x"]).code, 2);
    let second = place.run(&["run", "--set", "http.listen=127.0.0.1:0"]);
    assert_eq!(second.code, 6, "{second:?}");
    assert!(second.err.contains(&daemon.child.id().to_string()), "{second:?}");
    // The directory is taken and nobody answers: somebody else's file says where.
    std::fs::write(place.path("data/http~"), "127.0.0.1:1\n").unwrap();
    assert_eq!(place.run(&["status"]).code, 5);
    assert_eq!(place.run_with(&APPEND, &events(0, 1)).code, 5);
}

#[test]
fn run_without_a_topic_or_a_view_says_what_to_do() {
    let place = Place::new("");
    let none = place.run(&["run"]);
    assert_eq!(none.code, 78, "{none:?}");
    assert!(none.err.contains("segno config example"), "{none:?}");
    let place = Place::new("[[topics]]\nname = \"t\"\n");
    let none = place.run(&["run"]);
    assert_eq!(none.code, 78, "{none:?}");
    assert!(none.err.contains("topic `t` has no view"), "{none:?}");
    // The example is a configuration that runs.
    let example = place.run(&["config", "example"]).ok().out;
    std::fs::write(place.path("segno.toml"), example).unwrap();
    let mut daemon = place.daemon(&[]);
    daemon.signal("INT");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
}

#[test]
fn an_address_in_use_is_named() {
    let place = Place::new(CONFIG);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = place.run(&["run", "--set", &format!("http.listen={address}")]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains(&address.to_string()) && refused.err.contains("http.listen"), "{refused:?}");
}

#[test]
fn a_closed_output_ends_a_list_in_peace() {
    let place = Place::new(CONFIG);
    place.run_with(&APPEND, &events(0, 10)).ok();
    let mut daemon = place.daemon(&[]);
    daemon.until("all is applied", |daemon| {
        daemon.get("/v1/views/account").body["rows"].as_array().is_some_and(|rows| rows.len() == 10)
    });
    let mut child = place.command(&["list", "account", "--all"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn completions_are_printed_for_every_shell() {
    let place = Place::new("");
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).ok().out.contains("segno"), "{shell}");
    }
}

#[test]
fn an_operator_asks_the_daemon_or_else_the_store_and_is_told_which() {
    let place = Place::new(CONFIG);
    let nothing = place.run(&["replay", "list"]);
    assert_eq!(nothing.code, 3, "{nothing:?}");
    assert!(nothing.err.contains("segno run") && !exists(&place.path("data")), "{nothing:?}");

    let mut daemon = place.daemon(&[]);
    for (args, list) in [(["replay", "list", "--json"], "replays"), (["snapshot", "list", "--json"], "snapshots")] {
        let asked = place.run(&args).ok();
        assert_eq!(asked.json(), json!({ list: [] }));
        assert!(asked.err.contains("asking the daemon at http://127.0.0.1:"), "{asked:?}");
    }
    assert_eq!(place.run(&["replay", "status"]).code, 3);
    assert_eq!(place.run(&["replay", "watch", "9"]).code, 3);
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());

    let here = place.run(&["replay", "--json", "list"]).ok();
    assert_eq!(here.json(), json!({ "replays": [] }));
    assert!(here.err.contains("no daemon runs, so this command opens"), "{here:?}");
    assert!(place.run(&["replay", "list"]).ok().out.contains("no job yet"));
    let missing = place.run(&["replay", "cancel", "9"]);
    assert!(matches!(missing.code, 3 | 10), "{missing:?}");
    assert_eq!(place.run(&["snapshot", "delete", "9"]).code, 3);
    assert_eq!(place.run(&["explain", "nope", "a"]).code, 3);
    // A job of this process would end with it.
    let detached = place.run(&["replay", "--from", "-PT2H", "--detach"]);
    assert_eq!(detached.code, 2, "{detached:?}");
    assert!(detached.err.contains("segno run"), "{detached:?}");
    // What was opened here was closed in good order: the next one has it.
    place.daemon(&[]);
}

#[test]
fn wrong_usage_of_a_replay_is_told_before_anybody_is_asked() {
    let place = Place::new(CONFIG);
    for args in [
        &["replay"][..],
        &["replay", "--from"],
        &["replay", "--from", "x", "--base", "newest"],
        &["replay", "--from", "x", "--max-changed", "150%"],
        &["replay", "--from", "x", "--plan", "--detach"],
        &["replay", "--from", "x", "list"],
        &["replay", "status", "first"],
        &["snapshot"],
        &["snapshot", "verify"],
        &["diff", "account", "--from", "x"],
        &["explain", "account"],
        &["get", "account", "a", "--at", "x", "--at-least", "bank.accounts@0:1"],
        &["get", "account", "a", "--at", "x", "--job"],
    ] {
        let ran = place.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
    }
    // Help says what each reads and costs.
    for (args, words) in [
        (&["replay", "--help"][..], "It costs disk"),
        (&["replay", "rollback", "--help"], "replay.keep"),
        (&["snapshot", "create", "--help"], "reads and copies nothing"),
        (&["verify", "--help"], "Reads every row"),
        (&["explain", "--help"], "nearest snapshot"),
        (&["diff", "--help"], "nearest snapshot"),
        (&["get", "--help"], "nearest snapshot"),
        (&["--help"], "9   needs a yes"),
    ] {
        let help = place.run(args).ok().out;
        let words_of = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words_of(&help).contains(&words_of(words)), "{args:?}: {words} is not in {help}");
    }
}
