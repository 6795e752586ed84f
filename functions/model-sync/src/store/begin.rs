//! The right to write a revision, or a share of it, and what earlier attempts left.
//!
//! **A copy by one** holds the lock alone. **Workers** hold it together, each with a journal of its own, which it
//! locks too: a second delivery of the same share finds that taken and leaves. What all of them rely on is made
//! by the first, while it holds the lock alone: folders, a journal, the number of workers. Nobody is at work then,
//! so work that was divided among another number is never mixed with this. Whoever holds the lock alone also
//! folds the workers' journals into one and ends the division: a copy by one, another number of workers, and the
//! assembly of what workers fetched all begin with everything that was done.
//!
//! The number stands in the lock file, and the files of all workers are made with it. A network file system may
//! go on for a while saying that a file is not there; what is in a file that was just locked or opened is new.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_contract::{Digest, ObjectEntry, Worker, layout};

use super::disk::{StoreError, keeps_case, make_folders, remove, sync_folder, write_whole};
use super::journal::{self, Done, Entry, Header};
use super::staging::{Journal, Staging};
use super::{heartbeat, is_present, journal_path, lock_path, reserve_failure};
use crate::listing::Listing;
use crate::plan::{self, Division};

/// How long a worker waits for one that holds the lock alone to make things ready.
const READY: Duration = Duration::from_secs(10);

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

/// Takes the right to write a revision, or a worker's share of it, and takes up what earlier attempts left.
///
/// A worker waits for up to 10 s while another makes things ready.
///
/// # Errors
/// When the file system does not let us.
pub fn begin(
    root: &Path,
    listing: &Listing,
    part_bytes: u64,
    worker: Option<Worker>,
) -> Result<Begun, StoreError> {
    let Some(worker) = worker else { return begin_alone(root, listing, part_bytes) };
    let began = Instant::now();
    loop {
        if let Some(begun) = begin_share(root, listing, part_bytes, worker)? {
            return Ok(begun);
        }
        match begin_alone(root, listing, part_bytes)? {
            Begun::Present => return Ok(Begun::Present),
            Begun::Ours(staging) => divide(&staging, &header_of(listing, part_bytes), worker.of())?,
            Begun::Running if began.elapsed() > READY => return Ok(Begun::Running),
            // Not all at the same instants: those who look hold the lock, too.
            Begun::Running => std::thread::sleep(Duration::from_millis(fastrand::u64(5..50))),
        }
    }
}

/// A worker's share, if the work is divided among as many; none while another holds the lock alone.
fn begin_share(
    root: &Path,
    listing: &Listing,
    part_bytes: u64,
    worker: Worker,
) -> Result<Option<Begun>, StoreError> {
    let revision = listing.revision;
    let lock = open_lock(root, &revision)?;
    if !is_locked(lock.try_lock_shared(), &lock_path(root, &revision))? {
        return Ok(None);
    }
    if is_present(root, &revision) {
        return Ok(Some(Begun::Present));
    }
    let header = header_of(listing, part_bytes);
    let is_same = || progress(root, &revision).is_some_and(|(found, _)| found == header);
    if divided(root, &revision) != worker.of() || !is_same() {
        return Ok(None);
    }
    let path = worker_path(root, &revision, worker.index());
    let at = |operation| StoreError::at(operation, &path);
    let mut file = match OpenOptions::new().read(true).append(true).open(&path) {
        Ok(file) => file,
        // Whoever folded the journals was killed before it could end the division.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at("open")(e)),
    };
    if !is_locked(file.try_lock(), &path)? {
        return Ok(Some(Begun::Running));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(at("read"))?;
    let Some(whole) = journal::read_more(&text, &header, &mut Done::default()) else { return Ok(None) };
    file.set_len(whole as u64).map_err(at("cut"))?;
    reserve_failure(root, &revision)?;
    let done = progress(root, &revision).map(|(_, done)| done).unwrap_or_default();
    let journal = Journal { path, file, done };
    let division = Division::new(sizes(listing), part_bytes, Some(worker));
    Ok(Some(Begun::Ours(Arc::new(Staging::new(root, listing, division, journal, lock)))))
}

/// Divides what is left among so many workers, while nobody else is at work.
fn divide(staging: &Staging, header: &Header, of: u16) -> Result<(), StoreError> {
    let (root, revision) = (staging.root(), staging.revision());
    for (file, object) in (0..).zip(staging.objects()) {
        // Several will write to it: it must not be a link that was made and not noted.
        if !staging.division().is_one_part(file) && staging.done(|done| done.parts_of(file).next().is_none())
        {
            remove(&staging.path_of(object))?;
        }
    }
    for worker in Worker::all(of) {
        write_whole(&worker_path(root, revision, worker.index()), header.line().as_bytes(), 0o644)?;
        heartbeat::begin_idle(root, revision, worker)?;
    }
    // Now they count.
    let text = format!("{of}\n");
    staging
        .lock()
        .write_all_at(text.as_bytes(), 0)
        .map_err(StoreError::at("write", &lock_path(root, revision)))
}

fn sizes(listing: &Listing) -> Vec<u64> {
    listing.objects.iter().map(|object| object.size).collect()
}

fn header_of(listing: &Listing, part_bytes: u64) -> Header {
    Header::new(listing.revision, part_bytes, listing.objects.len() as u64, listing.bytes())
}

fn open_lock(root: &Path, revision: &Digest) -> Result<File, StoreError> {
    let path = lock_path(root, revision);
    make_folders(&root.join("staging"))?;
    // For reading and writing: NFS gives a shared lock to who may read, and the other to who may write.
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    lock.map_err(StoreError::at("open", &path))
}

fn is_locked(tried: Result<(), TryLockError>, path: &Path) -> Result<bool, StoreError> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(StoreError::at("lock", path)(e)),
    }
}

