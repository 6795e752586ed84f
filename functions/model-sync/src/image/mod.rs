//! The files of a container image, out of its layers.
//!
//! The layers are copied and verified as files are, to the staging folder. Then, on this machine alone:
//!
//! ```text
//! read all layers ──▶ each has its diff id ──▶ what they come to ──▶ read those that have files of the model ──▶ write
//! ```
//!
//! - `layer`: a layer as a stream, gzip and zstd undone.
//! - `tar`: its entries.
//! - `tree`: what the layers come to, pure.
//!
//! Reading twice is what it costs to know all before anything is written: what a later layer takes away is not
//! written, and what is refused leaves nothing behind. Memory: the names in the image, at most half a million, and
//! a buffer.
//!
//! A copy that ends in the middle keeps the layers, and unpacks again from the start. Deliberately absent: owners,
//! modes and times of files. A model's files are read-only and have none.

mod layer;
mod tar;
mod tree;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_contract::{ObjectEntry, RelativePath};
use larder_sources::Image;
use tokio_util::sync::CancellationToken;

use crate::checksum::{Algorithm, Hash};
use crate::expected::Expected;
use crate::store::record::Recorded;
use crate::store::{Staging, StoreError};
use layer::Layer;
use tar::{Archive, TarError};
use tree::{Place, Tree};

/// What is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// An image that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A layer is not what it should be.
    #[error("layer {nth} of the image: {why}; push the image again")]
    Layer {
        /// Which, counted from 1.
        nth: usize,
        /// What is wrong.
        why: String,
    },
    /// It has no such model.
    #[error("the image: {0}")]
    Folder(String),
    /// The file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of ours died.
    #[error("a worker died: {0}; this is a fault of the program")]
    Worker(#[from] tokio::task::JoinError),
}

/// Writes the files of the image's folder beside its layers, which are staged and verified; answers what was written.
/// None when stopped before the end.
///
/// # Errors
/// See [`ImageError`].
pub(crate) async fn unpack(
    staging: &Arc<Staging>,
    image: &Image,
    stop: &CancellationToken,
) -> Result<Option<Vec<Recorded>>, ImageError> {
    let (staging, image, stop) = (Arc::clone(staging), image.clone(), stop.clone());
    let work = move || {
        let unpacked = staging.begin_unpacked().map_err(ImageError::from);
        let unpacked = unpacked.and_then(|()| files(&staging, &image, &stop)).and_then(|files| {
            Writer { staging: &staging, stop: &stop, buffer: vec![0; WRITE_BYTES] }.write(files)
        });
        match unpacked {
            Err(_) if stop.is_cancelled() => Ok(None),
            unpacked => unpacked.map(Some),
        }
    };
    tokio::task::spawn_blocking(work).await?
}

/// The files of the image's folder, and where their bytes are.
fn files(
    staging: &Staging,
    image: &Image,
    stop: &CancellationToken,
) -> Result<Vec<(RelativePath, Place)>, ImageError> {
    let mut tree = Tree::default();
    for (nth, (number, diff_id)) in (0..).zip(&image.diff_ids).enumerate() {
        let refused = |why: String| ImageError::Layer { nth: nth + 1, why };
        let mut archive = Archive::new(open(staging, nth, true, stop)?);
        let mut entries = 0;
        while let Some(entry) = archive.next().map_err(|e| refused(e.to_string()))? {
            tree.add(number, entries, entry).map_err(refused)?;
            entries += 1;
        }
        let digest = archive.into_inner().finish().map_err(|e| refused(e.to_string()))?;
        if let Some(digest) = digest.filter(|digest| digest != diff_id) {
            return Err(refused(format!("unpacked it is {digest}, and the configuration says {diff_id}")));
        }
    }
    tree.files(&image.folder).map_err(ImageError::Folder)
}

/// A layer as a stream. The objects of the listing are the layers, in their order.
fn open<'a>(
    staging: &Staging,
    nth: usize,
    is_hashed: bool,
    stop: &'a CancellationToken,
) -> Result<Layer<'a>, ImageError> {
    let why = || "it was not listed".to_owned();
    let object = staging.objects().get(nth).ok_or_else(|| ImageError::Layer { nth: nth + 1, why: why() })?;
    let path = staging.path_of(object);
    let opened = File::open(&path).and_then(|file| Layer::open(file, object.size, is_hashed, stop));
    Ok(opened.map_err(StoreError::at("read", &path))?)
}

struct Writer<'a> {
    staging: &'a Staging,
    stop: &'a CancellationToken,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, files: Vec<(RelativePath, Place)>) -> Result<Vec<Recorded>, ImageError> {
        // By layer and entry, the order in which the bytes come.
        let mut wanted: BTreeMap<Place, Vec<RelativePath>> = BTreeMap::new();
        for (path, place) in files {
            wanted.entry(place).or_default().push(path);
        }
        let mut recorded = Vec::new();
        let mut layer: Option<(u32, u32, Archive<Layer<'_>>)> = None;
        for (place, paths) in wanted {
            let nth = place.layer as usize;
            let refused = |e: TarError| ImageError::Layer { nth: nth + 1, why: e.to_string() };
            let (_, next, archive) = match &mut layer {
                Some(open) if open.0 == place.layer => open,
                other => {
                    let archive = Archive::new(open(self.staging, nth, false, self.stop)?);
                    other.insert((place.layer, 0, archive))
                }
            };
            while *next <= place.entry {
                archive.next().map_err(refused)?;
                *next += 1;
            }
            recorded.extend(self.write_one(archive, place, paths)?);
        }
        recorded.sort_by(|a, b| a.object.path.cmp(&b.object.path));
        Ok(recorded)
    }

    /// One file, and its other names.
    fn write_one(
        &mut self,
        archive: &mut Archive<Layer<'_>>,
        place: Place,
        paths: Vec<RelativePath>,
    ) -> Result<Vec<Recorded>, ImageError> {
        let Some((first, others)) = paths.split_first() else { return Ok(Vec::new()) };
        let file = self.staging.make_unpacked(first, place.size)?;
        let at = self.staging.unpacked_path(first);
        let mut hashes = [Hash::of_length(Algorithm::Crc64Nvme, place.size), Hash::new(Algorithm::Sha256)];
        let mut left = place.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let piece = &mut self.buffer[..most];
            archive
                .read_exact(piece)
                .map_err(|e| ImageError::Layer { nth: place.layer as usize + 1, why: e.to_string() })?;
            (&file).write_all(piece).map_err(StoreError::at("write", &at))?;
            for hash in &mut hashes {
                hash.update(piece);
            }
            left -= most as u64;
        }
        for other in others {
            self.link(&at, other)?;
        }
        let [crc, sha256] = hashes.map(Hash::finish);
        let etag = format!("sha256:{}", hex::encode(&sha256.value));
        let each = |path: RelativePath| Recorded {
            object: ObjectEntry { path, size: place.size, etag: etag.clone() },
            crc: crc.clone(),
            source: Some(Expected::Whole(sha256.clone())),
        };
        Ok(paths.into_iter().map(each).collect())
    }

    fn link(&self, from: &Path, other: &RelativePath) -> Result<(), StoreError> {
        let to: PathBuf = self.staging.unpacked_path(other);
        self.staging.make_unpacked_folder(other)?;
        // EFS allows under 180 names for a file.
        fs::hard_link(from, &to)
            .or_else(|_| fs::copy(from, &to).map(drop))
            .map_err(StoreError::at("make", &to))
    }
}
