//! What is not needed any more is marked, and later taken out and deleted.
//!
//! ```text
//! mark ──grace, the controller's──▶ take out: rename into trash/, under the lock ──▶ delete, bounded ──▶ gone
//! ```
//!
//! A request names all that it wants deleted, each with the mark that it relies on. What has another mark, or
//! none, stays. The rename takes a revision away whole; its mark goes last, so an invocation that is ended in
//! between is taken up by the next. Deleting takes as long as it takes: what is left of it when the time is over
//! is deleted by a later invocation.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use larder_contract::upkeep::{CollectRequest, Marked};
use larder_contract::{Digest, layout};
use serde::{Deserialize, Serialize};

use crate::store::{self, StoreError, disk, marks};

/// A collection that failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Somebody else's revisions may be among these.
    #[error(
        "the folder is used by {}, too, so nothing in it is collected: give each endpoint an access point path of \
         its own; if that endpoint is gone, delete its file below owners/ in the folder",
        others.join(", ")
    )]
    Shared {
        /// Whose.
        others: Vec<String>,
    },
    /// Nobody said whose they are.
    #[error("{} is not set, so nothing is collected: the controller sets it", layout::ENV_OWNER)]
    NoOwner,
    /// The file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the files take, as of the last copy or collection, and what collections have freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Bytes in files, each counted once.
    pub used_bytes: u64,
    /// Bytes that were freed in all.
    pub freed_bytes: u64,
}

/// Carries a request out, at `now` in seconds since 1970, and deletes until `is_over` says so.
///
/// # Errors
/// See [`CollectError`]; what was done by then stays done.
pub fn collect(
    root: &Path,
    owner: Option<&str>,
    request: &CollectRequest,
    now: u64,
    is_over: &dyn Fn() -> bool,
) -> Result<(), CollectError> {
    let owner = owner.ok_or(CollectError::NoOwner)?;
    {
        let _lock = marks::lock(root)?;
        marks::unmark(root, &request.spare)?;
        let others = marks::others(root, owner);
        if !others.is_empty() {
            return Err(CollectError::Shared { others });
        }
        marks::claim(root, owner)?;
        for digest in request.mark.iter().filter(|digest| is_there(root, digest)) {
            marks::mark(root, digest, now)?;
        }
        for Marked { digest, since } in &request.delete {
            if marks::marked(root, digest) != Some(*since) {
                tracing::info!(%digest, "it is not marked so any more, and stays");
            } else if take_out(root, digest)? {
                tracing::info!(%digest, "taken out");
            }
        }
    }
    let freed = sweep(root, is_over)?;
    if freed > 0 || !request.delete.is_empty() {
        note_usage(root, freed, is_over)?;
    }
    Ok(())
}

/// Whether anything has this name.
fn is_there(root: &Path, digest: &Digest) -> bool {
    layout::manifest_path(root, digest).is_file()
        || store::is_present(root, digest)
        || layout::staging_dir(root, digest).is_dir()
        || !prepared_of(root, digest).is_empty()
}

/// The prepared models of each revision, by the records in their folders.
pub(crate) fn all_prepared(root: &Path) -> Vec<(Digest, PathBuf)> {
    #[derive(Deserialize)]
    struct Record {
        revision: Digest,
    }
    let folders = store::named_by_digest(&layout::prepared_root(root), "").into_iter();
    folders
        .filter_map(|key| {
            let folder = layout::prepared_dir(root, &key);
            let record: Record =
                serde_json::from_slice(&fs::read(folder.join("prepared.json")).ok()?).ok()?;
            Some((record.revision, folder))
        })
        .collect()
}

fn prepared_of(root: &Path, revision: &Digest) -> Vec<PathBuf> {
    all_prepared(root).into_iter().filter(|(of, _)| of == revision).map(|(_, folder)| folder).collect()
}

/// Takes a manifest, or a revision with all that belongs to it, out of the way of everybody. False while it is
/// being copied.
fn take_out(root: &Path, digest: &Digest) -> Result<bool, StoreError> {
    let writing = writing(root, digest)?;
    if matches!(writing, Writing::Busy) {
        tracing::info!(%digest, "it is being copied, and stays");
        return Ok(false);
    }
    disk::remove(&layout::manifest_path(root, digest))?;
    let mut folders = vec![layout::revision_dir(root, digest), layout::staging_dir(root, digest)];
    folders.extend(prepared_of(root, digest));
    disk::make_folders(&layout::trash_root(root))?;
    for folder in folders {
        let aside = layout::trash_root(root).join(format!("{}.{:016x}", digest.hex(), fastrand::u64(..)));
        match fs::rename(&folder, &aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::at("take out", &folder)(e));
            }
            _ => {}
        }
    }
    for path in store::beside(root, digest) {
        disk::remove(&path)?;
    }
    for folder in ["revisions", "manifests", "trash"].map(|name| root.join(name)) {
        if folder.is_dir() {
            disk::sync_folder(&folder)?;
        }
    }
    marks::unmark(root, [digest])?;
    drop(writing);
    Ok(true)
}

