//! The middleware of all routes: every request gets an id, a trace, a span in the log, a bound on its
//! time, its numbers in the metrics, and headers that say who answered.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

use super::id::{self, RequestId};
use super::trace::Trace;
use super::{Context, LOADING, RECEIVING, scope, stage};
use crate::error::ApiError;
use crate::protocol::openai;
use crate::routes::Served;
use crate::runtime::event::reply::{self, Reader};
use crate::telemetry::{Answered, emf};

/// Tells which manifest answered: the short form of its digest.
pub const HEADER_MANIFEST: HeaderName = HeaderName::from_static("x-larder-manifest");

/// Tells which published function version answered; not there outside Lambda.
pub const HEADER_VERSION: HeaderName = HeaderName::from_static("x-larder-version");

/// The route of a request that no route takes.
const UNKNOWN: &str = "unknown";

/// What an invocation of Lambda says beside its event. An extension of the requests that come so.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's id.
    pub id: RequestId,
    /// The time until the answer must be there.
    pub time: Duration,
}

/// Does for a request what this module says. One with an [`ApiError`] as its extension has been refused already:
/// it is answered so.
pub async fn answered(State(served): State<Served>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(UNKNOWN, MatchedPath::as_str);
    let invocation = request.extensions().get::<Invocation>().cloned();
    let (id, time) = match invocation {
        Some(Invocation { id, time }) => (id, time),
        None => (RequestId::of(request.headers()).unwrap_or_else(RequestId::random), served.time),
    };
    let reader = request.extensions().get::<Reader>().copied();
    let refused = request.extensions_mut().remove::<ApiError>();
    let context = Arc::new(Context::new(id, Trace::of(request.headers())));
    let span = tracing::info_span!(
        "request",
        id = %context.id(),
        trace_id = context.trace().trace_id(),
        span_id = context.trace().span_id(),
        parent_id = context.trace().parent_id(),
        route,
        model = tracing::field::Empty,
    );
    let under_way = served.telemetry.under_way();
    let has_body = !matches!(*request.method(), Method::GET | Method::HEAD);
    let work = async {
        if !has_body {
            stage("answering");
        }
        let response = if let Some(error) = refused {
            shaped(route, error)
        } else {
            let answer = tokio::time::timeout(time, next.run(request)).await;
            answer.unwrap_or_else(|_| shaped(route, late(&context, time)))
        };
        let mut response = with_headers(&served, &context, response);
        if let Some(reader) = reader {
            // What is said in its place is so small that it fits.
            let fitted = reply::fitted(reader, context.id(), response).await;
            response = fitted.unwrap_or_else(|error| with_headers(&served, &context, shaped(route, error)));
        }
        told(&served, &context, route, response.status());
        response
    };
    let response = scope(Arc::clone(&context), work.instrument(span)).await;
    drop(under_way);
    response
}

/// An error in the shape of its route's protocol.
fn shaped(route: &str, error: ApiError) -> Response {
    let response = error.into_response();
    if route.starts_with("/v1/") { openai::in_shape(response) } else { response }
}

/// The answer when the time is over: what it was spent on.
fn late(context: &Context, time: Duration) -> ApiError {
    if context.stage() == RECEIVING {
        let message = format!("the body took longer than {time:.1?}; send it faster, or less in it");
        return ApiError::new(StatusCode::REQUEST_TIMEOUT, message);
    }
    let spent: Vec<String> =
        context.account().iter().map(|(stage, spent)| format!("{stage} {spent:.0} ms")).collect();
    let model = context.subject().map_or(String::new(), |(name, _)| format!(" of model {name:?}"));
    if context.stage() == LOADING {
        return ApiError::soon(format!(
            "no answer{model} within {time:.1?}: the model was not in memory yet; try again later. \
             The time went so: {}",
            spent.join(", ")
        ));
    }
    let message = format!(
        "no answer{model} within {time:.1?}: it was still {}. The time went so: {}. Send less at once, or have the \
         operator give the function more time or memory",
        context.stage(),
        spent.join(", ")
    );
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, message)
}

/// Logs and counts an answer.
fn told(served: &Served, context: &Context, route: &str, status: StatusCode) {
    let answered = Answered { route, model: context.subject(), status, time: context.time() };
    let stages = context.account();
    let (request, trace) = (context.id().as_str(), context.trace().trace_id());
    served.telemetry.answered(&answered, &emf::Properties { request, trace, stages: &stages });
    let milliseconds = answered.time.as_secs_f64() * 1000.0;
    let status = status.as_u16();
    if answered.model.is_some() || status >= 400 {
        let stages = serde_json::to_string(&stages).unwrap_or_default();
        tracing::info!(status, milliseconds, stages, "answered");
    } else {
        // Probes and scrapes come all the time.
        tracing::debug!(status, milliseconds, "answered");
    }
}

/// Adds the headers that let a client see which revision answered, and find its request again.
fn with_headers(served: &Served, context: &Context, mut response: Response) -> Response {
    let told = [
        (HEADER_MANIFEST, Some(served.models.manifest().short())),
        (HEADER_VERSION, served.version.clone()),
        (id::HEADER, Some(context.id().to_string())),
    ];
    let told =
        told.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value?).ok()?)));
    response.headers_mut().extend(told.chain(context.trace().headers()));
    response
}
