//! The tensor forms of the tasks that are not tensors by themselves.
//!
//! | task | takes | gives |
//! |---|---|---|
//! | ocr | `image` | `text`, `confidence`, `box`: a row for each line; `lines`: how many of them each picture has |
//! | image-classification | `image` | `label`, `score`: a row for each picture, the best label first |
//! | text-classification | `text`, `text_pair` if wanted | `label`, `score`: a row for each text |
//! | feature-extraction | `text` | `embedding`: a row for each text |
//!
//! Inputs are BYTES of any shape, one element for each text or picture. A picture is in base64 where its
//! tensor is JSON and itself where that is binary. A tensor that comes alone may have any name, as in
//! `KServe`'s Hugging Face server.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use larder_contract::Task;

use super::request::Given;
use crate::error::ApiError;
use crate::tasks::ocr::Line;
use crate::tasks::tensor::{Datatype, Elements, NamedTensor, Port, Ports};
use crate::tasks::{Answer, Embedding, Input, Label, Text};

const TEXT: &str = "text";
const PAIR: &str = "text_pair";
const IMAGE: &str = "image";
const CONFIDENCE: &str = "confidence";
const BOX: &str = "box";
const LINES: &str = "lines";
const LABEL: &str = "label";
const SCORE: &str = "score";
const EMBEDDING: &str = "embedding";

/// What models of a task take and give; `None` where the graph itself says it.
pub(super) fn ports(task: Task) -> Option<Ports> {
    let port = |name: &str, datatype, shape: &[i64]| Port {
        name: name.to_owned(),
        datatype: Some(datatype),
        shape: shape.to_vec(),
    };
    let labels = || vec![port(LABEL, Datatype::Bytes, &[-1, -1]), port(SCORE, Datatype::Fp32, &[-1, -1])];
    let (input, outputs) = match task {
        Task::Tensor => return None,
        Task::Ocr => {
            let outputs = vec![
                port(TEXT, Datatype::Bytes, &[-1]),
                port(CONFIDENCE, Datatype::Fp64, &[-1]),
                port(BOX, Datatype::Fp32, &[-1, 4, 2]),
                port(LINES, Datatype::Int64, &[-1]),
            ];
            (IMAGE, outputs)
        }
        Task::ImageClassification => (IMAGE, labels()),
        Task::TextClassification => (TEXT, labels()),
        Task::FeatureExtraction => (TEXT, vec![port(EMBEDDING, Datatype::Fp32, &[-1, -1])]),
    };
    Some(Ports { inputs: vec![port(input, Datatype::Bytes, &[-1])], outputs })
}

/// What a task is asked with these tensors.
///
/// # Errors
/// 400 that names the tensor and what is wrong with it.
pub(super) fn input(task: Task, given: &[Given<'_>]) -> Result<Input, ApiError> {
    let name = match task {
        Task::Ocr | Task::ImageClassification => IMAGE,
        Task::TextClassification | Task::FeatureExtraction | Task::Tensor => TEXT,
    };
    let first = match given {
        [only] => only,
        _ => named(given, name)?.ok_or_else(|| {
            ApiError::bad_request(format!("input {name:?} is missing; the model takes it as BYTES"))
        })?,
    };
    let second = if task == Task::TextClassification { named(given, PAIR)? } else { None };
    let second = second.filter(|second| !std::ptr::eq(*second, first));
    let used = 1 + usize::from(second.is_some());
    if given.len() > used {
        let names: Vec<&str> = given.iter().map(|tensor| tensor.name.as_str()).collect();
        return Err(ApiError::bad_request(format!(
            "the inputs are {}; the model takes {}",
            names.join(", "),
            if task == Task::TextClassification { "text, and text_pair if wanted" } else { name }
        )));
    }
    if name == IMAGE {
        return pictures(first).map(Input::Pictures);
    }
    let mut texts: Vec<Text> = strings(first)?.into_iter().map(|text| Text { text, pair: None }).collect();
    if let Some(second) = second {
        let pairs = strings(second)?;
        if pairs.len() != texts.len() {
            return Err(ApiError::bad_request(format!(
                "input {PAIR:?} has {} texts, but input {TEXT:?} has {}",
                pairs.len(),
                texts.len()
            )));
        }
        for (text, pair) in texts.iter_mut().zip(pairs) {
            text.pair = Some(pair);
        }
    }
    Ok(Input::Texts(texts))
}

fn named<'a, 'b>(given: &'a [Given<'b>], name: &str) -> Result<Option<&'a Given<'b>>, ApiError> {
    let mut found = given.iter().filter(|tensor| tensor.name == name);
    let first = found.next();
    if found.next().is_some() {
        return Err(ApiError::bad_request(format!("input {name:?} is there twice")));
    }
    Ok(first)
}

