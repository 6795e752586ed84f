//! `status`: what a folder holds.

use std::path::Path;
use std::time::SystemTime;

use larder_contract::Digest;
use larder_contract::sync::ModelState;
use serde::Serialize;

use super::{CommandError, folders_named_by_digest, print};
use crate::{status, store};

/// One revision in the answer to `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RevisionStatus {
    revision: Digest,
    state: ModelState,
    running: bool,
    bytes_done: u64,
    bytes_total: u64,
    files: u64,
    files_done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_seconds: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

pub(super) fn run(dir: &Path) -> Result<(), CommandError> {
    let mut revisions: Vec<Digest> = Vec::new();
    for part in ["revisions", "staging"] {
        revisions.extend(folders_named_by_digest(&dir.join(part))?);
    }
    revisions.sort();
    revisions.dedup();
    let now = SystemTime::now();
    let shown = revisions.into_iter().map(|revision| {
        let found = status::look(dir, &revision, now);
        RevisionStatus {
            revision,
            state: found.state,
            running: store::is_running(dir, &revision, now),
            bytes_done: found.bytes_done,
            bytes_total: found.bytes_total,
            files: found.files,
            files_done: found.files_done,
            bytes_per_second: found.bytes_per_second,
            remaining_seconds: found.remaining_seconds,
            message: found.message,
        }
    });
    print(&shown.collect::<Vec<_>>(), false)
}
