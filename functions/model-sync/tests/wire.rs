//! The real binary against an S3 server and a Lambda runtime on the wire.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails there and then"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_contract::sync::{ModelState, SyncEvent};
use larder_contract::{Digest, layout};
use support::lambda::{Runtime, environment, request};
use support::{Bucket, Fault, binary, copy};
use tokio::sync::Semaphore;

const MIB: usize = 1 << 20;
const OBJECTS: &[(&str, usize)] =
    &[("ocr/", 0), ("ocr/det/model.onnx", 9 * MIB + 5), ("ocr/keys.txt", 300), ("ocr/rec.onnx", 2 * MIB)];
const PARTS: usize = 10 + 1 + 2;

/// Runs without blocking the server, for at most a minute.
async fn output(mut command: Command) -> Output {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(Duration::from_mins(1), running).await.expect("ends in time").unwrap()
}

/// Starts a process that ends with the test, however that ends; killing it is a SIGKILL.
fn start(command: Command) -> tokio::process::Child {
    tokio::process::Command::from(command).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

fn assert_copied(bucket: &Bucket, output: &Output) -> serde_json::Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = PathBuf::from(summary["directory"].as_str().unwrap());
    for (key, bytes) in bucket.objects.lock().unwrap().iter().filter(|(key, _)| !key.ends_with('/')) {
        let path = folder.join(key.strip_prefix("ocr/").unwrap());
        assert!(std::fs::read(&path).unwrap() == *bytes, "{} differs", path.display());
    }
    assert_eq!(summary["files"], 3);
    assert_eq!(summary["bytes"], 11 * MIB + 305);
    summary
}

