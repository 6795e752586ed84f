//! What Lambda is invoked with, told apart by its shape and answered by the [`routes`](crate::routes).
//!
//! - [`http`]: function URLs, API Gateway (REST and HTTP APIs) and load balancers; [`reply`] answers them.
//! - `batch`: messages of SQS, each a plain payload.
//! - `operation`: `{"op": …}`, for whoever may invoke the function itself.
//! - Anything with `model` or `inputs` (or the seed's `link` or `image`) is a plain payload, and is sent on
//!   as the body of `POST /models/{model}` (or `POST /ocr`).
//!
//! An event is parsed once, and borrowed from: its body may be 6 MB.

mod batch;
pub mod http;
mod operation;
pub mod reply;

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::request::answered::Invocation;
use crate::request::trace::X_AMZN_TRACE_ID;
pub use operation::Operations;
use reply::{Origin, Reader};

/// Answers events through the routes.
#[derive(Debug, Clone)]
pub struct Events {
    /// The routes.
    pub router: Router,
    /// What comes before the routes in the path, such as `/ml`.
    pub base: Option<String>,
    /// The manifest's model, where there is only one: what a payload without `model` is for.
    pub only_model: Option<String>,
    /// What `{"op": …}` is done with.
    pub operations: Operations,
}

/// Every field of every shape; which are there tells the shape.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    request_context: Option<Context<'a>>,
    #[serde(borrow)]
    http_method: Option<Text<'a>>,
    #[serde(borrow)]
    path: Option<Text<'a>>,
    #[serde(borrow)]
    raw_path: Option<Text<'a>>,
    #[serde(borrow)]
    raw_query_string: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
    #[serde(borrow)]
    path_parameters: Option<BTreeMap<Text<'a>, Text<'a>>>,
    #[serde(borrow)]
    headers: Option<BTreeMap<Text<'a>, Option<Text<'a>>>>,
    #[serde(borrow)]
    multi_value_headers: Option<BTreeMap<Text<'a>, Vec<Text<'a>>>>,
    #[serde(borrow)]
    query_string_parameters: Option<BTreeMap<Text<'a>, Option<Text<'a>>>>,
    #[serde(borrow)]
    multi_value_query_string_parameters: Option<BTreeMap<Text<'a>, Vec<Text<'a>>>>,
    #[serde(borrow)]
    cookies: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    body: Option<Text<'a>>,
    #[serde(default)]
    is_base64_encoded: bool,
    #[serde(borrow, rename = "Records")]
    records: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    inputs: Option<IgnoredAny>,
    link: Option<IgnoredAny>,
    image: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    http: Option<Http<'a>>,
    elb: Option<IgnoredAny>,
    #[serde(borrow)]
    stage: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Http<'a> {
    #[serde(borrow)]
    method: Text<'a>,
}

/// A string that is borrowed where it has no escapes, inside of other types too.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl Events {
    /// Answers an event. What is refused is an answer too; only a batch whose messages cannot be told
    /// apart is an error, so that the queue keeps it.
    ///
    /// # Errors
    /// [`lambda_runtime::Diagnostic`], which Lambda counts as a failed invocation.
    pub async fn answer(
        &self,
        event: Bytes,
        invocation: Invocation,
        xray: Option<&str>,
    ) -> Result<Box<RawValue>, lambda_runtime::Diagnostic> {
        let parsed: Event<'_> = match serde_json::from_slice(&event) {
            Ok(parsed) => parsed,
            Err(error) => {
                let error = unknown(&format!("it cannot be read: {error}"));
                return self.refused(error, Reader::Plain, invocation, xray).await;
            }
        };
        let shape = match &parsed {
            Event { request_context: Some(Context { http: Some(_), .. }), .. } => Some(Origin::Http2),
            Event { request_context: Some(Context { elb: Some(_), .. }), multi_value_headers, .. } => {
                Some(Origin::LoadBalancer { multi_value: multi_value_headers.is_some() })
            }
            Event { http_method: Some(_), .. } => Some(Origin::Rest),
            _ => None,
        };
        if let Some(origin) = shape {
            let request = http::request(&parsed, origin, self.base.as_deref());
            drop(parsed);
            drop(event);
            return self.replied(request, Reader::Http(origin), invocation, xray).await;
        }
        if let Some(records) = parsed.records {
            return batch::answer(self, records, &invocation, xray).await;
        }
        if let Some(op) = parsed.op {
            return match self.operations.answer(op, &invocation).await {
                Ok(done) => reply::written(&done),
                Err(error) => self.refused(error, Reader::Plain, invocation, xray).await,
            };
        }
        let request = self.plain(&parsed, event.clone());
        self.replied(request, Reader::Plain, invocation, xray).await
    }

    /// The reply to a request, or to what would have been one.
    async fn replied(
        &self,
        request: Result<Request, ApiError>,
        reader: Reader,
        invocation: Invocation,
        xray: Option<&str>,
    ) -> Result<Box<RawValue>, lambda_runtime::Diagnostic> {
        let mut request = request.unwrap_or_else(refused);
        request.extensions_mut().insert(reader);
        let id = invocation.id.clone();
        reply::taken(reader, &id, self.through(request, invocation, xray).await).await
    }

    async fn refused(
        &self,
        error: ApiError,
        reader: Reader,
        invocation: Invocation,
        xray: Option<&str>,
    ) -> Result<Box<RawValue>, lambda_runtime::Diagnostic> {
        self.replied(Err(error), reader, invocation, xray).await
    }

    /// The request that a plain payload stands for.
    fn plain(&self, event: &Event<'_>, payload: Bytes) -> Result<Request, ApiError> {
        let path = if event.link.is_some() || event.image.is_some() {
            "/ocr".to_owned()
        } else if event.model.is_some() || event.inputs.is_some() {
            let named = event.model.map(|raw| serde_json::from_str::<String>(raw.get())).transpose();
            let named = named.map_err(|e| ApiError::bad_request(format!("field \"model\": {e}")))?;
            let Some(model) = named.or_else(|| self.only_model.clone()) else {
                return Err(ApiError::bad_request(
                    "field \"model\" is missing; it names one of the models, and there are several here",
                ));
            };
            format!("/models/{}", http::segment(&model))
        } else {
            return Err(unknown("it has none of the fields that tell what it is"));
        };
        let mut request = Request::new(Body::from(payload));
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            path.parse().map_err(|e| ApiError::bad_request(format!("field \"model\": {e}")))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    /// Sends a request through the routes.
    async fn through(
        &self,
        mut request: Request,
        invocation: Invocation,
        xray: Option<&str>,
    ) -> axum::response::Response {
        request.extensions_mut().insert(invocation);
        // Lambda's own trace goes before the one that a client sent, for it is the one that is recorded.
        if let Some(Ok(value)) = xray.map(HeaderValue::from_str) {
            request.headers_mut().insert(X_AMZN_TRACE_ID, value);
        }
        match tower::ServiceExt::oneshot(self.router.clone(), request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// A request that stands for an event that is none, so that it is logged and counted as others are.
fn refused(error: ApiError) -> Request {
    let mut request = Request::new(Body::empty());
    // No route is there.
    *request.uri_mut() = Uri::from_static("/-");
    request.extensions_mut().insert(error);
    request
}

fn unknown(problem: &str) -> ApiError {
    let message = format!(
        "the event is not understood: {problem}; events of function URLs, API Gateway, load balancers and SQS are, \
         and payloads such as {{\"model\": \"…\", \"inputs\": …}}"
    );
    ApiError::new(StatusCode::BAD_REQUEST, message)
}
