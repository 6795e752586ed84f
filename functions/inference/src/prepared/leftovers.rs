//! What is under `prepared/` besides what this version uses, and when it is removed.
//!
//! ```text
//! <key>                  whole; its time is that of its last use, to the hour
//! <key>.<random>.part    being written, or broken off; its time is that of the last sign of life
//! <key>.<random>.old     being removed
//! ```
//!
//! Deliberately absent: what is of a revision that is gone. Model-sync removes it with the revision.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use larder_contract::Digest;
use uuid::Uuid;

use super::{Conditions, RECORD, Record};

/// A process at work gives a sign of life more often than this.
const LIFE: Duration = Duration::from_hours(1);

/// A use is noted this often.
const NOTED: Duration = Duration::from_hours(1);

/// What another version has not used for this long is out of use.
const UNUSED: Duration = Duration::from_hours(24);

/// So many folders may be under way or left over for one key. More processes at once would only do the same
/// once more, and what was broken off so often breaks off again: for an hour it is let be.
const MOST: usize = 3;

const PART: &str = "part";
const OLD: &str = "old";

/// Where a folder is written until it is whole: a name that no other process has.
pub(super) fn aside(folder: &Path) -> PathBuf {
    named(folder, PART)
}

fn named(folder: &Path, extension: &str) -> PathBuf {
    folder.with_extension(format!("{}.{extension}", Uuid::new_v4().simple()))
}

/// The process that writes this folder lives.
pub(super) fn alive(aside: &Path) {
    touch(aside);
}

/// A whole folder is used now.
pub(super) fn used(folder: &Path) {
    if is_older(folder, NOTED) {
        touch(folder);
    }
}

/// Whether enough processes have begun this folder, and not ended it.
pub(super) fn enough_for(folder: &Path) -> bool {
    let Some(parent) = folder.parent() else { return false };
    let key = folder.file_stem();
    let of_key = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.as_deref().and_then(|name| name.split('.').next()).map(AsRef::as_ref) == key
    };
    let parts = folders(parent).into_iter().filter(|path| ends_in(path, PART));
    parts.filter(of_key).filter(|path| !is_older(path, LIFE)).count() >= MOST
}

/// Removes what was broken off, and what is of other versions and out of use. Other processes may do so at
/// the same time.
pub(super) fn collect(parent: &Path, here: &Conditions) {
    for path in folders(parent) {
        if ends_in(&path, PART) && is_older(&path, LIFE) {
            remove(&path, "a broken off preparation is removed");
        } else if ends_in(&path, OLD) {
            remove(&path, "what was prepared for another version is removed");
        } else if is_whole(&path) && is_older(&path, UNUSED) && is_of_another_version(&path, here) {
            // Renamed first: whoever finds it under its name finds it whole.
            let old = named(&path, OLD);
            if fs::rename(&path, &old).is_ok() {
                remove(&old, "what was prepared for another version is removed");
            }
        }
    }
}

/// Makes the folder that prepared models are in, and tries whether it can be written.
pub(super) fn try_writing(parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    let probe = aside(&parent.join("probe"));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)
}

fn remove(path: &Path, message: &str) {
    let removed = fs::remove_dir_all(path).is_ok();
    tracing::info!(path = %path.display(), removed, "{message}");
}

fn is_whole(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| format!("sha256:{name}").parse::<Digest>().is_ok())
}

/// Of another tool or ONNX Runtime. Another processor is none: functions have both kinds at once. What has no
/// record that can be read is of no version at all.
fn is_of_another_version(folder: &Path, here: &Conditions) -> bool {
    let record = fs::read(folder.join(RECORD)).ok();
    let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    record.is_none_or(|Record { conditions, .. }| {
        let Conditions { tool, format, onnx_runtime, .. } = conditions;
        (tool, format, onnx_runtime) != (here.tool.clone(), here.format, here.onnx_runtime.clone())
    })
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn ends_in(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

/// A mount that cannot be written is used all the same.
fn touch(folder: &Path) {
    let touched = fs::File::open(folder).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(folder = %folder.display(), %error, "the time of its last use cannot be noted");
    }
}

/// By its time, as the file system's clock says it.
fn is_older(path: &Path, than: Duration) -> bool {
    let changed = fs::metadata(path).and_then(|about| about.modified());
    let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > than)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Conditions {
        Conditions {
            tool: "2".into(),
            format: 1,
            onnx_runtime: "1.32".into(),
            processor: "x86_64 avx2".into(),
        }
    }

    fn age(path: &Path, minutes: u64) {
        let at = SystemTime::now() - Duration::from_mins(minutes);
        fs::File::open(path).unwrap().set_modified(at).unwrap();
    }

    fn whole(root: &Path, conditions: Conditions, minutes: u64) -> PathBuf {
        let revision = Digest::of(b"a revision");
        let folder = conditions.folder(root, &revision);
        fs::create_dir_all(&folder).unwrap();
        let record = Record { revision, conditions, files: std::collections::BTreeMap::new() };
        fs::write(folder.join(RECORD), serde_json::to_vec(&record).unwrap()).unwrap();
        age(&folder, minutes);
        folder
    }

    #[test]
    fn three_that_live_are_enough_for_a_key() {
        let root = tempfile::tempdir().unwrap();
        let (key, other) = (root.path().join("aa"), root.path().join("bb"));
        let mut left: Vec<PathBuf> = (0..MOST).map(|_| aside(&key)).collect();
        left.push(aside(&other));
        for path in &left {
            fs::create_dir(path).unwrap();
        }
        assert!(enough_for(&key) && !enough_for(&other));
        age(&left[0], 61);
        assert!(!enough_for(&key), "one gives no sign of life");
        alive(&left[0]);
        assert!(enough_for(&key));
        age(&left[0], 61);
        try_writing(root.path()).unwrap();
        collect(root.path(), &here());
        let there: Vec<bool> = left.iter().map(|path| path.is_dir()).collect();
        assert_eq!(there, [false, true, true, true]);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3, "the probe is gone");
    }

    #[test]
    fn only_what_other_versions_do_not_use_is_collected() {
        let (day, week) = (24 * 60, 7 * 24 * 60);
        let root = tempfile::tempdir().unwrap();
        let check = |conditions: Conditions, minutes, stays| {
            let folder = whole(root.path(), conditions.clone(), minutes);
            collect(folder.parent().unwrap(), &here());
            assert_eq!(folder.is_dir(), stays, "{conditions:?} {minutes}");
        };
        check(here(), week, true);
        check(Conditions { processor: "aarch64".into(), ..here() }, week, true);
        for other in [
            Conditions { tool: "1".into(), ..here() },
            Conditions { format: 0, ..here() },
            Conditions { onnx_runtime: "1.31".into(), ..here() },
        ] {
            check(other.clone(), day - 60, true);
            check(other, day + 60, false);
        }
        // One that broke off in the middle, and two at once.
        let prepared = root.path().join("prepared");
        fs::create_dir(prepared.join("aa.bb.old")).unwrap();
        for tool in 0..20 {
            whole(root.path(), Conditions { tool: format!("0.{tool}"), ..here() }, week);
        }
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| collect(&prepared, &here()));
            }
        });
        // What one had begun to remove when the other looked, either may have left.
        collect(&prepared, &here());
        let left = folders(&prepared);
        assert_eq!(left.len(), 2, "this version's: {left:?}");
    }

    #[test]
    fn what_is_used_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = whole(root.path(), Conditions { tool: "1".into(), ..here() }, 3 * 24 * 60);
        used(&folder);
        collect(folder.parent().unwrap(), &here());
        assert!(folder.is_dir());
    }
}
