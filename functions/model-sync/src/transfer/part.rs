//! One part, from the source to its place on disk.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt as _;

use super::{Job, ROUNDS, TransferError, blocking};
use crate::checksum::{Algorithm, Checksum, Hash};
use crate::expected::Expected;
use crate::plan::Part;
use crate::retry::retrying;
use crate::source::{Body, Source};
use crate::store::journal::{Entry, OnDisk};
use crate::store::{Cache, StagedFile};

/// What is written at once.
pub const WRITE_BYTES: usize = 1 << 20;

/// A part that is written, and not synced.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) part: Part,
    /// What is to be noted of it.
    pub(super) entries: Vec<Entry>,
    /// The file, where it is still open.
    pub(super) open: Option<Arc<StagedFile>>,
}

impl Fetched {
    fn new(part: Part, sums: Vec<Checksum>, open: Option<Arc<StagedFile>>) -> Self {
        let on_disk = OnDisk { length: part.length, sums };
        Self { part, entries: vec![Entry::Part { file: part.file, index: part.index, part: on_disk }], open }
    }
}

pub(super) async fn fetch<S: Source>(job: &Arc<Job<S>>, part: Part) -> Result<Fetched, TransferError> {
    let size = job.staging.objects()[part.file as usize].size;
    if part.length < size { fetch_range(job, part).await } else { fetch_whole(job, part).await }
}

/// The hashes of bytes to come: always one that verifies the file later, and the source's own.
fn hashes(others: Option<Algorithm>, length: u64) -> Vec<Hash> {
    let own = Algorithm::Crc64Nvme;
    let all = [Some(own), others.filter(|other| *other != own)];
    all.into_iter().flatten().map(|algorithm| Hash::of_length(algorithm, length)).collect()
}

fn take_in(hashes: &mut [Hash], chunk: &[u8]) {
    for hash in hashes {
        hash.update(chunk);
    }
}

fn sums(hashes: Vec<Hash>) -> Vec<Checksum> {
    hashes.into_iter().map(Hash::finish).collect()
}

async fn fetch_range<S: Source>(job: &Arc<Job<S>>, part: Part) -> Result<Fetched, TransferError> {
    let algorithm = job.expected(part.file).await?.map(Expected::algorithm);
    // Only of CRCs do those of the parts give that of the file: for any other it is read back.
    let cache = if algorithm.is_none_or(Algorithm::is_crc) { Cache::Past } else { Cache::Through };
    let algorithm = algorithm.filter(|algorithm| algorithm.is_crc());
    let staging = Arc::clone(&job.staging);
    let file = blocking(move || staging.open(part.file, cache)).await?;
    let object = &job.staging.objects()[part.file as usize];
    let key = job.key(object.path.as_str());
    let attempt = async || {
        let range = part.offset..part.offset + part.length;
        let body = job.bounded(&key, job.source.read(&key, &object.etag, range)).await??;
        let mut receiving = Receiving::new(job, &key, part, hashes(algorithm, part.length));
        receiving.write(body, &file).await?;
        Ok(sums(receiving.done()))
    };
    let sums = retrying(&job.budget, TransferError::is_passing, attempt).await?;
    Ok(Fetched::new(part, sums, Some(file)))
}

/// A file that is one part: verified here, if the source has a checksum that needs no borders of parts.
async fn fetch_whole<S: Source>(job: &Arc<Job<S>>, part: Part) -> Result<Fetched, TransferError> {
    let object = &job.staging.objects()[part.file as usize];
    let key = job.key(object.path.as_str());
    let mut round = 1;
    loop {
        let attempt = async || attempt_whole(job, &key, part).await;
        let (expected, mut fetched) = retrying(&job.budget, TransferError::is_passing, attempt).await?;
        let is_known = expected.as_ref().is_none_or(|expected| expected.parts() == 1);
        let have = match (&expected, fetched.entries.as_slice()) {
            (Some(want), [Entry::Part { part, .. }]) if is_known => {
                let sum = part.sums.iter().find(|sum| sum.algorithm == want.algorithm()).cloned();
                Some(want.have(&sum.into_iter().collect::<Vec<_>>()))
            }
            _ => None,
        };
        if !is_known || have == expected {
            if is_known {
                fetched.entries.push(Entry::Whole(part.file, expected));
            }
            return Ok(fetched);
        }
        job.progress.bytes.fetch_sub(part.length, Ordering::Relaxed);
        let in_words = |sum: Option<Expected>| sum.map(|sum| sum.to_string()).unwrap_or_default();
        let (resource, want, have) = (job.address(&key), in_words(expected), in_words(have));
        let error = TransferError::WrongContent { resource, want, have };
        if round == ROUNDS {
            return Err(error);
        }
        tracing::warn!(%error, round, "content is wrong");
        round += 1;
    }
}

