//! Clusters and namespaces that go, on the stack: one is made again from Git and takes over what it left in AWS, the
//! other is deleted with what is in it. And an endpoint that is suspended.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail at once"
)]

#[path = "../../functions/model-sync/tests/support/registry.rs"]
mod registry;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use larder_crds::InferenceEndpoint;
use larder_crds::status::StorageStatus;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{
    BUCKET, Controller, NAMESPACE, Ocr, Scenario, condition, small_endpoint, tensor,
};
use larder_tests::stack::{Calls, Timings};
use registry::Registry;
use serde_json::{Value, json};

/// What Git holds of an endpoint, and the version that it comes to.
struct Kept {
    object: Value,
    version: &'static str,
}

fn kept(name: &str, version: &'static str, change: impl FnOnce(&mut Value)) -> Kept {
    let mut object = small_endpoint(name);
    object["spec"]["adoption"] = json!("Adopt");
    change(&mut object["spec"]);
    Kept { object, version }
}

/// Three endpoints with nothing in common: a public URL and warm sandboxes; S3's events and a URL for the account; a
/// registry, a folder of its own, and no URL.
fn repository_of_git(registry: &Registry) -> [Kept; 3] {
    let artifact = registry.address("artifact").replace("oci://", "");
    [
        kept("public", "2", |spec| spec["capacity"] = json!({"provisioned": 1, "reserved": 5})),
        kept("heard", "1", |spec| {
            spec["models"][0]["source"]["s3"]["events"] = json!("EventBridge");
            spec["expose"] = json!({"functionUrl": {"authType": "AWS_IAM"}});
        }),
        kept("gathered", "1", |spec| {
            spec["models"][0]["source"] = json!({"oci": {"reference": artifact}});
            let folder = json!({"path": "/models/gathered", "uid": 1001, "gid": 1001, "permissions": "0700"});
            spec["storage"]["efs"]["accessPoint"] = folder;
            spec.as_object_mut().unwrap().remove("expose");
        }),
    ]
}

/// Writes the manifests as a repository has them.
fn commit(dir: &Path, all: &[Kept]) -> PathBuf {
    let folder = dir.join("git");
    std::fs::create_dir_all(&folder).unwrap();
    for it in all {
        let name = it.object["metadata"]["name"].as_str().unwrap();
        std::fs::write(folder.join(format!("{name}.yaml")), serde_yaml::to_string(&it.object).unwrap())
            .unwrap();
    }
    folder
}

/// What must be the same afterwards.
fn identity(endpoint: &InferenceEndpoint) -> impl PartialEq + std::fmt::Debug + use<> {
    let status = endpoint.status.clone().unwrap();
    let StorageStatus { file_system_id, access_point_arn, mount_targets, .. } = status.storage.unwrap();
    let digests: Vec<_> = status.models.into_iter().map(|it| (it.name, it.active_digest)).collect();
    let versions: Vec<_> = status.history.into_iter().map(|it| it.version).collect();
    (
        status.url,
        status.function.map(|it| (it.arn, it.version, it.revision_id)),
        status.traffic,
        versions,
        digests,
        (file_system_id, access_point_arn, mount_targets),
    )
}

async fn all_ready(scenario: &Scenario, all: &[Kept]) -> Vec<InferenceEndpoint> {
    let mut ready = Vec::new();
    for it in all {
        let name = it.object["metadata"]["name"].as_str().unwrap();
        ready.push(scenario.until(name, "to be ready", 180, |e| is_ready_at(e, it.version)).await.unwrap());
    }
    ready
}

