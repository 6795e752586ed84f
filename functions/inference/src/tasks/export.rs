//! Reading the JSON files of a Hugging Face export.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use larder_contract::ScoreFunction;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest file that is read whole, in bytes. Tokenizers of many languages have 30 MB.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Why an export cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file has not the form that it should have.
    #[error("{} cannot be used: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl ExportError {
    pub(crate) fn content(path: &Path, problem: &dyn std::fmt::Display) -> Self {
        Self::Content { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// A file's bytes.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, ExportError> {
    let failed = |source| ExportError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(ExportError::content(path, &format!("it has {size} bytes, the most is {MAX_FILE}")));
    }
    std::fs::read(path).map_err(failed)
}

/// A JSON file; without a path, what a file that says nothing would give.
pub(crate) fn json<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, ExportError> {
    let Some(path) = path else { return Ok(T::default()) };
    serde_json::from_slice(&bytes(path)?).map_err(|e| ExportError::content(path, &e))
}

/// What is read of `config.json`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ModelConfig {
    pub(crate) model_type: Option<String>,
    pub(crate) id2label: Option<BTreeMap<usize, String>>,
    pub(crate) problem_type: Option<ProblemType>,
    pub(crate) function_to_apply: Option<ScoreFunction>,
    pub(crate) max_position_embeddings: Option<i64>,
    pub(crate) pad_token_id: Option<i64>,
}

/// What kind of answer a classifier was trained to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemType {
    Regression,
    #[serde(rename = "single_label_classification")]
    SingleLabel,
    #[serde(rename = "multi_label_classification")]
    MultiLabel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: &str, part: &str| {
            let path = folder.path().join("config.json");
            std::fs::write(&path, content).unwrap();
            let refusal = json::<ModelConfig>(Some(&path)).unwrap_err().to_string();
            assert!(refusal.contains("config.json cannot be used") && refusal.contains(part), "{refusal}");
        };
        check("{", "EOF");
        check(r#"{"problem_type": "guess"}"#, "guess");
        check(r#"{"id2label": {"one": "x"}}"#, "key to be a number");
        check(r#"{"id2label": 3}"#, "integer `3`");
        let missing = json::<ModelConfig>(Some(&folder.path().join("no.json"))).unwrap_err().to_string();
        assert!(missing.contains("no.json cannot be read"), "{missing}");
        let config: ModelConfig = json(None).unwrap();
        assert_eq!(config.problem_type, None);
    }
}