fn begin_alone(root: &Path, listing: &Listing, part_bytes: u64) -> Result<Begun, StoreError> {
    let revision = listing.revision;
    if is_present(root, &revision) {
        return Ok(Begun::Present);
    }
    let lock = open_lock(root, &revision)?;
    if !is_locked(lock.try_lock(), &lock_path(root, &revision))? {
        return Ok(Begun::Running);
    }
    // Whoever held the lock before us may just have finished.
    if is_present(root, &revision) {
        return Ok(Begun::Present);
    }
    make_folders(&layout::staging_dir(root, &revision))?;
    reserve_failure(root, &revision)?;
    let of = divided(root, &revision);
    let journal = take_up(root, &header_of(listing, part_bytes), of)?;
    heartbeat::forget_workers(root, &revision, of)?;
    lock.set_len(0).map_err(StoreError::at("cut", &lock_path(root, &revision)))?;
    let found = journal.done.files();
    let division = Division::new(sizes(listing), part_bytes, None);
    let staging = Staging::new(root, listing, division, journal, lock);
    staging.folders().iter().try_for_each(|folder| make_folders(folder))?;
    refuse_one_file_for_two(&staging, keeps_case)?;
    for file in found {
        let object = staging.objects().get(file as usize);
        let length = object.and_then(|o| fs::metadata(staging.path_of(o)).ok()).map(|m| m.len());
        if length.is_none() || length != object.map(|o| o.size) {
            staging.drop_file(file)?;
        }
    }
    Ok(Begun::Ours(Arc::new(staging)))
}

