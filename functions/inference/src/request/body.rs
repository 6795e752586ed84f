//! Reading what a request says, within its limits. A refusal names the field.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::stage;
use crate::error::ApiError;

/// The most bytes of a request body, and of an answer: what a Lambda function can take and give
/// (AWS Lambda quotas, "Invocation payload (request and response)", 6 MB).
pub const MAX_BODY: usize = 6 * 1024 * 1024;

/// A body within its limit.
pub(crate) fn body(bytes: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    stage("reading the request");
    bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is larger than {MAX_BODY} bytes; send a smaller one, or a link");
            ApiError::too_large(message)
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
