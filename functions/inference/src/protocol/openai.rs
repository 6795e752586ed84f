//! The part of `OpenAI`'s API that embedding clients use: `POST /v1/embeddings` and `GET /v1/models`.
//!
//! Errors are the object that its clients read, with the same sentence as elsewhere in `message`.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use larder_contract::{Parameters, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::embedding::shortened;
use super::task::few;
use crate::error::ApiError;
use crate::models::Model;
use crate::request::body::{body, json};
use crate::request::work_on;
use crate::routes::Served;
use crate::tasks::{Answer, Embedding, Input, Text};

/// `POST /v1/embeddings`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsBody {
    /// A feature-extraction model's name.
    model: String,
    /// One or many texts. Lists of tokens are not taken: tokens are the model's own.
    input: Texts,
    /// How a vector is written.
    #[serde(default)]
    encoding_format: Encoding,
    /// Vectors are cut to this length, then brought to length 1.
    dimensions: Option<usize>,
    /// Taken for the sake of clients that send it, and without effect.
    #[serde(rename = "user")]
    _user: Option<String>,
}

/// One or many texts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings; lists of tokens are not taken")]
pub enum Texts {
    /// One.
    One(String),
    /// Many.
    Many(Vec<String>),
}

/// How a vector is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// 32-bit floats in little-endian order, in base64.
    Base64,
}

/// The answer of `POST /v1/embeddings`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EmbeddingsAnswer {
    object: &'static str,
    data: Vec<EmbeddingObject>,
    model: String,
    usage: Usage,
}

#[derive(Debug, Serialize, JsonSchema)]
struct EmbeddingObject {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize, JsonSchema)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Handles `POST /v1/embeddings`.
///
/// # Errors
/// 400 that names the field, 404 for unknown models, and those of the model.
pub async fn embeddings(
    State(served): State<Served>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<EmbeddingsAnswer>, ApiError> {
    let bytes = body(bytes)?;
    let asked: EmbeddingsBody = work_on(bytes.len(), "parsing", move || json(&bytes)).await?;
    let model = served.models.model(&asked.model)?;
    if model.task() != Task::FeatureExtraction {
        let (name, task) = (model.name(), model.task().as_str());
        return Err(ApiError::bad_request(format!(
            "field \"model\": {name:?} does {task}, not feature-extraction"
        )));
    }
    let texts = match asked.input {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    few(texts.len(), "input")?;
    let texts = texts.into_iter().map(|text| Text { text, pair: None }).collect();
    let answer = model.answer(Input::Texts(texts), Parameters::default()).await?;
    let Answer::Embeddings(embeddings) = answer else {
        return Err(ApiError::bad_request(format!("model {:?} gives no embeddings", model.name())));
    };
    let name = model.name().to_owned();
    // About what a number takes as text.
    let bytes = embeddings.iter().map(|e| e.values.len() * 12).sum();
    let write = move || written(name, embeddings, asked.encoding_format, asked.dimensions).map(Json);
    work_on(bytes, "answering", write).await
}

fn written(
    model: String,
    embeddings: Vec<Embedding>,
    encoding: Encoding,
    dimensions: Option<usize>,
) -> Result<EmbeddingsAnswer, ApiError> {
    let tokens = embeddings.iter().map(|e| e.tokens).sum();
    let mut data = Vec::with_capacity(embeddings.len());
    for (index, embedding) in embeddings.into_iter().enumerate() {
        let embedding = shortened(embedding, dimensions)?;
        if embedding.values.len() != embedding.width {
            let message = format!(
                "model {model:?} gives a vector for each token, and this protocol has one for each text; have the \
                 operator set the parameter \"pooling\", or use /models/{model}"
            );
            return Err(ApiError::bad_request(message));
        }
        let vector = match encoding {
            Encoding::Float => Vector::Float(embedding.values),
            Encoding::Base64 => {
                let bytes: Vec<u8> = embedding.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                Vector::Base64(BASE64_STANDARD.encode(bytes))
            }
        };
        data.push(EmbeddingObject { object: "embedding", index, embedding: vector });
    }
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    Ok(EmbeddingsAnswer { object: "list", data, model, usage })
}

/// A model, as `OpenAI` describes one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelObject {
    id: String,
    object: &'static str,
    /// When it was made: not known, so 0.
    created: u64,
    owned_by: &'static str,
}

/// The answer of `GET /v1/models`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelList {
    object: &'static str,
    data: Vec<ModelObject>,
}

