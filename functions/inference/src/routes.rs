//! The routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};

use crate::error::ApiError;
use crate::link::LinkFetcher;
use crate::models::Registry;
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
    /// Whether each request's metrics are written as a line for CloudWatch.
    pub emf: bool,
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
            emf: false,
            page: false,
            time: DEFAULT_TIME,
        }
    }
}

/// All routes.
pub fn router(served: Served) -> Router {
    let model = "/v2/models/{model}";
    let version = "/v2/models/{model}/versions/{version}";
    let mut router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .route("/ocr", post(seed::ocr))
        .route("/v2", get(oip::server))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
        .route("/v2/models", get(oip::list))
        .route("/v2/repository/index", post(oip::repository::index))
        .route("/v2/repository/models/{model}/load", post(oip::repository::load))
        .route("/v2/repository/models/{model}/unload", post(oip::repository::unload));
    if served.page {
        router = router.route("/", get(page::page));
    }
    for base in [model, version] {
        router = router
            .route(base, get(oip::metadata))
            .route(&format!("{base}/ready"), get(oip::model_ready))
            .route(&format!("{base}/infer"), post(oip::infer));
    }
    let openai = Router::new()
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{model}", get(openai::model))
        .layer(middleware::map_response(openai::in_shape));
    router
        .merge(openai)
        .route("/models", get(task::list))
        .route("/models/{model}", post(task::run))
        .route("/models/{model}/pipeline/{task}", post(task::run))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(served.clone(), answered))
        .with_state(served)
}

/// `GET /metrics`
async fn metrics(State(served): State<Served>) -> Result<impl IntoResponse, ApiError> {
    let text = served.telemetry.text().map_err(|e| ApiError::internal("metrics", "any", &e))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

async fn unknown(request: Request) -> ApiError {
    let message = format!(
        "there is nothing at {}; there are /ocr, /models/{{model}}, /v1/embeddings, /v2/models/{{model}}/infer and others",
        request.uri().path()
    );
    ApiError::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} is not taken at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
