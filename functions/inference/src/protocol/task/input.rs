//! What a body asks of a model.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use larder_contract::{Parameters, Task};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::ApiError;
use crate::models::Model;
use crate::request::body::json;
use crate::request::{stage, work_on};
use crate::routes::Served;
use crate::tasks::{Input, Text};

/// The most texts or pictures of one request.
pub(crate) const MOST_INPUTS: usize = 2048;

/// The most bytes that the links of one request bring: the pictures are in memory together.
const MOST_LINKED: usize = 64 << 20;

/// What is asked of a model.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) input: Input,
    pub(super) parameters: Parameters,
    /// Vectors are cut to this length.
    pub(super) dimensions: Option<usize>,
    /// Not the vectors are wanted, but how near the first is to the others.
    pub(super) similarity: bool,
}

/// The JSON body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskBody {
    /// What the model works on: texts for a text model, pictures for the others.
    inputs: Inputs,
    /// How it works.
    #[serde(default)]
    parameters: Option<Parameters>,
    /// Embeddings: vectors are brought to length 1. Clients send it here or in `parameters`.
    normalize: Option<bool>,
    /// Embeddings: which of the model's prompts is put before each text. Clients send it here or in `parameters`.
    prompt_name: Option<String>,
    /// Texts: a longer one is cut or refused. Clients send it here or in `parameters`.
    truncate: Option<bool>,
    /// Texts: which end is cut. Only the right one is.
    #[serde(rename = "truncation_direction")]
    _truncation_direction: Option<Direction>,
    /// Embeddings: vectors are cut to this length, then brought to length 1.
    dimensions: Option<usize>,
    /// The model's name, where the path does not say it.
    #[serde(rename = "model")]
    _model: Option<String>,
    /// Taken for the sake of clients that send it, and without effect.
    #[serde(rename = "options")]
    _options: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Which end of a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum Direction {
    #[serde(alias = "right")]
    Right,
}

/// One or many texts; a picture's bytes in base64, or a link to it, are texts too.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, {\"text\", \"text_pair\"}, a list of those, or {\"source_sentence\", \"sentences\"}"
)]
enum Inputs {
    // The first that fits is taken, and a list of two strings would fit a pair.
    Many(Vec<Item>),
    One(Item),
    Similar(Similar),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Item {
    Text(String),
    Pair(Pair),
}

/// A text, or two that are looked at together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Pair {
    text: String,
    text_pair: Option<String>,
}

/// A sentence, and others that are compared with it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Similar {
    source_sentence: String,
    sentences: Vec<String>,
}

/// Takes a request apart by its content type and the model's task.
pub(super) async fn asked(
    served: &Served,
    model: &Model,
    headers: &HeaderMap,
    bytes: Bytes,
) -> Result<Asked, ApiError> {
    let task = model.task();
    let pictures = match task {
        Task::Ocr | Task::ImageClassification => true,
        Task::TextClassification | Task::FeatureExtraction | Task::Tensor => false,
    };
    if bytes.is_empty() {
        let want = if pictures { "a picture, or JSON with \"inputs\"" } else { "JSON with \"inputs\"" };
        return Err(ApiError::bad_request(format!("the body is empty; send {want}")));
    }
    match Content::of(headers, &bytes)? {
        Content::Json => {}
        Content::Picture if pictures => {
            let input = Input::Pictures(vec![bytes]);
            return Ok(Asked {
                input,
                parameters: Parameters::default(),
                dimensions: None,
                similarity: false,
            });
        }
        Content::Picture => {
            let (name, task) = (model.name(), task.as_str());
            let message = format!("model {name:?} does {task}; send application/json with \"inputs\"");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    }
    let body: TaskBody = work_on(bytes.len(), "parsing", move || json(&bytes)).await?;
    let TaskBody { inputs, parameters, normalize, prompt_name, truncate, dimensions, .. } = body;
    let at_root = Parameters { normalize, prompt_name, truncate, ..Parameters::default() };
    let parameters = parameters.unwrap_or_default().or(&at_root);
    if dimensions.is_some() && task != Task::FeatureExtraction {
        let message = format!(
            "field \"dimensions\" is for feature-extraction; model {:?} does {}",
            model.name(),
            task.as_str()
        );
        return Err(ApiError::bad_request(message));
    }
    let (items, similarity) = match inputs {
        Inputs::One(item) => (vec![item], false),
        Inputs::Many(items) => (items, false),
        Inputs::Similar(Similar { source_sentence, sentences }) => {
            if task != Task::FeatureExtraction {
                return Err(ApiError::bad_request(
                    "field \"inputs.source_sentence\" is for models that do feature-extraction",
                ));
            }
            let items = [source_sentence].into_iter().chain(sentences).map(Item::Text);
            (items.collect(), true)
        }
    };
    few(items.len(), "inputs")?;
    let input = if pictures {
        Input::Pictures(pictures_of(served, items).await?)
    } else {
        let texts = items.into_iter().map(|item| match item {
            Item::Text(text) => Text { text, pair: None },
            Item::Pair(Pair { text, text_pair }) => Text { text, pair: text_pair },
        });
        Input::Texts(texts.collect())
    };
    Ok(Asked { input, parameters, dimensions, similarity })
}

/// Refuses no inputs, and too many.
pub(crate) fn few(count: usize, field: &str) -> Result<(), ApiError> {
    match count {
        0 => Err(ApiError::bad_request(format!("field {field:?} is empty; send one or more"))),
        1..=MOST_INPUTS => Ok(()),
        _ => {
            let message =
                format!("field {field:?} has {count} members, the most is {MOST_INPUTS}; send fewer at once");
            Err(ApiError::too_large(message))
        }
    }
}

/// The pictures that JSON names: their bytes in base64, or links to them.
async fn pictures_of(served: &Served, items: Vec<Item>) -> Result<Vec<Bytes>, ApiError> {
    let mut pictures = Vec::with_capacity(items.len());
    let mut linked = 0;
    for (at, item) in items.into_iter().enumerate() {
        let Item::Text(text) = item else {
            let message = format!(
                "field \"inputs\": member {at} is an object; send a picture as base64, or a link to it"
            );
            return Err(ApiError::bad_request(message));
        };
        if text.starts_with("http://") || text.starts_with("https://") {
            stage("fetching the link");
            let picture = served.links.fetch(&text).await.map_err(|e| e.into_api_error(&text))?;
            linked += picture.len();
            if linked > MOST_LINKED {
                let message = format!(
                    "field \"inputs\": the links up to member {at} bring {linked} bytes, the most is {MOST_LINKED}; send fewer at once"
                );
                return Err(ApiError::too_large(message));
            }
            pictures.push(picture);
        } else {
            let decoded = BASE64_STANDARD.decode(text.trim()).map_err(|e| {
                let message =
                    format!("field \"inputs\": member {at} is neither a link nor a picture in base64: {e}");
                ApiError::bad_request(message)
            })?;
            pictures.push(decoded.into());
        }
    }
    Ok(pictures)
}

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Json,
    Picture,
}

