//! Revisions on the file system: from nothing, through staging, to complete for ever.
//!
//! ```text
//! revisions/<sha>/…              complete, verified, read-only
//! revisions/<sha>.json           its size, for status; written just before the folder appears
//! staging/<sha>.lock             held by the one process that writes to the folder below; never removed
//! staging/<sha>/files/…          the model's files under their final names, not complete yet
//! staging/<sha>/journal          what of them is done: see [`journal`]
//! staging/<sha>/heartbeat        the time of the writer's last sign of life
//! staging/<sha>/failure.json     how the last attempt ended, when it ended badly
//! ```
//!
//! **Two copies at once.** One writer at a time for each revision, by an advisory lock on a file beside the
//! staging folder; the other is told "running" and leaves. A lock, because the kernel (on EFS the server)
//! gives it back when its holder dies, at whatever instant; an owner's heartbeat could not tell dead from
//! slow, and a slow writer that comes back would write into a folder that another one has published. The lock
//! file is never removed, so nobody can hold a lock on a file that is no longer the lock. Every write holds
//! the lock by a shared handle, also one whose task was given up: no byte lands after the lock is free.
//! Should a lock be lost all the same (an expired lease on a network file system), the last step is a rename
//! that fails when the revision is there: the first wins, and the other drops its staging.
//!
//! **Order of durability.** A part's bytes are synced before the journal says so; files, folders and the size
//! file are synced before the rename; the manifest comes after all its revisions. A crash at any point leaves
//! a state that the next attempt takes up.

mod disk;
mod heartbeat;
pub mod journal;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use larder_contract::sync::ModelState;
use larder_contract::{Digest, Manifest, ObjectEntry, layout};
use serde::{Deserialize, Serialize};

pub use disk::StoreError;
pub use heartbeat::{Heartbeat, is_running};

use crate::listing::Listing;
use crate::plan::Part;
use disk::{make_folders, remove, sync_folder, write_whole};
use journal::{Done, Entry, Header};

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

/// What [`begin`] found.
#[derive(Debug)]
pub enum Begun {
    /// The revision is complete.
    Present,
    /// Another process is writing it.
    Running,
    /// It is ours to write.
    Ours(Arc<Staging>),
}

/// A revision in flight, and the right to write it. Given up when the last handle is dropped.
#[derive(Debug)]
pub struct Staging {
    root: PathBuf,
    revision: Digest,
    objects: Vec<ObjectEntry>,
    journal: Mutex<File>,
    _lock: File,
}

fn lock_path(root: &Path, revision: &Digest) -> PathBuf {
    root.join("staging").join(format!("{}.lock", revision.hex()))
}

fn size_path(root: &Path, revision: &Digest) -> PathBuf {
    root.join("revisions").join(format!("{}.json", revision.hex()))
}

fn journal_path(root: &Path, revision: &Digest) -> PathBuf {
    layout::staging_dir(root, revision).join("journal")
}

fn failure_path(root: &Path, revision: &Digest) -> PathBuf {
    layout::staging_dir(root, revision).join("failure.json")
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

/// What the journal of a revision in flight says.
#[must_use]
pub fn progress(root: &Path, revision: &Digest) -> Option<(Header, Done)> {
    let (header, done, _) = journal::read(&fs::read(journal_path(root, revision)).ok()?)?;
    Some((header, done))
}

/// How the last attempt ended, when it ended badly.
#[must_use]
pub fn failure(root: &Path, revision: &Digest) -> Option<Failure> {
    serde_json::from_slice(&fs::read(failure_path(root, revision)).ok()?).ok()
}

/// Keeps how an attempt ended, until the next one begins.
///
/// # Errors
/// When it cannot be written.
pub fn keep_failure(root: &Path, revision: &Digest, failure: &Failure) -> Result<(), StoreError> {
    let text = serde_json::to_vec(failure).unwrap_or_default();
    write_whole(&failure_path(root, revision), &text, 0o644)
}

/// Takes the right to write a revision, and takes up what an earlier attempt left.
///
/// # Errors
/// When the file system does not let us.
pub fn begin(root: &Path, listing: &Listing, part_bytes: u64) -> Result<Begun, StoreError> {
    let revision = listing.revision;
    if is_present(root, &revision) {
        return Ok(Begun::Present);
    }
    let path = lock_path(root, &revision);
    make_folders(&root.join("staging"))?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::at("open", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Begun::Running),
        Err(TryLockError::Error(e)) => return Err(StoreError::at("lock", &path)(e)),
    }
    // Whoever held the lock before us may just have finished.
    if is_present(root, &revision) {
        return Ok(Begun::Present);
    }
    make_folders(&layout::staging_dir(root, &revision))?;
    remove(&failure_path(root, &revision))?;
    let header = Header::new(revision, part_bytes, listing.objects.len() as u64, listing.bytes());
    let (journal, done) = take_up(root, &header)?;
    let staging = Staging {
        root: root.to_owned(),
        revision,
        objects: listing.objects.clone(),
        journal: Mutex::new(journal),
        _lock: lock,
    };
    for file in done.files() {
        let object = staging.objects.get(file as usize);
        let length = object.and_then(|o| fs::metadata(staging.path_of(o)).ok()).map(|m| m.len());
        if length.is_none() || length != object.map(|o| o.size) {
            staging.drop_file(file)?;
        }
    }
    Ok(Begun::Ours(Arc::new(staging)))
}

