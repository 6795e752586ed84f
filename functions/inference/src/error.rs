//! What a client is told when something goes wrong: a status and `{"error": "…"}`.

use std::error::Error;
use std::fmt::Write as _;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::tasks::picture::PictureError;

/// An answer that is an error. Its text is meant for the client: what happened, to what, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The sentence.
    pub message: String,
}

impl ApiError {
    /// An error with a sentence of its own.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 500: our own failure. The reason goes to the log under an id; the client gets only the id.
    pub fn internal(operation: &str, model: &str, reason: &(dyn Error + 'static)) -> Self {
        let id = uuid::Uuid::new_v4();
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

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Body { error: &self.message })).into_response()
    }
}
