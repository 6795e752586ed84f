//! The little of HTTP that proxy and function host share.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A body, whole or streamed.
pub(crate) type Body = BoxBody<Bytes, BoxError>;

/// Whatever went wrong on the wire.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The most that is held in memory of one message.
pub(crate) const BODY_LIMIT: usize = 256 * 1024 * 1024;

/// A body that is here already.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// A body that passes through.
pub(crate) fn streamed(body: Incoming) -> Body {
    body.map_err(BoxError::from).boxed()
}

/// Reads a body into memory.
///
/// # Errors
/// When the sender stops or sends more than [`BODY_LIMIT`].
pub(crate) async fn collect<B>(body: B) -> Result<Bytes, BoxError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    Ok(Limited::new(body, BODY_LIMIT).collect().await?.to_bytes())
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(whole(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A client for loopback, plain HTTP.
pub(crate) fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Whether `url` answers with success.
pub(crate) async fn answers(url: &str) -> bool {
    let Ok(request) = Request::get(url).body(whole(Bytes::new())) else { return false };
    client().request(request).await.is_ok_and(|response| response.status().is_success())
}
