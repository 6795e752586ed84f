//! A revision in flight: written and published.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use larder_contract::{Digest, ObjectEntry, RelativePath, layout};

use super::disk::{StoreError, make_folders, remove, reserve, sync_all_with, sync_folder, write_beside};
use super::journal::{Done, Entry, OnDisk};
use super::record::{self, Recorded};
use super::staged::{Cache, StagedFile};
use super::{READ_ONLY, Size, is_present, layers_path, record_path, size_path};
use crate::checksum::{Algorithm, Checksum};
use crate::listing::Listing;
use crate::plan::Division;
use crate::reverify;

/// The folder of what was taken out of staged layers.
const UNPACKED: &str = "unpacked";

/// A revision in flight, and the right to write it. Given up when the last handle is dropped.
#[derive(Debug)]
pub struct Staging {
    root: PathBuf,
    revision: Digest,
    objects: Vec<ObjectEntry>,
    division: Division,
    /// The handles that are in use, one for all parts of a file.
    open: Vec<Mutex<Weak<StagedFile>>>,
    journal: Mutex<Journal>,
    lock: File,
}

/// What was taken out of staged layers.
#[derive(Debug)]
pub struct Unpacked {
    /// The files.
    pub files: Vec<Recorded>,
    /// What is noted of the layers.
    pub layers: Vec<u8>,
}

/// The journal that is ours to write.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// What it and those of others say.
    pub(super) done: Done,
}

impl Staging {
    pub(super) fn new(
        root: &Path,
        listing: &Listing,
        division: Division,
        journal: Journal,
        lock: File,
    ) -> Self {
        Self {
            root: root.to_owned(),
            revision: listing.revision,
            objects: listing.objects.clone(),
            division,
            open: listing.objects.iter().map(|_| Mutex::default()).collect(),
            journal: Mutex::new(journal),
            lock,
        }
    }

    pub(super) const fn lock(&self) -> &File {
        &self.lock
    }

    /// What of it is ours to fetch.
    #[must_use]
    pub const fn division(&self) -> &Division {
        &self.division
    }

    /// The revision.
    #[must_use]
    pub const fn revision(&self) -> &Digest {
        &self.revision
    }

    /// The folder that all revisions are below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
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

