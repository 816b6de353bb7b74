//! One daemon per data directory: an exclusive lock on `<data>/LOCK`, which also says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::state::error::Error;
use crate::state::paths;

/// Held as long as the store is open; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataLock {
    file: File,
    exclusive: bool,
}

impl DataLock {
    /// Takes the directory for this process and writes its number into the file.
    pub fn exclusive(root: &Path) -> Result<DataLock, Error> {
        let path = paths::lock(root);
        let failed = |error| Error::io(&path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.try_lock().map_err(|error| refused(root, error))?;
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(DataLock { file, exclusive: true })
    }

    /// Keeps daemons away while something reads the files; several readers may. Creates nothing.
    pub fn shared(root: &Path) -> Result<DataLock, Error> {
        let path = paths::lock(root);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { path: root.to_owned() });
            }
            Err(error) => return Err(Error::io(&path, error)),
        };
        file.try_lock_shared().map_err(|error| refused(root, error))?;
        Ok(DataLock { file, exclusive: false })
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        if self.exclusive {
            // A number that stays behind only makes a later message less exact.
            let _ = self.file.set_len(0);
        }
    }
}

fn refused(root: &Path, error: TryLockError) -> Error {
    match error {
        TryLockError::WouldBlock => Error::InUse { path: root.to_owned(), holder: holder(&paths::lock(root)) },
        TryLockError::Error(error) => Error::io(&paths::lock(root), error),
    }
}

/// Who wrote the file, if that process still lives.
fn holder(lock: &Path) -> String {
    let written = std::fs::read_to_string(lock).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match written {
        Some(id) if !Path::new("/proc").is_dir() || Path::new(&format!("/proc/{id}")).is_dir() => {
            format!("process {id}")
        }
        _ => "another process".to_owned(),
    }
}
