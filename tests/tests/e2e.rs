//! The whole of Larder on the stack: a real API server, the real controller process, the real SDK on the
//! wire, the real functions with real models.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::operation::get_bucket_notification_configuration::GetBucketNotificationConfigurationOutput;
use aws_sdk_s3::types::{
    FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter,
    QueueConfiguration, S3KeyFilter,
};
use kube::api::{Patch, PatchParams};
use larder_crds::InferenceEndpoint;
use larder_tests::demo::is_ready_at;
use larder_tests::demo::screen::Screen;
use larder_tests::scenario::{
    BUCKET, NAMESPACE, Ocr, Scenario, condition, repository, small_endpoint, tensor,
};
use larder_tests::stack::{ACCOUNT, Fault, REGION, Rule, Timings, When};
use serde_json::json;

fn is_ready(endpoint: &InferenceEndpoint) -> bool {
    is_ready_at(endpoint, "1")
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

    let mut no_bucket = small_endpoint("no-bucket");
    no_bucket["spec"]["models"][0]["source"]["s3"]["bucket"] = json!("nobodys-models");
    let mut no_image = small_endpoint("no-image");
    no_image["spec"]["function"]["image"] = json!(format!("{repository}:unborn"));
    for name in ["denied", "no-image"] {
        scenario.upload_det(BUCKET, &format!("{name}/"), Ocr::V4).await.unwrap();
    }
    let denial = Rule::new("efs", "CreateFileSystem", When::Always, Fault::Denied).on("larder-vision-denied");
    scenario.stack.inject(denial);
    for object in [small_endpoint("empty"), no_bucket, no_image, small_endpoint("denied")] {
        scenario.apply(&object).await.unwrap();
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
        let endpoint = scenario.until(name, "to say it", 40, is_said).await.unwrap();
        let (ready, why, message) = condition(&endpoint, "Ready").unwrap();
        assert_eq!((ready.as_str(), why.as_str()), ("False", reason), "{name}: {message}");
        assert!(condition(&endpoint, "Stalled").is_some(), "{name}");
    }
    // `kubectl get` and `kubectl describe` say it too.
    let table = scenario.kubectl(&["get", "iep", "-n", NAMESPACE]).await.unwrap();
    assert!(table.contains("SourceNotFound") && table.contains("AccessDenied"), "{table}");
    let described = scenario.kubectl(&["describe", "iep", "empty", "-n", NAMESPACE]).await.unwrap();
    assert!(described.contains("Warning") && described.contains("SourceEmpty"), "{described}");

    scenario.upload_det(BUCKET, "empty/", Ocr::V4).await.unwrap();
    scenario.make_bucket("nobodys-models").await.unwrap();
    scenario.upload_det("nobodys-models", "no-bucket/", Ocr::V4).await.unwrap();
    scenario.push("larder-inference", "unborn", "later").await.unwrap();
    scenario.stack.clear_faults();
    for name in ["empty", "no-bucket", "no-image", "denied"] {
        let endpoint = scenario.until(name, "to be ready", 120, is_ready).await.unwrap();
        assert!(condition(&endpoint, "Stalled").is_none(), "{name}");
    }
    for name in ["empty", "no-bucket", "no-image", "denied"] {
        scenario.delete(name, 90).await.unwrap();
    }
    scenario.nothing_left().await.unwrap();
    controller.stop().await;
    scenario.stack.stop().await;
}

