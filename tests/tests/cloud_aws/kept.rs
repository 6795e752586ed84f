//! What is written is what AWS keeps, looked at with the SDK; and what others write is read.

use aws_sdk_lambda::types::AliasRoutingConfiguration;
use larder::cloud::Cloud as _;
use larder_contract::source::S3Prefix;
use larder_contract::sync::{SyncRequest, SyncSource};
use larder_contract::{Digest, Manifest, ModelSource};
use larder_core::endpoint::{AccessPointSpec, Architecture};
use larder_core::observed::{Code, FunctionConfig, LastUpdate, Package, Start};
use larder_core::step::{Permission, PermissionAction};
use larder_core::{Class, Step};
use larder_tests::eventually;
use larder_tests::stack::{ACCOUNT, Fault, FunctionProgram, Options, REGION, Rule, Stack, When};

use super::{connect, owner};

const NAME: &str = "larder-echo-a";

#[tokio::test]
async fn a_folder_is_made_for_its_user() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;
    let (token, owner) = ("larder-ns-ocr".to_owned(), owner());
    let create = Step::CreateFileSystem {
        token: token.clone(),
        owner: owner.clone(),
        throughput_mode: "elastic",
        encrypted: true,
        kms_key_id: None,
    };
    cloud.perform(&create).await.unwrap();
    let ours = larder::cloud::FileSystemQuery::Ours { token: &token, owner: &owner };
    let file_system = eventually("the file system is ready", async || {
        cloud.file_system(ours).await.unwrap().ready().map(|it| it.id.clone())
    })
    .await
    .unwrap();
    let spec =
        AccessPointSpec { path: "/larder".to_owned(), uid: 1000, gid: 1001, permissions: "0750".to_owned() };
    let create = Step::CreateAccessPoint { token, owner, file_system: file_system.clone(), spec };
    cloud.perform(&create).await.unwrap();
    let kept = stack.efs().describe_access_points().send().await.unwrap().access_points.unwrap();
    let (root, user) = (kept[0].root_directory().unwrap(), kept[0].posix_user().unwrap());
    let made = root.creation_info().unwrap();
    assert_eq!((root.path(), made.permissions()), (Some("/larder"), "0750"));
    assert_eq!((user.uid(), user.gid(), made.owner_uid(), made.owner_gid()), (1000, 1001, 1000, 1001));
    let kept = stack.efs().describe_file_systems().send().await.unwrap().file_systems.unwrap();
    assert_eq!((kept[0].encrypted(), kept[0].name()), (Some(true), Some("larder-ns-ocr")));
}

#[tokio::test]
async fn burst_credits_are_read_of_bursting_file_systems_and_rarely() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;
    for (token, throughput_mode, credits) in
        [("elastic", "elastic", None), ("bursting", "bursting", Some(2_308_974_418_329))]
    {
        let create = Step::CreateFileSystem {
            token: token.to_owned(),
            owner: owner(),
            throughput_mode,
            encrypted: true,
            kms_key_id: None,
        };
        cloud.perform(&create).await.unwrap();
        for _ in 0..2 {
            let ours = larder::cloud::FileSystemQuery::Ours { token, owner: &owner() };
            let seen = cloud.file_system(ours).await.unwrap();
            assert_eq!(seen.ours().unwrap().burst_credits, credits);
        }
    }
    assert_eq!(stack.count("monitoring", "GetMetricData"), 1);
    // Where it may not be asked, all else is as ever.
    stack.inject(Rule::new("monitoring", "GetMetricData", When::Always, Fault::Denied));
    let cloud = connect(&stack).await;
    let ours = larder::cloud::FileSystemQuery::Ours { token: "bursting", owner: &owner() };
    assert_eq!(cloud.file_system(ours).await.unwrap().ours().unwrap().burst_credits, None);
}

