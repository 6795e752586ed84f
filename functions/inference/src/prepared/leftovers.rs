//! Folders that are written aside, and what is left of them when their process is ended: `<key>.<random>.part`.
//!
//! Nothing else under `prepared/` is ever removed here: another version of the function may have it mapped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// After this nobody works on a folder any more.
const OLD: Duration = Duration::from_hours(24);

/// So many folders may be under way or left over for one key. More processes at once would only do the same
/// once more, and what was broken off so often breaks off again: until the leftovers are old it is let be.
const MOST: usize = 3;

const EXTENSION: &str = "part";

/// Where a folder is written until it is whole: a name that no other process has.
pub(super) fn aside(folder: &Path) -> PathBuf {
    folder.with_extension(format!("{}.{EXTENSION}", Uuid::new_v4().simple()))
}

/// Whether enough processes have begun this folder, and not ended it.
pub(super) fn enough_for(folder: &Path) -> bool {
    let Some(parent) = folder.parent() else { return false };
    let key = folder.file_stem();
    let of_key = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.as_deref().and_then(|name| name.split('.').next()).map(AsRef::as_ref) == key
    };
    parts(parent).into_iter().filter(of_key).filter(|path| !is_old(path)).count() >= MOST
}

/// Removes what is old. Another process may do so at the same time.
pub(super) fn remove_old(parent: &Path) {
    for path in parts(parent).into_iter().filter(|path| is_old(path)) {
        let removed = fs::remove_dir_all(&path);
        tracing::info!(path = %path.display(), removed = removed.is_ok(), "a broken off preparation is removed");
    }
}

/// Makes the folder that prepared models are in, and tries whether it can be written.
pub(super) fn try_writing(parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    let probe = aside(&parent.join("probe"));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)
}

fn parts(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|e| e == EXTENSION)).collect()
}

/// By the time of the last file that was made in it, as the file system's clock says.
fn is_old(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|about| about.modified());
    let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > OLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_leftovers_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let (key, other) = (root.path().join("aa"), root.path().join("bb"));
        let whole = root.path().join("cc");
        fs::create_dir(&whole).unwrap();
        let age = |path: &Path, hours| {
            let at = SystemTime::now() - Duration::from_hours(hours);
            fs::File::open(path).unwrap().set_modified(at).unwrap();
        };
        age(&whole, 1000);
        let mut left: Vec<PathBuf> = (0..MOST).map(|_| aside(&key)).collect();
        left.push(aside(&other));
        for path in &left {
            fs::create_dir(path).unwrap();
        }
        assert!(enough_for(&key) && !enough_for(&other));
        age(&left[0], 25);
        assert!(!enough_for(&key), "one is too old to count");
        try_writing(root.path()).unwrap();
        remove_old(root.path());
        let there: Vec<bool> = left.iter().chain([&whole]).map(|path| path.is_dir()).collect();
        assert_eq!(there, [false, true, true, true, true]);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4, "the probe is gone");
    }
}
