//! The line: a listing becomes a complete revision on disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use larder_contract::Digest;
use larder_contract::sync::ModelState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::checksum::Checksum;
use crate::listing::{Listing, ListingError};
use crate::plan;
use crate::retry::{Budget, retrying};
use crate::source::{Class, Source};
use crate::store::{self, Begun, Heartbeat, Staging, StoreError};
use crate::transfer::{Job, Progress, Settings, TransferError, fetch};

/// How often a file with the wrong content is fetched before we give up.
const ROUNDS: usize = 2;

/// How many files are read back at once.
const VERIFIED_AT_ONCE: usize = 4;

/// How a copy ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The revision is complete; this copy made it so.
    Copied,
    /// The revision was complete before.
    Present,
    /// Another process is copying it.
    Running,
    /// Stopped early; the next copy goes on from here.
    Stopped,
}

/// A copy that failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source cannot be listed, or is no model.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// A part could not be fetched.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source is not what was asked for.
    #[error("{place} is now revision {is}, not {wanted}; nothing was copied")]
    OtherRevision {
        /// Where.
        place: String,
        /// What was asked for.
        wanted: Digest,
        /// What the listing shows.
        is: Digest,
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
}

impl CopyError {
    /// The state of a model whose copy ended so.
    #[must_use]
    pub const fn state(&self) -> ModelState {
        match self {
            Self::OtherRevision { .. } => ModelState::SourceChanged,
            Self::Transfer(TransferError::Source(error)) if matches!(error.class, Class::Changed) => {
                ModelState::SourceChanged
            }
            Self::Listing(_) | Self::Transfer(_) | Self::Store(_) | Self::WrongContent { .. } => {
                ModelState::Failed
            }
        }
    }
}

/// The retries that one copy of `parts` parts may use.
#[must_use]
pub fn budget(settings: &Settings, parts: usize) -> Budget {
    let thousands = u32::try_from(parts / 1_000).unwrap_or(u32::MAX).saturating_add(1);
    Budget::new(settings.attempts, settings.retries.saturating_mul(thousands), settings.first_wait)
}

