//! The Helm chart in a real API server that asks RBAC: what it holds is accepted, and its service account may do all
//! that the controller does, and no more.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail at once")]

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use larder_crds::InferenceEndpoint;
use larder_tests::chart::Chart;
use larder_tests::demo::is_ready_at;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, TAG, condition, small_endpoint};
use larder_tests::stack::{ACCOUNT, Options, REGION, Stack, Timings};
use serde_json::{Value, json};

/// The namespace of the release `larder`.
const HOME: &str = "larder-system";

fn sync_code() -> String {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-model-sync:{TAG}")
}

#[tokio::test]
async fn the_api_server_takes_what_helm_renders() {
    let stack = Stack::start(Options::kubernetes()).await.unwrap();
    let chart = Chart::find().unwrap();
    for namespace in [HOME, "vision", "speech"] {
        assert!(stack.kubectl(&["create", "namespace", namespace]).await.unwrap().status.success());
    }
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    assert!(stack.kubectl(&["label", "namespace", HOME, restricted]).await.unwrap().status.success());
    for mut values in [
        json!({}),
        json!({
            "replicas": 2,
            "podDisruptionBudget": {"enabled": true, "maxUnavailable": "50%"},
            "networkPolicy": {
                "enabled": true,
                "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
                "egress": [{"ports": [{"port": 8443}]}],
            },
            "metrics": {"dashboard": {"enabled": true}},
            "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/larder"}},
            "podLabels": {"a": "b"},
            "podAnnotations": {"c": "d"},
            "nodeSelector": {"kubernetes.io/arch": "arm64"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "larder"}},
                },
            ],
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        }),
        json!({"namespaces": ["vision", "speech"], "clusterId": "production", "rolePolicy": "annotated"}),
        json!({"shards": [{"name": "a", "selector": "shard=a"}, {"name": "b", "namespaces": ["vision"], "replicas": 2}]}),
    ] {
        values["syncCode"] = json!(sync_code());
        let objects = chart.template(&values).await.unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        let output = stack.kubectl_with(&args, &list).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{values}: {said}");
        assert!(!said.contains("Warning"), "{values}: {said}");
        // The strictest of the standards for pods, which a Deployment is only warned of.
        for deployment in objects.iter().filter(|it| it["kind"] == "Deployment") {
            let mut pod = deployment["spec"]["template"].clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!("controller");
            pod["metadata"]["namespace"] = json!(HOME);
            let args = ["create", "--dry-run=server", "-f", "-"];
            let output = stack.kubectl_with(&args, &pod.to_string()).await.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    stack.stop().await;
}

const NAME: &str = "kept";

/// A kubeconfig of the chart's service account.
async fn account(scenario: &Scenario) -> PathBuf {
    let token = scenario.kubectl(&["create", "token", "larder", "-n", HOME]).await.unwrap();
    let text = std::fs::read_to_string(scenario.stack.kubeconfig()).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
    let path = scenario.stack.dir().join("account.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

/// What the account may do, and what it may not.
async fn check_rights(scenario: &Scenario, kubeconfig: &str) {
    let may = [
        "list inferenceendpoints.larder.dev -A",
        "watch inferenceendpoints.larder.dev -A",
        "patch inferenceendpoints.larder.dev -n vision",
        "patch inferenceendpoints.larder.dev --subresource=status -n vision",
        "create events.events.k8s.io -n vision",
        "patch events.events.k8s.io -n vision",
        "get namespaces/kube-system",
        "create leases.coordination.k8s.io -n larder-system",
        "get leases.coordination.k8s.io/larder-controller -n larder-system",
        "update leases.coordination.k8s.io/larder-controller -n larder-system",
    ];
    let may_not = [
        "* *",
        "get secrets -n larder-system",
        "list secrets -A",
        "get configmaps -n vision",
        "create pods -n larder-system",
        "list pods -A",
        "get nodes",
        "create deployments.apps -n larder-system",
        "create serviceaccounts --subresource=token -n larder-system",
        "create inferenceendpoints.larder.dev -n vision",
        "get inferenceendpoints.larder.dev -n vision",
        "update inferenceendpoints.larder.dev -n vision",
        "delete inferenceendpoints.larder.dev -n vision",
        "update inferenceendpoints.larder.dev --subresource=status -n vision",
        "list events.events.k8s.io -n vision",
        "delete events.events.k8s.io -n vision",
        "create events -n vision",
        "get namespaces/vision",
        "list namespaces",
        "watch namespaces",
        "patch namespaces/kube-system",
        "get leases.coordination.k8s.io/another -n larder-system",
        "delete leases.coordination.k8s.io/larder-controller -n larder-system",
        "get leases.coordination.k8s.io/larder-controller -n kube-system",
        "create leases.coordination.k8s.io -n vision",
        "get customresourcedefinitions.apiextensions.k8s.io",
        "impersonate users",
        "escalate clusterroles.rbac.authorization.k8s.io",
        "get /metrics",
    ];
    let asked = may.map(|it| (it, "yes")).into_iter().chain(may_not.map(|it| (it, "no")));
    for (question, expected) in asked {
        let words = question.split(' ');
        let args: Vec<&str> =
            ["auth", "can-i", "--kubeconfig", kubeconfig].into_iter().chain(words).collect();
        // No is an exit code, too.
        let output = scenario.stack.kubectl(&args).await.unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(answer.split_whitespace().next(), Some(expected), "{question}: {said}");
    }
}

/// Every metric of the dashboard is one that the controller has.
async fn check_dashboard(scenario: &Scenario, health: std::net::SocketAddr) {
    let metrics = scenario.get(&format!("http://{health}/metrics")).await.unwrap();
    let file = Chart::folder().join("dashboards/larder.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let asked = asked.map(|target| target["expr"].as_str().unwrap());
    let mut seen = 0;
    for expression in asked.chain(dashboard["templating"]["list"][1]["query"].as_str()) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("larder_")) {
            let is_there =
                |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            assert!(metrics.lines().any(is_there), "{name} of {expression} is not in /metrics:\n{metrics}");
            seen += 1;
        }
    }
    assert!(seen > panels.len(), "{seen}");
}

async fn until(scenario: &Scenario, what: &str, is_there: impl AsyncFn(Option<InferenceEndpoint>) -> bool) {
    for _ in 0..1200 {
        let endpoint = scenario.endpoints().get_opt(NAME).await.unwrap();
        if is_there(endpoint).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain for it {what}: {:#?}", scenario.endpoints().get_opt(NAME).await.unwrap());
}

#[tokio::test]
async fn the_charts_account_is_enough_and_the_release_may_come_and_go() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let chart = Chart::find().unwrap();
    let folder = Chart::folder().display().to_string();
    let admin = scenario.stack.kubeconfig().to_owned();
    let values = json!({"syncCode": sync_code(), "region": REGION});
    // The CRD is there already, as where it was applied without Helm.
    let install = [
        "install",
        "larder",
        &folder,
        "-n",
        HOME,
        "--create-namespace",
        "--take-ownership",
        "--force-conflicts",
    ];
    let notes = chart.helm(&install, Some(&values), Some(&admin)).await.unwrap();
    assert!(notes.contains("of all namespaces, as service account larder-system/larder"), "{notes}");

    let kubeconfig = account(&scenario).await;
    check_rights(&scenario, &kubeconfig.display().to_string()).await;
    let lease = ["--lease-namespace", HOME];
    let controller = scenario.controller_as("larder", &kubeconfig, &lease).await.unwrap();
    scenario.upload_det(BUCKET, "kept/", Ocr::V4).await.unwrap();
    scenario.apply(&small_endpoint(NAME)).await.unwrap();
    let health =
        async |endpoint: Option<InferenceEndpoint>| chart.health(&json!(endpoint.unwrap())).await.unwrap().0;
    until(&scenario, "to be seen by Argo CD", async |it| health(it).await == "Progressing").await;
    let ready = scenario.until(NAME, "to be ready", 120, |it| is_ready_at(it, "1")).await.unwrap();
    assert_eq!(health(Some(ready)).await, "Healthy");
    check_dashboard(&scenario, controller.health).await;
    let events: Api<Event> = Api::namespaced(scenario.stack.kube(), NAMESPACE);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    assert!(events.iter().any(|it| it.reason.as_deref() == Some("Copied")), "{events:?}");
    let log = std::fs::read_to_string(&controller.log).unwrap();
    assert!(!log.contains("orbidden"), "{log}");

    let uid = async || scenario.endpoints().get(NAME).await.unwrap().uid();
    let first = uid().await;
    let mut more = values.clone();
    more["replicas"] = json!(2);
    chart.helm(&["upgrade", "larder", &folder, "-n", HOME], Some(&more), Some(&admin)).await.unwrap();
    assert_eq!(uid().await, first);
    let replicas = ["get", "deployment", "larder", "-n", HOME, "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(scenario.kubectl(&replicas).await.unwrap(), "2");
    let said = chart.helm(&["uninstall", "larder", "-n", HOME], None, Some(&admin)).await.unwrap();
    assert!(said.contains("inferenceendpoints.larder.dev"), "it says what it keeps: {said}");
    assert_eq!(uid().await, first, "the CRD and its objects stay");
    controller.stop().await;
    assert!(scenario.controller_as("orphan", &kubeconfig, &lease).await.is_err(), "its account is no more");

    chart.helm(&install, Some(&values), Some(&admin)).await.unwrap();
    let kubeconfig = account(&scenario).await;
    let controller = scenario.controller_as("again", &kubeconfig, &lease).await.unwrap();
    scenario.endpoints().delete(NAME, &DeleteParams::default()).await.unwrap();
    until(&scenario, "to be gone", async |it| {
        let reason = it.as_ref().and_then(|it| condition(it, "Stalled"));
        assert_eq!(reason, None, "it goes on");
        it.is_none()
    })
    .await;
    scenario.nothing_left().await.unwrap();
    let log = std::fs::read_to_string(&controller.log).unwrap();
    assert!(!log.contains("orbidden"), "{log}");
    controller.stop().await;
    scenario.stack.stop().await;
}
