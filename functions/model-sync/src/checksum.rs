//! The checksums that S3 keeps, computed: at once, piece by piece, or out of the CRCs of pieces.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::path::Path;

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use crate::crc::Polynomial;

/// What is read at once.
const READ_BYTES: usize = 1 << 20;

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-512.
    Sha512,
    /// SHA-256.
    Sha256,
    /// SHA-1.
    Sha1,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// CRC-32C (Castagnoli).
    Crc32C,
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// MD5: the `ETag` of an object that is not encrypted with a key.
    Md5,
    /// What git calls a blob: the SHA-1 of `blob`, its length and its bytes.
    GitBlob,
}

impl Algorithm {
    /// Its name in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha512 => "SHA-512",
            Self::Sha256 => "SHA-256",
            Self::Sha1 => "SHA-1",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Crc32C => "CRC32C",
            Self::Crc32 => "CRC32",
            Self::Md5 => "MD5",
            Self::GitBlob => "GIT-BLOB",
        }
    }

    /// The algorithm of this name in messages.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        use Algorithm::{Crc32, Crc32C, Crc64Nvme, GitBlob, Md5, Sha1, Sha256, Sha512};
        [Sha512, Sha256, Sha1, Crc64Nvme, Crc32C, Crc32, Md5, GitBlob]
            .into_iter()
            .find(|a| a.as_str() == name)
    }

    /// How many bytes a value has.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha512 => 64,
            Self::Sha256 => 32,
            Self::Sha1 | Self::GitBlob => 20,
            Self::Md5 => 16,
            Self::Crc64Nvme => 8,
            Self::Crc32C | Self::Crc32 => 4,
        }
    }

    /// The polynomial of the CRC that it is, if it is one: those of pieces give that of the whole.
    /// <https://reveng.sourceforge.io/crc-catalogue/all.htm>
    const fn polynomial(self) -> Option<Polynomial> {
        match self {
            Self::Crc64Nvme => Some(Polynomial::new(64, 0xad93_d235_94c9_3659)),
            Self::Crc32C => Some(Polynomial::new(32, 0x1edc_6f41)),
            Self::Crc32 => Some(Polynomial::new(32, 0x04c1_1db7)),
            Self::Sha512 | Self::Sha256 | Self::Sha1 | Self::Md5 | Self::GitBlob => None,
        }
    }

    /// Whether it is a CRC.
    #[must_use]
    pub const fn is_crc(self) -> bool {
        self.polynomial().is_some()
    }
}

