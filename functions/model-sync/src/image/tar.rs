//! A tar archive, read entry by entry from a stream.
//!
//! Of what tools write for images this reads all: the ustar form, PAX's records, GNU's long names and large sizes.
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// The most bytes that may describe one entry.
const MAX_DESCRIPTION: u64 = 1 << 20;

const BLOCK: usize = 512;

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    /// A file with the bytes that follow.
    File,
    /// A folder.
    Folder,
    /// Another name of an entry of the archive, or of one below it.
    Hard(String),
    /// A symbolic link to this.
    Symbolic(String),
    /// Something that is no part of a model, in words.
    #[serde(skip)]
    Other(#[serde(skip)] &'static str),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its name, as it is written.
    pub(super) path: String,
    /// What it makes.
    pub(super) kind: Kind,
    /// How many bytes follow.
    pub(super) size: u64,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is no tar archive: {0}")]
    Form(&'static str),
}

/// An archive. Reading from it gives the bytes of the entry that came last.
#[derive(Debug)]
pub(super) struct Archive<R> {
    from: R,
    /// Bytes of the entry that were not read.
    left: u64,
    /// Bytes after them, up to the next block.
    padding: u64,
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.from).take(self.left).read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl<R: Read> Archive<R> {
    pub(super) const fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0 }
    }

    /// What comes after the last entry that was read.
    pub(super) fn into_inner(self) -> R {
        self.from
    }

    /// The next entry; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut described = Described::default();
        loop {
            self.skip()?;
            let mut block = [0; BLOCK];
            self.from.read_exact(&mut block)?;
            if block == [0; BLOCK] {
                return Ok(None);
            }
            let header = Header::read(&block)?;
            match header.kind {
                b'L' => described.path = Some(text(until_zero(&self.description(header.size)?))?),
                b'K' => described.link = Some(text(until_zero(&self.description(header.size)?))?),
                b'x' => described.records(&self.description(header.size)?)?,
                // What it says of all entries says nothing of names and sizes.
                b'g' => drop(self.description(header.size)?),
                _ => {
                    let entry = described.entry(header)?;
                    self.begin(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        (self.left, self.padding) = (0, 0);
        if skipped < rest { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn description(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_DESCRIPTION {
            return Err(TarError::Form("an entry is described by more than 1 MiB"));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        (&mut *self).take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What a block says.
struct Header {
    path: String,
    link: String,
    size: u64,
    kind: u8,
}

impl Header {
    fn read(block: &[u8; BLOCK]) -> Result<Self, TarError> {
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let written: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        // The sum is made with spaces in its own place.
        if number(&block[148..156]) != Some(sum - written + 8 * u64::from(b' ')) {
            return Err(TarError::Form("the checksum of a header is another"));
        }
        let size = number(&block[124..136]).ok_or(TarError::Form("the size of an entry is no number"))?;
        let name = until_zero(&block[..100]);
        let prefix = until_zero(&block[345..500]);
        let is_posix = &block[257..263] == b"ustar\0";
        let path = if is_posix && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() };
        Ok(Self { path: text(&path)?, link: text(until_zero(&block[157..257]))?, size, kind: block[156] })
    }
}

/// What comes before an entry about it.
#[derive(Default)]
struct Described {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Described {
    /// PAX's: `LENGTH KEY=VALUE\n`, one after the other.
    fn records(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        const BAD: TarError = TarError::Form("a PAX record cannot be read");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
            let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|it| it.parse::<usize>().ok());
            let length = length.filter(|it| *it > space + 1 && *it <= bytes.len()).ok_or(BAD)?;
            let record = bytes[space + 1..length].strip_suffix(b"\n").ok_or(BAD)?;
            bytes = &bytes[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(text(value)?),
                b"linkpath" => self.link = Some(text(value)?),
                b"size" => self.size = Some(text(value)?.parse().map_err(|_| BAD)?),
                _ => self.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }

    fn entry(self, header: Header) -> Result<Entry, TarError> {
        let path = self.path.unwrap_or(header.path);
        let link = self.link.unwrap_or(header.link);
        let kind = match header.kind {
            b'0' | b'7' | 0 if self.is_sparse => Kind::Other("a sparse file"),
            b'0' | b'7' | 0 if path.ends_with('/') => Kind::Folder,
            b'0' | b'7' | 0 => Kind::File,
            b'1' => Kind::Hard(link),
            b'2' => Kind::Symbolic(link),
            b'3' | b'4' => Kind::Other("a device"),
            b'5' => Kind::Folder,
            b'6' => Kind::Other("a pipe"),
            b'S' => return Err(TarError::Form("it holds a sparse file in GNU's old form")),
            _ => return Err(TarError::Form("it holds an entry of an unknown kind")),
        };
        let has_bytes = matches!(header.kind, b'0' | b'7' | 0);
        let size = if has_bytes { self.size.unwrap_or(header.size) } else { 0 };
        // Longer than any file: its end could not be counted to.
        if size > 1 << 60 {
            return Err(TarError::Form("the size of an entry is no number"));
        }
        Ok(Entry { path, kind, size })
    }
}

fn text(bytes: &[u8]) -> Result<String, TarError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| TarError::Form("a name is no UTF-8"))
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// In octal digits, or, where the first bit is set, as GNU writes large ones.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // A negative one has all bits of the first byte set.
        let start = u64::from(first & 0x7f);
        return rest.iter().try_fold(start, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = std::str::from_utf8(until_zero(field)).ok()?.trim_matches(' ');
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
        let mut archive = Archive::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = archive.next()? {
            let mut content = Vec::new();
            archive.read_to_end(&mut content)?;
            all.push((entry, content));
        }
        Ok(all)
    }

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header
    }

    #[test]
    fn reads_what_another_writer_writes() {
        let long = "deep/".repeat(60) + "model.onnx";
        let mut written = tar::Builder::new(Vec::new());
        let mut file = header(tar::EntryType::Regular, 3);
        written.append_data(&mut file, "a.bin", &b"abc"[..]).unwrap();
        written.append_data(&mut header(tar::EntryType::Regular, 600), &long, &[7; 600][..]).unwrap();
        written.append_data(&mut header(tar::EntryType::Directory, 0), "folder/", &b""[..]).unwrap();
        written.append_link(&mut header(tar::EntryType::Symlink, 0), "soft", &long).unwrap();
        written.append_link(&mut header(tar::EntryType::Link, 0), "hard", "a.bin").unwrap();
        written.append_pax_extensions([("path", &b"by-pax"[..]), ("size", b"2")]).unwrap();
        // The size of the header is not the one that counts.
        let mut lies = header(tar::EntryType::Regular, 0);
        lies.set_path("other").unwrap();
        lies.set_cksum();
        written.get_mut().extend_from_slice(lies.as_bytes());
        written.get_mut().extend_from_slice(&[b"hi".as_slice(), &[0; 510]].concat());
        let entry = |path: &str, kind, size| Entry { path: path.to_owned(), kind, size };
        let want = vec![
            (entry("a.bin", Kind::File, 3), b"abc".to_vec()),
            (entry(&long, Kind::File, 600), vec![7; 600]),
            (entry("folder/", Kind::Folder, 0), vec![]),
            (entry("soft", Kind::Symbolic(long.clone()), 0), vec![]),
            (entry("hard", Kind::Hard("a.bin".to_owned()), 0), vec![]),
            (entry("by-pax", Kind::File, 2), b"hi".to_vec()),
        ];
        let written = written.into_inner().unwrap();
        assert_eq!(read(&written).unwrap(), want);
        for cut in [1, 511, 513, 1_500, written.len() - 1_024] {
            assert!(read(&written[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn large_sizes_are_read_in_both_forms() {
        let mut header = header(tar::EntryType::Regular, 0);
        for size in [0, 7, 0o77_777_777_777, 0o100_000_000_000, 50 << 40] {
            header.set_size(size);
            header.set_cksum();
            assert_eq!(Header::read(header.as_bytes()).unwrap().size, size);
        }
        header.as_mut_bytes()[124..136].fill(0xff);
        header.set_cksum();
        assert!(Header::read(header.as_bytes()).is_err());
    }

    proptest! {
        /// Whatever the bytes are, reading them ends, and takes no more memory than they and one description do.
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..4_000), kind in any::<u8>(), is_summed in any::<bool>()
        ) {
            if is_summed && bytes.len() >= BLOCK {
                let mut header = tar::Header::from_byte_slice(&bytes[..BLOCK]).clone();
                header.as_mut_bytes()[156] = kind;
                header.set_cksum();
                bytes[..BLOCK].copy_from_slice(header.as_bytes());
            }
            read(&bytes).ok();
        }
    }
}
