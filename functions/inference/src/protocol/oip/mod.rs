//! The Open Inference Protocol, version 2 (REST, JSON tensors; no binary extension).
//!
//! [`tensors`] turns JSON into tensors and back, `ocr` gives ocr models a tensor form; this file has the
//! messages and the handlers.

mod ocr;
pub mod tensors;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use larder_contract::{Parameters, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::models::Model;
use crate::routes::{MAX_BODY, Served, aside, body, json};
use crate::tasks::tensor::{NamedTensor, Port, Ports};
use crate::tasks::{Answer, Input, TensorInput};
use tensors::{AnswerTensor, JsonTensor, checked};

/// `GET /v2`
pub async fn server() -> Json<Value> {
    Json(serde_json::json!({
        "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"), "extensions": []
    }))
}

/// `GET /v2/health/live`
pub async fn live() -> Json<Value> {
    Json(serde_json::json!({"live": true}))
}

/// `GET /v2/health/ready`: always true, for nothing listens before the models are loaded.
pub async fn ready() -> Json<Value> {
    Json(serde_json::json!({"ready": true}))
}

/// A model in a path, with or without a version.
#[derive(Debug, Deserialize)]
pub struct ModelPath {
    model: String,
    version: Option<String>,
}

impl ModelPath {
    fn find<'a>(&self, served: &'a Served) -> Result<&'a Model, ApiError> {
        let model = served.models.model(&self.model)?;
        match &self.version {
            Some(asked) if *asked != model.version() => Err(ApiError::new(
                StatusCode::NOT_FOUND,
                format!("model {:?} has no version {asked:?}; it has {}", self.model, model.version()),
            )),
            _ => Ok(model),
        }
    }
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`: loads the model if nothing has yet.
///
/// # Errors
/// 404 for unknown models and versions, 500 when the model cannot be loaded.
pub async fn model_ready(
    State(served): State<Served>,
    Path(path): Path<ModelPath>,
) -> Result<Json<Value>, ApiError> {
    let model = path.find(&served)?;
    ports(model).await?;
    Ok(Json(serde_json::json!({"name": model.name(), "ready": true})))
}

/// What a model takes and gives.
#[derive(Debug, Serialize)]
pub struct Metadata {
    name: String,
    versions: [String; 1],
    platform: &'static str,
    inputs: Vec<PortMetadata>,
    outputs: Vec<PortMetadata>,
}

#[derive(Debug, Serialize)]
struct PortMetadata {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

impl From<Port> for PortMetadata {
    fn from(port: Port) -> Self {
        // The protocol has no word for the rest; such a port refuses every tensor.
        let datatype = port.datatype.map_or_else(|| "UNSUPPORTED".to_owned(), |d| d.to_string());
        Self { name: port.name, datatype, shape: port.shape }
    }
}

/// `GET /v2/models/{model}[/versions/{version}]`
///
/// # Errors
/// As [`model_ready`].
pub async fn metadata(
    State(served): State<Served>,
    Path(path): Path<ModelPath>,
) -> Result<Json<Metadata>, ApiError> {
    let model = path.find(&served)?;
    let Ports { inputs, outputs } = ports(model).await?;
    let platform = match model.task() {
        Task::Ocr => "larder_ocr",
        Task::TextClassification => "larder_text_classification",
        Task::ImageClassification => "larder_image_classification",
        Task::FeatureExtraction => "larder_feature_extraction",
        Task::Tensor => "onnxruntime_onnx",
    };
    let described = |ports: Vec<Port>| ports.into_iter().map(PortMetadata::from).collect();
    Ok(Json(Metadata {
        name: model.name().to_owned(),
        versions: [model.version()],
        platform,
        inputs: described(inputs),
        outputs: described(outputs),
    }))
}

/// What a model takes and gives, whatever its task; loads it if nothing has yet.
async fn ports(model: &Model) -> Result<Ports, ApiError> {
    let tensor = model.ports().await?.cloned();
    Ok(tensor.unwrap_or_else(|| Ports { inputs: ocr::inputs(), outputs: ocr::outputs() }))
}

#[derive(Debug, Deserialize)]
struct InferRequest {
    id: Option<String>,
    inputs: Vec<JsonTensor>,
    #[serde(default)]
    outputs: Vec<WantedOutput>,
    /// Parameters are the server's own by the protocol, and there are none here.
    #[serde(default, rename = "parameters")]
    _parameters: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct WantedOutput {
    name: String,
    #[serde(default, rename = "parameters")]
    _parameters: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct InferAnswer {
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<AnswerTensor>,
}

/// `POST /v2/models/{model}[/versions/{version}]/infer`
///
/// # Errors
/// 400 that names the tensor, with what it is and what it should be; 404; 413 when the answer would be
/// larger than a Lambda function may answer; 500 when the model fails.
pub async fn infer(
    State(served): State<Served>,
    Path(path): Path<ModelPath>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let model = path.find(&served)?;
    let bytes = body(bytes)?;
    let Ports { inputs, outputs } = ports(model).await?;
    let parse = move || {
        let request: InferRequest = json(&bytes)?;
        let wanted = wanted(&request.outputs, &outputs)?;
        Ok((request.id, checked(request.inputs, &inputs)?, wanted))
    };
    let (id, given, wanted) = aside("parsing", parse).await?;
    let tensors = run(model, given, wanted).await?;
    let answer = InferAnswer {
        model_name: model.name().to_owned(),
        model_version: model.version(),
        id,
        outputs: tensors.into_iter().map(AnswerTensor::from).collect(),
    };
    let write = move || {
        serde_json::to_vec(&answer).map_err(|e| ApiError::internal("answering", &answer.model_name, &e))
    };
    let text = aside("answering", write).await?;
    if text.len() > MAX_BODY {
        let message = format!(
            "the outputs take {} bytes as JSON, the most is {MAX_BODY}; ask for fewer \"outputs\" or send a smaller batch",
            text.len()
        );
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

async fn run(
    model: &Model,
    tensors: Vec<NamedTensor>,
    wanted: Vec<String>,
) -> Result<Vec<NamedTensor>, ApiError> {
    if model.task() == Task::Ocr {
        return ocr::run(model, tensors, &wanted).await;
    }
    match model.answer(Input::Tensors(TensorInput { tensors, wanted }), Parameters::default()).await? {
        Answer::Tensors(tensors) => Ok(tensors),
        Answer::Lines(_) | Answer::Labels(_) | Answer::Embeddings(_) => Ok(Vec::new()),
    }
}

/// The names of the outputs that are asked for, all of them when none is.
fn wanted(asked: &[WantedOutput], outputs: &[Port]) -> Result<Vec<String>, ApiError> {
    let names: Vec<&str> = outputs.iter().map(|p| p.name.as_str()).collect();
    if asked.is_empty() {
        return Ok(names.into_iter().map(str::to_owned).collect());
    }
    let mut wanted: Vec<String> = Vec::new();
    for output in asked {
        if !names.contains(&output.name.as_str()) {
            let message =
                format!("output {:?} is not the model's; it has: {}", output.name, names.join(", "));
            return Err(ApiError::bad_request(message));
        }
        if wanted.contains(&output.name) {
            return Err(ApiError::bad_request(format!("output {:?} is asked for twice", output.name)));
        }
        wanted.push(output.name.clone());
    }
    Ok(wanted)
}