/// Makes a listing's revision complete below `root`.
///
/// Safe to repeat and to interrupt at any point: finished parts are not fetched again. How it failed is for the
/// caller to keep ([`store::keep_failure`]), because a copy may fail before it comes this far.
///
/// # Errors
/// See [`CopyError`].
pub async fn copy<S: Source>(
    source: Arc<S>,
    root: &Path,
    listing: &Listing,
    settings: &Settings,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<Ending, CopyError> {
    progress.bytes_total.store(listing.bytes(), Ordering::Relaxed);
    let (begin_root, begin_listing, part_bytes) = (root.to_owned(), listing.clone(), settings.part_bytes);
    let begun = blocking(move || store::begin(&begin_root, &begin_listing, part_bytes)).await?;
    let staging = match begun {
        Begun::Present => return Ok(Ending::Present),
        Begun::Running => return Ok(Ending::Running),
        Begun::Ours(staging) => staging,
    };
    let sizes: Vec<u64> = listing.objects.iter().map(|object| object.size).collect();
    let heartbeat = Heartbeat::start(root, staging.revision()).await;
    let job = Arc::new(Job {
        source,
        staging: Arc::clone(&staging),
        settings: settings.clone(),
        budget: budget(settings, plan::parts(&sizes, part_bytes, |_, _| false).len()),
        progress: Arc::clone(progress),
        stop: stop.clone(),
    });
    let complete = complete(&job, &sizes).await;
    progress.retries.store(job.budget.used().into(), Ordering::Relaxed);
    drop(job);
    heartbeat.end().await;
    let ending = match complete {
        Ok(true) => {
            let staging = Arc::clone(&staging);
            blocking(move || staging.publish()).await.map(|()| Ending::Copied)
        }
        Ok(false) => Ok(Ending::Stopped),
        Err(error) => Err(error),
    };
    unlock(staging).await;
    ending
}

/// Waits until no write holds the lock any more: a Lambda sandbox may be frozen right after its answer, and
/// would take the lock along. Bounded, because a write to a file system that is gone may never return.
async fn unlock(staging: Arc<Staging>) {
    for _ in 0..500 {
        if Arc::strong_count(&staging) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::warn!(revision = %staging.revision(), "a write is still under way and holds the lock");
}

/// Fetches and verifies until every file is right; false when stopped before.
async fn complete<S: Source>(job: &Arc<Job<S>>, sizes: &[u64]) -> Result<bool, CopyError> {
    let mut last = None;
    for round in 0..ROUNDS {
        let done = job.staging.done();
        if round == 0 {
            job.progress.parts_found.store(done.parts() as u64, Ordering::Relaxed);
        }
        job.progress.bytes.store(done.bytes(), Ordering::Relaxed);
        let left = plan::parts(sizes, job.settings.part_bytes, |file, index| done.has_part(file, index));
        if !fetch(job, left).await? {
            return Ok(false);
        }
        match verify(job).await? {
            Verified::All => return Ok(true),
            Verified::Stopped => return Ok(false),
            Verified::Wrong(wrong) => {
                for Wrong { file, error } in wrong {
                    tracing::warn!(%error, round, "content is wrong");
                    let staging = Arc::clone(&job.staging);
                    blocking(move || staging.drop_file(file)).await?;
                    last = Some(error);
                }
            }
        }
    }
    last.map_or(Ok(false), Err)
}

enum Verified {
    All,
    Wrong(Vec<Wrong>),
    Stopped,
}

struct Wrong {
    file: u32,
    error: CopyError,
}

/// Reads back every file that is not known to be right.
async fn verify<S: Source>(job: &Arc<Job<S>>) -> Result<Verified, CopyError> {
    let done = job.staging.done();
    let files = (0..).zip(job.staging.objects()).map(|(file, _)| file).filter(|file| !done.is_whole(*file));
    let mut looks = futures::stream::iter(files)
        .map(|file| AbortOnDropHandle::new(tokio::spawn(verify_file(Arc::clone(job), file))))
        .buffer_unordered(VERIFIED_AT_ONCE);
    let mut wrong = Vec::new();
    loop {
        match job.stop.run_until_cancelled(looks.next()).await {
            None => return Ok(Verified::Stopped),
            // A look that was cut short by the stop finds nothing wrong, and proves nothing.
            Some(None) if job.stop.is_cancelled() => return Ok(Verified::Stopped),
            Some(None) if wrong.is_empty() => return Ok(Verified::All),
            Some(None) => return Ok(Verified::Wrong(wrong)),
            Some(Some(looked)) => wrong.extend(looked.map_err(TransferError::from)??),
        }
    }
}

async fn verify_file<S: Source>(job: Arc<Job<S>>, file: u32) -> Result<Option<Wrong>, CopyError> {
    let object = &job.staging.objects()[file as usize];
    let key = job.key(object.path.as_str());
    let want = retrying(&job.budget, TransferError::is_passing, async || -> Result<_, TransferError> {
        Ok(job.bounded(&key, job.source.checksum(&key, &object.etag)).await??)
    })
    .await?;
    let (staging, stop) = (Arc::clone(&job.staging), job.stop.clone());
    let differs = blocking(move || check(&staging, file, want.as_ref(), &stop)).await?;
    Ok(differs.map(|(want, have)| Wrong {
        file,
        error: CopyError::WrongContent {
            resource: format!("s3://{}/{key}", job.source.place().bucket),
            want,
            have,
        },
    }))
}

/// Compares a file with what is known of its object, and seals it when it is the same; else what was wanted
/// and what is there.
fn check(
    staging: &Staging,
    file: u32,
    want: Option<&Checksum>,
    stop: &CancellationToken,
) -> Result<Option<(String, String)>, StoreError> {
    let object = &staging.objects()[file as usize];
    let path = staging.path_of(object);
    let length = std::fs::metadata(&path).map_err(StoreError::at("look at", &path))?.len();
    if length != object.size {
        return Ok(Some((format!("{} bytes", object.size), format!("{length} bytes"))));
    }
    if let Some(want) = want {
        let have = Checksum::of_file(want.algorithm, &path, || stop.is_cancelled())
            .map_err(StoreError::at("read", &path))?;
        match have {
            // Stopped: not wrong, and not sealed.
            None => return Ok(None),
            Some(have) if have != *want => return Ok(Some((want.to_string(), have.to_string()))),
            Some(_) => {}
        }
    }
    staging.seal(file)?;
    Ok(None)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, CopyError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(TransferError::from)??)
}
