//! The routes, with real models and a real ONNX Runtime.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt;
use larder_inference::link::LinkLimits;
use larder_inference::routes::{MAX_BODY, router};
use serde_json::{Value, json};
use tower::ServiceExt;

const ENGLISH: &str = "Harbour Road";
const CHINESE: &str = "海港路";

fn sign() -> Bytes {
    static SIGN: OnceLock<Bytes> = OnceLock::new();
    SIGN.get_or_init(|| common::sign(ENGLISH, CHINESE).into()).clone()
}

/// A server of pictures on the loopback, as nobody's requests should reach.
struct Host {
    address: SocketAddr,
    /// The `traceparent` of each request for `/sign.png`.
    traces: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    async fn start() -> Self {
        let redirect = |to: &'static str| get(async move || (StatusCode::FOUND, [(header::LOCATION, to)]));
        let traces = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&traces);
        let picture = async move |headers: HeaderMap| {
            let trace = headers.get("traceparent").map(|trace| trace.to_str().unwrap().to_owned());
            seen.lock().unwrap().extend(trace);
            sign()
        };
        let router = Router::new()
            .route("/sign.png", get(picture))
            .route("/large", get(async || vec![0_u8; 1_200_000]))
            .route("/almost", get(async || vec![0_u8; 999_999]))
            .route("/nothing", get(async || StatusCode::NOT_FOUND))
            .route("/once", redirect("/sign.png"))
            .route("/for-ever", redirect("/for-ever"))
            .route("/inside", redirect("http://10.0.0.1/secret"))
            .route("/metadata", redirect("http://169.254.169.254/latest/meta-data/"))
            .route("/file", redirect("file:///etc/passwd"))
            .route("/slow", get(async || std::future::pending::<()>().await));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, traces, task }
    }
}

/// The routes with the models `signs` (ocr) and `net` (the detector as a tensor model).
struct Server {
    router: Router,
    host: Host,
    _models: tempfile::TempDir,
}

impl Server {
    /// With `host` allowed as a link, or with no link allowed that is not public.
    async fn start(allow_host: bool) -> Self {
        let host = Host::start().await;
        let models = tempfile::tempdir().unwrap();
        let files = common::models("v6");
        common::folder_of(models.path(), "net", &files[..1]);
        let mut ocr = files;
        ocr.push(common::orientation());
        common::folder_of(models.path(), "signs", &ocr);
        let limits = LinkLimits {
            bytes: 1_000_000,
            time: Duration::from_secs(3),
            allowed_hosts: if allow_host { vec![host.address.to_string()] } else { Vec::new() },
            ..LinkLimits::default()
        };
        let router = router(common::served(&models, limits).await);
        Self { router, host, _models: models }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (parts.status, parts.headers, value)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, _, value) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, value)
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request =
            Request::post(path).header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap();
        let (status, _, value) = self.send(request).await;
        (status, value)
    }

    async fn post_json(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.post(path, "application/json", body.to_string()).await
    }

    /// The request must be refused with `status` and a sentence that has all `parts` in it.
    async fn refuses(&self, path: &str, body: &Value, status: u16, parts: &[&str]) {
        let (found, answer) = self.post_json(path, body).await;
        refusal(found, &answer, status, parts, &body.to_string());
    }
}

fn refusal(found: StatusCode, answer: &Value, status: u16, parts: &[&str], context: &str) {
    let sentence =
        answer["error"].as_str().unwrap_or_else(|| panic!("{context}: no error in {found} {answer}"));
    assert_eq!(found.as_u16(), status, "{context}: {sentence}");
    for part in parts {
        assert!(sentence.contains(part), "{context}: no {part:?} in {sentence:?}");
    }
}

