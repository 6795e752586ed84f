//! Revisions on the file system: from nothing, through staging, to complete for ever.
//!
//! ```text
//! revisions/<sha>/…              complete, verified, read-only
//! revisions/<sha>.json           its size, for status; written just before the folder appears
//! revisions/<sha>.files.jsonl    each file's size and checksums, to verify it later: see [`record`]
//! revisions/<sha>.layers.jsonl   of an image: what its layers hold
//! staging/<sha>.lock             held by who writes to the folder below, one alone or workers together; says how
//!                                many share the work, if any do; never removed
//! staging/<sha>/files/…          the model's files under their final names, not complete yet
//! staging/<sha>/unpacked/…       the model's files, taken out of those, where they are an image's layers
//! staging/<sha>/journal          what of them is done: see [`journal`]
//! staging/<sha>/heartbeat        the time of the writer's last sign of life, and how many bytes a second come
//! staging/<sha>/journal.<n>      what the worker with this index has done, locked by it while it is at work
//! staging/<sha>/heartbeat.<n>    its last sign of life, or that its share is done
//! staging/<sha>/failure.json     how the last attempt ended, when it ended badly
//! ```
//!
//! What is not needed any more, and by whose word: see [`marks`].
//!
//! **Several copies at once** are of one revision only as workers: see [`begin`](mod@begin). Else one writer at a
//! time for each revision, by an advisory lock on a file beside the staging folder; the other is told "running"
//! and leaves. A lock, because the kernel (on EFS the server) gives it back when its holder dies, at whatever
//! instant; an owner's heartbeat could not tell dead from slow, and a slow writer that comes back would write
//! into a folder that another one has published. The lock file is never removed, so nobody can hold a lock on a
//! file that is no longer the lock. Every write holds the lock by a shared handle, also one whose task was given
//! up: no byte lands after the lock is free.
//! Should a lock be lost all the same (an expired lease on a network file system), the last step is a rename
//! that fails when the revision is there: the first wins, and the other drops its staging.
//!
//! **Order of durability.** A part's bytes are synced before the journal says so; files, folders and the size
//! file are synced before the rename; the manifest comes after all its revisions. A crash at any point leaves
//! a state that the next attempt takes up.

pub mod begin;
pub(crate) mod disk;
mod heartbeat;
pub mod journal;
pub mod marks;
pub mod record;
mod staged;
mod staging;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use larder_contract::sync::ModelState;
use larder_contract::{Digest, Manifest, layout};
use serde::{Deserialize, Serialize};

pub use begin::{Begun, begin, is_fetched, progress};
pub use disk::StoreError;
pub(crate) use heartbeat::is_fresh;
pub use heartbeat::{Heartbeat, bytes_per_second, is_running, workers};
pub use staged::{Cache, Piece, StagedFile};
pub use staging::{Staging, Unpacked};

use begin::divided;
pub(crate) use disk::remove;
use disk::write_whole;

/// What files have when they are complete.
const READ_ONLY: u32 = 0o444;

/// The size of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// How many files.
    pub files: u64,
    /// Their length together.
    pub bytes: u64,
}

/// How the last attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `Failed` or `SourceChanged`.
    pub state: ModelState,
    /// Why.
    pub message: String,
}

pub(crate) fn lock_path(root: &Path, revision: &Digest) -> PathBuf {
    root.join("staging").join(format!("{}.lock", revision.hex()))
}

fn size_path(root: &Path, revision: &Digest) -> PathBuf {
    root.join("revisions").join(format!("{}.json", revision.hex()))
}

pub(crate) fn record_path(root: &Path, revision: &Digest) -> PathBuf {
    root.join("revisions").join(format!("{}.files.jsonl", revision.hex()))
}

/// What the name of [`layers_path`] ends with, after the digest.
pub(crate) const LAYERS: &str = ".layers.jsonl";

/// What the layers of an image hold that a revision came out of.
pub(crate) fn layers_path(root: &Path, revision: &Digest) -> PathBuf {
    root.join("revisions").join(format!("{}{LAYERS}", revision.hex()))
}

fn journal_path(root: &Path, revision: &Digest) -> PathBuf {
    layout::staging_dir(root, revision).join("journal")
}

fn failure_path(root: &Path, revision: &Digest) -> PathBuf {
    layout::staging_dir(root, revision).join("failure.json")
}

/// The files that belong to a revision and lie outside of its folders.
pub(crate) fn beside(root: &Path, revision: &Digest) -> [PathBuf; 5] {
    let [look, heartbeat] = crate::reverify::files(root, revision);
    let (size, record) = (size_path(root, revision), record_path(root, revision));
    [size, record, layers_path(root, revision), look, heartbeat]
}

/// What is in a folder and named by a digest and this suffix, sorted.
#[must_use]
pub fn named_by_digest(folder: &Path, suffix: &str) -> Vec<Digest> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<Digest> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(suffix)?.parse().ok())
        .collect();
    names.sort_unstable();
    names
}

/// When a revision was copied, or begun.
#[must_use]
pub fn copied(root: &Path, revision: &Digest) -> Option<SystemTime> {
    let of = |path: PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
    of(size_path(root, revision)).or_else(|| of(layout::staging_dir(root, revision)))
}

