//! A prepared file ends in a checksum of what is before it. ONNX Runtime looks at the structure of what it opens
//! and not at the weights: with one that was damaged it would answer, and wrongly.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use crc_fast::CrcAlgorithm::Crc64Nvme;

use super::reading;

/// Bytes of the checksum: CRC-64/NVME, which S3 has for objects too, the lowest byte first.
const LENGTH: usize = size_of::<u64>();

/// Puts the checksum at the end of a file.
///
/// # Errors
/// When the file cannot be read or written.
pub fn seal(path: &Path) -> io::Result<()> {
    let checksum = crc_fast::checksum(Crc64Nvme, &reading::whole(path)?);
    OpenOptions::new().append(true).open(path)?.write_all(&checksum.to_le_bytes())
}

/// What a sealed file holds, if it is as it was when it was sealed.
pub(super) fn content(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (content, checksum) = bytes.split_last_chunk::<LENGTH>()?;
    let is_whole = crc_fast::checksum(Crc64Nvme, content) == u64::from_le_bytes(*checksum);
    bytes.truncate(bytes.len() - LENGTH);
    is_whole.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_every_other_length_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"123456789").unwrap();
        seal(&path).unwrap();
        let sealed = std::fs::read(&path).unwrap();
        // The check value of CRC-64/NVME.
        assert_eq!(sealed[9..], 0xae8b_1486_0a79_9888_u64.to_le_bytes());
        assert_eq!(content(sealed.clone()).unwrap(), b"123456789");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(content(damaged).is_none() && content(sealed[..at].to_vec()).is_none(), "{at}");
        }
    }
}
