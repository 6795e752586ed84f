//! A layer, unpacked as a stream: bounded in length, and hashed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use larder_contract::Digest;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// How many bytes of a layer are read from the disk at once.
const READ_BYTES: usize = 256 << 10;

/// How much more than its own length a layer may unpack to. Weights shrink to a half at the best; a small layer made
/// to fill a disk unpacks to thousands of times its length.
const MOST_TIMES: u64 = 100;
const MOST_OF_SMALL: u64 = 256 << 20;

/// The bytes of a layer as they were before they were compressed, by gzip, zstd or not at all.
pub(super) struct Layer<'a> {
    from: Box<dyn Read + 'a>,
    hash: Option<Sha256>,
    left: u64,
    stop: &'a CancellationToken,
}

impl std::fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a> Layer<'a> {
    /// Reads a layer of this length; it is hashed if `is_hashed`.
    pub(super) fn open(
        file: File,
        length: u64,
        is_hashed: bool,
        stop: &'a CancellationToken,
    ) -> io::Result<Self> {
        let mut packed = BufReader::with_capacity(READ_BYTES, file);
        // What a layer's media type says was checked; what it is, it says itself.
        let from: Box<dyn Read> = match packed.fill_buf()? {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(packed)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Box::new(Frames { decoder: FrameDecoder::new(), is_in_frame: false, from: packed })
            }
            _ => Box::new(packed),
        };
        let left = length.saturating_mul(MOST_TIMES).max(MOST_OF_SMALL);
        Ok(Self { from, hash: is_hashed.then(Sha256::new), left, stop })
    }

    /// Reads what is left; answers what all of it hashes to, if it was to be hashed.
    pub(super) fn finish(mut self) -> io::Result<Option<Digest>> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hash.map(|hash| Digest::from_bytes(hash.finalize().into())))
    }
}

impl Read for Layer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let read = self.from.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            let why = format!("it unpacks to more than {MOST_TIMES} times its length");
            return Err(io::Error::other(why));
        };
        self.left = left;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..read]);
        }
        Ok(read)
    }
}

/// Zstandard's frames, one after the other; those that hold no bytes are left out.
struct Frames<R> {
    decoder: FrameDecoder,
    is_in_frame: bool,
    from: R,
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.from.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.from) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.from).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_in_frame {
                let decoder = &mut self.decoder;
                while decoder.can_collect() == 0 && !decoder.is_finished() {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    decoder.decode_blocks(&mut self.from, one).map_err(io::Error::other)?;
                }
                let read = decoder.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            self.is_in_frame = self.begin()?;
            if !self.is_in_frame {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn unpacked(packed: &[u8]) -> io::Result<(Vec<u8>, Option<Digest>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(packed).unwrap();
        file.rewind().unwrap();
        let stop = CancellationToken::new();
        let mut layer = Layer::open(file, packed.len() as u64, true, &stop)?;
        let mut bytes = Vec::new();
        // A part, so that the end is read by `finish`.
        (&mut layer).take(100).read_to_end(&mut bytes)?;
        Ok((bytes, layer.finish()?))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_form_gives_the_same_bytes() {
        let bytes: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let (one, other) = bytes.split_at(100_001);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for packed in [
            bytes.clone(),
            gzip(&bytes),
            [gzip(one), gzip(other)].concat(),
            zstd(&bytes),
            [skipped.clone(), zstd(one), skipped.clone(), zstd(other), skipped].concat(),
        ] {
            let (start, digest) = unpacked(&packed).unwrap();
            assert_eq!((start.as_slice(), digest), (&bytes[..100], Some(Digest::of(&bytes))));
        }
    }

    #[test]
    fn a_layer_that_is_cut_or_swells_is_refused() {
        let bytes: Vec<u8> =
            (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for packed in [gzip(&bytes), zstd(&bytes)] {
            assert!(unpacked(&packed[..packed.len() - 20]).is_err());
        }
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::copy(&mut io::repeat(0).take(MOST_OF_SMALL + 1), &mut bomb).unwrap();
        let bomb = bomb.finish().unwrap();
        assert!((bomb.len() as u64) * MOST_TIMES < MOST_OF_SMALL);
        let refused = unpacked(&bomb).unwrap_err().to_string();
        assert_eq!(refused, "it unpacks to more than 100 times its length");
    }
}
