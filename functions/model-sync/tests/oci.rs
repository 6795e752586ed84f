//! Artifacts from a real registry: Debian's docker-registry, by itself and behind one that wants tokens.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails there and then"
)]

#[path = "support/registry.rs"]
mod registry;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use registry::{INDEX, MANIFEST, Registry};
use serde_json::{Value, json};
use support::{bytes, copied, copy_from, serve};
use tokio::sync::Semaphore;

/// What is pushed: a name twice deep, several parts, one byte, none.
fn model() -> Vec<(&'static str, Vec<u8>)> {
    vec![("onnx/model.onnx", bytes((5 << 20) + 7, 1)), ("config.json", bytes(300, 2)), ("one", vec![7])]
}

fn borrowed<'a>(files: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'static str, &'a [u8])> {
    files.iter().map(|(path, content)| (*path, content.as_slice())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_is_its_files_by_tag_and_by_digest() {
    let registry = Registry::start(false).await;
    let files = model();
    let pushed = registry.push("v1", &borrowed(&files)).await;
    let dir = tempfile::tempdir().unwrap();
    let by_tag = copied(copy_from(&registry.address("v1"), dir.path()), &borrowed(&files)).await.unwrap();
    assert_eq!((&by_tag["partsFetched"], &by_tag["alreadyPresent"]), (&8.into(), &false.into()));
    let digest = pushed["digest"].as_str().unwrap();
    let by_digest =
        copied(copy_from(&registry.address(digest), dir.path()), &borrowed(&files)).await.unwrap();
    assert_eq!(by_digest["alreadyPresent"], true);

    // A tag that moves is another revision; the digest stays.
    let newer = [("config.json", bytes(301, 3))];
    registry.push("v1", &borrowed(&newer)).await;
    let moved = copied(copy_from(&registry.address("v1"), dir.path()), &borrowed(&newer)).await.unwrap();
    assert_ne!(moved["revision"], by_tag["revision"]);
    let stays = copied(copy_from(&registry.address(digest), dir.path()), &borrowed(&files)).await.unwrap();
    assert_eq!(stays["revision"], by_tag["revision"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_its_manifest() {
    let registry = Registry::start(false).await;
    let files = [("config.json", bytes(300, 2))];
    let on = |mut descriptor: Value, os: &str, architecture: &str| {
        descriptor["platform"] = json!({"os": os, "architecture": architecture});
        descriptor
    };
    let real = registry.push("real", &borrowed(&files)).await;
    let other = registry.push("other", &[("other", b"x")]).await;
    let third = registry.push("third", &[("third", b"x")]).await;
    for (manifests, want) in [
        (vec![real.clone()], Ok(())),
        (vec![on(other.clone(), "unknown", "unknown"), on(real.clone(), "linux", "arm64")], Ok(())),
        (vec![on(other.clone(), "linux", "arm64"), on(real.clone(), "linux", "amd64")], Ok(())),
        (vec![on(other, "linux", "arm64"), on(third, "linux", "s390x")], Err("name one by its digest")),
    ] {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        registry.push_manifest("index", INDEX, &index).await;
        let dir = tempfile::tempdir().unwrap();
        let result = copied(copy_from(&registry.address("index"), dir.path()), &borrowed(&files)).await;
        match want {
            Ok(()) => drop(result.unwrap()),
            Err(part) => assert!(result.as_ref().unwrap_err().contains(part), "{result:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_artifact_of_files_is_refused_by_name() {
    let registry = Registry::start(false).await;
    let config = registry.push_blob("application/vnd.oci.empty.v1+json", b"{}").await;
    let blob = registry.push_blob("application/octet-stream", b"content").await;
    let layer = |annotations: Value| {
        let mut layer = blob.clone();
        layer["annotations"] = annotations;
        layer
    };
    let title = |name: &str| layer(json!({"org.opencontainers.image.title": name}));
    for (layers, part) in [
        (vec![blob.clone()], "has no annotation org.opencontainers.image.title, and is none of an image"),
        (
            vec![title("a"), registry.push_blob("application/vnd.oci.image.layer.v1.tar", b"x").await],
            "has no annotation org.opencontainers.image.title",
        ),
        (vec![title("../../etc/passwd")], "it has a . or .. segment"),
        (vec![title("/etc/passwd")], "it is absolute"),
        (vec![title("a"), title("a")], "it has two files a"),
        (vec![title("a"), title("a/b")], "is also the folder of"),
        (
            vec![layer(
                json!({"org.opencontainers.image.title": "a", "io.deis.oras.content.unpack": "true"}),
            )],
            "is a packed folder",
        ),
        (vec![], "it has no layers"),
    ] {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        registry.push_manifest("odd", MANIFEST, &manifest).await;
        let dir = tempfile::tempdir().unwrap();
        let said = copied(copy_from(&registry.address("odd"), dir.path()), &[]).await.unwrap_err();
        assert!(said.contains(part), "no {part:?} in {said}");
        assert!(!dir.path().join("revisions").exists());
    }
    let dir = tempfile::tempdir().unwrap();
    let said = copied(copy_from(&registry.address("none"), dir.path()), &[]).await.unwrap_err();
    assert!(said.contains("404 Not Found") && said.contains("correct the address"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_password_gets_one() {
    let registry = Registry::start(true).await;
    let files = model();
    registry.push("v1", &borrowed(&files)).await;
    for (credentials, want) in [
        (None, Err("wants a user and a password")),
        (Some(r#"{"username":"user","password":"wrong"}"#), Err("401 Unauthorized")),
        (Some(r#"{"username":"user","password":"p4ssword"}"#), Ok(())),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = copy_from(&registry.address("v1"), dir.path());
        command.envs(credentials.map(|it| ("LARDER_CREDENTIALS", it)));
        let result = copied(command, &borrowed(&files)).await;
        match want {
            Ok(()) => drop(result.unwrap()),
            Err(part) => assert!(result.as_ref().unwrap_err().contains(part), "{result:?}"),
        }
    }
}

/// Stands before a registry: wants a bearer's token, gives one out by password, and sends on who has one.
#[derive(Debug)]
struct Front {
    registry: String,
    tokens: AtomicUsize,
    /// Each read of a blob takes one, and waits when there is none.
    open: Semaphore,
    /// How many reads of blobs there were.
    blobs: AtomicUsize,
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let host = headers[header::HOST].to_str().unwrap();
    if path == "/token" {
        return token(&front, request.uri().query().unwrap(), headers);
    }
    let authorization = headers.get(header::AUTHORIZATION).map(|it| it.to_str().unwrap());
    // The first token is soon too old.
    let is_old = authorization == Some("Bearer 1") && path.contains("/blobs/");
    if !authorization.is_some_and(|it| it.starts_with("Bearer ")) || is_old {
        let challenge = format!(
            "Bearer realm=\"http://{host}/token\",service=\"front\",scope=\"repository:models/ocr:pull\""
        );
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    }
    if path.contains("/blobs/") {
        front.blobs.fetch_add(1, Ordering::SeqCst);
        front.open.acquire().await.unwrap().forget();
    }
    let to = format!("http://{}{path}", front.registry);
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
}

fn token(front: &Front, query: &str, headers: &HeaderMap) -> Response {
    assert_eq!(query, "scope=repository%3Amodels%2Focr%3Apull&service=front");
    if headers.get(header::AUTHORIZATION).is_none_or(|it| it != "Basic dXNlcjpwNHNzd29yZA==") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let nth = front.tokens.fetch_add(1, Ordering::SeqCst) + 1;
    axum::Json(json!({"token": nth.to_string(), "expires_in": 60})).into_response()
}

async fn front(registry: &Registry, open: usize) -> (Arc<Front>, String) {
    let front = Arc::new(Front {
        registry: registry.host.clone(),
        tokens: AtomicUsize::new(0),
        open: Semaphore::new(open),
        blobs: AtomicUsize::new(0),
    });
    let url = serve(Router::new().fallback(answer).with_state(Arc::clone(&front))).await;
    (front, url.replace("http://", "oci://") + "/models/ocr:v1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_and_fetched_again() {
    let registry = Registry::start(false).await;
    let files = model();
    registry.push("v1", &borrowed(&files)).await;
    let (front, address) = front(&registry, 1_000).await;
    let dir = tempfile::tempdir().unwrap();
    let run = async |credentials: &str| {
        let mut command = copy_from(&address, dir.path());
        command.args(["--allow-host", &registry.host, "--credentials", credentials]);
        copied(command, &borrowed(&files)).await
    };
    let refused = run(r#"{"username":"user","password":"wrong"}"#).await.unwrap_err();
    assert!(refused.contains("401 Unauthorized"), "{refused}");
    run(r#"{"username":"user","password":"p4ssword"}"#).await.unwrap();
    assert!(front.tokens.load(Ordering::SeqCst) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_goes_on_and_fetches_nothing_twice() {
    let registry = Registry::start(false).await;
    let files = model();
    registry.push("v1", &borrowed(&files)).await;
    // One probe and three parts.
    let (front, address) = front(&registry, 4).await;
    let dir = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = copy_from(&address, dir.path());
        command.args(["--allow-host", &registry.host]);
        command.args(["--credentials", r#"{"username":"user","password":"p4ssword"}"#]);
        command
    };
    let mut child = tokio::process::Command::from(command()).kill_on_drop(true).spawn().unwrap();
    let journal = || {
        let Ok(entries) = std::fs::read_dir(dir.path().join("staging")) else { return 0 };
        let texts = entries.filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("journal")).ok());
        texts.map(|text| text.lines().filter(|line| line.starts_with("part ")).count()).sum::<usize>()
    };
    for _ in 0..3_000 {
        if journal() == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(journal(), 3, "three parts are in the journal");
    child.kill().await.unwrap();
    front.open.add_permits(1_000);
    let before = front.blobs.load(Ordering::SeqCst);
    let summary = copied(command(), &borrowed(&files)).await.unwrap();
    assert_eq!((&summary["partsAlreadyPresent"], &summary["partsFetched"]), (&3.into(), &5.into()));
    // One probe and the parts that were left.
    assert_eq!(front.blobs.load(Ordering::SeqCst) - before, 1 + 5);
}
