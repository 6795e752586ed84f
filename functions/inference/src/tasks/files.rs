//! What a model's folder holds, read from the names of its files.

use std::path::{Path, PathBuf};

use larder_contract::Task;

/// The files of one model, by task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// Text in pictures.
    Ocr(OcrFiles),
    /// Any ONNX graph.
    Tensor {
        /// The graph.
        onnx: PathBuf,
    },
}

/// The files of an ocr model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcrFiles {
    /// The ONNX file with the word `det` in its path.
    pub detector: PathBuf,
    /// The ONNX file with the word `cls` in its path.
    pub orienter: Option<PathBuf>,
    /// The ONNX file with the word `rec` in its path.
    pub recogniser: PathBuf,
    /// A `.txt` file with one character a line, for recognition models without a list of their own.
    pub dictionary: Option<PathBuf>,
}

/// Why a folder is not a model.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder cannot be listed.
    #[error("the model's folder {} cannot be listed", folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The files do not make a model.
    #[error(
        "the folder {} is no {wanted}: it holds {}; an ocr model is one .onnx file with det in its name and one with rec, a tensor model is exactly one .onnx file",
        folder.display(),
        listed(names)
    )]
    Unrecognised {
        /// The folder.
        folder: PathBuf,
        /// What was asked for.
        wanted: &'static str,
        /// The files that are there.
        names: Vec<String>,
    },
}

impl ModelFiles {
    /// What it does.
    #[must_use]
    pub fn task(&self) -> Task {
        match self {
            Self::Ocr(_) => Task::Ocr,
            Self::Tensor { .. } => Task::Tensor,
        }
    }

    /// Looks through a model's folder, three levels deep. Without a `task`, detection and recognition
    /// files make an ocr model, else a single ONNX file a tensor model.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn find(folder: &Path, task: Option<Task>) -> Result<Self, FilesError> {
        let mut files = Vec::new();
        list(folder, 3, &mut files)
            .map_err(|source| FilesError::List { folder: folder.to_owned(), source })?;
        files.sort();
        let ocr = || OcrFiles::among(folder, &files).map(Self::Ocr);
        let tensor = || match &with_extension(&files, "onnx")[..] {
            [only] => Some(Self::Tensor { onnx: only.clone() }),
            _ => None,
        };
        let (found, wanted) = match task {
            Some(Task::Ocr) => (ocr(), "ocr model"),
            Some(Task::Tensor) => (tensor(), "tensor model"),
            Some(Task::TextClassification) => (None, "text-classification model"),
            Some(Task::ImageClassification) => (None, "image-classification model"),
            Some(Task::FeatureExtraction) => (None, "feature-extraction model"),
            None => (ocr().or_else(tensor), "model of a known task"),
        };
        found.ok_or_else(|| FilesError::Unrecognised {
            folder: folder.to_owned(),
            wanted,
            names: files.iter().map(|f| f.strip_prefix(folder).unwrap_or(f).display().to_string()).collect(),
        })
    }
}

impl OcrFiles {
    fn among(folder: &Path, files: &[PathBuf]) -> Option<Self> {
        let onnx = with_extension(files, "onnx");
        let named = |part: &str| -> Vec<PathBuf> {
            onnx.iter().filter(|f| words(folder, f).any(|w| w == part)).cloned().collect()
        };
        let one = |part: &str| <[PathBuf; 1]>::try_from(named(part)).ok().map(|[file]| file);
        Some(Self {
            detector: one("det")?,
            recogniser: one("rec")?,
            orienter: named("cls").into_iter().next(),
            dictionary: with_extension(files, "txt").into_iter().next(),
        })
    }
}

/// The words of a file's path in its folder, in lower case: `PP-OCRv6_det_small.onnx` and
/// `det/inference.onnx` have `det`, `detr.onnx` has not.
fn words(folder: &Path, file: &Path) -> impl Iterator<Item = String> {
    let path = file.strip_prefix(folder).unwrap_or(file).to_string_lossy().to_lowercase();
    path.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn with_extension(files: &[PathBuf], extension: &str) -> Vec<PathBuf> {
    let matches = |f: &&PathBuf| f.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    files.iter().filter(matches).cloned().collect()
}

fn list(folder: &Path, levels: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if levels > 1 {
                list(&path, levels - 1, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        0 => "no files".to_owned(),
        1..=SHOWN => names.join(", "),
        more => format!("{} and {} more files", names[..SHOWN].join(", "), more - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &[&str], task: Option<Task>) -> Result<ModelFiles, String> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let relative = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().to_owned();
        match ModelFiles::find(folder.path(), task) {
            Ok(ModelFiles::Tensor { onnx }) => Ok(ModelFiles::Tensor { onnx: relative(onnx) }),
            Ok(ModelFiles::Ocr(ocr)) => Ok(ModelFiles::Ocr(OcrFiles {
                detector: relative(ocr.detector),
                orienter: ocr.orienter.map(relative),
                recogniser: relative(ocr.recogniser),
                dictionary: ocr.dictionary.map(relative),
            })),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn tasks_are_read_from_names() {
        let v6 = ["PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"];
        let ocr = |cls: Option<&str>, txt: Option<&str>| {
            ModelFiles::Ocr(OcrFiles {
                detector: v6[0].into(),
                orienter: cls.map(Into::into),
                recogniser: v6[1].into(),
                dictionary: txt.map(Into::into),
            })
        };
        assert_eq!(find(&v6, None), Ok(ocr(None, None)));
        let all = [v6[0], v6[1], "ch_ppocr_mobile_v2.0_cls_infer.onnx", "keys.txt"];
        assert_eq!(find(&all, Some(Task::Ocr)), Ok(ocr(Some(all[2]), Some(all[3]))));
        let tensor = |onnx: &str| Ok(ModelFiles::Tensor { onnx: onnx.into() });
        assert_eq!(find(&["onnx/model.onnx", "config.json"], None), tensor("onnx/model.onnx"));
        assert_eq!(find(&["detr.onnx"], None), tensor("detr.onnx"));
        let Ok(ModelFiles::Ocr(apart)) = find(&["det/model.onnx", "rec/model.onnx"], None) else { panic!() };
        assert_eq!(apart.recogniser, Path::new("rec/model.onnx"));
        assert_eq!(find(&[v6[1]], Some(Task::Tensor)), tensor(v6[1]));
    }

    #[test]
    fn other_folders_are_refused_naming_their_files() {
        let check = |names: &[&str], task, parts: &[&str]| {
            let refusal = find(names, task).unwrap_err();
            for part in parts {
                assert!(refusal.contains(part), "{refusal}");
            }
        };
        check(&[], None, &["no model of a known task", "it holds no files"]);
        check(&["a.onnx", "b.onnx"], None, &["it holds a.onnx, b.onnx;"]);
        check(&["a_det.onnx", "b_det.onnx", "rec.onnx"], Some(Task::Ocr), &["no ocr model", "b_det.onnx"]);
        check(&["model.safetensors"], Some(Task::Tensor), &["no tensor model", "model.safetensors"]);
    }
}
