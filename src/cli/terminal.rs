//! The person at the terminal: questions, and Ctrl-C.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::exit::{Code, Failure};

/// Somebody reads what is written and can answer.
pub fn somebody_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Hears Ctrl-C from now on, instead of being ended by it; a second one ends the process.
pub struct Interrupt(Receiver<()>);

impl Interrupt {
    pub fn listen() -> Result<Interrupt, Failure> {
        let failed = |error| Failure::failed(format!("cannot listen for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (heard, hears) = mpsc::channel();
        let mut signal = {
            let _here = runtime.enter();
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(failed)?
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                while signal.recv().await.is_some() {
                    // Nobody waits any more, or the first has not been heard: whoever presses again means it.
                    if heard.send(()).is_err() || signal.recv().await.is_some() {
                        std::process::exit(Code::Interrupted as i32);
                    }
                }
            });
        });
        Ok(Interrupt(hears))
    }

    /// Waits for so long; true when Ctrl-C came.
    pub fn within(&self, time: Duration) -> bool {
        match self.0.recv_timeout(time) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(time);
                false
            }
        }
    }

    /// Asks on standard error. Only a clear yes is one; `None` is Ctrl-C or the end of the input.
    pub fn ask(&self, question: &str) -> Option<bool> {
        eprint!("{question} [y/N] ");
        // A prompt that cannot be shown is answered by nobody, and nobody's answer is no.
        let _ = io::stderr().flush();
        let (answered, answers) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line).unwrap_or(0);
            // Nobody waits for it after Ctrl-C.
            let _ = answered.send((read > 0).then_some(line));
        });
        loop {
            match answers.recv_timeout(Duration::from_millis(50)) {
                Ok(Some(line)) => return Some(is_yes(&line)),
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.within(Duration::from_millis(50)) => {
                    eprintln!();
                    return None;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        for yes in ["y\n", "Y", " yes \n", "YES"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n", "yeah", "j", "ok", "yes!"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