impl ModelObject {
    fn of(model: &Model) -> Self {
        Self { id: model.name().to_owned(), object: "model", created: 0, owned_by: "larder" }
    }
}

/// `GET /v1/models`
pub async fn models(State(served): State<Served>) -> Json<ModelList> {
    let data = served.models.models().map(|model| ModelObject::of(model)).collect();
    Json(ModelList { object: "list", data })
}

/// `GET /v1/models/{model}`
///
/// # Errors
/// 404 for unknown models.
pub async fn model(
    State(served): State<Served>,
    Path(name): Path<String>,
) -> Result<Json<ModelObject>, ApiError> {
    Ok(Json(ModelObject::of(served.models.model(&name)?)))
}

/// An error, as `OpenAI`'s clients read it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OpenAiErrorBody")]
pub struct ErrorBody {
    error: ErrorObject,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OpenAiError")]
struct ErrorObject {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

/// Writes the errors of these routes in their own shape.
pub fn in_shape(response: Response) -> Response {
    let Some(error) = response.extensions().get::<ApiError>().cloned() else { return response };
    let (kind, code) = match error.status {
        StatusCode::NOT_FOUND => ("invalid_request_error", Some("model_not_found")),
        status if status.is_client_error() => ("invalid_request_error", None),
        _ => ("server_error", None),
    };
    let body = ErrorBody { error: ErrorObject { message: error.message, kind, param: None, code } };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    (parts.status, parts.headers, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_written_in_both_ways() {
        let embedding = || Embedding { values: vec![1.0, -2.5], width: 2, tokens: 4 };
        let answer = |encoding| {
            let answer = written("m".to_owned(), vec![embedding(), embedding()], encoding, None).unwrap();
            serde_json::to_value(answer).unwrap()
        };
        let float = answer(Encoding::Float);
        assert_eq!(
            float["data"][1],
            serde_json::json!({"object": "embedding", "index": 1, "embedding": [1.0, -2.5]})
        );
        assert_eq!(float["usage"], serde_json::json!({"prompt_tokens": 8, "total_tokens": 8}));
        assert_eq!(answer(Encoding::Base64)["data"][0]["embedding"], "AACAPwAAIMA=");
        let each = Embedding { values: vec![0.0; 6], width: 2, tokens: 3 };
        let refusal = written("m".to_owned(), vec![each], Encoding::Float, None).unwrap_err();
        assert!(refusal.message.contains("pooling"), "{refusal}");
    }

    #[test]
    fn refusals_name_the_field() {
        let check = |body: &str, parts: &[&str]| {
            let refusal = json::<EmbeddingsBody>(body.as_bytes()).unwrap_err();
            for part in parts {
                assert!(refusal.message.contains(part), "{body}: {refusal}");
            }
        };
        check(r#"{"model": "m"}"#, &["input"]);
        check(r#"{"input": "a"}"#, &["model"]);
        check(r#"{"model": "m", "input": [1, 2]}"#, &["input", "tokens"]);
        check(r#"{"model": "m", "input": [[1, 2]]}"#, &["input", "tokens"]);
        check(r#"{"model": "m", "input": "a", "encoding_format": "int8"}"#, &["encoding_format", "int8"]);
        check(r#"{"model": "m", "input": "a", "dimensions": -1}"#, &["dimensions"]);
        check(r#"{"model": "m", "input": "a", "dimension": 1}"#, &["dimension"]);
    }
}