#[tokio::test]
async fn a_killed_controller_goes_on_where_it_was() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    scenario.upload_det(BUCKET, "killed/", Ocr::V4).await.unwrap();
    let mut object = small_endpoint("killed");
    object["spec"]["capacity"] = json!({"provisioned": 1});
    scenario.apply(&object).await.unwrap();
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
    let endpoint = scenario.until("killed", "to be ready", 90, is_ready).await.unwrap();
    assert_eq!(endpoint.status.unwrap().summary.capacity, "1/1");

    // In the middle of a rollout.
    let published = scenario.stack.count("lambda", "PublishVersion");
    scenario.upload_det(BUCKET, "killed/", Ocr::V6).await.unwrap();
    for _ in 0..6000 {
        if scenario.stack.count("lambda", "PublishVersion") > published {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    controller.kill();
    let controller = scenario.controller("larder-after", &["--no-leader-election"]).await.unwrap();
    scenario.until("killed", "to serve the next version", 90, |e| is_ready_at(e, "2")).await.unwrap();

    // Nothing was made twice.
    let kinds: Vec<&str> = scenario.stack.leftovers().await.unwrap().iter().map(|l| l.kind).collect();
    for kind in ["file system", "mount target", "access point", "alias"] {
        assert_eq!(kinds.iter().filter(|k| **k == kind).count(), 1, "{kind}: {kinds:?}");
    }
    scenario.delete("killed", 90).await.unwrap();
    scenario.nothing_left().await.unwrap();
    controller.stop().await;
    scenario.stack.stop().await;
}

#[tokio::test]
async fn of_two_controllers_one_works_and_the_other_takes_over() {
    let scenario = Scenario::start(Timings::default()).await.unwrap();
    scenario.upload_det(BUCKET, "led/", Ocr::V4).await.unwrap();
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
    scenario.apply(&small_endpoint("led")).await.unwrap();
    scenario
        .until("led", "to have its storage", 60, |e| {
            condition(e, "StorageReady").is_some_and(|(s, ..)| s == "True")
        })
        .await
        .unwrap();
    assert!(!tokio::fs::read_to_string(&second.log).await.unwrap().contains("create file system"));
    first.kill();
    scenario.until("led", "to be ready", 90, is_ready).await.unwrap();
    assert_eq!(holder().await, "second");

    // One that is asked to stop gives the lease back.
    second.stop().await;
    assert_eq!(holder().await, "");
    let third = scenario.controller("third", &lease).await.unwrap();
    scenario.delete("led", 90).await.unwrap();
    scenario.nothing_left().await.unwrap();
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
        let mut object = small_endpoint(name);
        object["spec"]["models"][0]["source"]["s3"]["events"] = json!("EventBridge");
        object["spec"]["refresh"] =
            json!({"intervalSeconds": 86400, "maxIntervalSeconds": 86400, "settleSeconds": 1});
        object
    };
    for name in ["told", "also"] {
        scenario.upload_det(BUCKET, &format!("{name}/"), Ocr::V4).await.unwrap();
        scenario.apply(&with_events(name)).await.unwrap();
    }
    let controller = scenario.controller("larder", &[]).await.unwrap();
    for name in ["told", "also"] {
        scenario.until(name, "to be ready", 120, is_ready).await.unwrap();
    }
    let now = notifications(&scenario).await;
    assert!(now.event_bridge_configuration.is_some());
    assert_eq!(now.queue_configurations, theirs.queue_configurations, "what others put there is kept");

    scenario.upload_det(BUCKET, "told/", Ocr::V6).await.unwrap();
    let told =
        scenario.until("told", "to serve the next version", 60, |e| is_ready_at(e, "2")).await.unwrap();
    assert_eq!(told.status.unwrap().summary.models, "1/1");
    let also = scenario.endpoints().get("also").await.unwrap();
    assert!(is_ready(&also), "it was not meant");

    // While no controller runs, events wait; one that comes looks anyway.
    controller.stop().await;
    scenario.upload_det(BUCKET, "also/", Ocr::V6).await.unwrap();
    let controller = scenario.controller("larder-next", &[]).await.unwrap();
    scenario.until("also", "to serve the next version", 60, |e| is_ready_at(e, "2")).await.unwrap();
    // And it hears, too.
    scenario.upload_det(BUCKET, "also/", Ocr::V4).await.unwrap();
    scenario.until("also", "to hear", 60, |e| !is_ready_at(e, "2")).await.unwrap();
    scenario
        .until("also", "to be as before", 60, |e| is_ready_at(e, "1") || is_ready_at(e, "3"))
        .await
        .unwrap();

    scenario.delete("told", 90).await.unwrap();
    let left = scenario.stack.leftovers().await.unwrap();
    assert!(left.iter().any(|left| left.kind == "queue"), "the other endpoint needs it: {left:?}");
    scenario.delete("also", 90).await.unwrap();
    scenario.nothing_left().await.unwrap();
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
    scenario.upload_det(BUCKET, "zipped/", Ocr::V4).await.unwrap();

    let mut object = small_endpoint("zipped");
    object["spec"]["storage"]["efs"] = json!({"fileSystemId": id});
    let function = object["spec"]["function"].as_object_mut().unwrap();
    function.remove("image");
    function.insert("zip".to_owned(), json!({"s3": {"bucket": BUCKET, "key": "code/x.zip"}}));
    object["spec"]["capacity"] = json!({"reserved": 7});
    scenario.apply(&object).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();

    // It has no mount target, and gets none from us.
    let is_missing = |e: &InferenceEndpoint| {
        condition(e, "StorageReady").is_some_and(|(_, reason, _)| reason == "MountTargetMissing")
    };
    scenario.until("zipped", "to miss its mount target", 40, is_missing).await.unwrap();
    let target = efs.create_mount_target().file_system_id(&id).subnet_id("subnet-00000001");
    target.security_groups("sg-00000001").send().await.unwrap();
    let endpoint = scenario.until("zipped", "to be ready", 120, is_ready).await.unwrap();

    // The model answers over the Open Inference Protocol, through the URL.
    let url = endpoint.status.unwrap().url.unwrap();
    let input = json!({"inputs": [tensor()]});
    let answer = scenario
        .post(&url, "v2/models/det/infer", "application/json", input.to_string().into())
        .await
        .unwrap();
    let answer = answer.json().unwrap();
    assert_eq!(answer["outputs"][0]["shape"], json!([1, 1, 32, 32]), "{answer}");

    scenario.delete("zipped", 90).await.unwrap();
    scenario.nothing_left().await.unwrap();
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
    scenario.upload_det(BUCKET, "planned/", Ocr::V4).await.unwrap();
    let file = scenario.stack.dir().join("planned.yaml");
    let mut object = small_endpoint("planned");
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
    scenario.nothing_left().await.unwrap();
    assert!(scenario.endpoints().get_opt("planned").await.unwrap().is_none());

    // `management: Plan` says it in the status.
    object["spec"]["management"] = json!("Plan");
    scenario.apply(&object).await.unwrap();
    let controller = scenario.controller("larder", &[]).await.unwrap();
    let endpoint = scenario
        .until("planned", "to have a plan", 30, |e| e.status.as_ref().is_some_and(|s| !s.plan.is_empty()))
        .await
        .unwrap();
    assert!(endpoint.status.unwrap().plan[0].contains("create file system"));
    scenario.nothing_left().await.unwrap();

    object["spec"]["management"] = json!("Apply");
    scenario.apply(&object).await.unwrap();
    scenario.until("planned", "to be ready", 90, is_ready).await.unwrap();
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
    scenario.apply(&object).await.unwrap();
    let endpoint =
        scenario.until("planned", "to serve the next version", 90, |e| is_ready_at(e, "2")).await.unwrap();
    let types: BTreeSet<String> = endpoint.status.unwrap().conditions.into_iter().map(|c| c.type_).collect();
    assert!(types.contains("acme.example/Audited") && !types.contains("Reconciling"), "{types:?}");
    scenario.delete("planned", 90).await.unwrap();
    scenario.nothing_left().await.unwrap();
    controller.stop().await;
    scenario.stack.stop().await;
}

#[test]
fn the_examples_are_read() {
    let path = repository().join("docs/examples/signs.yaml");
    let object: InferenceEndpoint = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(object.spec.models.len(), 1);
}
