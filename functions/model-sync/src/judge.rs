//! Is a file on disk what its source says it is?
//!
//! The CRCs that were noted as the parts came give the file's own, and that of each part of the upload whose
//! borders they meet. Where they do not, and for every other algorithm, the file is read back.

use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::checksum::{Algorithm, Checksum};
use crate::expected::{Expected, parts_of_pieces, uniform};
use crate::retry::retrying;
use crate::source::Source;
use crate::store::StoreError;
use crate::store::journal::{Entry, OnDisk};
use crate::transfer::{Job, TransferError, blocking};

/// How many parts of one upload are asked for their lengths at once.
const ASKED_AT_ONCE: usize = 16;

/// What a look at a file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is right, read-only, and noted.
    Right,
    /// It is not.
    Wrong {
        /// What the source says.
        want: String,
        /// What is on disk.
        have: String,
    },
    /// Stopped before the end.
    Stopped,
}

/// Compares a file, all of whose parts are on disk, with what its source says.
pub(crate) async fn judge<S: Source>(
    job: &Arc<Job<S>>,
    file: u32,
    stop: &CancellationToken,
) -> Result<Judgement, TransferError> {
    let staging = Arc::clone(&job.staging);
    let object = &job.staging.objects()[file as usize];
    let path = job.staging.path_of(object);
    let length = blocking(move || {
        let path = staging.path_of(&staging.objects()[file as usize]);
        Ok(std::fs::metadata(&path).map_err(StoreError::at("look at", &path))?.len())
    });
    let length = length.await?;
    if length != object.size {
        let (want, have) = (format!("{} bytes", object.size), format!("{length} bytes"));
        return Ok(Judgement::Wrong { want, have });
    }
    let mut against = job.expected(file).await?.cloned();
    if let Some(want) = &against {
        let look = Look { job, file, path: &path, want, stop };
        match look.compare().await? {
            Compared::Same => {}
            Compared::Unknown => {
                let key = job.key(object.path.as_str());
                tracing::info!(key, %want, "the store does not tell the borders of the object's parts");
                against = None;
            }
            Compared::Different(have) => {
                return Ok(Judgement::Wrong { want: want.to_string(), have: have.to_string() });
            }
            Compared::Stopped => return Ok(Judgement::Stopped),
        }
    }
    let staging = Arc::clone(&job.staging);
    blocking(move || staging.seal(file, Entry::Whole(file, against))).await?;
    job.progress.tell_files(&job.staging);
    Ok(Judgement::Right)
}

enum Compared {
    Same,
    Different(Expected),
    /// The store does not say enough.
    Unknown,
    Stopped,
}

struct Look<'a, S: Source> {
    job: &'a Arc<Job<S>>,
    file: u32,
    path: &'a Path,
    want: &'a Expected,
    stop: &'a CancellationToken,
}

impl<S: Source> Look<'_, S> {
    async fn compare(&self) -> Result<Compared, TransferError> {
        let size = self.job.staging.objects()[self.file as usize].size;
        let parts = self.want.parts();
        if matches!(self.want, Expected::Whole(_)) || parts == 1 {
            return self.with_borders(&[size]).await;
        }
        let Some(first) = self.part_length(1).await? else { return Ok(Compared::Unknown) };
        let equal = uniform(size, parts, first);
        let mut different = Compared::Unknown;
        if let Some(lengths) = &equal {
            different = self.with_borders(lengths).await?;
            if matches!(different, Compared::Same | Compared::Stopped) {
                return Ok(different);
            }
        }
        let exact: Option<Vec<u64>> = futures::stream::iter(1..=parts)
            .map(|number| self.part_length(number))
            .buffered(ASKED_AT_ONCE)
            .try_collect::<Vec<Option<u64>>>()
            .await?
            .into_iter()
            .collect();
        match exact.filter(|lengths| lengths.iter().sum::<u64>() == size) {
            None => Ok(Compared::Unknown),
            Some(lengths) if Some(&lengths) == equal.as_ref() => Ok(different),
            Some(lengths) => self.with_borders(&lengths).await,
        }
    }

    async fn part_length(&self, number: u32) -> Result<Option<u64>, TransferError> {
        let job = self.job;
        let object = &job.staging.objects()[self.file as usize];
        let key = job.key(object.path.as_str());
        let ask = async || -> Result<_, TransferError> {
            Ok(job.bounded(&key, job.source.part_length(&key, &object.etag, number)).await??)
        };
        retrying(&job.budget, TransferError::is_passing, ask).await
    }

    async fn with_borders(&self, lengths: &[u64]) -> Result<Compared, TransferError> {
        let algorithm = self.want.algorithm();
        let noted = |part: &OnDisk| {
            let sum = part.sums.iter().find(|sum| sum.algorithm == algorithm)?;
            Some((sum.clone(), part.length))
        };
        let pieces: Option<Vec<_>> =
            self.job.staging.done(|done| done.parts_of(self.file).map(noted).collect());
        let sums = match pieces.and_then(|pieces| parts_of_pieces(algorithm, lengths, &pieces)) {
            Some(sums) => Some(sums),
            None => self.read_back(algorithm, lengths.to_vec()).await?,
        };
        Ok(match sums.map(|sums| self.want.have(&sums)) {
            None => Compared::Stopped,
            Some(have) if have == *self.want => Compared::Same,
            Some(have) => Compared::Different(have),
        })
    }

    /// The checksums of these ranges, one after the other; none when stopped before the end.
    async fn read_back(
        &self,
        algorithm: Algorithm,
        lengths: Vec<u64>,
    ) -> Result<Option<Vec<Checksum>>, TransferError> {
        let (path, stop) = (self.path.to_owned(), self.stop.clone());
        blocking(move || {
            let mut start = 0;
            let mut sums = Vec::new();
            for length in lengths {
                let range = start..start + length;
                start += length;
                let read = Checksum::of_range(&[algorithm], &path, range, || stop.is_cancelled());
                match read.map_err(StoreError::at("read", &path))? {
                    Some(sum) => sums.extend(sum),
                    None => return Ok(None),
                }
            }
            Ok(Some(sums))
        })
        .await
    }
}
