//! Is a revision on disk still what was copied? By its record, without the source.
//!
//! Revisions are looked at one after the other, their files in pieces by several threads. What is in the page
//! cache is dropped first, so that the bytes come from the disk. Nothing is changed, and nothing mended: a
//! revision that is served must not change under the function.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use larder_contract::{Digest, layout};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::checksum::{Algorithm, Checksum};
use crate::expected::Expected;
use crate::store::record::{self, Recorded};
use crate::store::{self, StoreError};
use crate::transfer::Progress;

/// What one thread reads at a time.
const PIECE_BYTES: u64 = 64 << 20;

/// The most threads: a network file system wants several readers, and a small machine has few cores.
const THREADS: usize = 4;

/// What a look at a revision came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    /// Every file is there, has the recorded bytes, and there is no other.
    Intact,
    /// Not so; see the problems.
    Damaged,
    /// It has no record: it was copied by a version that wrote none.
    Unrecorded,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// It is not there, or no file.
    Missing,
    /// It has another length.
    Length,
    /// It has other bytes.
    Content,
    /// The disk does not give its bytes.
    Unreadable,
    /// It was not copied.
    Unexpected,
    /// It is the record, and says nothing that can be relied on.
    Record,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, below the revision's folder.
    pub path: String,
    /// What is wrong with it.
    pub what: What,
    /// What is wanted and what there is, for people.
    pub message: String,
}

/// What a look at a revision came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Which.
    pub revision: Digest,
    /// What it came to.
    pub state: State,
    /// How many files are recorded.
    pub files: usize,
    /// Their length together.
    pub bytes: u64,
    /// What is wrong, by path. Empty unless damaged.
    pub problems: Vec<Problem>,
}

/// Looks at one revision; none when `stop` came first.
///
/// # Errors
/// When the revision's folder or its record cannot be read at all.
pub fn verify(
    root: &Path,
    revision: &Digest,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Option<Verdict>, StoreError> {
    let files = match open(root, revision)? {
        Files::Recorded(files) => files,
        Files::Without(verdict) => return Ok(Some(verdict)),
    };
    let bytes = files.iter().map(|file| file.object.size).sum();
    progress.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    let mut problems = unexpected(root, revision, &files)?;
    let Some(wrong) = look_at_all(root, revision, &files, progress, stop) else { return Ok(None) };
    problems.extend(wrong);
    problems.sort();
    let state = if problems.is_empty() { State::Intact } else { State::Damaged };
    Ok(Some(Verdict { revision: *revision, state, files: files.len(), bytes, problems }))
}

/// The files that were recorded of a revision, or what it comes to without.
pub(crate) enum Files {
    /// These.
    Recorded(Vec<Recorded>),
    /// There is no record, or none that can be relied on.
    Without(Verdict),
}

/// Reads a revision's record.
pub(crate) fn open(root: &Path, revision: &Digest) -> Result<Files, StoreError> {
    let folder = layout::revision_dir(root, revision);
    fs::read_dir(&folder).map_err(StoreError::at("read the folder", &folder))?;
    let without = |state, problems| {
        Files::Without(Verdict { revision: *revision, state, files: 0, bytes: 0, problems })
    };
    let path = store::record_path(root, revision);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(without(State::Unrecorded, Vec::new())),
        text => text.map_err(StoreError::at("read", &path))?,
    };
    Ok(match record::read(revision, &text) {
        Ok(files) => Files::Recorded(files),
        Err(why) => {
            let path = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            without(State::Damaged, vec![Problem { path, what: What::Record, message: why.to_string() }])
        }
    })
}

/// The files of a revision's folder that are not recorded.
pub(crate) fn unexpected(
    root: &Path,
    revision: &Digest,
    files: &[Recorded],
) -> Result<Vec<Problem>, StoreError> {
    let mut found = BTreeSet::new();
    walk(&layout::revision_dir(root, revision), "", &mut found)?;
    for file in files {
        found.remove(file.object.path.as_str());
    }
    let unexpected =
        |path| Problem { path, what: What::Unexpected, message: "it is not part of the revision".to_owned() };
    Ok(found.into_iter().map(unexpected).collect())
}

