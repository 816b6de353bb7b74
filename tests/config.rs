//! The configuration: what is wrong is refused where it is wrong, `config.toml` and the program agree, layers lie in
//! their order, and secrets are never shown.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use segno::actors::plan::OnChange;
use segno::config::{self, DEFAULT, LogKind, Setting, Sources, parse_setting};
use segno::views::Definition;
use tempfile::TempDir;

/// Files and an environment of a test's own.
struct Given {
    dir: TempDir,
    env: Vec<(String, String)>,
    flags: Vec<Setting>,
}

impl Given {
    fn file(text: &str) -> Given {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("user.toml"), text).unwrap();
        Given { dir, env: Vec::new(), flags: Vec::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Given {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, text: &str) -> Given {
        self.flags.push(parse_setting(text).unwrap());
        self
    }

    fn load(&self) -> Result<config::Loaded, config::Problems> {
        let file: PathBuf = self.dir.path().join("user.toml");
        config::load(&Sources { file: Some(file), env: self.env.clone(), flags: self.flags.clone() })
    }

    #[track_caller]
    fn good(&self) -> config::Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// What is said, with the file's directory taken out.
    #[track_caller]
    fn refused(&self) -> String {
        let problems = self.load().expect_err("is refused").to_string();
        problems.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn malformed_toml_is_refused_with_line_column_and_caret() {
    let said = Given::file("[node]\nname = \"a\nlog = \"kafka\"\n").refused();
    has(&said, &["user.toml:2:", "not valid TOML", "2 | name = \"a", "^"]);
    for text in
        ["[", "a", "= 1", "[a]\n[a]\n", "x = 1\nx = 2", "\u{0}", "[[topics]]\n[topics]\n", "x = 99999999999999999999"]
    {
        assert!(Given::file(text).load().is_err(), "{text:?}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    let said =
        Given::file("[http]\nlisen = \"127.0.0.1:1\"\n[nod]\nname = \"x\"\n[flow]\nbatch_bytes = \"1MiB\"\n").refused();
    has(&said, &["user.toml:2:1: unknown key `lisen` in [http]; did you mean `listen`?"]);
    has(&said, &["user.toml:3:2: unknown key `nod` at the top; did you mean `node`?"]);
    has(&said, &["user.toml:6:1: unknown key `batch_bytes` in [flow]; did you mean `batch-bytes`?"]);
    has(&said, &["3 problems"]);
    let said = Given::file("[[topics]]\nname = \"t\"\n[topics.policy]\nrejectd = \"park\"\n").refused();
    has(&said, &["user.toml:4:1: unknown key `rejectd` in [topics.policy]; did you mean `rejected`?"]);
    let said = Given::file("[retry]\nxyzzy = 1\n").refused();
    has(&said, &["there are: attempts, factor, initial, max"]);
}

#[test]
fn a_wrong_type_is_refused_with_what_was_expected() {
    for (text, parts) in [
        ("[node]\nname = 7", &["2:8", "`node.name`", "expected a string, found an integer"][..]),
        ("[flow]\nbatch-records = \"many\"", &["2:17", "expected an integer, found a string"]),
        ("[flow]\nbatch-records = 0", &["expected a number from 1 to", "found 0"]),
        ("[flow]\nbatch-records = -1", &["found -1"]),
        ("[flow]\nbatch-bytes = \"8 apples\"", &["expected a size such as", "8 apples"]),
        ("[flow]\nfold-time-limit = 10", &["expected a duration", "write it with its unit"]),
        ("[flow]\nfold-time-limit = \"0s\"", &["longer than 0"]),
        ("[flow]\nplacement = \"ownn\"", &["\"shared\" or \"own\"", "did you mean \"own\"?"]),
        ("[node]\nstop-timeout = \"unlimited\"", &["expected a duration"]),
        ("[embedded]\nretention-time = \"soon\"", &["(or \"unlimited\")"]),
        ("[retry]\nfactor = 0.5", &["at least 1"]),
        ("[retry]\nmax = \"1ms\"", &["shorter than `retry.initial`"]),
        ("[flow]\ncredit-bytes = \"1MiB\"", &["less than `flow.batch-bytes`"]),
        ("[flow]\ncredit-records = 10", &["less than `flow.batch-records`"]),
        ("[replay]\non-change = \"replya\"", &["\"wait\" or \"replay\"", "did you mean \"replay\"?"]),
        ("[replay]\nkeep = 24", &["expected a duration", "write it with its unit"]),
        ("[replay]\nlive-lag = \"0s\"", &["longer than 0"]),
        ("[replay]\nepoch-records = 0", &["expected a number from 1 to", "found 0"]),
        ("[snapshots]\nrecords = -1", &["2:11", "expected a number from 0 to", "found -1"]),
        ("[snapshots]\ninterval = \"sometimes\"", &["2:12", "(or \"never\")"]),
        ("[snapshots]\nkeep-daily = \"all\"", &["expected an integer"]),
        ("[audit]\nrate = \"1/s\"", &["2:8", "expected an integer, found a string"]),
        ("[memory]\ntotal = \"1MiB\"", &["at least \"64MiB\""]),
        ("[http]\nlisten = \"nowhere\"", &["expected an address and a port"]),
        ("[log]\nlevel = \"a=b=c\"", &["expected \"error\""]),
        ("node = 7", &["`node` is an integer, expected a table"]),
        ("topics = 7", &["expected an array of tables", "[[topics]]"]),
        ("[[topics]]\npartitions = 4", &["has no `name`"]),
        ("[[topics]]\nname = \"t\"\npartitions = 10001", &["10000", "10001"]),
        ("[[topics]]\nname = \"a/b\"", &["a-z, A-Z, 0-9"]),
        ("[[topics]]\nname = \"t\"\n[[topics]]\nname = \"t\"", &["4:8", "declared twice, first at"]),
        ("[[topics]]\nname = \"t\"\n[[topics.views]]\nname = \"V\"\ninitial = {}", &["4:8", "a-z, 0-9"]),
        ("[[topics]]\nname = \"t\"\n[[topics.views]]\nname = \"v\"", &["view `v` has no `initial`"]),
        (
            "[[topics]]\nname = \"t\"\n[[topics.views]]\nname = \"v\"\ninitial = { a = 1 }\n[topics.views.on]\nA = { a = 7 }",
            &["7:11", "expected an expression"],
        ),
        ("[[topics]]\nname = \"t\"\n[topics.envelope]\nformat = \"raw\"", &["what type its events are of"]),
        ("[[topics]]\nname = \"t\"\n[topics.envelope]\ntype-field = \"x\"", &["belong to format = \"raw\""]),
        (
            "[[topics]]\nname = \"t\"\n[topics.policy]\nnull-key = \"delete\"",
            &["\"dead-letter\" or \"skip\" or \"halt\""],
        ),
        ("[[topics]]\nname = \"t\"\n[topics.policy]\nmax-key-size = \"2MiB\"", &["at most \"1MiB\""]),
    ] {
        let said = Given::file(text).refused();
        has(&said, parts);
        has(&said, &["user.toml:", " | "]);
    }
}

#[test]
fn the_same_view_name_in_two_topics_is_refused() {
    let view = "[[topics.views]]\nname = \"v\"\ninitial = { a = 1 }\n[topics.views.on]\nA = { a = \"1\" }\n";
    let said = Given::file(&format!("[[topics]]\nname = \"t\"\n{view}[[topics]]\nname = \"u\"\n{view}")).refused();
    has(&said, &["user.toml:11:8: view `v` is declared twice, first at", "user.toml:4:8"]);
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    has(&Given::file("[http]\nlisten = \"0.0.0.0:80\"").refused(), &["2:10", "`http.token` is empty", "127.0.0.1"]);
    Given::file("[http]\nlisten = \"0.0.0.0:80\"\ntoken = \"t\"").good();
    for local in ["127.0.0.1:0", "[::1]:7", "localhost:7", "127.9.9.9:7"] {
        Given::file(&format!("[http]\nlisten = \"{local}\"")).good();
    }
}

#[test]
fn every_layer_lies_over_the_one_before() {
    let given =
        Given::file("[node]\nname = \"file\"\ndata-dir = \"file\"\n[kafka.properties]\n\"client.rack\" = \"file\"\n");
    assert_eq!(given.good().config.node.name, "file");
    let given = given
        .env("SEGNO__NODE__DATA_DIR", "env")
        .env("SEGNO__NODE__LOG", "kafka")
        .env("SEGNO__FLOW__BATCH_RECORDS", "7")
        .env("SEGNO__RETRY__FACTOR", "3.5")
        .env("SEGNO__EMBEDDED__RETENTION_TIME", "30d")
        .env("SEGNO__KAFKA__PROPERTIES__SASL_USERNAME", "me")
        .env("SEGNO_CONFIG", "is no key")
        .env("OTHER", "ignored");
    let config = given.good().config;
    assert_eq!((config.node.name.as_str(), config.node.data_dir.to_str()), ("file", Some("env")));
    assert_eq!((config.node.log, config.flow.batch_records, config.retry.factor), (LogKind::Kafka, 7, 3.5));
    assert_eq!(config.embedded.retention_time, Some(Duration::from_secs(30 * 86_400)));
    let property = |name: &str| config.kafka.properties[name].reveal().to_owned();
    assert_eq!((property("client.rack"), property("sasl.username")), ("file".to_owned(), "me".to_owned()));
    let given = given.flag("node.data-dir=flag").flag("kafka.properties.client.rack=flag");
    let config = given.good().config;
    assert_eq!(config.node.data_dir.to_str(), Some("flag"));
    assert_eq!(config.kafka.properties["client.rack"].reveal(), "flag");
    let printed = given.good().print().to_string();
    has(&printed, &["# environment variable SEGNO__NODE__LOG", "# --set node.data-dir", "user.toml:2:8"]);
}

#[test]
fn a_wrong_environment_is_named() {
    for (name, value, parts) in [
        ("SEGNO__HTTP__LISEN", "x", &["environment variable SEGNO__HTTP__LISEN", "did you mean `listen`?"][..]),
        ("SEGNO__HTP__LISTEN", "x", &["environment variable SEGNO__HTP__LISTEN", "did you mean `http`?"]),
        (
            "SEGNO__FLOW__BATCH_RECORDS",
            "x",
            &["environment variable SEGNO__FLOW__BATCH_RECORDS", "expected an integer"],
        ),
        ("SEGNO__NODE", "x", &["SEGNO__NODE", "expected SEGNO__SECTION__KEY"]),
        ("SEGNO__TOPICS__NAME", "x", &["topics are declared in the file only"]),
    ] {
        has(&Given::file("").env(name, value).refused(), parts);
    }
}

#[test]
fn secrets_are_used_and_never_shown() {
    let secret = "hunter2";
    let given = Given::file(
        "[http]\ntoken = \"${env:TOKEN}\"\n[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\"ssl.key.password\" = \"x${env:TOKEN}\"\n",
    )
    .env("TOKEN", secret)
    .env("SEGNO__KAFKA__PROPERTIES__SSL_KEY_PEM", secret);
    let loaded = given.good();
    assert_eq!(loaded.config.http.token.reveal(), secret);
    assert_eq!(loaded.config.kafka.properties["ssl.key.password"].reveal(), "xhunter2");
    let shown = format!("{}\n{}\n{:?}", loaded.print(), loaded.print().json(), loaded.config);
    assert!(!shown.contains(secret), "{shown}");
    has(&shown, &["token = \"${env:TOKEN}\"", "\"sasl.password\" = \"***\"", "\"ssl.key.pem\" = \"***\""]);

    let digits =
        Given::file("[kafka.properties]\n\"sasl.password\" = 20262026\n\"ssl.key.password\" = 2026.2026\n").good();
    assert_eq!(digits.config.kafka.properties["sasl.password"].reveal(), "20262026");
    let shown = format!("{}\n{}\n{:?}", digits.print(), digits.print().json(), digits.config);
    assert!(!shown.contains("2026"), "{shown}");

    // Nor where something is wrong with them, or with their names.
    for text in [
        "[http]\ntokn = \"hunter2\"",
        "[http]\ntoken = [\"hunter2\"]",
        "[http]\ntoken = \"hunter2 hunter2\"",
        "[http]\ntoken = \"hunter2",
        "http = { token = \"hunter2\", x = 1 }",
        "http = { tokn = \"hunter2\", listen = 1 }",
        "[http]\ntokn = \"hunter2",
        "[http]\nlisten = \"${env:TOKEN}\"\ntoken = \"${env:UNSET}hunter2\"",
        "[kafka.properties]\n\"sasl.password\" = [\"hunter2\"]",
        "[kafka.properties]\nsasl.password = \"hunter2\"",
        // As somebody writes who thinks of another format, or forgets a sign.
        "[http]\ntoken: \"hunter2\"",
        "[http]\ntoken \"hunter2\"",
        "[kafka.properties]\n\"sasl.password\" \"hunter2\"",
        "[kafka.properties]\n\"sasl.password\" =\n\"hunter2\"",
        "[kafka.properties]\n\"sasl.password\" = \"\"\"\nhunter2\\q\"\"\"",
        "[kafka.properties]\n\"ssl.key.pem\" = \"\"\"\na\nhunter2\n\\q\nhunter2\n",
        "[kafka.properties]\n\"ssl.certificate\" = '''\nhunter2\u{1}\n'''",
    ] {
        let said = Given::file(text).refused();
        assert!(!said.contains(secret), "{text}: {said}");
    }
    has(
        &Given::file("[http]\ntoken = \"${env:UNSET}\"").refused(),
        &["the environment variable UNSET is not set", "2:9"],
    );
    has(&Given::file("[http]\ntoken = \"${file:/no/such}\"").refused(), &["/no/such", "cannot read the file"]);
}

#[test]
fn what_a_reference_stands_for_is_never_shown() {
    for (section, key, value, expected) in [
        ("http", "listen", "hunter2", "an address and a port"),
        ("http", "listen", "hunter2:1", "an address and a port"),
        ("node", "log", "hunter2", "\"embedded\" or \"kafka\""),
        ("flow", "placement", "hunter2", "\"shared\" or \"own\""),
        ("flow", "batch-bytes", "hunter2", "a size"),
        ("flow", "fold-time-limit", "hunter2", "a duration"),
        ("flow", "fold-time-limit", "7777777777777w", "longer than 584 years"),
        ("memory", "total", "7777777", "at least \"64MiB\""),
        ("embedded", "retention-time", "hunter2", "a duration"),
        ("snapshots", "interval", "hunter2", "a duration"),
        ("log", "level", "hunter2=hunter2=hunter2", "\"error\""),
        ("log", "format", "hunter2", "\"auto\""),
    ] {
        let said = Given::file(&format!("[{section}]\n{key} = \"${{env:SECRET}}\"")).env("SECRET", value).refused();
        assert!(!said.contains(value) && !said.contains("7777777"), "{said}");
        has(&said, &["${env:SECRET}", expected]);
    }
    for (name, value) in [
        ("SEGNO__FLOW__BATCH_RECORDS", "hunter2"),
        ("SEGNO__FLOW__BATCH_RECORDS", "77777777777"),
        ("SEGNO__RETRY__FACTOR", "hunter2"),
        ("SEGNO__RETRY__FACTOR", "-77777777777"),
    ] {
        let said = Given::file("").env("SECRET", value).env(name, "${env:SECRET}").refused();
        assert!(!said.contains(value), "{said}");
        has(&said, &[name, "${env:SECRET}"]);
    }
    let topic = Given::file("[[topics]]\nname = \"${env:SECRET}\"").env("SECRET", "hunter/2").refused();
    assert!(!topic.contains("hunter/2"), "{topic}");
    let listen = Given::file("[http]\nlisten = \"${env:SECRET}\"").env("SECRET", "0.0.0.0:777").refused();
    assert!(!listen.contains("777"), "{listen}");
    // A number that is too long for its type is not shown either: it may stand under a misspelt name.
    let number = Given::file("[http]\ntokn = 99999999999999999999").refused();
    assert!(!number.contains("9999"), "{number}");
}

/// A shard says which view it is at in eight bits.
#[test]
fn a_topic_with_more_views_than_can_be_told_apart_is_refused() {
    let views = |count: usize| {
        let view = |number| {
            format!(
                "[[topics.views]]\nname = \"v{number}\"\ninitial = {{ a = 1 }}\n[topics.views.on]\nA = {{ a = \"1\" }}\n"
            )
        };
        format!("[[topics]]\nname = \"t\"\n{}", (0..count).map(view).collect::<String>())
    };
    assert_eq!(Given::file(&views(256)).good().config.topics[0].views.len(), 256);
    let said = Given::file(&views(258)).refused();
    // Two lines of the topic, and five of each view before the one too many.
    has(&said, &["user.toml:1284:8: topic `t` has 258 views, at most 256 are possible; leave some out", "\"v256\""]);
    assert!(!said.contains("problems in"), "{said}");
}

#[test]
fn the_end_of_time_is_a_first_value() {
    let view = "[[topics]]\nname = \"t\"\n[[topics.views]]\nname = \"v\"\n";
    let with =
        |time: &str| Given::file(&format!("{view}initial = {{ until = {time} }}\n[topics.views.on]\nA = {{}}\n"));
    for time in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00Z"] {
        let loaded = with(time).good();
        let declared = segno::views::cel::Declared::compile(&loaded.config.topics[0].views[0]).unwrap();
        let mut row = Vec::new();
        declared.initial().encode(&mut row);
        assert_eq!(String::from_utf8(row).unwrap(), format!("{{\"until\":\"{time}\"}}"));
    }
    for time in ["9999-12-31T23:59:59-01:00", "2024-05-01T10:00:00", "2024-05-01"] {
        has(&with(time).refused(), &["user.toml:5:21", time, "not an instant of the years 1 to 9999", "an offset"]);
    }
}

#[test]
fn snapshots_and_the_audit_can_be_turned_off() {
    let defaults = Given::file("").good().config;
    assert_eq!(defaults.snapshots.interval, Some(Duration::from_secs(3600)));
    assert_eq!((defaults.snapshots.records, defaults.snapshots.keep_daily, defaults.audit.rate), (5_000_000, 7, 60));
    assert!(defaults.snapshots.keep > Duration::from_secs(24 * 3600), "a replay of the last day has its base");
    assert_eq!(defaults.replay.on_change, OnChange::Wait);
    let off = "[snapshots]\nrecords = 0\ninterval = \"never\"\nkeep-daily = 0\n[audit]\nrate = 0\n";
    let off = Given::file(off).env("SEGNO__REPLAY__ON_CHANGE", "replay").flag("replay.live-lag=500ms").good().config;
    assert_eq!((off.snapshots.records, off.snapshots.interval, off.snapshots.keep_daily), (0, None, 0));
    assert_eq!((off.audit.rate, off.replay.on_change), (0, OnChange::Replay));
    assert_eq!(off.replay.live_lag, Duration::from_millis(500));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let sources = Sources { file: Some("no/such/file.toml".into()), ..Sources::default() };
    has(&config::load(&sources).unwrap_err().to_string(), &["no/such/file.toml", "--config"]);
}

/// Every key of the program is in `config.toml`, for it cannot start without, and the file has no other key, for that
/// is refused. What is left to check: each key has a comment above it, or stands under one that has.
#[test]
fn every_key_of_the_default_set_has_a_comment() {
    config::load(&Sources { env: vec![("HOME".to_owned(), "/nonexistent".to_owned())], ..Sources::default() }).unwrap();
    let mut commented = false;
    for (number, line) in DEFAULT.lines().enumerate() {
        let line = line.trim_start_matches('#').trim();
        let is_key = line.starts_with(|c: char| c.is_ascii_lowercase())
            && line
                .split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        match line {
            "" => commented = false,
            line if line.starts_with('[') => {}
            _ if is_key => assert!(commented, "config.toml:{}: `{line}` has no comment", number + 1),
            _ => commented = true,
        }
    }
}

/// The commented block of topics, with its `#` taken away, is a configuration; and it shows every key there is.
#[test]
fn the_documented_topic_is_a_topic_and_shows_every_key() {
    let example: String = DEFAULT
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = Given::file(&example).good();
    let topic = &loaded.config.topics[0];
    assert_eq!(topic.policy, segno::actors::plan::Policy::default());
    assert_eq!(topic.decoder.max_key_bytes, config::Topic::named("x").decoder.max_key_bytes);
    let view = segno::views::cel::Declared::compile(&topic.views[0]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(view.name(), "account_balance");
    // A key that is asked for is listed when an unknown one is found: those must be in the example, too.
    let shown: toml::Table = example.parse().unwrap();
    let topic = &shown["topics"][0];
    for (section, table) in [
        ("", topic),
        ("envelope", &topic["envelope"]),
        ("policy", &topic["policy"]),
        ("views", &topic["views"][0]),
        ("reject-when", &topic["views"][0]["reject-when"][0]),
    ] {
        let header = match section {
            "" => "[[topics]]\nname = \"t\"\nxyzzy = 1\n".to_owned(),
            "views" => "[[topics]]\nname = \"t\"\n[[topics.views]]\nxyzzy = 1\n".to_owned(),
            "reject-when" => "[[topics]]\nname = \"t\"\n[[topics.views]]\nreject-when = [{ xyzzy = 1 }]\n".to_owned(),
            section => format!("[[topics]]\nname = \"t\"\n[topics.{section}]\nxyzzy = 1\n"),
        };
        let said = Given::file(&header).refused();
        let line = said.lines().find(|line| line.contains("unknown key `xyzzy`")).unwrap_or_else(|| panic!("{said}"));
        let (_, known) = line.split_once("there are: ").unwrap_or_else(|| panic!("{line}"));
        let known: BTreeSet<&str> = known.split(", ").collect();
        let found: BTreeSet<&str> = table.as_table().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, known, "in section {section:?} of config.toml");
    }
}

#[test]
fn the_examples_are_configurations() {
    for example in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = example.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let sources = Sources { file: Some(path.clone()), ..Sources::default() };
            let loaded = config::load(&sources).unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
            for view in loaded.config.topics.iter().flat_map(|topic| &topic.views) {
                segno::views::cel::Declared::compile(view).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}
