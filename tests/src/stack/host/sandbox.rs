//! One process, and the Lambda Runtime API that it talks to.
//!
//! The process asks for an event (`GET /2018-06-01/runtime/invocation/next`) and is kept waiting until
//! there is one, then posts its answer to `…/invocation/<id>/response` or `…/error`. Its first question
//! says that it is initialised; `…/runtime/init/error` says that it will not be.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::Outcome;
use crate::stack::http::{self, Body, BoxError};
use crate::stack::locked;
use crate::stack::process::{Launch, Program};

/// What a sandbox runs.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) program: PathBuf,
    pub(super) env: BTreeMap<String, String>,
    /// The folder of the access point, made when it is not there.
    pub(super) root: Option<PathBuf>,
    /// The log's path without number and ending.
    pub(super) log: PathBuf,
    pub(super) sandboxes: usize,
    pub(super) init_timeout: Duration,
    pub(super) timeout: Duration,
}

/// Why a sandbox did not start.
#[derive(Debug)]
pub(super) struct InitFailure {
    kind: &'static str,
    message: String,
}

impl InitFailure {
    /// As an invocation reports it.
    pub(super) fn payload(&self) -> Bytes {
        json!({"errorType": self.kind, "errorMessage": self.message}).to_string().into()
    }

    /// As provisioned concurrency reports it.
    pub(super) fn status_reason(&self) -> String {
        format!("FUNCTION_ERROR_INIT_FAILURE: {}", self.message)
    }
}

