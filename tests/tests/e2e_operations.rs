//! What operators meet, on the stack: others change what is in AWS, an object comes back to what it left there, and
//! several controllers share the work.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use larder_crds::{ADOPT_FROM, InferenceEndpoint, RECONCILE_AT};
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, condition, small_endpoint};
use larder_tests::stack::Timings;
use serde_json::{Value, json};

const NAME: &str = "kept";

/// Its deletion leaves everything.
fn object() -> Value {
    let mut object = small_endpoint(NAME);
    object["spec"]["deletionPolicy"] = json!("Retain");
    object
}

#[tokio::test]
async fn drift_is_put_back_and_what_was_left_is_taken_over() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();
    scenario.upload_det(BUCKET, "kept/", Ocr::V4).await.unwrap();
    scenario.apply(&object()).await.unwrap();
    let first = scenario.until(NAME, "to be ready", 120, |it| is_ready_at(it, "1")).await.unwrap();
    let status = first.status.clone().unwrap();
    let function = status.function.clone().unwrap().name;

    // Somebody changes the memory and lets browsers of all origins call the URL.
    let lambda = scenario.stack.lambda();
    lambda.update_function_configuration().function_name(&function).memory_size(128).send().await.unwrap();
    let cors = aws_sdk_lambda::types::Cors::builder().allow_origins("*").build();
    let update = lambda.update_function_url_config().function_name(&function).qualifier("live");
    update.cors(cors).send().await.unwrap();
    let mut asked = object();
    asked["metadata"]["annotations"] = json!({RECONCILE_AT: "now"});
    scenario.apply(&asked).await.unwrap();
    let drifted = scenario
        .until(NAME, "to have put it back", 120, |it| {
            let drift = it.status.as_ref().map(|status| status.drift.clone()).unwrap_or_default();
            let ended = |field: &str| drift.iter().any(|it| it.field == field && it.ended.is_some());
            ended("memory") && ended("CORS") && is_ready_at(it, "1")
        })
        .await
        .unwrap();
    let drift = &drifted.status.as_ref().unwrap().drift;
    let memory = drift.iter().find(|it| it.field == "memory").unwrap();
    assert_eq!((memory.have.as_str(), memory.want.as_str()), ("128 MiB", "2048 MiB"));
    assert_eq!(memory.corrections.len(), 1);
    let seen = lambda.get_function_configuration().function_name(&function).send().await.unwrap();
    assert_eq!(seen.memory_size, Some(2048));

    // The object goes and leaves everything; the same from Git is another object.
    scenario.delete(NAME, 120).await.unwrap();
    scenario.apply(&object()).await.unwrap();
    let reason = |it: &InferenceEndpoint| {
        let conditions = it.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().find(|c| c.type_ == "Stalled").map(|c| c.reason.clone())
    };
    scenario
        .until(NAME, "to leave it alone", 120, |it| reason(it).as_deref() == Some("ForeignResource"))
        .await
        .unwrap();
    let before = ["CreateFileSystem", "CreateFunction", "PublishVersion"].map(|call| {
        let service = if call == "CreateFileSystem" { "efs" } else { "lambda" };
        (service, call, scenario.stack.count(service, call))
    });
    let mut adopting = object();
    adopting["spec"]["adoption"] = json!("Adopt");
    scenario.apply(&adopting).await.unwrap();
    let second = scenario.until(NAME, "to be ready again", 120, |it| is_ready_at(it, "1")).await.unwrap();
    assert_ne!(second.metadata.uid, first.metadata.uid);
    let again = second.status.unwrap();
    assert_eq!(again.url, status.url);
    assert_eq!(
        again.storage.map(|it| (it.file_system_id, it.access_point_arn)),
        status.storage.map(|it| (it.file_system_id, it.access_point_arn))
    );
    for (service, call, count) in before {
        assert_eq!(scenario.stack.count(service, call), count, "{call}");
    }

    // Another object asks for what this one has: not while it is there, and its deletion changes nothing.
    let cluster: Api<Namespace> = Api::all(scenario.stack.kube());
    let cluster = cluster.get("kube-system").await.unwrap().metadata.uid.unwrap();
    let mut moved = object();
    moved["metadata"]["name"] = json!("moved");
    moved["metadata"]["annotations"] = json!({ADOPT_FROM: format!("{cluster}/{NAMESPACE}/{NAME}")});
    moved["spec"]["deletionPolicy"] = json!("Delete");
    let is_refused = |it: &InferenceEndpoint| {
        condition(it, "Accepted").is_some_and(|(_, reason, message)| {
            reason == "StillOwned" && message.contains("InferenceEndpoint vision/kept, which is there")
        })
    };
    scenario.apply(&moved).await.unwrap();
    scenario.until("moved", "to be refused", 60, is_refused).await.unwrap();
    scenario.delete("moved", 60).await.unwrap();
    scenario.apply(&moved).await.unwrap();
    scenario.until("moved", "to be refused again", 60, is_refused).await.unwrap();
    let kept = scenario.endpoints().get(NAME).await.unwrap();
    assert!(is_ready_at(&kept, "1") && kept.status.unwrap().drift.is_empty());
    // Its owner lets go of it.
    scenario.delete(NAME, 120).await.unwrap();
    let third = scenario.until("moved", "to have taken over", 120, |it| is_ready_at(it, "1")).await.unwrap();
    assert_eq!(third.status.unwrap().url, status.url);

    // What was taken over is this object's to delete.
    scenario.delete("moved", 120).await.unwrap();
    scenario.nothing_left().await.unwrap();
    controller.stop().await;
    scenario.stack.stop().await;
}

