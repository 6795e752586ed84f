//! Steady requests through every kind of rollout, on the stack: none fails, and none waits for a cold start.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail at once")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, TAG, condition};
use larder_tests::stack::{ACCOUNT, REGION, Timings};
use serde_json::{Value, json};

/// So many requests at least.
const REQUESTS: u64 = 10_000;

/// Two warm sandboxes for the two clients; two steps of five seconds.
fn object() -> Value {
    json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": "rolled", "namespace": NAMESPACE},
        "spec": {
            "models": [{
                "name": "det",
                "task": "tensor",
                "source": {"s3": {"bucket": BUCKET, "prefix": "rolled/"}}
            }],
            "refresh": {"intervalSeconds": 5, "settleSeconds": 1},
            "storage": {"efs": {"managed": {}}},
            "network": {"subnetIds": ["subnet-00000001"], "securityGroupIds": ["sg-00000001"]},
            "function": {
                "image": format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-inference:{TAG}"),
                "architecture": "x86_64",
                "roleArn": format!("arn:aws:iam::{ACCOUNT}:role/larder")
            },
            "capacity": {"provisioned": 2},
            "rollout": {
                "strategy": "Canary",
                "steps": [
                    {"weightPercent": 20, "holdSeconds": 5},
                    {"weightPercent": 50, "holdSeconds": 5}
                ],
                "smokeTest": {
                    "model": "det",
                    "inputs": [tensor()],
                    "expect": {"outputs": [{"shape": [1, 1, 32, 32]}]}
                },
                "abortOn": {"errorRatePercent": 1}
            },
            "expose": {"functionUrl": {"authType": "NONE"}}
        }
    })
}

fn tensor() -> Value {
    json!({"name": "x", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": vec![0.5; 3 * 32 * 32]})
}

async fn upload(scenario: &Scenario, ocr: Ocr) {
    let [(_, path), _] = scenario.models(ocr);
    let body = tokio::fs::read(path).await.unwrap();
    let put = scenario.stack.s3().put_object().bucket(BUCKET).key("rolled/model.onnx");
    put.body(body.into()).send().await.unwrap();
}

async fn patch(scenario: &Scenario, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    scenario.endpoints().patch("rolled", &PatchParams::default(), &patch).await.unwrap();
}

async fn until(
    scenario: &Scenario,
    what: &str,
    is_so: impl Fn(&InferenceEndpoint) -> bool,
) -> InferenceEndpoint {
    let mut last = None;
    for _ in 0..1800 {
        let endpoint = scenario.endpoints().get("rolled").await.unwrap();
        if is_so(&endpoint) {
            return endpoint;
        }
        last = endpoint.status;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain for it {what}: {last:#?}");
}

fn serves(endpoint: &InferenceEndpoint) -> Vec<(String, i32)> {
    let traffic = endpoint.status.iter().flat_map(|status| &status.traffic);
    traffic.map(|share| (share.version.clone(), share.percent)).collect()
}

fn reason(endpoint: &InferenceEndpoint, type_: &str) -> String {
    condition(endpoint, type_).map(|(_, reason, _)| reason).unwrap_or_default()
}

/// Two clients that ask until they are told to stop, and what came of it.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(scenario: &Arc<Scenario>, url: &str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let body = json!({"inputs": [tensor()]}).to_string();
        let client = |_| {
            let (scenario, url, body) = (Arc::clone(scenario), url.to_owned(), body.clone());
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) && failures.len() < 10 {
                    let path = "v2/models/det/infer";
                    let answer = scenario.post(&url, path, "application/json", body.clone().into()).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    let shape = answer.map(|answer| {
                        let shape = answer.json().map(|json| json["outputs"][0]["shape"].clone());
                        (answer.status, shape.unwrap_or_default())
                    });
                    match shape {
                        Ok((status, shape)) if status == 200 && shape == json!([1, 1, 32, 32]) => {}
                        other => failures.push(format!("{other:?}")),
                    }
                }
                failures
            })
        };
        let clients = (0..2).map(client).collect();
        Self { stop, sent, clients }
    }

    async fn end(self) -> (u64, Vec<String>) {
        while self.sent.load(Ordering::Relaxed) < REQUESTS
            && !self.clients.iter().any(tokio::task::JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(client.await.unwrap());
        }
        (self.sent.load(Ordering::Relaxed), failures)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_and_none_is_cold_through_any_rollout() {
    let scenario = Arc::new(Scenario::start(Timings::default()).await.unwrap());
    upload(&scenario, Ocr::V4).await;
    let params = PatchParams::apply("e2e").force();
    scenario.endpoints().patch("rolled", &params, &Patch::Apply(object())).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();
    let endpoint = until(&scenario, "to be ready", |e| is_ready_at(e, "1")).await;
    let status = endpoint.status.unwrap();
    let function = status.function.unwrap().name;
    let cold = scenario.stack.cold_starts(&function);
    let load = Load::start(&scenario, &status.url.unwrap());

    // A model changes, and then the image.
    upload(&scenario, Ocr::V6).await;
    let share =
        |percent: i32| move |e: &InferenceEndpoint| serves(e).iter().any(|(_, share)| *share == percent);
    until(&scenario, "to take a fifth", share(20)).await;
    until(&scenario, "to take half", share(50)).await;
    until(&scenario, "to serve the new model", |e| is_ready_at(e, "2")).await;
    scenario.push("larder-inference", TAG, "second").await.unwrap();
    until(&scenario, "to run the new image", |e| is_ready_at(e, "3")).await;

    // A version that is slower than it may be: any is, by a hundredth of a millisecond.
    patch(
        &scenario,
        json!({"function": {"memoryMiB": 3008}, "rollout": {"abortOn": {"errorRatePercent": null, "p99Milliseconds": 1}}}),
    )
    .await;
    let endpoint =
        until(&scenario, "to be taken back", |e| reason(e, "TrafficReady") == "RolloutAborted").await;
    assert_eq!(serves(&endpoint), [("3".to_owned(), 100)]);
    let (_, _, message) = condition(&endpoint, "TrafficReady").unwrap();
    assert!(message.contains("version 4 was taken back") && message.contains("1 ms"), "{message}");

    // Its spec is taken back, too.
    patch(
        &scenario,
        json!({"function": {"memoryMiB": 2048}, "rollout": {"abortOn": {"errorRatePercent": 1, "p99Milliseconds": null}}}),
    )
    .await;
    until(&scenario, "to be as before", |e| is_ready_at(e, "3")).await;

    // A person goes back, and forth again.
    let (code, told) = scenario.larder(&["rollback", "rolled", "-n", NAMESPACE, "--to", "2"]).await.unwrap();
    assert_eq!(code, 0, "{told}");
    let endpoint = until(&scenario, "to go back", |e| reason(e, "TrafficReady") == "RolledBack").await;
    assert_eq!(serves(&endpoint), [("2".to_owned(), 100)]);
    let (code, told) = scenario.larder(&["retry", "rolled", "-n", NAMESPACE]).await.unwrap();
    assert_eq!(code, 0, "{told}");
    until(&scenario, "to serve the wanted version again", |e| is_ready_at(e, "3")).await;

    let (sent, failures) = load.end().await;
    assert!(failures.is_empty(), "of {sent} requests failed: {failures:#?}");
    assert!(sent >= REQUESTS, "{sent} requests");
    assert_eq!(scenario.stack.cold_starts(&function), cold, "cold starts among {sent} requests");
    controller.stop().await;
    let Ok(scenario) = Arc::try_unwrap(scenario) else { panic!("the scenario is still in use") };
    scenario.stack.stop().await;
}
