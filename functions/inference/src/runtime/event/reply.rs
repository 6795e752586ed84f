//! Answers in the shape that whoever sent the event reads.

use std::collections::BTreeMap;

use axum::body::to_bytes;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::ApiError;
use crate::request::answered::Invocation;
use crate::request::body::MAX_BODY;

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
}

/// A response as the answer to an HTTP event; 413 when it is larger than Lambda takes.
pub(super) async fn http(origin: Origin, response: Response) -> Result<Box<RawValue>, Diagnostic> {
    let reply = written(&http_reply(origin, response).await?)?;
    if reply.get().len() <= MAX_BODY {
        return Ok(reply);
    }
    written(&http_reply(origin, too_large(reply.get().len()).into_response()).await?)
}

async fn http_reply(origin: Origin, response: Response) -> Result<HttpReply, Diagnostic> {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|e| failed(&e))?;
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
            let mut headers = parts.headers;
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
    Ok(reply)
}

/// A response as the answer to a plain payload: its JSON, or `{"error", "status", "requestId"}`.
pub(super) async fn plain(response: Response, invocation: &Invocation) -> Result<Box<RawValue>, Diagnostic> {
    if let Some(error) = response.extensions().get::<ApiError>() {
        return refusal(error, invocation);
    }
    let bytes = to_bytes(response.into_body(), usize::MAX).await.map_err(|e| failed(&e))?;
    if bytes.len() > MAX_BODY {
        return refusal(&too_large(bytes.len()), invocation);
    }
    let json = String::from_utf8(bytes.into()).ok().and_then(|text| RawValue::from_string(text).ok());
    match json {
        Some(json) => Ok(json),
        None => refusal(
            &ApiError::bad_request(
                "the answer is not JSON, and an invocation's answer must be; ask for no binary outputs",
            ),
            invocation,
        ),
    }
}

/// An error as the answer to a plain payload.
pub(super) fn refusal(error: &ApiError, invocation: &Invocation) -> Result<Box<RawValue>, Diagnostic> {
    let status = error.status.as_u16();
    written(&PlainError { error: &error.message, status, request_id: invocation.id.as_str() })
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
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
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
        let reply: Value = serde_json::from_str(http(origin, response).await.unwrap().get()).unwrap();
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
        let invocation = Invocation {
            id: crate::request::id::RequestId::parse("r").unwrap(),
            time: std::time::Duration::ZERO,
        };
        let json = format!("\"{}\"", "x".repeat(MAX_BODY)).into_response();
        let answer = plain(json, &invocation).await.unwrap();
        assert!(answer.get().contains("\"status\":413") && answer.get().contains("\"requestId\":\"r\""));
        let binary = plain(vec![0xff_u8].into_response(), &invocation).await.unwrap();
        assert!(binary.get().contains("\"status\":400"), "{binary}");
    }
}