#[tokio::test]
async fn shards_each_converge_their_own_and_hear_of_it() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    // Listings come once a day: within the test's patience, only an event can tell of a change.
    let object = |name: &str, memory: i32| {
        let mut object = small_endpoint(name);
        object["metadata"]["labels"] = json!({"shard": name});
        object["spec"]["models"][0]["source"]["s3"]["events"] = json!("EventBridge");
        object["spec"]["refresh"] =
            json!({"intervalSeconds": 86400, "maxIntervalSeconds": 86400, "settleSeconds": 1});
        object["spec"]["function"]["memoryMiB"] = json!(memory);
        object
    };
    let queues = async || {
        let list = scenario.stack.sqs().list_queues().queue_name_prefix("larder-events-");
        list.send().await.unwrap().queue_urls.unwrap_or_default()
    };
    for name in ["a", "b"] {
        scenario.upload_det(BUCKET, &format!("{name}/"), Ocr::V4).await.unwrap();
        scenario.apply(&object(name, 2048)).await.unwrap();
    }
    let everything = scenario.controller("everything", &[]).await.unwrap();
    for name in ["a", "b"] {
        scenario.until(name, "to be ready", 120, |it| is_ready_at(it, "1")).await.unwrap();
    }
    let former = queues().await;
    assert_eq!(former.len(), 1);
    everything.stop().await;

    // The work is shared out. One of the shards comes later, and nobody else does its work meanwhile.
    let first = scenario.controller("first", &["--selector", "shard=a"]).await.unwrap();
    for name in ["a", "b"] {
        scenario.apply(&object(name, 3008)).await.unwrap();
    }
    scenario.until("a", "to have its memory", 60, |it| is_ready_at(it, "2")).await.unwrap();
    let other = scenario.endpoints().get("b").await.unwrap().status.unwrap();
    assert_eq!(other.observed_generation, Some(1), "it is not of this shard");
    let args = ["--namespace", NAMESPACE, "--selector", "shard!=a"];
    let second = scenario.controller("second", &args).await.unwrap();
    scenario.until("b", "to have its memory", 60, |it| is_ready_at(it, "2")).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(scenario.stack.kube(), "default");
    let leases = leases.list(&ListParams::default()).await.unwrap().items;
    let holders: BTreeSet<String> =
        leases.into_iter().filter_map(|it| it.spec?.holder_identity.filter(|it| !it.is_empty())).collect();
    assert_eq!(holders, ["first", "second"].map(str::to_owned).into());

    // Each has a queue of its own by now, and reads no other.
    let now = queues().await;
    assert_eq!(now.len(), 2, "{now:?}");
    assert!(!now.contains(&former[0]), "{now:?}");
    for name in ["a", "b"] {
        scenario.upload_det(BUCKET, &format!("{name}/"), Ocr::V6).await.unwrap();
        scenario.until(name, "to hear of it", 60, |it| is_ready_at(it, "3")).await.unwrap();
    }

    scenario.delete("a", 90).await.unwrap();
    assert_eq!(queues().await.len(), 1, "its shard had no other endpoint");
    scenario.delete("b", 90).await.unwrap();
    scenario.nothing_left().await.unwrap();
    first.stop().await;
    second.stop().await;
    scenario.stack.stop().await;
}
