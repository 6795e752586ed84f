//! Does a file on disk have the content that the source says?
//!
//! The file is read back and hashed whole, so what is checked is what the functions will load, not what
//! came over the wire.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// CRC-32C (Castagnoli).
    Crc32C,
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// MD5: the `ETag` of an object that was uploaded in one piece and is not encrypted with a key.
    Md5,
}

impl Algorithm {
    /// Its name in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Crc32C => "CRC32C",
            Self::Crc32 => "CRC32",
            Self::Md5 => "MD5",
        }
    }
}

/// What a whole object's bytes must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// How.
    pub algorithm: Algorithm,
    /// The value's bytes, big-endian for a CRC.
    pub value: Vec<u8>,
}

impl Checksum {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hash = Hash::new(algorithm);
        hash.update(bytes);
        Self { algorithm, value: hash.finish() }
    }

    /// The checksum of the file at `path`; none when `is_stopped` became true before the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_file(
        algorithm: Algorithm,
        path: &Path,
        is_stopped: impl Fn() -> bool,
    ) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut hash = Hash::new(algorithm);
        let mut buffer = vec![0; 1 << 20];
        while !is_stopped() {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Some(Self { algorithm, value: hash.finish() })),
                Ok(n) => hash.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}

/// In lower-case hex, with the algorithm's name.
impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.algorithm.as_str(), hex::encode(&self.value))
    }
}

enum Hash {
    Sha256(Sha256),
    Md5(Md5),
    Crc { digest: crc_fast::Digest, bytes: usize },
}

impl Hash {
    fn new(algorithm: Algorithm) -> Self {
        let crc = |crc, bytes| Self::Crc { digest: crc_fast::Digest::new(crc), bytes };
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Md5 => Self::Md5(<Md5 as md5::Digest>::new()),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme, 8),
            Algorithm::Crc32C => crc(CrcAlgorithm::Crc32Iscsi, 4),
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc, 4),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Md5(hash) => md5::Digest::update(hash, bytes),
            Self::Crc { digest, .. } => digest.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(hash) => hash.finalize().to_vec(),
            Self::Md5(hash) => md5::Digest::finalize(hash).to_vec(),
            Self::Crc { digest, bytes } => digest.finalize().to_be_bytes()[8 - bytes..].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the algorithms' own specifications.
    #[test]
    fn known_values() {
        for (algorithm, want) in [
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Crc32C, "e3069283"),
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), b"123456789").unwrap();
            let have = Checksum::of(algorithm, b"123456789");
            assert_eq!(have.to_string(), format!("{} {want}", algorithm.as_str()));
            assert_eq!(Checksum::of_file(algorithm, file.path(), || false).unwrap(), Some(have));
            assert_eq!(Checksum::of_file(algorithm, file.path(), || true).unwrap(), None);
        }
    }
}
