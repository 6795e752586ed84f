//! Prepared models: what ONNX Runtime makes of a model's files at each start, made once.
//!
//! - [`Conditions`]: what a prepared file was made under, and is good for.
//! - [`Record`]: `prepared.json`, what was measured and chosen. `write` makes both, `measure` measures.
//! - [`Preparer`]: does it in a process of its own, within bounds. `leftovers`: what broken off ones leave, and
//!   what older versions made.
//!
//! ```text
//! prepared/<sha256>/<path>.ort        an ONNX file, optimised, in ONNX Runtime's own format, and a checksum
//! prepared/<sha256>/prepared.json     the record
//! ```
//!
//! The name is the digest of the model's revision and of all conditions, so what is found under the name that
//! a process computes for itself was made for it: another processor or another version looks elsewhere. The
//! folder is written aside and renamed when whole, and its files are never touched again. The original stays
//! authoritative: where there is no prepared file, or it is damaged or does not open, the original is opened.

mod leftovers;
mod measure;
mod process;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use larder_contract::{Digest, layout};
use serde::{Deserialize, Serialize};

pub(crate) use process::Candidate;
pub use process::{Outcome, Preparer};
pub use write::{PrepareError, prepare};

/// The record's file name.
pub const RECORD: &str = "prepared.json";

/// Goes up when what is written changes, or how it is chosen.
const FORMAT: u32 = 2;

/// What a prepared file depends on besides the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Of this program.
    pub tool: String,
    /// Of what is written.
    pub format: u32,
    /// What ONNX Runtime says of its build.
    pub onnx_runtime: String,
    /// The processor's architecture, and those of its features that ONNX Runtime lays weights out for.
    pub processor: String,
}

impl Conditions {
    /// Those of this process. ONNX Runtime must be loaded.
    #[must_use]
    pub fn here() -> Self {
        Self {
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            format: FORMAT,
            onnx_runtime: ort::info().to_owned(),
            processor: processor(),
        }
    }

    /// Where a revision's prepared files are, for these conditions.
    #[must_use]
    pub fn folder(&self, root: &Path, revision: &Digest) -> PathBuf {
        let Self { tool, format, onnx_runtime, processor } = self;
        let all = format!("{revision}\n{tool}\n{format}\n{onnx_runtime}\n{processor}\n");
        layout::prepared_dir(root, &Digest::of(all.as_bytes()))
    }
}

fn processor() -> String {
    let mut words = vec![std::env::consts::ARCH];
    macro_rules! features {
        ($is:ident: $($name:tt),+) => {
            $(if std::arch::$is!($name) { words.push($name); })+
        };
    }
    #[cfg(target_arch = "x86_64")]
    features!(is_x86_feature_detected: "avx", "avx2", "fma", "avxvnni", "avx512f", "avx512bw", "avx512vnni", "avx512bf16");
    #[cfg(target_arch = "aarch64")]
    features!(is_aarch64_feature_detected: "dotprod", "i8mm", "bf16", "fp16", "sve", "sve2");
    words.join(" ")
}

/// How an ONNX file is best opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// As it is.
    Original,
    /// Optimised in ways that are the same on each processor.
    Extended,
    /// Weights laid out for this processor, too.
    All,
}

/// What one way to open a file costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of the file.
    pub bytes: u64,
    /// From nothing to a session, in milliseconds: the quickest of some.
    pub open_ms: f64,
    /// A run after the first, in milliseconds: the quickest of some.
    pub run_ms: f64,
}

/// What a network file system gives a function at the least, in bytes a millisecond (300 MB a second, as in
/// `docs/decisions/0008-reading-models.md`). Files are measured while the system has them.
const READ: f64 = 300_000.0;

impl Cost {
    /// From nothing to a session where the file must be read first, in milliseconds.
    #[must_use]
    pub fn cold_ms(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a file is below 2^52 bytes")]
        let bytes = self.bytes as f64;
        self.open_ms + bytes / READ
    }
}

/// One ONNX file of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The digest of the original.
    pub original: Digest,
    /// What is used.
    pub choice: Choice,
    /// What the ways cost that could be measured.
    pub costs: BTreeMap<String, Cost>,
    /// Why the ways that are missing are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
}

/// `prepared.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The model's revision.
    pub revision: Digest,
    /// What it was made under.
    pub conditions: Conditions,
    /// The model's ONNX files, by their paths in its folder.
    pub files: BTreeMap<String, FileRecord>,
}

/// The prepared files of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    originals: PathBuf,
    folder: PathBuf,
}

impl Prepared {
    /// Those under `root` that were made for this process from the revision whose files are in `originals`;
    /// `None` when there are none.
    #[must_use]
    pub fn find(root: &Path, revision: &Digest, originals: &Path) -> Option<Self> {
        let folder = Conditions::here().folder(root, revision);
        folder.is_dir().then(|| {
            leftovers::used(&folder);
            Self { originals: originals.to_owned(), folder }
        })
    }

    /// The prepared file of an original, if one is better than it.
    #[must_use]
    pub fn of(&self, original: &Path) -> Option<PathBuf> {
        let path = artefact(&self.folder, original.strip_prefix(&self.originals).ok()?);
        path.is_file().then_some(path)
    }
}

/// Removes what is under `root` of preparations that broke off, and of other versions that do not use it any
/// more. ONNX Runtime must be loaded.
pub fn collect(root: &Path) {
    leftovers::collect(&layout::prepared_root(root), &Conditions::here());
}

/// Where the prepared file of the original with this path in its folder is.
fn artefact(folder: &Path, relative: &Path) -> PathBuf {
    let mut name = relative.as_os_str().to_owned();
    name.push(".ort");
    folder.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_has_a_folder_of_its_own() {
        let conditions = Conditions {
            tool: "1".into(),
            format: 1,
            onnx_runtime: "1.32".into(),
            processor: "x86_64 avx2".into(),
        };
        let (root, revision) = (Path::new("/r"), Digest::of(b"a"));
        let base = conditions.folder(root, &revision);
        assert!(base.starts_with("/r/prepared"));
        let others = [
            Conditions { tool: "2".into(), ..conditions.clone() },
            Conditions { format: 2, ..conditions.clone() },
            Conditions { onnx_runtime: "1.33".into(), ..conditions.clone() },
            Conditions { processor: "x86_64 avx2 avx512f".into(), ..conditions.clone() },
        ];
        for other in others {
            assert_ne!(other.folder(root, &revision), base);
        }
        assert_ne!(conditions.folder(root, &Digest::of(b"b")), base);
        assert!(processor().starts_with(std::env::consts::ARCH));
    }
}
