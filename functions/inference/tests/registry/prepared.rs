//! Models that were prepared answer as before, and what was prepared is really used.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use larder_inference::onnx::{Level, sealed};
use serde_json::Value;

use crate::common::{self, program::says_opened, write_models};
use crate::program::{Server, models, reference_of};

/// Runs `prepare` and returns the prepared folders.
fn prepare(models: &std::path::Path, root: &std::path::Path) -> Vec<PathBuf> {
    let output = Command::new(env!("CARGO_BIN_EXE_larder-inference"))
        .args([
            "prepare".as_ref(),
            "--models".as_ref(),
            models.as_os_str(),
            "--root".as_ref(),
            root.as_os_str(),
        ])
        .env_clear()
        .env("ORT_DYLIB_PATH", common::library())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entries = std::fs::read_dir(root.join("prepared")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn prepared_models_answer_the_same_and_broken_ones_fall_back() {
    let root = tempfile::tempdir().unwrap();
    let models = models(root.path(), 6);
    let folder = root.path().join("models");
    let prepared = prepare(&folder, root.path());
    assert_eq!(prepared.len(), models.len());
    assert_eq!(prepare(&folder, root.path()).len(), models.len(), "they are made once");

    let mut artefacts = Vec::new();
    for folder in &prepared {
        let record: Value =
            serde_json::from_slice(&std::fs::read(folder.join("prepared.json")).unwrap()).unwrap();
        for (path, file) in record["files"].as_object().unwrap() {
            println!("{path}: {} of {}", file["choice"], file["costs"]);
            let artefact = folder.join(format!("{path}.ort"));
            assert_eq!(artefact.is_file(), file["choice"] != "original", "{path}");
            assert!(file["costs"].as_object().unwrap().len() == 3, "{path}: {file}");
            artefacts.extend(artefact.is_file().then_some(artefact));
        }
    }
    assert!(!artefacts.is_empty(), "nothing was worth preparing");

    let serve = || Server::start(&folder, 3538, &["--lazy", "--root", root.path().to_str().unwrap()]);
    let server = serve();
    for (name, reference) in &models {
        server.ask(name, reference).unwrap();
    }
    let log = server.running.killed();
    for artefact in &artefacts {
        assert!(says_opened(&log, artefact), "{} is not used: {log}", artefact.display());
    }

    // Cut short, and with a weight that is another: ONNX Runtime would open that, and answer with it.
    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let weight = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    };
    for damage in [&half as &dyn Fn(&mut Vec<u8>), &weight] {
        let wholes: Vec<Vec<u8>> =
            artefacts.iter().map(|artefact| std::fs::read(artefact).unwrap()).collect();
        for (artefact, whole) in artefacts.iter().zip(&wholes) {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            std::fs::write(artefact, bytes).unwrap();
        }
        let server = serve();
        for (name, reference) in &models {
            server.ask(name, reference).unwrap();
        }
        let log = server.running.killed();
        assert!(!artefacts.iter().any(|artefact| says_opened(&log, artefact)), "{log}");
        assert_eq!(log.matches("is damaged").count(), artefacts.len(), "{log}");
        for (artefact, whole) in artefacts.iter().zip(wholes) {
            std::fs::write(artefact, whole).unwrap();
        }
    }
}

/// As when weights were laid out for another processor: ONNX Runtime opens the file without complaint, and
/// cannot run it.
#[test]
fn a_prepared_file_that_opens_and_does_not_run_is_given_up_for_the_original() {
    const WIDTH: i64 = 1022;
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("models/net");
    std::fs::create_dir_all(&folder).unwrap();
    let onnx = folder.join("model.onnx");
    let width = WIDTH.to_string();
    write_models(
        &["layers", onnx.to_str().unwrap(), "--seed", "3", "--width", &width, "--folded"].map(OsStr::new),
    );
    let reference = reference_of(&onnx);
    let prepared = prepare(&root.path().join("models"), root.path());
    let artefact = prepared[0].join("model.onnx.ort");
    // Whatever the measurements have chosen.
    common::engine().optimise(&onnx, &artefact, Level::All).unwrap();
    let record = prepared[0].join("prepared.json");
    let mut told: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    told["files"]["model.onnx"]["choice"] = "all".into();
    std::fs::write(&record, told.to_string()).unwrap();

    // One byte of the shape that the graph folds to, and the checksum of that.
    let mut bytes = std::fs::read(&artefact).unwrap();
    bytes.truncate(bytes.len() - 8);
    let shape = [-1, 2, WIDTH / 2].map(i64::to_le_bytes).concat();
    let place = bytes.windows(shape.len()).position(|window| window == shape).unwrap();
    bytes[place + 16] -= 1;
    std::fs::write(&artefact, bytes).unwrap();
    sealed::seal(&artefact).unwrap();

    let arguments = ["--lazy", "--root", root.path().to_str().unwrap()];
    let server = Server::start(&root.path().join("models"), 3538, &arguments);
    assert_eq!(server.send("POST", "/v2/repository/models/net/load", "").0, 200);
    for _ in 0..3 {
        server.ask("net", &reference).unwrap();
    }
    let log = server.running.killed();
    assert!(says_opened(&log, &artefact), "it does not open: {log}");
    assert_eq!(log.matches("what was prepared does not run").count(), 1, "{log}");
}

#[test]
fn processes_that_prepare_the_same_at_once_leave_it_whole() {
    let root = tempfile::tempdir().unwrap();
    let models = models(root.path(), 1);
    let folder = root.path().join("models");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| prepare(&folder, root.path()));
        }
    });
    let left = prepare(&folder, root.path());
    assert_eq!(left.len(), models.len(), "{left:?}");
    assert!(left[0].join("prepared.json").is_file());
}
