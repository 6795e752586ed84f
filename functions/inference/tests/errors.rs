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
use larder_inference::link::{LinkFetcher, LinkLimits};
use larder_inference::models::source::Source;
use larder_inference::models::{Limits, Registry};
use larder_inference::routes::{MAX_BODY, Served, router};
use larder_inference::telemetry::Telemetry;
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

/// Too large in every way, in every protocol: what the limit is, what there is, and what to do.
#[tokio::test]
async fn what_is_too_large_is_413_whatever_is() {
    let models = tempfile::tempdir().unwrap();
    for export in ["sentiment-distilbert", "sentences-xlmr"] {
        common::copy_of(&common::export(export), models.path());
    }
    common::folder_of(models.path(), "net", &common::models("v6")[..1]);
    let router = router(common::served(&models, LinkLimits::default()).await);
    let bytes =
        |texts: &[&str]| json!({"name": "text", "shape": [texts.len()], "datatype": "BYTES", "data": texts});
    let (labels, vectors) = ("/models/sentiment-distilbert", "/models/sentences-xlmr");
    let (labels_oip, vectors_oip) =
        ("/v2/models/sentiment-distilbert/infer", "/v2/models/sentences-xlmr/infer");
    let long = "x".repeat(1_048_577);
    let many = vec!["a"; 2049];
    let longer = "wonderful ".repeat(100);
    let small = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1]});
    let deep = json!({"name": "x", "shape": vec![1; 17], "datatype": "FP32", "data": [1]});
    let cases: [(&str, Value, &[&str]); 15] = [
        (labels, json!({"inputs": long}), &["1048577 bytes", "1048576", "shorten"]),
        (vectors, json!({"inputs": long}), &["1048577 bytes", "1048576", "shorten"]),
        (
            "/v1/embeddings",
            json!({"model": "sentences-xlmr", "input": long}),
            &["1048577", "1048576", "shorten"],
        ),
        (labels_oip, json!({"inputs": [bytes(&[&long])]}), &["1048577 bytes", "1048576", "shorten"]),
        (labels, json!({"inputs": many}), &["2049", "2048", "fewer"]),
        ("/v1/embeddings", json!({"model": "sentences-xlmr", "input": many}), &["2049", "2048", "fewer"]),
        (vectors_oip, json!({"inputs": [bytes(&many)]}), &["2049", "2048", "several"]),
        (labels, json!({"inputs": longer, "truncate": false}), &["102 tokens", "64", "truncate"]),
        (
            labels_oip,
            json!({"inputs": [bytes(&[&longer])], "parameters": {"truncate": false}}),
            &["102 tokens", "64", "truncate"],
        ),
        ("/v2/models/net/infer", json!({"inputs": vec![small.clone(); 257]}), &["257", "256", "several"]),
        ("/models/net", json!({"inputs": vec![small.clone(); 257]}), &["257", "256", "several"]),
        (
            "/v2/models/net/infer",
            json!({"inputs": [], "outputs": vec![json!({"name": "y"}); 257]}),
            &["257", "256"],
        ),
        ("/v2/models/net/infer", json!({"inputs": [deep]}), &["17 dimensions", "16", "fewer"]),
        (
            "/v2/models/net/infer",
            json!({"inputs": [], "id": "i".repeat(1025)}),
            &["1025 bytes", "1024", "shorten"],
        ),
        (
            "/v2/models/net/infer",
            json!({"inputs": [{"name": "x", "shape": [16_777_217], "datatype": "FP32", "data": []}]}),
            &["16777217", "16777216", "several"],
        ),
    ];
    for (path, body, parts) in cases {
        let (status, _, answer) = send(&router, "POST", path, JSON, body.to_string().into()).await;
        let sentence = sentence(path, &answer);
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}: {sentence}");
        for part in parts {
            assert!(sentence.contains(part), "{path}: no {part:?} in {sentence:?}");
        }
    }
}

/// Files that loads wait for.
const PIPES: [&str; 2] = ["signs/easyocr.json", "vectors/tokenizer.json"];

/// Routes whose models `signs` and `vectors` are being loaded for as long as their pipes are not written.
async fn loading(limits: Limits, time: Duration) -> (Router, LetGo) {
    let models = tempfile::tempdir().unwrap();
    let signs = common::folder_of(models.path(), "signs", &[]);
    std::fs::write(signs.join("easyocr.json"), "{}").unwrap();
    let export = common::copy_of(&common::export("sentences-xlmr"), models.path());
    std::fs::rename(export, models.path().join("vectors")).unwrap();
    let source = Source::of_folder(models.path()).unwrap().lazy();
    for pipe in PIPES.map(|pipe| models.path().join(pipe)) {
        std::fs::remove_file(&pipe).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    }
    let registry = Registry::open(common::engine(), source, limits, Telemetry::default()).await;
    let mut served = Served::new(registry, LinkFetcher::new(LinkLimits::default()).unwrap());
    served.time = time;
    (router(served), LetGo(models))
}

