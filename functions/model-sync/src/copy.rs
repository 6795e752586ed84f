//! The line: a listing becomes a complete revision on disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use larder_contract::Digest;
use larder_contract::sync::ModelState;
use larder_sources::Image;
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::image::{ImageError, Skipped, Unpacking, unpack};
use crate::judge::{Judgement, judge};
use crate::listing::{Listing, ListingError};
use crate::plan;
use crate::retry::{Budget, retrying};
use crate::share::{link_twins, share, twins};
use crate::source::{Class, Source};
use crate::store::{self, Begun, Heartbeat, Staging, StoreError, Unpacked};
use crate::transfer::{Job, Pieces, Progress, ROUNDS, Settings, TransferError, blocking, fetch};

/// How many files are looked at at once.
const JUDGED_AT_ONCE: usize = 4;

/// How a copy ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The revision is complete; this copy made it so.
    Copied,
    /// The revision was complete before.
    Present,
    /// This worker's share is there; others are still at theirs, or at making the revision complete.
    Shared,
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
    /// An image cannot be unpacked.
    #[error(transparent)]
    Image(#[from] ImageError),
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
            Self::Listing(_) | Self::Transfer(_) | Self::Store(_) | Self::Image(_) => ModelState::Failed,
        }
    }
}

/// The retries that one copy of `parts` parts may use.
#[must_use]
pub fn budget(settings: &Settings, parts: usize) -> Budget {
    let thousands = u32::try_from(parts / 1_000).unwrap_or(u32::MAX).saturating_add(1);
    Budget::new(settings.attempts, settings.retries.saturating_mul(thousands), settings.first_wait)
}

/// Makes a listing's revision complete below `root`, or a worker's share of it; the last worker to finish makes
/// it complete.
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
    progress.files_total.store(listing.objects.len() as u64, Ordering::Relaxed);
    if store::is_present(root, &listing.revision) {
        return Ok(Ending::Present);
    }
    let part_bytes = part_bytes(&*source, listing, settings).await?;
    let settings = &Settings { part_bytes, ..settings.clone() };
    let ending = attempt(Arc::clone(&source), root, listing, settings, progress, stop).await?;
    if ending != Ending::Shared {
        return Ok(ending);
    }
    // Only now, when we gave our part of the lock back: so the last to do so finds everything there, and the lock
    // free.
    let (all_root, all) = (root.to_owned(), listing.clone());
    let is_fetched = move || {
        Ok(store::is_present(&all_root, &all.revision) || store::is_fetched(&all_root, &all, part_bytes))
    };
    if !blocking(is_fetched).await? {
        return Ok(Ending::Shared);
    }
    let alone = Settings { worker: None, ..settings.clone() };
    let ending = attempt(source, root, listing, &alone, progress, stop).await?;
    Ok(if ending == Ending::Running { Ending::Shared } else { ending })
}

