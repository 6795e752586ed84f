//! A Hugging Face export: which of a folder's files it is made of, and what it is for.

use std::path::{Path, PathBuf};

use larder_contract::Task;
use serde::Deserialize;

use super::FilesError;

/// The files of a Hugging Face export. They lie in the model's folder, or beside its graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFiles {
    /// The graph: the only ONNX file, or the one called `model.onnx`.
    pub onnx: PathBuf,
    /// `config.json`: labels, kind of problem, sizes.
    pub config: Option<PathBuf>,
    /// `tokenizer.json`.
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`: the longest text, sides of padding and truncation.
    pub tokenizer_config: Option<PathBuf>,
    /// `preprocessor_config.json`: how a picture becomes numbers.
    pub preprocessor: Option<PathBuf>,
    /// `modules.json`: the steps of a sentence-transformers model.
    pub modules: Option<PathBuf>,
    /// `config.json` of the pooling step.
    pub pooling: Option<PathBuf>,
    /// `config_sentence_transformers.json`: what is put before texts.
    pub prompts: Option<PathBuf>,
    /// `sentence_bert_config.json`: the longest text that the model was trained for.
    pub sentence_config: Option<PathBuf>,
}

impl ExportFiles {
    /// The files among `files`, which are all of `folder`'s; `None` without a graph.
    pub(super) fn among(folder: &Path, files: &[PathBuf]) -> Option<Self> {
        let onnx = graph(folder, files)?;
        let beside = onnx.parent().unwrap_or(folder).to_owned();
        let named = |name: &str| {
            [folder, &beside].into_iter().map(|place| place.join(name)).find(|path| files.contains(path))
        };
        Some(Self {
            config: named("config.json"),
            tokenizer: named("tokenizer.json"),
            tokenizer_config: named("tokenizer_config.json"),
            preprocessor: named("preprocessor_config.json"),
            modules: named("modules.json"),
            pooling: named("1_Pooling/config.json"),
            prompts: named("config_sentence_transformers.json"),
            sentence_config: named("sentence_bert_config.json"),
            onnx,
        })
    }

    /// What the files say that they are for; `None` when they say nothing that is a task here.
    pub(super) fn says(&self) -> Result<Option<Task>, FilesError> {
        if self.modules.is_some() || self.pooling.is_some() || self.sentence_config.is_some() {
            return Ok(Some(Task::FeatureExtraction));
        }
        let Some(config) = &self.config else {
            let only_pictures = self.preprocessor.is_some() && self.tokenizer.is_none();
            return Ok(only_pictures.then_some(Task::ImageClassification));
        };
        let broken = |problem: String| FilesError::Config { path: config.clone(), problem };
        let bytes = std::fs::read(config).map_err(|e| broken(e.to_string()))?;
        let Architectures { architectures } =
            serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        let mut names = architectures.iter().flatten();
        Ok(names.find_map(|name| {
            if name.contains("ForSequenceClassification") {
                Some(Task::TextClassification)
            } else if name.contains("ForImageClassification") {
                Some(Task::ImageClassification)
            } else if name.ends_with("Model") && self.tokenizer.is_some() && self.preprocessor.is_none() {
                Some(Task::FeatureExtraction)
            } else {
                None
            }
        }))
    }

    /// Refuses an export that lacks what `task` cannot do without.
    pub(super) fn complete_for(self, folder: &Path, task: Task) -> Result<Box<Self>, FilesError> {
        let (there, file, remedy) = match task {
            Task::TextClassification | Task::FeatureExtraction => (
                self.tokenizer.is_some(),
                "tokenizer.json",
                "save the model's fast tokenizer beside it (transformers' AutoTokenizer writes that file)",
            ),
            Task::ImageClassification => (
                self.preprocessor.is_some(),
                "preprocessor_config.json",
                "save the model's image processor beside it, or write that file: docs/models.md says how",
            ),
            Task::Ocr | Task::Tensor => (true, "", ""),
        };
        if there {
            return Ok(Box::new(self));
        }
        Err(FilesError::Missing { folder: folder.to_owned(), task: task.as_str(), file, remedy })
    }
}

#[derive(Deserialize)]
struct Architectures {
    architectures: Option<Vec<String>>,
}

/// The graph: the only ONNX file, else `model.onnx` in the folder or in its `onnx/`.
pub(super) fn graph(folder: &Path, files: &[PathBuf]) -> Option<PathBuf> {
    let all = super::with_extension(files, "onnx");
    if let [only] = &all[..] {
        return Some(only.clone());
    }
    ["model.onnx", "onnx/model.onnx"].iter().map(|name| folder.join(name)).find(|path| all.contains(path))
}
