//! The program itself: as a server, as a Lambda runtime, and when it cannot start.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::program::{Running, program, send, server};
use larder_contract::{Digest, Manifest, ManifestModel, layout};
use serde_json::{Value, json};
use tokio::sync::mpsc;

fn refuses(arguments: &[&str], variables: &[(&str, &str)], parts: &[&str]) {
    let output = program(arguments, variables).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{log}");
    for part in parts {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
}

/// Models that are to be preloaded, and say no task.
fn manifest_of(models: &[(&str, Digest)]) -> Manifest {
    let model = |(name, revision): &(&str, Digest)| ManifestModel {
        name: (*name).to_owned(),
        task: None,
        revision: *revision,
        copy_of: None,
        parameters: larder_contract::Parameters::default(),
        preload: true,
    };
    Manifest::new(models.iter().map(model).collect())
}

#[test]
fn what_cannot_be_served_ends_the_program_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let serve = |models| ["serve", "--listen", "127.0.0.1:0", "--models", models];
    refuses(&[], &[], &["serve"]);
    refuses(&["serve"], &[], &["--manifest"]);
    refuses(&serve("/nowhere"), &[], &["/nowhere", "No such file"]);
    refuses(&serve(here), &[], &[here, "no models"]);

    std::fs::create_dir(folder.path().join("a")).unwrap();
    refuses(&serve(here), &[("LARDER_MEMORY_MIB", "much")], &["LARDER_MEMORY_MIB", "much"]);
    let no_library = ["/nowhere/lib.so", "ORT_DYLIB_PATH", "1.31"];
    refuses(&serve(here), &[("ORT_DYLIB_PATH", no_library[0])], &no_library);

    let lambda = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1");
    refuses(&[], &[lambda], &["LARDER_MANIFEST"]);
    let digest = Digest::of(b"x");
    let manifest = digest.to_string();
    let root = ("LARDER_ROOT", here);
    refuses(&[], &[lambda, root, ("LARDER_MANIFEST", &manifest)], &[&digest.hex(), "cannot be read"]);
    let path = layout::manifest_path(folder.path(), &digest);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(path, "{}").unwrap();
    refuses(&[], &[lambda, root, ("LARDER_MANIFEST", &manifest)], &["has the digest", "copy it again"]);

    // A version that cannot load what it is to preload must not take traffic.
    let model = Digest::of(b"broken");
    let manifest = manifest_of(&[("a", model)]);
    let path = layout::manifest_path(folder.path(), &manifest.digest());
    std::fs::write(path, manifest.canonical()).unwrap();
    let digest = manifest.digest().to_string();
    let pinned = [lambda, root, ("LARDER_MANIFEST", &digest)];
    refuses(&[], &pinned, &["\"a\"", "cannot be looked at"]);
    let revision = layout::revision_dir(folder.path(), &model);
    std::fs::create_dir_all(&revision).unwrap();
    refuses(&[], &pinned, &["\"a\"", "no files"]);
    std::fs::write(revision.join("broken.onnx"), "not a model").unwrap();
    refuses(&[], &pinned, &["\"a\"", "broken.onnx"]);
}

#[test]
fn serves_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    common::folder_of(folder.path(), "net", &common::models("v6")[..1]);
    let running = server(folder.path(), &[], &[]);
    let address = running.address();
    assert!(std::net::TcpStream::connect(&address).is_ok(), "{address}");
    let (status, log) = running.terminated();
    assert!(status.success(), "{log}");
    assert!(log.contains("stopping"), "{log}");
}

/// The Runtime API's side: hands out events, collects what comes back.
#[derive(Clone)]
struct Host {
    events: Arc<Mutex<VecDeque<Value>>>,
    answers: mpsc::UnboundedSender<Value>,
}

