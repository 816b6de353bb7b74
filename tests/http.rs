//! The HTTP API of the real daemon.

mod faces;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use faces::{CONFIG, Daemon, Place};
use serde_json::json;

const EVENTS: &str = "/v1/topics/bank.accounts/events";

fn opened(owner: &str) -> Vec<u8> {
    json!({ "event_type": "Opened", "payload": { "owner": owner } }).to_string().into_bytes()
}

fn append(daemon: &Daemon, key: &str, body: &[u8]) -> String {
    let answer = daemon.post(&format!("{EVENTS}?key={key}"), "application/json", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["token"].as_str().unwrap().to_owned()
}

#[test]
fn what_was_appended_is_read_back_at_its_token() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let token = append(&daemon, "a", &opened("Ada"));
    let read = daemon.get(&format!("/v1/views/account/a?at-least={token}"));
    assert_eq!(read.status, 200, "{read:?}");
    assert_eq!(read.body["value"], json!({ "owner": "Ada", "balance": 0 }));
    assert_eq!(read.body["key"], "a");
    assert!(read.body["offset"].is_u64() && read.body["timestamp"].is_i64());
    // The position of the answer reaches the token, in the body and in the header.
    let position = read.position.unwrap();
    assert_eq!(read.body["position"], position.as_str());
    let position: segno::position::PositionVector = position.parse().unwrap();
    assert!(position.reaches(&token.parse().unwrap()));
}

#[test]
fn an_answer_that_cannot_be_had_is_behind_with_both_positions() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let read = daemon.get("/v1/views/account/a?at-least=bank.accounts@0:7&wait=50ms");
    assert_eq!((read.status, read.code()), (409, "behind"), "{read:?}");
    assert_eq!(read.body["error"]["want"], "bank.accounts@0:7");
    assert_eq!(read.body["error"]["have"], "bank.accounts@0:0,1:0");
    for (query, code) in [
        ("at-least=other@0:7", "wrong-bound"),
        ("at-least=bank.accounts@9:7", "wrong-bound"),
        ("at-least=nonsense", "bad-token"),
        ("at-least=bank.accounts@0:1&wait=soon", "bad-query"),
        ("atleast=bank.accounts@0:1", "unknown-parameter"),
        ("at-least=%zz", "bad-query"),
    ] {
        let read = daemon.get(&format!("/v1/views/account/a?{query}"));
        assert_eq!((read.status, read.code()), (400, code), "{query}: {read:?}");
        assert!(read.body["error"]["next"].as_str().is_some_and(|next| !next.is_empty()));
    }
}

