//! Where the daemon of a data directory answers: a file in the directory, which the daemon keeps locked while it lives.
//!
//! A daemon that was killed leaves the file behind, and anybody may listen at its port by then. Nobody holds the lock
//! any more, so a command sends nothing there, and no token above all.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::exit::{Code, Failure};

/// The file's name. No topic can have it.
const NAME: &str = "http~";

/// The file of a running daemon; gone when it stops.
pub struct AddressFile {
    path: PathBuf,
    _locked: File,
}

impl AddressFile {
    pub fn write(data_dir: &Path, address: SocketAddr) -> Result<AddressFile, Failure> {
        let path = data_dir.join(NAME);
        let written = || {
            let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
            // Commands hold it for a moment, while they look whether a daemon does.
            file.lock()?;
            file.set_len(0)?;
            writeln!(file, "{}", reachable(address))?;
            Ok(file)
        };
        match written() {
            Ok(file) => Ok(AddressFile { path, _locked: file }),
            Err(error) => {
                let error: std::io::Error = error;
                Err(Failure::failed(format!("cannot write {}: {error}", path.display())))
            }
        }
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // A file that stays behind is overwritten by the next daemon, and nobody believes it without one.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where the daemon that has the directory answers.
pub fn of_daemon(data_dir: &Path) -> Result<String, Failure> {
    read(&data_dir.join(NAME)).ok_or_else(|| {
        let message = format!("another process has {}, and does not say where it answers", data_dir.display());
        Failure::new(Code::Unreachable, message)
            .next("a daemon that starts says so in a moment; another command has to come to its end: try again")
    })
}

fn read(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let Err(TryLockError::WouldBlock) = file.try_lock_shared() else { return None };
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let address = text.trim();
    (!address.is_empty()).then(|| address.to_owned())
}

/// An address that can be asked, for one that is listened on.
fn reachable(listen: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), listen.port()),
        _ => listen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_believed_while_its_daemon_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_daemon(dir.path()).unwrap_err().code, Code::Unreachable);
        let written = AddressFile::write(dir.path(), "0.0.0.0:7".parse().unwrap()).unwrap();
        assert_eq!(of_daemon(dir.path()).unwrap(), "127.0.0.1:7");
        drop(written);
        assert!(of_daemon(dir.path()).is_err());
        // A daemon that was killed.
        std::fs::write(dir.path().join(NAME), "127.0.0.1:7\n").unwrap();
        assert!(of_daemon(dir.path()).is_err());
        let _again = AddressFile::write(dir.path(), "[::]:8".parse().unwrap()).unwrap();
        assert_eq!(of_daemon(dir.path()).unwrap(), "[::1]:8");
    }
}
