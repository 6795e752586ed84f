//! What a client is told when something goes wrong: a status and `{"error": "…"}`.

use std::error::Error;
use std::fmt::Write as _;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::request;
use crate::tasks::picture::PictureError;

/// An answer that is an error. Its text is meant for the client: what happened, to what, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The sentence.
    pub message: String,
    /// When to try again, in seconds.
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// An error with a sentence of its own.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 413: the request, or the answer to it, is beyond a limit. The message names it, what there is, and the remedy.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// 503: not now, but in `seconds`, which `Retry-After` tells.
    pub fn busy(message: impl Into<String>, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// 503: a model is on its way into memory or out of it; soon it is not.
    pub fn soon(message: impl Into<String>) -> Self {
        const SOON: u32 = 2;
        Self::busy(message, SOON)
    }

    /// 500: our own failure. The reason goes to the log under the request's id; the client gets only the id.
    pub fn internal(operation: &str, model: &str, reason: &(dyn Error + 'static)) -> Self {
        let id = request::id();
        tracing::error!(%id, operation, model, reason = %chain(reason), "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{operation} failed for model {model:?}; the log has the reason under id {id}"),
        )
    }
}

impl From<PictureError> for ApiError {
    fn from(error: PictureError) -> Self {
        let status = match error {
            PictureError::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            PictureError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            PictureError::Empty | PictureError::Broken(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

/// An error with all its sources, outermost first.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let _ = write!(text, ": {source}");
        next = source.source();
    }
    text
}

/// The body of an error.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct Body<'a> {
    /// What happened, to what, and the remedy.
    error: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Body { error: &self.message })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        // For protocols that write it in a shape of their own, and for the log.
        response.extensions_mut().insert(self);
        response
    }
}
