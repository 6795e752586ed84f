//! What the Helm chart renders to, and what it refuses. No cluster is asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use jiff::Timestamp;
use larder::args::Cli;
use larder::scope::Scope;
use larder_core::endpoint::Refused;
use larder_core::status::{refused, suspended};
use larder_crds::InferenceEndpointStatus;
use larder_tests::chart::Chart;
use serde_json::{Value, json};

const SYNC: &str = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/larder-model-sync:0.1.0";

/// The objects of a kind.
fn of<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|it| it["kind"] == kind).collect()
}

fn names(objects: &[&Value]) -> Vec<String> {
    objects.iter().map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().map(|it| it.as_str().unwrap()).collect()).unwrap_or_default()
}

/// A value in which 1 and 1.0 are the same, as they are in JSON.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields.iter().map(|(name, it)| (name.clone(), plain(it))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

#[tokio::test]
async fn helm_has_nothing_to_say_against_it() {
    let chart = Chart::find().unwrap();
    let folder = Chart::folder().display().to_string();
    let said =
        chart.helm(&["lint", &folder, "--strict"], Some(&json!({"syncCode": SYNC})), None).await.unwrap();
    assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
    let objects = chart.template(&json!({"syncCode": SYNC})).await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container(of(&objects, "Deployment")[0])["image"], format!("larder:{version}"));
    let crd = of(&objects, "CustomResourceDefinition")[0];
    assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let generated = larder_crds::crd_json().unwrap();
    assert_eq!(plain(&crd["spec"]), plain(&generated["spec"]));
}

