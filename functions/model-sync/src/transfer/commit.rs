//! Finished parts, made durable and noted together.
//!
//! A sync each would cost more than a part on some file systems; what a crash can lose is bounded by the
//! limits here. Where a few long files were written, each is synced alone; where many were, one call syncs the
//! file system.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::part::Fetched;
use super::{Job, TransferError};
use crate::plan;
use crate::source::Source;
use crate::store::{StagedFile, Staging, StoreError};

/// After how many parts, bytes or how long.
const PARTS: usize = 1_024;
const BYTES: u64 = 64 << 20;
const AFTER: Duration = Duration::from_secs(2);

/// How many parts may wait, so that fetching goes on while a batch is synced. With those of a batch they bound how
/// many files are open: Lambda allows 1,024. Small files are not open any more.
pub(super) const WAITING: usize = 512;

/// Up to how many files are synced one by one.
const SYNCED_ALONE: usize = 8;

/// Syncs finished parts and notes them, until there are no more.
pub(super) async fn commit_all<S: Source>(
    job: Arc<Job<S>>,
    mut finished: mpsc::Receiver<Fetched>,
    complete: mpsc::UnboundedSender<u32>,
) -> Result<(), TransferError> {
    while let Some(first) = finished.recv().await {
        let until = tokio::time::Instant::now() + AFTER;
        let mut bytes = first.part.length;
        let mut batch = vec![first];
        while bytes < BYTES && batch.len() < PARTS {
            let Ok(Some(next)) = tokio::time::timeout_at(until, finished.recv()).await else { break };
            bytes += next.part.length;
            batch.push(next);
        }
        let (staging, part_bytes) = (Arc::clone(&job.staging), job.settings.part_bytes);
        let whole = super::blocking(move || commit(&staging, part_bytes, batch)).await?;
        job.progress.tell_files(&job.staging);
        // Nobody listens any more when the copy has failed.
        for file in whole {
            complete.send(file).unwrap_or_default();
        }
    }
    Ok(())
}

/// Answers which files have all their parts now, and are not verified. Files that others write to as well are not
/// among them: they are looked at when everything is there.
fn commit(staging: &Staging, part_bytes: u64, batch: Vec<Fetched>) -> Result<Vec<u32>, StoreError> {
    let open: BTreeMap<u32, &Arc<StagedFile>> =
        batch.iter().filter_map(|fetched| Some((fetched.part.file, fetched.open.as_ref()?))).collect();
    if open.len() > SYNCED_ALONE || batch.iter().any(|fetched| fetched.open.is_none()) {
        staging.sync()?;
    } else {
        open.into_values().try_for_each(|file| file.sync())?;
    }
    let mut files: Vec<u32> = batch.iter().map(|fetched| fetched.part.file).collect();
    files.sort_unstable();
    files.dedup();
    staging.note(batch.into_iter().flat_map(|fetched| fetched.entries).collect())?;
    files.retain(|file| {
        if !staging.division().has_file(*file) {
            return false;
        }
        let all = plan::count(staging.objects()[*file as usize].size, part_bytes);
        staging.done(|done| !done.is_whole(*file) && done.parts_of(*file).count() as u64 == all)
    });
    Ok(files)
}