#[tokio::test]
async fn a_cluster_that_is_made_again_from_git_takes_over_everything_and_changes_nothing_but_tags() {
    let mut scenario = Scenario::start(Timings::default()).await.unwrap();
    let registry = Registry::start(false).await;
    let [(_, model), _] = scenario.models(Ocr::V4);
    registry.push("artifact", &[("model.onnx", &std::fs::read(model).unwrap())]).await;
    for prefix in ["public/", "heard/"] {
        scenario.upload_det(BUCKET, prefix, Ocr::V4).await.unwrap();
    }
    let all = repository_of_git(&registry);
    let git = commit(scenario.stack.dir(), &all).display().to_string();
    let args = ["--cluster-id", "acme", "--allow-source-host", &registry.host];
    let controller = scenario.controller("larder", &args).await.unwrap();
    scenario.kubectl(&["apply", "-f", &git]).await.unwrap();
    scenario.until("public", "to be ready", 180, |it| is_ready_at(it, "1")).await.unwrap();
    // One of them has a history.
    scenario.upload_det(BUCKET, "public/more-", Ocr::V4).await.unwrap();
    let before = all_ready(&scenario, &all).await;
    let has_settled =
        |it: &InferenceEndpoint| it.status.as_ref().is_some_and(|status| status.plan.is_empty());
    for it in &all {
        let name = it.object["metadata"]["name"].as_str().unwrap();
        scenario.until(name, "to have nothing left to do", 60, has_settled).await.unwrap();
    }

    // The cluster is lost, with its objects, their status and the lease.
    controller.kill();
    scenario.stack.new_cluster().await.unwrap();
    scenario.install().await.unwrap();
    assert_eq!(scenario.endpoints().list(&kube::api::ListParams::default()).await.unwrap().items.len(), 0);
    scenario.stack.clear_calls();
    let controller = scenario.controller("larder-again", &args).await.unwrap();
    scenario.kubectl(&["apply", "-f", &git]).await.unwrap();
    let after = all_ready(&scenario, &all).await;
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before.metadata.uid, after.metadata.uid);
        assert_eq!(identity(before), identity(after));
        let drift = &after.status.as_ref().unwrap().drift;
        assert!(drift.is_empty(), "{drift:?}");
    }
    // What comes later counts as well.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let mut writes = scenario.stack.writes();
    let tagged: u64 = writes.iter().filter(|((_, call, _), _)| call == "TagResource").map(|(_, n)| *n).sum();
    assert!(tagged >= 3 * 5, "two functions, their logs and the access point of each: {writes:?}");
    writes.retain(|(_, operation, _), _| operation != "TagResource");
    assert_eq!(writes, Calls::new());
    let copied = scenario.stack.count("s3", "GetObject");
    assert_eq!(copied, 0, "no model is copied again");
    let url = after[0].status.as_ref().unwrap().url.clone().unwrap();
    let body = json!({"inputs": [tensor()]}).to_string();
    let answer = scenario.post(&url, "v2/models/det/infer", "application/json", body.into()).await.unwrap();
    assert_eq!(answer.status.as_u16(), 200);

    // What was taken over is these objects' to delete.
    for it in &all {
        scenario.delete(it.object["metadata"]["name"].as_str().unwrap(), 120).await.unwrap();
    }
    scenario.nothing_left().await.unwrap();
    controller.stop().await;
    scenario.stack.stop().await;
}

/// That no call was made within so many seconds.
async fn no_call(scenario: &Scenario, seconds: u64) {
    scenario.stack.clear_calls();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(scenario.stack.calls(), Calls::new());
}

async fn suspend(scenario: &Scenario, name: &str) {
    scenario.change(name, &json!({"management": "Suspend"})).await.unwrap();
    let is_suspended = |it: &InferenceEndpoint| condition(it, "Suspended").is_some();
    scenario.until(name, "to be suspended", 20, is_suspended).await.unwrap();
}

/// Not one call is made for what is suspended, be it new, served or asked for, also where S3 tells of changes.
async fn suspended(scenario: &Scenario) {
    let mut object = small_endpoint("gone");
    object["spec"]["management"] = json!("Suspend");
    object["spec"]["models"][0]["source"]["s3"]["events"] = json!("EventBridge");
    scenario.stack.clear_calls();
    scenario.apply(&object).await.unwrap();
    let is_suspended = |it: &InferenceEndpoint| condition(it, "Suspended").is_some();
    scenario.until("gone", "to be suspended", 20, is_suspended).await.unwrap();
    assert_eq!(scenario.stack.calls(), Calls::new());
    no_call(scenario, 3).await;
    scenario.change("gone", &json!({"management": "Apply"})).await.unwrap();
    scenario.until("gone", "to be ready", 120, |it| is_ready_at(it, "1")).await.unwrap();

    suspend(scenario, "gone").await;
    // A call that was under way has ended by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = "larder.dev/reconcile-at=now";
    scenario.kubectl(&["annotate", "iep", "gone", "-n", NAMESPACE, asked]).await.unwrap();
    // As long as a poll of the queue, which is counted when it ends.
    no_call(scenario, 22).await;
    scenario.change("gone", &json!({"management": "Apply"})).await.unwrap();
    scenario.until("gone", "to be ready again", 60, |it| is_ready_at(it, "1")).await.unwrap();
}

