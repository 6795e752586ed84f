//! Clients that users have, against a served router on a real socket. What they ask and check is in
//! `tests/clients/*.py`.
//!
//! Needs `LARDER_PYTHON` and `LARDER_CLIENTS_PYTHON`; `make test` sets them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_inference::link::LinkLimits;
use larder_inference::routes::router;
use serde_json::{Value, json};

/// Runs a script with the clients' Python and returns what it prints.
fn run(script: &str, arguments: &[&OsStr]) -> String {
    let python = std::env::var_os("LARDER_CLIENTS_PYTHON").expect(
        "LARDER_CLIENTS_PYTHON is not set: this test needs a Python with tritonclient and kserve; \
         `make test` makes one and sets the variable",
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(script);
    let output = Command::new(python)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(&script)
        .args(arguments)
        .output()
        .expect("LARDER_CLIENTS_PYTHON runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", script.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Serves the models of a folder for as long as `ask` takes.
async fn with_server<T: Send + 'static>(
    models: tempfile::TempDir,
    ask: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> T {
    let router = router(common::served(&models, LinkLimits::default()).await);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let answer = tokio::task::spawn_blocking(move || ask(address)).await.unwrap();
    server.abort();
    answer
}

/// How many checks a client made on the graphs of `graphs.py`.
async fn checks(script: &'static str) -> u32 {
    let models = tempfile::tempdir().unwrap();
    run("graphs.py", &[models.path().as_os_str()]);
    let ask = move |address: SocketAddr| run(script, &[address.to_string().as_ref()]);
    with_server(models, ask).await.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tritonclient_is_answered() {
    assert!(checks("oip_triton.py").await > 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_kserve_is_answered() {
    assert!(checks("oip_kserve.py").await > 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_tensors_in_base64_or_as_they_are() {
    let models = tempfile::tempdir().unwrap();
    common::folder_of(models.path(), "signs", &common::models("v6"));
    let picture: PathBuf = models.path().join("sign.png");
    std::fs::write(&picture, common::sign("Harbour Road", "海港路")).unwrap();
    let ask =
        move |address: SocketAddr| run("oip_tasks.py", &[address.to_string().as_ref(), picture.as_os_str()]);
    let answers: Value = serde_json::from_str(&with_server(models, ask).await).unwrap();
    let one = json!({"text": ["海港路", "Harbour Road"], "lines": [2]});
    let two = json!({"text": ["海港路", "Harbour Road", "海港路", "Harbour Road"], "lines": [2, 2]});
    let none = json!({"text": [], "lines": [0]});
    assert_eq!(answers, json!([one, one, two, one, none]));
}
