//! Durable steps on the file system, and their errors in words.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A step on the file system that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}{}", path.display(), advice(source))]
pub struct StoreError {
    /// The step, as a verb.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl StoreError {
    /// For `map_err`.
    pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, path: path.to_owned(), source }
    }
}

fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "io::ErrorKind is open, and most kinds need no advice"
    )]
    match error.kind() {
        Kind::StorageFull => "; the file system is full: free some space, the copy goes on from where it is",
        Kind::QuotaExceeded => "; the quota is used up: raise it or free some space, the copy goes on",
        Kind::ReadOnlyFilesystem => {
            "; the file system is read-only: mount it writable; of EFS, allow this role elasticfilesystem:ClientWrite, \
             also in the file system's policy if it has one"
        }
        Kind::PermissionDenied => {
            "; permission is denied: check the access point's POSIX user and the folder's owner and mode"
        }
        Kind::StaleNetworkFileHandle => "; the file system was replaced while it was in use: start again",
        _ => "",
    }
}

/// Puts a whole file in place, durably: no reader ever sees a part of it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folders(folder)?;
    replace(path, bytes, |file| {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    })?;
    sync_folder(folder)
}

/// Puts a whole file in place, durably once the file system is synced.
pub(crate) fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    make_folders(path.parent().unwrap_or(Path::new(".")))?;
    replace(path, bytes, |file| file.set_permissions(fs::Permissions::from_mode(mode)))
}

/// Puts a whole file in place for as long as the machine lives; its folder must be there.
pub(crate) fn write_in_place(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    replace(path, bytes, |_| Ok(()))
}

/// Overwrites the content of a file that is there, without more room than it has.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(bytes)
}

fn replace(
    path: &Path,
    bytes: &[u8],
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), StoreError> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        finish(file.as_file())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(StoreError::at("write", path))
}

/// Whether a file can be made in a folder and written to; where that is not there, in the innermost one above it that
/// is. Nothing of it stays.
pub(crate) fn try_to_write(folder: &Path) -> Result<(), StoreError> {
    let folder = folder.ancestors().find(|it| it.exists()).unwrap_or(folder);
    let write = || {
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(b"?")?;
        // Only now does a network file system say that it is full, or a quota used up.
        file.sync_all()
    };
    write().map_err(StoreError::at("write to the folder", folder))
}

/// Makes a folder and those above it.
pub(crate) fn make_folders(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(StoreError::at("make the folder", path))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::at("sync the folder", path))
}

/// Makes all that was written to the file system of `file` durable: bytes, names and modes. Fails when a write to it
/// failed since `file` was opened (syncfs(2), since Linux 5.8).
pub(crate) fn sync_all_with(file: &File, path: &Path) -> Result<(), StoreError> {
    rustix::fs::syncfs(file).map_err(|e| StoreError::at("sync", path)(e.into()))
}

/// Gives a file its length, and its room where the file system can: then it is full at once, not in the middle.
pub(crate) fn reserve(file: &File, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    if length > 0 && file.metadata()?.len() < length {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
            // NFS before 4.2, and so EFS, has no such call.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    file.set_len(length)
}

/// Whether the file system below `folder` tells names apart that differ in case alone.
pub(crate) fn keeps_case(folder: &Path) -> Result<bool, StoreError> {
    let look = || {
        let probe = tempfile::Builder::new().prefix(".Case-").tempfile_in(folder)?;
        let name = probe.path().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        Ok(!folder.join(name).exists())
    };
    look().map_err(StoreError::at("look at", folder))
}

/// Removes what is at `path`, if anything is.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(it) if it.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::at("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        for (number, words) in [
            (28, "No space left on device (os error 28); the file system is full: free"),
            (30, "Read-only file system (os error 30); the file system is read-only: mount it"),
            (13, "Permission denied (os error 13); permission is denied: check"),
            (122, "the quota is used up: raise it"),
        ] {
            let error = StoreError::at("write", Path::new("/mnt/x"))(io::Error::from_raw_os_error(number));
            let text = error.to_string();
            assert!(text.starts_with("cannot write /mnt/x: ") && text.contains(words), "{text}");
        }
    }
}
