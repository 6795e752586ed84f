//! Files that lie on the file system already, in another revision: linked, not fetched.
//!
//! A file of another revision is taken when all of this holds:
//! - its record has the length and the `ETag` that the listing shows;
//! - the store keeps the same checksum of the object as when the other one was copied;
//! - its bytes, read again from the disk, hash to what was recorded as they came.
//!
//! The last is what keeps a damaged file from spreading: reading what lies here costs less than fetching it, and
//! a link is not worth a wrong byte. What cannot be linked is fetched as if it were not there: EFS allows
//! 177 links to a file, and some file systems none.
//! <https://docs.aws.amazon.com/efs/latest/ug/limits.html>

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::checksum::{Algorithm, Checksum, Hash};
use crate::expected::Expected;
use crate::plan;
use crate::source::Source;
use crate::store::journal::{Done, Entry, OnDisk};
use crate::store::record::Recorded;
use crate::store::{self, Staging, StoreError};
use crate::transfer::{Job, TransferError, blocking};

/// How many files are asked for, and read, at once.
const AT_ONCE: usize = 16;

/// After how many files, or bytes, they are made durable and noted.
const FILES: usize = 256;
const BYTES: u64 = 1 << 30;

/// How many other revisions' files are tried for one.
pub(crate) const TRIED: usize = 3;

/// A file that may be the same, and what was recorded of it.
#[derive(Debug, Clone)]
struct Other {
    path: PathBuf,
    recorded: Recorded,
}

/// Links what can be linked of the files of which nothing is there. Answers false when stopped before the end.
pub(crate) async fn share<S: Source>(job: &Arc<Job<S>>) -> Result<bool, TransferError> {
    let staging = Arc::clone(&job.staging);
    let others = blocking(move || Ok(others(&staging))).await?;
    let links = others.into_iter().map(|(file, others)| {
        let job = Arc::clone(job);
        AbortOnDropHandle::new(tokio::spawn(async move { link(&job, file, others).await }))
    });
    note_all(job, links).await
}

/// What one link came to: the file and what is to be noted of it, if it is one now.
type Linked = Result<Option<(u32, Vec<Entry>)>, TransferError>;

/// Notes links as they are made. Answers false when stopped before the end.
async fn note_all<S: Source>(
    job: &Arc<Job<S>>,
    links: impl Iterator<Item = AbortOnDropHandle<Linked>>,
) -> Result<bool, TransferError> {
    let mut links = futures::stream::iter(links).buffer_unordered(AT_ONCE);
    let (mut entries, mut files, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let linked = job.stop.run_until_cancelled(links.next()).await;
        let is_end = !matches!(linked, Some(Some(_)));
        if let Some(Some(linked)) = linked
            && let Some((file, of_file)) = linked??
        {
            entries.extend(of_file);
            files += 1;
            bytes += job.staging.objects()[file as usize].size;
        }
        if files == FILES || bytes >= BYTES || (is_end && files > 0) {
            let (staging, noted) = (Arc::clone(&job.staging), std::mem::take(&mut entries));
            blocking(move || staging.sync().and_then(|()| staging.note(noted))).await?;
            job.progress.files_linked.fetch_add(files as u64, Ordering::Relaxed);
            job.progress.bytes_linked.fetch_add(bytes, Ordering::Relaxed);
            job.progress.tell_files(&job.staging);
            (files, bytes) = (0, 0);
        }
        if is_end {
            return Ok(!job.stop.is_cancelled());
        }
    }
}

/// By the number of a file of which nothing is there: the first file of the same listing with its length and `ETag`.
pub(crate) fn twins(staging: &Staging) -> BTreeMap<u32, u32> {
    let begun = staging.done(Done::files);
    let mut first: HashMap<(&str, u64), u32> = HashMap::new();
    let mut twins = BTreeMap::new();
    for (file, object) in (0..).zip(staging.objects()) {
        if object.size == 0 || !staging.division().has_file(file) {
            continue;
        }
        let first = *first.entry((&object.etag, object.size)).or_insert(file);
        if first != file && !begun.contains(&file) {
            twins.insert(file, first);
        }
    }
    twins
}

/// Links files to others of the same listing, which must be complete. What cannot be linked, or of which the source
/// says something else, stays as it is. Answers false when stopped before the end.
pub(crate) async fn link_twins<S: Source>(
    job: &Arc<Job<S>>,
    twins: BTreeMap<u32, u32>,
) -> Result<bool, TransferError> {
    let links = twins.into_iter().map(|(file, first)| {
        let job = Arc::clone(job);
        AbortOnDropHandle::new(tokio::spawn(async move { link_twin(&job, file, first).await }))
    });
    note_all(job, links).await
}

async fn link_twin<S: Source>(job: &Arc<Job<S>>, file: u32, first: u32) -> Linked {
    let (has, parts) = job
        .staging
        .done(|done| (done.expected(first).cloned(), done.parts_of(first).cloned().collect::<Vec<OnDisk>>()));
    // What the first was compared with, this must be, too.
    let Some(has) = has else { return Ok(None) };
    if !job.expected(file).await.is_ok_and(|want| want == Some(&has)) {
        return Ok(None);
    }
    let staging = Arc::clone(&job.staging);
    let link = move || staging.link(file, &staging.path_of(&staging.objects()[first as usize]));
    Ok(blocking(link).await?.then(|| (file, entries(file, parts, has))))
}

