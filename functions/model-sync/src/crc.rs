//! CRCs of consecutive pieces, put together.
//!
//! A CRC is the rest of the bytes, taken as a polynomial over two elements, in a division. Bytes that follow shift
//! what was before: they multiply it by x to the eighth for each.

/// What a reflected CRC divides by: the coefficient of the greatest power is the lowest bit, and left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Polynomial {
    width: u32,
    reflected: u64,
}

impl Polynomial {
    /// That of so many bits, written as catalogues do: the greatest power first, and left out.
    pub(crate) const fn new(width: u32, normal: u64) -> Self {
        Self { width, reflected: normal.reverse_bits() >> (64 - width) }
    }

    /// The CRC of a whole out of that of its beginning and that of the `length` bytes that follow. What a CRC begins
    /// with and is mixed with at the end must be the same, as it is in those of S3: then the two cancel.
    pub(crate) const fn joined(self, before: u64, after: u64, length: u64) -> u64 {
        self.product(before, self.shift(length)) ^ after
    }

    /// One, as a polynomial: x to the power of 0.
    const fn one(self) -> u64 {
        1 << (self.width - 1)
    }

    /// x to the power of 8 times `length`.
    const fn shift(self, length: u64) -> u64 {
        let (mut shift, mut square, mut rest) = (self.one(), self.one() >> 8, length);
        while rest > 0 {
            if rest & 1 == 1 {
                shift = self.product(shift, square);
            }
            square = self.product(square, square);
            rest >>= 1;
        }
        shift
    }

    /// The rest of a product.
    const fn product(self, one: u64, mut other: u64) -> u64 {
        let (mut product, mut bit) = (0, self.one());
        while bit > 0 {
            if one & bit != 0 {
                product ^= other;
            }
            bit >>= 1;
            other = if other & 1 == 1 { (other >> 1) ^ self.reflected } else { other >> 1 };
        }
        product
    }
}

#[cfg(test)]
mod tests {
    use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc, Crc64Nvme};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As another implementation joins them, whatever the numbers.
        #[test]
        fn joins_as_others_do(before: u64, after: u64, length in prop_oneof![0_u64..100, 0..=u64::MAX >> 4]) {
            for (width, normal, other) in [
                (64, 0xad93_d235_94c9_3659, Crc64Nvme),
                (32, 0x1edc_6f41, Crc32Iscsi),
                (32, 0x04c1_1db7, Crc32IsoHdlc),
            ] {
                let mask = u64::MAX >> (64 - width);
                let (before, after) = (before & mask, after & mask);
                let theirs = crc_fast::checksum_combine(other, before, after, length);
                prop_assert_eq!(Polynomial::new(width, normal).joined(before, after, length), theirs);
            }
        }
    }
}