#[tokio::test]
async fn the_seeds_request_is_answered() {
    let server = Server::start(true).await;
    let url = |path: &str| format!("http://{}{path}", server.host.address);
    let link = |path: &str| json!({"language": "en,ch_sim", "link": url(path)});
    let label = format!("{CHINESE} {ENGLISH}");
    let check = |(status, answer): (StatusCode, Value)| {
        assert_eq!((status, &answer["predicted_label"]), (StatusCode::OK, &json!(label)), "{answer}");
        assert_eq!(answer["lines"][0]["text"], CHINESE);
        assert!(answer["lines"][1]["confidence"].as_f64().unwrap() > 0.9, "{answer}");
        assert_eq!(answer["lines"][1]["box"].as_array().unwrap().len(), 4);
        assert_eq!(answer["model"], "signs");
        assert!(answer["revision"].as_str().unwrap().starts_with("sha256:"));
    };
    check(server.post_json("/ocr", &link("/sign.png")).await);
    check(server.post_json("/ocr", &link("/once")).await);
    check(server.post("/ocr", "image/png", sign()).await);
    check(
        server
            .post("/ocr?model=signs&language=en&orientation=true", "application/octet-stream", sign())
            .await,
    );
    check(server.post_json("/ocr", &json!({"image": BASE64_STANDARD.encode(sign())})).await);

    let request = Request::post("/ocr").body(Body::from(sign())).unwrap();
    let (status, headers, _) = server.send(request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["x-larder-manifest"].len(), 12);
    assert_eq!(headers["x-larder-version"], "7");
}

#[tokio::test]
async fn upside_down_text_is_turned_when_asked() {
    let server = Server::start(false).await;
    let turned = image::load_from_memory(&sign()).unwrap().rotate180();
    let mut png = std::io::Cursor::new(Vec::new());
    turned.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let (status, answer) = server.post("/ocr?orientation=true", "image/png", png.into_inner()).await;
    assert_eq!(status, StatusCode::OK);
    // The lines come from top to bottom, so the lower one is first now.
    assert_eq!(answer["predicted_label"], format!("{ENGLISH} {CHINESE}"));
}

#[tokio::test]
async fn a_links_host_is_told_the_trace_through_redirects_too() {
    let server = Server::start(true).await;
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for path in ["/sign.png", "/once"] {
        let body = json!({"link": format!("http://{}{path}", server.host.address)}).to_string();
        let request = Request::post("/ocr").header(header::CONTENT_TYPE, "application/json");
        let request = request.header("traceparent", caller).body(Body::from(body)).unwrap();
        let (status, headers, answer) = server.send(request).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let told = server.host.traces.lock().unwrap().pop().unwrap();
        let of = |part: usize, trace: &str| trace.split('-').nth(part).unwrap().to_owned();
        // The caller's trace, and as the parent this request's span, which the caller is told as well.
        assert_eq!((of(1, &told), of(3, &told)), (of(1, caller), of(3, caller)));
        assert_ne!(of(2, &told), of(2, caller));
        assert_eq!(headers["traceparent"], told);
    }
}

#[tokio::test]
async fn links_that_lead_inside_are_refused() {
    let server = Server::start(false).await;
    let port = server.host.address.port();
    let closed = ["is not on the public Internet", "ALLOW_LINK_HOSTS", "\"link\""];
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let link = format!("http://{host}:{port}/sign.png");
        server.refuses("/ocr", &json!({"link": link}), 400, &closed).await;
    }
    for link in
        ["http://10.1.2.3/", "https://192.168.0.1/", "http://169.254.169.254/latest/", "http://[fd00::1]/"]
    {
        server.refuses("/ocr", &json!({"link": link}), 400, &closed).await;
    }
    for (link, part) in [
        ("file:///etc/passwd", "scheme"),
        ("ftp://example.com/a", "scheme"),
        ("sign.png", "not a URL"),
        ("http://user:pass@example.com/", "user name"),
    ] {
        server.refuses("/ocr", &json!({"link": link}), 400, &[part]).await;
    }
}

#[tokio::test]
async fn an_allowed_host_still_has_its_limits() {
    let server = Server::start(true).await;
    let link = |path: &str| json!({"link": format!("http://{}{path}", server.host.address)});
    server.refuses("/ocr", &link("/inside"), 400, &["10.0.0.1", "public Internet"]).await;
    server.refuses("/ocr", &link("/metadata"), 400, &["169.254.169.254", "public Internet"]).await;
    server.refuses("/ocr", &link("/file"), 400, &["scheme"]).await;
    server.refuses("/ocr", &link("/for-ever"), 502, &["redirects more than 3 times"]).await;
    server.refuses("/ocr", &link("/large"), 413, &["larger than 1000000 bytes"]).await;
    server.refuses("/ocr", &link("/nothing"), 502, &["404"]).await;
    server.refuses("/ocr", &link("/slow"), 502, &["longer than 3s"]).await;
    let many = vec![format!("http://{}/almost", server.host.address); 68];
    let together = ["\"inputs\"", "member 67", "67999932 bytes", "67108864", "fewer"];
    server.refuses("/models/signs", &json!({"inputs": many}), 413, &together).await;
    // Another port of the same host is another host.
    server.refuses("/ocr", &json!({"link": "http://127.0.0.1:1/"}), 400, &["public Internet"]).await;
}

