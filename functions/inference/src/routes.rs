//! The routes: each in a table with what it takes and gives, from which [`openapi`](crate::openapi) makes its
//! document.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;

use crate::error::ApiError;
use crate::link::LinkFetcher;
use crate::models::{self, Registry};
use crate::openapi::{Operation, document};
use crate::page;
use crate::protocol::{oip, openai, seed, task};
use crate::request::answered::answered;
pub(crate) use crate::request::aside;
pub use crate::request::body::MAX_BODY;
pub(crate) use crate::request::body::{body, json, query};
use crate::telemetry::Telemetry;

/// The most time for one request where nothing else is said.
pub const DEFAULT_TIME: Duration = Duration::from_mins(2);

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct Served {
    /// The models.
    pub models: Arc<Registry>,
    /// Fetches links.
    pub links: LinkFetcher,
    /// `AWS_LAMBDA_FUNCTION_VERSION`.
    pub version: Option<String>,
    /// The metrics.
    pub telemetry: Telemetry,
    /// Whether there is a page to try the models.
    pub page: bool,
    /// The most time for one request, its body included, where its sender has not set a bound.
    pub time: Duration,
}

impl Served {
    /// With nothing switched on, and the default time.
    #[must_use]
    pub fn new(models: Registry, links: LinkFetcher) -> Self {
        Self {
            models: Arc::new(models),
            links,
            version: None,
            telemetry: Telemetry::default(),
            page: false,
            time: DEFAULT_TIME,
        }
    }
}

/// Routes, and what each takes and gives.
struct Table {
    router: Router<Served>,
    operations: Vec<Operation>,
}

impl Table {
    fn new() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }

    /// A route, with its method as the operation says it.
    fn on<T: 'static>(mut self, operation: Operation, handler: impl Handler<T, Served>) -> Self {
        let method = if operation.method() == "get" { get(handler) } else { post(handler) };
        self.router = self.router.route(operation.path(), method);
        self.operations.push(operation);
        self
    }

    fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }
}

const HEALTHY: &str = r#"{"live": true}"#;
const READ: &str = r#"{"predicted_label": "Harbour Road", "lines": [{"text": "Harbour Road", "confidence": 0.98,
    "box": [[10, 10], [90, 10], [90, 30], [10, 30]]}], "model": "signs", "revision": "sha256:…"}"#;
const LABELLED: &str = r#"[[{"label": "POSITIVE", "score": 0.98}, {"label": "NEGATIVE", "score": 0.02}]]"#;
const EMBEDDED: &str = r#"{"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}],
    "model": "sentences", "usage": {"prompt_tokens": 4, "total_tokens": 4}}"#;
const OPENAI_MODEL: &str = r#"{"id": "sentences", "object": "model", "created": 0, "owned_by": "larder"}"#;
const METADATA: &str = r#"{"name": "net", "versions": ["97ff8a35544d"], "platform": "onnxruntime_onnx",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]}"#;
const TENSORS: &str = r#"{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}], "outputs": [{"name": "y"}]}"#;
const TENSORS_BACK: &str = r#"{"model_name": "net", "model_version": "97ff8a35544d",
    "outputs": [{"name": "y", "shape": [1, 1], "datatype": "FP32", "data": [0.5]}]}"#;

