//! What layers hold that were unpacked before, so that they need not be fetched again.
//!
//! ```text
//! {"layer":"layer:sha256:…","diffId":"sha256:…","entries":[[{"path":"models/a.onnx","kind":"file","size":3},"sha256:…"],…]}
//! {"end":"CRC64NVME …"}
//! ```
//!
//! A line for each layer of an image, beside the revision that came out of it. An entry's digest is there where its
//! bytes were written, and so lie in a revision: by it they are found again, in this revision or in any other, and
//! they are read again before they are relied on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use larder_contract::Digest;
use larder_sources::Image;
use serde::{Deserialize, Serialize};

use super::ImageError;
use super::tar::{Entry, Kind};
use super::tree::Place;
use crate::store::journal::Done;
use crate::store::{self, Staging, record};

/// The most entries that are noted for one image; those of base systems' layers are cheaper to fetch.
const MAX_ENTRIES: usize = 50_000;

/// How much of a note is read.
const MAX_BYTES: u64 = 64 << 20;

/// What a layer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Known {
    /// Its validator in a listing.
    pub(super) layer: String,
    /// What it hashes to unpacked.
    pub(super) diff_id: Digest,
    /// Its entries in their order, each with the digest of its bytes, where these lie in a revision.
    pub(super) entries: Vec<(Entry, Option<Digest>)>,
}

/// The text that keeps these. Left out are layers with what no model has, and all from the one on that makes it too
/// many entries.
pub(super) fn write(layers: &[Known]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut left = MAX_ENTRIES;
    let is_plain = |(entry, _): &(Entry, _)| !matches!(entry.kind, Kind::Other(_));
    for layer in layers.iter().filter(|layer| layer.entries.iter().all(is_plain)) {
        let Some(rest) = left.checked_sub(layer.entries.len()) else { break };
        left = rest;
        text.extend(record::line(layer));
    }
    record::sealed(text)
}

/// The layers of a text; none when it is not whole.
fn read(text: &[u8]) -> Vec<Known> {
    let Ok(lines) = record::unsealed(text) else { return Vec::new() };
    lines.map(serde_json::from_slice).collect::<Result<_, _>>().unwrap_or_default()
}

/// What is known of the layers with these validators, by them, from all revisions below `root`.
pub(super) fn find(root: &Path, wanted: &[&str]) -> HashMap<String, Known> {
    let mut found: HashMap<String, Known> = HashMap::new();
    for revision in store::named_by_digest(&root.join("revisions"), store::LAYERS) {
        let path = store::layers_path(root, &revision);
        let mut text = Vec::new();
        let is_read = File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
        if is_read.is_err() {
            continue;
        }
        for layer in read(&text).into_iter().filter(|layer| wanted.contains(&layer.layer.as_str())) {
            match found.get_mut(&layer.layer) {
                None => {
                    found.insert(layer.layer.clone(), layer);
                }
                Some(same) => same.learn(layer),
            }
        }
    }
    found
}

impl Known {
    /// Takes over what another image's note of the same layer says of bytes.
    fn learn(&mut self, other: Self) {
        for ((_, digest), (_, others)) in self.entries.iter_mut().zip(other.entries) {
            *digest = digest.or(others);
        }
    }
}

/// The layers that need not be fetched, by their places in the image, and what they hold.
#[derive(Debug, Default)]
pub(crate) struct Skipped(BTreeMap<u32, Known>);

impl Skipped {
    /// Those of which nothing was fetched, and which some image here held, too.
    ///
    /// # Errors
    /// When a task of ours died.
    pub(crate) async fn find(staging: &Arc<Staging>, image: &Image) -> Result<Self, ImageError> {
        let (staging, diff_ids) = (Arc::clone(staging), image.diff_ids.clone());
        let find = move || {
            let begun = staging.done(Done::files);
            let layers = || (0..).zip(staging.objects()).filter(|(number, _)| !begun.contains(number));
            let wanted: Vec<&str> = layers().map(|(_, layer)| layer.etag.as_str()).collect();
            let found = find(staging.root(), &wanted);
            let same = layers().zip(&diff_ids).filter_map(|((number, layer), diff_id)| {
                let known = found.get(&layer.etag).filter(|known| known.diff_id == *diff_id)?;
                Some((number, known.clone()))
            });
            Self(same.collect())
        };
        Ok(tokio::task::spawn_blocking(find).await?)
    }

    /// What one holds.
    pub(super) fn get(&self, layer: u32) -> Option<&Known> {
        self.0.get(&layer)
    }

    /// Those that are not among `missing`.
    pub(super) fn without(mut self, missing: &BTreeSet<u32>) -> Self {
        self.0.retain(|layer, _| !missing.contains(layer));
        self
    }

    /// Whether this layer is one.
    pub(crate) fn has(&self, layer: u32) -> bool {
        self.0.contains_key(&layer)
    }

    /// What a file of one hashes to, if that was noted.
    pub(super) fn digest(&self, place: Place) -> Option<Digest> {
        self.0.get(&place.layer)?.entries.get(place.entry as usize)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, entries: &[(&str, Kind, Option<&[u8]>)]) -> Known {
        let entry = |(path, kind, content): &(&str, Kind, Option<&[u8]>)| {
            let entry = Entry { path: (*path).to_owned(), kind: kind.clone(), size: 3 };
            (entry, content.map(Digest::of))
        };
        let (layer, diff_id) = (name.to_owned(), Digest::of(name.as_bytes()));
        Known { layer, diff_id, entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn reads_what_it_writes_and_nothing_that_is_not_whole() {
        let links =
            [("c", Kind::Hard("a".to_owned()), None), ("d", Kind::Symbolic("/a \"".to_owned()), None)];
        let files = [
            ("models/a", Kind::File, Some(&b"abc"[..])),
            ("b", Kind::File, None),
            ("m/", Kind::Folder, None),
        ];
        let layers = [known("one", &files), known("two", &links), known("none", &[])];
        let odd = known("odd", &[("dev/null", Kind::Other("a device"), None)]);
        let text = write(&[&layers[..1], &[odd], &layers[1..]].concat());
        assert_eq!(read(&text), layers);
        for at in 0..text.len() {
            let mut wrong = text.clone();
            wrong[at] ^= 1;
            assert_eq!((read(&wrong), read(&text[..at])), (Vec::new(), Vec::new()), "byte {at}");
        }
        let large = known("large", &vec![("a", Kind::File, None); MAX_ENTRIES]);
        assert_eq!(read(&write(&[layers[0].clone(), large, layers[1].clone()])), layers[..1]);
    }

    #[test]
    fn what_any_image_says_of_bytes_is_known() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("revisions")).unwrap();
        let of = |a, b| known("one", &[("a", Kind::File, a), ("b", Kind::File, b)]);
        let (a, b) = (Some(&b"abc"[..]), Some(&b"xyz"[..]));
        for (revision, layer) in [("1", of(a, None)), ("2", of(None, b)), ("3", known("two", &[]))] {
            let path = store::layers_path(root.path(), &Digest::of(revision.as_bytes()));
            std::fs::write(path, write(&[layer])).unwrap();
        }
        let found = find(root.path(), &["one", "three"]);
        assert_eq!(found, HashMap::from([("one".to_owned(), of(a, b))]));
    }
}
