//! Which models there are: from a manifest, or from a folder of folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inside;
use larder_contract::{
    Digest, Manifest, ManifestModel, ObjectEntry, Parameters, RelativePath, layout, revision,
};

/// Why it cannot be told which models there are.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The manifest file cannot be read.
    #[error("the manifest {} cannot be read", path.display())]
    Read {
        /// The file, or the folder of models.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The manifest file is not a manifest.
    #[error("the manifest {} is not valid", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// The manifest is not the one that this function version pins.
    #[error("the manifest {} has the digest {have}, but {want} is asked for: copy it again", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What the file has.
        have: Digest,
        /// What was asked for.
        want: Digest,
    },
    /// A file of a local model has a name that no model on S3 can have.
    #[error("a file cannot be part of a model")]
    Path(#[from] larder_contract::revision::UnsafePath),
    /// There is nothing to serve.
    #[error("{} holds no models: it needs one folder for each", path.display())]
    Nothing {
        /// Where they were looked for.
        path: PathBuf,
    },
}

/// Which models there are and where, before any is loaded.
#[derive(Debug)]
pub struct Source {
    pub(super) manifest: Manifest,
    pub(super) digest: Digest,
    pub(super) folders: BTreeMap<String, PathBuf>,
    /// Under which prepared files are.
    pub(super) root: Option<PathBuf>,
}

impl Source {
    /// The models of a manifest file, under `root` as [`layout`] says.
    ///
    /// # Errors
    /// [`SourceError`] when the file is missing, not a manifest, or not the one with digest `want`.
    pub fn of_manifest(path: &Path, root: &Path, want: Option<Digest>) -> Result<Self, SourceError> {
        let bytes =
            std::fs::read(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
        let have = Digest::of(&bytes);
        if let Some(want) = want.filter(|want| *want != have) {
            return Err(SourceError::Digest { path: path.to_owned(), have, want });
        }
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|source| SourceError::Parse { path: path.to_owned(), source })?;
        let folders = manifest
            .models
            .iter()
            .map(|m| (m.name.clone(), layout::revision_dir(root, &m.revision)))
            .collect();
        Ok(Self { manifest, digest: have, folders, root: Some(root.to_owned()) })
    }

    /// The folders in `folder`, one model each, named after them. Their revisions are computed from the
    /// files' content, so they change whenever a file does.
    ///
    /// # Errors
    /// [`SourceError`] when the folder cannot be read or holds no folders.
    pub fn of_folder(folder: &Path) -> Result<Self, SourceError> {
        let read = |source| SourceError::Read { path: folder.to_owned(), source };
        let mut folders = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if let (true, Some(name)) = (path.is_dir(), path.file_name()) {
                folders.insert(name.to_string_lossy().into_owned(), path);
            }
        }
        if folders.is_empty() {
            return Err(SourceError::Nothing { path: folder.to_owned() });
        }
        let models = folders
            .iter()
            .map(|(name, path)| {
                let mut objects = Vec::new();
                let read = |source| SourceError::Read { path: path.clone(), source };
                let true_path = path.canonicalize().map_err(read)?;
                entries((path, &true_path), path, &mut objects)?;
                Ok(ManifestModel {
                    name: name.clone(),
                    task: None,
                    revision: revision::revision(&objects),
                    copy_of: None,
                    parameters: Parameters::default(),
                    preload: true,
                })
            })
            .collect::<Result<_, SourceError>>()?;
        let manifest = Manifest::new(models);
        let digest = manifest.digest();
        Ok(Self { manifest, digest, folders, root: None })
    }

    /// The same models, whose prepared files are under `root` as [`layout`] says.
    #[must_use]
    pub fn prepared_in(self, root: &Path) -> Self {
        Self { root: Some(root.to_owned()), ..self }
    }

    /// The digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Each model's name, revision and folder.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Digest, &Path)> {
        let folder = |m: &ManifestModel| self.folders[&m.name].as_path();
        self.manifest.models.iter().map(move |m| (m.name.as_str(), &m.revision, folder(m)))
    }

    /// The same models, each loaded by its first request.
    #[must_use]
    pub fn lazy(mut self) -> Self {
        self.manifest.models.iter_mut().for_each(|model| model.preload = false);
        self
    }
}

/// A folder's files as a listing, with the digest of the content for a validator.
/// Links that leave the model's folder are left out: loading refuses them.
fn entries(
    (base, true_base): (&Path, &Path),
    folder: &Path,
    objects: &mut Vec<ObjectEntry>,
) -> Result<(), SourceError> {
    let read = |source| SourceError::Read { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_symlink() && !inside::leads_to_a_file_in(true_base, &path) {
            continue;
        }
        if path.is_dir() {
            entries((base, true_base), &path, objects)?;
            continue;
        }
        let bytes = std::fs::read(&path).map_err(read)?;
        let relative = path.strip_prefix(base).unwrap_or(&path).to_string_lossy();
        objects.push(ObjectEntry {
            path: RelativePath::parse(&relative)?,
            size: bytes.len() as u64,
            etag: Digest::of(&bytes).hex(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_revision_follows_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("a");
        std::fs::create_dir_all(model.join("det")).unwrap();
        let with = |content: &str| {
            std::fs::write(model.join("det/model.onnx"), content).unwrap();
            Source::of_folder(folder.path()).unwrap()
        };
        let first = with("one");
        assert_eq!(first.folders["a"], model);
        assert_eq!(with("one").digest, first.digest);
        assert_ne!(with("two").manifest.models[0].revision, first.manifest.models[0].revision);
    }

    #[test]
    fn a_manifest_is_the_one_that_is_pinned_or_none() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m.json");
        let manifest = Manifest::default();
        std::fs::write(&path, manifest.canonical()).unwrap();
        let read = |want| Source::of_manifest(&path, root.path(), want);
        assert_eq!(read(None).unwrap().digest, manifest.digest());
        assert_eq!(read(Some(manifest.digest())).unwrap().manifest, manifest);
        assert!(matches!(read(Some(Digest::of(b"x"))), Err(SourceError::Digest { .. })));
        std::fs::write(&path, "[]").unwrap();
        assert!(matches!(read(None), Err(SourceError::Parse { .. })));
    }
}
