//! What of a revision is on disk already: the text of the journal. Pure.
//!
//! ```text
//! {"journal":1,"revision":"sha256:…","partBytes":8388608,"files":3,"bytes":123456789}
//! part 0 0 8388608 .       part 0 of file 0 is written and synced; its length
//! whole 1 .                file 1 is complete and its content verified
//! drop 0 .                 forget file 0: its content was wrong
//! ```
//!
//! Files are numbered in the order of the sorted listing, which the revision's digest fixes. A line counts
//! only when it is whole: a crash may tear the last one, or leave zeros where it was to be.

use std::collections::{BTreeMap, BTreeSet};

use larder_contract::Digest;
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;

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

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A part is on disk.
    Part {
        /// The file's number.
        file: u32,
        /// The part's number.
        index: u32,
        /// Its length.
        length: u64,
    },
    /// A file is verified.
    Whole(u32),
    /// A file's content was wrong.
    Drop(u32),
}

impl Entry {
    pub(crate) fn line(self) -> String {
        match self {
            Self::Part { file, index, length } => format!("part {file} {index} {length} .\n"),
            Self::Whole(file) => format!("whole {file} .\n"),
            Self::Drop(file) => format!("drop {file} .\n"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let mut small = || number().and_then(|n| u32::try_from(n).ok());
        let entry = match kind {
            "part" => Self::Part { file: small()?, index: small()?, length: number()? },
            "whole" => Self::Whole(small()?),
            "drop" => Self::Drop(small()?),
            _ => return None,
        };
        (words.next() == Some(".") && words.next().is_none()).then_some(entry)
    }
}

/// What a journal's entries come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    parts: BTreeMap<(u32, u32), u64>,
    whole: BTreeSet<u32>,
}

impl Done {
    /// Whether this part is on disk.
    #[must_use]
    pub fn has_part(&self, file: u32, index: u32) -> bool {
        self.parts.contains_key(&(file, index))
    }

    /// Whether this file is verified.
    #[must_use]
    pub fn is_whole(&self, file: u32) -> bool {
        self.whole.contains(&file)
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
        self.parts.values().sum()
    }

    /// Takes one more entry in.
    pub fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Part { file, index, length } => {
                self.parts.insert((file, index), length);
            }
            Entry::Whole(file) => {
                self.whole.insert(file);
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
    let whole = text.iter().rposition(|b| *b == b'\n')? + 1;
    let mut lines = text[..whole].split(|b| *b == b'\n');
    let header: Header = serde_json::from_slice(lines.next()?).ok()?;
    if header.journal != FORMAT {
        return None;
    }
    let mut done = Done::default();
    for entry in lines.filter_map(|line| std::str::from_utf8(line).ok().and_then(Entry::read)) {
        done.add(entry);
    }
    Some((header, done, whole))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header::new(Digest::of(b"x"), 8, 3, 20)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            (0u32..4, 0u32..4, 1u64..20).prop_map(|(file, index, length)| Entry::Part {
                file,
                index,
                length
            }),
            (0u32..4).prop_map(Entry::Whole),
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

    #[test]
    fn lines_that_are_not_whole_say_nothing() {
        for bad in ["part 0 1 .", "part 0 1 8", "part 0 1 8 . .", "whole .", "\0\0\0\0", "part -1 0 8 .", ""]
        {
            let text = format!("{}{bad}\nwhole 2 .\n", header().line());
            let (_, done, _) = read(text.as_bytes()).unwrap();
            assert!(done.is_whole(2) && done.parts() == 0, "{bad:?}");
        }
        assert_eq!(read(b"{}\n"), None);
    }
}
