//! Steady requests through every kind of rollout, on the stack: none fails, and none waits for a cold start.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, TAG, condition, small_endpoint, tensor};
use larder_tests::stack::Timings;
use serde_json::{Value, json};

/// So many requests at least.
const REQUESTS: u64 = 10_000;

const NAME: &str = "rolled";

/// Two warm sandboxes for the two clients; two steps of five seconds.
fn object() -> Value {
    let mut object = small_endpoint(NAME);
    object["spec"]["capacity"] = json!({"provisioned": 2});
    object["spec"]["rollout"] = json!({
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
    });
    object
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
    scenario.upload_det(BUCKET, "rolled/", Ocr::V4).await.unwrap();
    scenario.apply(&object()).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();
    let endpoint = scenario.until(NAME, "to be ready", 180, |e| is_ready_at(e, "1")).await.unwrap();
    let status = endpoint.status.unwrap();
    let function = status.function.unwrap().name;
    let cold = scenario.stack.cold_starts(&function);
    let load = Load::start(&scenario, &status.url.unwrap());

    // A model changes, and then the image.
    scenario.upload_det(BUCKET, "rolled/", Ocr::V6).await.unwrap();
    let share =
        |percent: i32| move |e: &InferenceEndpoint| serves(e).iter().any(|(_, share)| *share == percent);
    scenario.until(NAME, "to take a fifth", 180, share(20)).await.unwrap();
    scenario.until(NAME, "to take half", 180, share(50)).await.unwrap();
    scenario.until(NAME, "to serve the new model", 180, |e| is_ready_at(e, "2")).await.unwrap();
    scenario.push("larder-inference", TAG, "second").await.unwrap();
    scenario.until(NAME, "to run the new image", 180, |e| is_ready_at(e, "3")).await.unwrap();

    // A version that is slower than it may be: any is, by a hundredth of a millisecond.
    scenario.change(NAME, &json!({"function": {"memoryMiB": 3008}, "rollout": {"abortOn": {"errorRatePercent": null, "p99Milliseconds": 1}}})).await.unwrap();
    let endpoint = scenario
        .until(NAME, "to be taken back", 180, |e| reason(e, "TrafficReady") == "RolloutAborted")
        .await
        .unwrap();
    assert_eq!(serves(&endpoint), [("3".to_owned(), 100)]);
    let (_, _, message) = condition(&endpoint, "TrafficReady").unwrap();
    assert!(message.contains("version 4 was taken back") && message.contains("1 ms"), "{message}");

    // Its spec is taken back, too.
    scenario.change(NAME, &json!({"function": {"memoryMiB": 2048}, "rollout": {"abortOn": {"errorRatePercent": 1, "p99Milliseconds": null}}})).await.unwrap();
    scenario.until(NAME, "to be as before", 180, |e| is_ready_at(e, "3")).await.unwrap();

    // A person goes back, and forth again.
    let (code, told) = scenario.larder(&["rollback", "rolled", "-n", NAMESPACE, "--to", "2"]).await.unwrap();
    assert_eq!(code, 0, "{told}");
    let endpoint =
        scenario.until(NAME, "to go back", 180, |e| reason(e, "TrafficReady") == "RolledBack").await.unwrap();
    assert_eq!(serves(&endpoint), [("2".to_owned(), 100)]);
    let retry = ["retry", "rolled", "-n", NAMESPACE, "--context"];
    let (code, told) = scenario.larder(&[&retry[..], &["elsewhere"]].concat()).await.unwrap();
    assert!(code == 1 && told.contains("no usable context elsewhere"), "{told}");
    let (code, told) = scenario.larder(&[&retry[..], &["stack"]].concat()).await.unwrap();
    assert_eq!(code, 0, "{told}");
    scenario.until(NAME, "to serve the wanted version again", 180, |e| is_ready_at(e, "3")).await.unwrap();

    let (sent, failures) = load.end().await;
    assert!(failures.is_empty(), "of {sent} requests failed: {failures:#?}");
    assert!(sent >= REQUESTS, "{sent} requests");
    assert_eq!(scenario.stack.cold_starts(&function), cold, "cold starts among {sent} requests");
    controller.stop().await;
    let Ok(scenario) = Arc::try_unwrap(scenario) else { panic!("the scenario is still in use") };
    scenario.stack.stop().await;
}
