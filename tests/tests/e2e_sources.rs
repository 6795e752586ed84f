//! Models from everywhere, through the API server: an image and an artifact in a registry that wants a password, a
//! repository of a Hugging Face hub that wants a token, and a plain URL, both with a certificate of a company's own
//! authority. Each is copied, verified and served.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail at once"
)]

#[path = "../../functions/model-sync/tests/support/registry.rs"]
mod registry;
#[path = "../../functions/model-sync/tests/support/tls.rs"]
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use larder_contract::Digest;
use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{Ocr, Scenario, condition, small_endpoint, tensor};
use larder_tests::stack::Timings;
use registry::Registry;
use serde_json::{Value, json};

const NAME: &str = "gathered";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository, and beside it a plain file.
#[derive(Debug)]
struct Site {
    model: Vec<u8>,
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let path = request.uri().path();
    let may_read = request.headers().get(header::AUTHORIZATION).is_some_and(|it| it == "Bearer t0ken");
    match path.strip_prefix("/api/models/acme/det/") {
        _ if path == "/plain/model.onnx" => {}
        _ if !may_read => return StatusCode::UNAUTHORIZED.into_response(),
        Some("revision/main") => return axum::Json(json!({"sha": COMMIT})).into_response(),
        Some(_) => {
            let digest = Digest::of(&site.model).to_string();
            let lfs = json!({"oid": digest, "size": site.model.len()});
            let entry = json!({"type": "file", "oid": COMMIT, "size": 134, "path": "model.onnx", "lfs": lfs});
            return axum::Json(json!([entry])).into_response();
        }
        None => assert_eq!(path, format!("/acme/det/resolve/{COMMIT}/model.onnx")),
    }
    let Some(range) = request.headers().get(header::RANGE) else { return site.model.clone().into_response() };
    let (from, to) = range.to_str().unwrap().trim_start_matches("bytes=").split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    let said = format!("bytes {from}-{to}/{}", site.model.len());
    let headers = [(header::CONTENT_RANGE, said), (header::ETAG, "\"1\"".to_owned())];
    (StatusCode::PARTIAL_CONTENT, headers, site.model[from..=to].to_vec()).into_response()
}

/// A layer of an image: one file.
fn layer(path: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, content).unwrap();
    archive.into_inner().unwrap()
}

async fn secret(scenario: &Scenario, name: &str, text: &str) -> String {
    let secrets = aws_sdk_secretsmanager::Client::new(scenario.stack.aws());
    let made = secrets.create_secret().name(name).secret_string(text).send().await.unwrap();
    made.arn.unwrap()
}

fn object(models: Value) -> Value {
    let mut object = small_endpoint(NAME);
    object["spec"]["models"] = models;
    object
}

#[tokio::test]
async fn every_source_is_copied_and_served() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let [(_, path), _] = scenario.models(Ocr::V4);
    let model = tokio::fs::read(path).await.unwrap();
    let (digest, bytes) = (Digest::of(&model), i64::try_from(model.len()).unwrap());
    let registry = Registry::start(true).await;
    registry.push("artifact", &[("model.onnx", &model)]).await;
    let layers = [layer("models/model.onnx", &model), layer("opt/det/model.onnx", &model)];
    let layers =
        layers.each_ref().map(|it| ("application/vnd.oci.image.layer.v1.tar", it.as_slice(), Digest::of(it)));
    registry.push_image("image", &layers).await;
    let router = Router::new().fallback(answer).with_state(Arc::new(Site { model }));
    let (site, authority) = tls::serve_tls(router).await;
    let authorities = scenario.stack.dir().join("authorities.pem");
    tokio::fs::write(&authorities, authority).await.unwrap();
    let login = secret(&scenario, "registry", r#"{"username": "user", "password": "p4ssword"}"#).await;
    let wrong = secret(&scenario, "wrong", r#"{"username": "user", "password": "other"}"#).await;
    let token = secret(&scenario, "hub", r#"{"token": "t0ken"}"#).await;

    let at = |tag: &str| registry.address(tag).replace("oci://", "");
    let hub = |secret: Option<&str>| json!({"huggingFace": {"repository": "acme/det", "endpoint": site, "secretArn": secret}});
    let models = |login: &str| {
        let oci = |tag: &str| json!({"oci": {"reference": at(tag), "secretArn": login}});
        let mut folder = oci("image");
        folder["oci"]["path"] = "opt/det".into();
        let url = format!("{site}/plain/model.onnx");
        let sources = [
            ("artifact", oci("artifact")),
            ("image", oci("image")),
            ("folder", folder),
            ("hub", hub(Some(&token))),
            ("url", json!({"https": {"files": [{"url": url, "sha256": digest.hex()}]}})),
        ];
        let each = sources.map(|(name, source)| json!({"name": name, "task": "tensor", "source": source}));
        json!(each)
    };
    let host = site.trim_start_matches("https://");
    let authorities = authorities.display().to_string();
    let args =
        ["--allow-source-host", &registry.host, "--allow-source-host", host, "--source-ca", &authorities];
    let controller = scenario.controller("larder", &args).await.unwrap();

    // A password that is not the right one is said, of which model; and it goes on when it is.
    scenario.apply(&object(models(&wrong))).await.unwrap();
    let said = |it: &InferenceEndpoint| condition(it, "ModelsSynced").unwrap_or_default().2;
    let endpoint = scenario
        .until(NAME, "to have the password refused", 180, |it| said(it).contains("401"))
        .await
        .unwrap();
    assert!(said(&endpoint).contains("model artifact: GET of "), "{}", said(&endpoint));
    scenario.apply(&object(models(&login))).await.unwrap();
    let endpoint = scenario.until(NAME, "to be ready", 180, |it| is_ready_at(it, "1")).await.unwrap();
    let status = endpoint.status.unwrap();
    let url = status.url.unwrap();
    for model in &status.models {
        assert_eq!((model.state.as_str(), model.bytes), ("Ready", bytes), "{model:?}");
        let (path, body) =
            (format!("v2/models/{}/infer", model.name), json!({"inputs": [tensor()]}).to_string());
        let answer = scenario.post(&url, &path, "application/json", body.into()).await.unwrap();
        let shape = answer.json().unwrap()["outputs"][0]["shape"].clone();
        assert_eq!((answer.status.as_u16(), shape), (200, json!([1, 1, 32, 32])), "{}", model.name);
    }
    // What is equal by content is equal by revision: the same file of a hub, a URL and an artifact.
    let revision = |name: &str| {
        let model = status.models.iter().find(|model| model.name == name);
        model.and_then(|model| model.active_digest.clone()).unwrap()
    };
    assert_eq!((revision("artifact"), revision("hub")), (revision("url"), revision("url")));
    assert_ne!(revision("image"), revision("folder"));

    // A tag that moves is another image, and becomes the next version.
    let newer = layer("models/notes.txt", b"newer");
    let layers = [layers[0], layers[1], (layers[0].0, newer.as_slice(), Digest::of(&newer))];
    registry.push_image("image", &layers).await;
    scenario.until(NAME, "to follow the tag", 180, |it| is_ready_at(it, "2")).await.unwrap();
    controller.stop().await;
    scenario.stack.stop().await;
}
