//! The manifest of a snapshot's directory: what the checkpoint in it holds, and by which files and checksums it can be
//! told from a damaged one. It is written when everything else is on disk, and never changed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::position::{Offset, Position, Timestamp, TopicPartition};
use crate::state::delta::{Books, Fingerprint, ViewTag};
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::meta::{Identity, Lineage, StoredView, ViewTotals};

/// The file's name in the directory of a checkpoint. Not one of RocksDB's files.
pub(crate) const FILE: &str = "segno-manifest.json";

/// The format of the manifest.
pub(crate) const FORMAT: u32 = 1;

/// What a file on disk looks like: the manifest's text and its checksum.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// xxh3-64 of the text of `manifest`, as 16 hexadecimal digits.
    checksum: String,
    manifest: Box<RawValue>,
}

/// Read before the rest, which a later format may spell otherwise.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Manifest {
    pub format: u32,
    /// The snapshot for which the checkpoint was made; later ones may share it.
    pub snapshot: u64,
    pub why: String,
    pub taken: Timestamp,
    pub topic: String,
    pub partition: u32,
    pub cluster: String,
    /// Partitions of the topic.
    pub partitions: u32,
    pub generation: u64,
    pub position: Position,
    /// Absent when no rows were ever taken over from other definitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// Where its history begins; absent when that is the beginning of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Position>,
    /// RocksDB's number of the last change.
    pub sequence: u64,
    last: Option<LastRecord>,
    views: Vec<ViewEntry>,
    pub files: Vec<FileEntry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LastRecord {
    offset: Offset,
    timestamp: Timestamp,
    hash: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ViewEntry {
    tag: u16,
    name: String,
    version: u32,
    text: String,
    fingerprint: String,
    digest: String,
    rows: i64,
    books: Books,
}

/// One file of the checkpoint.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub name: String,
    pub bytes: u64,
    /// xxh3-64 of the content, as 16 hexadecimal digits.
    pub checksum: String,
}

/// What a manifest says of the state itself.
pub(crate) struct Contents {
    pub identity: Identity,
    pub last: Option<Fingerprint>,
    pub views: Vec<StoredView>,
    pub totals: Vec<ViewTotals>,
}

impl Manifest {
    /// Describes the checkpoint that `opened` is, with the files that lie in its directory.
    pub fn of(opened: &Generation, snapshot: u64, why: &str, taken: Timestamp, files: Vec<FileEntry>) -> Manifest {
        let identity = opened.identity();
        let totals = opened.view_totals();
        let views = opened.views().iter().zip(&totals).map(|(view, totals)| ViewEntry {
            tag: view.tag.0,
            name: view.name.clone(),
            version: view.version,
            text: view.text.clone(),
            fingerprint: format!("{:032x}", view.fingerprint),
            digest: format!("{:032x}", totals.digest),
            rows: totals.rows,
            books: totals.books,
        });
        Manifest {
            format: FORMAT,
            snapshot,
            why: why.to_owned(),
            taken,
            topic: identity.at.topic.to_string(),
            partition: identity.at.partition.0,
            cluster: identity.cluster.clone(),
            partitions: identity.partitions,
            generation: opened.number(),
            position: opened.applied(),
            lineage: Some(opened.lineage()).filter(|lineage| !lineage.is_whole()),
            began: Some(opened.began()).filter(|began| *began > Position::ZERO),
            sequence: opened.db.latest_sequence_number(),
            last: opened.last().map(|last| LastRecord {
                offset: last.offset,
                timestamp: last.timestamp,
                hash: format!("{:016x}", last.hash),
            }),
            views: views.collect(),
            files,
        }
    }

