//! What lies on the file system, and what is to be done about what nobody needs any more.
//!
//! The controller decides, from the [`Inventory`] and from the function's published versions. Model-sync does
//! only what a request names, in steps that can be repeated:
//!
//! - `{"op": "inventory"}` answers an [`Inventory`].
//! - `{"op": "collect", …}` ([`CollectRequest`]) marks what is not needed, takes marks away, and deletes what was
//!   marked long enough ago. A deletion names the mark that it relies on: with another mark, or none, it is not
//!   carried out. So one that comes late, after somebody needed the revision again, does nothing.
//! - `{"op": "verify", …}` ([`VerifyRequest`]) reads revisions again. What it came to is in the next inventory.
//!
//! Times are seconds since 1970 by the clock of the function, and are compared with each other alone.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The most revisions, and the most manifests, that an inventory lists.
pub const MAX_LISTED: usize = 10_000;

/// Everything below the access point's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The time of the look.
    pub now: u64,
    /// Revisions, sorted, whole or in flight, and what is left of them.
    pub revisions: Vec<StoredRevision>,
    /// Manifests, sorted.
    pub manifests: Vec<StoredManifest>,
    /// Others who use the same folder: then nothing in it is collected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Bytes in files, each counted once however many revisions have it, as of the last copy or collection.
    pub used_bytes: u64,
    /// Bytes that collections have freed, in all.
    pub freed_bytes: u64,
    /// Something was taken out and is not all deleted yet.
    #[serde(default)]
    pub is_deleting: bool,
}

/// A revision on the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredRevision {
    /// Its name: that of its folder under `revisions/`.
    pub revision: Digest,
    /// It is whole; else it is in flight, or what is left of it.
    pub is_complete: bool,
    /// Its bytes, also those that it shares with others.
    pub bytes: u64,
    /// When it was copied.
    pub copied: u64,
    /// Since when it is marked as not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked: Option<u64>,
    /// The last look at all of its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// It is being read again.
    #[serde(default)]
    pub is_verifying: bool,
}

/// What a look at all bytes of a revision came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// When it ended.
    pub at: u64,
    /// What is wrong with it, for people. Empty when it is what was copied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub damage: String,
}

/// A manifest on the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredManifest {
    /// Its digest.
    pub manifest: Digest,
    /// The models that it names, each with its revision.
    pub models: Vec<NamedRevision>,
    /// Since when it is marked as not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked: Option<u64>,
}

/// A model of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedRevision {
    /// The model's name.
    pub model: String,
    /// Its revision.
    pub revision: Digest,
}

/// What is to be marked, kept and deleted; revisions and manifests alike, by their digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CollectRequest {
    /// Marked as not needed from now on, unless they are marked.
    #[serde(default)]
    pub mark: Vec<Digest>,
    /// Needed again: their marks are taken away.
    #[serde(default)]
    pub spare: Vec<Digest>,
    /// Deleted, if they still bear this mark.
    #[serde(default)]
    pub delete: Vec<Marked>,
}

/// Something that bears a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Marked {
    /// The revision or manifest.
    pub digest: Digest,
    /// Its mark.
    pub since: u64,
}

/// Revisions that are to be read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyRequest {
    /// One after the other, in this order.
    pub revisions: Vec<Digest>,
}