    /// Every folder of the staged files, those above before those below.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self.folder().join("files");
        let mut folders = BTreeSet::from([files.clone()]);
        for object in &self.objects {
            let path = object.path.as_str();
            folders.extend(path.match_indices('/').map(|(end, _)| files.join(&path[..end])));
        }
        folders
    }

    /// A staged file for writing at offsets, at its full length. All who have it at the same time have the same
    /// handle, opened as the first of them asked.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn open(&self, file: u32, cache: Cache) -> Result<Arc<StagedFile>, StoreError> {
        let object = &self.objects[file as usize];
        let mut open = self.open[file as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.upgrade() {
            return Ok(file);
        }
        let path = self.path_of(object);
        let at = |operation| StoreError::at(operation, &path);
        // A link that was made and not noted is the file of another revision, too: not to be written to.
        if fs::symlink_metadata(&path).is_ok_and(|found| found.nlink() > 1) {
            remove(&path)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(at("open"))?;
        if file.metadata().map_err(at("look at"))?.len() != object.size {
            reserve(&file, object.size).map_err(at("reserve"))?;
        }
        let file = Arc::new(StagedFile::new(path, file, cache));
        *open = Arc::downgrade(&file);
        Ok(file)
    }

    /// As [`Staging::open`], without what an earlier attempt may have left, which may be read-only.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn open_anew(&self, file: u32) -> Result<Arc<StagedFile>, StoreError> {
        remove(&self.path_of(&self.objects[file as usize]))?;
        self.open(file, Cache::Past)
    }

    /// Makes a file with all of its content, read-only from the start.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn write_at_once(
        &self,
        file: u32,
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let path = self.path_of(&self.objects[file as usize]);
        let create = || OpenOptions::new().write(true).create_new(true).mode(READ_ONLY).open(&path);
        let created = match create() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                remove(&path)?;
                create()
            }
            first => first,
        };
        let file = created.map_err(StoreError::at("make", &path))?;
        let finish = || {
            write(&file)?;
            // The umask may have taken something away.
            if file.metadata()?.permissions().mode() & 0o777 != READ_ONLY {
                file.set_permissions(fs::Permissions::from_mode(READ_ONLY))?;
            }
            Ok(())
        };
        finish().map_err(StoreError::at("write", &path))
    }

    /// Makes a file a link to one of another revision. Answers whether it is now: what cannot be linked, or is no
    /// file of the right length, is none.
    ///
    /// # Errors
    /// When what an earlier attempt left cannot be removed.
    pub fn link(&self, file: u32, other: &Path) -> Result<bool, StoreError> {
        let object = &self.objects[file as usize];
        let path = self.path_of(object);
        remove(&path)?;
        if let Err(error) = fs::hard_link(other, &path) {
            tracing::info!(other = %other.display(), %error, "it cannot be linked, and is fetched");
            return Ok(false);
        }
        let is_right = fs::symlink_metadata(&path).is_ok_and(|it| it.is_file() && it.len() == object.size);
        if !is_right {
            remove(&path)?;
        }
        Ok(is_right)
    }

    /// Takes a link away again.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn unlink(&self, file: u32) -> Result<(), StoreError> {
        remove(&self.path_of(&self.objects[file as usize]))
    }

    /// What is done by now.
    pub(crate) fn done<T>(&self, look: impl FnOnce(&Done) -> T) -> T {
        look(&self.journal().done)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all bytes that were written durable, in one call for any number of files, names and modes too.
    ///
    /// By the lock's handle, which is older than all of them: the kernel tells each handle of every write that
    /// failed since it was opened.
    ///
    /// # Errors
    /// When the file system does not let us, or a write to it failed since the copy began.
    pub fn sync(&self) -> Result<(), StoreError> {
        sync_all_with(&self.lock, &self.folder())
    }

    /// Notes what happened; parts must be synced before. Durable when this returns.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn note(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        self.add(entries, File::sync_data)
    }

    /// Makes a verified file read-only and notes that it needs no more work.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn seal(&self, file: u32, entry: Entry) -> Result<(), StoreError> {
        if let Some(object) = self.objects.get(file as usize) {
            let path = self.path_of(object);
            fs::set_permissions(&path, fs::Permissions::from_mode(READ_ONLY))
                .map_err(StoreError::at("make read-only", &path))?;
        }
        // Not synced: a line that is lost costs one more look at the file.
        self.add(vec![entry], |_| Ok(()))
    }

    fn add(
        &self,
        entries: Vec<Entry>,
        finish: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let text: String = entries.iter().map(Entry::line).collect();
        let mut journal = self.journal();
        let written = journal.file.write_all(text.as_bytes()).and_then(|()| finish(&journal.file));
        written.map_err(StoreError::at("write", &journal.path))?;
        for entry in entries {
            journal.done.add(entry);
        }
        Ok(())
    }

    /// Forgets a file whose content is wrong.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn drop_file(&self, file: u32) -> Result<(), StoreError> {
        self.note(vec![Entry::Drop(file)])?;
        self.objects.get(file as usize).map_or(Ok(()), |object| remove(&self.path_of(object)))
    }

    /// Makes the revision appear: the staged files, or those that were taken out of them, where they are layers. All
    /// must be written, and the staged ones synced and sealed.
    ///
    /// # Errors
    /// When the file system does not let us; then it can be tried again.
    pub fn publish(&self, unpacked: Option<Unpacked>) -> Result<(), StoreError> {
        let (folder, layers, files) = match unpacked {
            Some(Unpacked { files, layers }) => {
                write_beside(&layers_path(&self.root, &self.revision), &layers, READ_ONLY)?;
                (self.folder().join(UNPACKED), self.objects.as_slice(), files)
            }
            None => (self.folder().join("files"), [].as_slice(), self.recorded()),
        };
        let size = Size { files: files.len() as u64, bytes: files.iter().map(|file| file.object.size).sum() };
        let text = serde_json::to_vec(&size).unwrap_or_default();
        write_beside(&size_path(&self.root, &self.revision), &text, READ_ONLY)?;
        let text = record::write(&self.revision, layers, &files);
        write_beside(&record_path(&self.root, &self.revision), &text, READ_ONLY)?;
        // What was found out about an earlier one of this name.
        reverify::files(&self.root, &self.revision).iter().try_for_each(|path| remove(path))?;
        // These, the files' modes, the names in all folders, and the bytes of what was unpacked.
        self.sync()?;

        let revision = layout::revision_dir(&self.root, &self.revision);
        if let Err(e) = fs::rename(&folder, &revision) {
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

    /// Makes room for what is taken out of staged layers, without what an earlier attempt left.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn begin_unpacked(&self) -> Result<(), StoreError> {
        remove(&self.folder().join(UNPACKED))?;
        make_folders(&self.folder().join(UNPACKED))
    }

    /// Where a file that is taken out of a layer is while it is staged.
    #[must_use]
    pub fn unpacked_path(&self, path: &RelativePath) -> PathBuf {
        self.folder().join(UNPACKED).join(path.as_str())
    }

    /// Makes such a file's folder.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn make_unpacked_folder(&self, path: &RelativePath) -> Result<(), StoreError> {
        let folder = self.unpacked_path(path);
        folder.parent().map_or(Ok(()), make_folders)
    }

    /// Makes such a file, read-only for everyone else, with room for so many bytes.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn make_unpacked(&self, path: &RelativePath, size: u64) -> Result<File, StoreError> {
        self.make_unpacked_folder(path)?;
        let at = self.unpacked_path(path);
        let make = || {
            let file = OpenOptions::new().write(true).create_new(true).mode(READ_ONLY).open(&at)?;
            // The umask may have taken something away.
            file.set_permissions(fs::Permissions::from_mode(READ_ONLY))?;
            reserve(&file, size)?;
            Ok(file)
        };
        make().map_err(StoreError::at("make", &at))
    }

    fn recorded(&self) -> Vec<Recorded> {
        let recorded = |(file, object): (u32, &ObjectEntry), done: &Done| {
            let crc = |part: &OnDisk| Some((part.sums.first()?.clone(), part.length));
            let parts: Vec<_> = done.parts_of(file).filter_map(crc).collect();
            let parts = parts.iter().map(|(sum, length)| (sum, *length));
            let crc = Checksum::joined(Algorithm::Crc64Nvme, parts);
            Recorded {
                object: object.clone(),
                // Every part has one: the journal says no part without.
                crc: crc.unwrap_or_else(|| Checksum::of(Algorithm::Crc64Nvme, b"")),
                source: done.expected(file).cloned(),
            }
        };
        self.done(|done| (0..).zip(&self.objects).map(|each| recorded(each, done)).collect())
    }
}
