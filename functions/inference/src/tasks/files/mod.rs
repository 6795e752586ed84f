//! What a model's folder holds, read from the names of its files; [`export`] for those of Hugging Face,
//! whose `config.json` says more.

mod export;

use std::path::{Path, PathBuf};

use larder_contract::Task;

pub use export::ExportFiles;

use super::ocr::easy;

/// The files of one model, by task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// Text in pictures.
    Ocr(OcrFiles),
    /// Text in pictures, with EasyOCR's models.
    EasyOcr {
        /// What names them, `easyocr.json`.
        description: PathBuf,
    },
    /// Labels of texts.
    TextClassification(Box<ExportFiles>),
    /// Labels of pictures.
    ImageClassification(Box<ExportFiles>),
    /// Vectors of texts.
    FeatureExtraction(Box<ExportFiles>),
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
        "the folder {} is no {wanted}: it holds {}; an ocr model is one .onnx file with det in its name and one with rec, or what easyocr.json describes, any other model is exactly one .onnx file or has one called model.onnx",
        folder.display(),
        listed(names)
    )]
    Unrecognised {
        /// The folder.
        folder: PathBuf,
        /// What was asked for.
        wanted: String,
        /// The files that are there.
        names: Vec<String>,
    },
    /// A file that the task cannot do without is not there.
    #[error("the folder {} is no {task} model: it has no {file}; {remedy}, or give it the task tensor", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The task's name.
        task: &'static str,
        /// The file's name.
        file: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// It cannot be told what the model is for.
    #[error("{} cannot be read: {problem}; correct it, or say the model's task", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl ModelFiles {
    /// What it does.
    #[must_use]
    pub fn task(&self) -> Task {
        match self {
            Self::Ocr(_) | Self::EasyOcr { .. } => Task::Ocr,
            Self::TextClassification(_) => Task::TextClassification,
            Self::ImageClassification(_) => Task::ImageClassification,
            Self::FeatureExtraction(_) => Task::FeatureExtraction,
            Self::Tensor { .. } => Task::Tensor,
        }
    }

    /// Looks through a model's folder, three levels deep. Without a `task`, detection and recognition
    /// files make an ocr model, as does `easyocr.json`; a Hugging Face export says itself what it is for; what is left is a
    /// tensor model.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn find(folder: &Path, task: Option<Task>) -> Result<Self, FilesError> {
        let mut files = Vec::new();
        list(folder, 3, &mut files)
            .map_err(|source| FilesError::List { folder: folder.to_owned(), source })?;
        files.sort();
        let easy = || {
            let description = files.iter().find(|f| f.ends_with(easy::description::FILE_NAME))?;
            Some(Self::EasyOcr { description: description.clone() })
        };
        let ocr = || easy().or_else(|| OcrFiles::among(folder, &files).map(Self::Ocr));
        let export = || ExportFiles::among(folder, &files);
        let found = match (task, ocr()) {
            (Some(Task::Ocr), ocr) => ocr,
            (None, Some(ocr)) => Some(ocr),
            (Some(task), _) => export().map(|export| Self::of_export(export, task, folder)).transpose()?,
            (None, None) => {
                let told = |export: ExportFiles| {
                    let task = export.says()?.unwrap_or(Task::Tensor);
                    Self::of_export(export, task, folder)
                };
                export().map(told).transpose()?
            }
        };
        found.ok_or_else(|| FilesError::Unrecognised {
            folder: folder.to_owned(),
            wanted: task
                .map_or("model of a known task".to_owned(), |task| format!("{} model", task.as_str())),
            names: files.iter().map(|f| f.strip_prefix(folder).unwrap_or(f).display().to_string()).collect(),
        })
    }

    fn of_export(export: ExportFiles, task: Task, folder: &Path) -> Result<Self, FilesError> {
        let complete = |export: ExportFiles| export.complete_for(folder, task);
        Ok(match task {
            Task::TextClassification => Self::TextClassification(complete(export)?),
            Task::ImageClassification => Self::ImageClassification(complete(export)?),
            Task::FeatureExtraction => Self::FeatureExtraction(complete(export)?),
            Task::Ocr | Task::Tensor => Self::Tensor { onnx: export.onnx },
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

    /// A folder with these files; `name=content` gives one a content.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let (name, content) = file.split_once('=').unwrap_or((file, ""));
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    fn find(names: &[&str], task: Option<Task>) -> Result<ModelFiles, String> {
        let folder = folder(names);
        let relative = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().to_owned();
        match ModelFiles::find(folder.path(), task) {
            Ok(ModelFiles::Tensor { onnx }) => Ok(ModelFiles::Tensor { onnx: relative(onnx) }),
            Ok(ModelFiles::Ocr(ocr)) => Ok(ModelFiles::Ocr(OcrFiles {
                detector: relative(ocr.detector),
                orienter: ocr.orienter.map(relative),
                recogniser: relative(ocr.recogniser),
                dictionary: ocr.dictionary.map(relative),
            })),
            Ok(ModelFiles::EasyOcr { description }) => {
                Ok(ModelFiles::EasyOcr { description: relative(description) })
            }
            Ok(export) => panic!("{export:?}"),
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
        assert_eq!(find(&["onnx/model.onnx", "config.json={}"], None), tensor("onnx/model.onnx"));
        assert_eq!(find(&["detr.onnx"], None), tensor("detr.onnx"));
        let Ok(ModelFiles::Ocr(apart)) = find(&["det/model.onnx", "rec/model.onnx"], None) else { panic!() };
        assert_eq!(apart.recogniser, Path::new("rec/model.onnx"));
        assert_eq!(find(&[v6[1]], Some(Task::Tensor)), tensor(v6[1]));
        let easy = ModelFiles::EasyOcr { description: "easyocr.json".into() };
        let exported = ["craft_mlt_25k.onnx", "easyocr.json", "english_g2.onnx"];
        assert_eq!(find(&exported, None), Ok(easy.clone()));
        assert_eq!(find(&exported, Some(Task::Ocr)), Ok(easy));
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

    #[test]
    fn exports_say_what_they_are_for() {
        let check = |files: &[&str], task: Option<Task>, expected: Result<Task, &str>| {
            let folder = folder(files);
            let found = ModelFiles::find(folder.path(), task).map(|f| f.task()).map_err(|e| e.to_string());
            match expected {
                Ok(task) => assert_eq!(found, Ok(task), "{files:?}"),
                Err(part) => {
                    let refusal = found.unwrap_err();
                    assert!(refusal.contains(part), "{refusal}");
                }
            }
        };
        let texts = r#"config.json={"architectures": ["BertForSequenceClassification"]}"#;
        let pictures = r#"config.json={"architectures": ["ViTForImageClassification"]}"#;
        let base = r#"config.json={"architectures": ["BertModel"]}"#;
        let causal = r#"config.json={"architectures": ["GPT2LMHeadModel"]}"#;
        let (token, pre) = ("tokenizer.json", "preprocessor_config.json");
        check(&["model.onnx", texts, token], None, Ok(Task::TextClassification));
        check(&["onnx/model.onnx", texts, token], None, Ok(Task::TextClassification));
        check(&["model.onnx", pictures, pre], None, Ok(Task::ImageClassification));
        check(&["model.onnx", pre], None, Ok(Task::ImageClassification));
        check(&["model.onnx", base, token], None, Ok(Task::FeatureExtraction));
        check(&["model.onnx", texts, token, "1_Pooling/config.json"], None, Ok(Task::FeatureExtraction));
        check(&["model.onnx", texts, token], Some(Task::FeatureExtraction), Ok(Task::FeatureExtraction));
        check(&["model.onnx", base, token, pre], None, Ok(Task::Tensor));
        check(&["model.onnx", causal], None, Ok(Task::Tensor));
        check(&["model.onnx", texts, token], Some(Task::Tensor), Ok(Task::Tensor));
        check(&["model.onnx", texts], None, Err("has no tokenizer.json"));
        check(&["model.onnx", pictures], None, Err("has no preprocessor_config.json"));
        check(&["model.onnx", "config.json={"], None, Err("config.json cannot be read"));
        check(&["a.onnx", "b.onnx", texts, token], Some(Task::TextClassification), Err("a.onnx, b.onnx"));
    }

    #[test]
    fn of_several_graphs_the_one_called_model_is_taken() {
        let check = |files: &[&str], graph: &str| {
            let folder = folder(files);
            let Ok(ModelFiles::FeatureExtraction(export)) =
                ModelFiles::find(folder.path(), Some(Task::FeatureExtraction))
            else {
                panic!("{files:?}")
            };
            assert_eq!(export.onnx, folder.path().join(graph));
            assert_eq!(export.tokenizer, Some(folder.path().join("tokenizer.json")));
        };
        let token = "tokenizer.json";
        check(&[token, "onnx/model.onnx", "onnx/model_O4.onnx"], "onnx/model.onnx");
        check(&[token, "model.onnx", "onnx/model.onnx"], "model.onnx");
        check(&[token, "onnx/model.onnx", "onnx/model.onnx_data", "onnx/other.bin"], "onnx/model.onnx");
        check(&[token, "model_quantized.onnx", "model_quantized.onnx.data"], "model_quantized.onnx");
    }
}
