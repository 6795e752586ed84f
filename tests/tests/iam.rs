//! The policies in `docs/iam` allow what the programs call, and nothing else.
//!
//! What they call is read from their sources: a call that is added without its action fails here, and so does an action
//! that no call needs any more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use larder_core::names::OWNER_TAG;
use larder_tests::scenario::repository;
use serde_json::Value;

/// The actions that each call takes. What is more than the call's own is what AWS does for the caller, with its rights.
/// Sources: the Service Authorization Reference, and the pages of the calls and of "Configuring file system access" and
/// "Giving Lambda functions access to resources in an Amazon VPC".
const CONTROLLER: &[(&str, &str, &[&str])] = &[
    ("cloudwatch", "DescribeAlarms", &["cloudwatch:DescribeAlarms"]),
    ("cloudwatch", "GetMetricData", &["cloudwatch:GetMetricData"]),
    ("ec2", "DescribeNetworkInterfaces", &["ec2:DescribeNetworkInterfaces"]),
    ("ec2", "DescribeSubnets", &["ec2:DescribeSubnets"]),
    ("ecr", "DescribeImages", &["ecr:DescribeImages"]),
    ("efs", "CreateAccessPoint", &["elasticfilesystem:CreateAccessPoint", "elasticfilesystem:TagResource"]),
    ("efs", "CreateFileSystem", &["elasticfilesystem:CreateFileSystem", "elasticfilesystem:TagResource"]),
    (
        "efs",
        "CreateMountTarget",
        &[
            "elasticfilesystem:CreateMountTarget",
            "ec2:DescribeSubnets",
            "ec2:DescribeNetworkInterfaces",
            "ec2:CreateNetworkInterface",
            // The first one of an account.
            "iam:CreateServiceLinkedRole",
        ],
    ),
    ("efs", "DeleteAccessPoint", &["elasticfilesystem:DeleteAccessPoint"]),
    ("efs", "DeleteFileSystem", &["elasticfilesystem:DeleteFileSystem"]),
    ("efs", "DeleteMountTarget", &["elasticfilesystem:DeleteMountTarget", "ec2:DeleteNetworkInterface"]),
    ("efs", "DescribeAccessPoints", &["elasticfilesystem:DescribeAccessPoints"]),
    ("efs", "DescribeFileSystems", &["elasticfilesystem:DescribeFileSystems"]),
    ("efs", "DescribeMountTargetSecurityGroups", &["elasticfilesystem:DescribeMountTargetSecurityGroups"]),
    ("efs", "DescribeMountTargets", &["elasticfilesystem:DescribeMountTargets"]),
    (
        "efs",
        "ModifyMountTargetSecurityGroups",
        &["elasticfilesystem:ModifyMountTargetSecurityGroups", "ec2:ModifyNetworkInterfaceAttribute"],
    ),
    ("efs", "TagResource", &["elasticfilesystem:TagResource"]),
    ("efs", "UpdateFileSystem", &["elasticfilesystem:UpdateFileSystem"]),
    ("eventbridge", "DeleteRule", &["events:DeleteRule"]),
    ("eventbridge", "DescribeRule", &["events:DescribeRule"]),
    ("eventbridge", "ListRuleNamesByTarget", &["events:ListRuleNamesByTarget"]),
    ("eventbridge", "ListTagsForResource", &["events:ListTagsForResource"]),
    ("eventbridge", "ListTargetsByRule", &["events:ListTargetsByRule"]),
    ("eventbridge", "PutRule", &["events:PutRule", "events:TagResource"]),
    ("eventbridge", "PutTargets", &["events:PutTargets"]),
    ("eventbridge", "RemoveTargets", &["events:RemoveTargets"]),
    ("eventbridge", "TagResource", &["events:TagResource"]),
    ("lambda", "AddPermission", &["lambda:AddPermission"]),
    ("lambda", "CreateAlias", &["lambda:CreateAlias"]),
    (
        "lambda",
        "CreateFunction",
        &[
            "lambda:CreateFunction",
            "lambda:TagResource",
            "iam:PassRole",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcs",
            "elasticfilesystem:DescribeMountTargets",
            "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer",
            "s3:GetObject",
            "s3:GetObjectVersion",
        ],
    ),
    ("lambda", "CreateFunctionUrlConfig", &["lambda:CreateFunctionUrlConfig"]),
    ("lambda", "DeleteAlias", &["lambda:DeleteAlias"]),
    ("lambda", "DeleteFunction", &["lambda:DeleteFunction"]),
    ("lambda", "DeleteFunctionConcurrency", &["lambda:DeleteFunctionConcurrency"]),
    ("lambda", "DeleteFunctionUrlConfig", &["lambda:DeleteFunctionUrlConfig"]),
    ("lambda", "DeleteProvisionedConcurrencyConfig", &["lambda:DeleteProvisionedConcurrencyConfig"]),
    ("lambda", "GetAlias", &["lambda:GetAlias"]),
    // Its answer has tags only then.
    ("lambda", "GetFunction", &["lambda:GetFunction", "lambda:ListTags"]),
    ("lambda", "GetFunctionUrlConfig", &["lambda:GetFunctionUrlConfig"]),
    ("lambda", "GetPolicy", &["lambda:GetPolicy"]),
    ("lambda", "GetProvisionedConcurrencyConfig", &["lambda:GetProvisionedConcurrencyConfig"]),
    ("lambda", "Invoke", &["lambda:InvokeFunction"]),
    ("lambda", "ListVersionsByFunction", &["lambda:ListVersionsByFunction"]),
    ("lambda", "PublishVersion", &["lambda:PublishVersion"]),
    ("lambda", "PutFunctionConcurrency", &["lambda:PutFunctionConcurrency"]),
    ("lambda", "PutProvisionedConcurrencyConfig", &["lambda:PutProvisionedConcurrencyConfig"]),
    ("lambda", "RemovePermission", &["lambda:RemovePermission"]),
    ("lambda", "TagResource", &["lambda:TagResource"]),
    ("lambda", "UpdateAlias", &["lambda:UpdateAlias"]),
    (
        "lambda",
        "UpdateFunctionCode",
        &["lambda:UpdateFunctionCode", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "s3:GetObject"],
    ),
    ("lambda", "UpdateFunctionConfiguration", &["lambda:UpdateFunctionConfiguration", "iam:PassRole"]),
    ("lambda", "UpdateFunctionUrlConfig", &["lambda:UpdateFunctionUrlConfig"]),
    ("logs", "CreateLogGroup", &["logs:CreateLogGroup", "logs:TagResource"]),
    ("logs", "DeleteLogGroup", &["logs:DeleteLogGroup"]),
    ("logs", "DescribeLogGroups", &["logs:DescribeLogGroups"]),
    ("logs", "ListTagsForResource", &["logs:ListTagsForResource"]),
    ("logs", "PutRetentionPolicy", &["logs:PutRetentionPolicy"]),
    ("logs", "TagResource", &["logs:TagResource"]),
    ("s3", "GetBucketNotificationConfiguration", &["s3:GetBucketNotification"]),
    ("s3", "GetObject", &["s3:GetObject", "s3:GetObjectVersion"]),
    ("s3", "HeadObject", &["s3:GetObject", "s3:GetObjectVersion"]),
    ("s3", "ListObjectsV2", &["s3:ListBucket"]),
    ("s3", "PutBucketNotificationConfiguration", &["s3:PutBucketNotification"]),
    ("sqs", "CreateQueue", &["sqs:CreateQueue", "sqs:TagQueue"]),
    ("sqs", "DeleteMessageBatch", &["sqs:DeleteMessage"]),
    ("sqs", "DeleteQueue", &["sqs:DeleteQueue"]),
    ("sqs", "GetQueueAttributes", &["sqs:GetQueueAttributes"]),
    ("sqs", "GetQueueUrl", &["sqs:GetQueueUrl"]),
    ("sqs", "ListQueueTags", &["sqs:ListQueueTags"]),
    ("sqs", "ReceiveMessage", &["sqs:ReceiveMessage"]),
    ("sqs", "SetQueueAttributes", &["sqs:SetQueueAttributes"]),
    // It takes no action.
    ("sts", "GetCallerIdentity", &[]),
];

