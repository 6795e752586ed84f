//! A Hugging Face hub, as its documentation has it: <https://huggingface.co/docs/hub/api>.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use larder_model_sync::checksum::{Algorithm, Checksum};
use serde_json::json;
use support::{bytes, copied, copy_from, serve, sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NEWER: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// One repository, `acme/ocr`, whose branch `main` is at a commit.
#[derive(Debug)]
struct Hub {
    main: Mutex<&'static str>,
    commits: BTreeMap<&'static str, BTreeMap<&'static str, Vec<u8>>>,
    /// Files of which other bytes come than were listed.
    is_broken: bool,
    token: Option<&'static str>,
    paths: Mutex<Vec<String>>,
}

/// As git names it, by git's own rule and not by the code that is tested.
fn git_name(content: &[u8]) -> String {
    let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    hex::encode(Checksum::of(Algorithm::Sha1, &blob).value)
}

/// What is in Large File Storage here.
fn is_large(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|end| end == "onnx")
}

impl Hub {
    /// Two entries a page, so that there are several.
    fn tree(&self, commit: &str, query: &str, host: &str) -> Response {
        assert!(query.contains("recursive=true"), "{query}");
        let Some(files) = self.commits.get(commit) else { return StatusCode::NOT_FOUND.into_response() };
        let mut entries = vec![json!({"type": "directory", "oid": COMMIT, "size": 0, "path": "onnx"})];
        entries.extend(files.iter().map(|(path, content)| {
            let mut entry =
                json!({"type": "file", "oid": git_name(content), "size": content.len(), "path": path});
            if is_large(path) {
                entry["oid"] = COMMIT.into();
                entry["lfs"] = json!({"oid": sha256(content), "size": content.len(), "pointerSize": 134});
            }
            entry
        }));
        let from: usize =
            query.split('&').find_map(|it| it.strip_prefix("cursor=")).map_or(0, |it| it.parse().unwrap());
        let to = (from + 2).min(entries.len());
        let mut headers = HeaderMap::new();
        if to < entries.len() {
            let next = format!(
                "<http://{host}/api/models/acme/ocr/tree/{commit}?recursive=true&cursor={to}>; rel=\"next\""
            );
            headers.insert(header::LINK, next.parse().unwrap());
        }
        (headers, axum::Json(entries[from..to].to_vec())).into_response()
    }

    fn content(&self, commit: &str, path: &str, headers: &HeaderMap) -> Response {
        let found = self.commits.get(commit).and_then(|files| files.get(path));
        let Some(mut content) = found.cloned() else { return StatusCode::NOT_FOUND.into_response() };
        if self.is_broken {
            content[0] ^= 1;
        }
        let Some(range) = headers.get(header::RANGE) else { return content.into_response() };
        let (from, to) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let said = format!("bytes {from}-{to}/{}", content.len());
        (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, said)], content[from..=to].to_vec())
            .into_response()
    }
}

