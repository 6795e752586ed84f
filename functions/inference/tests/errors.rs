//! What is refused, on every route: the status, the sentence, the request's id.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use larder_inference::link::LinkLimits;
use larder_inference::routes::{MAX_BODY, router};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The routes with the models `signs` (ocr) and `net` (the detector as a tensor model).
async fn routes(time: Option<Duration>) -> (Router, tempfile::TempDir) {
    let models = tempfile::tempdir().unwrap();
    let files = common::models("v6");
    common::folder_of(models.path(), "net", &files[..1]);
    common::folder_of(models.path(), "signs", &files);
    let mut served = common::served(&models, LinkLimits::default()).await;
    served.time = time.unwrap_or(served.time);
    (router(served), models)
}

async fn send(
    router: &Router,
    method: &str,
    path: &str,
    kind: &str,
    body: Body,
) -> (StatusCode, HeaderMap, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, kind)
        .header("x-request-id", "test-1")
        .body(body)
        .unwrap();
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let value =
        serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{method} {path}: {bytes:?} is not JSON"));
    (parts.status, parts.headers, value)
}

/// `{"error": "…"}`, or `OpenAI`'s `{"error": {"message": "…"}}` on its routes.
fn sentence<'a>(path: &str, answer: &'a Value) -> &'a str {
    let error = if path.starts_with("/v1/") { &answer["error"]["message"] } else { &answer["error"] };
    error.as_str().unwrap_or_else(|| panic!("{path}: no sentence in {answer}"))
}

const JSON: &str = "application/json";

