//! `GET /openapi.json`: valid for a real validator, and neither more nor less than the routes.
//!
//! Needs `LARDER_PYTHON` and `LARDER_CLIENTS_PYTHON`; `make test` sets them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt as _;
use larder_inference::link::LinkLimits;
use larder_inference::routes::router;
use serde_json::{Value, json};
use tower::ServiceExt as _;

async fn routes() -> (Router, tempfile::TempDir) {
    let models = tempfile::tempdir().unwrap();
    common::folder_of(models.path(), "net", &common::models("v6")[..1]);
    (router(common::served(&models, LinkLimits::default()).await), models)
}

async fn send(router: &Router, method: &str, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.into()).unwrap())
}

/// Answers of every kind, as `tests/clients/openapi_document.py` takes them.
async fn answers(router: &Router) -> Vec<Value> {
    let image = BASE64_STANDARD.encode(common::sign("Harbour Road", "海港路"));
    let x = json!({"name": "x", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": vec![0.5; 3 * 32 * 32]});
    let tensors = json!({"inputs": [x]});
    let none = Value::Null;
    let asked = [
        ("GET", "/models", "", none.clone()),
        ("POST", "/models/{model}", "net", tensors.clone()),
        ("POST", "/models/{model}", "net", json!({"inputs": []})),
        ("POST", "/models/{model}", "signs", json!({"inputs": image})),
        ("POST", "/models/{model}", "signs", json!({"inputs": [image, image]})),
        ("POST", "/models/{model}/pipeline/image-to-text", "signs", json!({"inputs": image})),
        ("POST", "/models/{model}", "sentiment", json!({"inputs": ["a fine day", "it rains"]})),
        ("POST", "/models/{model}", "sentiment", json!({"inputs": 3})),
        ("POST", "/models/{model}", "animals", json!({"inputs": image})),
        ("POST", "/models/{model}", "animals", json!({"inputs": [image, image]})),
        ("POST", "/models/{model}", "sentences", json!({"inputs": "a fine day"})),
        ("POST", "/models/{model}", "sentences", json!({"inputs": "a", "parameters": {"pooling": "none"}})),
        (
            "POST",
            "/models/{model}",
            "sentences",
            json!({"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
        ),
        ("POST", "/models/{model}", "other", json!({"inputs": "a"})),
        ("POST", "/ocr", "", json!({"model": "signs", "image": image})),
        ("POST", "/ocr", "", json!({"model": "signs", "image": "%"})),
        ("POST", "/v1/embeddings", "", json!({"model": "sentences", "input": ["a", "b"]})),
        (
            "POST",
            "/v1/embeddings",
            "",
            json!({"model": "sentences", "input": "a", "encoding_format": "base64"}),
        ),
        ("POST", "/v1/embeddings", "", json!({"model": "sentences"})),
        ("GET", "/v1/models", "", none.clone()),
        ("GET", "/v1/models/{model}", "sentences", none.clone()),
        ("GET", "/v1/models/{model}", "other", none.clone()),
        ("GET", "/v2", "", none.clone()),
        ("GET", "/v2/health/live", "", none.clone()),
        ("GET", "/v2/health/ready", "", none.clone()),
        ("GET", "/v2/models", "", none.clone()),
        ("GET", "/v2/models/{model}", "net", none.clone()),
        ("GET", "/v2/models/{model}", "signs", none.clone()),
        ("GET", "/v2/models/{model}/ready", "net", none.clone()),
        ("POST", "/v2/models/{model}/infer", "net", tensors),
        ("POST", "/v2/models/{model}/infer", "net", json!({"inputs": [{"name": "x"}]})),
        ("POST", "/v2/repository/index", "", none.clone()),
        ("POST", "/v2/repository/models/{model}/load", "net", none.clone()),
        ("POST", "/v2/repository/models/{model}/unload", "net", none),
    ];
    let mut answers = Vec::new();
    for (method, path, model, body) in asked {
        let template = path.replace("image-to-text", "{task}");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path.replace("{model}", model));
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        println!("{status} {method} {path} {model}");
        answers.push(json!([method.to_lowercase(), template, status, media, answer]));
    }
    answers
}

#[tokio::test]
async fn the_document_is_valid_and_answers_are_as_it_says() {
    let models = tempfile::tempdir().unwrap();
    common::folder_of(models.path(), "net", &common::models("v6")[..1]);
    common::folder_of(models.path(), "signs", &common::models("v6"));
    for (name, export) in
        [("sentiment", "sentiment-distilbert"), ("sentences", "sentences-xlmr"), ("animals", "animals-vit")]
    {
        let copy = common::copy_of(&common::export(export), models.path());
        std::fs::rename(copy, models.path().join(name)).unwrap();
    }
    let router = router(common::served(&models, LinkLimits::default()).await);
    let (status, text) = send(&router, "GET", "/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    let folder = tempfile::tempdir().unwrap();
    let [file, given] = ["openapi.json", "answers.json"].map(|name| folder.path().join(name));
    std::fs::write(&file, text).unwrap();
    let answers = answers(&router).await;
    let refused = answers.iter().filter(|answer| answer[2].as_u64() >= Some(400)).count();
    assert_eq!(refused, 7, "of the answers, those to what is wrong");
    std::fs::write(&given, Value::from(answers).to_string()).unwrap();
    let python = std::env::var_os("LARDER_CLIENTS_PYTHON").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/openapi_document.py");
    let output = Command::new(python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args([script.as_ref(), file.as_os_str(), given.as_os_str()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let counts: Vec<usize> = printed.split_whitespace().map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] > 15 && counts[1] == 34, "examples and answers that fit their schemas: {printed}");
}

#[tokio::test]
async fn the_document_has_every_route_and_no_other() {
    let (router, _models) = routes().await;
    let (_, text) = send(&router, "GET", "/openapi.json").await;
    let document: Value = serde_json::from_str(&text).unwrap();
    let documented: BTreeSet<String> =
        document["paths"].as_object().unwrap().keys().filter(|p| *p != "/").cloned().collect();

    // The router shows its paths to nobody but a debugger; the fallback is at / there.
    let shown = format!("{router:?}");
    let shown_paths: BTreeSet<String> = shown
        .split('"')
        .filter(|part| part.len() > 1 && part.starts_with('/') && !part.contains("__private"))
        .map(str::to_owned)
        .collect();
    assert!(shown_paths.contains("/v2/models/{model}/infer"), "{shown}");
    assert_eq!(shown_paths, documented);

    for (path, operations) in document["paths"].as_object().unwrap() {
        let concrete =
            path.replace("{model}", "net").replace("{version}", "none").replace("{task}", "tensor");
        for method in ["get", "post"] {
            let (status, answer) = send(&router, &method.to_uppercase(), &concrete).await;
            let taken = status != StatusCode::METHOD_NOT_ALLOWED && !answer.contains("there is nothing at");
            assert_eq!(taken, operations.get(method).is_some(), "{method} {path}: {status} {answer}");
        }
    }
}