/// The same of model-sync.
const SYNC: &[(&str, &str, &[&str])] = &[
    ("s3", "GetObject", &["s3:GetObject"]),
    ("s3", "HeadObject", &["s3:GetObject"]),
    ("s3", "ListObjectsV2", &["s3:ListBucket"]),
];

/// The same of what reads sources other than S3, in the controller and in model-sync. The two of ECR are what its
/// registry asks of a token.
const SOURCES: &[(&str, &str, &[&str])] = &[
    (
        "ecr",
        "GetAuthorizationToken",
        &["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
    ),
    ("secretsmanager", "GetSecretValue", &["secretsmanager:GetSecretValue"]),
];

/// What Lambda and EFS ask of an execution role.
const RUNTIME: &[&str] = &[
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
    "elasticfilesystem:ClientMount",
    "elasticfilesystem:ClientWrite",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
];

/// The text of the Rust files in a folder and those below, without tests and white space.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            let program = text.split("#[cfg(test)]").next().unwrap_or_default();
            found.push(program.chars().filter(|c| !c.is_whitespace()).collect());
        }
    }
    found
}

/// `list_objects_v2` as `ListObjectsV2`.
fn operation(method: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    };
    method.split('_').map(capital).collect()
}

/// The name that a text begins with, if a call without arguments follows: every operation's builder is made so.
fn called(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    text[end..].starts_with("()").then(|| &text[..end]).filter(|name| !name.is_empty())
}

