//! What a store says that an object's bytes hash to, and whether they do.
//!
//! S3 keeps one of two things of an object that was uploaded in parts: the checksum of its bytes, or a
//! composite, the checksum of the checksums of its parts. A composite can be computed only with the borders
//! between the parts. Most uploaders make all parts but the last equally long, so the first part's length and
//! the number of parts give them; where that composite differs, every part is asked for its length. Equal
//! composites prove equal bytes, however the borders were found.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>

use std::fmt;
use std::str::FromStr;

use crate::checksum::{Algorithm, Checksum, Hash, NotAChecksum};

/// The most parts that S3 lets an object have.
pub const MAX_PARTS: u32 = 10_000;

/// What an object must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// All of its bytes.
    Whole(Checksum),
    /// The checksums of its parts, one after the other.
    Composite {
        /// Of the parts' checksums.
        checksum: Checksum,
        /// How many parts.
        parts: u32,
    },
}

impl Expected {
    /// How it is computed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Whole(checksum) | Self::Composite { checksum, .. } => checksum.algorithm,
        }
    }

    /// The parts that the object was uploaded in, as far as they matter here.
    #[must_use]
    pub const fn parts(&self) -> u32 {
        match self {
            Self::Whole(_) => 1,
            Self::Composite { parts, .. } => *parts,
        }
    }

    /// The same for an object with these checksums of its parts.
    #[must_use]
    pub fn have(&self, parts: &[Checksum]) -> Self {
        match (self, parts) {
            (Self::Whole(_), [whole]) => Self::Whole(whole.clone()),
            _ => Self::composite(self.algorithm(), parts),
        }
    }

    /// The composite of an object with these checksums of its parts.
    #[must_use]
    pub fn composite(algorithm: Algorithm, parts: &[Checksum]) -> Self {
        let mut hash = Hash::new(algorithm);
        for part in parts {
            hash.update(&part.value);
        }
        Self::Composite { checksum: hash.finish(), parts: u32::try_from(parts.len()).unwrap_or(u32::MAX) }
    }
}

/// The lengths of the parts of an object, all but the last as long as the first; none when no such parts give
/// this size.
#[must_use]
pub fn uniform(size: u64, parts: u32, first: u64) -> Option<Vec<u64>> {
    let before = first.checked_mul(u64::from(parts.checked_sub(1)?))?;
    let last = size.checked_sub(before).filter(|last| (1..=first).contains(last))?;
    let mut lengths = vec![first; parts as usize - 1];
    lengths.push(last);
    Some(lengths)
}

/// The checksums of an object's parts, of these `lengths`, out of those of consecutive pieces. None when a
/// border lies within a piece, or a piece has another algorithm.
#[must_use]
pub fn parts_of_pieces(
    algorithm: Algorithm,
    lengths: &[u64],
    pieces: &[(Checksum, u64)],
) -> Option<Vec<Checksum>> {
    let mut rest = pieces;
    let parts = lengths.iter().map(|length| {
        let mut sum = 0;
        let count = rest.iter().take_while(|(_, piece)| {
            let fits = sum + piece <= *length;
            sum += if fits { *piece } else { 0 };
            fits
        });
        let (part, after) = rest.split_at(count.count());
        rest = after;
        (sum == *length).then_some(())?;
        Checksum::joined(algorithm, part.iter().map(|(checksum, length)| (checksum, *length)))
    });
    parts.collect()
}

/// As S3 writes it, but in hex: a composite ends in its number of parts.
impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(checksum) => fmt::Display::fmt(checksum, f),
            Self::Composite { checksum, parts } => write!(f, "{checksum}-{parts}"),
        }
    }
}

impl FromStr for Expected {
    type Err = NotAChecksum;

    fn from_str(text: &str) -> Result<Self, NotAChecksum> {
        // The dashes in algorithms' names come before the space.
        let (checksum, parts) = match text.rsplit_once('-') {
            Some((checksum, parts)) if checksum.contains(' ') => (checksum, parts.parse().ok()),
            _ => return Ok(Self::Whole(text.parse()?)),
        };
        let checksum = checksum.parse()?;
        parts.map(|parts| Self::Composite { checksum, parts }).ok_or_else(|| NotAChecksum::of(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_parts_give_the_size_or_do_not_exist() {
        for (size, parts, first, want) in [
            (10, 3, 4, Some(vec![4, 4, 2])),
            (12, 3, 4, Some(vec![4, 4, 4])),
            (4, 1, 4, Some(vec![4])),
            (13, 3, 4, None),
            (8, 3, 4, None),
            (3, 1, 4, Some(vec![3])),
            (5, 0, 5, None),
            (u64::MAX, 3, u64::MAX, None),
        ] {
            assert_eq!(uniform(size, parts, first), want);
        }
    }

    #[test]
    fn reads_what_it_writes() {
        for text in
            ["SHA-256 15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225", "CRC32 cbf43926-3"]
        {
            assert_eq!(text.parse::<Expected>().unwrap().to_string(), text);
        }
        for text in ["SHA-256", "CRC32 cbf43926-", "CRC32 cbf43926-x", "CRC32-3", ""] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }

    /// The composite of the user guide's rule, computed here by hand: a checksum over the raw values.
    #[test]
    fn a_composite_is_the_checksum_of_the_parts_checksums() {
        let bytes = b"123456789";
        for algorithm in
            [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Crc32, Algorithm::Crc32C, Algorithm::Md5]
        {
            let parts = [Checksum::of(algorithm, &bytes[..5]), Checksum::of(algorithm, &bytes[5..])];
            let raw = [parts[0].value.clone(), parts[1].value.clone()].concat();
            let want = Expected::Composite { checksum: Checksum::of(algorithm, &raw), parts: 2 };
            assert_eq!(want.have(&parts), want);
        }
    }

    proptest! {
        /// Pieces give the parts exactly where every border of a part is one of a piece.
        #[test]
        fn parts_come_out_of_pieces_that_meet_their_borders(
            piece in 1usize..40, part in 1usize..200, size in 1usize..900
        ) {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 256).to_le_bytes()[0]).collect();
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32C, Algorithm::Crc64Nvme] {
                let pieces: Vec<_> =
                    bytes.chunks(piece).map(|c| (Checksum::of(algorithm, c), c.len() as u64)).collect();
                let lengths: Vec<u64> = bytes.chunks(part).map(|c| c.len() as u64).collect();
                let want: Vec<_> = bytes.chunks(part).map(|c| Checksum::of(algorithm, c)).collect();
                let meet = part % piece == 0 || lengths.len() == 1;
                prop_assert_eq!(parts_of_pieces(algorithm, &lengths, &pieces), meet.then_some(want));
            }
        }
    }
}
