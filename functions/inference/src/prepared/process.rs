//! Prepares a model in a process of its own: it can be ended when its time is over, its memory goes back
//! whole, and what breaks it does not break the function.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use larder_contract::{Digest, layout};
use serde::Serialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Choice, Conditions, RECORD, Record, leftovers};
use crate::request;
use crate::runtime::lambda::ENV_RUNTIME_API;

/// What the other process takes besides the model: the program and ONNX Runtime.
const PROCESS: u64 = 32 << 20;

/// What came of preparing a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It was done now.
    Prepared {
        /// What is used of each ONNX file.
        files: BTreeMap<String, Choice>,
        /// How long it took.
        milliseconds: u64,
    },
    /// It was done before.
    Found {
        /// What is used of each ONNX file.
        files: BTreeMap<String, Choice>,
    },
    /// It was not tried.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It did not work. The model is served as it is.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A model that may be prepared.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) revision: Digest,
    /// Bytes that it and loading it are thought to take.
    pub(crate) need: u64,
}

/// Prepares models of one manifest under one root.
#[derive(Debug, Clone)]
pub struct Preparer {
    program: PathBuf,
    root: PathBuf,
    manifest: PathBuf,
}

impl Preparer {
    /// With the `prepare` command of `program`, which is this one.
    #[must_use]
    pub fn new(program: PathBuf, root: PathBuf, manifest: &Digest) -> Self {
        let manifest = layout::manifest_path(&root, manifest);
        Self { program, root, manifest }
    }

    /// Why `prepared/` cannot be written, if it cannot.
    pub(crate) fn unwritable(&self) -> Option<String> {
        let parent = layout::prepared_root(&self.root);
        let refused = leftovers::try_writing(&parent).err()?;
        Some(format!("{} cannot be written: {refused}", parent.display()))
    }

    /// What was prepared of a revision before. ONNX Runtime must be loaded.
    pub(crate) fn found(&self, revision: &Digest) -> Option<BTreeMap<String, Choice>> {
        choices(&Conditions::here().folder(&self.root, revision))
    }

    /// Removes what is out of use. ONNX Runtime must be loaded.
    pub(crate) fn collect(&self) {
        super::collect(&self.root);
    }

    /// Prepares a model within a time, if there is `room` for it in memory, in bytes. ONNX Runtime must be
    /// loaded.
    pub(crate) async fn prepare(&self, model: &Candidate, room: u64, time: Duration) -> Outcome {
        let folder = Conditions::here().folder(&self.root, &model.revision);
        let need = model.need + PROCESS;
        if need > room {
            let [need, room] = [need, room].map(|bytes| bytes >> 20);
            return Outcome::Skipped {
                reason: format!("it takes about {need} MiB, and {room} MiB are free"),
            };
        }
        if leftovers::enough_for(&folder) {
            return Outcome::Skipped {
                reason: "others are at it, or broke off less than an hour ago".to_owned(),
            };
        }
        let started = Instant::now();
        if let Err(reason) = self.run(&model.name, time).await {
            return Outcome::Failed { reason };
        }
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match choices(&folder) {
            Some(files) => Outcome::Prepared { files, milliseconds },
            None => Outcome::Failed { reason: format!("{} is not there", folder.display()) },
        }
    }

    async fn run(&self, model: &str, time: Duration) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(["--log-format", "json", "prepare", "--model", model, "--manifest"]);
        command.arg(&self.manifest).arg("--root").arg(&self.root);
        if let Some(request) = request::current() {
            command.args(["--request-id", request.id().as_str()]);
        }
        // With it the program would be a second runtime of the same function.
        command.env_remove(ENV_RUNTIME_API);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        match timeout(time, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("its process ended with {status}; the log tells more")),
            Ok(Err(error)) => Err(format!("its process is lost: {error}")),
            Err(_) => {
                // Also waits until it is gone, so that its memory is free again.
                let _ = child.kill().await;
                Err(format!("it was not done within {} s", time.as_secs()))
            }
        }
    }
}

/// What a prepared folder holds; `None` when it is not there.
fn choices(folder: &Path) -> Option<BTreeMap<String, Choice>> {
    let record = std::fs::read(folder.join(RECORD)).ok()?;
    let record: Record = serde_json::from_slice(&record).ok()?;
    Some(record.files.into_iter().map(|(path, file)| (path, file.choice)).collect())
}
