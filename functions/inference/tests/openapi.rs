//! `GET /openapi.json`: valid for a real validator, and neither more nor less than the routes.
//!
//! Needs `LARDER_PYTHON` and `LARDER_CLIENTS_PYTHON`; `make test` sets them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use larder_inference::link::LinkLimits;
use larder_inference::routes::router;
use serde_json::Value;
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

#[tokio::test]
async fn the_document_is_valid() {
    let (router, _models) = routes().await;
    let (status, text) = send(&router, "GET", "/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, text).unwrap();
    let python = std::env::var_os("LARDER_CLIENTS_PYTHON").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/openapi_document.py");
    let output =
        Command::new(python).env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(&file).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let examples: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(examples > 15, "{examples} examples fit their schemas");
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