fn own() -> Table {
    let ocr = Operation::post("/ocr", "Reads the text in a picture")
        .query::<seed::OcrOptions>()
        .takes::<seed::OcrBody>(r#"{"language": "en,ch_sim", "link": "https://example.com/sign.png"}"#)
        .takes_a_picture()
        .gives::<seed::OcrAnswer>(READ);
    Table::new()
        .on(Operation::get("/healthz", "Whether the server is up").gives_bytes("text/plain"), async || "ok\n")
        .on(
            Operation::get("/metrics", "The metrics, in OpenMetrics text")
                .gives_bytes("application/openmetrics-text"),
            metrics,
        )
        .on(ocr, seed::ocr)
}

fn tasks() -> Table {
    let listed = r#"[{"name": "signs", "task": "ocr", "state": "ready", "revision": "sha256:…"}]"#;
    let run = |path| {
        Operation::post(path, "Does the model's task")
            .takes::<task::TaskBody>(r#"{"inputs": "A fine day.", "parameters": {"topK": 2}}"#)
            .takes::<oip::request::Body<'_>>(TENSORS)
            .takes_a_picture()
            .gives::<task::TaskAnswer>(LABELLED)
            .gives::<oip::answer::Body<'_>>(TENSORS_BACK)
    };
    Table::new()
        .on(Operation::get("/models", "The models").gives::<Vec<task::ListedModel>>(listed), task::list)
        .on(run("/models/{model}"), task::run)
        .on(run("/models/{model}/pipeline/{task}"), task::run)
}

fn openai() -> Table {
    let embeddings = Operation::post("/v1/embeddings", "Turns texts into vectors")
        .takes::<openai::EmbeddingsBody>(r#"{"model": "sentences", "input": ["a fine day", "it rains"]}"#)
        .gives::<openai::EmbeddingsAnswer>(EMBEDDED);
    let models = Operation::get("/v1/models", "The models")
        .gives::<openai::ModelList>(r#"{"object": "list", "data": []}"#);
    let model = Operation::get("/v1/models/{model}", "A model").gives::<openai::ModelObject>(OPENAI_MODEL);
    let mut table = Table::new()
        .on(embeddings.refuses::<openai::ErrorBody>(), openai::embeddings)
        .on(models.refuses::<openai::ErrorBody>(), openai::models)
        .on(model.refuses::<openai::ErrorBody>(), openai::model);
    table.router = table.router.layer(middleware::map_response(async |response| openai::in_shape(response)));
    table
}

fn oip() -> Table {
    let about = r#"{"name": "larder-inference", "version": "0.1.0", "extensions": ["binary_tensor_data"]}"#;
    let mut table = Table::new()
        .on(Operation::get("/v2", "The server").gives::<oip::About>(about), oip::server)
        .on(Operation::get("/v2/health/live", "Whether it is up").gives::<oip::Live>(HEALTHY), oip::live)
        .on(
            Operation::get("/v2/health/ready", "Whether all models that are to be preloaded are in memory")
                .gives::<oip::Ready>(r#"{"ready": true}"#),
            oip::ready,
        )
        .on(
            Operation::get("/v2/models", "The models' names").gives::<oip::Names>(r#"{"models": ["net"]}"#),
            oip::list,
        )
        .merge(repository());
    for base in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        let ready = Operation::get(&format!("{base}/ready"), "Whether a model can be used");
        let infer = Operation::post(&format!("{base}/infer"), "Tensors in, tensors out")
            .takes::<oip::request::Body<'_>>(TENSORS)
            .takes_bytes("application/octet-stream")
            .header(
                oip::answer::JSON_LENGTH,
                "Of binary data: how many bytes of the body are JSON; the tensors follow",
            )
            .gives::<oip::answer::Body<'_>>(TENSORS_BACK)
            .gives_bytes("application/octet-stream");
        table = table
            .on(
                Operation::get(base, "What a model takes and gives").gives::<oip::Metadata>(METADATA),
                oip::metadata,
            )
            .on(ready.gives::<oip::ModelReady>(r#"{"name": "net", "ready": true}"#), oip::model_ready)
            .on(infer, oip::infer);
    }
    table
}

fn repository() -> Table {
    let listed = r#"[{"name": "net", "version": "97ff8a35544d", "state": "READY", "reason": ""}]"#;
    let index = Operation::post("/v2/repository/index", "Where the models are")
        .may_take::<oip::repository::IndexRequest>(r#"{"ready": true}"#)
        .gives::<Vec<oip::repository::IndexEntry>>(listed);
    let load = Operation::post("/v2/repository/models/{model}/load", "Loads a model");
    let unload = Operation::post("/v2/repository/models/{model}/unload", "Unloads a model");
    Table::new()
        .on(index, oip::repository::index)
        .on(
            load.may_take::<oip::repository::LoadRequest>("{}")
                .gives::<oip::repository::Loaded>(r#"{"name": "net", "load": true}"#),
            oip::repository::load,
        )
        .on(
            unload
                .may_take::<oip::repository::LoadRequest>("{}")
                .gives::<oip::repository::Unloaded>(r#"{"name": "net", "unload": true}"#),
            oip::repository::unload,
        )
}

/// All routes.
pub fn router(served: Served) -> Router {
    let about = Operation::get("/openapi.json", "This document").gives::<Value>(r#"{"openapi": "3.1.1"}"#);
    let mut table = own().merge(tasks()).merge(openai()).merge(oip());
    table.operations.push(about);
    if served.page {
        let tried = Operation::get("/", "A page to try the models").gives_bytes("text/html");
        table = table.on(tried, page::page);
    }
    let operations: Arc<[Operation]> = table.operations.into();
    table
        .router
        .route("/openapi.json", get(async move || Json(document(&operations))))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(served.clone(), answered))
        .with_state(served)
}

/// `GET /metrics`
async fn metrics(State(served): State<Served>) -> Result<impl IntoResponse, ApiError> {
    let mut states = models::State::WORDS.map(|word| (word, 0));
    for model in served.models.models() {
        let word = model.state().word();
        states.iter_mut().filter(|(state, _)| *state == word).for_each(|(_, count)| *count += 1);
    }
    served.telemetry.states(&states);
    let text = served.telemetry.text().map_err(|e| ApiError::internal("metrics", "any", &e))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

async fn unknown(request: Request) -> ApiError {
    let message = format!("there is nothing at {}; /openapi.json tells what there is", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} is not taken at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
