//! What of a revision is on disk already: the text of the journal. Pure.
//!
//! ```text
//! {"journal":2,"revision":"sha256:…","partBytes":8388608,"files":3,"bytes":123456789}
//! part 0 0 8388608 CRC64NVME … CRC32 … .   part 0 of file 0 is written and synced; its length, its CRC, and a
//!                                          second one where the store keeps another
//! whole 1 SHA-256 … .                      file 1 is complete and has the content that the store says; how it
//!                                          says so, if it does
//! drop 0 .                                 forget file 0: its content was wrong
//! ```
//!
//! Files are numbered in the order of the sorted listing, which the revision's digest fixes. A line counts
//! only when it is whole: a crash may tear the last one, or leave zeros where it was to be.

use std::collections::{BTreeMap, BTreeSet};

use larder_contract::Digest;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::expected::Expected;

const FORMAT: u32 = 2;

/// What a journal is about. One with another header is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    journal: u32,
    /// Stands for the whole listing.
    pub revision: Digest,
    /// The length of every part but a file's last.
    pub part_bytes: u64,
    /// How many files.
    pub files: u64,
    /// Their length together.
    pub bytes: u64,
}

impl Header {
    /// A header of today's format.
    #[must_use]
    pub const fn new(revision: Digest, part_bytes: u64, files: u64, bytes: u64) -> Self {
        Self { journal: FORMAT, revision, part_bytes, files, bytes }
    }

    /// The journal's first line.
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// A part that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDisk {
    /// Its length.
    pub length: u64,
    /// Its checksums, as its bytes came.
    pub sums: Vec<Checksum>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A part is on disk.
    Part {
        /// The file's number.
        file: u32,
        /// The part's number.
        index: u32,
        /// What is there.
        part: OnDisk,
    },
    /// A file is verified, against what the store says of it.
    Whole(u32, Option<Expected>),
    /// A file's content was wrong.
    Drop(u32),
}

impl Entry {
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Part { file, index, part: OnDisk { length, sums } } => {
                let sums: Vec<String> = sums.iter().map(ToString::to_string).collect();
                let words = [format!("part {file} {index} {length}"), sums.join(" "), ".\n".to_owned()];
                words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ")
            }
            Self::Whole(file, None) => format!("whole {file} .\n"),
            Self::Whole(file, Some(expected)) => format!("whole {file} {expected} .\n"),
            Self::Drop(file) => format!("drop {file} .\n"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.strip_suffix(" .")?.split(' ').collect();
        match words.as_slice() {
            ["part", file, index, length, sums @ ..] if sums.len() % 2 == 0 => {
                let sums = sums.chunks(2).map(|sum| sum.join(" ").parse().ok()).collect::<Option<_>>()?;
                let part = OnDisk { length: length.parse().ok()?, sums };
                Some(Self::Part { file: file.parse().ok()?, index: index.parse().ok()?, part })
            }
            ["whole", file] => Some(Self::Whole(file.parse().ok()?, None)),
            ["whole", file, name, value] => {
                let expected = format!("{name} {value}").parse().ok()?;
                Some(Self::Whole(file.parse().ok()?, Some(expected)))
            }
            ["drop", file] => Some(Self::Drop(file.parse().ok()?)),
            _ => None,
        }
    }
}

/// What a journal's entries come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    parts: BTreeMap<(u32, u32), OnDisk>,
    whole: BTreeMap<u32, Option<Expected>>,
}

impl Done {
    /// Whether this part is on disk.
    #[must_use]
    pub fn has_part(&self, file: u32, index: u32) -> bool {
        self.parts.contains_key(&(file, index))
    }

    /// The parts of a file that are on disk, in their order.
    pub fn parts_of(&self, file: u32) -> impl Iterator<Item = &OnDisk> {
        self.parts.range((file, 0)..=(file, u32::MAX)).map(|(_, part)| part)
    }

    /// Whether this file is verified.
    #[must_use]
    pub fn is_whole(&self, file: u32) -> bool {
        self.whole.contains_key(&file)
    }

    /// How many files are verified.
    #[must_use]
    pub fn whole_files(&self) -> u64 {
        self.whole.len() as u64
    }

    /// What a verified file was compared with.
    #[must_use]
    pub fn expected(&self, file: u32) -> Option<&Expected> {
        self.whole.get(&file)?.as_ref()
    }

    /// The files of which something is on disk.
    #[must_use]
    pub fn files(&self) -> BTreeSet<u32> {
        self.parts.keys().map(|(file, _)| *file).collect()
    }

    /// How many parts are on disk.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// How many bytes are on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.length).sum()
    }

    /// The entries that say all this.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let part =
            |(&(file, index), part): (&(u32, u32), &OnDisk)| Entry::Part { file, index, part: part.clone() };
        let whole = |(file, expected): (&u32, &Option<Expected>)| Entry::Whole(*file, expected.clone());
        self.parts.iter().map(part).chain(self.whole.iter().map(whole))
    }

    /// Takes one more entry in.
    pub fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Part { file, index, part } => {
                self.parts.insert((file, index), part);
            }
            Entry::Whole(file, expected) => {
                self.whole.insert(file, expected);
            }
            Entry::Drop(file) => {
                self.parts.retain(|(of, _), _| *of != file);
                self.whole.remove(&file);
            }
        }
    }
}