/// The calls in a source: service and operation. `fields` are the clients that are kept, by name and service.
fn calls(source: &str, fields: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (field, service) in fields {
        let field = format!(".{field}.");
        let calls = source.split(&field).skip(1).filter_map(called);
        found.extend(calls.map(|method| ((*service).to_owned(), operation(method))));
    }
    // Clients that are made for one call: aws_sdk_ecr::Client::from_conf(config).describe_images()
    for made in source.split("aws_sdk_").skip(1) {
        let Some((service, rest)) = made.split_once("::Client::") else { continue };
        let call = rest
            .split_once(").")
            .filter(|(args, _)| !args.contains([';', '{']))
            .and_then(|(_, it)| called(it));
        found.extend(call.map(|method| (service.to_owned(), operation(method))));
    }
    found
}

fn calls_of(folder: &str, fields: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let folder = repository().join(folder);
    sources(&folder).iter().flat_map(|source| calls(source, fields)).collect()
}

/// The operations that errors name: `Call::new("GetFunction"` and `self.turn("CreateFunction"`.
fn named(folder: &str) -> BTreeSet<String> {
    let folder = repository().join(folder);
    let of = |source: &String| -> Vec<String> {
        let starts = [r#"Call::new(""#, r#".turn(""#];
        starts
            .iter()
            .flat_map(|start| source.split(start).skip(1))
            .filter_map(|rest| rest.split('"').next().map(str::to_owned))
            .filter(|name| name.starts_with(char::is_uppercase))
            .collect()
    };
    sources(&folder).iter().flat_map(of).collect()
}

/// The actions that policies of these names allow, each with its statements.
fn allowed(policies: &[&str]) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for policy in policies {
        let path = repository().join("docs/iam").join(policy);
        let text = std::fs::read_to_string(path).unwrap();
        let dense = text.chars().filter(|c| !c.is_whitespace()).count();
        assert!(dense <= 6144, "{policy}: {dense} characters, and a managed policy may have 6,144");
        let policy: Value = serde_json::from_str(&text).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            let action = &statement["Action"];
            let actions = action.as_array().cloned().unwrap_or_else(|| vec![action.clone()]);
            for action in actions {
                found.entry(action.as_str().unwrap().to_owned()).or_default().push(statement.clone());
            }
        }
    }
    found
}

fn actions(needs: &[(&str, &str, &[&str])]) -> BTreeSet<String> {
    needs.iter().flat_map(|(_, _, actions)| actions.iter().map(|&it| it.to_owned())).collect()
}

