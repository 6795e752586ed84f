//! The emulator behind the proxy.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;

use crate::stack::http::{self, Body, BoxError};

/// Whose call it is: the emulator reads account, region and service from the signature's scope, and does
/// not check the signature. Questions of the proxy's own go out under the caller's.
#[derive(Debug, Clone)]
pub(crate) struct Scope(Option<HeaderValue>);

impl Scope {
    /// The scope of a caller's request.
    pub(crate) fn of(parts: &Parts) -> Self {
        Self(parts.headers.get(AUTHORIZATION).cloned())
    }

    /// The same caller and region, another service.
    pub(crate) fn to(&self, from: &str, service: &str) -> Self {
        let text = self.0.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let moved = text.replacen(&format!("/{from}/aws4_request"), &format!("/{service}/aws4_request"), 1);
        Self(HeaderValue::from_str(&moved).ok())
    }
}

/// A client of the emulator.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Body>,
    address: SocketAddr,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { client: http::client(), address }
    }

    /// Passes a request on, its path, query, headers and body as they came.
    pub(crate) async fn forward(&self, parts: &Parts, body: Body) -> Result<Response<Incoming>, BoxError> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = self.uri(target)?;
        *request.headers_mut() = parts.headers.clone();
        // These belong to the connection; a length that is there stays, and decides about chunks.
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().remove(EXPECT);
        if !parts.headers.contains_key(CONTENT_LENGTH) {
            request.headers_mut().remove(TRANSFER_ENCODING);
        }
        Ok(self.client.request(request).await?)
    }

    /// Asks a question of the proxy's own. A body that is not JSON is [`Value::Null`].
    pub(crate) async fn ask(
        &self,
        scope: &Scope,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), BoxError> {
        self.ask_with(scope, method, target, body, &[]).await
    }

    /// [`Upstream::ask`] with more headers.
    pub(crate) async fn ask_with(
        &self,
        scope: &Scope,
        method: Method,
        target: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(StatusCode, Value), BoxError> {
        let body = body.map_or_else(Bytes::new, |value| value.to_string().into());
        let mut request = Request::new(http::whole(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(target)?;
        let sent: &mut HeaderMap = request.headers_mut();
        sent.insert(HOST, HeaderValue::from_str(&self.address.to_string())?);
        if let Some(scope) = &scope.0 {
            sent.insert(AUTHORIZATION, scope.clone());
        }
        for (name, value) in headers {
            sent.insert(*name, HeaderValue::from_static(value));
        }
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = http::collect(response.into_body()).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    fn uri(&self, target: &str) -> Result<Uri, BoxError> {
        Ok(format!("http://{}{target}", self.address).parse()?)
    }
}
