//! A sign of life for whoever only looks.
//!
//! The time is the file's content, not its modification time: a network file system may show attributes
//! that are a minute old, but opens a file to its newest content.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use larder_contract::sync::{WorkerReport, WorkerState};
use larder_contract::{Digest, Worker, layout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::disk;

/// How often a writer shows that it is alive.
const EVERY: Duration = Duration::from_secs(4);

/// How old the last sign may be. Several missed ones long, because a busy file system is slow.
const FRESH: Duration = Duration::from_secs(20);

/// What is left of the heartbeat of a worker whose share is all there.
const DONE: &str = "done";

/// The heartbeat of a worker that is to come.
const NOT_BEGUN: &str = "0";

/// Beats until it ends.
#[derive(Debug)]
pub struct Heartbeat {
    path: PathBuf,
    ending: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Heartbeat {
    /// Beats in a revision's staging folder, each worker for itself. The first beat is there when this returns.
    pub async fn start(root: &Path, revision: &Digest, worker: Option<Worker>) -> Self {
        let path = worker.map_or_else(|| path(root, revision), |worker| path_of(root, revision, worker));
        Self::start_at(path).await
    }

    /// Beats in a file of its own.
    pub(crate) async fn start_at(path: PathBuf) -> Self {
        beat(path.clone()).await;
        let ending = CancellationToken::new();
        let (beats, end) = (path.clone(), ending.clone());
        let task = tokio::spawn(async move {
            while end.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
                beat(beats.clone()).await;
            }
        });
        Self { path, ending, task: AbortOnDropHandle::new(task) }
    }

    /// Stops, and takes the file away once no beat can bring it back.
    pub async fn end(self) {
        let path = self.stop().await;
        if let Err(error) = disk::remove(&path) {
            tracing::debug!(%error, "the heartbeat stays until it is old");
        }
    }

    /// Stops, and says in its place that there is no more to do.
    pub(crate) async fn end_done(self) {
        let path = self.stop().await;
        if let Err(error) = disk::write_in_place(&path, DONE.as_bytes()) {
            tracing::debug!(%error, "the worker is started once more, to find that it is done");
        }
    }

    async fn stop(self) -> PathBuf {
        self.ending.cancel();
        if let Err(error) = self.task.await {
            tracing::debug!(%error, "the heartbeat had stopped");
        }
        self.path
    }
}

/// A beat that cannot be written is no reason to stop: the copy itself will say what is wrong.
async fn beat(path: PathBuf) {
    let written = tokio::task::spawn_blocking(move || {
        let now = millis(SystemTime::now()).to_string();
        disk::write_in_place(&path, now.as_bytes())
    });
    if let Ok(Err(error)) = written.await {
        tracing::debug!(%error, "no heartbeat");
    }
}

/// Whether a copy of this revision showed a sign of life not long before `now`.
#[must_use]
pub fn is_running(root: &Path, revision: &Digest, now: SystemTime) -> bool {
    is_fresh(&path(root, revision), now)
        || workers(root, revision, now).iter().any(|it| it.state == WorkerState::Running)
}

/// How far each of the workers is that share the copy of a revision; none when it is not shared.
#[must_use]
pub fn workers(root: &Path, revision: &Digest, now: SystemTime) -> Vec<WorkerReport> {
    let of = super::divided(root, revision);
    if of == 0 {
        return Vec::new();
    }
    let report = |worker| {
        let path = path_of(root, revision, worker);
        let state = match std::fs::read_to_string(&path) {
            Ok(text) if text == DONE => WorkerState::Done,
            Ok(_) if is_fresh(&path, now) => WorkerState::Running,
            Ok(text) if text != NOT_BEGUN => WorkerState::Stalled,
            Ok(_) | Err(_) => WorkerState::Idle,
        };
        WorkerReport { worker, state }
    };
    Worker::all(of).map(report).collect()
}

/// Whether the sign of life in this file is not long before `now`.
pub(crate) fn is_fresh(path: &Path, now: SystemTime) -> bool {
    let beat = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    // A clock of another machine may be ahead of ours.
    beat.is_some_and(|at: u64| millis(now).abs_diff(at) < millis_of(FRESH))
}

fn path(root: &Path, revision: &Digest) -> PathBuf {
    layout::staging_dir(root, revision).join("heartbeat")
}

fn path_of(root: &Path, revision: &Digest, worker: Worker) -> PathBuf {
    layout::staging_dir(root, revision).join(format!("heartbeat.{}", worker.index()))
}

/// Makes room for a worker's heartbeat.
pub(super) fn begin_idle(root: &Path, revision: &Digest, worker: Worker) -> Result<(), disk::StoreError> {
    disk::write_in_place(&path_of(root, revision, worker), NOT_BEGUN.as_bytes())
}

/// Forgets what so many workers left.
pub(super) fn forget_workers(root: &Path, revision: &Digest, of: u16) -> Result<(), disk::StoreError> {
    Worker::all(of).take(of.into()).try_for_each(|worker| disk::remove(&path_of(root, revision, worker)))
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis_of)
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_beat_is_fresh_for_a_while_and_gone_when_it_ends() {
        let root = tempfile::tempdir().unwrap();
        let revision = Digest::of(b"x");
        std::fs::create_dir_all(layout::staging_dir(root.path(), &revision)).unwrap();
        let now = SystemTime::now();
        assert!(!is_running(root.path(), &revision, now));
        let heartbeat = Heartbeat::start(root.path(), &revision, None).await;
        assert!(is_running(root.path(), &revision, now));
        assert!(!is_running(root.path(), &revision, now + 2 * FRESH));
        heartbeat.end().await;
        assert!(!is_running(root.path(), &revision, now));
    }
}
