//! What the real API server refuses, each with a sentence that says what to write instead.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a test that cannot go on must fail at once, and tables of cases are long"
)]

use std::time::Duration;

use larder_tests::scenario::repository;
use larder_tests::stack::{Options, Stack};
use serde_json::{Value, json};

/// An object that is accepted.
fn good() -> Value {
    json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": "signs", "namespace": "default"},
        "spec": {
            "aws": {"region": "eu-west-1"},
            "models": [{"name": "ocr", "source": {"s3": {"bucket": "acme-models", "prefix": "ocr/"}}}],
            "storage": {"efs": {"managed": {}}},
            "network": {"subnetIds": ["subnet-00000001"], "securityGroupIds": ["sg-00000001"]},
            "function": {
                "image": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/larder-inference:0.1.0",
                "roleArn": "arn:aws:iam::111122223333:role/larder"
            }
        }
    })
}

/// `object` with `value` at `pointer`; JSON null takes the field out.
fn with(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        // Missing parents are made.
        let mut at = &mut object;
        for part in parent.split('/').skip(1) {
            at = match part.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[part],
            };
        }
        if value.is_null() {
            at.as_object_mut().unwrap().remove(key);
        } else {
            at[key] = value.clone();
        }
    }
    object
}

async fn apply(stack: &Stack, object: &Value) -> Result<(), String> {
    let output = stack.kubectl_with(&["apply", "-f", "-"], &object.to_string()).await.unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn cluster() -> Stack {
    let stack = Stack::start(Options::kubernetes()).await.unwrap();
    let crd = repository().join("crds/inferenceendpoints.larder.dev.yaml").display().to_string();
    for args in [
        vec!["apply", "--server-side", "-f", &crd],
        vec!["wait", "--for=condition=Established", "--timeout=20s", "crd/inferenceendpoints.larder.dev"],
    ] {
        let output = stack.kubectl(&args).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("unrecognized format"), "{said}");
    }
    // The discovery of a new kind may lag for a moment.
    for _ in 0..50 {
        if stack.kubectl(&["get", "iep"]).await.unwrap().status.success() {
            return stack;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the API server does not know InferenceEndpoints");
}

/// A rollout with these steps of a minute each.
fn canary(percents: &[i32]) -> Value {
    let step = |percent| json!({"weightPercent": percent, "holdSeconds": 60});
    json!({"strategy": "Canary", "steps": percents.iter().map(step).collect::<Vec<_>>()})
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn bad_specs_are_refused_with_a_remedy() {
    let stack = cluster().await;
    let model =
        |name: &str| json!({"name": name, "source": {"s3": {"bucket": "acme-models", "prefix": "x/"}}});
    let cases: Vec<(&str, Vec<(&str, Value)>, &str)> = vec![
        ("no models", vec![("/spec/models", json!([]))], "should have at least 1 items"),
        ("duplicate names", vec![("/spec/models", json!([model("a"), model("a")]))], "Duplicate value"),
        ("a bad model name", vec![("/spec/models/0/name", json!("OCR"))], "spec.models[0].name"),
        (
            "a prefix without its slash",
            vec![("/spec/models/0/source/s3/prefix", json!("ocr"))],
            "must end in /",
        ),
        (
            "an absolute prefix",
            vec![("/spec/models/0/source/s3/prefix", json!("/ocr/"))],
            "not begin with one",
        ),
        (
            "two sources",
            vec![("/spec/models/0/source/huggingFace", json!({"repository": "acme/ocr"}))],
            "takes exactly one of s3, oci, https and huggingFace",
        ),
        ("no source", vec![("/spec/models/0/source", json!({}))], "takes exactly one of s3, oci"),
        (
            "a reference without a tag",
            vec![("/spec/models/0/source", json!({"oci": {"reference": "ghcr.io/acme/ocr"}}))],
            "write REGISTRY/REPOSITORY:TAG",
        ),
        (
            "a URL without a digest",
            vec![("/spec/models/0/source", json!({"https": {"files": [{"url": "https://a.example/m"}]}}))],
            "source.https.files[0].sha256: Required value",
        ),
        (
            "a URL without TLS",
            vec![(
                "/spec/models/0/source",
                json!({"https": {"files": [{"url": "http://a.example/m", "sha256": &DIGEST[7..]}]}}),
            )],
            "must begin with https://",
        ),
        (
            "a hub without TLS",
            vec![(
                "/spec/models/0/source",
                json!({"huggingFace": {"repository": "a/b", "endpoint": "http://hub.example"}}),
            )],
            "must begin with https://",
        ),
        (
            "a folder of an image that is absolute",
            vec![(
                "/spec/models/0/source",
                json!({"oci": {"reference": "ghcr.io/a/b:1", "path": "/models"}}),
            )],
            "source.oci.path is a folder from the image's root",
        ),
        (
            "a folder of an image with a .. in it",
            vec![("/spec/models/0/source", json!({"oci": {"reference": "ghcr.io/a/b:1", "path": "a/../b"}}))],
            "source.oci.path is a folder from the image's root",
        ),
        (
            "a secret that is no ARN",
            vec![("/spec/models/0/source", json!({"oci": {"reference": "ghcr.io/a/b:1", "secretArn": "s"}}))],
            "source.oci.secretArn",
        ),
        ("a bad digest", vec![("/spec/models/0/digest", json!("md5:0"))], "spec.models[0].digest"),
        (
            "pinned without a digest",
            vec![("/spec/refresh", json!({"policy": "Pinned"}))],
            "write models[].digest",
        ),
        (
            "too frequent",
            vec![("/spec/refresh", json!({"intervalSeconds": 1}))],
            "greater than or equal to 5",
        ),
        (
            "an absolute marker",
            vec![("/spec/models/0/source/s3/marker", json!("/_SUCCESS"))],
            "relative to the prefix",
        ),
        (
            "two file systems",
            vec![("/spec/storage/efs/fileSystemId", json!("fs-0123456789abcdef0"))],
            "takes either managed or fileSystemId",
        ),
        (
            "no file system",
            vec![("/spec/storage/efs/managed", Value::Null)],
            "takes either managed or fileSystemId",
        ),
        ("two storage kinds", vec![("/spec/storage/s3", json!({}))], "unknown field"),
        (
            "a key without encryption",
            vec![("/spec/storage/efs/managed", json!({"encrypted": false, "kmsKeyId": "k"}))],
            "needs encrypted: true",
        ),
        (
            "the root as access point",
            vec![("/spec/storage/efs/accessPoint", json!({"path": "/"}))],
            "must be absolute and not / itself",
        ),
        (
            "a relative access point",
            vec![("/spec/storage/efs/accessPoint", json!({"path": "x"}))],
            "must be absolute and not / itself",
        ),
        (
            "an access point with ..",
            vec![("/spec/storage/efs/accessPoint", json!({"path": "/a/../b"}))],
            "must not have empty, . or .. parts",
        ),
        (
            "bad permissions",
            vec![("/spec/storage/efs/accessPoint", json!({"path": "/a", "permissions": "rwx"}))],
            "permissions",
        ),
        (
            "image and zip",
            vec![("/spec/function/zip", json!({"s3": {"bucket": "code", "key": "x.zip"}}))],
            "takes either image or zip",
        ),
        ("neither image nor zip", vec![("/spec/function/image", Value::Null)], "takes either image or zip"),
        (
            "an image of elsewhere",
            vec![("/spec/function/image", json!("docker.io/library/nginx:1"))],
            "spec.function.image",
        ),
        ("too little memory", vec![("/spec/function/memoryMiB", json!(127))], "greater than or equal to 128"),
        ("too much memory", vec![("/spec/function/memoryMiB", json!(10241))], "less than or equal to 10240"),
        ("no time", vec![("/spec/function/timeoutSeconds", json!(0))], "greater than or equal to 1"),
        ("too much time", vec![("/spec/function/timeoutSeconds", json!(901))], "less than or equal to 900"),
        ("our environment", vec![("/spec/function/env", json!({"LARDER_ROOT": "/"}))], "choose another name"),
        ("a bad variable", vec![("/spec/function/env", json!({"1X": "y"}))], "a name that Lambda refuses"),
        (
            "odd retention",
            vec![("/spec/function/logRetentionDays", json!(2))],
            "must be one that CloudWatch Logs knows",
        ),
        ("no role", vec![("/spec/function/roleArn", Value::Null)], "spec.function.roleArn"),
        (
            "more warm than may run",
            vec![("/spec/capacity", json!({"provisioned": 5, "reserved": 5}))],
            "at least twice capacity.provisioned",
        ),
        (
            "no room for a rollout",
            vec![("/spec/capacity", json!({"provisioned": 5, "reserved": 9}))],
            "at least twice capacity.provisioned",
        ),
        (
            "no room to prepare models",
            vec![
                ("/spec/capacity", json!({"reserved": 1})),
                ("/spec/rollout", json!({"prepareModels": true})),
            ],
            "rollout.prepareModels needs one of capacity.reserved",
        ),
        (
            "a canary without steps",
            vec![("/spec/rollout", json!({"strategy": "Canary"}))],
            "Canary, which needs at least one",
        ),
        (
            "steps without a canary",
            vec![("/spec/rollout", json!({"steps": [{"weightPercent": 10, "holdSeconds": 1}]}))],
            "write strategy: Canary with steps, or neither",
        ),
        ("steps that fall", vec![("/spec/rollout", canary(&[50, 10]))], "rollout.steps must rise"),
        ("a step twice", vec![("/spec/rollout", canary(&[10, 10]))], "rollout.steps must rise"),
        ("a step of everything", vec![("/spec/rollout", canary(&[100]))], "weightPercent"),
        (
            "steps beyond the deadline",
            vec![("/spec/rollout", canary(&[1, 2])), ("/spec/rollout/progressDeadlineSeconds", json!(120))],
            "must be longer than all",
        ),
        (
            "no limit",
            vec![("/spec/rollout", canary(&[10])), ("/spec/rollout/abortOn", json!({}))],
            "rollout.abortOn is empty",
        ),
        (
            "a rate of nothing",
            vec![
                ("/spec/rollout", canary(&[10])),
                ("/spec/rollout/abortOn", json!({"errorRatePercent": 1, "minInvocations": 0})),
            ],
            "minInvocations",
        ),
        (
            "limits that nothing is held against",
            vec![("/spec/rollout", json!({"abortOn": {"alarms": ["a"]}}))],
            "write strategy: Canary with steps, or leave abortOn out",
        ),
        ("no subnets", vec![("/spec/network/subnetIds", json!([]))], "should have at least 1 items"),
        (
            "a bad subnet",
            vec![("/spec/network/subnetIds", json!(["eu-west-1a"]))],
            "spec.network.subnetIds[0]",
        ),
        (
            "a URL without a word on who may call",
            vec![("/spec/expose", json!({"functionUrl": {}}))],
            "authType",
        ),
        (
            "an unknown strategy",
            vec![("/spec/rollout", json!({"strategy": "BlueGreen"}))],
            "Unsupported value",
        ),
        ("an unknown field", vec![("/spec/modles", json!([]))], "unknown field"),
        ("a bad region", vec![("/spec/aws/region", json!("Ireland"))], "spec.aws.region"),
    ];
    let mut wrong = Vec::new();
    for (what, changes, says) in cases {
        match apply(&stack, &with(good(), &changes)).await {
            Ok(()) => wrong.push(format!("{what}: was accepted")),
            Err(said) if !said.contains(says) => wrong.push(format!("{what}: does not say {says:?}: {said}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    apply(&stack, &good()).await.unwrap();
    let rollout = json!({
        "strategy": "Canary",
        "steps": [{"weightPercent": 10, "holdSeconds": 0}, {"weightPercent": 50, "holdSeconds": 300}],
        "smokeTest": {
            "model": "ocr",
            "inputs": [{"name": "x", "data": [1.5, null]}],
            "expect": {"predicted_label": "sign"},
        },
        "abortOn": {"errorRatePercent": 0, "alarms": ["a"]},
    });
    apply(&stack, &with(good(), &[("/spec/rollout", rollout.clone())])).await.unwrap();
    // What has no schema is kept as it was written.
    let kept =
        stack.kubectl(&["get", "iep", "signs", "-o", "jsonpath={.spec.rollout.smokeTest}"]).await.unwrap();
    let kept: Value = serde_json::from_slice(&kept.stdout).unwrap();
    assert_eq!(kept, rollout["smokeTest"]);
    stack.stop().await;
}

#[tokio::test]
async fn what_cannot_change_in_aws_cannot_change_in_the_spec() {
    let stack = cluster().await;
    let access_point = json!({"path": "/larder/a"});
    let start = with(
        good(),
        &[
            ("/spec/storage/efs/accessPoint", access_point),
            ("/spec/models/0/digest", json!(DIGEST)),
            ("/spec/storage/efs/managed", json!({"encrypted": true})),
        ],
    );
    apply(&stack, &start).await.unwrap();
    let cases: Vec<(&str, Vec<(&str, Value)>, &str)> = vec![
        (
            "another file system",
            vec![
                ("/spec/storage/efs/managed", Value::Null),
                ("/spec/storage/efs/fileSystemId", json!("fs-0123456789abcdef0")),
            ],
            "cannot move to another file system",
        ),
        (
            "another folder",
            vec![("/spec/storage/efs/accessPoint/path", json!("/larder/b"))],
            "accessPoint is immutable",
        ),
        ("another user", vec![("/spec/storage/efs/accessPoint/uid", json!(1))], "accessPoint is immutable"),
        (
            "no encryption",
            vec![("/spec/storage/efs/managed/encrypted", json!(false))],
            "are immutable in EFS",
        ),
        ("another region", vec![("/spec/aws/region", json!("eu-west-2"))], "aws.region is immutable"),
        (
            "a zip for an image",
            vec![
                ("/spec/function/image", Value::Null),
                ("/spec/function/zip", json!({"s3": {"bucket": "code", "key": "x.zip"}})),
            ],
            "cannot change between image and zip",
        ),
    ];
    for (what, changes, says) in cases {
        let said = apply(&stack, &with(start.clone(), &changes)).await.expect_err(what);
        assert!(said.contains(says), "{what}: does not say {says:?}: {said}");
    }
    // What may change does.
    let fine = [("/spec/function/memoryMiB", json!(4096)), ("/spec/refresh", json!({"policy": "Pinned"}))];
    apply(&stack, &with(start, &fine)).await.unwrap();
    stack.stop().await;
}