fn values(tensor: &Given<'_>) -> Result<Vec<Bytes>, ApiError> {
    let Given { name, datatype, .. } = tensor;
    let refused = |problem: &str| Err(ApiError::bad_request(format!("input {name:?}: {problem}")));
    if *datatype != Datatype::Bytes {
        return refused(&format!("datatype is {datatype}, the model takes BYTES"));
    }
    let Elements::Bytes(values) = tensor.elements()? else { return Ok(Vec::new()) };
    if values.is_empty() { refused("has no elements") } else { Ok(values) }
}

fn strings(tensor: &Given<'_>) -> Result<Vec<String>, ApiError> {
    let one = |(at, value): (usize, Bytes)| {
        String::from_utf8(value.into())
            .map_err(|_| ApiError::bad_request(format!("input {:?}: value {at} is not UTF-8", tensor.name)))
    };
    values(tensor)?.into_iter().enumerate().map(one).collect()
}

fn pictures(tensor: &Given<'_>) -> Result<Vec<Bytes>, ApiError> {
    let values = values(tensor)?;
    if tensor.is_binary() {
        return Ok(values);
    }
    let one = |(at, value): (usize, Bytes)| {
        BASE64_STANDARD.decode(value.trim_ascii()).map(Bytes::from).map_err(|error| {
            let problem = format!("value {at} is not base64, which pictures in JSON must be: {error}");
            ApiError::bad_request(format!("input {:?}: {problem}", tensor.name))
        })
    };
    values.into_iter().enumerate().map(one).collect()
}

/// An answer as tensors: those that are named by [`ports`].
///
/// # Errors
/// 400 for vectors of different sizes, which are no tensor.
pub(super) fn outputs(answer: Answer) -> Result<Vec<NamedTensor>, ApiError> {
    match answer {
        Answer::Lines(lines) => Ok(of_lines(&lines)),
        Answer::Labels(labels) => Ok(of_labels(labels)),
        Answer::Embeddings(embeddings) => Ok(vec![of_embeddings(embeddings)?]),
        Answer::Tensors(tensors) => Ok(tensors),
    }
}

fn tensor(name: &str, shape: &[usize], elements: Elements) -> NamedTensor {
    let shape = shape.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect();
    NamedTensor { name: name.to_owned(), shape, elements }
}

fn of_lines(pictures: &[Vec<Line>]) -> Vec<NamedTensor> {
    let lines = || pictures.iter().flatten();
    let count = lines().count();
    let texts = lines().map(|line| Bytes::copy_from_slice(line.text.as_bytes())).collect();
    let corners = lines().flat_map(|line| line.corners.into_iter().flatten()).collect();
    let counts = pictures.iter().map(|lines| i64::try_from(lines.len()).unwrap_or(i64::MAX)).collect();
    vec![
        tensor(TEXT, &[count], Elements::Bytes(texts)),
        tensor(CONFIDENCE, &[count], Elements::Fp64(lines().map(|line| line.confidence).collect())),
        tensor(BOX, &[count, 4, 2], Elements::Fp32(corners)),
        tensor(LINES, &[pictures.len()], Elements::Int64(counts)),
    ]
}

fn of_labels(rows: Vec<Vec<Label>>) -> Vec<NamedTensor> {
    // A model has the same labels for everything; a tensor could not have rows of different lengths.
    let width = rows.iter().map(Vec::len).min().unwrap_or(0);
    let shape = [rows.len(), width];
    let cells = rows.into_iter().flat_map(|row| row.into_iter().take(width));
    let (labels, scores) = cells.map(|cell| (Bytes::from(cell.label), cell.score)).unzip();
    vec![tensor(LABEL, &shape, Elements::Bytes(labels)), tensor(SCORE, &shape, Elements::Fp32(scores))]
}

fn of_embeddings(embeddings: Vec<Embedding>) -> Result<NamedTensor, ApiError> {
    let count = embeddings.len();
    let width = embeddings.first().map_or(0, |first| first.width);
    let length = embeddings.first().map_or(0, |first| first.values.len());
    if embeddings.iter().any(|one| one.width != width || one.values.len() != length) {
        let message = "the texts have different numbers of tokens, and without pooling each token has a \
             vector; send texts one by one, or the parameter \"pooling\"";
        return Err(ApiError::bad_request(message));
    }
    let rows = length.checked_div(width).unwrap_or(0);
    let shape = if rows == 1 { vec![count, width] } else { vec![count, rows, width] };
    let values = embeddings.into_iter().flat_map(|one| one.values).collect();
    Ok(tensor(EMBEDDING, &shape, Elements::Fp32(values)))
}
