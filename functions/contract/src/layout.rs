//! Where things lie on the file system, and the environment that says so.
//!
//! ```text
//! revisions/<sha256>/…      immutable; present means complete and verified
//! staging/<sha256>/…        in flight: parts and a journal, safe to lose, safe to resume
//! prepared/<sha256>/…       what the inference function made of a revision, to start faster; safe to lose
//! manifests/<sha256>.json   what one published function version serves
//! marks/<sha256>            since when a revision or manifest is not needed
//! verified/<sha256>.json    what the last look at all bytes of a revision came to
//! owners/<sha256>           who uses this folder
//! trash/…                   taken out, and being deleted
//! ```

use std::path::{Path, PathBuf};

use crate::Digest;

/// Where the access point is mounted in both functions. Lambda demands a path under `/mnt/`
/// (`FileSystemConfig.LocalMountPath`).
pub const MOUNT_PATH: &str = "/mnt/larder";

/// Environment variable: where the file system is. [`MOUNT_PATH`] when unset.
pub const ENV_ROOT: &str = "LARDER_ROOT";

/// Environment variable of the model-sync function: the endpoint that it works for.
pub const ENV_OWNER: &str = "LARDER_OWNER";

/// Environment variable of the inference function: the digest of its manifest.
pub const ENV_MANIFEST: &str = "LARDER_MANIFEST";

/// Environment variable of the inference function: its memory in MiB, for threads and budgets.
pub const ENV_MEMORY: &str = "LARDER_MEMORY_MIB";

/// Environment variable of model-sync: hosts of sources that may have any address, with commas between them.
pub const ENV_SOURCE_HOSTS: &str = "LARDER_ALLOW_SOURCE_HOSTS";

/// Environment variable of model-sync: certificate authorities that sources are trusted by, beside the public ones;
/// PEM.
pub const ENV_SOURCE_CA: &str = "LARDER_SOURCE_CA";

/// The most bytes of [`ENV_SOURCE_CA`]: Lambda allows 4 KB for all variables of a function.
pub const MAX_SOURCE_CA: usize = 3_000;

/// Every environment variable that starts so is the controller's.
pub const ENV_RESERVED_PREFIX: &str = "LARDER_";

/// The folder of a complete, verified revision.
#[must_use]
pub fn revision_dir(root: &Path, revision: &Digest) -> PathBuf {
    root.join("revisions").join(revision.hex())
}

/// The folder of a revision in flight.
#[must_use]
pub fn staging_dir(root: &Path, revision: &Digest) -> PathBuf {
    root.join("staging").join(revision.hex())
}

/// The folder of all that was prepared.
#[must_use]
pub fn prepared_root(root: &Path) -> PathBuf {
    root.join("prepared")
}

/// The folder of what was prepared under this digest of a revision and its conditions.
#[must_use]
pub fn prepared_dir(root: &Path, conditions: &Digest) -> PathBuf {
    prepared_root(root).join(conditions.hex())
}

/// The file of a manifest.
#[must_use]
pub fn manifest_path(root: &Path, manifest: &Digest) -> PathBuf {
    root.join("manifests").join(format!("{}.json", manifest.hex()))
}

/// The folder of the marks of what is not needed.
#[must_use]
pub fn marks_root(root: &Path) -> PathBuf {
    root.join("marks")
}

/// The folder of what was taken out and is being deleted.
#[must_use]
pub fn trash_root(root: &Path) -> PathBuf {
    root.join("trash")
}
