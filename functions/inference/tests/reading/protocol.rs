//! As much of the kernel's FUSE protocol (`linux/fuse.h`, 7.31) as a folder that is only read needs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// The longest request: none that is sent here has more than a name in it, but the kernel wants the room.
pub(crate) const BUFFER: usize = 256 << 10;

/// A number of `errno.h`.
pub(crate) type Error = i32;
pub(crate) const NOT_THERE: Error = 2;
pub(crate) const NOT_DONE: Error = 38;

/// Seconds that names and attributes stay known, as on a mount of NFS.
const KEPT: u64 = 60;
/// What was read stays known when a file is opened again: revisions do not change.
const KEEP_CACHE: u32 = 1 << 1;
/// Several reads at once, lookups at once, and reads of more than 128 KiB.
const FLAGS: u32 = 1 | 1 << 5 | 1 << 18 | 1 << 22;
/// The kernel's own bound on what it reads ahead.
const READ_AHEAD: u32 = 128 << 10;
const BACKGROUND: u16 = 64;
const PAGES: u16 = 256;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    Begin,
    Lookup(&'a [u8]),
    Attributes,
    Open,
    List { offset: usize },
    Read { offset: u64, size: usize },
    Close,
    Forget,
    Other,
}

#[derive(Debug)]
pub(crate) struct Request<'a> {
    unique: u64,
    pub(crate) inode: u64,
    pub(crate) asked: Asked<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) is_folder: bool,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Begun,
    Entry(Attributes),
    Attributes(Attributes),
    Opened,
    Entries(Vec<(u64, OsString, bool)>, usize),
    Bytes(Vec<u8>),
    Error(Error),
    Nothing,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl<'a> Request<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let body = &bytes[40..];
        let asked = match word(bytes, 4) {
            1 => Asked::Lookup(&body[..body.len() - 1]),
            2 | 36 | 42 => Asked::Forget,
            3 => Asked::Attributes,
            14 | 27 => Asked::Open,
            15 => Asked::Read { offset: long(body, 8), size: word(body, 16) as usize },
            18 | 25 | 29 | 38 => Asked::Close,
            26 => Asked::Begin,
            28 => Asked::List { offset: usize::try_from(long(body, 8)).unwrap() },
            _ => Asked::Other,
        };
        Self { unique: long(bytes, 8), inode: long(bytes, 16), asked }
    }

    /// The bytes of the answer, if there is one.
    pub(crate) fn answered(&self, answer: &Answer) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let mut error = 0;
        match answer {
            Answer::Nothing => return None,
            Answer::Error(number) => error = -number,
            Answer::Begun => {
                body.extend([7, 31, READ_AHEAD, FLAGS].iter().flat_map(|n| n.to_ne_bytes()));
                body.extend([BACKGROUND, BACKGROUND].iter().flat_map(|n| n.to_ne_bytes()));
                body.extend([128 << 10, 1_u32].iter().flat_map(|n| n.to_ne_bytes()));
                body.extend(PAGES.to_ne_bytes());
                body.resize(64, 0);
            }
            Answer::Entry(about) => {
                body.extend([about.inode, 0, KEPT, KEPT, 0].iter().flat_map(|n| n.to_ne_bytes()));
                body.extend(about.bytes());
            }
            Answer::Attributes(about) => {
                body.extend([KEPT, 0].iter().flat_map(|n| n.to_ne_bytes()));
                body.extend(about.bytes());
            }
            Answer::Opened => {
                body.extend(0_u64.to_ne_bytes());
                body.extend(KEEP_CACHE.to_ne_bytes());
                body.extend(0_u32.to_ne_bytes());
            }
            Answer::Entries(entries, offset) => {
                for (at, (inode, name, is_folder)) in entries.iter().enumerate().skip(*offset) {
                    body.extend([*inode, at as u64 + 1].iter().flat_map(|n| n.to_ne_bytes()));
                    let kind = if *is_folder { 4 } else { 8 };
                    let length = u32::try_from(name.len()).unwrap();
                    body.extend([length, kind].iter().flat_map(|n| n.to_ne_bytes()));
                    body.extend(name.as_bytes());
                    body.resize(body.len().next_multiple_of(8), 0);
                }
            }
            Answer::Bytes(bytes) => body.extend(bytes),
        }
        let mut bytes = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        bytes.extend(error.to_ne_bytes());
        bytes.extend(self.unique.to_ne_bytes());
        bytes.extend(body);
        Some(bytes)
    }
}

impl Attributes {
    fn bytes(self) -> Vec<u8> {
        let mode: u32 = if self.is_folder { 0o40_755 } else { 0o100_644 };
        let longs = [self.inode, self.size, self.size.div_ceil(512), 0, 0, 0];
        // Nanoseconds of three times; links, owners, device, size of blocks, flags.
        let words = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
        longs.iter().flat_map(|n| n.to_ne_bytes()).chain(words.iter().flat_map(|n| n.to_ne_bytes())).collect()
    }
}