async fn next_event(State(host): State<Host>) -> Response {
    let event = host.events.lock().unwrap().pop_front();
    let Some(event) = event else { return std::future::pending().await };
    let header = |name: &'static str, value: &'static str| (HeaderName::from_static(name), value);
    let headers = [
        header("lambda-runtime-aws-request-id", "r-1"),
        header("lambda-runtime-deadline-ms", "99999999999999"),
        header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:111122223333:function:f:7"),
    ];
    (headers, Json(event)).into_response()
}

/// The runtime sends JSON without saying so.
async fn take_answer(State(host): State<Host>, answer: String) -> StatusCode {
    host.answers.send(serde_json::from_str(&answer).unwrap()).unwrap();
    StatusCode::ACCEPTED
}

fn function_url_event(method: &str, path: &str, body: Option<&str>, stage: &str) -> Value {
    let http = json!({"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "t"});
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"content-type": "image/png", "host": "f.lambda-url.eu-west-1.on.aws"},
        "requestContext": {
            "accountId": "anonymous", "apiId": "f", "domainName": "f.lambda-url.eu-west-1.on.aws",
            "domainPrefix": "f", "http": http, "requestId": "r", "routeKey": "$default", "stage": stage,
            "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1_773_342_238_000_u64
        },
        "isBase64Encoded": body.is_some(), "body": body
    })
}

/// Starts the Runtime API's side: where it is, what comes back, and the server.
async fn host(
    events: VecDeque<Value>,
) -> (String, mpsc::UnboundedReceiver<Value>, tokio::task::JoinHandle<std::io::Result<()>>) {
    let (answers, answered) = mpsc::unbounded_channel();
    let host = Host { events: Arc::new(Mutex::new(events)), answers };
    let invocation = "/2018-06-01/runtime/invocation";
    let router = Router::new()
        .route(&format!("{invocation}/next"), get(next_event))
        .route(&format!("{invocation}/r-1/response"), post(take_answer))
        .route(&format!("{invocation}/r-1/error"), post(take_answer))
        .with_state(host);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    (address, answered, serving)
}

