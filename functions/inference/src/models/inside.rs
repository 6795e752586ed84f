//! A model's files are its folder's: no link may lead out of it.
//!
//! Copies on the file system have no links at all; a folder that someone made by hand may. Weights that an
//! ONNX file names by a path are checked by ONNX Runtime itself, which takes none that leaves the file's folder.

use std::path::{Path, PathBuf};

/// Why a folder's files are not taken.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// A link leads out of the folder, or to a folder.
    #[error(
        "{} is a link that leads to {}; in a model's folder a link may only lead to a file of the same folder: put a copy in its place",
        link.display(),
        target.display()
    )]
    Link {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A folder, or a link in it, cannot be followed.
    #[error("{} cannot be looked at", path.display())]
    Look {
        /// The folder or link.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

/// Looks through a folder for links that leave it. The folder itself may be reached by one.
pub(super) fn check(folder: &Path) -> Result<(), OutsideError> {
    let look = |path: &Path| {
        let path = path.to_owned();
        move |source| OutsideError::Look { path, source }
    };
    let real = folder.canonicalize().map_err(look(folder))?;
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).map_err(look(&next))? {
            let entry = entry.map_err(look(&next))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(look(&path))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && !leads_to_a_file_in(&real, &path) {
                let target = std::fs::read_link(&path).unwrap_or_default();
                return Err(OutsideError::Link { link: path, target });
            }
        }
    }
    Ok(())
}

/// Whether a link leads to a file that is in `folder`, whose path has no links.
pub(super) fn leads_to_a_file_in(folder: &Path, link: &Path) -> bool {
    link.canonicalize().is_ok_and(|target| target.starts_with(folder) && target.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_in_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("model");
        std::fs::create_dir_all(folder.join("onnx")).unwrap();
        std::fs::write(folder.join("onnx/model.onnx"), "a").unwrap();
        std::fs::write(root.path().join("secret"), "b").unwrap();
        let link = folder.join("onnx/link");
        let with = |target: &Path| {
            let _ = std::fs::remove_file(&link);
            symlink(target, &link).unwrap();
            check(&folder)
        };
        assert!(with(Path::new("model.onnx")).is_ok());
        assert!(with(Path::new("../onnx/model.onnx")).is_ok());
        for outside in ["../../secret", "..", ".", "../..", "/etc/passwd", "nowhere", "link"] {
            let refusal = with(Path::new(outside)).unwrap_err().to_string();
            assert!(refusal.contains(outside) && refusal.contains("onnx/link"), "{refusal}");
        }
        std::fs::remove_file(&link).unwrap();
        symlink(&folder, root.path().join("by-link")).unwrap();
        assert!(check(&root.path().join("by-link")).is_ok());
        assert!(check(&root.path().join("none")).is_err());
    }
}
