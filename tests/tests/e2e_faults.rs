//! Rollouts on the wire while calls fail by chance and the controller is killed: each ends as it would without, and what is
//! left at the end is what should be. The long way of the same is `world_faults`, in memory.
//!
//! `SEED=…` plays one schedule of faults, `ROUNDS=…` more rollouts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::collections::BTreeMap;
use std::time::Duration;

use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, Ocr, Scenario, TAG, condition, small_endpoint, tensor};
use larder_tests::stack::{Fault, Rule, Timings, When};
use serde_json::{Value, json};

const NAME: &str = "shaken";

fn object() -> Value {
    let mut object = small_endpoint(NAME);
    object["spec"]["capacity"] = json!({"provisioned": 1});
    object["spec"]["rollout"] = json!({
        "strategy": "Canary",
        "steps": [{"weightPercent": 20, "holdSeconds": 2}, {"weightPercent": 50, "holdSeconds": 2}],
        "historyLimit": 2,
    });
    object
}

/// What goes wrong from now on: of a hundred calls of a service about a dozen, some of them after they had their effect.
fn shake(scenario: &Scenario, seed: u64) {
    scenario.stack.clear_faults();
    for (n, service) in (1..).zip(["lambda", "efs", "s3", "logs", "ec2", "ecr"]) {
        for (m, (fault, share)) in (1..).zip([
            (Fault::Throttled, 0.03),
            (Fault::Internal, 0.03),
            (Fault::ResetBefore, 0.02),
            (Fault::ResetAfter, 0.03),
            (Fault::Latency(Duration::from_millis(400)), 0.05),
        ]) {
            let when = When::Chance { share, seed: seed.wrapping_mul(1000) + n * 10 + m };
            scenario.stack.inject(Rule::new(service, "", when, fault));
        }
    }
}

/// Waits for it, and looks on the way that requests go to no more than two versions, all of them to some.
async fn until(
    scenario: &Scenario,
    what: &str,
    is_so: impl Fn(&InferenceEndpoint) -> bool,
) -> InferenceEndpoint {
    let looks_on = |endpoint: &InferenceEndpoint| {
        let shares = serves(endpoint);
        let sum: i32 = shares.values().sum();
        assert!(shares.is_empty() || (shares.len() <= 2 && sum == 100), "{shares:?}");
        is_so(endpoint)
    };
    scenario.until(NAME, what, 300, looks_on).await.unwrap()
}

fn serves(endpoint: &InferenceEndpoint) -> BTreeMap<String, i32> {
    let traffic = endpoint.status.iter().flat_map(|status| &status.traffic);
    traffic.map(|share| (share.version.clone(), share.percent)).collect()
}

/// What AWS holds: the alias's version and other weights, and the versions.
async fn held(scenario: &Scenario, function: &str) -> (String, usize, Vec<String>) {
    let lambda = scenario.stack.lambda();
    let alias = lambda.get_alias().function_name(function).name("live").send().await.unwrap();
    let weights = alias.routing_config.and_then(|it| it.additional_version_weights).unwrap_or_default().len();
    let versions = lambda.list_versions_by_function().function_name(function).send().await.unwrap();
    let versions = versions.versions.unwrap_or_default().into_iter().filter_map(|it| it.version);
    (alias.function_version.unwrap(), weights, versions.filter(|it| it != "$LATEST").collect())
}

#[tokio::test]
async fn rollouts_end_well_whatever_befalls_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or(1);
    let rounds = number("ROUNDS").unwrap_or(3);
    eprintln!("SEED={seed}");
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    scenario.upload_det(BUCKET, "shaken/", Ocr::V4).await.unwrap();

    // Even the first version comes to be while calls fail.
    shake(&scenario, seed);
    scenario.apply(&object()).await.unwrap();
    let lease = ["--lease-seconds", "3"];
    let mut controller = scenario.controller("larder-0", &lease).await.unwrap();
    let endpoint = until(&scenario, "to be ready", |it| is_ready_at(it, "1")).await;
    let function = endpoint.status.unwrap().function.unwrap().name;
    let mut version = 1;
    for round in 1..=rounds {
        shake(&scenario, seed + round);
        scenario.push("larder-inference", TAG, &format!("build {seed} {round}")).await.unwrap();
        version += 1;
        until(&scenario, "to take a share", |it| serves(it).contains_key(&version.to_string())).await;
        controller.kill();
        controller = scenario.controller(&format!("larder-{round}"), &lease).await.unwrap();
        until(&scenario, "to serve the new version", |it| is_ready_at(it, &version.to_string())).await;

        // One that is slower than it may be is taken back, and another of the same settings as before takes over.
        version += 1;
        let slow = json!({"function": {"memoryMiB": 3008}, "rollout": {"abortOn": {"p99Milliseconds": 1}}});
        scenario.change(NAME, &slow).await.unwrap();
        let is_back = |it: &InferenceEndpoint| {
            condition(it, "TrafficReady").is_some_and(|(_, reason, _)| reason == "RolloutAborted")
        };
        // What takes no requests cannot be slow.
        let url = endpoint_url(&scenario).await;
        let body = bytes::Bytes::from(json!({"inputs": [tensor()]}).to_string());
        let back = async {
            loop {
                let answer =
                    scenario.post(&url, "v2/models/det/infer", "application/json", body.clone()).await;
                // The proxy's faults are Lambda's: a client would try again.
                drop(answer);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let back = tokio::select! {
            endpoint = until(&scenario, "to be taken back", is_back) => endpoint,
            () = back => unreachable!("it asks for ever"),
        };
        let served = (version - 1).to_string();
        assert_eq!(serves(&back), [(served.clone(), 100)].into());
        let again = json!({"function": {"memoryMiB": 2048}, "rollout": {"abortOn": null}});
        scenario.change(NAME, &again).await.unwrap();
        until(&scenario, "to be as before", |it| is_ready_at(it, &served)).await;
    }
    let hits = scenario.stack.fault_hits();
    assert!(hits > 50, "{hits} faults");
    scenario.stack.clear_faults();
    let settled = |it: &InferenceEndpoint| {
        condition(it, "HistoryPruned").is_some_and(|(status, _, _)| status == "True")
            && condition(it, "Ready").is_some_and(|(status, _, _)| status == "True")
    };
    let endpoint = until(&scenario, "to have pruned", settled).await;
    let (serving, weights, versions) = held(&scenario, &function).await;
    assert_eq!((serves(&endpoint), weights), ([(serving.clone(), 100)].into(), 0));
    assert!(versions.contains(&serving) && versions.len() <= 4, "{versions:?}");

    shake(&scenario, seed + rounds + 1);
    scenario.delete(NAME, 300).await.unwrap();
    scenario.nothing_left().await.unwrap();
    controller.stop().await;
    scenario.stack.stop().await;
}

async fn endpoint_url(scenario: &Scenario) -> String {
    scenario.endpoints().get(NAME).await.unwrap().status.unwrap().url.unwrap()
}