/// Method, path, content type, body; the status and what the sentence must say.
type Case = (&'static str, &'static str, &'static str, Bytes, u16, &'static [&'static str]);

#[tokio::test]
async fn every_route_says_what_is_wrong() {
    let (router, _models) = routes(None).await;
    let large = || Bytes::from(vec![b' '; MAX_BODY + 1]);
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let odd = json!({"inputs": [{"name": "x", "shape": [1, 3, 33, 32], "datatype": "FP32", "data": vec![0; 3 * 33 * 32]}]});
    let odd = || Bytes::from(odd.to_string());
    let posts = [
        "/ocr",
        "/models/signs",
        "/models/net",
        "/models/signs/pipeline/ocr",
        "/v1/embeddings",
        "/v2/models/net/infer",
        "/v2/repository/index",
        "/v2/repository/models/net/load",
        "/v2/repository/models/net/unload",
    ];
    let mut cases: Vec<Case> = vec![
        ("GET", "/v2/models/none", JSON, Bytes::new(), 404, &["\"none\"", "net, signs"]),
        ("GET", "/v2/models/none/ready", JSON, Bytes::new(), 404, &["\"none\"", "net, signs"]),
        ("GET", "/v2/models/net/versions/1", JSON, Bytes::new(), 404, &["no version \"1\""]),
        ("GET", "/v2/models/net/versions/1/ready", JSON, Bytes::new(), 404, &["no version \"1\""]),
        ("POST", "/v2/models/none/infer", JSON, text("{}"), 404, &["\"none\"", "net, signs"]),
        ("POST", "/v2/models/net/versions/1/infer", JSON, text("{}"), 404, &["no version \"1\""]),
        ("POST", "/models/none", JSON, text("{}"), 404, &["\"none\"", "net, signs"]),
        ("POST", "/models/none/pipeline/ocr", JSON, text("{}"), 404, &["\"none\"", "net, signs"]),
        ("POST", "/ocr", JSON, text(r#"{"model": "none", "image": ""}"#), 404, &["\"none\"", "net, signs"]),
        ("POST", "/v1/embeddings", JSON, text(r#"{"model": "none", "input": "a"}"#), 404, &["\"none\""]),
        ("POST", "/v2/repository/models/none/load", JSON, text(""), 404, &["\"none\"", "net, signs"]),
        ("POST", "/v2/repository/models/none/unload", JSON, text(""), 404, &["\"none\"", "net, signs"]),
        ("POST", "/v2/repository/index", JSON, text(r#"{"ready": 3}"#), 400, &["ready"]),
        ("GET", "/v1/models/none", JSON, Bytes::new(), 404, &["\"none\"", "net, signs"]),
        ("GET", "/nowhere", JSON, Bytes::new(), 404, &["/nowhere", "/openapi.json"]),
        ("POST", "/models/signs/pipeline/tensor", JSON, text("{}"), 400, &["\"signs\"", "ocr", "tensor"]),
        ("POST", "/models/signs", JSON, text("{}"), 400, &["inputs"]),
        ("POST", "/models/signs", JSON, text(r#"{"inputs": 3}"#), 400, &["inputs", "a string"]),
        ("POST", "/models/signs", JSON, text(r#"{"inputs": []}"#), 400, &["inputs", "empty"]),
        ("POST", "/models/signs", JSON, text(r#"{"inputs": "%"}"#), 400, &["inputs", "base64"]),
        ("POST", "/models/signs", JSON, text(r#"{"inputs": {"text": "a"}}"#), 400, &["inputs", "picture"]),
        (
            "POST",
            "/models/signs",
            JSON,
            text(r#"{"inputs": "aGk=", "dimensions": 2}"#),
            400,
            &["dimensions", "ocr"],
        ),
        ("POST", "/models/signs", JSON, text(r#"{"inputs": "http://10.0.0.1/"}"#), 400, &["public Internet"]),
        ("POST", "/models/signs", JSON, text(r#"{"inputs": "aGk="}"#), 415, &["PNG", "JPEG"]),
        ("POST", "/models/signs", "image/png", Bytes::new(), 400, &["empty"]),
        ("POST", "/models/signs", "text/plain", text("hello"), 415, &["text/plain"]),
        ("POST", "/ocr", "text/plain", text("hello"), 415, &["text/plain"]),
        ("POST", "/ocr", JSON, text(r#"{"lnk": ""}"#), 400, &["lnk"]),
        ("POST", "/v1/embeddings", JSON, text(r#"{"model": "net"}"#), 400, &["input"]),
        (
            "POST",
            "/v1/embeddings",
            JSON,
            text(r#"{"model": "net", "input": [1]}"#),
            400,
            &["input", "tokens"],
        ),
        (
            "POST",
            "/v1/embeddings",
            JSON,
            text(r#"{"model": "net", "input": "a"}"#),
            400,
            &["\"net\"", "tensor"],
        ),
        ("POST", "/v2/models/net/infer", JSON, text(r#"{"inputs": 3}"#), 400, &["inputs"]),
        ("POST", "/models/net", JSON, text(r#"{"inputs": []}"#), 400, &["\"x\" is missing"]),
        ("GET", "/ocr", JSON, Bytes::new(), 405, &["GET", "/ocr"]),
        ("DELETE", "/models/signs", JSON, Bytes::new(), 405, &["DELETE"]),
        ("POST", "/openapi.json", JSON, Bytes::new(), 405, &["POST"]),
        // What the model alone can refuse is our failure: told by the request's id, and by nothing else.
        ("POST", "/v2/models/net/infer", JSON, odd(), 500, &["\"net\"", "test-1"]),
        ("POST", "/models/net", JSON, odd(), 500, &["\"net\"", "test-1"]),
    ];
    for path in posts {
        cases.push(("POST", path, JSON, text("{\"inputs\": "), 400, &["JSON"]));
        cases.push(("POST", path, JSON, large(), 413, &["6291456"]));
    }
    for (method, path, kind, body, status, parts) in cases {
        let context = format!("{method} {path} {:?}", &body[..body.len().min(60)]);
        let (found, headers, answer) = send(&router, method, path, kind, body.into()).await;
        let sentence = sentence(path, &answer);
        assert_eq!(found.as_u16(), status, "{context}: {sentence}");
        for part in parts {
            assert!(sentence.contains(part), "{context}: no {part:?} in {sentence:?}");
        }
        assert!(!sentence.to_lowercase().contains("onnx"), "{context}: {sentence}");
        assert_eq!(headers["x-request-id"], "test-1", "{context}");
        assert!(headers.contains_key("traceparent"), "{context}");
    }
}

#[tokio::test]
async fn what_takes_too_long_is_answered_with_what_took_the_time() {
    let (router, _models) = routes(Some(Duration::from_millis(20))).await;
    // The picture's text takes longer than that to find on any machine.
    let picture = common::sign("Harbour Road", "海港路");
    let (status, _, answer) = send(&router, "POST", "/ocr", "image/png", picture.into()).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{answer}");
    let sentence = answer["error"].as_str().unwrap();
    assert!(sentence.contains("\"signs\"") && sentence.contains("it was still "), "{sentence}");

    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let (status, _, answer) = send(&router, "POST", "/ocr", "image/png", never).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{answer}");
}

#[tokio::test]
async fn metrics_count_what_was_asked() {
    let (router, _models) = routes(None).await;
    let picture: Bytes = common::sign("Harbour Road", "海港路").into();
    for _ in 0..2 {
        let (status, ..) = send(&router, "POST", "/models/signs", "image/png", picture.clone().into()).await;
        assert_eq!(status, StatusCode::OK);
    }
    send(&router, "POST", "/models/none", JSON, Body::from("{}")).await;
    send(&router, "GET", "/what/ever", JSON, Body::empty()).await;
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert!(response.headers()[header::CONTENT_TYPE].to_str().unwrap().contains("openmetrics"));
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.into()).unwrap();
    for line in [
        r#"larder_requests_total{route="/models/{model}",task="ocr",status="2xx"} 2"#,
        r#"larder_requests_total{route="/models/{model}",task="none",status="4xx"} 1"#,
        r#"larder_requests_total{route="unknown",task="none",status="4xx"} 1"#,
        r#"larder_request_seconds_count{model="signs"} 2"#,
        "larder_requests_in_flight 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains("none\"}") && !text.contains("what"), "no label of a client's choice: {text}");
}