/// The SDK's first calls show what all have in common, unless the bucket wants to hear of the SDK alone.
#[tokio::test(flavor = "multi_thread")]
async fn most_calls_are_made_without_the_sdk() {
    const FILES: usize = 200;
    for wants_the_sdk in [false, true] {
        let keys: Vec<String> = (0..FILES).map(|n| format!("ocr/ü+=&%2F{n}.onnx")).collect();
        let objects: Vec<(&str, usize)> =
            keys.iter().zip(300..).map(|(key, size)| (key.as_str(), size)).collect();
        let bucket = Arc::new(Bucket { wants_the_sdk, ..Bucket::new(&objects) });
        let url = bucket.serve().await;
        let dir = tempfile::tempdir().unwrap();
        let output = output(copy(&url, "ocr/", dir.path())).await;
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let folder = PathBuf::from(summary["directory"].as_str().unwrap());
        for (key, bytes) in bucket.objects.lock().unwrap().iter() {
            assert!(std::fs::read(folder.join(&key["ocr/".len()..])).unwrap() == *bytes, "{key} differs");
        }
        let (gets, of_the_sdk) =
            (bucket.gets.load(Ordering::SeqCst), bucket.of_the_sdk.load(Ordering::SeqCst));
        assert_eq!((gets, &summary["retries"]), (FILES, &serde_json::json!(0)));
        if wants_the_sdk {
            assert_eq!(of_the_sdk, FILES);
        } else {
            // Those that began before the first was sent.
            assert!((1..=32).contains(&of_the_sdk), "{of_the_sdk} of {FILES}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_through_faults_and_sums_up() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    bucket.faults.lock().unwrap().extend([(0, Fault::SlowDown), (4, Fault::Reset), (5, Fault::SlowDown)]);
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let summary = assert_copied(&bucket, &output(copy(&url, "ocr", dir.path())).await);
    assert_eq!(summary["partsFetched"], PARTS);
    assert_eq!(summary["retries"], 3);
    assert_eq!(bucket.gets.load(Ordering::SeqCst), PARTS + 3);

    let summary = assert_copied(&bucket, &output(copy(&url, "ocr/", dir.path())).await);
    assert_eq!(summary["alreadyPresent"], true);
    assert_eq!(bucket.gets.load(Ordering::SeqCst), PARTS + 3);

    let mut status = binary();
    status.arg("status").arg(dir.path());
    let shown: serde_json::Value = serde_json::from_slice(&output(status).await.stdout).unwrap();
    assert_eq!((&shown[0]["revision"], &shown[0]["state"]), (&summary["revision"], &"Ready".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_goes_on_and_fetches_nothing_twice() {
    let mut bucket = Bucket::new(OBJECTS);
    bucket.open = Semaphore::new(5);
    let bucket = Arc::new(bucket);
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(copy(&url, "ocr/", dir.path()));
    until("five parts are in the journal", || journal_parts(dir.path()) == 5).await;
    child.kill().await.unwrap();

    bucket.open.add_permits(1_000);
    let before = bucket.gets.load(Ordering::SeqCst);
    let summary = assert_copied(&bucket, &output(copy(&url, "ocr/", dir.path())).await);
    assert_eq!(summary["partsAlreadyPresent"], 5);
    assert_eq!(bucket.gets.load(Ordering::SeqCst) - before, PARTS - 5);
}

/// How many parts the journal of the only revision in flight lists.
fn journal_parts(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir.join("staging")) else { return 0 };
    let journals = entries.filter_map(|e| std::fs::read_to_string(e.ok()?.path().join("journal")).ok());
    journals.map(|text| text.lines().filter(|line| line.starts_with("part ")).count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_named() {
    let run = async |bucket: Bucket, url_of: &str| {
        let bucket = Arc::new(bucket);
        let url = bucket.serve().await;
        let dir = tempfile::tempdir().unwrap();
        let mut command = binary();
        command.args(["copy", url_of]).arg(dir.path()).args(["--endpoint-url", &url, "--part-mib", "1"]);
        let output = output(command).await;
        assert!(!dir.path().join("revisions").exists());
        (output.status.code(), String::from_utf8(output.stderr).unwrap().trim_end().to_owned())
    };
    let check = |got: (Option<i32>, String), words: &str| {
        assert_eq!(got.0, Some(1));
        assert_eq!(got.1, format!("larder-model-sync: {words}"));
    };
    check(
        run(Bucket::new(OBJECTS), "s3://models/none/").await,
        "s3://models/none/ holds no files; put the model's files there or correct the address",
    );
    check(
        run(Bucket::new(OBJECTS), "s3://other/ocr/").await,
        "ListObjectsV2 s3://other/ocr/: the bucket does not exist; create it or correct the bucket's name \
         (NoSuchBucket, request id REQ1)",
    );
    check(
        run(Bucket { is_denied: true, ..Bucket::new(OBJECTS) }, "s3://models/ocr/").await,
        "ListObjectsV2 s3://models/ocr/: access is denied; allow this role s3:ListBucket on the bucket and \
         s3:GetObject on its objects (and kms:Decrypt when they are encrypted with a key) (AccessDenied, request \
         id REQ1)",
    );
    check(
        run(Bucket::new(&[("ocr/../x", 1)]), "s3://models/ocr/").await,
        "s3://models/ocr/: object key \"ocr/../x\" cannot be a file in the model's folder: it has a . or .. \
         segment; rename or remove the object",
    );
    let replaced = Bucket::new(OBJECTS);
    replaced.faults.lock().unwrap().insert(3, Fault::Replaced);
    let (code, words) = run(replaced, "s3://models/ocr/").await;
    assert!(code == Some(1) && words.contains("was replaced or removed while it was copied"), "{words}");
}

/// The server tells no `ETag`s, and takes no request for an object without `If-Match`: what keeps two contents apart is
/// the condition that each request bears.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_for_an_object_says_which_content_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket { tells_no_etag: true, ..Bucket::new(OBJECTS) });
    let url = bucket.serve().await;
    bucket.faults.lock().unwrap().insert(6, Fault::Swapped);
    let replaced = output(copy(&url, "ocr/", dir.path())).await;
    let words = String::from_utf8_lossy(&replaced.stderr);
    assert_eq!(replaced.status.code(), Some(1), "{words}");
    assert!(words.contains("was replaced or removed while it was copied (PreconditionFailed"), "{words}");
    assert!(!dir.path().join("revisions").exists());
    assert_copied(&bucket, &output(copy(&url, "ocr/", dir.path())).await);

    // Of an upload in parts, each part's length is asked for, too.
    let dir = tempfile::tempdir().unwrap();
    let uploaded_in = Some(3 * MIB / 2);
    let bucket = Arc::new(Bucket { tells_no_etag: true, uploaded_in, ..Bucket::new(OBJECTS) });
    let url = bucket.serve().await;
    assert_copied(&bucket, &output(copy(&url, "ocr/", dir.path())).await);
    assert!(bucket.part_lengths.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_cut_short_is_asked_for_again() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    bucket.calls.lock().unwrap().extend([Fault::Truncated, Fault::Reset, Fault::SlowDown]);
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    assert_copied(&bucket, &output(copy(&url, "ocr/", dir.path())).await);
    assert!(bucket.calls.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_2() {
    for args in [&["copy", "/not/s3", "dir"][..], &["copy"], &["fly"], &[]] {
        let mut command = binary();
        command.args(args);
        assert_eq!(output(command).await.status.code(), Some(2), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_lambda_it_answers_events() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    // What the controller would compute from its own listing.
    let copied = output(copy(&url, "ocr/", &dir.path().join("by-hand"))).await;
    let revision: Digest = assert_copied(&bucket, &copied)["revision"].as_str().unwrap().parse().unwrap();
    let request = request("ocr/", revision);

    let runtime = Arc::new(Runtime::default());
    runtime.events.lock().unwrap().extend([
        SyncEvent::Status(request.clone()),
        SyncEvent::Copy(request.clone()),
        SyncEvent::Status(request.clone()),
    ]);
    let root = dir.path().join("root");
    let mut function = binary();
    function
        .envs(environment(&runtime.serve().await))
        .env("AWS_ENDPOINT_URL", &url)
        .env("LARDER_ROOT", &root);
    let mut child = start(function);
    until("three answers", || runtime.answers.lock().unwrap().len() == 3).await;
    child.kill().await.unwrap();

    let answers = runtime.answers.lock().unwrap();
    assert_eq!(answers[0].models[0].state, ModelState::Pending);
    assert_eq!(answers[1].models[0].state, ModelState::Ready, "{answers:?}");
    assert!(!answers[0].manifest_present && answers[1].manifest_present);
    assert_eq!(answers[2].models, answers[1].models);
    assert!(answers[2].manifest_present && !answers[2].running);
    let inventories: Vec<_> = answers.iter().map(|answer| answer.inventory.as_ref()).collect();
    assert!(inventories[0].is_some_and(|empty| empty.revisions.is_empty()), "{inventories:?}");
    assert_eq!(inventories[1], None, "a copy's answer is not kept waiting by a look at every file");
    let stored = &inventories[2].expect("a status tells what is stored").revisions;
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!((&stored[0].revision, stored[0].is_complete), (&request.manifest.models[0].revision, true));
    assert!(layout::manifest_path(&root, &request.manifest.digest()).is_file());
}
