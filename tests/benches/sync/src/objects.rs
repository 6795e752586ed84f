//! What is copied: slices of one block of chance, so that nothing is read from a disk and nothing can be packed.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use crc_fast::CrcAlgorithm;

/// The block's length.
const BLOCK: usize = 64 << 20;

/// Files of one length.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) files: usize,
    pub(crate) size: u64,
}

impl Case {
    pub(crate) fn all(quick: bool) -> [Self; 3] {
        let (bytes, files) = if quick { (8, 10) } else { (1, 1) };
        [
            Self { name: "one", files: 1, size: (4 << 30) / bytes },
            Self { name: "many", files: if quick { 25 } else { 200 }, size: 20 << 20 },
            Self { name: "small", files: 20_000 / files, size: 20 << 10 },
        ]
    }

    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    pub(crate) const fn bytes(&self) -> f64 {
        (self.files as u64 * self.size) as f64
    }
}

/// The objects of a case.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) files: usize,
    pub(crate) size: u64,
    pub(crate) block: Vec<u8>,
    /// CRC64NVME of each.
    pub(crate) crcs: Vec<u64>,
}

impl Objects {
    pub(crate) fn new(case: &Case) -> Self {
        let mut block = vec![0; BLOCK];
        fastrand::Rng::with_seed(1).fill(&mut block);
        let mut objects = Self { files: case.files, size: case.size, block, crcs: Vec::new() };
        objects.crcs = (0..case.files)
            .map(|file| {
                let mut crc = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
                Self::slices(file, 0..case.size).for_each(|slice| crc.update(&objects.block[slice]));
                crc.finalize()
            })
            .collect();
        objects
    }

    /// The path of a file below the prefix.
    pub(crate) fn path(file: usize) -> String {
        format!("d{:02}/f{file:05}.bin", file % 16)
    }

    /// The bytes of a range of a file, as ranges of the block.
    pub(crate) fn slices(file: usize, range: Range<u64>) -> impl Iterator<Item = Range<usize>> + use<> {
        // Each file begins somewhere else.
        let start = file * 7_919 * 4_096;
        let (mut at, end) = (range.start, range.end);
        std::iter::from_fn(move || {
            let from = (start + usize::try_from(at % BLOCK as u64).ok()?) % BLOCK;
            let length = (BLOCK - from).min(usize::try_from(end.checked_sub(at)?).ok()?);
            at += length as u64;
            (length > 0).then_some(from..from + length)
        })
    }

    /// Whether a folder holds exactly these files.
    pub(crate) fn check(&self, folder: &Path) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        for (file, want) in self.crcs.iter().enumerate() {
            let path = folder.join(Self::path(file));
            let mut opened = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            let mut crc = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
            loop {
                match opened.read(&mut buffer)? {
                    0 => break,
                    n => crc.update(&buffer[..n]),
                }
            }
            ensure!(crc.finalize() == *want, "{} has other bytes", path.display());
        }
        Ok(())
    }
}
