//! The real binary, as the tests of its faces use it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Accounts on the embedded log, and a second view that ignores most.
pub const CONFIG: &str = r#"
[embedded]
fsync = "never"

[[topics]]
name = "bank.accounts"
partitions = 2

[[topics.views]]
name = "account"
initial = { owner = "", balance = 0 }
reject-when = [{ on = "Withdrawn", when = "state.balance < event.payload.amount", reason = "insufficient funds" }]

[topics.views.on]
Opened = { owner = "event.payload.owner" }
Deposited = { balance = "state.balance + event.payload.amount" }
Withdrawn = { balance = "state.balance - event.payload.amount" }
"#;

/// A directory with a configuration, in which commands run.
pub struct Place {
    pub dir: TempDir,
    /// The program that runs here, and what its environment holds.
    pub program: &'static str,
    pub env: Vec<(&'static str, String)>,
}

impl Place {
    pub fn new(config: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("segno.toml"), config).unwrap();
        Place { dir, program: env!("CARGO_BIN_EXE_segno"), env: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command in the place, in an environment that the test's own does not reach.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(args).current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    pub fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let file = self.path("input");
        std::fs::write(&file, input).unwrap();
        Ran::of(self.command(args).stdin(std::fs::File::open(file).unwrap()).output().unwrap())
    }

    /// Starts the daemon on a free port and waits until it is ready.
    pub fn daemon(&self, args: &[&str]) -> Daemon {
        self.daemon_that(args, |daemon| daemon.get("/readyz").status == 200)
    }

    /// Starts the daemon on a free port and waits until it is as `is` says.
    pub fn daemon_that(&self, args: &[&str], is: impl Fn(&Daemon) -> bool) -> Daemon {
        let mut all = vec!["run", "--set", "http.listen=127.0.0.1:0"];
        all.extend_from_slice(args);
        let log = std::fs::File::create(self.path("daemon.log")).unwrap();
        // One that was killed leaves its address behind, and somebody else may listen there now.
        let address = self.path("data/http~");
        let _ = std::fs::remove_file(&address);
        let child = self.command(&all).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let mut daemon = Daemon { child, base: String::new(), token: None, log: self.path("daemon.log") };
        daemon.until("the API answers", |daemon| {
            let Ok(text) = std::fs::read_to_string(&address) else { return false };
            daemon.base = format!("http://{}", text.trim());
            text.ends_with('\n') && is(daemon)
        });
        daemon
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running daemon; killed when it is dropped.
pub struct Daemon {
    pub child: Child,
    pub base: String,
    pub token: Option<String>,
    pub log: PathBuf,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub position: Option<String>,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

impl Daemon {
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Daemon) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status} before {what}: {}", self.said());
            }
            assert!(Instant::now() < deadline, "waited too long until {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = agent().get(format!("{}{path}", self.base));
        for (name, value) in self.headers(headers) {
            request = request.header(name, value);
        }
        answer(request.call())
    }

    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let mut request = agent().post(format!("{}{path}", self.base)).header("content-type", content_type);
        for (name, value) in self.headers(&[]) {
            request = request.header(name, value);
        }
        answer(request.send(body))
    }

    fn headers(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let token = self.token.iter().map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
        token.chain(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).collect()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// The exit code, after a signal or a failure.
    pub fn ended(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "the daemon does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder();
    config.http_status_as_error(false).timeout_global(Some(Duration::from_secs(60))).proxy(None).build().into()
}

pub fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let Ok(mut response) = response else {
        return Answer { status: 0, position: None, body: Value::Null, text: String::new() };
    };
    let position = response.headers().get("segno-position").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap_or_default();
    Answer { status, position, body: serde_json::from_str(&text).unwrap_or_default(), text }
}

pub fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}
