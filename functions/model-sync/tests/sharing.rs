//! A file that another revision has is linked: only what changed is fetched, and damage does not spread.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use support::{Bucket, binary, copy};

const MIB: usize = 1 << 20;
const OBJECTS: &[(&str, usize)] = &[
    ("ocr/0.onnx", 3 * MIB + 5),
    ("ocr/1.txt", 10),
    ("ocr/2.txt", 200),
    ("ocr/3.txt", 3_000),
    ("ocr/4.txt", 40_000),
    ("ocr/5.txt", 500_000),
    ("ocr/6/a.onnx", 2 * MIB),
    ("ocr/6/b.onnx", MIB + 1),
    ("ocr/8.txt", 8),
    ("ocr/9.txt", 9),
];

struct Copied {
    summary: Value,
    folder: PathBuf,
    /// The keys that were read, once for each read.
    fetched: Vec<String>,
}

async fn run(bucket: &Bucket, url: &str, dir: &Path) -> Copied {
    bucket.asked.lock().unwrap().clear();
    let mut command = copy(url, "ocr/", dir);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = PathBuf::from(summary["directory"].as_str().unwrap());
    for (key, bytes) in bucket.objects.lock().unwrap().iter() {
        let path = folder.join(key.strip_prefix("ocr/").unwrap());
        assert!(fs::read(&path).unwrap() == *bytes, "{key} differs");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444, "{key}");
    }
    let fetched = bucket.asked.lock().unwrap().iter().map(|(key, _)| key.clone()).collect();
    Copied { summary, folder, fetched }
}

/// How many of the revisions below a folder are intact, of all.
async fn intact(dir: &Path) -> (usize, usize) {
    let mut command = binary();
    command.arg("verify").arg(dir).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let verdicts: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    (verdicts.iter().filter(|verdict| verdict["state"] == "Intact").count(), verdicts.len())
}

/// Other content of the same length.
fn change(bucket: &Bucket, key: &str) {
    bucket.objects.lock().unwrap().get_mut(key).unwrap()[0] ^= 1;
}

fn flip(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 5).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_files_with_one_changed_one_is_fetched() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let first = run(&bucket, &url, dir.path()).await;
    assert_eq!(first.summary["filesLinked"], 0);

    change(&bucket, "ocr/3.txt");
    let second = run(&bucket, &url, dir.path()).await;
    assert_eq!(second.fetched, ["ocr/3.txt"]);
    assert_eq!((&second.summary["filesLinked"], &second.summary["partsFetched"]), (&9.into(), &1.into()));
    for (key, _) in OBJECTS {
        let name = key.strip_prefix("ocr/").unwrap();
        let node = |copied: &Copied| fs::metadata(copied.folder.join(name)).unwrap().ino();
        assert_eq!(node(&first) == node(&second), *key != "ocr/3.txt", "{key}");
    }
    assert_eq!(intact(dir.path()).await, (2, 2));

    // By content, not by name: an object that was moved is not fetched either.
    let moved = bucket.objects.lock().unwrap().remove("ocr/0.onnx").unwrap();
    bucket.objects.lock().unwrap().insert("ocr/elsewhere/model.onnx".to_owned(), moved);
    assert_eq!(run(&bucket, &url, dir.path()).await.fetched, Vec::<String>::new());

    // The links outlive the revision that they were made from.
    fs::remove_dir_all(&first.folder).unwrap();
    change(&bucket, "ocr/8.txt");
    assert_eq!(run(&bucket, &url, dir.path()).await.fetched, ["ocr/8.txt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_cannot_be_linked_is_fetched() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let first = run(&bucket, &url, dir.path()).await;
    flip(&first.folder.join("6/b.onnx"));
    flip(&first.folder.join("9.txt"));
    fs::remove_file(first.folder.join("2.txt")).unwrap();
    let target = first.folder.join("5.txt");
    fs::rename(&target, dir.path().join("aside")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("aside"), &target).unwrap();

    change(&bucket, "ocr/3.txt");
    let second = run(&bucket, &url, dir.path()).await;
    let mut fetched = second.fetched.clone();
    fetched.sort();
    fetched.dedup();
    assert_eq!(fetched, ["ocr/2.txt", "ocr/3.txt", "ocr/5.txt", "ocr/6/b.onnx", "ocr/9.txt"]);
    assert_eq!(second.summary["filesLinked"], 5);
    assert_eq!(intact(dir.path()).await, (1, 2));
}

/// Ended at any instant, the shared files of the first revision stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_links_it_harms_nothing() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    run(&bucket, &url, dir.path()).await;
    let mut chance = fastrand::Rng::with_seed(7);
    for round in 0..12 {
        change(&bucket, OBJECTS[round % 5].0);
        for _ in 0..3 {
            let mut command = tokio::process::Command::from(copy(&url, "ocr/", dir.path()));
            command.stdout(std::process::Stdio::null()).kill_on_drop(true);
            let child = command.spawn().unwrap();
            let limit = Duration::from_micros(chance.u64(5_000..80_000));
            tokio::time::timeout(limit, child.wait_with_output()).await.ok();
        }
        run(&bucket, &url, dir.path()).await;
    }
    let (whole, all) = intact(dir.path()).await;
    assert_eq!(whole, all);
    assert!(bucket.gets.load(Ordering::SeqCst) < 13 + 12 * 8, "{:?}", bucket.gets);
}

/// Of equal files in one model one is fetched, and the others are links to it; not those that other names have, too.
#[tokio::test(flavor = "multi_thread")]
async fn of_equal_files_in_one_model_one_is_fetched() {
    let objects =
        [("ocr/a", 3 * MIB), ("ocr/b", 300), ("ocr/c/a", 3 * MIB), ("ocr/d", 3 * MIB), ("ocr/e", 300)];
    let bucket = Arc::new(Bucket::new(&objects));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let first = run(&bucket, &url, dir.path()).await;
    let mut fetched = first.fetched.clone();
    fetched.dedup();
    fetched.sort();
    fetched.dedup();
    assert_eq!((first.fetched.len(), fetched), (4, vec!["ocr/a".to_owned(), "ocr/b".to_owned()]));
    assert_eq!(
        (&first.summary["filesLinked"], &first.summary["bytesLinked"]),
        (&3.into(), &(2 * 3 * MIB + 300).into())
    );
    let node = |name: &str| fs::metadata(first.folder.join(name)).unwrap().ino();
    assert!(node("a") == node("c/a") && node("a") == node("d") && node("b") == node("e"));
    assert_eq!(intact(dir.path()).await, (1, 1));

    // The first goes its own way: the others are links to those of the revision before.
    change(&bucket, "ocr/a");
    assert_eq!(run(&bucket, &url, dir.path()).await.fetched, ["ocr/a"; 3]);
    assert_eq!(intact(dir.path()).await, (2, 2));
}

/// Equal lengths and `ETag`s are not enough: of what the store keeps no checksum, nothing is shared.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_checksum_nothing_is_linked() {
    let objects = [("ocr/a", 2 * MIB), ("ocr/b", 2 * MIB)];
    let bucket = Arc::new(Bucket { keeps_no_checksum: true, ..Bucket::new(&objects) });
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let copied = run(&bucket, &url, dir.path()).await;
    assert_eq!((copied.fetched.len(), &copied.summary["filesLinked"]), (4, &0.into()));
}