/// Who has the right to write a revision.
enum Writing {
    /// We, for as long as this is held.
    Ours { _lock: File },
    /// Nobody ever had.
    Never,
    /// Somebody else.
    Busy,
}

fn writing(root: &Path, revision: &Digest) -> Result<Writing, StoreError> {
    let path = store::lock_path(root, revision);
    let file = match File::options().write(true).open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Writing::Never),
        opened => opened.map_err(StoreError::at("open", &path))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Writing::Ours { _lock: file }),
        Err(TryLockError::WouldBlock) => Ok(Writing::Busy),
        Err(TryLockError::Error(e)) => Err(StoreError::at("lock", &path)(e)),
    }
}

/// Whether something that was taken out is not all deleted.
#[must_use]
pub fn is_deleting(root: &Path) -> bool {
    fs::read_dir(layout::trash_root(root)).is_ok_and(|mut entries| entries.next().is_some())
}

/// Deletes what was taken out, until `is_over`; answers how many bytes that freed. Another may do the same.
fn sweep(root: &Path, is_over: &dyn Fn() -> bool) -> Result<u64, StoreError> {
    let mut freed = 0;
    let trash = layout::trash_root(root);
    if trash.is_dir() {
        empty(&trash, is_over, &mut freed)?;
    }
    Ok(freed)
}

/// Deletes what is in a folder. Answers whether it is empty.
fn empty(folder: &Path, is_over: &dyn Fn() -> bool, freed: &mut u64) -> Result<bool, StoreError> {
    fn or_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
        match done {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done.map(Some),
        }
    }
    let Some(entries) = or_gone(fs::read_dir(folder)).map_err(StoreError::at("read the folder", folder))?
    else {
        return Ok(true);
    };
    for entry in entries {
        if is_over() {
            return Ok(false);
        }
        let path = entry.map_err(StoreError::at("read the folder", folder))?.path();
        let at = || StoreError::at("delete", &path);
        let Some(found) = or_gone(fs::symlink_metadata(&path)).map_err(at())? else { continue };
        if found.is_dir() {
            if !empty(&path, is_over, freed)? {
                return Ok(false);
            }
            or_gone(fs::remove_dir(&path)).map_err(at())?;
        } else if or_gone(fs::remove_file(&path)).map_err(at())?.is_some() && found.nlink() == 1 {
            *freed += found.len();
        }
    }
    Ok(true)
}

fn usage_path(root: &Path) -> PathBuf {
    root.join("usage.json")
}

/// What the files take, as it was last measured.
#[must_use]
pub fn usage(root: &Path) -> Usage {
    let text = fs::read(usage_path(root)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Measures what the files take, unless `is_over` comes first, and adds what was freed.
pub(crate) fn note_usage(root: &Path, freed: u64, is_over: &dyn Fn() -> bool) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    let mut used = Some(0);
    for part in ["revisions", "staging", "prepared"] {
        used = used.and_then(|used| Some(used + measured(&root.join(part), is_over, &mut seen)?));
    }
    let _lock = marks::lock(root)?;
    let before = usage(root);
    let after = Usage {
        used_bytes: used.unwrap_or(before.used_bytes),
        freed_bytes: before.freed_bytes.saturating_add(freed),
    };
    if after == before {
        return Ok(());
    }
    disk::write_in_place(&usage_path(root), &serde_json::to_vec(&after).unwrap_or_default())
}

/// The bytes of the files below a folder, each file once; none when it was over before the end.
fn measured(folder: &Path, is_over: &dyn Fn() -> bool, seen: &mut HashSet<(u64, u64)>) -> Option<u64> {
    let mut bytes = 0;
    let Ok(entries) = fs::read_dir(folder) else { return Some(0) };
    for entry in entries.flatten() {
        if is_over() {
            return None;
        }
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            bytes += measured(&entry.path(), is_over, seen)?;
        } else if found.nlink() == 1 || seen.insert((found.dev(), found.ino())) {
            bytes += found.len();
        }
    }
    Some(bytes)
}
