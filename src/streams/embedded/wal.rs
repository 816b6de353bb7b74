//! Tells a torn end of a write-ahead log from damage to it, before RocksDB reads it.
//!
//! RocksDB writes such a file in blocks of 32 KiB, and into them fragments: `checksum u32, length u16, type u8, bytes`. It
//! cuts off a fragment that is longer than the file, and passes over the rest of a block that begins with zeros, as a
//! crash leaves them. A bad byte in a header looks just like that, and takes with it what stands behind. So here every
//! fragment has to match its checksum up to the first one that does not, and behind that one there may be nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;

/// A file, and the first byte of what is wrong in it.
#[derive(Debug)]
pub(super) struct Damage {
    pub file: PathBuf,
    pub at: u64,
}

/// Looks through the write-ahead logs of a database.
pub(super) fn check(db: &Path) -> io::Result<Option<Damage>> {
    let entries = match fs::read_dir(db) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "log")
            && let Some(at) = damage(File::open(&file)?)?
        {
            return Ok(Some(Damage { file, at }));
        }
    }
    Ok(None)
}

/// How a block ends.
enum Ends {
    Whole,
    /// With zeros from here on.
    Zeros(usize),
    /// With a fragment that is longer than what is left of the block.
    Torn(usize),
    /// With a fragment that does not match its checksum.
    Bad(usize),
}

fn damage(mut file: impl Read) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; BLOCK];
    let mut start = 0;
    let mut zeros = None;
    loop {
        let block = fill(&mut file, &mut buffer)?;
        let last = block.len() < BLOCK;
        if zeros.is_none() {
            match walk(block) {
                Ends::Whole => {}
                Ends::Zeros(at) => {
                    zeros = Some(start + at as u64);
                    if block[at..].iter().any(|byte| *byte != 0) {
                        return Ok(zeros);
                    }
                }
                Ends::Torn(at) if last && !fragments_follow(&block[at + 1..]) => {}
                Ends::Torn(at) | Ends::Bad(at) => return Ok(Some(start + at as u64)),
            }
        } else if block.iter().any(|byte| *byte != 0) {
            return Ok(zeros);
        }
        if last {
            return Ok(None);
        }
        start += BLOCK as u64;
    }
}

fn fill<'b>(file: &mut impl Read, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(&buffer[..filled])
}

fn walk(block: &[u8]) -> Ends {
    let mut at = 0;
    // What is too short for a header is the rest of a block, or of a torn header.
    while let Some(header) = block.get(at..at + HEADER) {
        let (length, kind) = (usize::from(u16::from_le_bytes([header[4], header[5]])), header[6]);
        if length == 0 && kind == 0 {
            return Ends::Zeros(at);
        }
        let Some(fragment) = block.get(at..at + HEADER + length) else { return Ends::Torn(at) };
        if !matches(fragment) {
            return Ends::Bad(at);
        }
        at += HEADER + length;
    }
    Ends::Whole
}

/// Whether there is a sound fragment anywhere in `bytes`.
fn fragments_follow(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| {
        let Some(header) = bytes.get(at..at + HEADER) else { return false };
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let data = (1..=4).contains(&header[6]);
        data && bytes.get(at..at + HEADER + length).is_some_and(matches)
    })
}

fn matches(fragment: &[u8]) -> bool {
    let stored = u32::from_le_bytes([fragment[0], fragment[1], fragment[2], fragment[3]]);
    // RocksDB stores a checksum so that one of bytes with checksums in them is not weaker.
    stored == crc32c(&fragment[6..]).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut sum, mut bit) = (n as u32, 0);
            while bit < 8 {
                sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
                bit += 1;
            }
            table[n] = sum;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum: u32, byte| (sum >> 8) ^ TABLE[usize::from(sum as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut fragment = vec![0; 4];
        fragment.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        fragment.push(kind);
        fragment.extend_from_slice(bytes);
        let sum = crc32c(&fragment[6..]).rotate_right(15).wrapping_add(0xa282_ead8);
        fragment[..4].copy_from_slice(&sum.to_le_bytes());
        fragment
    }

    /// Two full blocks, and one of 3 × 1007 bytes.
    fn sound() -> Vec<u8> {
        let block = [fragment(1, &[7; 20_000]), fragment(1, &[8; BLOCK - 20_000 - 2 * HEADER])].concat();
        let last = fragment(1, &[9; 1000]).repeat(3);
        [block.clone(), block, last].concat()
    }

    fn found(bytes: &[u8]) -> Option<u64> {
        damage(bytes).unwrap()
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_file_that_ends_anywhere_is_torn_and_not_damaged() {
        let sound = sound();
        for end in (0..sound.len()).step_by(97).chain(sound.len() - 20..=sound.len()) {
            assert_eq!(found(&sound[..end]), None, "cut at {end}");
        }
        let zeros = [&sound[..], &vec![0; 3 * BLOCK]].concat();
        assert_eq!(found(&zeros), None, "room that was reserved");
        let torn = [&sound[..sound.len() - 30], &[0; 30]].concat();
        assert_eq!(found(&torn), Some((2 * BLOCK + 2 * 1007) as u64), "RocksDB does not take this for a tear either");
    }

    #[test]
    fn a_bad_bit_before_the_last_fragment_is_damage() {
        let sound = sound();
        let last = sound.len() - 1007;
        let headers = [0, 20_007, BLOCK, BLOCK + 20_007, 2 * BLOCK, 2 * BLOCK + 1007];
        for (header, byte, bit) in headers.iter().flat_map(|h| (0..9).flat_map(move |b| (0..8).map(move |i| (h, b, i))))
        {
            let mut bytes = sound.clone();
            bytes[header + byte] ^= 1 << bit;
            assert_eq!(found(&bytes), Some(*header as u64), "byte {byte}, bit {bit}");
        }
        for hole in [0..512, 4096..8192, BLOCK..2 * BLOCK, 2 * BLOCK..2 * BLOCK + 7, last - 8..last] {
            let mut bytes = sound.clone();
            bytes[hole.clone()].fill(0);
            assert!(found(&bytes).is_some(), "zeros at {hole:?}");
        }
    }
}
