//! A reverse proxy between SDK clients and the emulator.
//!
//! - [`operation`]: which operation a request is.
//! - [`fault`]: what a test wants to go wrong with it.
//! - [`upstream`]: the emulator behind.
//! - [`efs`], [`lambda`], [`function_state`], [`publish`], [`capacity`]: where the emulator is more friendly than AWS, AWS's own behaviour.
//! - [`metrics`]: what CloudWatch would say of them.
//! - [`invoke`]: invocations and function URLs, which go to the function host.
//!
//! Every call is counted by service, operation and status, as it was seen on the wire. What the proxy
//! itself asks the emulator is not counted and never struck by a fault.
//!
//! Deliberately absent: signatures are not checked, and state is kept for one account and region.

mod capacity;
mod efs;
pub(crate) mod fault;
mod function_state;
mod invoke;
mod lambda;
mod metrics;
mod operation;
mod publish;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use self::fault::{Fault, Faults, Rule};
use self::operation::Call;
pub(super) use self::operation::percent_decode;
use self::upstream::Upstream;
use super::error::StackError;
use super::host::Host;
use super::http::{self, Body, BoxError};
use super::locked;

/// How long AWS takes for what the emulator does at once.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// File systems, mount targets and access points are `creating` for so long.
    pub efs_creating: Duration,
    /// They are `deleting` for so long.
    pub efs_deleting: Duration,
    /// Functions and versions are `Pending` for so long.
    pub function_pending: Duration,
    /// `LastUpdateStatus` is `InProgress` for so long.
    pub function_update: Duration,
    /// Provisioned concurrency is `IN_PROGRESS` for at least so long; then as long as real sandboxes need.
    pub capacity: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let moment = Duration::from_millis(500);
        Self {
            efs_creating: Duration::from_secs(1),
            efs_deleting: moment,
            function_pending: moment,
            function_update: moment,
            capacity: moment,
        }
    }
}

/// What the calls were: service, operation and status; status 0 is a connection that was reset.
pub type Calls = BTreeMap<(String, String, u16), u64>;

/// What every connection needs.
#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    faults: Faults,
    calls: Mutex<Calls>,
    efs: efs::Efs,
    lambda: function_state::Lambda,
    metrics: metrics::Metrics,
    host: Option<Arc<Host>>,
}

/// The running proxy. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

/// The call is over without an answer; hyper closes the connection for it.
#[derive(Debug, thiserror::Error)]
#[error("the connection was reset on purpose")]
struct Reset;

impl Proxy {
    /// Listens on `listener` in front of the emulator at `upstream`.
    pub(crate) fn start(
        listener: TcpListener,
        upstream: SocketAddr,
        timings: Timings,
        host: Option<Arc<Host>>,
    ) -> Result<Self, StackError> {
        let address = listener.local_addr().map_err(StackError::io("read the proxy's address"))?;
        let shared = Arc::new(Shared {
            upstream: Upstream::new(upstream),
            faults: Faults::default(),
            calls: Mutex::default(),
            efs: efs::Efs::new(timings),
            lambda: function_state::Lambda::new(timings),
            metrics: metrics::Metrics::default(),
            host,
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, server })
    }

    pub(crate) fn inject(&self, rule: Rule) {
        self.shared.faults.add(rule);
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    pub(crate) fn fault_hits(&self) -> u64 {
        self.shared.faults.hits()
    }

    pub(crate) fn calls(&self) -> Calls {
        locked(&self.shared.calls).clone()
    }

    pub(crate) fn clear_calls(&self) {
        locked(&self.shared.calls).clear();
    }

    /// `function version` of each provisioned concurrency configuration, which the proxy alone keeps.
    pub(crate) fn capacities(&self) -> Vec<String> {
        self.shared.lambda.capacities()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the server: the set aborts them when it is dropped.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // A client that leaves, or a reset on purpose: neither is the proxy's failure.
                    let _ended = connection.await;
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Reset> {
    let (parts, body) = request.into_parts();
    if let Some(id) = invoke::url_id(&parts) {
        let (service, operation) = ("lambda".to_owned(), "InvokeFunctionUrl".to_owned());
        let call = Call { service, operation, resource: parts.uri.to_string() };
        return answer(&shared, &call, invoke::by_url(&shared, &id, &parts, body)).await;
    }
    let Some(service) = operation::service(&parts) else {
        let answer = shared.upstream.forward(&parts, http::streamed(body)).await;
        return Ok(
            answer.map_or_else(|error| unavailable("", &error), |response| response.map(http::streamed))
        );
    };
    // Objects pass through; everything else is small, and is looked into.
    if service == "s3" {
        let call = operation::recognise(&parts, &service, &Bytes::new());
        let work =
            async { Ok(shared.upstream.forward(&parts, http::streamed(body)).await?.map(http::streamed)) };
        return answer(&shared, &call, work).await;
    }
    let body = match http::collect(body).await {
        Ok(body) => body,
        Err(error) => return Ok(unavailable(&service, &error)),
    };
    let call = operation::recognise(&parts, &service, &body);
    answer(&shared, &call, perform(&shared, &call, &parts, body)).await
}

/// Runs `work` as the call, with its faults, and counts it.
async fn answer(
    shared: &Shared,
    call: &Call,
    work: impl Future<Output = Result<Response<Body>, BoxError>>,
) -> Result<Response<Body>, Reset> {
    let faults = shared.faults.strike(call);
    for fault in &faults {
        if let Fault::Latency(time) = fault {
            tokio::time::sleep(*time).await;
        }
    }
    let outcome = if faults.contains(&Fault::ResetBefore) {
        Err(Reset)
    } else if let Some(error) = faults.iter().find_map(|fault| fault::answer(&call.service, *fault)) {
        Ok(error)
    } else {
        let response = work.await.unwrap_or_else(|error| unavailable(&call.service, &error));
        if faults.contains(&Fault::ResetAfter) { Err(Reset) } else { Ok(response) }
    };
    let status = outcome.as_ref().map_or(0, |response| response.status().as_u16());
    let key = (call.service.clone(), call.operation.clone(), status);
    *locked(&shared.calls).entry(key).or_default() += 1;
    outcome
}

async fn perform(
    shared: &Shared,
    call: &Call,
    parts: &Parts,
    body: Bytes,
) -> Result<Response<Body>, BoxError> {
    match call.service.as_str() {
        "efs" => shared.efs.perform(&shared.upstream, &call.operation, parts, body).await,
        "lambda" => lambda::perform(shared, &call.operation, parts, body).await,
        "monitoring" => shared.metrics.perform(&call.operation, &body),
        _ => pass(shared, parts, body).await,
    }
}

/// Passes a call through as it is.
async fn pass(shared: &Shared, parts: &Parts, body: Bytes) -> Result<Response<Body>, BoxError> {
    Ok(shared.upstream.forward(parts, http::whole(body)).await?.map(http::streamed))
}

fn unavailable(service: &str, error: &BoxError) -> Response<Body> {
    fault::error(service, 503, "ServiceUnavailable", &format!("the test proxy cannot answer: {error}"), &[])
}
