//! The program as a server, and models to serve.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::program::{Running, send};
use crate::common::{self, write_models};

/// The program as a server, ended when the test is.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(models: &Path, memory_mib: u64, more: &[&str]) -> Self {
        let running =
            common::program::server(models, more, &[("LARDER_MEMORY_MIB", &memory_mib.to_string())]);
        let address = running.address();
        Self { running, address }
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = send(&self.address, method, path, "application/json", body.as_bytes());
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// A number of `/proc/<pid>/status`.
    pub(crate) fn status(&self, field: &str) -> u64 {
        self.running.status(field)
    }

    /// Processor time that it has taken, in ticks of 10 ms.
    pub(crate) fn ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.running.id())).unwrap();
        let after_name = text.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().skip(11).take(2).map(|t| t.parse::<u64>().unwrap()).sum()
    }

    /// Asks a model, and says what is wrong with the answer.
    pub(crate) fn ask(&self, name: &str, reference: &Reference) -> Result<(), String> {
        let count = usize::try_from(reference.shape.iter().product::<i64>()).unwrap();
        let values: Vec<f32> =
            (0..count).map(|i| f32::from(u8::try_from(i % 251).unwrap()) / 251.0 * 2.0 - 1.0).collect();
        let tensor =
            json!({"name": reference.input, "shape": reference.shape, "datatype": "FP32", "data": values});
        let body = json!({"inputs": [tensor]}).to_string();
        let (status, answer) = self.send("POST", &format!("/v2/models/{name}/infer"), &body);
        if status != 200 {
            return Err(format!("{name}: {status} {answer}"));
        }
        let values: Vec<f32> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
        let ours = values.iter().step_by(reference.step);
        let far = ours.zip(&reference.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let same = values.len().div_ceil(reference.step) == reference.values.len() && far < 1e-3;
        if same { Ok(()) } else { Err(format!("{name}: {} values, off by {far}", values.len())) }
    }
}

/// What onnxruntime answers in Python: every `step`th value of the first output.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reference {
    input: String,
    shape: Vec<i64>,
    step: usize,
    values: Vec<f32>,
}

/// What onnxruntime answers with one file.
pub(crate) fn reference_of(file: &Path) -> Reference {
    let all: Vec<Reference> =
        serde_json::from_str(&write_models(&["answers".as_ref(), file.as_os_str()])).unwrap();
    all.into_iter().next().unwrap()
}

/// `count` folders of one ONNX file each: real networks, and others of seeded layers.
pub(crate) fn models(root: &Path, count: usize) -> Vec<(String, Reference)> {
    let mut files = common::models("v6");
    files.extend(common::models("v4"));
    files.push(common::orientation());
    files.truncate(count);
    for seed in files.len()..count {
        let (path, seed) = (root.join(format!("{seed}.onnx")), seed.to_string());
        write_models(&["layers".as_ref(), path.as_ref(), "--seed".as_ref(), seed.as_ref()]);
        files.push(path);
    }
    let arguments: Vec<&OsStr> =
        std::iter::once(OsStr::new("answers")).chain(files.iter().map(|f| f.as_os_str())).collect();
    let references: Vec<Reference> = serde_json::from_str(&write_models(&arguments)).unwrap();
    let named = |(n, file): (usize, &PathBuf)| {
        let name = format!("m{n:02}");
        common::folder_of(&root.join("models"), &name, std::slice::from_ref(file));
        name
    };
    files.iter().enumerate().map(named).zip(references).collect()
}
