//! Answers in the shape that whoever sent the event reads.
//!
//! [`fitted`] writes them before a request is logged and counted, so that what Lambda would not take is told as
//! what it is answered with.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE};
use axum::http::response::Parts;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::ApiError;
use crate::request::body::MAX_BODY;
use crate::request::id::RequestId;

/// Who reads the answer to an event. An extension of the requests that come so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Something that speaks HTTP for its client.
    Http(Origin),
    /// Whoever sent a plain payload.
    Plain,
}

/// Whose event it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A function URL, or an HTTP API of API Gateway (payload format 2.0).
    Http2,
    /// A REST API of API Gateway, or an HTTP API with payload format 1.0.
    Rest,
    /// A load balancer.
    LoadBalancer {
        /// Whether its target group has multi-value headers on.
        multi_value: bool,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpReply {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<String, Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<Vec<String>>,
    body: String,
    is_base64_encoded: bool,
}

/// What a plain payload is answered when it is refused, or failed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlainError<'a> {
    /// The sentence.
    pub error: &'a str,
    /// The HTTP status that it would have been.
    pub status: u16,
    /// The request's id.
    pub request_id: &'a str,
    /// When to try again, in seconds: what the header `Retry-After` would have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// A response that is written already: an extension of the one that is logged and counted.
#[derive(Debug, Clone)]
struct Written(Box<RawValue>);

/// The response, written for its reader.
///
/// # Errors
/// 413 when it is larger than Lambda takes; 400 when it is not JSON, and must be; 500 when it breaks off.
pub(crate) async fn fitted(reader: Reader, id: &RequestId, response: Response) -> Result<Response, ApiError> {
    let (parts, body) = response.into_parts();
    let broken = |error: &(dyn std::error::Error + 'static)| ApiError::internal("answering", "any", error);
    let bytes = to_bytes(body, usize::MAX).await.map_err(|e| broken(&e))?;
    let reply = match (reader, parts.extensions.get::<ApiError>()) {
        (Reader::Http(origin), _) => to_raw_value(&http(origin, &parts, bytes)).map_err(|e| broken(&e))?,
        (Reader::Plain, Some(error)) => to_raw_value(&PlainError::of(error, id)).map_err(|e| broken(&e))?,
        (Reader::Plain, None) => plain(bytes)?,
    };
    if reply.get().len() > MAX_BODY {
        return Err(too_large(reply.get().len()));
    }
    let mut response = Response::from_parts(parts, Body::empty());
    response.extensions_mut().insert(Written(reply));
    Ok(response)
}

/// What the event is answered with: as it was written, or where nobody has, now.
pub(super) async fn taken(
    reader: Reader,
    id: &RequestId,
    mut response: Response,
) -> Result<Box<RawValue>, Diagnostic> {
    if response.extensions().get::<Written>().is_none() {
        let fitting = fitted(reader, id, response).await;
        response = match fitting {
            Ok(response) => response,
            Err(error) => fitted(reader, id, error.into_response()).await.map_err(|e| failed(&e))?,
        };
    }
    let written = response.extensions_mut().remove::<Written>();
    written.map(|written| written.0).ok_or_else(|| failed(&std::io::Error::other("it is lost")))
}

impl<'a> PlainError<'a> {
    fn of(error: &'a ApiError, id: &'a RequestId) -> Self {
        Self {
            error: &error.message,
            status: error.status.as_u16(),
            request_id: id.as_str(),
            retry_after_seconds: error.retry_after,
        }
    }
}

fn http(origin: Origin, parts: &Parts, bytes: Bytes) -> HttpReply {
    let is_text = !parts.headers.contains_key(CONTENT_ENCODING) && is_text(&parts.headers);
    let (body, is_base64_encoded) = match String::from_utf8(bytes.into()) {
        Ok(text) if is_text => (text, false),
        Ok(text) => (BASE64_STANDARD.encode(text), true),
        Err(bytes) => (BASE64_STANDARD.encode(bytes.as_bytes()), true),
    };
    let mut reply = HttpReply {
        status_code: parts.status.as_u16(),
        status_description: None,
        headers: None,
        multi_value_headers: None,
        cookies: None,
        body,
        is_base64_encoded,
    };
    match origin {
        Origin::Http2 => {
            let mut headers = parts.headers.clone();
            let cookies: Vec<String> = values(&headers, SET_COOKIE.as_str());
            headers.remove(SET_COOKIE);
            reply.headers = Some(joined(&headers));
            reply.cookies = (!cookies.is_empty()).then_some(cookies);
        }
        Origin::Rest => reply.multi_value_headers = Some(all(&parts.headers)),
        Origin::LoadBalancer { multi_value } => {
            let reason = parts.status.canonical_reason().unwrap_or("");
            reply.status_description = Some(format!("{} {reason}", reply.status_code));
            if multi_value {
                reply.multi_value_headers = Some(all(&parts.headers));
            } else {
                reply.headers = Some(joined(&parts.headers));
            }
        }
    }
    reply
}

/// A response's JSON as the answer to a plain payload.
fn plain(bytes: Bytes) -> Result<Box<RawValue>, ApiError> {
    let json = String::from_utf8(bytes.into()).ok().and_then(|text| RawValue::from_string(text).ok());
    json.ok_or_else(|| {
        let message = "the answer is not JSON, and an invocation's answer must be; ask for no binary outputs";
        ApiError::bad_request(message)
    })
}

pub(super) fn written(value: &impl Serialize) -> Result<Box<RawValue>, Diagnostic> {
    to_raw_value(value).map_err(|e| failed(&e))
}

fn failed(error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic {
        error_type: "Answer".to_owned(),
        error_message: format!("the answer cannot be written: {error}"),
    }
}

fn too_large(bytes: usize) -> ApiError {
    let message = format!("the answer takes {bytes} bytes, the most is {MAX_BODY}; send a smaller batch");
    ApiError::too_large(message)
}

fn is_text(headers: &HeaderMap) -> bool {
    let essence = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = essence.split(';').next().unwrap_or("").trim();
    essence.starts_with("text/")
        || ["application/json", "application/openmetrics-text", "image/svg+xml"].contains(&essence)
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

fn all(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    headers.keys().map(|name| (name.to_string(), values(headers, name.as_str()))).collect()
}

fn joined(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers.keys().map(|name| (name.to_string(), values(headers, name.as_str()).join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    async fn check(origin: Origin, response: Response, expected: Value) {
        let reply = taken(Reader::Http(origin), &RequestId::random(), response).await.unwrap();
        let reply: Value = serde_json::from_str(reply.get()).unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&reply[name], value, "{name} of {reply}");
        }
    }

    #[tokio::test]
    async fn each_origin_reads_its_own_shape() {
        let response = || {
            let headers = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("vary", "x"), ("vary", "y")];
            (axum::response::AppendHeaders(headers), axum::Json(serde_json::json!({}))).into_response()
        };
        let joined = serde_json::json!({"statusCode": 200, "body": "{}", "isBase64Encoded": false,
            "headers": {"content-type": "application/json", "vary": "x, y"}, "cookies": ["a=1", "b=2"]});
        check(Origin::Http2, response(), joined).await;
        let all = serde_json::json!({"content-type": ["application/json"], "vary": ["x", "y"], "set-cookie": ["a=1", "b=2"]});
        let multi_value = serde_json::json!({"multiValueHeaders": all, "headers": null, "cookies": null});
        check(Origin::Rest, response(), multi_value.clone()).await;
        check(Origin::LoadBalancer { multi_value: true }, response(), multi_value).await;
        let balancer = serde_json::json!({"statusDescription": "200 OK", "multiValueHeaders": null});
        check(Origin::LoadBalancer { multi_value: false }, response(), balancer).await;
    }

    #[tokio::test]
    async fn bytes_are_in_base64() {
        let bytes = ([(CONTENT_TYPE, "application/octet-stream")], "hi").into_response();
        check(Origin::Http2, bytes, serde_json::json!({"body": "aGk=", "isBase64Encoded": true})).await;
        let broken = ([(CONTENT_TYPE, "text/plain")], vec![0xff_u8]).into_response();
        check(Origin::Http2, broken, serde_json::json!({"body": "/w==", "isBase64Encoded": true})).await;
    }

    #[tokio::test]
    async fn what_lambda_would_not_take_is_refused() {
        let text = ([(CONTENT_TYPE, "text/plain")], "x".repeat(MAX_BODY)).into_response();
        check(Origin::Http2, text, serde_json::json!({"statusCode": 413})).await;
        let id = RequestId::parse("r").unwrap();
        let plain = async |response| taken(Reader::Plain, &id, response).await.unwrap();
        let answer = plain(format!("\"{}\"", "x".repeat(MAX_BODY)).into_response()).await;
        assert!(answer.get().contains("\"status\":413") && answer.get().contains("\"requestId\":\"r\""));
        let binary = plain(vec![0xff_u8].into_response()).await;
        assert!(binary.get().contains("\"status\":400"), "{binary}");
    }

    #[tokio::test]
    async fn a_plain_error_says_when_to_try_again() {
        let id = RequestId::parse("r").unwrap();
        let answer = taken(Reader::Plain, &id, ApiError::busy("later", 7).into_response()).await.unwrap();
        let expected = r#"{"error":"later","status":503,"requestId":"r","retryAfterSeconds":7}"#;
        assert_eq!(answer.get(), expected);
    }
}
