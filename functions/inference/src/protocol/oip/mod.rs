//! The Open Inference Protocol, version 2 (REST), with Triton's extensions for binary data,
//! classification and the model repository.
//!
//! - This file: what the server and its models say of themselves. [`infer`]: a request from end to end.
//! - [`request`], [`answer`]: bodies; their tensors are in [`json`] or [`binary`] form. `parameters`: what
//!   tasks know of a request's. [`limits`]: the most of everything.
//! - [`repository`]: the models' states, loading and unloading.
//! - `forms`: the tensor forms of tasks that are not tensors. `classification`: the greatest of an output.
//!
//! Deliberately absent: shared memory, sequences and traces, which are Triton's alone, and gRPC, which a
//! function URL cannot take.

pub mod answer;
pub mod binary;
mod classification;
mod forms;
mod infer;
pub mod json;
pub mod limits;
mod parameters;
mod path;
pub mod repository;
pub mod request;

use axum::Json;
use axum::extract::State;
use larder_contract::Task;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;
use crate::models::{self, Model};
use crate::routes::Served;
use crate::tasks::tensor::{Port, Ports};
pub use infer::infer;
pub use path::ModelPath;

/// The protocol's extensions that are here, by Triton's names.
const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "classification", "model_repository", "parameters"];

/// What the server says of itself.
#[derive(Debug, Serialize, JsonSchema)]
pub struct About {
    name: &'static str,
    version: &'static str,
    extensions: &'static [&'static str],
}

/// `GET /v2`
pub async fn server() -> Json<About> {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    Json(About { name, version, extensions: &EXTENSIONS })
}

/// Whether the server is up.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Live {
    live: bool,
}

/// `GET /v2/health/live`
pub async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the server takes requests.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ready {
    ready: bool,
}

/// `GET /v2/health/ready`: whether every model that is to be preloaded is in memory, as Triton tells it with
/// `--strict-readiness`. Other models come with their first requests, and are not waited for.
///
/// # Errors
/// 503 that names the models.
pub async fn ready(State(served): State<Served>) -> Result<Json<Ready>, ApiError> {
    let missing = served.models.not_ready();
    if missing.is_empty() {
        return Ok(Json(Ready { ready: true }));
    }
    let message = format!(
        "these models are to be preloaded and are not in memory: {}; /v2/repository/index tells why",
        missing.join(", ")
    );
    Err(ApiError::soon(message))
}

/// The names of models.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Names {
    models: Vec<String>,
}

/// `GET /v2/models`: the names of all models, as `KServe` lists them.
pub async fn list(State(served): State<Served>) -> Json<Names> {
    Json(Names { models: served.models.models().map(|model| model.name().to_owned()).collect() })
}

/// Whether a model is in memory.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelReady {
    name: String,
    ready: bool,
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`: whether it is in memory. Asking does not load it.
///
/// # Errors
/// 404 for unknown models and versions, 503 when it is not in memory.
pub async fn model_ready(
    State(served): State<Served>,
    path: ModelPath,
) -> Result<Json<ModelReady>, ApiError> {
    let model = path.find(&served)?;
    let name = model.name();
    let problem = match model.state() {
        models::State::Ready => return Ok(Json(ModelReady { name: name.to_owned(), ready: true })),
        models::State::Loading => "is being loaded".to_owned(),
        models::State::Unloading => "is being unloaded".to_owned(),
        models::State::Unloaded => "is not loaded; its next request loads it".to_owned(),
        models::State::Failed(failure) => {
            format!("could not be loaded; the log has the reason under id {}", failure.id)
        }
    };
    Err(ApiError::soon(format!("model {name:?} {problem}")))
}

/// What a model takes and gives.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Metadata {
    name: String,
    versions: [String; 1],
    platform: &'static str,
    inputs: Vec<PortMetadata>,
    outputs: Vec<PortMetadata>,
}

#[derive(Debug, Serialize, JsonSchema)]
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
/// 404 for unknown models and versions; 500 or 503 when its graph is not known and it cannot be loaded.
pub async fn metadata(State(served): State<Served>, path: ModelPath) -> Result<Json<Metadata>, ApiError> {
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

/// What a model takes and gives, whatever its task. The ports of a graph are known once it is loaded.
async fn ports(model: &Model) -> Result<Ports, ApiError> {
    if let Some(ports) = forms::ports(model.task()) {
        return Ok(ports);
    }
    let ports = model.ports().await?.cloned();
    Ok(ports.unwrap_or_else(|| Ports { inputs: Vec::new(), outputs: Vec::new() }))
}