/// Whether the revision is complete and verified.
#[must_use]
pub fn is_present(root: &Path, revision: &Digest) -> bool {
    layout::revision_dir(root, revision).is_dir()
}

/// The size of a complete revision.
#[must_use]
pub fn size(root: &Path, revision: &Digest) -> Option<Size> {
    serde_json::from_slice(&fs::read(size_path(root, revision)).ok()?).ok()
}

/// Shows every file of every record of a complete revision below `root`, with the revision's folder. Records that
/// cannot be relied on are left out.
pub fn each_record(root: &Path, mut show: impl FnMut(&Path, &record::Recorded)) {
    for revision in named_by_digest(&root.join("revisions"), ".files.jsonl") {
        let Ok(text) = fs::read(record_path(root, &revision)) else { continue };
        let Ok(files) = record::read(&revision, &text) else { continue };
        let folder = layout::revision_dir(root, &revision);
        for file in &files {
            show(&folder, file);
        }
    }
}

/// How the last attempt ended, when it ended badly.
#[must_use]
pub fn failure(root: &Path, revision: &Digest) -> Option<Failure> {
    serde_json::from_slice(&fs::read(failure_path(root, revision)).ok()?).ok()
}

/// How long the text of a failure may be, and so how much room is kept for it.
const FAILURE_BYTES: usize = 4_096;

/// Makes room for a failure, so that it can be told even when the disk is full; forgets the last one.
fn reserve_failure(root: &Path, revision: &Digest) -> Result<(), StoreError> {
    disk::write_in_place(&failure_path(root, revision), &[b' '; FAILURE_BYTES])
}

/// Keeps how an attempt ended, until the next one begins.
///
/// # Errors
/// When it cannot be written.
pub fn keep_failure(root: &Path, revision: &Digest, failure: &Failure) -> Result<(), StoreError> {
    let mut failure = failure.clone();
    let mut text = serde_json::to_vec(&failure).unwrap_or_default();
    while text.len() > FAILURE_BYTES {
        // In half, at the border of a character: messages are far shorter.
        let half = failure.message.len() / 2;
        let cut = failure.message.char_indices().map(|(at, _)| at).find(|at| *at >= half).unwrap_or(0);
        failure.message.truncate(cut);
        text = serde_json::to_vec(&failure).unwrap_or_default();
    }
    let path = failure_path(root, revision);
    write_whole(&path, &text, 0o644).or_else(|error| {
        text.resize(FAILURE_BYTES, b' ');
        disk::overwrite(&path, &text).map_err(|_| error)
    })
}

/// Whether a copy of this revision could write where it begins. Nothing of the attempt stays.
///
/// # Errors
/// Why not.
pub fn try_to_stage(root: &Path, revision: &Digest) -> Result<(), StoreError> {
    disk::try_to_write(&layout::staging_dir(root, revision))
}

/// Whether a manifest, and that it is needed, could be written. Nothing of the attempt stays.
///
/// # Errors
/// Why not.
pub fn try_to_serve(root: &Path) -> Result<(), StoreError> {
    ["manifests", "marks", "owners"].iter().try_for_each(|name| disk::try_to_write(&root.join(name)))
}

/// Whether the manifest and all of its models are there for `owner`, and nothing of it is marked as not needed or
/// was found damaged.
#[must_use]
pub fn is_served(root: &Path, manifest: &Manifest, owner: Option<&str>) -> bool {
    let digest = manifest.digest();
    let revisions = || manifest.models.iter().map(|model| &model.revision);
    has_manifest(root, manifest)
        && revisions().all(|revision| is_present(root, revision))
        && revisions().chain([&digest]).all(|digest| marks::marked(root, digest).is_none())
        && revisions().all(|revision| {
            crate::reverify::verified(root, revision).is_none_or(|look| look.damage.is_empty())
        })
        && owner.is_none_or(|owner| marks::is_claimed(root, owner))
}

/// Whether the manifest's file is there.
#[must_use]
pub fn has_manifest(root: &Path, manifest: &Manifest) -> bool {
    let digest = manifest.digest();
    fs::read(layout::manifest_path(root, &digest)).is_ok_and(|text| Digest::of(&text) == digest)
}

/// Writes the manifest's file, if every model of it is present, and takes away the marks of both: from now on they
/// are needed, by `owner`. Answers whether the models are there.
///
/// # Errors
/// When the file system does not let us.
pub fn write_manifest(root: &Path, manifest: &Manifest, owner: Option<&str>) -> Result<bool, StoreError> {
    if !manifest.models.iter().all(|model| is_present(root, &model.revision)) {
        return Ok(false);
    }
    let _lock = marks::lock(root)?;
    // Nothing is taken out while the lock is held.
    if !manifest.models.iter().all(|model| is_present(root, &model.revision)) {
        return Ok(false);
    }
    if !has_manifest(root, manifest) {
        write_whole(&layout::manifest_path(root, &manifest.digest()), &manifest.canonical(), 0o444)?;
    }
    owner.map_or(Ok(()), |owner| marks::claim(root, owner))?;
    let digest = manifest.digest();
    marks::unmark(root, manifest.models.iter().map(|model| &model.revision).chain([&digest]))?;
    Ok(true)
}