impl Content {
    /// By the header; where a client does not say, by the first byte, which no picture has in common with
    /// a JSON object.
    fn of(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, ApiError> {
        let Some(value) = headers.get(CONTENT_TYPE) else {
            let json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
            return Ok(if json { Self::Json } else { Self::Picture });
        };
        let said = value.to_str().unwrap_or("");
        let essence = said.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if essence == "application/json" {
            Ok(Self::Json)
        } else if essence.starts_with("image/") || essence == "application/octet-stream" {
            Ok(Self::Picture)
        } else {
            let message = format!(
                "content type {said:?} is not taken; send application/json, image/png, image/jpeg or application/octet-stream"
            );
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_in_every_shape_are_understood() {
        let check = |inputs: &str, expected: usize| {
            let body: TaskBody =
                json(format!(r#"{{"inputs": {inputs}, "options": {{}}}}"#).as_bytes()).unwrap();
            let found = match body.inputs {
                Inputs::One(_) => 1,
                Inputs::Many(items) => items.len(),
                Inputs::Similar(similar) => 1 + similar.sentences.len(),
            };
            assert_eq!(found, expected, "{inputs}");
        };
        check(r#""a""#, 1);
        check(r#"["a", "b"]"#, 2);
        check(r#"{"text": "a", "text_pair": "b"}"#, 1);
        check(r#"[{"text": "a"}, "b"]"#, 2);
        check(r#"{"source_sentence": "a", "sentences": ["b", "c"]}"#, 3);
    }

    #[test]
    fn refusals_name_the_field() {
        let check = |body: &str, parts: &[&str]| {
            let refusal = json::<TaskBody>(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            for part in parts {
                assert!(refusal.message.contains(part), "{body}: {refusal}");
            }
        };
        check("{}", &["inputs"]);
        check(r#"{"inputs": 3}"#, &["inputs", "a list of strings"]);
        check(r#"{"inputs": [3]}"#, &["inputs", "text_pair"]);
        check(r#"{"inputs": {"txt": "a"}}"#, &["inputs", "text_pair"]);
        check(r#"{"inputs": "a", "parameters": {"top_q": 1}}"#, &["parameters", "top_q"]);
        check(r#"{"inputs": "a", "parameters": {"top_k": "x"}}"#, &["parameters", "top_k"]);
        check(r#"{"inputs": "a", "truncation_direction": "left"}"#, &["truncation_direction", "left"]);
        check(r#"{"inputs": "a", "prompt": "query"}"#, &["prompt"]);
        check(r#"{"inputs": "a""#, &["JSON"]);
    }

    #[test]
    fn content_is_told_by_the_header_else_by_the_first_byte() {
        let check = |header: Option<&str>, bytes: &[u8], expected: Option<Content>| {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|h| (CONTENT_TYPE, h.parse().unwrap())));
            assert_eq!(Content::of(&headers, bytes).ok(), expected, "{header:?}");
        };
        check(Some("application/json; charset=utf-8"), b"x", Some(Content::Json));
        check(Some("Image/PNG"), b"{", Some(Content::Picture));
        check(Some("application/octet-stream"), b"{", Some(Content::Picture));
        check(Some("text/plain"), b"{", None);
        check(None, b" \n{\"inputs\"", Some(Content::Json));
        check(None, b"\x89PNG", Some(Content::Picture));
    }
}
