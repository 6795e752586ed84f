//! `verify` finds every kind of damage that a disk or a hand can do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::{Bucket, binary, copy};

const OBJECTS: &[(&str, usize)] = &[
    ("ocr/det/model.onnx", (3 << 20) + 5),
    ("ocr/keys.txt", 300),
    ("ocr/empty", 0),
    ("ocr/rec.onnx", 2 << 20),
];

async fn output(mut command: std::process::Command) -> (Option<i32>, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn verify(dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = binary();
    command.arg("verify").arg(dir).args(more);
    output(command).await
}

/// A fresh copy, spoiled: the exit code, the state, and each problem's path and kind.
async fn check(url: &str, spoil: impl Fn(&Path, &Path)) -> (Option<i32>, String, Vec<(String, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let (code, summary, said) = output(copy(url, "ocr/", dir.path())).await;
    assert_eq!(code, Some(0), "{said}");
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let folder = PathBuf::from(summary["directory"].as_str().unwrap());
    let record = folder.with_extension("files.jsonl");
    assert!(record.is_file());
    // As root, modes stop nobody; else the owner must give himself the right.
    for path in [&folder.join("keys.txt"), &folder.join("det/model.onnx"), &record] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    spoil(&folder, &record);
    let (code, text, _) = verify(dir.path(), &["--json"]).await;
    let verdicts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let problems = verdicts[0]["problems"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let problems = problems.map(|problem| (text(&problem["path"]), text(&problem["what"]))).collect();
    (code, text(&verdicts[0]["state"]), problems)
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Does harm to a revision's folder or record.
type Spoil = fn(&Path, &Path);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_intact_and_every_damage_is_named() {
    let url = Arc::new(Bucket::new(OBJECTS)).serve().await;
    assert_eq!(check(&url, |_, _| ()).await, (Some(0), "Intact".to_owned(), vec![]));
    let cases: [(Spoil, &str, &str); 9] = [
        (|folder, _| flip(&folder.join("det/model.onnx"), 0), "det/model.onnx", "content"),
        (|folder, _| flip(&folder.join("det/model.onnx"), (3 << 20) + 4), "det/model.onnx", "content"),
        (|folder, _| flip(&folder.join("keys.txt"), 150), "keys.txt", "content"),
        (|folder, _| fs::write(folder.join("keys.txt"), b"x").unwrap(), "keys.txt", "length"),
        (|folder, _| fs::remove_file(folder.join("rec.onnx")).unwrap(), "rec.onnx", "missing"),
        (
            |folder, _| {
                fs::remove_file(folder.join("empty")).unwrap();
                fs::create_dir(folder.join("empty")).unwrap();
            },
            "empty",
            "missing",
        ),
        (|folder, _| fs::write(folder.join("det/new"), b"").unwrap(), "det/new", "unexpected"),
        (
            |folder, _| {
                fs::remove_file(folder.join("keys.txt")).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", folder.join("keys.txt")).unwrap();
            },
            "keys.txt",
            "missing",
        ),
        (|_, record| flip(record, 200), "", "record"),
    ];
    for (spoil, path, what) in cases {
        let (code, state, problems) = check(&url, spoil).await;
        assert_eq!(
            (code, state.as_str(), problems.len()),
            (Some(3), "Damaged", 1),
            "{path} {what} {problems:?}"
        );
        assert!(problems[0].0.ends_with(path) && problems[0].1 == what, "{problems:?}");
    }
    // A revision of before there were records can be neither right nor wrong.
    let unrecorded = check(&url, |_, record| fs::remove_file(record).unwrap()).await;
    assert_eq!(unrecorded, (Some(1), "Unrecorded".to_owned(), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_to_people_too() {
    let url = Arc::new(Bucket::new(OBJECTS)).serve().await;
    let dir = tempfile::tempdir().unwrap();
    let empty = verify(dir.path(), &[]).await;
    assert!(empty.0 == Some(1) && empty.2.contains("holds no revisions"), "{empty:?}");
    let (_, summary, _) = output(copy(&url, "ocr/", dir.path())).await;
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let revision = summary["revision"].as_str().unwrap();
    let want = format!("{revision}: intact, 4 files, {} bytes\n", (5 << 20) + 305);
    assert_eq!(verify(dir.path(), &["--revision", revision]).await, (Some(0), want, String::new()));

    let file = PathBuf::from(summary["directory"].as_str().unwrap()).join("keys.txt");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    flip(&file, 7);
    let (code, text, said) = verify(dir.path(), &[]).await;
    assert_eq!(code, Some(3));
    assert!(text.contains(": damaged\n  keys.txt: want CRC64NVME "), "{text}");
    assert!(said.contains("1 of 1 revisions are damaged; copy them again"), "{said}");
    let other = verify(dir.path(), &["--revision", &"0".repeat(64)]).await;
    assert!(other.0 == Some(1) && other.2.contains("cannot read the folder "), "{other:?}");
}
