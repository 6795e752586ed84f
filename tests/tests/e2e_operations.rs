//! What operators meet, on the stack: others change what is in AWS, and an object comes back to what it left there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail at once")]

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use larder_crds::{InferenceEndpoint, RECONCILE_AT};
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, TAG};
use larder_tests::stack::{ACCOUNT, REGION, Timings};
use serde_json::{Value, json};

const NAME: &str = "kept";

fn object() -> Value {
    json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "models": [{"name": "det", "task": "tensor", "source": {"s3": {"bucket": BUCKET, "prefix": "kept/"}}}],
            "refresh": {"intervalSeconds": 5, "settleSeconds": 1},
            "storage": {"efs": {"managed": {}}},
            "network": {"subnetIds": ["subnet-00000001"], "securityGroupIds": ["sg-00000001"]},
            "function": {
                "image": format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-inference:{TAG}"),
                "architecture": "x86_64",
                "roleArn": format!("arn:aws:iam::{ACCOUNT}:role/larder"),
            },
            "expose": {"functionUrl": {"authType": "NONE"}},
            "deletionPolicy": "Retain",
        },
    })
}

async fn apply(scenario: &Scenario, object: &Value) {
    let params = PatchParams::apply("e2e").force();
    scenario.endpoints().patch(NAME, &params, &Patch::Apply(object)).await.unwrap();
}

async fn until(
    scenario: &Scenario,
    what: &str,
    is_there: impl Fn(&InferenceEndpoint) -> bool,
) -> InferenceEndpoint {
    for _ in 0..1200 {
        let endpoint = scenario.endpoints().get(NAME).await.unwrap();
        if is_there(&endpoint) {
            return endpoint;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain for it {what}: {:#?}", scenario.endpoints().get(NAME).await.unwrap().status);
}

#[tokio::test]
async fn drift_is_put_back_and_what_was_left_is_taken_over() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();
    let [(_, path), _] = scenario.models(Ocr::V4);
    let body = tokio::fs::read(path).await.unwrap();
    let put = scenario.stack.s3().put_object().bucket(BUCKET).key("kept/model.onnx");
    put.body(body.into()).send().await.unwrap();
    apply(&scenario, &object()).await;
    let first = until(&scenario, "to be ready", |it| is_ready_at(it, "1")).await;
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
    apply(&scenario, &asked).await;
    let drifted = until(&scenario, "to have put it back", |it| {
        let drift = it.status.as_ref().map(|status| status.drift.clone()).unwrap_or_default();
        let ended = |field: &str| drift.iter().any(|it| it.field == field && it.ended.is_some());
        ended("memory") && ended("CORS") && is_ready_at(it, "1")
    })
    .await;
    let drift = &drifted.status.as_ref().unwrap().drift;
    let memory = drift.iter().find(|it| it.field == "memory").unwrap();
    assert_eq!((memory.have.as_str(), memory.want.as_str()), ("128 MiB", "2048 MiB"));
    assert_eq!(memory.corrections.len(), 1);
    let seen = lambda.get_function_configuration().function_name(&function).send().await.unwrap();
    assert_eq!(seen.memory_size, Some(2048));

    // The object goes and leaves everything; the same from Git is another object.
    scenario.endpoints().delete(NAME, &DeleteParams::default()).await.unwrap();
    while scenario.endpoints().get_opt(NAME).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    apply(&scenario, &object()).await;
    let reason = |it: &InferenceEndpoint| {
        let conditions = it.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().find(|c| c.type_ == "Stalled").map(|c| c.reason.clone())
    };
    until(&scenario, "to leave it alone", |it| reason(it).as_deref() == Some("ForeignResource")).await;
    let before = ["CreateFileSystem", "CreateFunction", "PublishVersion"].map(|call| {
        let service = if call == "CreateFileSystem" { "efs" } else { "lambda" };
        (service, call, scenario.stack.count(service, call))
    });
    let mut adopting = object();
    adopting["spec"]["adoption"] = json!("Adopt");
    apply(&scenario, &adopting).await;
    let second = until(&scenario, "to be ready again", |it| is_ready_at(it, "1")).await;
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

    // What was taken over is this object's to delete.
    adopting["spec"]["deletionPolicy"] = json!("Delete");
    apply(&scenario, &adopting).await;
    scenario.endpoints().delete(NAME, &DeleteParams::default()).await.unwrap();
    while scenario.endpoints().get_opt(NAME).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let left = scenario.stack.leftovers().await.unwrap();
    assert!(left.is_empty(), "left in AWS: {left:?}");
    controller.stop().await;
    scenario.stack.stop().await;
}