/// Opens the journal for appending; a new one, and nothing staged, unless there is one with this header.
fn take_up(root: &Path, header: &Header) -> Result<(File, Done), StoreError> {
    let path = journal_path(root, &header.revision);
    let at = |operation| StoreError::at(operation, &path);
    if let Some((old, done, whole)) = fs::read(&path).ok().as_deref().and_then(journal::read)
        && old == *header
    {
        let file = OpenOptions::new().append(true).open(&path).map_err(at("open"))?;
        file.set_len(whole as u64).map_err(at("cut"))?;
        return Ok((file, done));
    }
    // The journal first: files without a journal are nothing, a journal without its files is a lie.
    remove(&path)?;
    remove(&layout::staging_dir(root, &header.revision).join("files"))?;
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(at("make"))?;
    file.write_all(header.line().as_bytes()).and_then(|()| file.sync_all()).map_err(at("write"))?;
    sync_folder(&layout::staging_dir(root, &header.revision))?;
    Ok((file, Done::default()))
}

impl Staging {
    /// The revision.
    #[must_use]
    pub const fn revision(&self) -> &Digest {
        &self.revision
    }

    /// Its files, in the order of their numbers.
    #[must_use]
    pub fn objects(&self) -> &[ObjectEntry] {
        &self.objects
    }

    /// The folder of the journal and the files.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        layout::staging_dir(&self.root, &self.revision)
    }

    /// Where a file is while it is staged.
    #[must_use]
    pub fn path_of(&self, object: &ObjectEntry) -> PathBuf {
        self.folder().join("files").join(object.path.as_str())
    }

    /// Opens a staged file for writing at offsets, at its full length.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn open(&self, object: &ObjectEntry) -> Result<File, StoreError> {
        let path = self.path_of(object);
        make_folders(path.parent().unwrap_or(&path))?;
        let at = |operation| StoreError::at(operation, &path);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(at("open"))?;
        if file.metadata().map_err(at("look at"))?.len() != object.size {
            // The same length by whoever comes first: parts of one file may do this at once.
            file.set_len(object.size).map_err(at("reserve"))?;
        }
        Ok(file)
    }

    /// What is done by now.
    #[must_use]
    pub fn done(&self) -> Done {
        progress(&self.root, &self.revision).map(|(_, done)| done).unwrap_or_default()
    }

    /// Notes parts whose bytes are synced; durable when this returns.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn note_parts(&self, parts: &[Part]) -> Result<(), StoreError> {
        let entry = |p: &Part| Entry::Part { file: p.file, index: p.index, length: p.length };
        self.note(parts.iter().map(entry), File::sync_data)
    }

    /// Makes a verified file read-only and notes that it needs no more work.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn seal(&self, file: u32) -> Result<(), StoreError> {
        if let Some(object) = self.objects.get(file as usize) {
            let path = self.path_of(object);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444))
                .map_err(StoreError::at("make read-only", &path))?;
        }
        // Not synced: a line that is lost costs one more look at the file.
        self.note([Entry::Whole(file)], |_| Ok(()))
    }

    fn note(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        finish: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let text: String = entries.into_iter().map(Entry::line).collect();
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let path = journal_path(&self.root, &self.revision);
        journal
            .write_all(text.as_bytes())
            .and_then(|()| finish(&journal))
            .map_err(StoreError::at("write", &path))
    }

    /// Forgets a file whose content is wrong.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn drop_file(&self, file: u32) -> Result<(), StoreError> {
        self.note([Entry::Drop(file)], File::sync_data)?;
        self.objects.get(file as usize).map_or(Ok(()), |object| remove(&self.path_of(object)))
    }

    /// Makes the revision appear. All its files must be written, synced and sealed.
    ///
    /// # Errors
    /// When the file system does not let us; then it can be tried again.
    pub fn publish(&self) -> Result<(), StoreError> {
        let files = self.folder().join("files");
        let mut folders = vec![files.clone()];
        for object in &self.objects {
            let path = self.path_of(object);
            let above = path.ancestors().skip(1).take_while(|folder| *folder != files);
            folders.extend(above.map(Path::to_owned));
        }
        folders.sort();
        folders.dedup();
        folders.iter().try_for_each(|folder| sync_folder(folder))?;

        let size = Size {
            files: self.objects.len() as u64,
            bytes: self.objects.iter().map(|object| object.size).sum(),
        };
        let text = serde_json::to_vec(&size).unwrap_or_default();
        write_whole(&size_path(&self.root, &self.revision), &text, 0o444)?;

        let revision = layout::revision_dir(&self.root, &self.revision);
        if let Err(e) = fs::rename(&files, &revision) {
            // It appeared meanwhile: by what it is named, it has the same content.
            if !is_present(&self.root, &self.revision) {
                return Err(StoreError::at("publish", &revision)(e));
            }
        }
        sync_folder(&self.root.join("revisions"))?;
        if let Err(error) = remove(&self.folder()) {
            tracing::warn!(%error, "the revision is complete, but its staging folder stays");
        }
        Ok(())
    }
}

/// Whether the manifest's file is there.
#[must_use]
pub fn has_manifest(root: &Path, manifest: &Manifest) -> bool {
    let digest = manifest.digest();
    fs::read(layout::manifest_path(root, &digest)).is_ok_and(|text| Digest::of(&text) == digest)
}

/// Writes the manifest's file, if every model of it is present. Answers whether they are.
///
/// # Errors
/// When the file system does not let us.
pub fn write_manifest(root: &Path, manifest: &Manifest) -> Result<bool, StoreError> {
    if !manifest.models.iter().all(|model| is_present(root, &model.revision)) {
        return Ok(false);
    }
    if !has_manifest(root, manifest) {
        write_whole(&layout::manifest_path(root, &manifest.digest()), &manifest.canonical(), 0o444)?;
    }
    Ok(true)
}
