//! Parts of files, many at once, from the source to their offsets on disk.
//!
//! - [`part`]: one part, hashed as it comes and written past the page cache.
//! - [`commit`]: finished parts, made durable and noted together.
//! - [`writers`]: small files, made by as few threads as keep up.
//!
//! A file of one part is fetched by one request, which also brings its checksum: it is verified when its last
//! byte is there. Of a longer file each part's CRCs are noted; [`crate::judge`] puts them together.
//!
//! Memory: each part in flight holds at most one piece of [`WRITE_BYTES`] being gathered or written, whatever
//! the size of parts and objects, next to what its connection buffers (0.5 MiB). A small file counts as a
//! quarter of a part: what takes its time are round trips, not bytes. See [`Settings::memory`].

mod commit;
mod part;
mod writers;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_contract::Worker;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::expected::Expected;
use crate::plan::Part;
use crate::retry::{Budget, retrying};
use crate::source::{Source, SourceError};
use crate::store::journal::Done;
use crate::store::{Piece, Staging, StoreError};

use part::Fetched;
pub use part::WRITE_BYTES;
pub use writers::Writers;

/// How often a file with the wrong content is fetched before we give up.
pub(crate) const ROUNDS: usize = 2;

/// How many small files are fetched in the place of one part.
const SMALL_FOR_ONE: usize = 4;

/// How a copy goes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The length of a part.
    pub part_bytes: u64,
    /// How many parts are fetched at once.
    pub parts_in_flight: usize,
    /// How often one call is tried.
    pub attempts: u32,
    /// How many retries one copy may use in all, for each thousand parts begun.
    pub retries: u32,
    /// The first wait before a retry.
    pub first_wait: Duration,
    /// How long the source may be silent, before a body and within it.
    pub stall: Duration,
    /// Whose share to copy, when several copy together.
    pub worker: Option<Worker>,
}

/// What a copy takes next to its parts: the program, and the names and checksums of some 100,000 files.
const BASE_BYTES: u64 = 64 << 20;

/// What one part in flight, or small file, takes next to its piece: what its connection buffers.
const CONNECTION_BYTES: u64 = 1 << 19;

impl Settings {
    /// The bytes of memory that a copy may take, whatever is copied: 64 MiB, and for each part in flight the pieces and
    /// connections of the small files that may be in its place (6 MiB).
    #[must_use]
    pub const fn memory(&self) -> u64 {
        let of_part = SMALL_FOR_ONE as u64 * (WRITE_BYTES as u64 + CONNECTION_BYTES);
        BASE_BYTES.saturating_add((self.parts_in_flight as u64).saturating_mul(of_part))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            part_bytes: 8 << 20,
            parts_in_flight: 16,
            attempts: 6,
            retries: 100,
            first_wait: Duration::from_millis(100),
            stall: Duration::from_secs(20),
            worker: None,
        }
    }
}

/// What a copy has done so far; for whoever looks on.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes on disk, with those of parts in flight.
    pub bytes: AtomicU64,
    /// Bytes in all; 0 while not known.
    pub bytes_total: AtomicU64,
    /// Files that are on disk, verified.
    pub files: AtomicU64,
    /// Files in all; 0 while not known.
    pub files_total: AtomicU64,
    /// Bytes that were fetched, in finished parts.
    pub bytes_fetched: Arc<AtomicU64>,
    /// Parts that were fetched.
    pub parts_fetched: AtomicU64,
    /// Parts that an earlier attempt had left.
    pub parts_found: AtomicU64,
    /// Files that were linked, not fetched.
    pub files_linked: AtomicU64,
    /// Their bytes.
    pub bytes_linked: AtomicU64,
    /// Calls that were tried again.
    pub retries: AtomicU64,
}

impl Progress {
    /// Tells how many files are there.
    pub(crate) fn tell_files(&self, staging: &Staging) {
        self.files.store(staging.done(Done::whole_files), Ordering::Relaxed);
    }
}

/// A part that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source fell silent.
    #[error("{resource}: no byte for {}s; the copy can be started again and goes on", after.as_secs())]
    Stalled {
        /// What was read.
        resource: String,
        /// For how long.
        after: Duration,
    },
    /// The body was not as long as the range.
    #[error("{resource}: bytes {offset} and on: wanted {want} bytes, got {have}")]
    Length {
        /// What was read.
        resource: String,
        /// From where.
        offset: u64,
        /// How many bytes were asked for.
        want: u64,
        /// How many came.
        have: u64,
    },
    /// A file's content is wrong, each time it was fetched.
    #[error(
        "{resource}: the content is wrong after {ROUNDS} downloads: want {want}, have {have}; upload the object \
         again"
    )]
    WrongContent {
        /// The object.
        resource: String,
        /// What the store says.
        want: String,
        /// What came.
        have: String,
    },
    /// A task of ours died.
    #[error("a worker died: {0}; this is a fault of the program")]
    Worker(#[from] JoinError),
}

impl TransferError {
    /// Whether the same call may succeed later.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Source(error) => error.class.is_passing(),
            Self::Stalled { .. } | Self::Length { .. } => true,
            Self::Store(_) | Self::WrongContent { .. } | Self::Worker(_) => false,
        }
    }
}

