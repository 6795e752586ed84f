//! What was recorded of a revision when it was copied: each file's size and checksums. Pure.
//!
//! ```text
//! {"record":1,"revision":"sha256:…","files":2,"bytes":123456789}
//! {"path":"det/model.onnx","size":123456489,"etag":"…","crc64nvme":"ae8b14860a799888","source":"CRC32 …-15"}
//! {"path":"keys.txt","size":300,"etag":"…","crc64nvme":"…","source":"SHA-256 …"}
//! {"end":"CRC64NVME …"}
//! ```
//!
//! Of an image, the first line has its `layers` too, each as a file is written.
//!
//! It lies beside the revision's folder, which holds the model's files and nothing else. It vouches for itself:
//! paths, sizes and `ETag`s, of the layers where there are some, must give the revision's own digest, or that of
//! which it is a copy, and the last line is the checksum of all before it.

use larder_contract::{Digest, ObjectEntry, revision};
use serde::{Deserialize, Serialize};

use crate::checksum::{Algorithm, Checksum};
use crate::expected::Expected;

const FORMAT: u32 = 1;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Path, size and `ETag`.
    pub object: ObjectEntry,
    /// CRC64NVME of its bytes as they came.
    pub crc: Checksum,
    /// What the store said of it, and it was compared with.
    pub source: Option<Expected>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    record: u32,
    revision: Digest,
    files: u64,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<ObjectEntry>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    object: ObjectEntry,
    crc64nvme: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct End {
    end: String,
}

/// A record that cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record is damaged: {0}; copy the revision again")]
pub struct DamagedRecord(&'static str);

/// The text of a record.
#[must_use]
pub fn write(revision: &Digest, layers: &[ObjectEntry], files: &[Recorded]) -> Vec<u8> {
    let bytes = files.iter().map(|file| file.object.size).sum();
    let (files_in_all, layers) = (files.len() as u64, layers.to_vec());
    let head = Head { record: FORMAT, revision: *revision, files: files_in_all, bytes, layers };
    let mut text = line(&head);
    for file in files {
        text.extend(line(&Line {
            object: file.object.clone(),
            crc64nvme: hex::encode(&file.crc.value),
            source: file.source.as_ref().map(ToString::to_string),
        }));
    }
    sealed(text)
}

/// Lines, and one more that is the checksum of all before it.
pub(crate) fn sealed(mut text: Vec<u8>) -> Vec<u8> {
    let end = End { end: Checksum::of(Algorithm::Crc64Nvme, &text).to_string() };
    text.extend(line(&end));
    text
}

/// The lines of what was [`sealed`], without the last.
///
/// # Errors
/// When it is not whole.
pub(crate) fn unsealed(text: &[u8]) -> Result<impl Iterator<Item = &[u8]>, DamagedRecord> {
    let cut = text.strip_suffix(b"\n").ok_or(DamagedRecord("its last line is cut off"))?;
    let last = cut.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let end: End = serde_json::from_slice(&cut[last..]).map_err(|_| DamagedRecord("it has no end"))?;
    let (lines, _) = text.split_at(last);
    if end.end != Checksum::of(Algorithm::Crc64Nvme, lines).to_string() {
        return Err(DamagedRecord("its checksum is another"));
    }
    Ok(lines.split_inclusive(|b| *b == b'\n'))
}

pub(crate) fn line(value: &impl Serialize) -> Vec<u8> {
    // These types always serialise; should they not, the record reads as damaged.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The files of a record of this revision.
///
/// # Errors
/// When it is not whole, or of another revision.
pub fn read(wanted: &Digest, text: &[u8]) -> Result<Vec<Recorded>, DamagedRecord> {
    let mut lines = unsealed(text)?;
    let head: Option<Head> = lines.next().and_then(|head| serde_json::from_slice(head).ok());
    let head = head.filter(|head| head.record == FORMAT).ok_or(DamagedRecord("its format is unknown"))?;
    let files: Option<Vec<Recorded>> = lines.map(recorded).collect();
    let files = files.ok_or(DamagedRecord("a line cannot be read"))?;
    let objects: Vec<ObjectEntry> = match head.layers {
        none if none.is_empty() => files.iter().map(|file| file.object.clone()).collect(),
        layers => layers,
    };
    if head.revision != *wanted || !revision::is_copy_of(wanted, &revision::revision(&objects)) {
        return Err(DamagedRecord("it is of another revision"));
    }
    Ok(files)
}

fn recorded(line: &[u8]) -> Option<Recorded> {
    let Line { object, crc64nvme, source } = serde_json::from_slice(line).ok()?;
    let crc = format!("{} {crc64nvme}", Algorithm::Crc64Nvme.as_str()).parse().ok()?;
    let source = source.map(|text| text.parse()).transpose().ok()?;
    Some(Recorded { object, crc, source })
}

#[cfg(test)]
mod tests {
    use larder_contract::revision::RelativePath;

    use super::*;

    fn file(path: &str, source: Option<Expected>) -> Recorded {
        let path = RelativePath::parse(path).unwrap();
        let object = ObjectEntry { path, size: 9, etag: "e".to_owned() };
        Recorded { object, crc: Checksum::of(Algorithm::Crc64Nvme, b"123456789"), source }
    }

    #[test]
    fn reads_what_it_writes_and_notices_every_changed_byte() {
        let whole = Expected::Whole(Checksum::of(Algorithm::Sha256, b"123456789"));
        let parts = [Checksum::of(Algorithm::Crc32, b"1234"), Checksum::of(Algorithm::Crc32, b"56789")];
        let composite = Expected::composite(Algorithm::Crc32, &parts);
        let files = [file("a \"ü\"", None), file("b/c", Some(whole)), file("d", Some(composite))].to_vec();
        let objects: Vec<_> = files.iter().map(|f| f.object.clone()).collect();
        let layers = [ObjectEntry { etag: "layer".to_owned(), ..objects[0].clone() }];
        for layers in [&[][..], &layers] {
            let named = if layers.is_empty() { &objects[..] } else { layers };
            check(&revision::revision(named), layers, &files);
        }
    }

    fn check(revision: &Digest, layers: &[ObjectEntry], files: &[Recorded]) {
        let text = write(revision, layers, files);
        assert_eq!(read(revision, &text).as_deref(), Ok(files));
        for at in 0..text.len() {
            let mut wrong = text.clone();
            wrong[at] ^= 1;
            assert!(read(revision, &wrong).is_err(), "byte {at}");
            assert!(read(revision, &text[..at]).is_err(), "cut at {at}");
        }
        assert!(read(&Digest::of(b"other"), &text).is_err());
    }
}