async fn attempt<S: Source>(
    source: Arc<S>,
    root: &Path,
    listing: &Listing,
    settings: &Settings,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<Ending, CopyError> {
    let (begin_root, begin_listing) = (root.to_owned(), listing.clone());
    let (part_bytes, worker) = (settings.part_bytes, settings.worker);
    let begun = blocking(move || store::begin(&begin_root, &begin_listing, part_bytes, worker)).await?;
    let staging = match begun {
        Begun::Present => return Ok(Ending::Present),
        Begun::Running => return Ok(Ending::Running),
        Begun::Ours(staging) => staging,
    };
    let sizes: Vec<u64> = listing.objects.iter().map(|object| object.size).collect();
    let fetched = Arc::clone(&progress.bytes_fetched);
    let heartbeat = Heartbeat::start(root, staging.revision(), worker, fetched).await;
    let job = Arc::new(Job {
        source,
        staging: Arc::clone(&staging),
        settings: settings.clone(),
        budget: budget(settings, plan::parts(&sizes, part_bytes, |_, _| false).len()),
        progress: Arc::clone(progress),
        stop: stop.clone(),
        expected: listing.objects.iter().map(|_| OnceCell::new()).collect(),
        writers: Arc::default(),
        pieces: Pieces::default(),
    });
    let ready = ready(&job, &sizes, listing.image.as_ref()).await;
    progress.retries.fetch_add(job.budget.used().into(), Ordering::Relaxed);
    drop(job);
    if matches!(ready, Ok(Ready::Share)) {
        heartbeat.end_done().await;
    } else {
        heartbeat.end().await;
    }
    let ending = match ready {
        Ok(Ready::Revision(unpacked)) => {
            let staging = Arc::clone(&staging);
            blocking(move || staging.publish(unpacked))
                .await
                .map(|()| Ending::Copied)
                .map_err(CopyError::from)
        }
        Ok(Ready::Share) => Ok(Ending::Shared),
        Ok(Ready::Stopped) => Ok(Ending::Stopped),
        Err(error) => Err(error),
    };
    unlock(staging).await;
    ending
}

/// The length of parts: without an end, where the source cannot give parts of each file that has several.
async fn part_bytes<S: Source>(
    source: &S,
    listing: &Listing,
    settings: &Settings,
) -> Result<u64, TransferError> {
    let budget = budget(settings, 1);
    for object in listing.objects.iter().filter(|object| object.size > settings.part_bytes) {
        let key = format!("{}{}", source.prefix(), object.path);
        let ask = async || {
            let asked = tokio::time::timeout(settings.stall, source.has_ranges(&key, &object.etag)).await;
            let (resource, after) = (source.address(&key), settings.stall);
            Ok(asked.map_err(|_| TransferError::Stalled { resource, after })??)
        };
        if !retrying(&budget, TransferError::is_passing, ask).await? {
            tracing::info!(key, "the server gives no parts of files; each is fetched in one go");
            return Ok(u64::MAX);
        }
    }
    Ok(settings.part_bytes)
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

/// What is ready.
enum Ready {
    /// All of the revision: the files, or what was taken out of them.
    Revision(Option<Unpacked>),
    /// A worker's share; others have the rest.
    Share,
    /// Nothing: stopped before.
    Stopped,
}

/// Makes everything right; of an image without the layers whose files are here already.
async fn ready<S: Source>(
    job: &Arc<Job<S>>,
    sizes: &[u64],
    image: Option<&Image>,
) -> Result<Ready, CopyError> {
    let is_share = job.settings.worker.is_some();
    // Workers must agree on what is fetched, and what is here may change meanwhile.
    let mut skipped = match image {
        Some(image) if !is_share => Skipped::find(&job.staging, image).await?,
        Some(_) | None => Skipped::default(),
    };
    loop {
        let left = || (0..).zip(sizes).filter(|(layer, _)| !skipped.has(*layer)).map(|(_, size)| size);
        job.progress.bytes_total.store(left().sum(), Ordering::Relaxed);
        job.progress.files_total.store(left().count() as u64, Ordering::Relaxed);
        if !complete(job, sizes, |layer| !skipped.has(layer)).await? {
            return Ok(Ready::Stopped);
        }
        let Some(image) = image.filter(|_| !is_share) else {
            return Ok(if is_share { Ready::Share } else { Ready::Revision(None) });
        };
        match unpack(&job.staging, image, skipped, &job.progress, &job.stop).await? {
            Unpacking::Done(unpacked) => return Ok(Ready::Revision(Some(unpacked))),
            Unpacking::Missing(rest) => skipped = rest,
            Unpacking::Stopped => return Ok(Ready::Stopped),
        }
    }
}

/// Makes every file right that `is_wanted`, each content once; false when stopped before.
async fn complete<S: Source>(
    job: &Arc<Job<S>>,
    sizes: &[u64],
    is_wanted: impl Fn(u32) -> bool,
) -> Result<bool, CopyError> {
    job.progress.parts_found.store(job.staging.done(|done| done.parts() as u64), Ordering::Relaxed);
    if !share(job).await? {
        return Ok(false);
    }
    let mut twins = twins(&job.staging);
    twins.retain(|file, _| is_wanted(*file));
    if !fetch_all(job, sizes, |file| is_wanted(file) && !twins.contains_key(&file)).await? {
        return Ok(false);
    }
    if twins.is_empty() {
        return Ok(true);
    }
    // What could not be linked is fetched after all.
    Ok(link_twins(job, twins).await? && fetch_all(job, sizes, is_wanted).await?)
}

/// Fetches and verifies until every file that `is_wanted` is right; false when stopped before.
async fn fetch_all<S: Source>(
    job: &Arc<Job<S>>,
    sizes: &[u64],
    is_wanted: impl Fn(u32) -> bool,
) -> Result<bool, CopyError> {
    let (part_bytes, division) = (job.settings.part_bytes, job.staging.division());
    let mut last = None;
    for round in 0..ROUNDS {
        let (left, whole) = job.staging.done(|done| {
            job.progress.bytes.store(done.bytes(), Ordering::Relaxed);
            let mut left = plan::parts(sizes, part_bytes, |file, index| done.has_part(file, index));
            left.retain(|part| is_wanted(part.file) && division.has(part));
            let is_fetched = |file, size| done.parts_of(file).count() as u64 == plan::count(size, part_bytes);
            let whole =
                (0..).zip(sizes).filter(|(file, size)| !done.is_whole(*file) && is_fetched(*file, **size));
            let whole = whole.filter(|(file, _)| is_wanted(*file) && division.has_file(*file));
            (left, whole.map(|(file, _)| file).collect::<Vec<u32>>())
        });
        job.progress.tell_files(&job.staging);
        let (fetched, to_judge) = mpsc::unbounded_channel();
        // An earlier copy was ended between the last part of these and the look at them.
        for file in whole {
            fetched.send(file).unwrap_or_default();
        }
        let stop = job.stop.child_token();
        let _ends_with_us = stop.clone().drop_guard();
        let judged = AbortOnDropHandle::new(tokio::spawn(judge_all(Arc::clone(job), to_judge, stop)));
        if !fetch(job, left, fetched).await? {
            return Ok(false);
        }
        let Some(wrong) = judged.await.map_err(TransferError::from)?? else { return Ok(false) };
        if wrong.is_empty() {
            return Ok(true);
        }
        for Wrong { file, error } in wrong {
            tracing::warn!(%error, round, "content is wrong");
            let staging = Arc::clone(&job.staging);
            blocking(move || staging.drop_file(file)).await?;
            last = Some(error);
        }
    }
    last.map_or(Ok(false), |error| Err(error.into()))
}

struct Wrong {
    file: u32,
    error: TransferError,
}

/// Looks at files as they come, while others are still fetched; answers which are wrong. None when stopped.
async fn judge_all<S: Source>(
    job: Arc<Job<S>>,
    mut fetched: mpsc::UnboundedReceiver<u32>,
    stop: CancellationToken,
) -> Result<Option<Vec<Wrong>>, TransferError> {
    let files = futures::stream::poll_fn(move |context| fetched.poll_recv(context));
    let mut looks = files
        .map(|file| {
            let (job, stop) = (Arc::clone(&job), stop.clone());
            AbortOnDropHandle::new(tokio::spawn(async move { (file, judge(&job, file, &stop).await) }))
        })
        .buffer_unordered(JUDGED_AT_ONCE);
    let mut wrong = Vec::new();
    loop {
        let looked = match stop.run_until_cancelled(looks.next()).await {
            None => return Ok(None),
            Some(None) => return Ok(Some(wrong)),
            Some(Some(looked)) => looked?,
        };
        match looked {
            (_, Err(error)) => return Err(error),
            (_, Ok(Judgement::Stopped)) => return Ok(None),
            (_, Ok(Judgement::Right)) => {}
            (file, Ok(Judgement::Wrong { want, have })) => {
                let key = job.key(job.staging.objects()[file as usize].path.as_str());
                let error = TransferError::WrongContent { resource: job.address(&key), want, have };
                wrong.push(Wrong { file, error });
            }
        }
    }
}
