//! What nobody needs any more, and who uses the folder.
//!
//! ```text
//! marks/<sha>     since when a revision or manifest is not needed, in seconds since 1970
//! owners/<sha>    an endpoint that has had something copied here
//! lock            held while marks and what they stand for change together
//! ```
//!
//! One lock for all of it, held for renames and small files, never while bytes are read or deleted: whoever
//! deletes looks at the mark and takes the revision out in one go, and whoever needs it again takes the mark away
//! in one go with seeing that it is there. That needs no clock, so no request can come too late.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_contract::{Digest, layout};

use super::disk::{StoreError, make_folders, remove, sync_folder, write_whole};

/// How long to wait for the lock, and how often to try.
const TRIES: u32 = 400;
const PAUSE: Duration = Duration::from_millis(25);

/// Takes the lock; it is given back when the handle is dropped.
///
/// # Errors
/// When another invocation holds it for too long, or the file system has no locks.
pub(crate) fn lock(root: &Path) -> Result<File, StoreError> {
    make_folders(root)?;
    let path = root.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(StoreError::at("open", &path))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(e)) => return Err(StoreError::at("lock", &path)(e)),
        }
    }
    let busy = std::io::Error::other("another invocation holds it; it is tried again");
    Err(StoreError::at("lock", &path)(busy))
}

fn mark_path(root: &Path, digest: &Digest) -> PathBuf {
    layout::marks_root(root).join(digest.hex())
}

/// Since when something is marked.
#[must_use]
pub fn marked(root: &Path, digest: &Digest) -> Option<u64> {
    fs::read_to_string(mark_path(root, digest)).ok()?.trim().parse().ok()
}

/// All marks.
#[must_use]
pub fn all_marks(root: &Path) -> BTreeMap<Digest, u64> {
    super::named_by_digest(&layout::marks_root(root), "")
        .into_iter()
        .filter_map(|digest| Some((digest, marked(root, &digest)?)))
        .collect()
}

/// Marks something, unless it is marked.
pub(crate) fn mark(root: &Path, digest: &Digest, now: u64) -> Result<(), StoreError> {
    if marked(root, digest).is_some() {
        return Ok(());
    }
    write_whole(&mark_path(root, digest), now.to_string().as_bytes(), 0o644)
}

/// Takes marks away; durable when this returns.
pub(crate) fn unmark<'a>(
    root: &Path,
    digests: impl IntoIterator<Item = &'a Digest>,
) -> Result<(), StoreError> {
    let mut is_changed = false;
    for digest in digests {
        let path = mark_path(root, digest);
        is_changed |= path.exists();
        remove(&path)?;
    }
    if is_changed { sync_folder(&layout::marks_root(root)) } else { Ok(()) }
}

fn owner_path(root: &Path, owner: &str) -> PathBuf {
    root.join("owners").join(Digest::of(owner.as_bytes()).hex())
}

/// Notes that `owner` uses the folder.
pub(crate) fn claim(root: &Path, owner: &str) -> Result<(), StoreError> {
    if is_claimed(root, owner) {
        return Ok(());
    }
    write_whole(&owner_path(root, owner), owner.as_bytes(), 0o644)
}

/// Whether `owner` is noted.
#[must_use]
pub fn is_claimed(root: &Path, owner: &str) -> bool {
    owner_path(root, owner).is_file()
}

/// The owners that are not `owner`, sorted.
#[must_use]
pub fn others(root: &Path, owner: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("owners")) else { return Vec::new() };
    let mut all: Vec<String> = entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter(|other| other != owner)
        .collect();
    all.sort();
    all
}