#[tokio::test]
async fn bad_ocr_requests_are_refused_with_the_remedy() {
    let server = Server::start(false).await;
    let image = BASE64_STANDARD.encode(sign());
    server
        .refuses("/ocr", &json!({"language": "en,xx", "image": image}), 400, &["language", "xx", "ch_sim"])
        .await;
    server.refuses("/ocr", &json!({"model": "other", "image": image}), 404, &["other", "net, signs"]).await;
    server.refuses("/ocr", &json!({"model": "net", "image": image}), 400, &["net", "tensor"]).await;
    server.refuses("/ocr", &json!({"link": 3}), 400, &["link"]).await;
    server.refuses("/ocr", &json!({"image": "aGVsbG8="}), 415, &["PNG", "JPEG"]).await;
    let large = BASE64_STANDARD.encode(&sign()[..1000]);
    server.refuses("/ocr", &json!({"image": large}), 400, &["cannot be decoded"]).await;

    let (status, answer) = server.post("/ocr", "application/json", "{\"link\": ").await;
    refusal(status, &answer, 400, &["JSON"], "half a body");
    let (status, answer) = server.post("/ocr", "text/plain", "hello").await;
    refusal(status, &answer, 415, &["text/plain"], "text");
    let (status, answer) = server.post("/ocr", "image/png", vec![0; MAX_BODY + 1]).await;
    refusal(status, &answer, 413, &["6291456"], "a large body");
    let (status, answer) = server.post("/ocr?orientation=perhaps", "image/png", sign()).await;
    refusal(status, &answer, 400, &["orientation"], "a query");
    let (status, answer) = server.get("/ocr").await;
    refusal(status, &answer, 405, &["GET"], "a method");
    let (status, answer) = server.get("/nowhere").await;
    refusal(status, &answer, 404, &["/nowhere"], "a path");
}

/// An input for the detector: a soft pattern of 32 × 64 pixels, from a formula that Python knows too.
fn pattern() -> Vec<f32> {
    (0..3_u16 * 32 * 64).map(|i| (f32::from(i % 251) / 251.0).mul_add(2.0, -1.0)).collect()
}

#[tokio::test]
async fn tensors_come_out_as_from_python() {
    let server = Server::start(false).await;
    let (status, metadata) = server.get("/v2/models/net").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(metadata["platform"], "onnxruntime_onnx");
    assert_eq!(metadata["inputs"][0], json!({"name": "x", "datatype": "FP32", "shape": [-1, 3, -1, -1]}));
    let output = metadata["outputs"][0]["name"].as_str().unwrap();
    let version = metadata["versions"][0].as_str().unwrap();

    let input = json!({"name": "x", "shape": [1, 3, 32, 64], "datatype": "FP32", "data": pattern()});
    let body = json!({"id": "a-1", "inputs": [input], "outputs": [{"name": output}]});
    let (status, answer) = server.post_json(&format!("/v2/models/net/versions/{version}/infer"), &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["id"], &answer["model_name"], &answer["model_version"]),
        (&json!("a-1"), &json!("net"), &json!(version))
    );
    assert_eq!(answer["outputs"][0]["shape"], json!([1, 1, 32, 64]));
    let ours: Vec<f32> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();

    let program = "import json, sys, numpy, onnxruntime\n\
        x = (numpy.arange(3 * 32 * 64) % 251).astype(numpy.float32) / numpy.float32(251) * 2 - 1\n\
        session = onnxruntime.InferenceSession(sys.argv[1])\n\
        print(json.dumps(session.run(None, {'x': x.reshape(1, 3, 32, 64)})[0].ravel().tolist()))";
    let model = &common::models("v6")[0];
    let theirs: Vec<f32> =
        serde_json::from_str(&common::run_python(&["-c".as_ref(), program.as_ref(), model.as_ref()]))
            .unwrap();
    assert_eq!(ours.len(), theirs.len());
    let far = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-4, "{far}");
    assert!(theirs.iter().any(|v| *v > 1e-6), "an answer of nothing would compare with anything");
}

