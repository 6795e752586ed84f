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
use larder_inference::routes::{Served, router};
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
    let served = common::served(&models, LinkLimits::default()).await;
    let router = router(Served { page: true, ..served });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let answer = tokio::task::spawn_blocking(move || ask(address)).await.unwrap();
    serving.abort();
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

/// Exports of real architectures, under the names that clients ask for.
fn exports(names: &[(&str, &str)]) -> tempfile::TempDir {
    let models = tempfile::tempdir().unwrap();
    for (name, export) in names {
        std::fs::rename(common::copy_of(&common::export(export), models.path()), models.path().join(name))
            .unwrap();
    }
    models
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_client_is_answered() {
    let models = exports(&[("sentences", "sentences-xlmr")]);
    common::folder_of(models.path(), "net", &common::models("v6")[..1]);
    let ask = |address: SocketAddr| run("openai_client.py", &[address.to_string().as_ref()]);
    assert!(with_server(models, ask).await.trim().parse::<u32>().unwrap() > 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_hugging_face_is_answered() {
    let models = exports(&[
        ("sentiment", "sentiment-distilbert"),
        ("sentences", "sentences-xlmr"),
        ("animals", "animals-vit"),
    ]);
    common::folder_of(models.path(), "signs", &common::models("v6"));
    let place = tempfile::tempdir().unwrap();
    let picture = place.path().join("sign.png");
    std::fs::write(&picture, common::sign("Harbour Road", "海港路")).unwrap();
    let ask = move |address: SocketAddr| {
        run("huggingface_client.py", &[address.to_string().as_ref(), picture.as_os_str()])
    };
    assert!(with_server(models, ask).await.trim().parse::<u32>().unwrap() > 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_and_texts_are_tensors_in_every_task() {
    let models = exports(&[
        ("sentiment", "sentiment-distilbert"),
        ("sentences", "sentences-xlmr"),
        ("animals", "animals-vit"),
    ]);
    common::folder_of(models.path(), "signs", &common::models("v6"));
    let easy = std::env::var_os("LARDER_EASYOCR").map(PathBuf::from);
    let easy =
        easy.expect("LARDER_EASYOCR is not set: `make test` makes EasyOCR's models and sets the variable");
    let easy = common::copy_of(&easy.join("models"), models.path());
    std::fs::rename(easy, models.path().join("easy")).unwrap();
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

/// Tries the page in a browser and returns what it showed. The screenshots of the documentation are taken
/// the same way: `SHOTS` names a folder that keeps them.
async fn browsed(models: tempfile::TempDir, asked: Vec<String>) -> Value {
    let chromium = std::env::var_os("LARDER_CHROMIUM")
        .expect("LARDER_CHROMIUM is not set: this test needs a Chromium; `make test` sets the variable");
    let ask = move |address: SocketAddr| {
        let url = format!("http://{address}/");
        let own = tempfile::tempdir().unwrap();
        let shots = std::env::var_os("SHOTS").map_or_else(|| own.path().to_owned(), PathBuf::from);
        let mut arguments: Vec<&OsStr> = vec![url.as_ref(), &chromium, shots.as_os_str()];
        arguments.extend(asked.iter().map(AsRef::<OsStr>::as_ref));
        run("page.py", &arguments)
    };
    serde_json::from_str(&with_server(models, ask).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_tries_the_models_in_a_browser() {
    let models = tempfile::tempdir().unwrap();
    run("graphs.py", &[models.path().join("graphs").as_os_str()]);
    std::fs::rename(models.path().join("graphs/two"), models.path().join("sums")).unwrap();
    std::fs::remove_dir_all(models.path().join("graphs")).unwrap();
    common::folder_of(models.path(), "signs", &common::models("v6"));
    common::minilm(models.path());
    for name in ["animals-vit", "sentiment-distilbert"] {
        let files = std::fs::read_dir(common::export(name)).unwrap().map(|entry| entry.unwrap().path());
        common::folder_of(models.path(), name, &files.collect::<Vec<_>>());
    }
    let pictures = tempfile::tempdir().unwrap();
    let (sign, broken) = (pictures.path().join("sign.png"), pictures.path().join("broken.png"));
    std::fs::write(&sign, common::sign("Harbour Road", "海港路")).unwrap();
    std::fs::write(&broken, "not a picture").unwrap();
    let asked = vec![
        "sums=".to_owned(),
        "sums={\"inputs\": [], \"outputs\": [{\"name\": \"sum\"}]}".to_owned(),
        format!("signs={}", broken.display()),
        format!("animals-vit={}", sign.display()),
        "sentiment-distilbert=I love this harbour!".to_owned(),
        "minilm=A small boat in the harbour | Share prices fell again | Ships lie at the quay | A cat on the roof"
            .to_owned(),
        format!("signs={}", sign.display()),
    ];
    let seen = browsed(models, asked).await;
    assert_eq!(
        seen["tabs"],
        json!([
            "animals-vit\nimage-classification",
            "minilm\nfeature-extraction",
            "sentiment-distilbert\ntext-classification",
            "signs\nocr",
            "sums\ntensor"
        ])
    );
    // No asset from elsewhere, and nothing but the two refusals on the console: the policy lets the page be.
    assert_eq!(seen["elsewhere"], json!([]));
    assert_eq!(seen["trouble"].as_array().unwrap().len(), 2, "{seen}");
    let [sums, missing, refused, animals, sentiment, alike, read] = &seen["tried"].as_array().unwrap()[..]
    else {
        unreachable!()
    };
    let answer: Value = serde_json::from_str(sums["raw"][0].as_str().unwrap()).unwrap();
    assert_eq!(answer["outputs"][0]["data"], json!([0, 0, 0]), "{answer}");
    assert!(missing["error"][0].as_str().unwrap().contains("\"a\" is missing"), "{missing}");
    assert!(refused["error"][0].as_str().unwrap().contains("neither PNG nor JPEG"), "{refused}");
    assert!(animals["rows"].as_array().unwrap().len() > 1, "{animals}");
    assert_eq!(sentiment["rows"].as_array().unwrap().len(), 2, "{sentiment}");
    let likest: Vec<&str> =
        alike["rows"].as_array().unwrap().iter().map(|r| r[0].as_str().unwrap()).collect();
    assert_eq!(likest[0], "Ships lie at the quay", "{alike}");
    assert_eq!(likest.len(), 3);
    assert_eq!(read["whole"], json!(["海港路 Harbour Road"]));
    assert_eq!((read["boxes"].as_u64(), read["rows"][1][0].as_str()), (Some(2), Some("Harbour Road")));
}
