//! The request to model-sync and its report.
//!
//! The controller starts a copy with an asynchronous invoke and asks for progress with synchronous
//! ones, so no controller pass waits for bytes. Both are events of one function:
//!
//! - `{"op": "copy", …}` ([`SyncEvent::Copy`]) copies until done or near its deadline. Repeating it is
//!   always safe: finished work is not done again, and two at once do no harm.
//! - `{"op": "status", …}` ([`SyncEvent::Status`]) reads the file system and answers at once.
//!
//! Both answer with a [`SyncReport`]. The other events are those of [`crate::upkeep`].

use serde::{Deserialize, Serialize};

use crate::upkeep::{CollectRequest, VerifyRequest};
use crate::{Digest, Manifest, ModelSource};

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
    /// What went wrong in the last attempt, for people. Empty when nothing did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
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
