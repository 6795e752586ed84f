//! The whole of Larder on the stack: a real API server, the real controller process, the real SDK on the
//! wire, the real functions with real models.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail at once, and tables of cases are long"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::operation::get_bucket_notification_configuration::GetBucketNotificationConfigurationOutput;
use aws_sdk_s3::types::{
    FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter,
    QueueConfiguration, S3KeyFilter,
};
use kube::api::{DeleteParams, Patch, PatchParams};
use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::demo::screen::Screen;
use larder_tests::scenario::{BUCKET, NAMESPACE, Ocr, Scenario, TAG, condition, repository};
use larder_tests::stack::{ACCOUNT, Fault, REGION, Rule, Timings, When};
use serde_json::{Value, json};

/// A small endpoint: one tensor model, no warm sandboxes.
fn object(name: &str) -> Value {
    json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "models": [{
                "name": "det",
                "task": "tensor",
                "source": {"s3": {"bucket": BUCKET, "prefix": format!("{name}/")}}
            }],
            "refresh": {"intervalSeconds": 5, "settleSeconds": 1},
            "storage": {"efs": {"managed": {}}},
            "network": {"subnetIds": ["subnet-00000001"], "securityGroupIds": ["sg-00000001"]},
            "function": {
                "image": format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-inference:{TAG}"),
                "architecture": "x86_64",
                "roleArn": format!("arn:aws:iam::{ACCOUNT}:role/larder")
            },
            "expose": {"functionUrl": {"authType": "NONE"}}
        }
    })
}

async fn apply(scenario: &Scenario, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("e2e").force();
    scenario.endpoints().patch(name, &params, &Patch::Apply(object)).await.unwrap();
}

/// Uploads the detection model as the only file of a model.
async fn upload_det(scenario: &Scenario, bucket: &str, prefix: &str, ocr: Ocr) {
    let [(_, path), _] = scenario.models(ocr);
    let body = tokio::fs::read(path).await.unwrap();
    let put = scenario.stack.s3().put_object().bucket(bucket).key(format!("{prefix}model.onnx"));
    put.body(body.into()).send().await.unwrap();
}