#[tokio::test]
async fn values_that_are_wrong_are_refused_by_name() {
    let chart = Chart::find().unwrap();
    for (wrong, says) in [
        (json!({}), "syncCode is not set: write the image of model-sync"),
        (json!({"syncCode": "docker.io/x:1"}), "'/syncCode'"),
        (json!({"syncCode": SYNC, "replica": 2}), "additional properties 'replica' not allowed"),
        (
            json!({"syncCode": SYNC, "image": {"name": "x"}}),
            "at '/image': additional properties 'name' not allowed",
        ),
        (
            json!({"syncCode": SYNC, "rolePolicy": "all"}),
            "'/rolePolicy': value must be one of 'any', 'annotated'",
        ),
        (json!({"syncCode": SYNC, "callsPerSecond": 0}), "'/callsPerSecond': minimum"),
        (json!({"syncCode": SYNC, "namespaces": ["Vision"]}), "'/namespaces/0'"),
        (json!({"syncCode": SYNC, "clusterId": "a/b"}), "'/clusterId'"),
        (json!({"syncCode": SYNC, "shards": [{"selector": "a=b"}]}), "missing property 'name'"),
        (
            json!({"syncCode": SYNC, "shards": [{"name": "a"}, {"name": "b"}]}),
            "shard b has the selector and namespaces of another",
        ),
        (
            json!({"syncCode": SYNC, "shards": [{"name": "a"}], "selector": "x"}),
            "write them in each of the shards",
        ),
        (
            json!({"syncCode": SYNC, "replicas": 2, "leaderElection": {"enabled": false}}),
            "only one replica may run",
        ),
        (
            json!({"syncCode": SYNC, "metrics": {"service": false, "monitor": "ServiceMonitor"}}),
            "set it to true",
        ),
    ] {
        let said = chart.template(&wrong).await.unwrap_err().to_string();
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[tokio::test]
async fn every_flag_of_the_controller_is_a_value() {
    let chart = Chart::find().unwrap();
    let values = json!({
        "syncCode": SYNC, "region": "eu-west-1", "clusterId": "c", "allowSourceHosts": ["h:1"], "namespaces": ["a"],
        "selector": "x=y", "rolePolicy": "annotated", "sourceCa": "-----BEGIN CERTIFICATE-----",
    });
    let mut written: BTreeSet<String> = BTreeSet::new();
    for values in [&values, &json!({"syncCode": SYNC, "leaderElection": {"enabled": false}})] {
        let objects = chart.template(values).await.unwrap();
        let deployment = of(&objects, "Deployment")[0];
        let command =
            texts(&container(deployment)["args"]).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let parsed =
            Cli::command().try_get_matches_from(std::iter::once("larder".to_owned()).chain(command.clone()));
        assert!(parsed.is_ok(), "{command:?}: {parsed:?}");
        written.extend(
            command.iter().filter_map(|it| it.strip_prefix("--")?.split('=').next().map(str::to_owned)),
        );
        let env = container(deployment)["env"].as_array().unwrap();
        written.extend(env.iter().map(|it| it["name"].as_str().unwrap().to_owned()));
    }
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    // In a Pod it is the cluster's own API server.
    let elsewhere = ["help", "kubeconfig", "context"];
    let flags = run.get_arguments().filter_map(clap::Arg::get_long);
    for flag in flags.filter(|it| !elsewhere.contains(it)) {
        let env = run.get_arguments().find(|it| it.get_long() == Some(flag)).and_then(clap::Arg::get_env);
        let is_env = env.is_some_and(|env| written.contains(env.to_str().unwrap()));
        assert!(written.contains(flag) || is_env, "--{flag} has no value in the chart");
    }
}

#[tokio::test]
async fn each_scope_has_the_lease_that_its_controller_takes() {
    let chart = Chart::find().unwrap();
    for shards in [
        json!([{"name": "all"}]),
        json!([{"name": "a", "selector": "shard=a"}, {"name": "b", "selector": "shard in (b, c)"}]),
        json!([{"name": "a", "namespaces": ["vision", "speech"]}, {"name": "b", "namespaces": ["b"], "selector": "x"}]),
    ] {
        let objects = chart.template(&json!({"syncCode": SYNC, "shards": shards})).await.unwrap();
        let expected: Vec<String> = shards
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| {
                let namespaces = texts(&shard["namespaces"]).into_iter().map(str::to_owned).collect();
                Scope { namespaces, selector: shard["selector"].as_str().map(str::to_owned) }.lease_name()
            })
            .collect();
        let role = *of(&objects, "Role").iter().find(|it| it["metadata"]["name"] == "larder-lease").unwrap();
        assert_eq!(texts(&role["rules"][1]["resourceNames"]), expected, "{shards}");
        let deployments = of(&objects, "Deployment");
        assert_eq!(deployments.len(), expected.len());
        let selectors: BTreeSet<String> =
            deployments.iter().map(|it| it["spec"]["selector"]["matchLabels"].to_string()).collect();
        assert_eq!(selectors.len(), expected.len(), "no Deployment takes another one's pods");
    }
}

#[tokio::test]
async fn rights_are_no_wider_than_the_scope() {
    let chart = Chart::find().unwrap();
    let cases = [
        // Values, the resources of the ClusterRole, the namespaces with Roles beside the release's own.
        (json!({}), vec!["inferenceendpoints", "inferenceendpoints/status", "events", "namespaces"], vec![]),
        (
            json!({"clusterId": "c"}),
            vec!["inferenceendpoints", "inferenceendpoints/status", "events"],
            vec![],
        ),
        (json!({"namespaces": ["vision"]}), vec!["namespaces"], vec!["vision"]),
        (json!({"namespaces": ["vision", "speech"], "clusterId": "c"}), vec![], vec!["speech", "vision"]),
        (
            json!({"shards": [{"name": "a", "namespaces": ["vision"]}, {"name": "b", "namespaces": ["speech"]}], "clusterId": "c"}),
            vec![],
            vec!["speech", "vision"],
        ),
    ];
    for (values, resources, namespaces) in cases {
        let mut all = values.clone();
        all["syncCode"] = json!(SYNC);
        all["rbac"] = json!({"aggregate": false});
        let objects = chart.template(&all).await.unwrap();
        let clusters = of(&objects, "ClusterRole");
        let found: Vec<&str> = clusters
            .iter()
            .flat_map(|it| it["rules"].as_array().unwrap())
            .flat_map(|rule| texts(&rule["resources"]))
            .collect();
        assert_eq!(found, resources, "{values}");
        let roles: Vec<&Value> = of(&objects, "Role")
            .into_iter()
            .filter(|it| it["metadata"]["namespace"] != "larder-system")
            .collect();
        let found: Vec<&str> = roles.iter().map(|it| it["metadata"]["namespace"].as_str().unwrap()).collect();
        assert_eq!(found, namespaces, "{values}");
        for rule in objects.iter().flat_map(|it| it["rules"].as_array().cloned().unwrap_or_default()) {
            assert!(!rule.to_string().contains('*'), "{rule}");
        }
    }
    let tenants =
        json!({"syncCode": SYNC, "namespaces": ["vision"], "clusterId": "c", "rolePolicy": "annotated"});
    let objects = chart.template(&tenants).await.unwrap();
    let role = *of(&objects, "ClusterRole").iter().find(|it| it["metadata"]["name"] == "larder").unwrap();
    assert_eq!(
        texts(&role["rules"][0]["resourceNames"]),
        ["vision"],
        "a controller of one namespace knows one"
    );
}

#[tokio::test]
async fn the_prometheus_operator_is_told_as_it_has_it() {
    let chart = Chart::find().unwrap();
    for (monitor, list) in [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")] {
        let metrics = json!({"monitor": monitor, "monitorLabels": {"release": "prometheus"}});
        let objects = chart.template(&json!({"syncCode": SYNC, "metrics": metrics})).await.unwrap();
        let it = of(&objects, monitor)[0];
        assert_eq!(it["metadata"]["labels"]["release"], "prometheus");
        let port = &it["spec"][list][0]["port"];
        let service = of(&objects, "Service")[0];
        assert_eq!((port, &service["spec"]["ports"][0]["name"]), (&json!("metrics"), port));
        let pods = &of(&objects, "Deployment")[0]["spec"]["template"]["metadata"]["labels"];
        for (label, value) in service["spec"]["selector"].as_object().unwrap() {
            assert_eq!(&pods[label], value);
        }
    }
    let values = json!({"syncCode": SYNC, "image": {"repository": "r/larder", "digest": format!("sha256:{}", "a".repeat(64))}});
    let objects = chart.template(&values).await.unwrap();
    let image = container(of(&objects, "Deployment")[0])["image"].as_str().unwrap();
    assert_eq!(image, format!("r/larder@sha256:{}", "a".repeat(64)));
    assert_eq!(names(&of(&objects, "ConfigMap")), [""; 0]);
}

#[tokio::test]
async fn argo_cd_shows_what_the_conditions_say() {
    let chart = Chart::find().unwrap();
    let (before, at) = (InferenceEndpointStatus::default(), Timestamp::UNIX_EPOCH);
    let why = Refused {
        field: "spec.aws.region".to_owned(),
        value: "not set".to_owned(),
        remedy: "write \"it\"\nor --region".to_owned(),
    };
    let ready = |status: &str, reason: &str, also: &str| {
        let condition = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": reason, "message": "m", "observedGeneration": 2});
        json!({"conditions": [condition("Ready", status), condition(also, "True")]})
    };
    for (status, generation, health, says) in [
        (Value::Null, 1, "Progressing", "the controller has not looked at it yet"),
        (json!(suspended(2, false, &before, at)), 2, "Suspended", "spec.management is Suspend"),
        (json!(suspended(2, false, &before, at)), 3, "Progressing", "not looked at it yet"),
        (json!(refused(&why, 2, false, &before, at)), 2, "Degraded", "write \"it\""),
        (ready("True", "Converged", "StorageReady"), 2, "Healthy", "m"),
        (ready("False", "Syncing", "Reconciling"), 2, "Progressing", "m"),
        (ready("False", "PlanOnly", "Reconciling"), 2, "Suspended", "m"),
        (ready("False", "Paused", "Reconciling"), 2, "Suspended", "m"),
        (ready("False", "AccessDenied", "Stalled"), 2, "Degraded", "m"),
    ] {
        let object = json!({"metadata": {"name": "x", "generation": generation}, "status": status});
        let (found, message) = chart.health(&object).await.unwrap();
        assert_eq!(found, health, "{object}");
        assert!(message.contains(says), "{object}: {message}");
    }
}
