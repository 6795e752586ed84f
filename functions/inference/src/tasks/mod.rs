//! What models do: one module for each task, [`files`] to tell which one a folder is for, and here the
//! words that every protocol asks in and every task answers in.

mod export;
pub mod files;
pub mod image;
mod labels;
pub mod ocr;
mod outputs;
pub mod picture;
pub mod tensor;
pub mod text;

use bytes::Bytes;
use larder_contract::{Parameters, Task};
use schemars::JsonSchema;
use serde::Serialize;

use crate::onnx::{Engine, OnnxError};
pub use export::ExportError;
use files::ModelFiles;
use image::ImageClassifier;
use ocr::easy::EasyModel;
use ocr::{Line, OcrError, OcrModel};
use picture::Picture;
use tensor::{NamedTensor, Ports, TensorModel};
use text::{Embedder, TextClassifier};

/// What a client asks a model, whatever the protocol. One answer is given for each text or picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// For text-classification and feature-extraction.
    Texts(Vec<Text>),
    /// For ocr and image-classification: PNG or JPEG bytes.
    Pictures(Vec<Bytes>),
    /// For tensor models.
    Tensors(TensorInput),
}

/// A text, or two that are looked at together (a premise and a hypothesis, a question and a passage).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
}

/// Tensors, checked against the model's ports, and the names of the outputs that are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInput {
    /// The inputs.
    pub tensors: Vec<NamedTensor>,
    /// The outputs' names, in the order of the answer.
    pub wanted: Vec<String>,
}

/// What a model answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Of ocr: for each picture its lines, in reading order.
    Lines(Vec<Vec<Line>>),
    /// Of a classifier: for each text or picture its labels, the best first.
    Labels(Vec<Vec<Label>>),
    /// Of feature-extraction: for each text its vector.
    Embeddings(Vec<Embedding>),
    /// Of a tensor model: the wanted outputs, in that order.
    Tensors(Vec<NamedTensor>),
}

impl Answer {
    /// Adds what the same model has answered to more of the same request.
    pub(crate) fn append(&mut self, more: Self) {
        match (self, more) {
            (Self::Lines(all), Self::Lines(more)) => all.extend(more),
            (Self::Labels(all), Self::Labels(more)) => all.extend(more),
            (Self::Embeddings(all), Self::Embeddings(more)) => all.extend(more),
            (Self::Tensors(all), Self::Tensors(more)) => all.extend(more),
            (Self::Lines(_) | Self::Labels(_) | Self::Embeddings(_) | Self::Tensors(_), _) => {}
        }
    }
}

/// A label, and how well it fits.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Label {
    /// Its name in the model's `id2label`.
    pub label: String,
    /// Its score: 0 to 1 unless the model's outputs are taken as they are.
    pub score: f32,
}

/// A text's vector, or one for each of its tokens when there is no pooling.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// One row of `width` values, or one for each token, row after row.
    pub values: Vec<f32>,
    /// Dimensions of a vector.
    pub width: usize,
    /// Tokens of the text, special ones included.
    pub tokens: usize,
}

/// Why a model does not answer.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The client asks for what cannot be done. The message names the field, its value and the remedy.
    #[error("{0}")]
    Refused(String),
    /// What the client sends, or the answer to it, is beyond a limit. The message names it, what there is, and the
    /// remedy.
    #[error("{0}")]
    TooLarge(String),
    /// An ocr model cannot be loaded, or failed.
    #[error(transparent)]
    Ocr(#[from] OcrError),
    /// A file of a Hugging Face export cannot be used.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// ONNX Runtime failed.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}

/// What a model works on: an [`Input`] whose pictures are decoded.
#[derive(Debug)]
pub(crate) enum Work {
    Texts(Vec<Text>),
    Pictures(Vec<Picture>),
    Tensors(TensorInput),
}

impl Work {
    /// What it holds, for people.
    fn kind(&self) -> &'static str {
        match self {
            Self::Texts(_) => "texts",
            Self::Pictures(_) => "pictures",
            Self::Tensors(_) => "tensors",
        }
    }
}