    /// The contents as the store's own types; the reason when a number in them is none.
    pub fn contents(&self) -> Result<Contents, String> {
        let bad = |what: &str, text: &str| format!("the {what} `{text}` in its manifest is not hexadecimal");
        let wide = |what: &str, text: &str| u128::from_str_radix(text, 16).map_err(|_| bad(what, text));
        let mut contents = Contents {
            identity: Identity {
                at: TopicPartition::new(self.topic.as_str(), self.partition),
                cluster: self.cluster.clone(),
                partitions: self.partitions,
            },
            last: None,
            views: Vec::with_capacity(self.views.len()),
            totals: Vec::with_capacity(self.views.len()),
        };
        if let Some(LastRecord { offset, timestamp, hash }) = &self.last {
            let hash = u64::from_str_radix(hash, 16).map_err(|_| bad("hash", hash))?;
            contents.last = Some(Fingerprint { offset: *offset, timestamp: *timestamp, hash });
        }
        for view in &self.views {
            let tag = ViewTag(view.tag);
            contents.views.push(StoredView {
                tag,
                name: view.name.clone(),
                version: view.version,
                text: view.text.clone(),
                fingerprint: wide("fingerprint", &view.fingerprint)?,
                left_at: None,
            });
            let digest = wide("digest", &view.digest)?;
            contents.totals.push(ViewTotals { view: tag, digest, rows: view.rows, books: view.books });
        }
        Ok(contents)
    }