/// Waits until the endpoint is as `is_there` says, and gives it; after `seconds` fails with what it is.
async fn until(
    scenario: &Scenario,
    name: &str,
    seconds: u64,
    is_there: impl Fn(&InferenceEndpoint) -> bool,
) -> InferenceEndpoint {
    let mut last = None;
    for _ in 0..seconds * 10 {
        if let Some(endpoint) = scenario.endpoints().get_opt(name).await.unwrap() {
            if is_there(&endpoint) {
                return endpoint;
            }
            last = Some(endpoint);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = last.and_then(|e| e.status).unwrap_or_default();
    let lines: Vec<String> = status
        .conditions
        .iter()
        .map(|c| format!("{} {} {}: {}", c.type_, c.status, c.reason, c.message))
        .collect();
    panic!("{name} is not there after {seconds} s:\n{}\nplan: {:#?}", lines.join("\n"), status.plan);
}

fn is_ready(endpoint: &InferenceEndpoint) -> bool {
    is_ready_at(endpoint, "1")
}

/// Asks for a pass now, and waits for its object to be gone.
async fn delete(scenario: &Scenario, name: &str) {
    scenario.endpoints().delete(name, &DeleteParams::default()).await.unwrap();
    for _ in 0..900 {
        if scenario.endpoints().get_opt(name).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} is not gone: {:#?}", scenario.endpoints().get(name).await.unwrap().status);
}

async fn assert_nothing_left(scenario: &Scenario) {
    let left = scenario.stack.leftovers().await.unwrap();
    assert!(left.is_empty(), "left in AWS: {left:?}");
}

#[tokio::test]
async fn the_main_job_as_the_demo_shows_it() {
    let demo = larder_tests::demo::run(&mut Screen::new(false)).await.unwrap();
    demo.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_mending_it_is_noticed() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();
    let repository = format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-inference");

    let mut no_bucket = object("no-bucket");
    no_bucket["spec"]["models"][0]["source"]["s3"]["bucket"] = json!("nobodys-models");
    let mut no_image = object("no-image");
    no_image["spec"]["function"]["image"] = json!(format!("{repository}:unborn"));
    for name in ["denied", "no-image"] {
        upload_det(&scenario, BUCKET, &format!("{name}/"), Ocr::V4).await;
    }
    let denial = Rule::new("efs", "CreateFileSystem", When::Always, Fault::Denied).on("larder-vision-denied");
    scenario.stack.inject(denial);
    for object in [object("empty"), no_bucket, no_image, object("denied")] {
        apply(&scenario, &object).await;
    }
    for (name, type_, reason, says) in [
        ("empty", "ModelsSynced", "SourceEmpty", "s3://acme-models/empty/"),
        ("no-bucket", "ModelsSynced", "SourceNotFound", "nobodys-models"),
        ("no-image", "FunctionReady", "CodeNotFound", "larder-inference:unborn"),
        ("denied", "StorageReady", "AccessDenied", "CreateFileSystem"),
    ] {
        let is_said = |e: &InferenceEndpoint| {
            condition(e, type_).is_some_and(|(status, why, message)| {
                status == "False" && why == reason && message.contains(says)
            })
        };
        let endpoint = until(&scenario, name, 40, is_said).await;
        let (ready, why, message) = condition(&endpoint, "Ready").unwrap();
        assert_eq!((ready.as_str(), why.as_str()), ("False", reason), "{name}: {message}");
        assert!(condition(&endpoint, "Stalled").is_some(), "{name}");
    }
    // `kubectl get` and `kubectl describe` say it too.
    let table = scenario.kubectl(&["get", "iep", "-n", NAMESPACE]).await.unwrap();
    assert!(table.contains("SourceNotFound") && table.contains("AccessDenied"), "{table}");
    let described = scenario.kubectl(&["describe", "iep", "empty", "-n", NAMESPACE]).await.unwrap();
    assert!(described.contains("Warning") && described.contains("SourceEmpty"), "{described}");

    upload_det(&scenario, BUCKET, "empty/", Ocr::V4).await;
    scenario.make_bucket("nobodys-models").await.unwrap();
    upload_det(&scenario, "nobodys-models", "no-bucket/", Ocr::V4).await;
    scenario.push("larder-inference", "unborn", "later").await.unwrap();
    scenario.stack.clear_faults();
    for name in ["empty", "no-bucket", "no-image", "denied"] {
        let endpoint = until(&scenario, name, 120, is_ready).await;
        assert!(condition(&endpoint, "Stalled").is_none(), "{name}");
    }
    for name in ["empty", "no-bucket", "no-image", "denied"] {
        delete(&scenario, name).await;
    }
    assert_nothing_left(&scenario).await;
    controller.stop().await;
    scenario.stack.stop().await;
}

#[tokio::test]
async fn a_killed_controller_goes_on_where_it_was() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    upload_det(&scenario, BUCKET, "killed/", Ocr::V4).await;
    let mut object = object("killed");
    object["spec"]["capacity"] = json!({"provisioned": 1});
    apply(&scenario, &object).await;
    // Killed as soon as AWS has seen each of these calls, wherever the pass then is.
    let points = [
        ("efs", "CreateFileSystem"),
        ("efs", "CreateMountTarget"),
        ("lambda", "CreateFunction"),
        ("lambda", "PublishVersion"),
        ("lambda", "PutProvisionedConcurrencyConfig"),
        ("lambda", "CreateAlias"),
    ];
    for (n, (service, operation)) in points.into_iter().enumerate() {
        let controller =
            scenario.controller(&format!("larder-{n}"), &["--no-leader-election"]).await.unwrap();
        let before = scenario.stack.count(service, operation);
        for _ in 0..6000 {
            if scenario.stack.count(service, operation) > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        controller.kill();
        assert!(scenario.stack.count(service, operation) > before, "{operation} never came");
    }
    let controller = scenario.controller("larder-last", &["--no-leader-election"]).await.unwrap();
    let endpoint = until(&scenario, "killed", 90, is_ready).await;
    assert_eq!(endpoint.status.unwrap().summary.capacity, "1/1");

    // In the middle of a rollout.
    let published = scenario.stack.count("lambda", "PublishVersion");
    upload_det(&scenario, BUCKET, "killed/", Ocr::V6).await;
    for _ in 0..6000 {
        if scenario.stack.count("lambda", "PublishVersion") > published {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    controller.kill();
    let controller = scenario.controller("larder-after", &["--no-leader-election"]).await.unwrap();
    until(&scenario, "killed", 90, |e| is_ready_at(e, "2")).await;

    // Nothing was made twice.
    let kinds: Vec<&str> = scenario.stack.leftovers().await.unwrap().iter().map(|l| l.kind).collect();
    for kind in ["file system", "mount target", "access point", "alias"] {
        assert_eq!(kinds.iter().filter(|k| **k == kind).count(), 1, "{kind}: {kinds:?}");
    }
    delete(&scenario, "killed").await;
    assert_nothing_left(&scenario).await;
    controller.stop().await;
    scenario.stack.stop().await;
}

#[tokio::test]
async fn of_two_controllers_one_works_and_the_other_takes_over() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    upload_det(&scenario, BUCKET, "led/", Ocr::V4).await;
    let lease = ["--lease-seconds", "5"];
    let first = scenario.controller("first", &lease).await.unwrap();
    let second = scenario.controller("second", &lease).await.unwrap();
    let holder = async || {
        scenario
            .kubectl(&[
                "get",
                "lease",
                "larder-controller",
                "-n",
                "default",
                "-o",
                "jsonpath={.spec.holderIdentity}",
            ])
            .await
            .unwrap_or_default()
    };
    assert_eq!(holder().await, "first");
    apply(&scenario, &object("led")).await;
    until(&scenario, "led", 60, |e| condition(e, "StorageReady").is_some_and(|(s, ..)| s == "True")).await;
    assert!(!tokio::fs::read_to_string(&second.log).await.unwrap().contains("create file system"));
    first.kill();
    until(&scenario, "led", 90, is_ready).await;
    assert_eq!(holder().await, "second");

    // One that is asked to stop gives the lease back.
    second.stop().await;
    assert_eq!(holder().await, "");
    let third = scenario.controller("third", &lease).await.unwrap();
    delete(&scenario, "led").await;
    assert_nothing_left(&scenario).await;
    third.stop().await;
    scenario.stack.stop().await;
}

/// Somebody else's: a queue that the bucket tells of pictures, and a rule.
async fn their_notifications(scenario: &Scenario) -> GetBucketNotificationConfigurationOutput {
    let (sqs, s3) = (scenario.stack.sqs(), scenario.stack.s3());
    sqs.create_queue().queue_name("theirs").send().await.unwrap();
    let prefix = FilterRule::builder().name(FilterRuleName::Prefix).value("pictures/").build();
    let filter = NotificationConfigurationFilter::builder()
        .key(S3KeyFilter::builder().filter_rules(prefix).build())
        .build();
    let entry = QueueConfiguration::builder()
        .id("their pictures")
        .queue_arn(format!("arn:aws:sqs:{REGION}:{ACCOUNT}:theirs"))
        .events("s3:ObjectCreated:*".into())
        .filter(filter)
        .build()
        .unwrap();
    let all = NotificationConfiguration::builder().queue_configurations(entry).build();
    let put = s3.put_bucket_notification_configuration().bucket(BUCKET).notification_configuration(all);
    put.skip_destination_validation(true).send().await.unwrap();
    let rule =
        scenario.stack.eventbridge().put_rule().name("theirs").event_pattern(r#"{"source":["aws.s3"]}"#);
    rule.send().await.unwrap();
    notifications(scenario).await
}

async fn notifications(scenario: &Scenario) -> GetBucketNotificationConfigurationOutput {
    scenario.stack.s3().get_bucket_notification_configuration().bucket(BUCKET).send().await.unwrap()
}

#[tokio::test]
async fn an_upload_is_noticed_by_its_event() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let theirs = their_notifications(&scenario).await;
    // Listings come once a day: within the test's patience, only an event can tell of a change.
    let with_events = |name: &str| {
        let mut object = object(name);
        object["spec"]["models"][0]["source"]["s3"]["events"] = json!("EventBridge");
        object["spec"]["refresh"] =
            json!({"intervalSeconds": 86400, "maxIntervalSeconds": 86400, "settleSeconds": 1});
        object
    };
    for name in ["told", "also"] {
        upload_det(&scenario, BUCKET, &format!("{name}/"), Ocr::V4).await;
        apply(&scenario, &with_events(name)).await;
    }
    let controller = scenario.controller("larder", &[]).await.unwrap();
    for name in ["told", "also"] {
        until(&scenario, name, 120, is_ready).await;
    }
    let now = notifications(&scenario).await;
    assert!(now.event_bridge_configuration.is_some());
    assert_eq!(now.queue_configurations, theirs.queue_configurations, "what others put there is kept");

    upload_det(&scenario, BUCKET, "told/", Ocr::V6).await;
    let told = until(&scenario, "told", 60, |e| is_ready_at(e, "2")).await;
    assert_eq!(told.status.unwrap().summary.models, "1/1");
    let also = scenario.endpoints().get("also").await.unwrap();
    assert!(is_ready(&also), "it was not meant");

    // While no controller runs, events wait; one that comes looks anyway.
    controller.stop().await;
    upload_det(&scenario, BUCKET, "also/", Ocr::V6).await;
    let controller = scenario.controller("larder-next", &[]).await.unwrap();
    until(&scenario, "also", 60, |e| is_ready_at(e, "2")).await;
    // And it hears, too.
    upload_det(&scenario, BUCKET, "also/", Ocr::V4).await;
    until(&scenario, "also", 60, |e| !is_ready_at(e, "2")).await;
    until(&scenario, "also", 60, |e| is_ready_at(e, "1") || is_ready_at(e, "3")).await;

    delete(&scenario, "told").await;
    let left = scenario.stack.leftovers().await.unwrap();
    assert!(left.iter().any(|left| left.kind == "queue"), "the other endpoint needs it: {left:?}");
    delete(&scenario, "also").await;
    assert_nothing_left(&scenario).await;
    assert_eq!(notifications(&scenario).await.queue_configurations, theirs.queue_configurations);
    let rules = scenario.stack.eventbridge().list_rules().send().await.unwrap().rules.unwrap();
    assert_eq!(rules.iter().filter_map(|rule| rule.name()).collect::<Vec<_>>(), ["theirs"]);
    controller.stop().await;
    scenario.stack.stop().await;
}

#[tokio::test]
async fn a_brought_file_system_and_an_archive_of_code() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    let efs = scenario.stack.efs();
    let brought = efs.create_file_system().creation_token("theirs").send().await.unwrap();
    let id = brought.file_system_id().to_owned();
    // An archive whose bootstrap the function host replaces by the built binary.
    let script = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').writestr('bootstrap', '#!/bin/sh')";
    let archive = scenario.stack.dir().join("code.zip");
    let made = tokio::process::Command::new(&scenario.stack.tools().python)
        .args(["-c", script, &archive.display().to_string()])
        .env_clear()
        .status()
        .await
        .unwrap();
    assert!(made.success());
    let body = tokio::fs::read(&archive).await.unwrap();
    scenario.stack.s3().put_object().bucket(BUCKET).key("code/x.zip").body(body.into()).send().await.unwrap();
    upload_det(&scenario, BUCKET, "zipped/", Ocr::V4).await;

    let mut object = object("zipped");
    object["spec"]["storage"]["efs"] = json!({"fileSystemId": id});
    let function = object["spec"]["function"].as_object_mut().unwrap();
    function.remove("image");
    function.insert("zip".to_owned(), json!({"s3": {"bucket": BUCKET, "key": "code/x.zip"}}));
    object["spec"]["capacity"] = json!({"reserved": 7});
    apply(&scenario, &object).await;
    let controller = scenario.controller("larder", &[]).await.unwrap();

    // It has no mount target, and gets none from us.
    let is_missing = |e: &InferenceEndpoint| {
        condition(e, "StorageReady").is_some_and(|(_, reason, _)| reason == "MountTargetMissing")
    };
    until(&scenario, "zipped", 40, is_missing).await;
    let target = efs.create_mount_target().file_system_id(&id).subnet_id("subnet-00000001");
    target.security_groups("sg-00000001").send().await.unwrap();
    let endpoint = until(&scenario, "zipped", 120, is_ready).await;

    // The model answers over the Open Inference Protocol, through the URL.
    let url = endpoint.status.unwrap().url.unwrap();
    let input = json!({"inputs": [{
        "name": "x", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": vec![0.5; 3 * 32 * 32],
    }]});
    let answer = scenario
        .post(&url, "v2/models/det/infer", "application/json", input.to_string().into())
        .await
        .unwrap();
    let answer = answer.json().unwrap();
    assert_eq!(answer["outputs"][0]["shape"], json!([1, 1, 32, 32]), "{answer}");

    delete(&scenario, "zipped").await;
    assert_nothing_left(&scenario).await;
    let kept = efs.describe_file_systems().file_system_id(&id).send().await.unwrap();
    assert_eq!(kept.file_systems().len(), 1, "the brought file system was deleted");
    let targets = efs.describe_mount_targets().file_system_id(&id).send().await.unwrap();
    assert_eq!(targets.mount_targets().len(), 1, "its mount target was deleted");
    controller.stop().await;
    scenario.stack.stop().await;
}

#[tokio::test]
async fn plan_says_and_changes_nothing() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    upload_det(&scenario, BUCKET, "planned/", Ocr::V4).await;
    let file = scenario.stack.dir().join("planned.yaml");
    let mut object = object("planned");
    tokio::fs::write(&file, object.to_string()).await.unwrap();
    let (code, text) = scenario.plan(&file, &[]).await.unwrap();
    assert_eq!(code, 2, "{text}");
    for step in [
        "+ create file system",
        "+ create function",
        "> sync the models",
        "+ publish a version",
        "+ create alias",
    ] {
        assert!(text.contains(step), "{step}: {text}");
    }
    assert_nothing_left(&scenario).await;
    assert!(scenario.endpoints().get_opt("planned").await.unwrap().is_none());

    // `management: Plan` says it in the status.
    object["spec"]["management"] = json!("Plan");
    apply(&scenario, &object).await;
    let controller = scenario.controller("larder", &[]).await.unwrap();
    let endpoint =
        until(&scenario, "planned", 30, |e| e.status.as_ref().is_some_and(|s| !s.plan.is_empty())).await;
    assert!(endpoint.status.unwrap().plan[0].contains("create file system"));
    assert_nothing_left(&scenario).await;

    object["spec"]["management"] = json!("Apply");
    apply(&scenario, &object).await;
    until(&scenario, "planned", 90, is_ready).await;
    let (code, text) = scenario.plan(&file, &[]).await.unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Nothing to do"), "{text}");

    // A change shows as a change, and a refused file as a refusal.
    object["spec"]["function"]["memoryMiB"] = json!(3000);
    tokio::fs::write(&file, object.to_string()).await.unwrap();
    let (code, text) = scenario.plan(&file, &["--color=always"]).await.unwrap();
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("memory 2048 → 3000 MiB") && text.contains("\x1b[33m"), "{text}");
    object["spec"]["function"]["memoryMiB"] = json!(1);
    tokio::fs::write(&file, object.to_string()).await.unwrap();
    let (code, text) = scenario.plan(&file, &[]).await.unwrap();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("memoryMiB"), "{text}");

    // Conditions of others stay; ours come and go.
    let theirs = json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": "InferenceEndpoint", "metadata": {"name": "planned"},
        "status": {"conditions": [{
            "type": "acme.example/Audited", "status": "True", "reason": "Fine", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"
        }]}
    });
    let params = PatchParams::apply("acme").force();
    scenario.endpoints().patch_status("planned", &params, &Patch::Apply(&theirs)).await.unwrap();
    object["spec"]["function"]["memoryMiB"] = json!(3000);
    apply(&scenario, &object).await;
    let endpoint = until(&scenario, "planned", 90, |e| is_ready_at(e, "2")).await;
    let types: BTreeSet<String> = endpoint.status.unwrap().conditions.into_iter().map(|c| c.type_).collect();
    assert!(types.contains("acme.example/Audited") && !types.contains("Reconciling"), "{types:?}");
    delete(&scenario, "planned").await;
    assert_nothing_left(&scenario).await;
    controller.stop().await;
    scenario.stack.stop().await;
}

#[test]
fn the_examples_are_read() {
    let path = repository().join("docs/examples/signs.yaml");
    let object: InferenceEndpoint = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(object.spec.models.len(), 1);
}