#[test]
fn keys_are_bytes() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let mut token = String::new();
    let keys = ["%FF%00", "a%2Fb", "a/c", "", "%F0%9F%8E%BC", "with%20space+plus"];
    for (i, key) in keys.iter().enumerate() {
        // In a query `+` is a space; in a path it is itself.
        let in_query = key.replace('+', "%2B");
        token = append(&daemon, &in_query, &opened(&i.to_string()));
        let read = daemon.get(&format!("/v1/views/account/{key}?at-least={token}"));
        assert_eq!(read.status, 200, "{key}: {read:?}");
        assert_eq!(read.body["value"]["owner"], i.to_string(), "{key}");
    }
    assert_eq!(daemon.get("/v1/views/account/%FF%00").body["key"], json!({ "base64": "/wA=" }));
    assert_eq!(daemon.get("/v1/views/account/a/c").body["key"], "a/c");
    let list = daemon.get(&format!("/v1/views/account?prefix=a&at-least={token}"));
    assert_eq!(list.body["rows"].as_array().unwrap().len(), 2, "{list:?}");
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let lines: String = (0..250)
        .map(|i| {
            format!("{{\"key\":\"k{i:03}\",\"value\":{{\"event_type\":\"Opened\",\"payload\":{{\"owner\":\"o\"}}}}}}\n")
        })
        .collect();
    let answer = daemon.post(EVENTS, "application/x-ndjson", lines.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["records"].as_array().unwrap().len(), 250);
    let token = answer.body["token"].as_str().unwrap();
    let (mut keys, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = daemon.get(&format!("/v1/views/account?prefix=k&limit=33&at-least={token}{cursor}"));
        assert_eq!(page.status, 200, "{page:?}");
        keys.extend(page.body["rows"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()));
        pages += 1;
        match page.body["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(pages >= 8, "{pages}");
    keys.sort();
    assert_eq!(keys, (0..250).map(|i| format!("k{i:03}")).collect::<Vec<_>>());
    // A cursor of one question is refused by another.
    let other = daemon.get(&format!("/v1/views/account?prefix=k1{cursor}"));
    assert_eq!((other.status, other.code()), (400, "bad-cursor"), "{other:?}");
    for limit in ["0", "1001", "-1", "x"] {
        assert_eq!(daemon.get(&format!("/v1/views/account?limit={limit}")).status, 400, "{limit}");
    }
}

#[test]
fn a_body_with_a_bad_item_is_refused_whole() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&["--set", "http.body-limit=64KiB"]);
    for (query, content_type, body, status, code) in [
        ("", "application/x-ndjson", "{\"key\":\"a\",\"value\":1}\n{", 400, "bad-record"),
        ("", "application/json", "[{\"key\":\"a\",\"value\":1},{\"kee\":1}]", 400, "bad-record"),
        ("", "application/json", "[]", 400, "bad-body"),
        ("", "application/json", "", 400, "bad-record"),
        ("?key-field=id", "application/json", "{\"other\":1}", 400, "bad-record"),
        ("?key=a&key-field=id", "application/json", "{}", 400, "bad-query"),
        ("?partition=x", "application/json", "{\"key\":\"a\",\"value\":1}", 400, "bad-query"),
        ("", "text/plain", "{\"key\":\"a\",\"value\":1}", 415, "wrong-type"),
    ] {
        let answer = daemon.post(&format!("{EVENTS}{query}"), content_type, body.as_bytes());
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {answer:?}");
    }
    let answer = daemon.post(EVENTS, "application/json", b"\xff\xfe");
    assert_eq!((answer.status, answer.code()), (400, "bad-body"));
    let answer = daemon.post(EVENTS, "application/json", &vec![b' '; 70 << 10]);
    assert_eq!((answer.status, answer.code()), (413, "body-too-large"), "{answer:?}");
    let answer = daemon.post("/v1/topics/nope/events?key=a", "application/json", b"1");
    assert_eq!((answer.status, answer.code()), (404, "no-such-topic"));
    // Nothing of all that is in the log.
    let status = daemon.get("/v1/status");
    for partition in status.body["topics"][0]["partitions"].as_array().unwrap() {
        assert_eq!(partition["applied"], 0, "{status:?}");
    }
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    for (path, status, code) in [
        ("/v1/views/nope/a", 404, "no-such-view"),
        ("/v1/views/nope", 404, "no-such-view"),
        ("/v1/views/account/a", 404, "no-such-key"),
        ("/v1/views/account/%zz", 400, "bad-path"),
        ("/v2", 404, "no-such-route"),
        (EVENTS, 405, "wrong-method"),
    ] {
        let answer = daemon.get(path);
        assert_eq!((answer.status, answer.code()), (status, code), "{path}: {answer:?}");
    }
    // That there is no row is true at a position, too.
    assert_eq!(daemon.get("/v1/views/account/a").position.as_deref(), Some("bank.accounts@0:0,1:0"));
    assert_eq!(
        daemon.get("/v1/views").body["views"][0],
        json!({ "name": "account", "version": 1, "topic": "bank.accounts" })
    );
}

#[test]
fn probes_and_metrics_answer() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let token = append(&daemon, "a", &opened("Ada"));
    assert_eq!(daemon.get(&format!("/v1/views/account/a?at-least={token}")).status, 200);
    for probe in ["/livez", "/readyz", "/startupz"] {
        let answer = daemon.get(probe);
        assert_eq!((answer.status, &answer.body["ok"]), (200, &json!(true)), "{probe}: {answer:?}");
    }
    let metrics = daemon.get("/metrics").text;
    for line in [
        "segno_ready 1",
        "segno_view_rows{topic=\"bank.accounts\",view=\"account\"} 1",
        "segno_view_records{topic=\"bank.accounts\",view=\"account\",column=\"applied\"} 1",
        "segno_http_requests_total{route=\"/v1/views/{view}/{*key}\",status=\"200\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    for name in ["segno_applied_position", "segno_durable_position", "segno_lag_records", "segno_lag_seconds"] {
        assert!(metrics.contains(&format!("# TYPE {name} gauge")), "{name} is not in {metrics}");
    }
}