#[tokio::test]
async fn a_function_answers_whom_it_should_and_nothing_is_left_of_it() {
    let program = FunctionProgram::new("larder-echo", env!("CARGO_BIN_EXE_echo_function"));
    let stack = Stack::start(Options::aws().program(program)).await.unwrap();
    let cloud = connect(&stack).await;
    let subnets = stack.ec2().describe_subnets().send().await.unwrap().subnets.unwrap();
    let digest = Digest::of(b"1").to_string();
    let uri = format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-echo@{digest}");
    let config = FunctionConfig {
        role: format!("arn:aws:iam::{ACCOUNT}:role/r"),
        memory_mib: 512,
        timeout_seconds: 20,
        ephemeral_mib: 1024,
        env: [("GREETING".to_owned(), "hello".to_owned())].into(),
        subnets: subnets[0].subnet_id.iter().cloned().collect(),
        security_groups: ["sg-1".to_owned()].into(),
        mount: None,
        start: Start::default(),
    };
    let (name, function) = (NAME.to_owned(), NAME.to_owned());
    let create = Step::CreateFunction {
        name: name.clone(),
        owner: owner(),
        code: Code { package: Package::Image { uri: uri.clone() }, digest },
        architecture: Architecture::Arm64,
        config: config.clone(),
    };
    cloud.perform(&create).await.unwrap();
    let settled = async || {
        eventually("the function is settled", async || {
            let seen = cloud.function(NAME, &owner()).await.unwrap();
            seen.ready().filter(|it| it.last_update == LastUpdate::Successful).cloned()
        })
        .await
        .unwrap()
    };
    settled().await;
    let kept = stack.lambda().get_function().function_name(NAME).send().await.unwrap();
    assert_eq!(kept.code().and_then(|it| it.image_uri()), Some(uri.as_str()));
    assert_eq!(kept.tags().unwrap().get("larder.dev/owner"), Some(&owner().0));

    // No payload is repeated in an error.
    let place = S3Prefix { bucket: "models".to_owned(), prefix: "secret-place/".to_owned() };
    let request = SyncRequest {
        manifest: Manifest::new(Vec::new()),
        sources: vec![SyncSource { model: "ocr".to_owned(), source: ModelSource::S3(place) }],
        worker: None,
    };
    cloud.perform(&Step::StartSync { function: name.clone(), request: request.clone() }).await.unwrap();
    let error = cloud.sync_status(NAME, &request).await.unwrap_err();
    assert_eq!(error.problem.class, Class::Transient, "an echo is no report: {error}");
    assert!(!format!("{error:?}").contains("secret-place"), "{error:?}");

    for memory_mib in [1024, 2048] {
        let it = settled().await;
        let step = Step::UpdateFunctionConfiguration {
            name: name.clone(),
            config: FunctionConfig { memory_mib, ..config.clone() },
            changes: Vec::new(),
            revision_id: it.revision_id,
        };
        cloud.perform(&step).await.unwrap();
        let it = settled().await;
        let (code_sha256, revision_id) = (it.code_sha256, it.revision_id);
        let step = Step::PublishVersion { name: name.clone(), code_sha256, revision_id };
        cloud.perform(&step).await.unwrap();
    }
    let description = "larder: version=1 since=2026-01-31T12:00:00Z".to_owned();
    cloud.perform(&Step::CreateAlias { function: name.clone(), version: 1, description }).await.unwrap();
    let routing = AliasRoutingConfiguration::builder().additional_version_weights("2", 0.29).build();
    let weigh = stack.lambda().update_alias().function_name(NAME).name("live");
    weigh.routing_config(routing).send().await.unwrap();
    assert_eq!(cloud.alias(NAME).await.unwrap().unwrap().second, Some((2, 29)), "somebody else's weight");

    cloud.perform(&Step::CreateFunctionUrl { function: name.clone(), auth_type: "NONE" }).await.unwrap();
    let actions = [PermissionAction::InvokeFunctionUrl, PermissionAction::InvokeFunction];
    let permissions = actions.map(|action| [true, false].map(|public| Permission { action, public }));
    for permission in permissions.into_iter().flatten() {
        cloud.perform(&Step::AddPermission { function: name.clone(), permission }).await.unwrap();
    }
    let policy = stack.lambda().get_policy().function_name(NAME).qualifier("live").send().await.unwrap();
    let policy: serde_json::Value = serde_json::from_str(policy.policy().unwrap()).unwrap();
    let statements = policy["Statement"].to_string();
    assert!(statements.contains(r#""*""#) && statements.contains(ACCOUNT), "{statements}");

    for step in [
        Step::DeleteFunctionUrl { function: function.clone() },
        Step::DeleteAlias { function },
        Step::DeleteFunction { name },
    ] {
        cloud.perform(&step).await.unwrap();
    }
    assert_eq!(stack.leftovers().await.unwrap(), []);
}
