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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::oip::request::parse;

    fn asked(task: Task, inputs: &str, after: &[u8]) -> Result<Input, String> {
        let text = format!(r#"{{"inputs": [{inputs}]}}"#);
        let body = Bytes::from([text.as_bytes(), after].concat());
        let request = parse(&body, Some(text.len())).map_err(|e| e.message)?;
        input(task, &request.inputs).map_err(|e| e.message)
    }

    fn bytes(name: &str, shape: &str, data: &str) -> String {
        format!(r#"{{"name": "{name}", "datatype": "BYTES", "shape": {shape}, "data": {data}}}"#)
    }

    #[test]
    fn texts_come_alone_or_in_pairs() {
        let texts = |texts: &[(&str, Option<&str>)]| {
            let one = |(text, pair): &(&str, Option<&str>)| Text {
                text: (*text).to_owned(),
                pair: pair.map(str::to_owned),
            };
            Ok(Input::Texts(texts.iter().map(one).collect()))
        };
        let two = bytes("text", "[2, 1]", r#"["a", "b"]"#);
        assert_eq!(asked(Task::FeatureExtraction, &two, &[]), texts(&[("a", None), ("b", None)]));
        let named = bytes("input-0", "[]", r#"["a"]"#);
        assert_eq!(asked(Task::TextClassification, &named, &[]), texts(&[("a", None)]));
        let pair = format!("{}, {two}", bytes("text_pair", "[2]", r#"["c", "d"]"#));
        let expected = texts(&[("a", Some("c")), ("b", Some("d"))]);
        assert_eq!(asked(Task::TextClassification, &pair, &[]), expected);
        let binary =
            r#"{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}"#;
        let after = [2, 0, 0, 0, 0xC3, 0xA9];
        assert_eq!(asked(Task::FeatureExtraction, binary, &after), texts(&[("é", None)]));
    }

    #[test]
    fn pictures_are_base64_in_json_and_themselves_in_binary() {
        let pictures = |bytes: &[&'static [u8]]| {
            Ok(Input::Pictures(bytes.iter().map(|b| Bytes::from_static(b)).collect()))
        };
        let json = bytes("image", "[2]", r#"["aGk=", " /w==\n"]"#);
        assert_eq!(asked(Task::Ocr, &json, &[]), pictures(&[b"hi", &[0xFF]]));
        let binary =
            r#"{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}"#;
        let after = [2, 0, 0, 0, 0xFF, 0xD8];
        assert_eq!(asked(Task::ImageClassification, binary, &after), pictures(&[&[0xFF, 0xD8]]));
    }

    #[test]
    fn refusals_name_the_tensor() {
        let check = |task, inputs: &str, parts: &[&str]| {
            let refusal = asked(task, inputs, &[]).unwrap_err();
            for part in parts {
                assert!(refusal.contains(part), "{refusal}");
            }
        };
        let text = bytes("text", "[1]", r#"["a"]"#);
        check(Task::Ocr, "", &["\"image\" is missing"]);
        check(Task::Ocr, &bytes("image", "[1]", r#"["%"]"#), &["\"image\"", "value 0", "base64"]);
        check(Task::Ocr, &bytes("image", "[0]", "[]"), &["\"image\"", "no elements"]);
        let number = r#"{"name": "text", "datatype": "INT8", "shape": [1], "data": [1]}"#;
        check(Task::FeatureExtraction, number, &["\"text\"", "INT8", "BYTES"]);
        check(Task::FeatureExtraction, &format!("{text}, {text}"), &["\"text\" is there twice"]);
        let pair = |data| format!("{text}, {}", bytes("text_pair", "[2]", data));
        check(Task::FeatureExtraction, &pair(r#"["b", "c"]"#), &["text, text_pair", "takes text"]);
        check(Task::TextClassification, &pair(r#"["b", "c"]"#), &["text_pair", "has 2", "has 1"]);
        check(Task::TextClassification, &format!("{text}, {}", bytes("z", "[1]", r#"["b"]"#)), &["text, z"]);
    }

    #[test]
    fn answers_have_the_ports_that_are_promised() {
        let label = |label: &str, score| Label { label: label.to_owned(), score };
        let line = |text: &str, confidence| Line {
            text: text.to_owned(),
            confidence,
            corners: [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
        };
        let embedding = |values: &[f32]| Embedding { values: values.to_vec(), width: 2, tokens: 3 };
        let rows = vec![vec![label("a", 0.75), label("b", 0.25)], vec![label("b", 0.5), label("a", 0.5)]];
        let lines = vec![vec![line("x", 0.5)], vec![], vec![line("y", 0.25), line("z", 1.0)]];
        let vectors = vec![embedding(&[1.0, 2.0]), embedding(&[3.0, 4.0])];
        let texts = |texts: &[&'static str]| {
            Elements::Bytes(texts.iter().map(|t| Bytes::from_static(t.as_bytes())).collect())
        };
        let check = |task, answer, expected: &[(&str, &[i64], Option<Elements>)]| {
            let tensors = outputs(answer).unwrap();
            let ports = ports(task).unwrap().outputs;
            assert_eq!((tensors.len(), ports.len()), (expected.len(), expected.len()));
            for ((tensor, port), (name, shape, elements)) in tensors.iter().zip(&ports).zip(expected) {
                assert_eq!((&tensor.name, tensor.shape.as_slice()), (&(*name).to_owned(), *shape));
                assert_eq!((&port.name, port.datatype), (&tensor.name, Some(tensor.elements.datatype())));
                assert_eq!(port.shape.len(), shape.len());
                assert!(elements.as_ref().is_none_or(|e| *e == tensor.elements), "{tensor:?}");
            }
        };
        let labels: [(&str, &[i64], _); 2] = [
            ("label", &[2, 2], Some(texts(&["a", "b", "b", "a"]))),
            ("score", &[2, 2], Some(Elements::Fp32(vec![0.75, 0.25, 0.5, 0.5]))),
        ];
        check(Task::TextClassification, Answer::Labels(rows.clone()), &labels);
        check(Task::ImageClassification, Answer::Labels(rows), &labels);
        let expected = Some(Elements::Fp32(vec![1.0, 2.0, 3.0, 4.0]));
        check(Task::FeatureExtraction, Answer::Embeddings(vectors), &[("embedding", &[2, 2], expected)]);
        check(
            Task::Ocr,
            Answer::Lines(lines),
            &[
                ("text", &[3], Some(texts(&["x", "y", "z"]))),
                ("confidence", &[3], Some(Elements::Fp64(vec![0.5, 0.25, 1.0]))),
                ("box", &[3, 4, 2], None),
                ("lines", &[3], Some(Elements::Int64(vec![1, 0, 2]))),
            ],
        );
        // A vector for each token: a tensor only where all texts have as many.
        let tokens = |counts: &[usize]| {
            let all = counts.iter().map(|count| embedding(&vec![0.5; 2 * count])).collect();
            outputs(Answer::Embeddings(all)).map(|mut t| t.remove(0).shape).map_err(|e| e.message)
        };
        assert_eq!(tokens(&[3, 3]), Ok(vec![2, 3, 2]));
        assert!(tokens(&[3, 4]).unwrap_err().contains("pooling"));
    }
}
