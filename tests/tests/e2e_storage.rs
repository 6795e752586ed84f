//! A revision's whole life on the stack: copied and shared, prepared, not needed any more and collected, damaged and
//! replaced by another copy. Only time is helped along: marks and copies are made to look older than they are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, condition, small_endpoint, tensor};
use larder_tests::stack::Timings;
use serde_json::{Value, json};

const NAME: &str = "kept";

/// Collected after a quarter of an hour, read again after an hour, and no URL.
fn object() -> Value {
    let mut object = small_endpoint(NAME);
    object["spec"]["storage"] = json!({
        "efs": {"managed": {}},
        "retainRevisions": 0,
        "collectAfterSeconds": 900,
        "verifyEverySeconds": 3600
    });
    object["spec"]["rollout"] = json!({"historyLimit": 0});
    object["spec"].as_object_mut().unwrap().remove("expose");
    object
}

async fn put_notes(scenario: &Scenario, text: &str) {
    let put = scenario.stack.s3().put_object().bucket(BUCKET).key("kept/notes.txt");
    put.body(text.as_bytes().to_vec().into()).send().await.unwrap();
}

/// What nothing needs bears its mark.
fn is_marked(endpoint: &InferenceEndpoint) -> bool {
    let storage = endpoint.status.as_ref().and_then(|status| status.storage.as_ref());
    storage.is_some_and(|storage| storage.collectable.len() == 1)
}

fn freed(endpoint: &InferenceEndpoint) -> i64 {
    let storage = endpoint.status.as_ref().and_then(|status| status.storage.as_ref());
    storage.and_then(|storage| storage.freed_bytes).unwrap_or_default()
}

