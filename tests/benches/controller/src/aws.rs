//! AWS in memory, on the wire: a server that speaks the protocols that the controller's SDKs speak, counts what it
//! is asked, and refuses what is above AWS's rates when it is told to.
//!
//! - [`crate::region`]: what it holds, and the little of each service that an endpoint needs.
//!
//! Deliberately absent: what AWS checks. That is tested in memory and against the emulator.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::region::{Answer, Ask, Region, Waits};

/// How often each operation was called.
pub(crate) type Calls = BTreeMap<String, u64>;

/// The running server. It ends with the process.
#[derive(Debug, Clone)]
pub(crate) struct Aws {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    region: Mutex<Region>,
    meter: Mutex<Meter>,
}

#[derive(Debug, Default)]
struct Meter {
    calls: Calls,
    throttled: Calls,
    /// When an operation was last called about a resource.
    last: BTreeMap<(String, String), Instant>,
    rates: Option<Rates>,
}

/// Lambda's request rates: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
#[derive(Debug)]
struct Rates {
    control: Bucket,
    get_function: Bucket,
    get_policy: Bucket,
}

#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64) -> Self {
        Self { rate, tokens: rate, at: Instant::now() }
    }

    fn takes(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * self.rate).min(self.rate);
        self.at = now;
        let has_one = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(has_one));
        has_one
    }
}

/// Which of Lambda's rates a call counts against; none for other services and for `Invoke`.
pub(crate) fn rate_of(operation: &str) -> Option<&'static str> {
    let (service, name) = operation.split_once('.')?;
    match (service, name) {
        ("lambda", "GetFunction") => Some("GetFunction"),
        ("lambda", "GetPolicy") => Some("GetPolicy"),
        ("lambda", name) if name != "Invoke" => Some("control plane"),
        _ => None,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Aws {
    /// Listens on loopback.
    pub(crate) async fn start(waits: Waits) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("AWS in memory cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { region: Mutex::new(Region::new(waits)), meter: Mutex::default() });
        tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared })
    }

    /// From now on Lambda refuses calls above its rates, or takes all.
    pub(crate) fn set_rates(&self, has_rates: bool) {
        locked(&self.shared.meter).rates = has_rates.then(|| Rates {
            control: Bucket::new(15.0),
            get_function: Bucket::new(100.0),
            get_policy: Bucket::new(15.0),
        });
    }

    pub(crate) fn calls(&self) -> Calls {
        locked(&self.shared.meter).calls.clone()
    }

    pub(crate) fn throttled(&self) -> u64 {
        locked(&self.shared.meter).throttled.values().sum()
    }

    /// When an operation was last called about a function.
    pub(crate) fn last(&self, operation: &str, function: &str) -> Option<Instant> {
        let meter = locked(&self.shared.meter);
        let name = meter.last.range((operation.to_owned(), function.to_owned())..).next();
        name.filter(|((op, of), _)| op == operation && of.starts_with(function)).map(|(_, at)| *at)
    }

    /// The functions that there are.
    pub(crate) fn functions(&self) -> Vec<String> {
        locked(&self.shared.region).functions.keys().cloned().collect()
    }

    /// Points a function's alias at `$LATEST`, as a person at the console can.
    pub(crate) fn spoil_alias(&self, function: &str) {
        if let Some(it) = locked(&self.shared.region).functions.get_mut(function) {
            it.spoil_alias();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // An answer in two packets would wait for the client's acknowledgement of the first.
        let _slower = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that has gone is no failure of the server.
            let _gone = served.await;
        });
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let header = |name: &str| parts.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    // `Credential=<key>/<date>/<region>/<service>/aws4_request`
    let service = header(AUTHORIZATION.as_str()).split('/').nth(3).unwrap_or_default();
    let ask = Ask::new(service, parts.method.as_str(), &parts.uri, header("x-amz-target"), &body);
    let is_taken = {
        let mut meter = locked(&shared.meter);
        let is_taken = match (rate_of(&ask.operation), &mut meter.rates) {
            (Some("GetFunction"), Some(rates)) => rates.get_function.takes(),
            (Some("GetPolicy"), Some(rates)) => rates.get_policy.takes(),
            (Some(_), Some(rates)) => rates.control.takes(),
            _ => true,
        };
        *meter.calls.entry(ask.operation.clone()).or_default() += 1;
        if !is_taken {
            *meter.throttled.entry(ask.operation.clone()).or_default() += 1;
        }
        if ask.is_write() {
            meter.last.insert((ask.operation.clone(), ask.resource.clone()), Instant::now());
        }
        is_taken
    };
    let answer = if is_taken {
        locked(&shared.region).answer(&ask)
    } else {
        Answer::refusal(429, "TooManyRequestsException", "Rate exceeded")
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(answer.content_type));
    headers.insert("x-amzn-errortype", hyper::header::HeaderValue::from_static(answer.error));
    headers.insert("x-amzn-requestid", hyper::header::HeaderValue::from_static("bench"));
    Ok(response)
}

/// Calls between two looks at the counts.
pub(crate) fn since(before: &Calls, after: &Calls) -> Calls {
    let grown = after.iter().map(|(name, count)| (name.clone(), count - before.get(name).unwrap_or(&0)));
    grown.filter(|(_, count)| *count > 0).collect()
}

/// Calls of each of Lambda's rates, a second.
pub(crate) fn rates(calls: &Calls, over: Duration) -> BTreeMap<&'static str, f64> {
    let mut rates = BTreeMap::from([("control plane", 0.0), ("GetFunction", 0.0), ("GetPolicy", 0.0)]);
    for (operation, count) in calls {
        if let Some(rate) = rate_of(operation) {
            *rates.entry(rate).or_default() += number(*count) / over.as_secs_f64();
        }
    }
    rates
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls are far below 2^52")]
pub(crate) const fn number(count: u64) -> f64 {
    count as f64
}
