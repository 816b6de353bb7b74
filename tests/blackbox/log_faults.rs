//! A log that is not there, is not to be entered, or belongs to somebody else: one clear error with a documented code,
//! nothing lost, and whoever was serving goes on.

use std::time::{Duration, Instant};

use crate::common::broker::{self, Broker, PASSWORD, USER, put};
use crate::faces::{CONFIG, Place, Ran};
use crate::harness::*;

/// Runs the daemon, which must end by itself before long.
#[track_caller]
fn ends(place: &Place, args: &[&str], code: i32, parts: &[&str]) -> Ran {
    let begin = Instant::now();
    let mut all = vec!["run", "--set", "http.listen=127.0.0.1:0"];
    all.extend_from_slice(args);
    let ran = place.run(&all);
    assert_eq!(ran.code, code, "{ran:?}");
    let last = ran.err.lines().last().unwrap_or_default();
    for part in parts {
        assert!(last.contains(part), "{part:?} is not in the last line of:\n{}", ran.err);
    }
    assert!(begin.elapsed() < Duration::from_secs(30), "it took {:?}", begin.elapsed());
    ran
}

fn on(topic: &str) -> Place {
    Place::new(&CONFIG.replace("bank.accounts", topic).replace("partitions = 2\n", ""))
}

#[test]
fn a_missing_topic_is_named_with_how_to_make_it() {
    let topic = "segno-blackbox.no-such-topic";
    let args = ["--brokers", &broker::shared().plaintext];
    ends(&on(topic), &args, 3, &[topic, "does not exist", "--create"]);
}

#[test]
fn brokers_that_are_not_there_are_named() {
    // Nobody listens there any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let args = ["--brokers", &address, "--set", "kafka.request-timeout=2s"];
    ends(&on("bank"), &args, 5, &["cannot reach", &address, "kafka.brokers"]);
    let args = ["--brokers", "no-such-host.invalid:9092", "--set", "kafka.request-timeout=2s"];
    ends(&on("bank"), &args, 5, &["cannot reach", "no-such-host.invalid:9092", "kafka.brokers"]);
}

#[test]
fn wrong_credentials_are_refused_without_being_shown_and_the_right_ones_work() {
    let broker = broker::shared();
    let topic = broker.topic("sasl", 1);
    broker.produce(&topic, &[put(0, "a", "{\"event_type\":\"Opened\",\"payload\":{\"owner\":\"Ada\"}}")]);
    let place = on(&topic);
    let config = std::fs::read_to_string(place.path("segno.toml")).unwrap();
    let properties = "[kafka.properties]\n\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n";
    let login = format!("\"sasl.username\" = \"{USER}\"\n\"sasl.password\" = \"${{file:secret}}\"\n");
    let secret = place.path("secret");
    let login = login.replace("file:secret", &format!("file:{}", secret.display()));
    std::fs::write(place.path("segno.toml"), format!("{properties}{login}{config}")).unwrap();

    std::fs::write(&secret, "not-the-password").unwrap();
    let args = ["--brokers", &broker.sasl];
    let ran = ends(&place, &args, 78, &["refused the credentials", &broker.sasl, "[kafka.properties]"]);
    assert!(!ran.err.contains("not-the-password"), "{ran:?}");

    std::fs::write(&secret, PASSWORD).unwrap();
    let mut daemon = place.daemon(&args);
    settled(&mut daemon);
    assert_eq!(daemon.get("/v1/views/account/a").body["value"]["owner"], "Ada");
    assert!(!daemon.said().contains(PASSWORD));
    assert!(!place.run(&["config", "print"]).ok().out.contains(PASSWORD));
    assert_eq!(Broker::sasl_properties(USER, PASSWORD).len(), 4, "what the test says by hand");
}

#[test]
fn a_data_directory_in_use_is_refused_and_its_owner_goes_on() {
    let place = Place::new(CONFIG);
    let mut daemon = place.daemon(&[]);
    let opened = b"{\"event_type\":\"Opened\",\"payload\":{\"owner\":\"Ada\"}}";
    let append = |daemon: &crate::faces::Daemon, key: &str| {
        daemon.post(&format!("/v1/topics/bank.accounts/events?key={key}"), "application/json", opened)
    };
    assert_eq!(append(&daemon, "a").status, 200);
    let holder = format!("process {}", daemon.child.id());
    ends(&place, &[], 6, &["data directory data is in use", &holder, "another data directory"]);
    assert_eq!(append(&daemon, "b").status, 200);
    settled(&mut daemon);
    assert_eq!(rows(&daemon, "account").len(), 2);
}