#[derive(Debug)]
struct Invocation {
    id: String,
    payload: Bytes,
    deadline: u128,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Init {
    Starting,
    Ready,
    Failed(String),
}

/// What the Runtime API's connections share.
#[derive(Debug)]
struct Api {
    arn: String,
    events: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    /// The event that the process has, and who waits for the answer.
    open: Mutex<Option<(String, oneshot::Sender<Outcome>)>>,
    init: watch::Sender<Init>,
}

/// A process that is ready for events.
#[derive(Debug)]
pub(super) struct Sandbox {
    program: Program,
    api: Arc<Api>,
    events: mpsc::Sender<Invocation>,
    server: AbortHandle,
    timeout: Duration,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sandbox {
    /// Starts the process and waits until it is initialised.
    pub(super) async fn start(spec: &Spec, serial: u64, kind: &str) -> Result<Self, InitFailure> {
        let failed = |message: String| InitFailure { kind: "Runtime.InitError", message };
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let home = spec.log.with_file_name(format!(
            "{}-{serial}.tmp",
            spec.log.file_name().unwrap_or_default().to_string_lossy()
        ));
        for dir in [Some(&home), spec.root.as_ref()].into_iter().flatten() {
            std::fs::create_dir_all(dir)
                .map_err(|error| failed(format!("cannot make {}: {error}", dir.display())))?;
        }
        let (events, queue) = mpsc::channel(1);
        let (init, mut seen) = watch::channel(Init::Starting);
        let api = Arc::new(Api {
            arn: spec.arn.clone(),
            events: tokio::sync::Mutex::new(queue),
            open: Mutex::default(),
            init,
        });
        let program = Launch::new(&spec.name, &spec.program, &home, home.with_extension("log"))
            .env(spec.env.clone())
            .env([
                ("AWS_LAMBDA_RUNTIME_API", address.to_string().as_str()),
                ("AWS_LAMBDA_INITIALIZATION_TYPE", kind),
            ])
            .start()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let server = tokio::spawn(serve(listener, Arc::clone(&api))).abort_handle();
        let mut sandbox = Self { program, api, events, server, timeout: spec.timeout };
        tokio::select! {
            ready = tokio::time::timeout(spec.init_timeout, seen.wait_for(|init| *init != Init::Starting)) => {
                let outcome = ready.map(|init| init.map(|init| init.clone()));
                match outcome {
                    Ok(Ok(Init::Failed(message))) => Err(failed(message)),
                    Ok(Ok(_)) => Ok(sandbox),
                    Ok(Err(_)) => Err(failed("the runtime API ended".to_owned())),
                    Err(_) => Err(InitFailure {
                        kind: "Sandbox.Timedout",
                        message: format!("not initialised after {} s", spec.init_timeout.as_secs()),
                    }),
                }
            }
            ended = sandbox.program.wait() => Err(InitFailure {
                kind: "Runtime.ExitError",
                message: format!("Runtime exited during initialisation: {}", how(ended)),
            }),
        }
    }

    /// Runs one event. The sandbox may be used again only when the second value says so.
    pub(super) async fn invoke(&mut self, payload: Bytes) -> (Outcome, bool) {
        let id = uuid::Uuid::new_v4().to_string();
        let (answer, answered) = oneshot::channel();
        *locked(&self.api.open) = Some((id.clone(), answer));
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + self.timeout;
        let event = Invocation { id: id.clone(), payload, deadline: deadline.as_millis() };
        if self.events.send(event).await.is_err() {
            return (
                function_error("Runtime.ExitError", &format!("RequestId: {id} Error: the runtime has ended")),
                false,
            );
        }
        tokio::select! {
            // An answer that is there counts, even when the process ended right after it.
            biased;
            outcome = answered => match outcome {
                Ok(outcome) => (outcome, true),
                Err(_) => (function_error("Runtime.ExitError", &format!("RequestId: {id} Error: no answer")), false),
            },
            ended = self.program.wait() => {
                let message = format!("RequestId: {id} Error: Runtime exited with error: {}", how(ended));
                (function_error("Runtime.ExitError", &message), false)
            }
            () = tokio::time::sleep(self.timeout) => {
                let message = format!("RequestId: {id} Error: Task timed out after {:.2} seconds", self.timeout.as_secs_f64());
                (function_error("Sandbox.Timedout", &message), false)
            }
        }
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.program.alive().is_ok()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.program.id()
    }
}

fn how(ended: std::io::Result<std::process::ExitStatus>) -> String {
    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn function_error(kind: &str, message: &str) -> Outcome {
    Outcome::FunctionError(json!({"errorType": kind, "errorMessage": message}).to_string().into())
}

async fn serve(listener: TcpListener, api: Arc<Api>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let api = Arc::clone(&api);
                connections.spawn(async move {
                    let service = service_fn(move |request| handle(Arc::clone(&api), request));
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // The process may end at any time; that is seen where its end is waited for.
                    let _ended = connection.await;
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn handle(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let path = request.uri().path().trim_start_matches("/2018-06-01/runtime/").to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&api).await,
        (&Method::POST, ["invocation", id, "response"]) => {
            let body = http::collect(request.into_body()).await?;
            Ok(close(&api, id, Outcome::Answer(body)))
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            let body = http::collect(request.into_body()).await?;
            Ok(close(&api, id, Outcome::FunctionError(body)))
        }
        (&Method::POST, ["init", "error"]) => {
            let body = http::collect(request.into_body()).await?;
            api.init.send_replace(Init::Failed(String::from_utf8_lossy(&body).into_owned()));
            Ok(accepted())
        }
        _ => Ok(http::empty(StatusCode::NOT_FOUND)),
    }
}

async fn next(api: &Api) -> Result<Response<Body>, BoxError> {
    api.init.send_if_modified(|init| {
        *init == Init::Starting && {
            *init = Init::Ready;
            true
        }
    });
    let event = api.events.lock().await.recv().await.ok_or("the sandbox is closed")?;
    let mut response = Response::new(http::whole(event.payload));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in [
        ("lambda-runtime-aws-request-id", event.id),
        ("lambda-runtime-deadline-ms", event.deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", api.arn.clone()),
        ("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000;Sampled=0".to_owned()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value)?);
    }
    Ok(response)
}

fn close(api: &Api, id: &str, outcome: Outcome) -> Response<Body> {
    let mut open = locked(&api.open);
    match open.take() {
        Some((expected, answer)) if expected == id => {
            // The caller may have given up waiting.
            let _sent = answer.send(outcome);
            accepted()
        }
        other => {
            *open = other;
            http::json(StatusCode::BAD_REQUEST, &json!({"errorType": "InvalidRequestID", "errorMessage": id}))
        }
    }
}

fn accepted() -> Response<Body> {
    http::json(StatusCode::ACCEPTED, &json!({"status": "OK"}))
}
