//! Parts of files, many at once, from the source to their offsets on disk.
//!
//! Memory: each part in flight holds at most one piece of [`WRITE_BYTES`] being filled and one being
//! written, whatever the size of parts and objects, next to what the connection itself buffers.

use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::plan::Part;
use crate::retry::{Budget, retrying};
use crate::source::{Source, SourceError};
use crate::store::{Staging, StoreError};

/// What is written at once.
pub const WRITE_BYTES: usize = 1 << 20;

/// After how many bytes, parts or how long finished parts are synced and noted together. A sync each would
/// cost more than a part on some file systems; what a crash can lose is bounded by these.
const COMMIT_BYTES: u64 = 64 << 20;
const COMMIT_PARTS: usize = 128;
const COMMIT_AFTER: Duration = Duration::from_secs(2);

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
    /// Bytes that were fetched, in finished parts.
    pub bytes_fetched: AtomicU64,
    /// Parts that were fetched.
    pub parts_fetched: AtomicU64,
    /// Parts that an earlier attempt had left.
    pub parts_found: AtomicU64,
    /// Calls that were tried again.
    pub retries: AtomicU64,
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
            Self::Store(_) | Self::Worker(_) => false,
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
}

impl<S: Source> Job<S> {
    /// The key of a file.
    pub(crate) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.source.place().prefix)
    }

    /// Bounds a wait for the source.
    pub(crate) async fn bounded<T>(
        &self,
        key: &str,
        wait: impl Future<Output = T> + Send,
    ) -> Result<T, TransferError> {
        let after = self.settings.stall;
        tokio::time::timeout(after, wait).await.map_err(|_| TransferError::Stalled {
            resource: format!("s3://{}/{key}", self.source.place().bucket),
            after,
        })
    }
}

struct Fetched {
    part: Part,
    file: Arc<File>,
}

/// Fetches parts until all are on disk and noted, one fails for good, or the job is stopped; what was
/// finished by then is noted in any case. Answers whether all are there.
///
/// # Errors
/// Of the first part that failed for good.
pub async fn fetch<S: Source>(job: &Arc<Job<S>>, parts: Vec<Part>) -> Result<bool, TransferError> {
    let (finished, to_commit) = mpsc::channel(COMMIT_PARTS);
    let committed = AbortOnDropHandle::new(tokio::spawn(commit_all(Arc::clone(&job.staging), to_commit)));
    let mut in_flight = futures::stream::iter(parts)
        .map(|part| AbortOnDropHandle::new(tokio::spawn(fetch_part(Arc::clone(job), part))))
        .buffer_unordered(job.settings.parts_in_flight.max(1));
    let ended = loop {
        match job.stop.run_until_cancelled(in_flight.next()).await {
            None => break Ok(false),
            Some(None) => break Ok(true),
            Some(Some(Ok(Ok(fetched)))) => {
                job.progress.parts_fetched.fetch_add(1, Ordering::Relaxed);
                job.progress.bytes_fetched.fetch_add(fetched.part.length, Ordering::Relaxed);
                if finished.send(fetched).await.is_err() {
                    // The committer failed; its error is read below.
                    break Ok(false);
                }
            }
            Some(Some(Ok(Err(error)))) => break Err(error),
            Some(Some(Err(died))) => break Err(died.into()),
        }
    };
    drop(in_flight);
    drop(finished);
    committed.await??;
    ended
}

/// Syncs finished parts and notes them, several at a time.
async fn commit_all(
    staging: Arc<Staging>,
    mut finished: mpsc::Receiver<Fetched>,
) -> Result<(), TransferError> {
    while let Some(first) = finished.recv().await {
        let until = tokio::time::Instant::now() + COMMIT_AFTER;
        let mut bytes = first.part.length;
        let mut batch = vec![first];
        while bytes < COMMIT_BYTES && batch.len() < COMMIT_PARTS {
            let Ok(Some(next)) = tokio::time::timeout_at(until, finished.recv()).await else { break };
            bytes += next.part.length;
            batch.push(next);
        }
        let staging = Arc::clone(&staging);
        tokio::task::spawn_blocking(move || commit(&staging, batch)).await??;
    }
    Ok(())
}