/// Lets the loads end, however the test does, so that no thread waits for ever: an empty file is none.
struct LetGo(tempfile::TempDir);

impl Drop for LetGo {
    fn drop(&mut self) {
        for pipe in PIPES {
            // For both, so that opening it waits for nobody.
            drop(std::fs::File::options().read(true).write(true).open(self.0.path().join(pipe)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_being_loaded_is_503_and_when_to_try_again_in_every_protocol() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(8, 8).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let picture = Bytes::from(png.into_inner());
    let text = |value: Value| Bytes::from(value.to_string());
    let tensor = json!({"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]});
    let asks = [
        ("POST", "/ocr", "image/png", picture.clone()),
        ("POST", "/models/signs", "image/png", picture),
        ("POST", "/models/vectors", JSON, text(json!({"inputs": "a"}))),
        ("POST", "/models/vectors/pipeline/feature-extraction", JSON, text(json!({"inputs": "a"}))),
        ("POST", "/v1/embeddings", JSON, text(json!({"model": "vectors", "input": "a"}))),
        ("POST", "/v2/models/vectors/infer", JSON, text(json!({"inputs": [tensor]}))),
        ("GET", "/v2/models/vectors/ready", JSON, Bytes::new()),
        ("POST", "/v2/repository/models/vectors/load", JSON, Bytes::new()),
    ];
    let short = Duration::from_millis(300);
    let long = Duration::from_secs(20);
    // The load takes longer than a request waits for it, or than the request has left.
    for (loading_limit, time) in [(short, long), (long, short)] {
        let limits = Limits { loading: loading_limit, ..Limits::default() };
        let (router, _let_go) = loading(limits, time).await;
        for (method, path, kind, body) in &asks {
            let (status, headers, answer) = send(&router, method, path, kind, body.clone().into()).await;
            let sentence = sentence(path, &answer);
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {sentence}");
            assert_eq!(headers[header::RETRY_AFTER], "2", "{path}: {sentence}");
            assert_eq!(headers["x-request-id"], "test-1", "{path}");
            let model =
                if path.contains("vectors") || path.starts_with("/v1/") { "vectors" } else { "signs" };
            assert!(sentence.contains(&format!("{model:?}")), "{path}: {sentence}");
        }
    }
}

#[tokio::test]
async fn the_server_is_ready_when_all_that_is_to_be_preloaded_is() {
    const READY: &str = "/v2/health/ready";
    let ask = async |router: &Router, method, path| {
        let (status, headers, answer) = send(router, method, path, JSON, Body::empty()).await;
        (status.as_u16(), headers.get(header::RETRY_AFTER).is_some(), answer)
    };
    let models = tempfile::tempdir().unwrap();
    common::folder_of(models.path(), "net", &common::models("v6")[..1]);
    let broken = common::folder_of(models.path(), "broken", &[]).join("model.onnx");
    std::fs::write(&broken, "not a model").unwrap();
    let open = async |source| {
        let registry =
            Registry::open(common::engine(), source, Limits::default(), Telemetry::default()).await;
        Served::new(registry, LinkFetcher::new(LinkLimits::default()).unwrap())
    };

    let lazy = router(open(Source::of_folder(models.path()).unwrap().lazy()).await);
    assert_eq!(
        ask(&lazy, "GET", READY).await.0,
        200,
        "models that come with their requests are not waited for"
    );

    let served = open(Source::of_folder(models.path()).unwrap()).await;
    assert!(served.models.preload(Duration::from_mins(1)).await.is_err());
    let strict = router(served);
    let (status, has_time, answer) = ask(&strict, "GET", READY).await;
    let sentence = answer["error"].as_str().unwrap();
    assert_eq!((status, has_time), (503, true), "{answer}");
    assert!(sentence.contains("broken") && !sentence.contains("net"), "{sentence}");
    assert_eq!(ask(&strict, "GET", "/v2/models/net/ready").await.0, 200, "it serves all the same");
    let (_, _, answer) = ask(&strict, "GET", "/v2/health/live").await;
    assert_eq!(answer, json!({"live": true}));
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let bytes =
        strict.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.into()).unwrap();
    for (state, count) in [("ready", 1), ("failed", 1), ("loading", 0), ("unloaded", 0), ("unloading", 0)] {
        let line = format!("larder_models{{state=\"{state}\"}} {count}");
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }

    std::fs::remove_dir_all(broken.parent().unwrap()).unwrap();
    let served = open(Source::of_folder(models.path()).unwrap()).await;
    assert!(served.models.preload(Duration::from_mins(1)).await.is_ok());
    let whole = router(served);
    assert_eq!(ask(&whole, "GET", READY).await, (200, false, json!({"ready": true})));
    assert_eq!(ask(&whole, "POST", "/v2/repository/models/net/unload").await.0, 200);
    assert_eq!(ask(&whole, "GET", READY).await.0, 200, "what was unloaded by hand is not waited for");
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