    /// Writes the manifest, whole or not at all, and makes it and the directory durable.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        let encoded = serde_json::value::to_raw_value(self).and_then(|manifest| {
            let checksum = checksum_of(manifest.get().as_bytes());
            serde_json::to_vec(&Sealed { checksum, manifest })
        });
        let encoded = encoded.map_err(|error| Error::Io { path: path.clone(), reason: error.to_string() })?;
        let draft = directory.join(format!("{FILE}.new"));
        let written = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let written = written.and_then(|mut file| file.write_all(&encoded).and_then(|()| file.sync_all()));
        written.map_err(|error| Error::io(&draft, error))?;
        fs::rename(&draft, &path).map_err(|error| Error::io(&path, error))?;
        sync(directory)
    }

    /// Reads the manifest of a directory, or says why there is none that can be trusted.
    pub fn read(directory: &Path) -> Result<Manifest, String> {
        match fs::read(directory.join(FILE)) {
            Ok(stored) => Manifest::parse(&stored),
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory.is_dir() => {
                Err("it has no manifest".to_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err("the directory is gone".to_owned()),
            Err(error) => Err(format!("its manifest cannot be read: {error}")),
        }
    }

    fn parse(stored: &[u8]) -> Result<Manifest, String> {
        let torn = |error: serde_json::Error| format!("its manifest cannot be read: {error}");
        let sealed: Sealed = serde_json::from_slice(stored).map_err(torn)?;
        let text = sealed.manifest.get();
        let found = checksum_of(text.as_bytes());
        if found != sealed.checksum {
            return Err(format!("its manifest has checksum {found}, and should have {}", sealed.checksum));
        }
        let Versioned { format } = serde_json::from_str(text).map_err(torn)?;
        if format > FORMAT {
            return Err(format!("its manifest has format {format}, and this program knows up to {FORMAT}"));
        }
        serde_json::from_str(text).map_err(torn)
    }

    /// Refuses files that cannot be what the checkpoint was made of: one is missing or has another size. Reads none.
    pub fn check_sizes(&self, directory: &Path) -> Result<(), String> {
        for FileEntry { name, bytes, .. } in &self.files {
            match fs::metadata(directory.join(name)) {
                Ok(found) if found.len() == *bytes => {}
                Ok(found) => return Err(format!("`{name}` has {} bytes, and should have {bytes}", found.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(format!("`{name}` is missing")),
                Err(error) => return Err(format!("`{name}` cannot be looked at: {error}")),
            }
        }
        Ok(())
    }

    /// Reads every file; the inner error says which is not what it was.
    pub fn check_files(&self, directory: &Path) -> Result<Result<(), String>, Error> {
        for FileEntry { name, checksum, .. } in &self.files {
            let path = directory.join(name);
            let found = checksum_file(&path).map_err(|error| Error::io(&path, error))?;
            if found != *checksum {
                return Ok(Err(format!("`{name}` has checksum {found}, and should have {checksum}")));
            }
        }
        Ok(Ok(()))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Lists the files of a checkpoint with their checksums, and makes those durable that RocksDB copied. A table file that
/// is the very file of `earlier`, an intact snapshot's directory, is not read again: table files never change.
pub(crate) fn list_files(directory: &Path, earlier: Option<(&Path, &Manifest)>) -> Result<Vec<FileEntry>, Error> {
    let failed = |error| Error::io(directory, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let failed = |error| Error::io(&path, error);
        let found = entry.metadata().map_err(failed)?;
        let table = name.ends_with(".sst");
        if !table {
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        let known = earlier.filter(|_| table).and_then(|(path, manifest)| known(path, manifest, &name, &found));
        let checksum = match known {
            Some(known) => known,
            None => checksum_file(&path).map_err(failed)?,
        };
        files.push(FileEntry { name, bytes: found.len(), checksum });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The checksum that an earlier manifest has of the same file: one inode, linked twice.
fn known(directory: &Path, manifest: &Manifest, name: &str, found: &fs::Metadata) -> Option<String> {
    let entry = manifest.files.iter().find(|file| file.name == name && file.bytes == found.len())?;
    let there = fs::metadata(directory.join(name)).ok()?;
    (there.dev() == found.dev() && there.ino() == found.ino()).then(|| entry.checksum.clone())
}

fn checksum_of(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

fn checksum_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Xxh3::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:016x}", sum.digest())),
            read => sum.update(&buffer[..read]),
        }
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| Error::io(directory, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest on disk. A change here is a change of the format.
    const STORED: &str = r#"{"checksum":"CHECKSUM","manifest":{"format":1,"snapshot":7,"why":"time","taken":1700000000000,"topic":"t","partition":3,"cluster":"c","partitions":4,"generation":2,"position":10,"sequence":99,"last":{"offset":9,"timestamp":-5,"hash":"00000000000000ff"},"views":[{"tag":1,"name":"v","version":2,"text":"x","fingerprint":"000000000000000000000000000000aa","digest":"ffffffffffffffffffffffffffffffff","rows":3,"books":{"consumed":10,"applied":9,"skipped":0,"waiting":0,"parked":1,"dead":0}}],"files":[{"name":"000012.sst","bytes":1234,"checksum":"0123456789abcdef"}]}}"#;

    fn sealed() -> String {
        let (_, manifest) = STORED.split_once("\"manifest\":").unwrap();
        let checksum = checksum_of(manifest.strip_suffix('}').unwrap().as_bytes());
        STORED.replace("CHECKSUM", &checksum)
    }

    #[test]
    fn the_format_is_what_it_was() {
        let manifest = Manifest::parse(sealed().as_bytes()).unwrap();
        let Contents { identity, last, views, totals } = manifest.contents().unwrap();
        assert_eq!(identity, Identity { at: TopicPartition::new("t", 3), cluster: "c".into(), partitions: 4 });
        assert_eq!(last, Some(Fingerprint { offset: Offset(9), timestamp: Timestamp(-5), hash: 255 }));
        assert_eq!((views[0].tag, views[0].version, views[0].fingerprint), (ViewTag(1), 2, 0xaa));
        assert_eq!((totals[0].view, totals[0].digest, totals[0].books.parked), (ViewTag(1), u128::MAX, 1));
        assert_eq!(manifest.bytes(), 1234);
        let directory = tempfile::tempdir().unwrap();
        manifest.write(directory.path()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join(FILE)).unwrap(), sealed());
        assert_eq!(Manifest::read(directory.path()).unwrap(), manifest);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_taken_for_a_manifest() {
        let whole = sealed();
        let parsed = Manifest::parse(whole.as_bytes()).unwrap();
        for len in 0..whole.len() {
            assert!(Manifest::parse(&whole.as_bytes()[..len]).is_err(), "cut at {len}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone().into_bytes();
                changed[at] ^= 1 << bit;
                // Outside of what the checksum covers, white space means nothing.
                assert!(Manifest::parse(&changed).map_or(true, |found| found == parsed), "bit {bit} of byte {at}");
            }
        }
    }
}