async fn attempt_whole<S: Source>(
    job: &Arc<Job<S>>,
    key: &str,
    part: Part,
) -> Result<(Option<Expected>, Fetched), TransferError> {
    let staging = Arc::clone(&job.staging);
    if part.length == 0 {
        // The listing says all there is to know.
        blocking(move || staging.write_at_once(part.file, |_| Ok(()))).await?;
        return Ok((None, Fetched::new(part, sums(hashes(None, 0)), None)));
    }
    let etag = &job.staging.objects()[part.file as usize].etag;
    let whole = job.bounded(key, job.source.read_whole(key, etag)).await??;
    let algorithm = whole.expected.as_ref().filter(|expected| expected.parts() == 1).map(Expected::algorithm);
    let mut receiving = Receiving::new(job, key, part, hashes(algorithm, part.length));
    let fetched = if part.length <= WRITE_BYTES as u64 {
        let piece = receiving.gather(whole.body).await?;
        let mut hashes = receiving.done();
        let sums = job.writers.write(move || {
            for chunk in &piece {
                take_in(&mut hashes, chunk);
            }
            staging.write_at_once(part.file, |file| write_all(file, &piece, 0))?;
            Ok(sums(hashes))
        });
        Fetched::new(part, sums.await?, None)
    } else {
        let file = blocking(move || staging.open_anew(part.file)).await?;
        receiving.write(whole.body, &file).await?;
        let (sums, open) = (sums(receiving.done()), Arc::clone(&file));
        blocking(move || file.make_read_only()).await?;
        Fetched::new(part, sums, Some(open))
    };
    Ok((whole.expected, fetched))
}

/// A body on its way. What it added to the progress is taken back unless it is done.
struct Receiving<'a, S: Source> {
    job: &'a Arc<Job<S>>,
    key: &'a str,
    part: Part,
    hashes: Vec<Hash>,
    received: u64,
    is_done: bool,
}

impl<'a, S: Source> Receiving<'a, S> {
    const fn new(job: &'a Arc<Job<S>>, key: &'a str, part: Part, hashes: Vec<Hash>) -> Self {
        Self { job, key, part, hashes, received: 0, is_done: false }
    }

    fn done(mut self) -> Vec<Hash> {
        self.is_done = true;
        std::mem::take(&mut self.hashes)
    }

    fn length_is(&self, have: u64) -> TransferError {
        TransferError::Length {
            resource: self.job.address(self.key),
            offset: self.part.offset,
            want: self.part.length,
            have,
        }
    }

    /// The next bytes; none when all are there.
    async fn next(&mut self, body: &mut Body) -> Result<Option<Bytes>, TransferError> {
        let Some(chunk) = self.job.bounded(self.key, body.next()).await? else {
            let is_all = self.received == self.part.length;
            return if is_all { Ok(None) } else { Err(self.length_is(self.received)) };
        };
        let chunk = chunk?;
        let length = chunk.len() as u64;
        if self.received + length > self.part.length {
            return Err(self.length_is(self.received + length));
        }
        self.received += length;
        self.job.progress.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(Some(chunk))
    }

    async fn gather(&mut self, mut body: Body) -> Result<Vec<Bytes>, TransferError> {
        let mut piece = Vec::new();
        while let Some(chunk) = self.next(&mut body).await? {
            piece.push(chunk);
        }
        Ok(piece)
    }

    async fn write(&mut self, mut body: Body, file: &Arc<StagedFile>) -> Result<(), TransferError> {
        let mut at = self.part.offset;
        let mut piece = self.job.pieces.take();
        let mut chunk = Bytes::new();
        loop {
            while !piece.is_full() {
                if chunk.is_empty() {
                    let Some(next) = self.next(&mut body).await? else { break };
                    chunk = next;
                }
                // Hashed here, where it is still in the processor's cache.
                take_in(&mut self.hashes, &piece.take(&mut chunk));
            }
            if piece.is_empty() {
                self.job.pieces.give_back(piece);
                return Ok(());
            }
            let (file, staging) = (Arc::clone(file), Arc::clone(&self.job.staging));
            // The staging handle goes along: the lock stays held until the write is over, even when nobody
            // waits for it any more.
            let written = blocking(move || {
                file.write(&piece, at)?;
                drop(staging);
                Ok(piece)
            });
            piece = written.await?;
            at += piece.len() as u64;
            piece.clear();
        }
    }
}

impl<S: Source> Drop for Receiving<'_, S> {
    fn drop(&mut self) {
        if !self.is_done {
            self.job.progress.bytes.fetch_sub(self.received, Ordering::Relaxed);
        }
    }
}

/// Writes all chunks, one after the other, from this offset on.
fn write_all(file: &File, chunks: &[Bytes], mut at: u64) -> io::Result<()> {
    // As many as one call takes (IOV_MAX).
    for some in chunks.chunks(1_024) {
        let mut slices: Vec<IoSlice<'_>> = some.iter().map(|chunk| IoSlice::new(chunk)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match rustix::io::pwritev(file, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}