#[test]
fn without_a_token_only_this_machine_is_answered_and_with_one_only_its_bearer() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let answer = daemon.get_with("/v1/status", &[("host", "evil.example")]);
    assert_eq!((answer.status, answer.code()), (403, "wrong-host"), "{answer:?}");
    drop(daemon);

    let place = Place::new(CONFIG);
    let mut command = place.command(&["config", "print"]);
    let printed = command.env("SEGNO__HTTP__TOKEN", "correct-horse").output().unwrap();
    assert!(!String::from_utf8(printed.stdout).unwrap().contains("correct-horse"));
    std::fs::write(place.path("token"), "correct-horse\n").unwrap();
    let file = format!("${{file:{}}}", place.path("token").display());
    let mut config = CONFIG.to_owned();
    config.push_str(&format!("\n[http]\ntoken = \"{file}\"\n"));
    std::fs::write(place.path("segno.toml"), config).unwrap();
    let mut daemon = place.daemon(&[]);
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/v1/status", 401),
        ("/metrics", 401),
        ("/v1/views/account", 401),
        ("/v1/replays", 401),
    ] {
        assert_eq!(daemon.get(path).status, status, "{path}");
    }
    assert_eq!(daemon.get_with("/v1/status", &[("authorization", "Bearer correct-horsf")]).status, 401);
    daemon.token = Some("correct-horse".to_owned());
    assert_eq!(daemon.get("/v1/status").status, 200);
    // The command line has the token from the same configuration.
    assert!(place.run(&["status"]).ok().out.contains("bank.accounts"));
    assert!(!daemon.said().contains("correct-horse"));
}

#[test]
fn web_pages_cannot_give_orders() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    assert_eq!(daemon.get("/v1/replays").body, json!({ "replays": [] }));
    for origin in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")] {
        for path in ["/v1/replays", "/v1/snapshots", "/v1/explain/account/a", "/v1/changes/account?from=a&to=b"] {
            let answer = daemon.get_with(path, &[origin]);
            assert_eq!((answer.status, answer.code()), (403, "wrong-origin"), "{path}: {answer:?}");
        }
    }
    // What a form can send without asking first.
    for path in ["/v1/replays", "/v1/replays/latest/cancel", "/v1/snapshots", "/v1/verify"] {
        for kind in ["text/plain", "application/x-www-form-urlencoded"] {
            let answer = daemon.post(path, kind, b"{}");
            assert_eq!((answer.status, answer.code()), (415, "wrong-type"), "{path}: {answer:?}");
        }
    }
    let answer = daemon.get_with("/v1/replays", &[("host", "evil.example")]);
    assert_eq!((answer.status, answer.code()), (403, "wrong-host"), "{answer:?}");
}

#[test]
fn web_pages_cannot_have_histories_folded() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let token = append(&daemon, "a", &opened("Ada"));
    let position = daemon.get(&format!("/v1/views/account/a?at-least={token}")).position.unwrap();
    let at = format!("/v1/views/account/a?at=@{position}");
    let answer = daemon.get(&at);
    assert_eq!(answer.status, 200, "{answer:?}");
    let foreign =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "http://evil.example")];
    for origin in foreign.into_iter().chain([("origin", "null")]) {
        for path in [
            &at,
            &at.replace("at=", "%61%74="),
            "/v1/views/account/nobody?at=-PT1H",
            "/v1/explain/account/a",
            "/v1/changes/account?from=a&to=b",
            "/v1/replays",
            "/v1/snapshots",
        ] {
            let answer = daemon.get_with(path, &[origin]);
            assert_eq!((answer.status, answer.code()), (403, "wrong-origin"), "{path} {origin:?}: {answer:?}");
        }
        // A row as it is costs nothing, and a page cannot read the answer.
        assert_eq!(daemon.get_with("/v1/views/account/a", &[origin]).status, 200);
    }
    let own = daemon.base.clone();
    for origin in [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", own.as_str())] {
        assert_eq!(daemon.get_with(&at, &[origin]).status, 200, "{origin:?}");
    }
}

#[test]
fn a_row_of_a_job_that_is_not_there_is_not_found() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    for (query, status, code) in
        [("job=latest", 404, "no-job"), ("job=999", 404, "no-such-job"), ("job=x", 400, "bad-path")]
    {
        let answer = daemon.get(&format!("/v1/views/account/a?{query}"));
        assert_eq!((answer.status, answer.code()), (status, code), "{query}: {answer:?}");
    }
    let token = append(&daemon, "a", &opened("Ada"));
    assert_eq!(daemon.get(&format!("/v1/views/account/a?at-least={token}")).status, 200);
    let started = daemon.post("/v1/replays", "application/json", br#"{"from": "-PT1H", "yes": true}"#);
    assert_eq!(started.status, 202, "{started:?}");
    let answer = daemon.get("/v1/views/nope/a?job=latest");
    assert_eq!((answer.status, answer.code()), (404, "no-such-view"), "{answer:?}");
}

