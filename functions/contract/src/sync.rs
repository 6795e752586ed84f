//! The request to model-sync and its report.
//!
//! The controller starts a copy with an asynchronous invoke and asks for progress with synchronous
//! ones, so no controller pass waits for bytes. Both are events of one function:
//!
//! - `{"op": "copy", …}` ([`SyncEvent::Copy`]) copies until done or near its deadline. Repeating it is
//!   always safe: finished work is not done again, and two at once do no harm.
//! - `{"op": "status", …}` ([`SyncEvent::Status`]) reads the file system and answers at once.
//!
//! A copy that names a [`Worker`] fetches that worker's share only; the last of them to finish makes the models
//! complete. Each of them is as safe to repeat as a copy that is not shared.
//!
//! Both answer with a [`SyncReport`]. The other events are those of [`crate::upkeep`].

use serde::{Deserialize, Serialize};

use crate::upkeep::{CollectRequest, Inventory, VerifyRequest};
use crate::{Digest, Manifest, ModelSource, Worker};

/// What model-sync is invoked with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", deny_unknown_fields)]
pub enum SyncEvent {
    /// Make these models present, then the manifest.
    Copy(SyncRequest),
    /// Say how far that is.
    Status(SyncRequest),
    /// Say what lies on the file system.
    Inventory,
    /// Mark what is not needed, and delete what was marked before.
    Collect(CollectRequest),
    /// Read revisions again.
    Verify(VerifyRequest),
}

/// The models that must be present for a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncRequest {
    /// Written last, once every model of it is present.
    pub manifest: Manifest,
    /// Where each of its models comes from; one for each name in the manifest.
    pub sources: Vec<SyncSource>,
    /// The one that is asked, when several share the copy. A status is of all of them, and does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Worker>,
}

/// Where one model comes from. Model-sync lists it itself and refuses to copy when the listing's
/// revision is not the manifest's: then the source has changed and the controller must look again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncSource {
    /// The model's name in the manifest.
    pub model: String,
    /// Where.
    pub source: ModelSource,
}

/// How far a [`SyncRequest`] is, as the file system shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    /// One for each model of the manifest, in its order.
    pub models: Vec<ModelReport>,
    /// The manifest file and every model of it are there, and nothing of it is marked as not needed or was
    /// found damaged.
    pub manifest_present: bool,
    /// A copy is at work: its heartbeat on the file system is fresh.
    pub running: bool,
    /// What lies on the file system. None of a copy, and of functions that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
}

/// How far one model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelReport {
    /// The model's name.
    pub model: String,
    /// The revision that was asked for.
    pub revision: Digest,
    /// How far it is.
    pub state: ModelState,
    /// Bytes that are on the file system.
    pub bytes_done: u64,
    /// Bytes in all; 0 while not known.
    pub bytes_total: u64,
    /// Files in all; 0 while not known.
    pub files: u64,
    /// Files that are on the file system, verified. Reports of before this was told say 0.
    #[serde(default)]
    pub files_done: u64,
    /// Bytes that come in a second, by all who copy it. None while that is not known, when nobody is at work, and in
    /// reports of before this was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Until all bytes are there at that speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u64>,
    /// What went wrong in the last attempt, for people. Empty when nothing did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Those that shared the copy last, while it is not complete; empty when it is not shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerReport>,
}

/// How far one worker is with its share of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerReport {
    /// Which.
    pub worker: Worker,
    /// How far.
    pub state: WorkerState,
}

/// The states of a worker's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerState {
    /// There is work left, and nobody at it: it was not begun, or the last attempt ended by itself.
    Idle,
    /// It shows signs of life.
    Running,
    /// There is work left, and the last sign of life is old: it was cut short.
    Stalled,
    /// All of its share is on the file system.
    Done,
}

/// The states of a model on the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelState {
    /// Nothing of it is there.
    Pending,
    /// Some of it is there, or a copy is at work.
    Syncing,
    /// Complete and verified.
    Ready,
    /// The last attempt failed; `message` says why. A new attempt may succeed.
    Failed,
    /// The source no longer has the content that was asked for.
    SourceChanged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_names_no_worker_is_as_it_always_was() {
        let old = r#"{"op":"copy","manifest":{"models":[]},"sources":[]}"#;
        let event: SyncEvent = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), old);
        let shared = r#"{"op":"copy","manifest":{"models":[]},"sources":[],"worker":{"index":1,"of":2}}"#;
        let SyncEvent::Copy(request) = serde_json::from_str(shared).unwrap() else { panic!("no copy") };
        assert_eq!(request.worker, Some(Worker::new(1, 2).unwrap()));
    }
}