/// Everything below a folder that is no folder, by its path there.
fn walk(folder: &Path, above: &str, found: &mut BTreeSet<String>) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(StoreError::at("read the folder", folder))? {
        let entry = entry.map_err(StoreError::at("read the folder", folder))?;
        let path = format!("{above}{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(StoreError::at("look at", &entry.path()))?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// A piece of a file, and what it hashes to once it was read.
struct Piece {
    file: usize,
    range: Range<u64>,
}

/// A file's number, where in it a piece starts, and what that hashes to.
type Hashed = (usize, u64, io::Result<Vec<Checksum>>);

/// What is wrong with recorded files; none when stopped.
pub(crate) fn look_at_all(
    root: &Path,
    revision: &Digest,
    files: &[Recorded],
    progress: &Progress,
    stop: &CancellationToken,
) -> Option<Vec<Problem>> {
    let folder = &layout::revision_dir(root, revision);
    let mut pieces = Vec::new();
    let mut problems = Vec::new();
    for (file, recorded) in files.iter().enumerate() {
        match length_of(folder, recorded) {
            Ok(()) => pieces.extend(pieces_of(file, recorded)),
            Err(problem) => problems.push(problem),
        }
    }
    let next = AtomicUsize::new(0);
    let read: Mutex<Vec<Hashed>> = Mutex::default();
    let threads = thread::available_parallelism().map_or(1, usize::from).clamp(2, THREADS);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sums = read_piece(folder, &files[piece.file], piece, stop);
                    let Some(sums) = sums.transpose() else { return };
                    progress.bytes.fetch_add(piece.range.end - piece.range.start, Ordering::Relaxed);
                    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                    read.push((piece.file, piece.range.start, sums));
                }
            });
        }
    });
    if stop.is_cancelled() {
        return None;
    }
    let mut read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
    read.sort_by_key(|(file, start, _)| (*file, *start));
    for of_file in read.chunk_by(|a, b| a.0 == b.0) {
        let recorded = &files[of_file[0].0];
        problems.extend(judge(recorded, of_file.iter().map(|(_, _, sums)| sums)));
    }
    Some(problems)
}

fn problem(recorded: &Recorded, what: What, message: String) -> Problem {
    Problem { path: recorded.object.path.to_string(), what, message }
}

fn length_of(folder: &Path, recorded: &Recorded) -> Result<(), Problem> {
    let size = recorded.object.size;
    match fs::symlink_metadata(folder.join(recorded.object.path.as_str())) {
        Ok(it) if it.is_file() && it.len() == size => Ok(()),
        Ok(it) if it.is_file() => {
            let message = format!("want {size} bytes, have {} bytes", it.len());
            Err(problem(recorded, What::Length, message))
        }
        Ok(_) => Err(problem(recorded, What::Missing, "it is no file".to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(problem(recorded, What::Missing, "it is not there".to_owned()))
        }
        Err(e) => Err(problem(recorded, What::Unreadable, e.to_string())),
    }
}

/// The hash that the source kept of the whole, where it is stronger than our CRC.
fn strong(recorded: &Recorded) -> Option<&Checksum> {
    match recorded.source.as_ref()? {
        Expected::Whole(checksum) if !checksum.algorithm.is_crc() => Some(checksum),
        Expected::Whole(_) | Expected::Composite { .. } => None,
    }
}

fn pieces_of(file: usize, recorded: &Recorded) -> impl Iterator<Item = Piece> {
    let size = recorded.object.size;
    // Only CRCs can be put together.
    let length = if strong(recorded).is_some() { size.max(1) } else { PIECE_BYTES };
    let starts = (0..size.div_ceil(length).max(1)).map(move |nth| nth * length);
    starts.map(move |start| Piece { file, range: start..(start + length).min(size) })
}

/// None when stopped.
fn read_piece(
    folder: &Path,
    recorded: &Recorded,
    piece: &Piece,
    stop: &CancellationToken,
) -> io::Result<Option<Vec<Checksum>>> {
    let path = folder.join(recorded.object.path.as_str());
    let mut algorithms = vec![Algorithm::Crc64Nvme];
    algorithms.extend(strong(recorded).map(|checksum| checksum.algorithm));
    let Range { start, end } = piece.range;
    if let Some(length) = std::num::NonZeroU64::new(end - start) {
        // Advice: a file system that does not take it reads from its cache.
        rustix::fs::fadvise(File::open(&path)?, start, Some(length), rustix::fs::Advice::DontNeed).ok();
    }
    Checksum::of_range(&algorithms, &path, start..end, || stop.is_cancelled())
}

fn judge<'a>(
    recorded: &Recorded,
    pieces: impl Iterator<Item = &'a io::Result<Vec<Checksum>>>,
) -> Option<Problem> {
    let pieces: Result<Vec<&Vec<Checksum>>, String> =
        pieces.map(|sums| sums.as_ref().map_err(ToString::to_string)).collect();
    let pieces = match pieces {
        Ok(pieces) => pieces,
        Err(error) => return Some(problem(recorded, What::Unreadable, error)),
    };
    let size = recorded.object.size;
    let full = if strong(recorded).is_some() { size } else { PIECE_BYTES };
    let lengths = (0..).map(|nth: u64| full.min(size.saturating_sub(nth * full)));
    let crcs = pieces.iter().filter_map(|sums| sums.first()).zip(lengths);
    let have = Checksum::joined(Algorithm::Crc64Nvme, crcs);
    let strong_one = pieces.first().and_then(|sums| sums.get(1));
    let compared = [(Some(&recorded.crc), have.as_ref()), (strong(recorded), strong_one)];
    let (want, have) = compared.into_iter().find(|(want, have)| want != have)?;
    let text = |sum: Option<&Checksum>| sum.map_or_else(|| "none".to_owned(), ToString::to_string);
    Some(problem(recorded, What::Content, format!("want {}, have {}", text(want), text(have))))
}