/// What bytes hash to.
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
        let mut hash = Hash::of_length(algorithm, bytes.len() as u64);
        hash.update(bytes);
        hash.finish()
    }

    /// The checksums of a `range` of the file at `path`, read once; none when `is_stopped` became true before
    /// the end. A file that ends early gives the checksums of what there is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_range(
        algorithms: &[Algorithm],
        path: &Path,
        range: Range<u64>,
        is_stopped: impl Fn() -> bool,
    ) -> io::Result<Option<Vec<Self>>> {
        let mut file = File::open(path)?;
        file.seek(io::SeekFrom::Start(range.start))?;
        let mut file = file.take(range.end.saturating_sub(range.start));
        let length = range.end.saturating_sub(range.start);
        let new = |algorithm: &Algorithm| Hash::of_length(*algorithm, length);
        let mut hashes: Vec<Hash> = algorithms.iter().map(new).collect();
        let mut buffer = vec![0; READ_BYTES];
        while !is_stopped() {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Some(hashes.into_iter().map(Hash::finish).collect())),
                Ok(n) => {
                    for hash in &mut hashes {
                        hash.update(&buffer[..n]);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// The CRC of the whole out of those of its consecutive pieces, each with its length. None when a piece has
    /// another algorithm, or one that is no CRC.
    pub fn joined<'a>(
        algorithm: Algorithm,
        pieces: impl IntoIterator<Item = (&'a Self, u64)>,
    ) -> Option<Self> {
        let polynomial = algorithm.polynomial()?;
        let mut whole = None;
        for (piece, length) in pieces {
            if piece.algorithm != algorithm {
                return None;
            }
            whole = Some(match whole {
                None => piece.number(),
                Some(before) => polynomial.joined(before, piece.number(), length),
            });
        }
        let whole = whole.unwrap_or_else(|| Hash::new(algorithm).finish().number());
        let value = whole.to_be_bytes()[8 - algorithm.length()..].to_vec();
        Some(Self { algorithm, value })
    }

    /// A CRC as the number that it is.
    fn number(&self) -> u64 {
        self.value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// In lower-case hex, with the algorithm's name.
impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.algorithm.as_str(), hex::encode(&self.value))
    }
}

/// Reads what is displayed.
impl std::str::FromStr for Checksum {
    type Err = NotAChecksum;

    fn from_str(text: &str) -> Result<Self, NotAChecksum> {
        let read = || {
            let (name, digits) = text.split_once(' ')?;
            let algorithm = Algorithm::named(name)?;
            let value = hex::decode(digits).ok()?;
            (value.len() == algorithm.length()).then_some(Self { algorithm, value })
        };
        read().ok_or_else(|| NotAChecksum::of(text))
    }
}

/// Text that is not a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a checksum: write an algorithm's name, a space and lower-case hex digits")]
pub struct NotAChecksum(String);

impl NotAChecksum {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A checksum in the making.
#[derive(Debug)]
pub struct Hash {
    algorithm: Algorithm,
    state: State,
}

#[derive(Debug)]
enum State {
    Sha512(Box<Sha512>),
    Sha256(Sha256),
    Sha1(Sha1),
    Md5(Md5),
    Crc(crc_fast::Digest),
}

impl Hash {
    /// Of no bytes yet, and not known how many.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self::of_length(algorithm, 0)
    }

    /// Of no bytes yet, where `length` are to come.
    #[must_use]
    pub fn of_length(algorithm: Algorithm, length: u64) -> Self {
        let state = match algorithm {
            Algorithm::Sha512 => State::Sha512(Box::default()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha1 => State::Sha1(<Sha1 as sha1::Digest>::new()),
            Algorithm::GitBlob => {
                State::Sha1(<Sha1 as sha1::Digest>::new_with_prefix(format!("blob {length}\0")))
            }
            Algorithm::Md5 => State::Md5(<Md5 as md5::Digest>::new()),
            Algorithm::Crc64Nvme => State::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
            Algorithm::Crc32C => State::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            Algorithm::Crc32 => State::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
        };
        Self { algorithm, state }
    }

    /// Takes in the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha512(hash) => hash.update(bytes),
            State::Sha256(hash) => hash.update(bytes),
            State::Sha1(hash) => sha1::Digest::update(hash, bytes),
            State::Md5(hash) => md5::Digest::update(hash, bytes),
            State::Crc(digest) => digest.update(bytes),
        }
    }

    /// The checksum of all that was taken in.
    #[must_use]
    pub fn finish(self) -> Checksum {
        let value = match self.state {
            State::Sha512(hash) => hash.finalize().to_vec(),
            State::Sha256(hash) => hash.finalize().to_vec(),
            State::Sha1(hash) => sha1::Digest::finalize(hash).to_vec(),
            State::Md5(hash) => md5::Digest::finalize(hash).to_vec(),
            State::Crc(digest) => digest.finalize().to_be_bytes()[8 - self.algorithm.length()..].to_vec(),
        };
        Checksum { algorithm: self.algorithm, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Algorithm, &str); 7] = [
        (
            Algorithm::Sha512,
            "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d4\
             99c95455b6b5bb503acf574fba8ffe85",
        ),
        (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        (Algorithm::Crc64Nvme, "ae8b14860a799888"),
        (Algorithm::Crc32C, "e3069283"),
        (Algorithm::Crc32, "cbf43926"),
        (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b"),
    ];

    /// The check values of the algorithms' own specifications.
    #[test]
    fn known_values() {
        for (algorithm, want) in ALL {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), b"xx123456789yyy").unwrap();
            let have = Checksum::of(algorithm, b"123456789");
            assert_eq!(have.to_string(), format!("{} {want}", algorithm.as_str()));
            assert_eq!(have.to_string().parse(), Ok(have.clone()));
            let read = Checksum::of_range(&[algorithm], file.path(), 2..11, || false).unwrap();
            assert_eq!(read, Some(vec![have]));
            assert_eq!(Checksum::of_range(&[algorithm], file.path(), 0..11, || true).unwrap(), None);
        }
        for text in
            ["", "CRC32", "CRC32 ", "CRC32 cbf4392", "CRC32 cbf4392600", "CRC16 cbf4", "crc32 cbf43926"]
        {
            assert!(text.parse::<Checksum>().is_err(), "{text}");
        }
    }

    #[test]
    fn crcs_of_pieces_give_that_of_the_whole() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
        for (algorithm, _) in ALL {
            for cuts in [&[][..], &[0], &[1], &[10_000], &[7, 7, 4_096], &[5_000, 9_999]] {
                let mut pieces = Vec::new();
                let mut from = 0;
                for to in cuts.iter().copied().chain([bytes.len()]) {
                    pieces.push((Checksum::of(algorithm, &bytes[from..to]), (to - from) as u64));
                    from = to;
                }
                let joined =
                    Checksum::joined(algorithm, pieces.iter().map(|(piece, length)| (piece, *length)));
                assert_eq!(joined, algorithm.is_crc().then(|| Checksum::of(algorithm, &bytes)));
            }
        }
        let other = Checksum::of(Algorithm::Crc32, b"x");
        assert_eq!(Checksum::joined(Algorithm::Crc32C, [(&other, 1)]), None);
    }
}