/// Bytes of a request that is never finished.
const HALVES: [&str; 3] = [
    "GET /livez HTTP/1.1\r\nHost: x",
    "POST /v1/replays/plan HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    "POST /v1/topics/bank.accounts/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
     Transfer-Encoding: chunked\r\n\r\n3\r\n{",
];

fn half(daemon: &Daemon, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.base.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

#[test]
fn half_a_request_holds_up_no_stop() {
    let place = Place::new(CONFIG);
    let mut daemon = place.daemon(&[]);
    let mut halves: Vec<TcpStream> = HALVES.iter().map(|bytes| half(&daemon, bytes)).collect();
    // One that is asked again and again before the rest, and one that says nothing.
    halves.push(half(&daemon, &format!("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n{}", HALVES[0])));
    halves.push(half(&daemon, ""));
    assert_eq!(halves[3].read(&mut [0]).unwrap(), 1, "the first is answered");
    // A whole one, which waits for what will never come, gets its answer in spite of the stop.
    let whole =
        half(&daemon, "GET /v1/views/account/a?at-least=bank.accounts@0:7&wait=3s HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(daemon.get("/livez").status, 200);
    let start = Instant::now();
    daemon.signal("TERM");
    let mut answer = String::new();
    BufReader::new(&whole).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 ") && answer.ends_with('}'), "{answer:?}");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
    assert!(start.elapsed() < Duration::from_secs(12), "the stop took {:?}", start.elapsed());
}

#[test]
fn who_does_not_finish_the_head_of_a_request_is_let_go() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let start = Instant::now();
    let mut halves = [half(&daemon, HALVES[0]), half(&daemon, "")];
    for stream in &mut halves {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(25), "after {:?}", start.elapsed());
    assert_eq!(daemon.get("/livez").status, 200);
}

#[test]
fn a_body_with_a_record_that_the_log_does_not_take_is_appended_not_at_all() {
    let place = Place::new(CONFIG);
    let daemon = place.daemon(&[]);
    let large = json!({ "filler": "x".repeat(1_200_000) });
    let ends = || {
        let status = daemon.get("/v1/status");
        let partitions = status.body["topics"][0]["partitions"].as_array().unwrap().clone();
        partitions.iter().map(|partition| partition["log_end"].as_u64().unwrap()).sum::<u64>()
    };
    let good = |key: &str| json!({ "key": key, "value": { "event_type": "Opened" } });
    for (bad, status, code) in [
        (json!({ "key": "q2", "value": 1, "partition": 9 }), 400, "no-such-partition"),
        (json!({ "key": "q2", "value": large }), 413, "record-too-large"),
    ] {
        let refused =
            daemon.post(EVENTS, "application/json", json!([good("q1"), bad, good("q3")]).to_string().as_bytes());
        assert_eq!((refused.status, refused.code()), (status, code), "{refused:?}");
        let told = refused.body["error"]["message"].as_str().unwrap();
        assert!(told.starts_with("item 1: "), "{told}");
        assert!(refused.body["error"]["next"].as_str().unwrap().starts_with("nothing was appended"), "{refused:?}");
        let lines = format!("{}\n\n{bad}\n", good("q1"));
        let refused = daemon.post(EVENTS, "application/x-ndjson", lines.as_bytes());
        assert_eq!((refused.status, refused.code()), (status, code), "{refused:?}");
        assert!(refused.body["error"]["message"].as_str().unwrap().starts_with("line 3: "), "{refused:?}");
        assert_eq!(refused.body["error"]["record"], 1);
    }
    assert_eq!(ends(), 0, "records went in with a refusal");
    append(&daemon, "q1", &opened("o"));
    assert_eq!(ends(), 1);
}

#[test]
fn before_the_node_is_there_the_api_is_alive_and_not_ready() {
    let place = Place::new(CONFIG);
    // Nobody listens at port 1: the start waits for the brokers until the request times out.
    let args = ["--brokers", "127.0.0.1:1", "--set", "kafka.request-timeout=60s"];
    let mut daemon = place.daemon_that(&args, |daemon| daemon.get("/livez").status == 200);
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/startupz", 503)] {
        assert_eq!(daemon.get(path).status, status, "{path}");
    }
    for path in ["/v1/status", "/v1/views/account/a", "/metrics"] {
        let answer = daemon.get(path);
        assert_eq!((answer.status, answer.code()), (503, "starting"), "{path}: {answer:?}");
    }
    assert_eq!(place.run(&["status"]).code, 5);
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
}
