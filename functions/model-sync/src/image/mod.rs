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
//! - `write`: the files.
//! - `known`: what is noted of them, so that a layer whose files lie here already is not fetched again.
//!
//! Reading twice is what it costs to know all before anything is written: what a later layer takes away is not
//! written, and what is refused leaves nothing behind. Memory: the names in the image, at most half a million, and
//! a buffer.
//!
//! A copy that ends in the middle keeps the layers, and unpacks again from the start. Deliberately absent: owners,
//! modes and times of files. A model's files are read-only and have none.

mod known;
mod layer;
mod tar;
mod tree;
mod write;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_sources::Image;
use tokio_util::sync::CancellationToken;

use crate::store::{Staging, StoreError, Unpacked};
use crate::transfer::Progress;
use known::Known;
pub(crate) use known::Skipped;
use layer::Layer;
use tar::Archive;
use tree::Tree;
use write::{Files, Writer};

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

/// What became of an image.
#[derive(Debug)]
pub(crate) enum Unpacking {
    /// Its files are written.
    Done(Unpacked),
    /// Files of layers that were skipped are not here any more: only these layers still can be.
    Missing(Skipped),
    /// Stopped before the end.
    Stopped,
}

/// Writes the files of the image's folder beside its layers, which are staged and verified, but for those that were
/// `skipped`: of these the files are linked.
///
/// # Errors
/// See [`ImageError`].
pub(crate) async fn unpack(
    staging: &Arc<Staging>,
    image: &Image,
    skipped: Skipped,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<Unpacking, ImageError> {
    let (staging, image, progress) = (Arc::clone(staging), image.clone(), Arc::clone(progress));
    let stopped = stop.clone();
    let work = move || {
        staging.begin_unpacked()?;
        let (mut layers, files) = read_all(&staging, &image, &skipped, &stopped)?;
        let writer = Writer { staging: &staging, skipped: &skipped, stop: &stopped };
        let written = writer.write(&mut layers, files)?;
        if !written.missing.is_empty() {
            return Ok(Unpacking::Missing(skipped.without(&written.missing)));
        }
        let (files, bytes) = written.linked;
        progress.files_linked.fetch_add(files, Ordering::Relaxed);
        progress.bytes_linked.fetch_add(bytes, Ordering::Relaxed);
        Ok(Unpacking::Done(Unpacked { files: written.files, layers: known::write(&layers) }))
    };
    match tokio::task::spawn_blocking(work).await? {
        Err(_) if stop.is_cancelled() => Ok(Unpacking::Stopped),
        unpacked => unpacked,
    }
}

/// What each layer holds, those that were skipped among them, and the files of the image's folder.
fn read_all(
    staging: &Staging,
    image: &Image,
    skipped: &Skipped,
    stop: &CancellationToken,
) -> Result<(Vec<Known>, Files), ImageError> {
    let mut tree = Tree::default();
    let mut layers = Vec::new();
    for (nth, (number, diff_id)) in (0..).zip(&image.diff_ids).enumerate() {
        let refused = |why: String| ImageError::Layer { nth: nth + 1, why };
        if let Some(known) = skipped.get(number) {
            for (at, (entry, _)) in (0..).zip(&known.entries) {
                tree.add(number, at, entry.clone()).map_err(refused)?;
            }
            layers.push(known.clone());
            continue;
        }
        let mut archive = Archive::new(open(staging, nth, true, stop)?);
        let mut entries = Vec::new();
        for at in 0.. {
            let Some(entry) = archive.next().map_err(|e| refused(e.to_string()))? else { break };
            tree.add(number, at, entry.clone()).map_err(refused)?;
            entries.push((entry, None));
        }
        let digest = archive.into_inner().finish().map_err(|e| refused(e.to_string()))?;
        if let Some(digest) = digest.filter(|digest| digest != diff_id) {
            return Err(refused(format!("unpacked it is {digest}, and the configuration says {diff_id}")));
        }
        let layer = staging.objects().get(nth).map(|layer| layer.etag.clone()).unwrap_or_default();
        layers.push(Known { layer, diff_id: *diff_id, entries });
    }
    let files = tree.files(&image.folder).map_err(ImageError::Folder)?;
    Ok((layers, files))
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
