//! Writes the prepared files of a model, and chooses by measurement whether they are used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use larder_contract::Digest;

use super::measure::{Measured, agree, measured};
use super::{Choice, Conditions, FileRecord, RECORD, Record, artefact, leftovers};
use crate::onnx::{Engine, Level, OnnxError};

/// A prepared file may run this much slower than the original, and this many milliseconds: measurements vary
/// by as much.
const SLOWER: f64 = 1.05;
const SLOWER_MS: f64 = 0.2;

/// A model's files, listed this deep, as when it is loaded.
const LEVELS: usize = 3;

/// Why a model cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file or folder cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The record cannot be written as JSON.
    #[error("the record cannot be written")]
    Record(#[from] serde_json::Error),
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> PrepareError {
    let path = path.to_owned();
    move |source| PrepareError::Disk { path, source }
}

/// Prepares the ONNX files in `originals`, which is the content of `revision`, for this process's conditions,
/// under `root`. Nothing is done if that was done before.
///
/// # Errors
/// [`PrepareError`]; then nothing is left. A file that cannot be prepared is no error: its original is used,
/// and the record says why.
pub fn prepare(
    engine: &Engine,
    root: &Path,
    revision: &Digest,
    originals: &Path,
) -> Result<PathBuf, PrepareError> {
    let conditions = Conditions::here();
    let folder = conditions.folder(root, revision);
    if folder.is_dir() {
        return Ok(folder);
    }
    let aside = leftovers::aside(&folder);
    let written = write(engine, &aside, conditions, revision, originals).and_then(|()| {
        match fs::rename(&aside, &folder) {
            // Another process was first: by its name it has the same.
            Err(_) if folder.is_dir() => fs::remove_dir_all(&aside).map_err(at(&aside)),
            renamed => renamed.map_err(at(&folder)),
        }
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    written.map(|()| folder)
}

fn write(
    engine: &Engine,
    aside: &Path,
    conditions: Conditions,
    revision: &Digest,
    originals: &Path,
) -> Result<(), PrepareError> {
    let mut paths = Vec::new();
    onnx_files(originals, LEVELS, &mut paths)?;
    fs::create_dir_all(aside).map_err(at(aside))?;
    let mut files = BTreeMap::new();
    for path in paths {
        leftovers::alive(aside);
        let relative = path.strip_prefix(originals).unwrap_or(&path);
        let record = file(engine, &path, &artefact(aside, relative))?;
        files.insert(relative.display().to_string(), record);
    }
    let record = Record { revision: *revision, conditions, files };
    let path = aside.join(RECORD);
    fs::write(&path, serde_json::to_vec_pretty(&record)?).map_err(at(&path))?;
    fs::File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path))
}

/// Measures the original and what can be made of it, and keeps the best at `target`, if it is not the original.
fn file(engine: &Engine, original: &Path, target: &Path) -> Result<FileRecord, PrepareError> {
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(at(parent))?;
    let bytes = fs::read(original).map_err(at(original))?;
    let mut record = FileRecord {
        original: Digest::of(&bytes),
        choice: Choice::Original,
        costs: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    drop(bytes);
    let base = match measured(engine, original, Engine::open_original) {
        Ok(base) => base,
        Err(reason) => {
            record.refused.insert("original".to_owned(), reason);
            return Ok(record);
        }
    };
    record.costs.insert("original".to_owned(), base.cost);
    let mut best = base.cost.cold_ms();
    for (name, level, choice) in
        [("all", Level::All, Choice::All), ("extended", Level::Extended, Choice::Extended)]
    {
        let candidate = target.with_extension(name);
        let made = candidate_of(engine, original, &candidate, level, &base);
        match made {
            Ok(cost) => {
                record.costs.insert(name.to_owned(), cost);
                if cost.run_ms <= base.cost.run_ms * SLOWER + SLOWER_MS && cost.cold_ms() < best {
                    best = cost.cold_ms();
                    record.choice = choice;
                    fs::rename(&candidate, target).map_err(at(target))?;
                    continue;
                }
            }
            Err(reason) => {
                record.refused.insert(name.to_owned(), reason);
            }
        }
        if candidate.exists() {
            fs::remove_file(&candidate).map_err(at(&candidate))?;
        }
    }
    if record.choice != Choice::Original {
        fs::File::open(target).and_then(|file| file.sync_all()).map_err(at(target))?;
    }
    Ok(record)
}

fn candidate_of(
    engine: &Engine,
    original: &Path,
    candidate: &Path,
    level: Level,
    base: &Measured,
) -> Result<super::Cost, String> {
    let told = |e: OnnxError| crate::error::chain(&e);
    engine.optimise(original, candidate, level).map_err(told)?;
    let Measured { cost, answer } = measured(engine, candidate, Engine::open_prepared)?;
    if agree(&answer, &base.answer) { Ok(cost) } else { Err("it answers otherwise than the original".into()) }
}

fn onnx_files(folder: &Path, levels: usize, found: &mut Vec<PathBuf>) -> Result<(), PrepareError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_dir() && levels > 1 && !path.is_symlink() {
            onnx_files(&path, levels - 1, found)?;
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}
