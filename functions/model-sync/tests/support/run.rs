//! The real binary, copying from an address.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// `copy` of an address.
pub(crate) fn copy_from(address: &str, dir: &Path) -> Command {
    let mut command = super::binary();
    command.arg("copy").arg(address).arg(dir).args(["--json", "--part-mib", "1", "--parts", "4"]);
    command
}

/// Runs without blocking the server, for at most a minute.
pub(crate) async fn output(mut command: Command) -> Output {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(Duration::from_mins(1), running).await.unwrap().unwrap()
}

/// The summary of a copy that must have brought exactly these files, or what it said instead.
pub(crate) async fn copied(command: Command, files: &[(&str, &[u8])]) -> Result<serde_json::Value, String> {
    let output = output(command).await;
    if output.status.code() != Some(0) {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = PathBuf::from(summary["directory"].as_str().unwrap());
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let wanted: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    assert!(found == wanted, "{:?} differs from {:?}", found.keys(), wanted.keys());
    Ok(summary)
}

/// Bytes that are not the same for two seeds.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    larder_contract::Digest::of(bytes).hex()
}