#[tokio::test]
async fn answers_invocations_of_lambda() {
    let root = tempfile::tempdir().unwrap();
    let model = Digest::of(b"a model");
    let manifest = manifest_of(&[("signs", model)]);
    let path = layout::manifest_path(root.path(), &manifest.digest());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, manifest.canonical()).unwrap();
    common::folder_of(&root.path().join("revisions"), &model.hex(), &common::models("v6"));

    let picture = BASE64_STANDARD.encode(common::sign("Harbour Road", "海港路"));
    let events = [
        function_url_event("POST", "/ocr", Some(&picture), "$default"),
        function_url_event("GET", "/prod/v2/models/signs/ready", None, "prod"),
        json!({"greeting": "hello"}),
        function_url_event("GET", "/healthz", None, "$default"),
    ];
    let (address, mut answered, serving) = host(events.into()).await;
    let _running = start_function(&address, root.path(), &manifest.digest());
    let mut next =
        async || tokio::time::timeout(Duration::from_mins(1), answered.recv()).await.unwrap().unwrap();
    let read = next().await;
    assert_eq!(read["statusCode"], 200, "{read}");
    let headers = &read["headers"];
    assert_eq!(
        (&headers["x-larder-manifest"], &headers["x-larder-version"]),
        (&json!(manifest.digest().short()), &json!("7"))
    );
    let body: Value = serde_json::from_str(read["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&body["predicted_label"], &body["revision"]),
        (&json!("海港路 Harbour Road"), &json!(model.to_string()))
    );
    let ready = next().await;
    assert_eq!(
        (&ready["statusCode"], &ready["body"]),
        (&json!(200), &json!(r#"{"name":"signs","ready":true}"#))
    );
    let refused = next().await;
    assert!(refused["error"].as_str().unwrap().contains("function URLs"), "{refused}");
    assert_eq!(next().await["body"], "ok\n", "it goes on after an event that it cannot take");
    serving.abort();
}

/// Loads that take as long as the test says: a tokenizer that is a pipe is read when the test writes it.
#[tokio::test]
async fn models_are_preloaded_at_once_and_not_for_longer_than_lambda_waits() {
    let root = tempfile::tempdir().unwrap();
    let names = ["a", "b"];
    let manifest = manifest_of(&names.map(|name| (name, Digest::of(name.as_bytes()))));
    let path = layout::manifest_path(root.path(), &manifest.digest());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, manifest.canonical()).unwrap();
    let export = common::export("sentiment-distilbert");
    let pipes = names.map(|name| {
        let folder = layout::revision_dir(root.path(), &Digest::of(name.as_bytes()));
        std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
        std::fs::rename(common::copy_of(&export, root.path()), &folder).unwrap();
        let pipe = folder.join("tokenizer.json");
        std::fs::remove_file(&pipe).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        pipe
    });

    let classify = BASE64_STANDARD.encode(r#"{"inputs": "a fine day"}"#);
    let mut events = [
        function_url_event("GET", "/models", None, "$default"),
        function_url_event("POST", "/models/a", Some(&classify), "$default"),
        function_url_event("POST", "/models/b", Some(&classify), "$default"),
    ];
    for event in &mut events {
        event["headers"]["content-type"] = json!("application/json");
    }
    let (address, mut answered, serving) = host(events.into()).await;
    let _running = start_function(&address, root.path(), &manifest.digest());
    // Opening a pipe waits for who reads it: both do, before either has got anything.
    let [a, b] = pipes;
    let open = |pipe: std::path::PathBuf| {
        tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(pipe).unwrap())
    };
    let mut written = Vec::new();
    for pipe in [b, a] {
        written.push(tokio::time::timeout(Duration::from_mins(1), open(pipe)).await.unwrap().unwrap());
    }
    let mut next =
        async || tokio::time::timeout(Duration::from_mins(1), answered.recv()).await.unwrap().unwrap();
    let listed: Value = serde_json::from_str(next().await["body"].as_str().unwrap()).unwrap();
    let states: Vec<_> = listed.as_array().unwrap().iter().map(|model| model["state"].clone()).collect();
    assert_eq!(states, ["loading", "loading"], "the first request is answered while they are");
    let tokenizer = std::fs::read(export.join("tokenizer.json")).unwrap();
    tokio::task::spawn_blocking(move || {
        for mut pipe in written {
            std::io::Write::write_all(&mut pipe, &tokenizer).unwrap();
        }
    });
    for _ in names {
        let labels = next().await;
        assert_eq!(labels["statusCode"], 200, "{labels}");
    }
    serving.abort();
}

fn start_function(address: &str, root: &Path, manifest: &Digest) -> Running {
    let variables = [
        ("AWS_LAMBDA_RUNTIME_API", address),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "7"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3600"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "g"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "s"),
        ("LARDER_ROOT", root.to_str().unwrap()),
        ("LARDER_MANIFEST", &manifest.to_string()),
    ];
    Running::start(program(&[], &variables))
}

/// Pictures of 25 megapixels each, which their bytes do not show.
#[test]
fn pictures_of_one_request_are_not_in_memory_together() {
    const PICTURES: usize = 6;
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(5_000, 5_000).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let picture = BASE64_STANDARD.encode(bytes.into_inner());
    let folder = tempfile::tempdir().unwrap();
    common::copy_of(&common::export("animals-resnet"), folder.path());
    let running = server(folder.path(), &[], &[]);
    let address = running.address();
    let ask = |count: usize| {
        let body = json!({"inputs": vec![&picture; count]}).to_string();
        let (status, answer) =
            send(&address, "POST", "/models/animals-resnet", "application/json", body.as_bytes());
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let one = ask(1);
    let alone = running.status("VmHWM:");
    let many = ask(PICTURES);
    assert_eq!(many.as_array().unwrap().len(), PICTURES);
    assert!(
        many.as_array().unwrap().iter().all(|labels| *labels == one[0] || *labels == one),
        "{one} {many}"
    );
    let together = running.status("VmHWM:");
    assert!(together < alone * 3 / 2, "{alone} KiB for one, {together} KiB for {PICTURES}");
}
