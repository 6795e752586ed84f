//! A sign of life for whoever only looks.
//!
//! The time is the file's content, not its modification time: a network file system may show attributes
//! that are a minute old, but opens a file to its newest content. How many bytes a second come stands behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use larder_contract::sync::{WorkerReport, WorkerState};
use larder_contract::{Digest, Worker, layout, speed};
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
    /// Beats in a revision's staging folder, each worker for itself, and tells how fast `bytes` grow. The first beat is
    /// there when this returns.
    pub async fn start(
        root: &Path,
        revision: &Digest,
        worker: Option<Worker>,
        bytes: Arc<AtomicU64>,
    ) -> Self {
        let path = worker.map_or_else(|| path(root, revision), |worker| path_of(root, revision, worker));
        Self::beat_at(path, Some(bytes), EVERY).await
    }

    /// Beats in a file of its own.
    pub(crate) async fn start_at(path: PathBuf) -> Self {
        Self::beat_at(path, None, EVERY).await
    }

    async fn beat_at(path: PathBuf, bytes: Option<Arc<AtomicU64>>, every: Duration) -> Self {
        let came = move || bytes.as_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        let mut last = (came(), Instant::now());
        let mut bytes_per_second = None;
        beat(path.clone(), None).await;
        let ending = CancellationToken::new();
        let (beats, end) = (path.clone(), ending.clone());
        let task = tokio::spawn(async move {
            while end.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
                let now = (came(), Instant::now());
                if let (Some(before), Some(bytes)) = (last.0, now.0) {
                    let elapsed = now.1.duration_since(last.1);
                    bytes_per_second =
                        speed::averaged(bytes_per_second, bytes.saturating_sub(before), elapsed);
                }
                last = now;
                beat(beats.clone(), bytes_per_second).await;
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
async fn beat(path: PathBuf, bytes_per_second: Option<u64>) {
    let written = tokio::task::spawn_blocking(move || {
        let now = millis(SystemTime::now());
        let text = bytes_per_second.map_or_else(|| now.to_string(), |speed| format!("{now} {speed}"));
        disk::write_in_place(&path, text.as_bytes())
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
    fresh(path, now).is_some()
}

/// How many bytes of a revision come in a second, by all who show signs of life; none while nobody can tell.
#[must_use]
pub fn bytes_per_second(root: &Path, revision: &Digest, now: SystemTime) -> Option<u64> {
    let workers = Worker::all(super::divided(root, revision).max(1));
    let of_workers = workers.map(|worker| path_of(root, revision, worker));
    let told = [path(root, revision)]
        .into_iter()
        .chain(of_workers)
        .filter_map(|path| fresh(&path, now)?.bytes_per_second);
    told.reduce(u64::saturating_add)
}

/// A sign of life.
struct Sign {
    bytes_per_second: Option<u64>,
}

/// The sign of life in this file, if it is not long before `now`.
fn fresh(path: &Path, now: SystemTime) -> Option<Sign> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().ok());
    let at = numbers.next()??;
    // A clock of another machine may be ahead of ours.
    let is_fresh = millis(now).abs_diff(at) < millis_of(FRESH);
    is_fresh.then(|| Sign { bytes_per_second: numbers.next().flatten() })
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
        let heartbeat = Heartbeat::start(root.path(), &revision, None, Arc::default()).await;
        assert!(is_running(root.path(), &revision, now));
        assert!(!is_running(root.path(), &revision, now + 2 * FRESH));
        heartbeat.end().await;
        assert!(!is_running(root.path(), &revision, now));
    }
    #[tokio::test]
    async fn it_tells_how_fast_bytes_come() {
        let root = tempfile::tempdir().unwrap();
        let revision = Digest::of(b"x");
        std::fs::create_dir_all(layout::staging_dir(root.path(), &revision)).unwrap();
        let bytes = Arc::new(AtomicU64::new(500));
        let (beats, often) = (path(root.path(), &revision), Duration::from_millis(20));
        let heartbeat = Heartbeat::beat_at(beats, Some(Arc::clone(&bytes)), often).await;
        let told = |now| bytes_per_second(root.path(), &revision, now);
        assert_eq!(told(SystemTime::now()), None, "one look tells no speed");
        bytes.store(1_000_000_500, Ordering::Relaxed);
        while told(SystemTime::now()).is_none_or(|speed| speed == 0) {
            tokio::time::sleep(often).await;
        }
        assert_eq!(told(SystemTime::now() + 2 * FRESH), None, "nor does what is old");
        heartbeat.end().await;
        assert_eq!(told(SystemTime::now()), None);
    }

    #[test]
    fn speeds_of_workers_add_up_and_old_signs_of_life_are_read() {
        let root = tempfile::tempdir().unwrap();
        let revision = Digest::of(b"x");
        std::fs::create_dir_all(layout::staging_dir(root.path(), &revision)).unwrap();
        std::fs::write(super::super::lock_path(root.path(), &revision), "3\n").unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        for (index, text) in [(0, "1000000 70"), (1, "999000 5"), (2, "900000 1000")] {
            std::fs::write(path_of(root.path(), &revision, Worker::new(index, 3).unwrap()), text).unwrap();
        }
        assert_eq!(bytes_per_second(root.path(), &revision, now), Some(75));
        std::fs::write(path(root.path(), &revision), "1000000").unwrap();
        assert!(is_fresh(&path(root.path(), &revision), now), "as it was written before");
    }
}