/// Fails where two paths differ in case alone, on a file system that takes them for one.
fn refuse_one_file_for_two(
    staging: &Staging,
    keeps_case: impl FnOnce(&Path) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    match equal_but_for_case(staging.objects()) {
        Some((one, other)) if !keeps_case(&staging.folder())? => {
            let why =
                format!("it is the same file as {other:?} here: this file system does not tell case apart");
            Err(StoreError::at("make", &staging.path_of(one))(io::Error::other(why)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Two paths that a file system which ignores case takes for one.
fn equal_but_for_case(objects: &[ObjectEntry]) -> Option<(&ObjectEntry, &str)> {
    let mut seen = std::collections::BTreeMap::new();
    objects.iter().find_map(|object| {
        let other = seen.insert(object.path.as_str().to_lowercase(), object.path.as_str())?;
        Some((object, other))
    })
}

/// Opens the journal for appending, those of workers folded into it; a new one, and nothing staged, unless there
/// is one with this header.
fn take_up(root: &Path, header: &Header, workers: u16) -> Result<Journal, StoreError> {
    let revision = header.revision;
    let folder = layout::staging_dir(root, &revision);
    let path = journal_path(root, &revision);
    let at = |operation| StoreError::at(operation, &path);
    let remove_all = || (0..workers).try_for_each(|index| remove(&worker_path(root, &revision, index)));
    let found = fs::read(&path).ok().as_deref().and_then(journal::read);
    if let Some((_, mut done, whole)) = found.filter(|(old, ..)| old == header) {
        if workers > 0 {
            done = progress(root, &revision).map_or(done, |(_, all)| all);
            // All of it is in one file before the others go; and they go before anything is taken back, which
            // would come back with them.
            let text = done.entries().fold(header.line(), |text, entry| text + &Entry::line(&entry));
            write_whole(&path, text.as_bytes(), 0o644)?;
            remove_all()?;
            sync_folder(&folder)?;
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(at("open"))?;
        if workers == 0 {
            file.set_len(whole as u64).map_err(at("cut"))?;
        }
        return Ok(Journal { path, file, done });
    }
    // The journals first: files without a journal are nothing, a journal without its files is a lie.
    remove(&path)?;
    remove_all()?;
    remove(&folder.join("files"))?;
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(at("make"))?;
    file.write_all(header.line().as_bytes()).and_then(|()| file.sync_all()).map_err(at("write"))?;
    sync_folder(&folder)?;
    Ok(Journal { path: path.clone(), file, done: Done::default() })
}

/// The journal of one worker.
fn worker_path(root: &Path, revision: &Digest, index: u16) -> PathBuf {
    layout::staging_dir(root, revision).join(format!("journal.{index}"))
}

/// Among how many workers the copy of a revision is divided; 0 when it is not.
pub(super) fn divided(root: &Path, revision: &Digest) -> u16 {
    fs::read_to_string(lock_path(root, revision)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What all journals of a revision say: that of a copy by one, then those of the workers.
#[must_use]
pub fn progress(root: &Path, revision: &Digest) -> Option<(Header, Done)> {
    let (header, mut done, _) = journal::read(&fs::read(journal_path(root, revision)).ok()?)?;
    for index in 0..divided(root, revision) {
        if let Ok(text) = fs::read(worker_path(root, revision, index)) {
            journal::read_more(&text, &header, &mut done);
        }
    }
    Some((header, done))
}

/// Whether every part of a listing is on disk, by whomever.
#[must_use]
pub fn is_fetched(root: &Path, listing: &Listing, part_bytes: u64) -> bool {
    let all: u64 = listing.objects.iter().map(|object| plan::count(object.size, part_bytes)).sum();
    progress(root, &listing.revision)
        .is_some_and(|(header, done)| header == header_of(listing, part_bytes) && done.parts() as u64 == all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::as_model;
    use crate::source::Listed;

    /// What a copy of these paths comes to where the file system keeps case or does not; none when it was not asked.
    fn begun(paths: &[&str], keeps: bool) -> (Option<bool>, Result<(), String>) {
        let root = tempfile::tempdir().unwrap();
        let listed = |path: &&str| Listed { key: (*path).to_owned(), size: 1, etag: "e".to_owned() };
        let listing = as_model("s3://b/", "", paths.iter().map(listed).collect()).unwrap();
        let Begun::Ours(staging) = begin(root.path(), &listing, 8, None).unwrap() else { panic!("not ours") };
        let mut asked = None;
        let keeps_case = |folder: &Path| {
            assert!(folder.is_dir());
            asked = Some(keeps);
            Ok(keeps)
        };
        let refused = refuse_one_file_for_two(&staging, keeps_case).map_err(|error| error.to_string());
        (asked, refused)
    }

    #[test]
    fn two_names_for_one_file_are_refused_where_case_is_ignored() {
        for paths in [&["a/M.onnx", "a/m.onnx"][..], &["A/m.onnx", "a/m.onnx"], &["x", "É", "é"]] {
            assert_eq!(begun(paths, true), (Some(true), Ok(())), "{paths:?}");
            let (_, refused) = begun(paths, false);
            let words = refused.unwrap_err();
            let last = paths[paths.len() - 1];
            assert!(
                words.starts_with("cannot make ") && words.contains(&format!("files/{last}: ")),
                "{words}"
            );
            assert!(words.contains("does not tell case apart"), "{words}");
        }
        // Elsewhere nobody looks.
        for paths in [&["a/m.onnx", "b/m.onnx"][..], &["m"], &["m", "m.onnx"]] {
            assert_eq!(begun(paths, false), (None, Ok(())), "{paths:?}");
        }
    }

    #[test]
    fn this_file_system_keeps_case() {
        let root = tempfile::tempdir().unwrap();
        assert!(keeps_case(root.path()).unwrap());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "nothing stays");
    }
}