#[tokio::test]
async fn the_protocols_errors_name_what_is_wrong() {
    let server = Server::start(false).await;
    let infer = "/v2/models/net/infer";
    let tensor = |name: &str, shape: Value, datatype: &str, data: Value| json!({"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]});
    server.refuses(infer, &tensor("y", json!([1]), "FP32", json!([1])), 400, &["\"y\"", "takes: x"]).await;
    server
        .refuses(infer, &tensor("x", json!([1]), "FP32", json!([1])), 400, &["is [1]", "[-1, 3, -1, -1]"])
        .await;
    let full = json!([1, 3, 1, 1]);
    server
        .refuses(infer, &tensor("x", full.clone(), "INT64", json!([1, 2, 3])), 400, &["is INT64", "FP32"])
        .await;
    server
        .refuses(infer, &tensor("x", full.clone(), "FP32", json!([1, 2])), 400, &["2 values", "needs 3"])
        .await;
    server
        .refuses(
            infer,
            &tensor("x", full.clone(), "FP9", json!([1, 2, 3])),
            400,
            &["FP9", "inputs[0].datatype"],
        )
        .await;
    server.refuses(infer, &tensor("x", full, "FP32", json!([1, "a", 3])), 400, &["value 1", "string"]).await;
    server.refuses(infer, &json!({"inputs": []}), 400, &["\"x\" is missing"]).await;
    server.refuses(infer, &json!({"inputs": 3}), 400, &["inputs"]).await;
    server.refuses(infer, &json!({}), 400, &["inputs"]).await;
    let good =
        json!({"name": "x", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": vec![0; 3 * 32 * 32]});
    let asked = json!({"inputs": [good], "outputs": [{"name": "z"}]});
    server.refuses(infer, &asked, 400, &["\"z\"", "it has:"]).await;
    server.refuses("/v2/models/none/infer", &asked, 404, &["\"none\"", "net, signs"]).await;
    server.refuses("/v2/models/net/versions/1/infer", &asked, 404, &["no version \"1\""]).await;
    let (status, answer) = server.post(infer, "application/json", "[").await;
    refusal(status, &answer, 400, &["JSON"], "half a body");

    // What only the model can refuse is our failure, told by an id and nothing else: the sizes of its
    // layers do not meet for a height of 33.
    let odd = json!({"name": "x", "shape": [1, 3, 33, 32], "datatype": "FP32", "data": vec![0; 3 * 33 * 32]});
    let (status, answer) = server.post_json(infer, &json!({"inputs": [odd]})).await;
    refusal(status, &answer, 500, &["\"net\"", "under id"], "a size that does not fit");
    assert!(!answer["error"].as_str().unwrap().contains("onnx"), "{answer}");
}

#[tokio::test]
async fn health_metadata_and_the_ocr_model_as_tensors() {
    let server = Server::start(false).await;
    assert_eq!(server.get("/healthz").await, (StatusCode::OK, json!("ok\n")));
    let (_, about) = server.get("/v2").await;
    assert_eq!(about["name"], "larder-inference");
    assert!(about["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")), "{about}");
    assert_eq!(server.get("/v2/health/live").await, (StatusCode::OK, json!({"live": true})));
    assert_eq!(server.get("/v2/health/ready").await, (StatusCode::OK, json!({"ready": true})));
    assert_eq!(server.get("/v2/models/signs/ready").await.1, json!({"name": "signs", "ready": true}));
    assert_eq!(server.get("/v2/models").await, (StatusCode::OK, json!({"models": ["net", "signs"]})));
    let (status, answer) = server.get("/v2/models/%FF/ready").await;
    refusal(status, &answer, 400, &["UTF-8", "model"], "a name that is no text");
    let (_, metadata) = server.get("/v2/models/signs").await;
    assert_eq!(metadata["platform"], "larder_ocr");
    assert_eq!(metadata["inputs"], json!([{"name": "image", "datatype": "BYTES", "shape": [-1]}]));
    let (status, answer) = server.get("/v2/models/none/ready").await;
    refusal(status, &answer, 404, &["\"none\""], "readiness");

    let image =
        json!({"name": "image", "shape": [1], "datatype": "BYTES", "data": [BASE64_STANDARD.encode(sign())]});
    let body = json!({"inputs": [image], "outputs": [{"name": "box"}, {"name": "text"}]});
    let (status, answer) = server.post_json("/v2/models/signs/infer", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!(
        (outputs.len(), &outputs[0]["name"], &outputs[0]["shape"]),
        (2, &json!("box"), &json!([2, 4, 2]))
    );
    assert_eq!(outputs[1]["data"], json!([CHINESE, ENGLISH]));
}