/// Reads a journal: its header, what is done, and how many of its bytes are whole lines. None when even
/// the header is not whole.
#[must_use]
pub fn read(text: &[u8]) -> Option<(Header, Done, usize)> {
    let mut done = Done::default();
    let (header, whole) = read_lines(text, |_| true, &mut done)?;
    Some((header, done, whole))
}

/// Reads a worker's journal on top of what others say is done, if it is about the same; answers how many of its
/// bytes are whole lines.
pub fn read_more(text: &[u8], header: &Header, done: &mut Done) -> Option<usize> {
    read_lines(text, |found| found == header, done).map(|(_, whole)| whole)
}

fn read_lines(text: &[u8], is_right: impl Fn(&Header) -> bool, done: &mut Done) -> Option<(Header, usize)> {
    let whole = text.iter().rposition(|b| *b == b'\n')? + 1;
    let mut lines = text[..whole].split(|b| *b == b'\n');
    let header: Header = serde_json::from_slice(lines.next()?).ok()?;
    if header.journal != FORMAT || !is_right(&header) {
        return None;
    }
    for entry in lines.filter_map(|line| std::str::from_utf8(line).ok().and_then(Entry::read)) {
        done.add(entry);
    }
    Some((header, whole))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checksum::Algorithm;

    fn header() -> Header {
        Header::new(Digest::of(b"x"), 8, 3, 20)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            (0u32..4, 0u32..4, 1u64..20, 0usize..3).prop_map(|(file, index, length, sums)| {
                let sum = |algorithm| Checksum::of(algorithm, &length.to_be_bytes());
                let sums =
                    [Algorithm::Crc64Nvme, Algorithm::Crc32C].into_iter().map(sum).take(sums).collect();
                Entry::Part { file, index, part: OnDisk { length, sums } }
            }),
            (0u32..4, 0u32..4).prop_map(|(file, parts)| {
                let checksum = Checksum::of(Algorithm::Crc32, b"x");
                Entry::Whole(
                    file,
                    match parts {
                        0 => None,
                        1 => Some(Expected::Whole(checksum)),
                        parts => Some(Expected::Composite { checksum, parts }),
                    },
                )
            }),
            (0u32..4).prop_map(Entry::Drop),
        ]
    }

    proptest! {
        /// Cut anywhere: what is read is what the whole lines before the cut say.
        #[test]
        fn a_torn_journal_reads_as_its_whole_lines(entries in prop::collection::vec(entry(), 0..12), cut in any::<prop::sample::Index>()) {
            let mut text = header().line();
            let mut states = vec![(text.len(), Done::default())];
            let mut done = Done::default();
            for e in entries {
                text.push_str(&e.line());
                done.add(e);
                states.push((text.len(), done.clone()));
            }
            let cut = cut.index(text.len() + 1);
            let expected = states.iter().rfind(|(length, _)| *length <= cut);
            let read = read(&text.as_bytes()[..cut]);
            prop_assert_eq!(
                read,
                expected.map(|(length, done)| (header(), done.clone(), *length))
            );
        }
    }

    proptest! {
        /// Read one on top of the other, journals come to what one journal of all their lines comes to; and that
        /// can be written as one again.
        #[test]
        fn several_journals_read_and_fold_as_one(entries in prop::collection::vec(entry(), 0..12), cut in any::<prop::sample::Index>()) {
            let text = |entries: &[Entry]| entries.iter().fold(header().line(), |text, e| text + &e.line());
            let all = read(text(&entries).as_bytes()).unwrap().1;
            let (first, second) = entries.split_at(cut.index(entries.len() + 1));
            let mut done = read(text(first).as_bytes()).unwrap().1;
            let second = text(second);
            prop_assert_eq!(read_more(second.as_bytes(), &header(), &mut done), Some(second.len()));
            prop_assert_eq!(&done, &all);
            prop_assert_eq!(read_more(second.as_bytes(), &Header::new(Digest::of(b"y"), 8, 3, 20), &mut done), None);
            prop_assert_eq!(&done, &all);
            let folded: Vec<Entry> = all.entries().collect();
            prop_assert_eq!(read(text(&folded).as_bytes()).unwrap().1, all);
        }
    }

    #[test]
    fn lines_that_are_not_whole_say_nothing() {
        for bad in [
            "part 0 1 .",
            "part 0 1 8",
            "part 0 1 8 . .",
            "part 0 1 8 CRC32 .",
            "part 0 1 8 CRC32 cbf4392 .",
            "whole .",
            "whole 1 CRC32 .",
            "\0\0\0\0",
            "part -1 0 8 .",
            "",
        ] {
            let text = format!("{}{bad}\nwhole 2 .\n", header().line());
            let (_, done, _) = read(text.as_bytes()).unwrap();
            assert!(done.is_whole(2) && !done.is_whole(1) && done.parts() == 0, "{bad:?}");
        }
        assert_eq!(read(b"{}\n"), None);
    }
}