/// The folders of the revisions.
fn revisions(root: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(root.join("revisions")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// As if an hour more had passed since everything was marked.
fn age_marks(root: &Path) {
    for entry in fs::read_dir(root.join("marks")).unwrap() {
        let path = entry.unwrap().path();
        let since: u64 = fs::read_to_string(&path).unwrap().parse().unwrap();
        fs::write(&path, (since - 3_600).to_string()).unwrap();
    }
}

/// As if two hours more had passed since a revision was copied.
fn age_copy(revision: &Path) {
    let file = fs::File::open(revision.with_extension("json")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
}

#[tokio::test]
async fn a_revision_is_shared_collected_read_again_and_replaced() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();
    scenario.upload_det(BUCKET, "kept/", Ocr::V4).await.unwrap();
    put_notes(&scenario, "the first notes").await;
    scenario.apply(&object()).await.unwrap();
    let endpoint = scenario.until(NAME, "to be ready", 120, |it| is_ready_at(it, "1")).await.unwrap();
    let arn = endpoint.status.unwrap().storage.unwrap().access_point_arn.unwrap();
    let root = scenario.stack.access_point_dir(arn.rsplit('/').next().unwrap());
    let first = revisions(&root).pop_first().unwrap();

    // One of two files changes: it alone is fetched, the other one is linked.
    scenario.stack.clear_calls();
    put_notes(&scenario, "the second notes").await;
    scenario
        .until(NAME, "to serve the second version", 120, |it| is_ready_at(it, "2") && is_marked(it))
        .await
        .unwrap();
    assert_eq!(scenario.stack.count("s3", "GetObject"), 1);
    let second = revisions(&root).into_iter().find(|it| *it != first).unwrap();
    let node = |revision: &Path| fs::metadata(revision.join("model.onnx")).unwrap().ino();
    assert_eq!(node(&first), node(&second));

    // Not needed for long enough, the first one goes; what it shared stays.
    age_marks(&root);
    let endpoint =
        scenario.until(NAME, "to have collected the first", 120, |it| freed(it) > 0).await.unwrap();
    assert_eq!(revisions(&root), BTreeSet::from([second.clone()]));
    assert_eq!(freed(&endpoint), 15, "its own file, and no byte that is shared");
    assert_eq!(fs::read(second.join("notes.txt")).unwrap(), b"the second notes");
    scenario.until(NAME, "to be as wanted", 120, |it| is_ready_at(it, "2") && !is_marked(it)).await.unwrap();

    // Damaged on the disk, and due to be read again.
    let notes = second.join("notes.txt");
    fs::set_permissions(&notes, fs::Permissions::from_mode(0o644)).unwrap();
    fs::OpenOptions::new().write(true).open(&notes).unwrap().write_all_at(b"x", 3).unwrap();
    age_copy(&second);
    let endpoint = scenario
        .until(NAME, "to serve another copy", 120, |it| is_ready_at(it, "3") && is_marked(it))
        .await
        .unwrap();
    let third = revisions(&root).into_iter().find(|it| *it != second).unwrap();
    assert_eq!(fs::read(third.join("notes.txt")).unwrap(), b"the second notes");
    assert_eq!(node(&second), node(&third), "what was right is shared");
    let status = endpoint.status.as_ref().unwrap();
    let digest = status.models[0].desired_digest.as_deref().unwrap();
    assert!(second.ends_with(digest.trim_start_matches("sha256:")), "the content is the same: {digest}");
    age_marks(&root);
    scenario
        .until(NAME, "to have collected the damaged one", 120, |it| {
            !is_marked(it) && condition(it, "StorageMaintained").is_some_and(|(status, ..)| status == "True")
        })
        .await
        .unwrap();
    assert_eq!(revisions(&root), BTreeSet::from([third]));

    let events = scenario.kubectl(&["get", "events", "-n", NAMESPACE, "-o", "json"]).await.unwrap();
    let events: Value = serde_json::from_str(&events).unwrap();
    let reasons: BTreeSet<&str> =
        events["items"].as_array().unwrap().iter().filter_map(|event| event["reason"].as_str()).collect();
    assert!(reasons.contains("Collected") && reasons.contains("Damaged"), "{reasons:?}");
    let wide = scenario.kubectl(&["get", "iep", NAME, "-n", NAMESPACE, "-o", "wide"]).await.unwrap();
    assert!(wide.contains("STORAGE") && wide.contains("MiB"), "{wide}");
    controller.stop().await;
    scenario.stack.stop().await;
}

/// Where one invocation is said to be slow, several of them share a model: each is started once, each part is fetched once,
/// and the last to finish makes the revision whole.
#[tokio::test]
async fn a_model_is_spread_among_invocations() {
    const WEIGHTS: usize = 80 << 20;
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    // In half of 15 minutes one copies 28.1 MiB, so four copy a little more than 80.
    let controller = scenario.controller("larder", &["--sync-bytes-per-second", "65536"]).await.unwrap();
    scenario.upload_det(BUCKET, "kept/", Ocr::V4).await.unwrap();
    let mut weights = vec![0; WEIGHTS];
    fastrand::Rng::with_seed(1).fill(&mut weights);
    let put = scenario.stack.s3().put_object().bucket(BUCKET).key("kept/weights.bin");
    put.body(weights.clone().into()).send().await.unwrap();
    let objects = scenario.stack.s3().list_objects_v2().bucket(BUCKET).prefix("kept/").send().await.unwrap();
    let sizes = objects.contents().iter().map(|object| object.size().unwrap().unsigned_abs());
    let parts: u64 = sizes.map(|size| size.div_ceil(8 << 20).max(1)).sum();

    scenario.stack.clear_calls();
    scenario.apply(&object()).await.unwrap();
    let endpoint = scenario.until(NAME, "to be ready", 180, |it| is_ready_at(it, "1")).await.unwrap();
    assert_eq!(scenario.stack.count("s3", "GetObject"), parts);
    let log = fs::read_to_string(&controller.log).unwrap();
    for worker in 1..=4 {
        let started = format!("worker {worker} of 4: ");
        assert_eq!(log.matches(&started).count(), 1, "{started:?} in {log}");
    }

    let arn = endpoint.status.unwrap().storage.unwrap().access_point_arn.unwrap();
    let root = scenario.stack.access_point_dir(arn.rsplit('/').next().unwrap());
    let revision = revisions(&root).pop_first().unwrap();
    assert!(
        fs::read(revision.join("weights.bin")).unwrap() == weights,
        "the bytes are not those of the source"
    );
    let mut left = fs::read_dir(root.join("staging")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(left.find(|path| path.is_dir()), None, "no part is left over");
    controller.stop().await;
    scenario.stack.stop().await;
}

/// What was made whole of revisions to start faster.
fn prepared(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("prepared")) else { return Vec::new() };
    let records = entries.map(|entry| entry.unwrap().path().join("prepared.json"));
    records.filter(|record| record.is_file()).collect()
}

/// Nobody invokes it but the controller, before its first request.
#[tokio::test]
async fn a_version_without_warm_sandboxes_prepares_its_models() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    scenario.upload_det(BUCKET, "prepared/", Ocr::V4).await.unwrap();
    let mut object = small_endpoint("prepared");
    object["spec"]["rollout"] = json!({"prepareModels": true});
    let controller = scenario.controller("larder", &[]).await.unwrap();
    scenario.apply(&object).await.unwrap();
    let endpoint = scenario.until("prepared", "to be ready", 120, |it| is_ready_at(it, "1")).await.unwrap();
    let status = endpoint.status.unwrap();
    let arn = status.storage.unwrap().access_point_arn.unwrap();
    let root = scenario.stack.access_point_dir(arn.rsplit('/').next().unwrap());
    let end = Instant::now() + Duration::from_mins(2);
    while prepared(&root).is_empty() {
        assert!(Instant::now() < end, "nothing is prepared");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let record: Value = serde_json::from_slice(&fs::read(&prepared(&root)[0]).unwrap()).unwrap();
    assert!(record.to_string().contains("model.onnx"), "{record}");
    let body = json!({"inputs": [tensor()]}).to_string();
    let (url, path) = (status.url.unwrap(), "v2/models/det/infer");
    let answer = scenario.post(&url, path, "application/json", body.into()).await.unwrap();
    assert_eq!(answer.status, 200);
    controller.stop().await;
    scenario.stack.stop().await;
}