async fn answer(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or("").to_owned());
    let headers = request.headers();
    let host = headers[header::HOST].to_str().unwrap();
    hub.paths.lock().unwrap().push(path.clone());
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    if parts[0] == "cdn" {
        assert!(!headers.contains_key(header::AUTHORIZATION), "the token is for the hub alone");
        return hub.content(parts[1], &parts[2..].join("/"), headers);
    }
    let token = hub.token.map(|token| format!("Bearer {token}"));
    if token.is_some_and(|token| headers.get(header::AUTHORIZATION).is_none_or(|it| it != token.as_str())) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match parts.as_slice() {
        ["api", "models", "acme", "ocr", "revision", "main"] => {
            axum::Json(json!({"id": "acme/ocr", "sha": *hub.main.lock().unwrap()})).into_response()
        }
        ["api", "models", "acme", "ocr", "revision", commit] if hub.commits.contains_key(commit) => {
            axum::Json(json!({"sha": commit})).into_response()
        }
        ["api", "models", "acme", "ocr", "tree", commit] => hub.tree(commit, &query, host),
        ["acme", "ocr", "resolve", commit, rest @ ..] if is_large(&path) => {
            // By another name of the same machine: another host to a client.
            let port = host.rsplit_once(':').unwrap().1;
            let to = format!("http://localhost:{port}/cdn/{commit}/{}", rest.join("/"));
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        }
        ["acme", "ocr", "resolve", commit, rest @ ..] => hub.content(commit, &rest.join("/"), headers),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn hub() -> Hub {
    let old = BTreeMap::from([
        ("config.json", bytes(300, 1)),
        ("onnx/model.onnx", bytes((3 << 20) + 5, 2)),
        ("tokenizer.json", bytes((2 << 20) + 1, 3)),
        ("pytorch_model.bin", bytes(1_000, 4)),
    ]);
    let mut new = old.clone();
    new.insert("config.json", bytes(301, 5));
    Hub {
        main: Mutex::new(COMMIT),
        commits: BTreeMap::from([(COMMIT, old), (NEWER, new)]),
        is_broken: false,
        token: None,
        paths: Mutex::default(),
    }
}

fn of_hub(url: &str, address: &str, dir: &std::path::Path) -> Command {
    let mut command = copy_from(address, dir);
    command.args(["--endpoint-url", url, "--allow-host", "localhost"]);
    command
}

async fn start(hub: Hub) -> (Arc<Hub>, String) {
    let hub = Arc::new(hub);
    let url = serve(Router::new().fallback(answer).with_state(Arc::clone(&hub))).await;
    (hub, url)
}

fn files(hub: &Hub, commit: &str) -> Vec<(&'static str, Vec<u8>)> {
    hub.commits[commit].iter().map(|(path, content)| (*path, content.clone())).collect()
}

fn borrowed<'a>(files: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'static str, &'a [u8])> {
    files.iter().map(|(path, content)| (*path, content.as_slice())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_read_by_its_commit_and_verified() {
    let (hub, url) = start(Hub { token: Some("hf_t0ken"), ..hub() }).await;
    let dir = tempfile::tempdir().unwrap();
    let denied = copied(of_hub(&url, "hf://acme/ocr", dir.path()), &[]).await.unwrap_err();
    assert!(denied.contains("401 Unauthorized"), "{denied}");

    let mut command = of_hub(&url, "hf://acme/ocr", dir.path());
    command.env("LARDER_CREDENTIALS", r#"{"token":"hf_t0ken"}"#);
    let old = files(&hub, COMMIT);
    let first = copied(command, &borrowed(&old)).await.unwrap();
    let by_branch = |path: &String| path.contains("/main") && !path.ends_with("/revision/main");
    assert!(!hub.paths.lock().unwrap().iter().any(by_branch), "files are read by the commit");

    // The branch moves on; the commit stays what it was.
    *hub.main.lock().unwrap() = NEWER;
    let run = async |address: &str, files: &[(&'static str, Vec<u8>)]| {
        let mut command = of_hub(&url, address, dir.path());
        command.env("LARDER_CREDENTIALS", r#"{"token":"hf_t0ken"}"#);
        copied(command, &borrowed(files)).await.unwrap()
    };
    let second = run("hf://acme/ocr", &files(&hub, NEWER)).await;
    assert_ne!(first["revision"], second["revision"]);
    let again = run(&format!("hf://acme/ocr@{COMMIT}"), &old).await;
    assert_eq!((&again["revision"], &again["alreadyPresent"]), (&first["revision"], &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_included_is_read_and_nothing_wrong_is_kept() {
    let (hub, url) = start(hub()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = of_hub(&url, "hf://acme/ocr", dir.path());
    command.args(["--include", "*.json", "--include", "onnx/*"]);
    let mut wanted = files(&hub, COMMIT);
    wanted.retain(|(path, _)| *path != "pytorch_model.bin");
    copied(command, &borrowed(&wanted)).await.unwrap();

    for (address, part) in [("hf://acme/none", "404 Not Found"), ("hf://acme/ocr@v9", "404 Not Found")] {
        let said = copied(of_hub(&url, address, dir.path()), &[]).await.unwrap_err();
        assert!(said.contains(part), "{said}");
    }
    let (_, broken) = start(Hub { is_broken: true, ..self::hub() }).await;
    for (pattern, algorithm) in
        [("config.json", "GIT-BLOB"), ("tokenizer.json", "GIT-BLOB"), ("*.onnx", "SHA-256")]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut command = of_hub(&broken, "hf://acme/ocr", dir.path());
        command.args(["--include", pattern]);
        let said = copied(command, &[]).await.unwrap_err();
        assert!(said.contains("the content is wrong") && said.contains(algorithm), "{said}");
        assert!(!dir.path().join("revisions").exists());
    }
}
