//! A revision in flight: begun, written, published.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use larder_contract::{Digest, ObjectEntry, layout};

use super::disk::{StoreError, make_folders, remove, sync_folder, write_whole};
use super::journal::{self, Done, Entry, Header};
use super::{Size, failure_path, is_present, journal_path, lock_path, progress, size_path};
use crate::listing::Listing;
use crate::plan::Part;

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
