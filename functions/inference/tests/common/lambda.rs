//! The Runtime API's side: hands events to the program as a Lambda runtime, and collects what comes back.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::Path as Root;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use larder_contract::{Digest, Manifest, ManifestModel, Parameters, layout};
use serde_json::Value;
use tokio::sync::mpsc;

use super::program::{Running, program};

/// Answered by the function, or told as an error.
pub(crate) type Outcome = Result<Value, Value>;

/// An event, and what Lambda says beside it.
pub(crate) struct Invoked {
    pub(crate) id: String,
    pub(crate) event: Value,
    pub(crate) time: Duration,
}

#[derive(Clone)]
struct Host {
    events: Arc<Mutex<VecDeque<Invoked>>>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

const TRACE: &str = "Root=1-67891234-123456789012345678901234;Parent=53995c3f42cd8ad8;Sampled=1";

async fn next_event(State(host): State<Host>) -> Response {
    let event = host.events.lock().unwrap().pop_front();
    let Some(Invoked { id, event, time }) = event else { return std::future::pending().await };
    let deadline = (SystemTime::now() + time).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let header = |name: &'static str, value: &str| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    let headers = [
        header("lambda-runtime-aws-request-id", &id),
        header("lambda-runtime-deadline-ms", &deadline.to_string()),
        header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:111122223333:function:f:7"),
        header("lambda-runtime-trace-id", TRACE),
    ];
    (axum::http::HeaderMap::from_iter(headers), Json(event)).into_response()
}

/// The runtime sends JSON without saying so.
async fn take(State(host): State<Host>, Path((_, kind)): Path<(String, String)>, body: String) -> StatusCode {
    let value = serde_json::from_str(&body).unwrap();
    host.outcomes.send(if kind == "response" { Ok(value) } else { Err(value) }).unwrap();
    StatusCode::ACCEPTED
}

/// What came of events, and what the function wrote meanwhile.
pub(crate) struct Played {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A model that says no task.
pub(crate) fn model(name: &str, preload: bool) -> ManifestModel {
    ManifestModel {
        name: name.to_owned(),
        task: None,
        revision: Digest::of(name.as_bytes()),
        copy_of: None,
        parameters: Parameters::default(),
        preload,
    }
}

/// Writes a manifest to where the function looks for it.
pub(crate) fn write_manifest(root: &Root, manifest: &Manifest) {
    let path = layout::manifest_path(root, &manifest.digest());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, manifest.canonical()).unwrap();
}

/// Plays events to a function that serves a manifest of this file system.
pub(crate) async fn play(
    root: &Root,
    manifest: &Manifest,
    events: Vec<Invoked>,
    variables: &[(&str, &str)],
) -> Played {
    write_manifest(root, manifest);
    let count = events.len();
    let (outcomes, mut came) = mpsc::unbounded_channel();
    let host = Host { events: Arc::new(Mutex::new(events.into())), outcomes };
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next_event))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(take))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(host);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let mut command = program(&[], &[]);
    command
        .env("AWS_LAMBDA_RUNTIME_API", &address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "f")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "7")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3600")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "g")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "s")
        .env("LARDER_ROOT", root)
        .env("LARDER_MANIFEST", manifest.digest().to_string())
        .envs(variables.iter().copied());
    let mut running = Running::start({
        command.stdout(Stdio::piped());
        command
    });
    let mut pipe = running.stdout().unwrap();
    // Read while it writes: a full pipe would hold it up.
    let stdout = std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(tokio::time::timeout(Duration::from_mins(2), came.recv()).await.unwrap().unwrap());
    }
    let stderr = running.killed();
    serving.abort();
    Played { outcomes: all, stdout: stdout.join().unwrap().unwrap(), stderr }
}

/// The answer to an HTTP event, its headers by name whichever field has them, and its body.
pub(crate) fn http(outcome: &Outcome) -> (u64, Value, Value) {
    let reply = outcome.as_ref().unwrap();
    let headers = if reply["headers"].is_object() { &reply["headers"] } else { &reply["multiValueHeaders"] };
    let body =
        serde_json::from_str(reply["body"].as_str().unwrap()).unwrap_or_else(|_| reply["body"].clone());
    (reply["statusCode"].as_u64().unwrap(), headers.clone(), body)
}