/// A model's sessions, and what else it needs to do its task.
#[derive(Debug)]
pub enum Loaded {
    /// Text in pictures.
    Ocr(Box<OcrModel>),
    /// Labels of texts.
    TextClassification(Box<TextClassifier>),
    /// Labels of pictures.
    ImageClassification(Box<ImageClassifier>),
    /// Vectors of texts.
    FeatureExtraction(Box<Embedder>),
    /// Any ONNX graph.
    Tensor(TensorModel),
}

impl Loaded {
    /// Opens a model.
    ///
    /// # Errors
    /// [`TaskError`] when a file cannot be used.
    pub fn open(engine: &Engine, files: &ModelFiles) -> Result<Self, TaskError> {
        Ok(match files {
            ModelFiles::Ocr(files) => Self::Ocr(Box::new(OcrModel::open(engine, files)?)),
            ModelFiles::EasyOcr { description } => {
                Self::Ocr(Box::new(OcrModel::Easy(EasyModel::open(engine, description)?)))
            }
            ModelFiles::TextClassification(files) => {
                Self::TextClassification(Box::new(TextClassifier::open(engine, files)?))
            }
            ModelFiles::ImageClassification(files) => {
                Self::ImageClassification(Box::new(ImageClassifier::open(engine, files)?))
            }
            ModelFiles::FeatureExtraction(files) => {
                Self::FeatureExtraction(Box::new(Embedder::open(engine, files)?))
            }
            ModelFiles::Tensor { onnx } => Self::Tensor(TensorModel::new(engine.open(onnx)?)),
        })
    }

    /// What it does.
    #[must_use]
    pub fn task(&self) -> Task {
        match self {
            Self::Ocr(_) => Task::Ocr,
            Self::TextClassification(_) => Task::TextClassification,
            Self::ImageClassification(_) => Task::ImageClassification,
            Self::FeatureExtraction(_) => Task::FeatureExtraction,
            Self::Tensor(_) => Task::Tensor,
        }
    }

    /// What it takes and gives as a graph, if clients talk to the graph itself.
    #[must_use]
    pub fn ports(&self) -> Option<Ports> {
        match self {
            Self::Ocr(_)
            | Self::TextClassification(_)
            | Self::ImageClassification(_)
            | Self::FeatureExtraction(_) => None,
            Self::Tensor(tensor) => Some(Ports { inputs: tensor.inputs(), outputs: tensor.outputs() }),
        }
    }

    /// Does its task. `parameters` are the request's, then the endpoint's; what they leave open is the
    /// model's own.
    pub(crate) fn answer(&mut self, work: Work, parameters: &Parameters) -> Result<Answer, TaskError> {
        match (self, work) {
            (Self::Ocr(ocr), Work::Pictures(pictures)) => {
                let lines = pictures.iter().map(|picture| ocr.answer(picture, parameters));
                lines.collect::<Result<_, _>>().map(Answer::Lines)
            }
            (Self::TextClassification(model), Work::Texts(texts)) => {
                model.answer(&texts, parameters).map(Answer::Labels)
            }
            (Self::ImageClassification(model), Work::Pictures(pictures)) => {
                model.answer(&pictures, parameters).map(Answer::Labels)
            }
            (Self::FeatureExtraction(model), Work::Texts(texts)) => {
                model.answer(&texts, parameters).map(Answer::Embeddings)
            }
            (Self::Tensor(tensor), Work::Tensors(TensorInput { tensors, wanted })) => {
                Ok(Answer::Tensors(tensor.run(tensors, &wanted)?))
            }
            (
                loaded @ (Self::Ocr(_)
                | Self::TextClassification(_)
                | Self::ImageClassification(_)
                | Self::FeatureExtraction(_)
                | Self::Tensor(_)),
                work,
            ) => Err(TaskError::Refused(format!(
                "{} were sent to a model whose task is {}",
                work.kind(),
                loaded.task().as_str()
            ))),
        }
    }
}