/// By the number of a file of which nothing is there: files of other revisions with its length and `ETag`.
fn others(staging: &Staging) -> BTreeMap<u32, Vec<Other>> {
    let begun = staging.done(Done::files);
    let mut wanted: HashMap<(&str, u64), Vec<u32>> = HashMap::new();
    for (file, object) in (0..).zip(staging.objects()) {
        // A file that several workers write to is fetched: a link would pull it away from under the others.
        if object.size > 0 && !begun.contains(&file) && staging.division().has_file(file) {
            wanted.entry((&object.etag, object.size)).or_default().push(file);
        }
    }
    let mut found: BTreeMap<u32, Vec<Other>> = BTreeMap::new();
    if wanted.is_empty() {
        return found;
    }
    store::each_record(staging.root(), |folder, recorded| {
        let key = (recorded.object.etag.as_str(), recorded.object.size);
        for file in wanted.get(&key).into_iter().flatten() {
            let others = found.entry(*file).or_default();
            if others.len() < TRIED {
                let path = folder.join(recorded.object.path.as_str());
                others.push(Other { path, recorded: recorded.clone() });
            }
        }
    });
    found
}

/// Links one file, if one of `others` is it; answers what is to be noted.
async fn link<S: Source>(job: &Arc<Job<S>>, file: u32, others: Vec<Other>) -> Linked {
    // What is wrong with the source is said by the fetch.
    let Ok(Some(want)) = job.expected(file).await else { return Ok(None) };
    let want = want.clone();
    let (staging, stop, part_bytes) = (Arc::clone(&job.staging), job.stop.clone(), job.settings.part_bytes);
    let linked = blocking(move || {
        for other in others.iter().filter(|other| other.recorded.source.as_ref() == Some(&want)) {
            if !staging.link(file, &other.path)? {
                continue;
            }
            let path = staging.path_of(&staging.objects()[file as usize]);
            match hashed(&path, &other.recorded, part_bytes, &stop) {
                Ok(Some(parts)) => return Ok(Some(entries(file, parts, want))),
                Ok(None) if stop.is_cancelled() => return Ok(None),
                Ok(None) => tracing::warn!(path = %other.path.display(), "it is damaged, and not shared"),
                Err(error) => {
                    tracing::warn!(path = %other.path.display(), %error, "it cannot be read, and is not shared");
                }
            }
            staging.unlink(file)?;
        }
        Ok::<_, StoreError>(None)
    });
    Ok(linked.await?.map(|entries| (file, entries)))
}

fn entries(file: u32, parts: Vec<OnDisk>, want: Expected) -> Vec<Entry> {
    let parts = (0..).zip(parts).map(|(index, part)| Entry::Part { file, index, part });
    parts.chain([Entry::Whole(file, Some(want))]).collect()
}

/// The parts of a file with their checksums, if it is what was recorded; none when it is not, or when stopped.
pub(crate) fn hashed(
    path: &Path,
    recorded: &Recorded,
    part_bytes: u64,
    stop: &CancellationToken,
) -> io::Result<Option<Vec<OnDisk>>> {
    let size = recorded.object.size;
    let mut file = File::open(path)?;
    // Advice: a file system that does not take it reads from its cache.
    rustix::fs::fadvise(&file, 0, std::num::NonZeroU64::new(size), rustix::fs::Advice::DontNeed).ok();
    let strong = match &recorded.source {
        Some(Expected::Whole(checksum)) if !checksum.algorithm.is_crc() => Some(checksum),
        Some(Expected::Whole(_) | Expected::Composite { .. }) | None => None,
    };
    let mut whole = strong.map(|checksum| Hash::new(checksum.algorithm));
    let mut parts = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    for nth in 0..plan::count(size, part_bytes) {
        let length = part_bytes.min(size - nth * part_bytes);
        let mut hash = Hash::new(Algorithm::Crc64Nvme);
        let mut left = length;
        while left > 0 && !stop.is_cancelled() {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = match file.read(&mut buffer[..most]) {
                Ok(0) => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            hash.update(&buffer[..read]);
            if let Some(whole) = &mut whole {
                whole.update(&buffer[..read]);
            }
            left -= read as u64;
        }
        if stop.is_cancelled() {
            return Ok(None);
        }
        parts.push(OnDisk { length, sums: vec![hash.finish()] });
    }
    let crcs = parts.iter().filter_map(|part| Some((part.sums.first()?, part.length)));
    let is_same = Checksum::joined(Algorithm::Crc64Nvme, crcs).as_ref() == Some(&recorded.crc)
        && whole.map(Hash::finish).as_ref() == strong
        && file.read(&mut buffer[..1])? == 0;
    Ok(is_same.then_some(parts))
}