fn commit(staging: &Staging, mut batch: Vec<Fetched>) -> Result<(), StoreError> {
    batch.sort_by_key(|fetched| (fetched.part.file, fetched.part.index));
    for one_file in batch.chunk_by(|a, b| a.part.file == b.part.file) {
        if let [Fetched { part, file }, ..] = one_file {
            // One sync is enough for all parts of a file, by whichever handle they were written.
            let path = staging.objects().get(part.file as usize).map(|object| staging.path_of(object));
            file.sync_data().map_err(StoreError::at("sync", &path.unwrap_or_default()))?;
        }
    }
    let parts: Vec<Part> = batch.iter().map(|fetched| fetched.part).collect();
    staging.note_parts(&parts)
}

async fn fetch_part<S: Source>(job: Arc<Job<S>>, part: Part) -> Result<Fetched, TransferError> {
    let staging = Arc::clone(&job.staging);
    let opened = tokio::task::spawn_blocking(move || {
        let object = &staging.objects()[part.file as usize];
        staging.open(object)
    });
    let file = Arc::new(opened.await??);
    if part.length > 0 {
        retrying(&job.budget, TransferError::is_passing, || attempt(&job, &file, part)).await?;
    }
    Ok(Fetched { part, file })
}

async fn attempt<S: Source>(job: &Job<S>, file: &Arc<File>, part: Part) -> Result<(), TransferError> {
    let mut received = 0;
    let result = receive(job, file, part, &mut received).await;
    if result.is_err() {
        job.progress.bytes.fetch_sub(received, Ordering::Relaxed);
    }
    result
}

async fn receive<S: Source>(
    job: &Job<S>,
    file: &Arc<File>,
    part: Part,
    received: &mut u64,
) -> Result<(), TransferError> {
    let object = &job.staging.objects()[part.file as usize];
    let key = job.key(object.path.as_str());
    let range = part.offset..part.offset + part.length;
    let length_is = |have| TransferError::Length {
        resource: format!("s3://{}/{key}", job.source.place().bucket),
        offset: part.offset,
        want: part.length,
        have,
    };
    let mut body = job.bounded(&key, job.source.read(&key, &object.etag, range)).await??;
    let mut piece = BytesMut::with_capacity(WRITE_BYTES);
    let mut at = part.offset;
    while let Some(chunk) = job.bounded(&key, body.next()).await? {
        let mut chunk = chunk?;
        let length = chunk.len() as u64;
        if *received + length > part.length {
            return Err(length_is(*received + length));
        }
        *received += length;
        job.progress.bytes.fetch_add(length, Ordering::Relaxed);
        while !chunk.is_empty() {
            let room = (WRITE_BYTES - piece.len()).min(chunk.len());
            piece.extend_from_slice(&chunk.split_to(room));
            if piece.len() == WRITE_BYTES {
                at = write(job, file, at, piece.split().freeze()).await?;
                piece.reserve(WRITE_BYTES);
            }
        }
    }
    if *received != part.length {
        return Err(length_is(*received));
    }
    write(job, file, at, piece.freeze()).await?;
    Ok(())
}

/// Writes a piece and answers where the next one goes.
async fn write<S: Source>(
    job: &Job<S>,
    file: &Arc<File>,
    at: u64,
    piece: Bytes,
) -> Result<u64, TransferError> {
    let (file, staging) = (Arc::clone(file), Arc::clone(&job.staging));
    let end = at + piece.len() as u64;
    // The staging handle goes along: the lock stays held until the write is over, even when nobody waits
    // for it any more.
    tokio::task::spawn_blocking(move || {
        let written = file.write_all_at(&piece, at);
        written.map_err(StoreError::at("write below", &staging.folder()))
    })
    .await??;
    Ok(end)
}