/// Deletes the namespace, and does what the namespace controller of kube-controller-manager does, which does not run
/// here: deletes what is in it, and lets it go when that is gone.
async fn delete_namespace(scenario: &Scenario) {
    scenario.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).await.unwrap();
    let phase = ["get", "namespace", NAMESPACE, "-o", "jsonpath={.status.phase}"];
    assert_eq!(scenario.kubectl(&phase).await.unwrap(), "Terminating");
    let refused = scenario.apply(&small_endpoint("late")).await.unwrap_err().to_string();
    assert!(refused.contains("is being terminated"), "{refused}");
    for kind in ["inferenceendpoints.larder.dev", "events"] {
        scenario.kubectl(&["delete", kind, "--all", "-n", NAMESPACE, "--wait=false"]).await.unwrap();
    }
    let end = Instant::now() + Duration::from_mins(3);
    loop {
        let there = scenario.endpoints().list(&kube::api::ListParams::default()).await.unwrap().items;
        if there.is_empty() {
            break;
        }
        let told: Vec<_> = there.iter().map(|it| (&it.metadata.name, condition(it, "Ready"))).collect();
        assert!(Instant::now() < end, "they are not gone: {told:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let finalized = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let path = format!("/api/v1/namespaces/{NAMESPACE}/finalize");
    let args = ["replace", "--raw", &path, "-f", "-"];
    let output = scenario.stack.kubectl_with(&args, &finalized.to_string()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let is_left = scenario.kubectl(&["get", "namespace", NAMESPACE]).await;
    assert!(is_left.unwrap_err().to_string().contains("NotFound"));
}

#[tokio::test]
async fn a_namespace_goes_with_its_endpoints_and_leaves_what_they_are_to_leave() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    for name in ["gone", "data", "left"] {
        scenario.upload_det(BUCKET, &format!("{name}/"), Ocr::V4).await.unwrap();
    }
    let controller = scenario.controller("larder", &[]).await.unwrap();
    suspended(&scenario).await;
    let mut file_systems = Vec::new();
    for (name, policy) in [("data", "RetainData"), ("left", "Retain")] {
        let mut object = small_endpoint(name);
        object["spec"]["deletionPolicy"] = json!(policy);
        scenario.apply(&object).await.unwrap();
        let ready = scenario.until(name, "to be ready", 120, |it| is_ready_at(it, "1")).await.unwrap();
        file_systems.extend(ready.status.unwrap().storage.unwrap().file_system_id);
    }
    let of_left = |all: &[String]| -> Vec<String> {
        all.iter().filter(|it| it.contains("-left-") || it.contains(&file_systems[1])).cloned().collect()
    };
    let before = in_words(&scenario).await;
    delete_namespace(&scenario).await;
    let after = in_words(&scenario).await;
    assert_eq!(of_left(&after), of_left(&before), "Retain leaves everything");
    assert!(of_left(&after).len() > 8, "{after:?}");
    let data = after.iter().filter(|it| it.contains(&file_systems[0]));
    let data: Vec<_> = data.map(|it| it.split(" fs").next().unwrap()).collect();
    assert!(
        data.iter().all(|it| it.starts_with("file system") || it.starts_with("mount target")),
        "{data:?}"
    );
    assert_eq!(data.len(), 2, "RetainData leaves the file system and the way to it");
    // Whose a function URL is, it does not say: that of what is retained is left.
    let urls = after.iter().filter(|it| it.starts_with("function URL")).count();
    assert_eq!(urls, 1, "{after:?}");
    assert_eq!(after.len(), of_left(&after).len() + data.len() + urls, "Delete leaves nothing: {after:?}");
    controller_is_sound(&scenario, &controller).await;
    controller.stop().await;
    scenario.stack.stop().await;
}

async fn in_words(scenario: &Scenario) -> Vec<String> {
    scenario.stack.leftovers().await.unwrap().iter().map(ToString::to_string).collect()
}

/// It goes on working: on an endpoint of a namespace of the same name.
async fn controller_is_sound(scenario: &Scenario, controller: &Controller) {
    assert!(controller.pid().is_some());
    scenario.kubectl(&["create", "namespace", NAMESPACE]).await.unwrap();
    scenario.apply(&small_endpoint("gone")).await.unwrap();
    scenario.until("gone", "to be ready in the new namespace", 120, |it| is_ready_at(it, "1")).await.unwrap();
    scenario.delete("gone", 120).await.expect("the endpoint goes");
}