fn pairs(needs: &[(&str, &str, &[&str])]) -> BTreeSet<(String, String)> {
    needs.iter().map(|(service, operation, _)| ((*service).to_owned(), (*operation).to_owned())).collect()
}

#[test]
fn the_tables_are_what_the_sources_call() {
    let fields = [
        ("efs", "efs"),
        ("lambda", "lambda"),
        ("invoke", "lambda"),
        ("ec2", "ec2"),
        ("cloudwatch", "cloudwatch"),
        ("logs", "logs"),
        ("s3", "s3"),
        ("eventbridge", "eventbridge"),
        ("sqs", "sqs"),
        ("poll", "sqs"),
    ];
    let found = calls_of("controller/src/cloud/aws", &fields);
    assert_eq!(found, pairs(CONTROLLER));
    let mut operations: BTreeSet<String> = found.into_iter().map(|(_, operation)| operation).collect();
    operations.insert("GET".to_owned());
    assert_eq!(operations, named("controller/src/cloud/aws"), "what errors name is what is called");
    assert_eq!(calls_of("functions/model-sync/src", &[("client", "s3")]), pairs(SYNC));
    assert_eq!(calls_of("functions/sources/src", &[]), pairs(SOURCES));
    assert_eq!(calls_of("functions/inference/src", &[]), BTreeSet::new());
}

#[test]
fn policies_allow_what_is_called_and_nothing_else() {
    let controller =
        ["controller.json", "controller-events.json", "controller-rollouts.json", "controller-adoption.json"];
    let allows = |policies: &[&str]| allowed(policies).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(allows(&controller), actions(CONTROLLER));
    assert_eq!(allows(&["sources.json"]), actions(SOURCES));
    let runtime = RUNTIME.iter().map(|&it| it.to_owned());
    assert_eq!(allows(&["functions.json"]), actions(SYNC).into_iter().chain(runtime).collect());
    assert_eq!(allows(&["controller-tenants.json"]), ["sts:AssumeRole".to_owned()].into());
    for (action, statements) in allowed(&controller) {
        assert!(!action.contains('*'), "{action}");
        // What may be of others is told apart by its name or its tag.
        let is_bounded = |statement: &Value| {
            let condition = statement["Condition"].to_string();
            statement["Resource"] != "*" || condition.contains("aws:") || condition.contains("CreateAction")
        };
        let is_read = ["Describe", "List", "Get"].iter().any(|verb| action.contains(&format!(":{verb}")));
        // EC2 cannot tell which network interfaces are of mount targets.
        let is_interface = action.starts_with("ec2:");
        assert!(is_read || is_interface || statements.iter().all(is_bounded), "{action}: {statements:?}");
    }
    for (tag, action) in [
        ("aws:RequestTag", "elasticfilesystem:CreateFileSystem"),
        ("aws:ResourceTag", "elasticfilesystem:DeleteFileSystem"),
        ("aws:RequestTag", "lambda:CreateFunction"),
        ("aws:ResourceTag", "lambda:DeleteFunction"),
    ] {
        let statement = &allowed(&controller)[action][0];
        assert_eq!(statement["Condition"]["Null"][format!("{tag}/{OWNER_TAG}")], "false", "{action}");
    }
}

#[test]
fn calls_are_found_in_whatever_form() {
    let dense = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let source = dense(
        "let a = self\n .efs\n .create_file_system()\n.x(); self.0.poll.receive_message().q(); \
         aws_sdk_ecr::Client::from_conf(config).describe_images(); pub(super) sqs: aws_sdk_sqs::Client, \
         efs: aws_sdk_efs::Client::new(&config), answer.logs.len; self.s3.list_objects_v2()",
    );
    let fields = [("efs", "efs"), ("poll", "sqs"), ("logs", "logs"), ("s3", "s3")];
    let found: Vec<String> = calls(&source, &fields).into_iter().map(|(s, o)| format!("{s} {o}")).collect();
    assert_eq!(
        found,
        ["ecr DescribeImages", "efs CreateFileSystem", "s3 ListObjectsV2", "sqs ReceiveMessage"]
    );
}
