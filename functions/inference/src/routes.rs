//! The routes, and what all of them share: limits, headers, errors in JSON.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::link::LinkFetcher;
use crate::models::Registry;
use crate::protocol::{oip, seed};

/// The most bytes of a request body, and of a tensor answer: what a Lambda function can take and give
/// (AWS Lambda quotas, "Invocation payload (request and response)", 6 MB).
pub const MAX_BODY: usize = 6 * 1024 * 1024;

/// Tells which manifest answered: the short form of its digest.
pub const HEADER_MANIFEST: HeaderName = HeaderName::from_static("x-larder-manifest");

/// Tells which published function version answered; not there outside Lambda.
pub const HEADER_VERSION: HeaderName = HeaderName::from_static("x-larder-version");

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct Served {
    /// The models.
    pub models: Arc<Registry>,
    /// Fetches links.
    pub links: LinkFetcher,
    /// `AWS_LAMBDA_FUNCTION_VERSION`.
    pub version: Option<String>,
}

/// All routes.
pub fn router(served: Served) -> Router {
    let model = "/v2/models/{model}";
    let version = "/v2/models/{model}/versions/{version}";
    let mut router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/ocr", post(seed::ocr))
        .route("/v2", get(oip::server))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready));
    for base in [model, version] {
        router = router
            .route(base, get(oip::metadata))
            .route(&format!("{base}/ready"), get(oip::model_ready))
            .route(&format!("{base}/infer"), post(oip::infer));
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(served.clone(), told_who_answers))
        .with_state(served)
}

async fn unknown(request: Request) -> ApiError {
    let message = format!(
        "there is nothing at {}; there are /ocr, /v2, /v2/models/{{model}}, /v2/models/{{model}}/infer and /healthz",
        request.uri().path()
    );
    ApiError::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} is not taken at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Adds the headers that let a client see which revision answered.
async fn told_who_answers(State(served): State<Served>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let manifest = served.models.manifest().short();
    let told = [(HEADER_MANIFEST, Some(manifest)), (HEADER_VERSION, served.version)];
    for (name, value) in told {
        if let Some(Ok(value)) = value.map(|v| HeaderValue::from_str(&v)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Does work that takes longer than a moment off the threads that serve connections.
pub(crate) async fn aside<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(ApiError::internal(operation, "any", &e)))
}

/// A body within its limit.
pub(crate) fn body(bytes: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is larger than {MAX_BODY} bytes; send a smaller one, or a link");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        }
        _ => ApiError::bad_request(format!("the body cannot be read: {rejection}")),
    })
}

/// A body as JSON; a refusal names the field.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    Json::from_bytes(bytes).map(|Json(value)| value).map_err(|e| ApiError::bad_request(e.body_text()))
}

/// A query; a refusal names the field.
pub(crate) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(value)| value).map_err(|e| ApiError::bad_request(e.body_text()))
}