/// What all parts of one copy share.
#[derive(Debug)]
pub struct Job<S> {
    /// Where from.
    pub source: Arc<S>,
    /// Where to.
    pub staging: Arc<Staging>,
    /// How.
    pub settings: Settings,
    /// How often again.
    pub budget: Budget,
    /// For whoever looks on.
    pub progress: Arc<Progress>,
    /// Ends the copy early, its progress kept.
    pub stop: CancellationToken,
    /// What the source says of each file, once it was asked.
    pub expected: Vec<OnceCell<Option<Expected>>>,
    /// Who makes small files.
    pub writers: Arc<Writers>,
    /// Room for what is written next.
    pub pieces: Pieces,
}

/// Pieces of [`WRITE_BYTES`] that were used and are free: as many as parts were in flight at once. New ones would have
/// the kernel clear their pages each time.
#[derive(Debug, Default)]
pub struct Pieces(Mutex<Vec<Piece>>);

impl Pieces {
    fn take(&self) -> Piece {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Piece::new(WRITE_BYTES))
    }

    fn give_back(&self, mut piece: Piece) {
        piece.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
    }
}

impl<S: Source> Job<S> {
    /// The key of a file.
    pub(crate) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.source.prefix())
    }

    /// The object's address, for people.
    pub(crate) fn address(&self, key: &str) -> String {
        self.source.address(key)
    }

    /// Bounds a wait for the source.
    pub(crate) async fn bounded<T>(
        &self,
        key: &str,
        wait: impl Future<Output = T> + Send,
    ) -> Result<T, TransferError> {
        let after = self.settings.stall;
        let stalled = |_| TransferError::Stalled { resource: self.address(key), after };
        tokio::time::timeout(after, wait).await.map_err(stalled)
    }

    /// What the source says that a file must hash to; asked once.
    pub(crate) async fn expected(&self, file: u32) -> Result<Option<&Expected>, TransferError> {
        let object = &self.staging.objects()[file as usize];
        let key = self.key(object.path.as_str());
        let ask = async || -> Result<_, TransferError> {
            Ok(self.bounded(&key, self.source.expected(&key, &object.etag)).await??)
        };
        let once = &self.expected[file as usize];
        let expected = once.get_or_try_init(|| retrying(&self.budget, TransferError::is_passing, ask));
        Ok(expected.await?.as_ref())
    }
}

/// Work that waits for the disk, on a thread where that does no harm.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, TransferError> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// Fetches parts until all are on disk and noted, one fails for good, or the job is stopped; what was
/// finished by then is noted in any case. Answers whether all are there. The number of each file whose parts
/// are all there, and that is not verified by that, goes to `complete`.
///
/// # Errors
/// Of the first part that failed for good.
pub async fn fetch<S: Source>(
    job: &Arc<Job<S>>,
    parts: Vec<Part>,
    complete: mpsc::UnboundedSender<u32>,
) -> Result<bool, TransferError> {
    let (finished, to_commit) = mpsc::channel(commit::WAITING);
    let committing = commit::commit_all(Arc::clone(job), to_commit, complete);
    let committed = AbortOnDropHandle::new(tokio::spawn(committing));
    let at_once = job.settings.parts_in_flight.max(1) * SMALL_FOR_ONE;
    let room = Arc::new(Semaphore::new(at_once));
    let fetchers = at_once.min(parts.len());
    let parts = Arc::new(Mutex::new(parts.into_iter()));
    let mut fetching = JoinSet::new();
    for _ in 0..fetchers {
        fetching.spawn(fetch_some(Arc::clone(job), Arc::clone(&parts), Arc::clone(&room), finished.clone()));
    }
    drop(finished);
    let ended = loop {
        match job.stop.run_until_cancelled(fetching.join_next()).await {
            // Stopped; or the committer failed, and its error is read below.
            None | Some(Some(Ok(Ok(false)))) => break Ok(false),
            Some(None) => break Ok(true),
            Some(Some(Ok(Ok(true)))) => {}
            Some(Some(Ok(Err(error)))) => break Err(error),
            Some(Some(Err(died))) => break Err(died.into()),
        }
    };
    fetching.shutdown().await;
    committed.await??;
    ended
}

/// Fetches one part after the other, until there are no more; false when nobody takes them any more.
///
/// A task for many parts, not one for each: of small files there are thousands a second.
async fn fetch_some<S: Source>(
    job: Arc<Job<S>>,
    parts: Arc<Mutex<std::vec::IntoIter<Part>>>,
    room: Arc<Semaphore>,
    finished: mpsc::Sender<Fetched>,
) -> Result<bool, TransferError> {
    loop {
        let next = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(part) = next else { return Ok(true) };
        let is_small = part.length <= WRITE_BYTES as u64;
        let share = if is_small { 1 } else { SMALL_FOR_ONE };
        // Never closed; and without a permit the part is merely early.
        let _permit = room.acquire_many(u32::try_from(share).unwrap_or(1)).await;
        let fetched = part::fetch(&job, part).await?;
        job.progress.parts_fetched.fetch_add(1, Ordering::Relaxed);
        job.progress.bytes_fetched.fetch_add(part.length, Ordering::Relaxed);
        if finished.send(fetched).await.is_err() {
            return Ok(false);
        }
    }
}
