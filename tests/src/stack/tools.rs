//! Where the programs are that `tests/tools/setup.sh` made.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::StackError;

/// The programs that the stack starts.
#[derive(Debug, Clone)]
pub struct Tools {
    /// A folder with `kube-apiserver`, `etcd` and `kubectl`.
    pub assets: PathBuf,
    /// The interpreter of the Python environment that has `MiniStack`, the reference OCR and boto3.
    pub python: PathBuf,
}

impl Tools {
    /// Looks at `LARDER_ASSETS` (or `KUBEBUILDER_ASSETS`) and `LARDER_PYTHON`, then at the settings that
    /// `setup.sh` left in the cache.
    ///
    /// # Errors
    /// [`StackError::Missing`] names what is not there. Nothing is ever skipped for it.
    pub fn find() -> Result<Self, StackError> {
        let assets = place(&["LARDER_ASSETS", "KUBEBUILDER_ASSETS"]);
        for program in ["kube-apiserver", "etcd", "kubectl"] {
            existing(&assets.join(program), program)?;
        }
        let python = place(&["LARDER_PYTHON"]);
        existing(&python, "the Python environment with MiniStack")?;
        existing(Path::new("/usr/bin/setpriv"), "setpriv (package util-linux)")?;
        Ok(Self { assets, python })
    }
}

/// A folder with `helm` and `glua`, which only tests of the chart need.
pub(crate) fn chart_tools() -> Result<PathBuf, StackError> {
    let folder = place(&["LARDER_HELM"]);
    for program in ["helm", "glua"] {
        existing(&folder.join(program), program)?;
    }
    Ok(folder)
}

/// What the first of these variables says that is set, else what `setup.sh` noted under the first name.
fn place(names: &[&str]) -> PathBuf {
    names
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .or_else(|| settings().remove(names[0]))
        .map(PathBuf::from)
        .unwrap_or_default()
}

fn existing(path: &Path, what: &str) -> Result<(), StackError> {
    if path.is_file() {
        Ok(())
    } else {
        Err(StackError::Missing(format!("{what} (looked at {})", path.display())))
    }
}

fn settings() -> HashMap<String, String> {
    let cache = std::env::var("XDG_CACHE_HOME").ok().filter(|value| !value.is_empty()).map_or_else(
        || PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    std::fs::read_to_string(cache.join("larder/env"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
