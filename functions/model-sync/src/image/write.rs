//! The files of an image's folder, written out of its layers, or linked to where they lie already.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use larder_contract::{ObjectEntry, RelativePath};
use tokio_util::sync::CancellationToken;

use super::known::{Known, Skipped};
use super::layer::Layer;
use super::tar::{Archive, TarError};
use super::tree::Place;
use super::{ImageError, open};
use crate::checksum::{Algorithm, Hash};
use crate::expected::Expected;
use crate::share::{TRIED, hashed};
use crate::store::record::Recorded;
use crate::store::{self, Staging, StoreError};

/// What is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Files of the folder, each with where its bytes are.
pub(super) type Files = Vec<(RelativePath, Place)>;

/// The names of a file in the folder, by where its bytes are: the order in which they come.
type Names = BTreeMap<Place, Vec<RelativePath>>;

/// What was written, or linked.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// All files.
    pub(super) files: Vec<Recorded>,
    /// How many of them, and bytes, lay here already.
    pub(super) linked: (u64, u64),
    /// Layers that were skipped and have files that do not lie here; then nothing else is of use.
    pub(super) missing: BTreeSet<u32>,
}

impl Written {
    /// Adds a file, under all of its names.
    fn add(&mut self, file: &Recorded, paths: &[RelativePath]) {
        self.files.extend(paths.iter().map(|path| {
            let object = ObjectEntry { path: path.clone(), ..file.object.clone() };
            Recorded { object, ..file.clone() }
        }));
    }
}

/// Who writes them.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) staging: &'a Staging,
    pub(super) skipped: &'a Skipped,
    pub(super) stop: &'a CancellationToken,
}

impl Writer<'_> {
    /// Links the files of layers that were skipped, and writes all others. What these hash to is added to `layers`.
    pub(super) fn write(&self, layers: &mut [Known], files: Files) -> Result<Written, ImageError> {
        let (mut linked, mut read) = (Names::new(), Names::new());
        for (path, place) in files {
            let names = if self.skipped.has(place.layer) { &mut linked } else { &mut read };
            names.entry(place).or_default().push(path);
        }
        let mut written = self.link_all(&linked)?;
        if written.missing.is_empty() {
            self.write_all(layers, &read, &mut written)?;
            written.files.sort_by(|a, b| a.object.path.cmp(&b.object.path));
        }
        Ok(written)
    }

    fn link_all(&self, names: &Names) -> Result<Written, ImageError> {
        let here = self.here(names);
        let mut written = Written::default();
        for (place, paths) in names {
            let digest = self.skipped.digest(*place).map(|digest| digest.to_string());
            let others = digest.and_then(|digest| here.get(&digest)).map(Vec::as_slice).unwrap_or_default();
            match self.take(*place, &paths[0], others)? {
                None => drop(written.missing.insert(place.layer)),
                Some(file) => {
                    self.name(paths)?;
                    written.linked.0 += 1;
                    written.linked.1 += place.size;
                    written.add(&file, paths);
                }
            }
        }
        Ok(written)
    }

    /// The files of revisions that may have the bytes of these, by digest.
    fn here(&self, names: &Names) -> HashMap<String, Vec<(PathBuf, Recorded)>> {
        let digests = names.keys().filter_map(|place| self.skipped.digest(*place));
        let mut here: HashMap<_, _> = digests.map(|digest| (digest.to_string(), Vec::new())).collect();
        if !here.is_empty() {
            store::each_record(self.staging.root(), |folder, recorded| {
                if let Some(others) = here.get_mut(&recorded.object.etag) {
                    others.push((folder.join(recorded.object.path.as_str()), recorded.clone()));
                }
            });
        }
        here
    }

    /// Makes a file out of one of `others`, the first that is as it was recorded; none when none is of those that are
    /// tried. A file with several names is tried once.
    fn take(
        &self,
        place: Place,
        path: &RelativePath,
        others: &[(PathBuf, Recorded)],
    ) -> Result<Option<Recorded>, ImageError> {
        self.staging.make_unpacked_folder(path)?;
        let at = self.staging.unpacked_path(path);
        let mut tried = BTreeSet::new();
        for (other, recorded) in others.iter().filter(|(_, other)| other.object.size == place.size) {
            if tried.len() == TRIED {
                break;
            }
            if !fs::metadata(other).is_ok_and(|file| tried.insert((file.dev(), file.ino()))) {
                continue;
            }
            let is_same = link_or_copy(other, &at)
                .and_then(|()| hashed(&at, recorded, u64::MAX, self.stop))
                .map(|parts| parts.is_some());
            if matches!(is_same, Ok(true)) {
                return Ok(Some(recorded.clone()));
            }
            store::remove(&at)?;
            if self.stop.is_cancelled() {
                return Err(StoreError::at("read", other)(io::Error::other("stopped")).into());
            }
            tracing::warn!(path = %other.display(), ?is_same, "it is not as it was recorded, and not used again");
        }
        Ok(None)
    }

    fn write_all(
        &self,
        layers: &mut [Known],
        names: &Names,
        written: &mut Written,
    ) -> Result<(), ImageError> {
        let mut buffer = vec![0; WRITE_BYTES];
        let mut layer: Option<(u32, u32, Archive<Layer<'_>>)> = None;
        for (place, paths) in names {
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
            let file = self.write_one(archive, *place, &paths[0], &mut buffer)?;
            self.name(paths)?;
            let entry = layers.get_mut(nth).and_then(|layer| layer.entries.get_mut(place.entry as usize));
            if let Some((_, digest)) = entry {
                *digest = file.object.etag.parse().ok();
            }
            written.add(&file, paths);
        }
        Ok(())
    }

    fn write_one(
        &self,
        archive: &mut Archive<Layer<'_>>,
        place: Place,
        path: &RelativePath,
        buffer: &mut [u8],
    ) -> Result<Recorded, ImageError> {
        let file = self.staging.make_unpacked(path, place.size)?;
        let at = self.staging.unpacked_path(path);
        let mut hashes = [Hash::of_length(Algorithm::Crc64Nvme, place.size), Hash::new(Algorithm::Sha256)];
        let mut left = place.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let piece = &mut buffer[..most];
            archive
                .read_exact(piece)
                .map_err(|e| ImageError::Layer { nth: place.layer as usize + 1, why: e.to_string() })?;
            (&file).write_all(piece).map_err(StoreError::at("write", &at))?;
            for hash in &mut hashes {
                hash.update(piece);
            }
            left -= most as u64;
        }
        let [crc, sha256] = hashes.map(Hash::finish);
        let etag = format!("sha256:{}", hex::encode(&sha256.value));
        let object = ObjectEntry { path: path.clone(), size: place.size, etag };
        Ok(Recorded { object, crc, source: Some(Expected::Whole(sha256)) })
    }

    /// Gives the file that is there by its first name all of its names.
    fn name(&self, paths: &[RelativePath]) -> Result<(), ImageError> {
        let Some((first, others)) = paths.split_first() else { return Ok(()) };
        let at = self.staging.unpacked_path(first);
        for other in others {
            self.staging.make_unpacked_folder(other)?;
            let to = self.staging.unpacked_path(other);
            link_or_copy(&at, &to).map_err(StoreError::at("make", &to))?;
        }
        Ok(())
    }
}

/// Gives a file another name, or makes a copy of it: EFS allows under 180 names for a file.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}
