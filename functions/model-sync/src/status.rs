//! How far a request is, as the file system shows it.

use std::path::Path;
use std::time::SystemTime;

use larder_contract::speed::remaining_seconds;
use larder_contract::sync::{ModelReport, ModelState, SyncReport, SyncRequest};
use larder_contract::{Digest, ManifestModel};

use crate::store;

/// The report on a request; `now` tells a fresh heartbeat from an old one. Changes nothing.
#[must_use]
pub fn report(root: &Path, request: &SyncRequest, owner: Option<&str>, now: SystemTime) -> SyncReport {
    let models = &request.manifest.models;
    let mut report = SyncReport {
        inventory: None,
        models: models.iter().map(|model| model_report(root, model, now)).collect(),
        manifest_present: store::is_served(root, &request.manifest, owner),
        running: models.iter().any(|model| store::is_running(root, &model.revision, now)),
    };
    if !report.manifest_present && !report.running {
        tell_what_cannot_be_written(root, &mut report.models);
    }
    report
}

/// A copy that can write nothing cannot keep why either, and nobody reads its own answer: so this tries.
fn tell_what_cannot_be_written(root: &Path, models: &mut [ModelReport]) {
    let is_copied = models.iter().all(|model| model.state == ModelState::Ready);
    let why_not_served = store::try_to_serve(root).err().filter(|_| is_copied);
    for model in models {
        let error = match &why_not_served {
            Some(error) => format!("every model is present, the manifest is not: {error}"),
            None if model.state == ModelState::Ready => continue,
            None => match store::try_to_stage(root, &model.revision) {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            },
        };
        (model.state, model.message) = (ModelState::Failed, error);
    }
}

fn model_report(root: &Path, model: &ManifestModel, now: SystemTime) -> ModelReport {
    let found = look(root, &model.revision, now);
    ModelReport {
        model: model.name.clone(),
        revision: model.revision,
        state: found.state,
        bytes_done: found.bytes_done,
        bytes_total: found.bytes_total,
        files: found.files,
        files_done: found.files_done,
        bytes_per_second: found.bytes_per_second,
        remaining_seconds: found.remaining_seconds,
        message: found.message,
        workers: if found.state == ModelState::Ready {
            Vec::new()
        } else {
            store::workers(root, &model.revision, now)
        },
    }
}

/// How far one revision is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its state.
    pub state: ModelState,
    /// Bytes that are on disk.
    pub bytes_done: u64,
    /// Bytes in all; 0 while not known.
    pub bytes_total: u64,
    /// Files in all; 0 while not known.
    pub files: u64,
    /// Files that are on disk, verified.
    pub files_done: u64,
    /// Bytes that come in a second, while some do.
    pub bytes_per_second: Option<u64>,
    /// Until all bytes are there at that speed.
    pub remaining_seconds: Option<u64>,
    /// What went wrong in the last attempt.
    pub message: String,
}

/// Looks at one revision.
///
/// The last attempt's failure counts only while no copy is at work; work that is left counts as syncing,
/// because the next copy goes on from there.
#[must_use]
pub fn look(root: &Path, revision: &Digest, now: SystemTime) -> Found {
    if store::is_present(root, revision) {
        let size = store::size(root, revision);
        let bytes = size.map_or(0, |size| size.bytes);
        let files = size.map_or(0, |size| size.files);
        let (bytes_done, bytes_total, message) = (bytes, bytes, String::new());
        return Found {
            state: ModelState::Ready,
            bytes_done,
            bytes_total,
            files,
            files_done: files,
            bytes_per_second: None,
            remaining_seconds: None,
            message,
        };
    }
    let progress = store::progress(root, revision);
    let failure = store::failure(root, revision).filter(|_| !store::is_running(root, revision, now));
    let state = match (&failure, &progress) {
        (Some(failure), _) => failure.state,
        (None, Some(_)) => ModelState::Syncing,
        (None, None) if store::is_running(root, revision, now) => ModelState::Syncing,
        (None, None) => ModelState::Pending,
    };
    let bytes_done = progress.as_ref().map_or(0, |(_, done)| done.bytes());
    let bytes_total = progress.as_ref().map_or(0, |(header, _)| header.bytes);
    let bytes_per_second = store::bytes_per_second(root, revision, now);
    let left = bytes_total.saturating_sub(bytes_done);
    Found {
        state,
        bytes_done,
        bytes_total,
        files: progress.as_ref().map_or(0, |(header, _)| header.files),
        files_done: progress.as_ref().map_or(0, |(_, done)| done.whole_files()),
        bytes_per_second,
        remaining_seconds: bytes_per_second.and_then(|speed| remaining_seconds(left, speed)),
        message: failure.map(|failure| failure.message).unwrap_or_default(),
    }
}
