//! What a kill leaves: a copy of the files of one moment.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Copies a directory that changes meanwhile, again until what was copied may be of one moment: no file came or went, no
/// table was being written, and the control store, which says how the generations belong together, stood still.
pub fn copy_dir(from: &Path, to: &Path) {
    for _ in 0..400 {
        let _ = std::fs::remove_dir_all(to);
        let (before, control) = (files(from), stamps(&from.join("control")));
        for file in &before {
            let target = to.join(file);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            let _ = std::fs::copy(from.join(file), &target);
        }
        let length = |root: &Path, file: &Path| std::fs::metadata(root.join(file)).map(|meta| meta.len()).ok();
        let is_table = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "sst");
        let whole = before.iter().filter(is_table).all(|file| length(from, file) == length(to, file));
        if whole && files(from) == before && stamps(&from.join("control")) == control {
            return;
        }
    }
    panic!("{} never holds still", from.display());
}

/// All files below a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => found.push(entry.path().strip_prefix(root).unwrap().to_path_buf()),
            }
        }
    }
    found.sort();
    found
}

/// Size and time of every file.
fn stamps(root: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let stamp = |file: PathBuf| {
        let meta = std::fs::metadata(root.join(&file)).ok();
        (file, meta.as_ref().map_or(0, |meta| meta.len()), meta.and_then(|meta| meta.modified().ok()))
    };
    files(root).into_iter().map(stamp).collect()
}
