//! The stack itself: it comes up, does what AWS does, runs functions, and leaves nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its own functions")]

use std::time::Duration;

use aws_sdk_efs::types::{LifeCycleState, Tag};
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    Environment, FileSystemConfig, FunctionCode, FunctionUrlAuthType, InvocationType, LastUpdateStatus,
    PackageType, ProvisionedConcurrencyStatusEnum as Capacity, State,
};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use larder_tests::eventually;
use larder_tests::stack::{ACCOUNT, Fault, FunctionProgram, Options, REGION, Rule, Stack, Timings, When};
use serde_json::{Value, json};

const IMAGE: &str = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/larder-echo@sha256:\
                     e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn echo() -> Options {
    Options::aws().program(FunctionProgram::new("larder-echo", env!("CARGO_BIN_EXE_echo_function")))
}

/// Whether a process runs; one that has ended and waits for its parent to notice does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn kubernetes_takes_objects_and_leaves_nothing() {
    let stack = Stack::start(Options::kubernetes()).await.unwrap();
    let object = "{apiVersion: v1, kind: ConfigMap, metadata: {name: shelf}, data: {jam: plum}}";
    let applied = stack.kubectl_with(&["apply", "-f", "-"], object).await.unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let shelf = kube::Api::<ConfigMap>::default_namespaced(stack.kube()).get("shelf").await.unwrap();
    assert_eq!(shelf.data.unwrap()["jam"], "plum");
    let stranger = stack.kubectl(&["get", "configmaps", "--as=stranger"]).await.unwrap();
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("Forbidden"), "RBAC is off: {stranger:?}");

    let (pids, dir) = (stack.pids(), stack.dir().to_owned());
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| runs(*pid)));
    stack.stop().await;
    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert!(!dir.exists());
}

#[tokio::test]
async fn calls_pass_are_counted_and_fail_when_told_to() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let s3 = stack.s3();
    let place = BucketLocationConstraint::from(REGION);
    let place = CreateBucketConfiguration::builder().location_constraint(place).build();
    s3.create_bucket().bucket("shelf").create_bucket_configuration(place).send().await.unwrap();
    s3.put_object().bucket("shelf").key("a/b c").body(vec![7; 3_000_000].into()).send().await.unwrap();
    let got = s3.get_object().bucket("shelf").key("a/b c").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), vec![7; 3_000_000]);
    assert_eq!(stack.calls()[&("s3".to_owned(), "PutObject".to_owned(), 200)], 1);

    // Each service says it in its own words, and the SDK understands them.
    stack.inject(Rule::new("s3", "HeadBucket", When::Always, Fault::Internal));
    stack.inject(Rule::new("s3", "GetObject", When::Always, Fault::Denied).on("a/b"));
    stack.inject(Rule::new("lambda", "ListFunctions", When::Always, Fault::Denied));
    stack.inject(Rule::new("efs", "DescribeFileSystems", When::Always, Fault::Denied));
    stack.inject(Rule::new("ec2", "DescribeVpcs", When::Always, Fault::Denied));
    stack.inject(Rule::new("logs", "DescribeLogGroups", When::Always, Fault::Denied));
    let codes = [
        s3.get_object().bucket("shelf").key("a/b c").send().await.unwrap_err().code().map(str::to_owned),
        stack.lambda().list_functions().send().await.unwrap_err().code().map(str::to_owned),
        stack.efs().describe_file_systems().send().await.unwrap_err().code().map(str::to_owned),
        stack.ec2().describe_vpcs().send().await.unwrap_err().code().map(str::to_owned),
        stack.logs().describe_log_groups().send().await.unwrap_err().code().map(str::to_owned),
    ];
    let denied = "AccessDeniedException";
    assert_eq!(
        codes.each_ref().map(|code| code.as_deref().unwrap()),
        ["AccessDenied", denied, denied, "UnauthorizedOperation", denied]
    );
    assert_eq!(stack.count("s3", "GetObject"), 2);

    // The effect is there although the answer never came; the SDK's own retry finds it.
    stack.clear_faults();
    stack.clear_calls();
    stack.inject(Rule::new("efs", "CreateFileSystem", When::Nth(1), Fault::ResetAfter));
    let again = stack.efs().create_file_system().creation_token("once").send().await.unwrap_err();
    assert_eq!(again.code(), Some("FileSystemAlreadyExists"), "{again:?}");
    let calls = stack.calls();
    assert_eq!(calls[&("efs".to_owned(), "CreateFileSystem".to_owned(), 0)], 1);
    assert_eq!(calls[&("efs".to_owned(), "CreateFileSystem".to_owned(), 409)], 1);
}

#[tokio::test]
async fn efs_takes_its_time_and_knows_its_tokens() {
    let mut options = Options::aws();
    options.timings = Timings { efs_deleting: Duration::from_secs(2), ..Timings::default() };
    let stack = Stack::start(options).await.unwrap();
    let efs = stack.efs();
    let create = || {
        let owner = Tag::builder().key("larder.dev/owner").value("u").build().unwrap();
        efs.create_file_system().creation_token("larder-1").tags(owner).send()
    };
    let made = create().await.unwrap();
    let system = made.file_system_id();
    assert_eq!(made.life_cycle_state(), &LifeCycleState::Creating);
    let twice = create().await.unwrap_err().into_service_error();
    let aws_sdk_efs::operation::create_file_system::CreateFileSystemError::FileSystemAlreadyExists(twice) =
        twice
    else {
        panic!("{twice:?}")
    };
    assert_eq!(twice.file_system_id(), system);

    let subnets = stack.ec2().describe_subnets().send().await.unwrap();
    let subnet = subnets.subnets()[0].subnet_id().unwrap();
    let early = efs.create_mount_target().file_system_id(system).subnet_id(subnet).send().await.unwrap_err();
    assert_eq!(early.code(), Some("IncorrectFileSystemLifeCycleState"));
    let state = async || {
        let systems = efs.describe_file_systems().file_system_id(system).send().await.ok()?;
        Some(systems.file_systems().first()?.life_cycle_state().clone())
    };
    eventually("the file system is available", async || {
        state().await.filter(|s| *s == LifeCycleState::Available)
    })
    .await
    .unwrap();

    let target = efs.create_mount_target().file_system_id(system).subnet_id(subnet).send().await.unwrap();
    assert_eq!(target.life_cycle_state(), &LifeCycleState::Creating);
    let point = || efs.create_access_point().client_token("t").file_system_id(system).send();
    let point_id = point().await.unwrap().access_point_id().unwrap().to_owned();
    let twice = point().await.unwrap_err().into_service_error();
    let aws_sdk_efs::operation::create_access_point::CreateAccessPointError::AccessPointAlreadyExists(twice) =
        twice
    else {
        panic!("{twice:?}")
    };
    assert_eq!(twice.access_point_id(), point_id);
    for token in ["u", "v"] {
        efs.create_access_point().client_token(token).file_system_id(system).send().await.unwrap();
    }
    let page = efs.describe_access_points().max_results(2).send().await.unwrap();
    assert_eq!((page.access_points().len(), page.next_token().is_some()), (2, true));
    let rest =
        efs.describe_access_points().max_results(2).set_next_token(page.next_token).send().await.unwrap();
    assert_eq!((rest.access_points().len(), rest.next_token().is_some()), (1, false));

    let left = stack.leftovers().await.unwrap();
    assert_eq!(
        left.iter().map(|left| left.kind).collect::<Vec<_>>(),
        ["access point", "access point", "access point", "file system", "mount target"]
    );
    efs.delete_mount_target().mount_target_id(target.mount_target_id()).send().await.unwrap();
    let busy = efs.delete_file_system().file_system_id(system).send().await.unwrap_err();
    assert_eq!(busy.code(), Some("FileSystemInUse"), "the mount target is still being deleted");
    for point in page.access_points.unwrap().iter().chain(rest.access_points()) {
        efs.delete_access_point().access_point_id(point.access_point_id().unwrap()).send().await.unwrap();
    }
    eventually("the file system can be deleted", async || {
        efs.delete_file_system().file_system_id(system).send().await.ok()
    })
    .await
    .unwrap();
    assert_eq!(state().await, Some(LifeCycleState::Deleting));
    eventually("the file system is gone", async || state().await.is_none().then_some(())).await.unwrap();
    assert_eq!(stack.leftovers().await.unwrap(), []);
}

/// A function `name` with an access point `fsap-1` and this greeting, active.
async fn function(stack: &Stack, name: &str, greeting: &str) {
    let lambda = stack.lambda();
    let arn = format!("arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-1");
    let mount = FileSystemConfig::builder().arn(arn).local_mount_path("/mnt/larder").build().unwrap();
    let made = lambda
        .create_function()
        .function_name(name)
        .package_type(PackageType::Image)
        .code(FunctionCode::builder().image_uri(IMAGE).build())
        .role(format!("arn:aws:iam::{ACCOUNT}:role/r"))
        .file_system_configs(mount)
        .timeout(20)
        .environment(Environment::builder().variables("GREETING", greeting).build())
        .send()
        .await
        .unwrap();
    assert_eq!((made.state(), made.last_update_status()), (Some(&State::Pending), None));
    assert!(IMAGE.ends_with(made.code_sha256().unwrap()));
    let early = lambda.publish_version().function_name(name).send().await.unwrap_err();
    assert_eq!(early.code(), Some("ResourceConflictException"));
    settled(stack, name, None).await;
}

/// Waits until a version is active and no update is in progress.
async fn settled(stack: &Stack, name: &str, version: Option<&str>) {
    eventually("the function is settled", async || {
        let config = stack.lambda().get_function_configuration().function_name(name);
        let config = config.set_qualifier(version.map(str::to_owned)).send().await.ok()?;
        let active = config.state() == Some(&State::Active);
        (active && config.last_update_status() == Some(&LastUpdateStatus::Successful)).then_some(())
    })
    .await
    .unwrap();
}

async fn greet(stack: &Stack, name: &str, greeting: &str) {
    let environment = Environment::builder().variables("GREETING", greeting).build();
    let lambda = stack.lambda();
    let update = lambda.update_function_configuration().function_name(name).environment(environment);
    let updated = update.clone().send().await.unwrap();
    assert_eq!(updated.last_update_status(), Some(&LastUpdateStatus::InProgress));
    assert_eq!(updated.state(), Some(&State::Active));
    assert_eq!(update.send().await.unwrap_err().code(), Some("ResourceConflictException"));
    settled(stack, name, None).await;
}

async fn publish(stack: &Stack, name: &str) -> String {
    let published = stack.lambda().publish_version().function_name(name).send().await.unwrap();
    let version = published.version().unwrap().to_owned();
    settled(stack, name, Some(&version)).await;
    version
}

async fn invoke(stack: &Stack, name: &str, qualifier: &str, event: &Value) -> (Value, Option<String>) {
    let payload = Blob::new(event.to_string());
    let call = stack.lambda().invoke().function_name(name).qualifier(qualifier).payload(payload);
    let answer = call.send().await.unwrap();
    (serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap(), answer.function_error)
}

/// POST to a function URL: status, a header, and the body as JSON.
async fn post(url: String, body: &Value) -> (u16, Option<String>, Value) {
    let request = hyper::Request::post(url)
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(body.to_string()))
        .unwrap();
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
    let status = response.status().as_u16();
    let header = response.headers().get("x-echo").map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, header, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn functions_run_by_version_alias_and_url() {
    let stack = Stack::start(echo()).await.unwrap();
    let (lambda, name) = (stack.lambda(), "larder-echo-a");
    function(&stack, name, "hello").await;
    assert_eq!(publish(&stack, name).await, "1");
    assert_eq!(publish(&stack, name).await, "1", "nothing has changed, so nothing is published");
    let stale = lambda.publish_version().function_name(name).revision_id("stale").send().await.unwrap_err();
    assert_eq!(stale.code(), Some("PreconditionFailedException"));
    let nowhere = lambda.create_alias().function_name(name).name("live").function_version("9").send().await;
    assert_eq!(nowhere.unwrap_err().code(), Some("ResourceNotFoundException"));
    lambda.create_alias().function_name(name).name("live").function_version("1").send().await.unwrap();

    let (said, failed) = invoke(&stack, name, "live", &json!({"n": 1})).await;
    assert_eq!(
        (&said["version"], &said["greeting"], &said["event"]["n"]),
        (&json!("1"), &json!("hello"), &json!(1))
    );
    assert_eq!(failed, None);
    let (error, failed) = invoke(&stack, name, "live", &json!({"fail": "no jam"})).await;
    assert_eq!((&error["errorMessage"], failed.as_deref()), (&json!("no jam"), Some("Unhandled")));
    let (error, failed) = invoke(&stack, name, "live", &json!({"exit": true})).await;
    assert_eq!((&error["errorType"], failed.as_deref()), (&json!("Runtime.ExitError"), Some("Unhandled")));
    let (again, _) = invoke(&stack, name, "live", &json!({})).await;
    assert_ne!(again["pid"], said["pid"], "a crashed sandbox is replaced");

    let later = lambda.invoke().function_name(name).qualifier("1").invocation_type(InvocationType::Event);
    let later = later.payload(Blob::new(r#"{"write": "jam"}"#)).send().await.unwrap();
    assert_eq!(later.status_code(), 202);
    let file = stack.access_point_dir("fsap-1").join("jam");
    eventually("the asynchronous call has written its file", async || file.exists().then_some(()))
        .await
        .unwrap();

    let url = lambda.create_function_url_config().function_name(name).qualifier("live");
    let url = url.auth_type(FunctionUrlAuthType::None).send().await.unwrap();
    assert!(url.function_arn().ends_with(":live"));
    let url = stack.function_url(url.function_url());
    let (status, header, said) = post(format!("{url}some/path?x=1"), &json!({"n": 2})).await;
    assert_eq!((status, header.as_deref(), &said["version"]), (200, Some("yes"), &json!("1")));
    assert_eq!(said["event"]["rawPath"], "/some/path");
    assert_eq!(post(url.clone(), &json!({"fail": "x"})).await.0, 502);

    // The switch: what is in flight ends on the old version, what follows goes to the new one.
    greet(&stack, name, "good bye").await;
    assert_eq!(publish(&stack, name).await, "2");
    let slow = tokio::spawn({
        let url = url.clone();
        async move { post(url, &json!({"sleep": 1500})).await.2 }
    });
    eventually("the slow call is on its way", async || (stack.pids().len() < 3).then_some(())).await.unwrap();
    lambda.update_alias().function_name(name).name("live").function_version("2").send().await.unwrap();
    let (_, _, said) = post(url.clone(), &json!({})).await;
    assert_eq!((&said["version"], &said["greeting"]), (&json!("2"), &json!("good bye")));
    assert_eq!(slow.await.unwrap()["version"], "1");
    assert!(stack.count("lambda", "InvokeFunctionUrl") >= 4);

    lambda
        .update_function_url_config()
        .function_name(name)
        .qualifier("live")
        .auth_type(FunctionUrlAuthType::AwsIam)
        .send()
        .await
        .unwrap();
    assert_eq!(post(url.clone(), &json!({})).await.0, 403, "unsigned");

    let kinds = |left: Vec<larder_tests::stack::Leftover>| left.iter().map(|l| l.kind).collect::<Vec<_>>();
    assert_eq!(
        kinds(stack.leftovers().await.unwrap()),
        ["alias", "function", "function URL", "function version", "function version"]
    );
    lambda.delete_function().function_name(name).send().await.unwrap();
    assert_eq!(stack.leftovers().await.unwrap(), []);
    assert_eq!(stack.pids().len(), 1, "the sandboxes went with their function");
    assert_eq!(post(url, &json!({})).await.0, 404);
}

#[tokio::test]
async fn an_alias_spreads_calls_by_its_weights() {
    let stack = Stack::start(echo()).await.unwrap();
    let (lambda, name) = (stack.lambda(), "larder-echo-w");
    function(&stack, name, "one").await;
    publish(&stack, name).await;
    greet(&stack, name, "two").await;
    publish(&stack, name).await;
    let weights =
        aws_sdk_lambda::types::AliasRoutingConfiguration::builder().additional_version_weights("2", 0.25);
    lambda
        .create_alias()
        .function_name(name)
        .name("live")
        .function_version("1")
        .routing_config(weights.build())
        .send()
        .await
        .unwrap();
    let mut second = 0;
    for _ in 0..40 {
        second += u32::from(invoke(&stack, name, "live", &json!({})).await.0["version"] == "2");
    }
    assert!((9..=11).contains(&second), "{second} of 40 calls went to the version with a quarter");
}

#[tokio::test]
async fn provisioned_concurrency_is_as_ready_as_its_sandboxes() {
    let stack = Stack::start(echo()).await.unwrap();
    let (lambda, name) = (stack.lambda(), "larder-echo-p");
    function(&stack, name, "warm").await;
    publish(&stack, name).await;
    let put = |qualifier: &str| {
        let put = lambda.put_provisioned_concurrency_config().function_name(name).qualifier(qualifier);
        put.provisioned_concurrent_executions(2).send()
    };
    let outcome = async |qualifier: &str| {
        eventually("provisioned concurrency is decided", async || {
            let get = lambda.get_provisioned_concurrency_config().function_name(name).qualifier(qualifier);
            get.send().await.ok().filter(|config| config.status() != Some(&Capacity::InProgress))
        })
        .await
        .unwrap()
    };
    assert_eq!(put("$LATEST").await.unwrap_err().code(), Some("InvalidParameterValueException"));
    assert_eq!(put("1").await.unwrap().status(), Some(&Capacity::InProgress));
    let ready = outcome("1").await;
    assert_eq!(
        (ready.status(), ready.available_provisioned_concurrent_executions()),
        (Some(&Capacity::Ready), Some(2))
    );
    assert_eq!(stack.pids().len(), 3, "two sandboxes wait beside the emulator");

    let broken = Environment::builder().variables("LARDER_TEST_INIT", "exit").build();
    lambda.update_function_configuration().function_name(name).environment(broken).send().await.unwrap();
    settled(&stack, name, None).await;
    publish(&stack, name).await;
    put("2").await.unwrap();
    let failed = outcome("2").await;
    assert_eq!(failed.status(), Some(&Capacity::Failed));
    assert!(failed.status_reason().unwrap().starts_with("FUNCTION_ERROR_INIT_FAILURE"), "{failed:?}");
    let list = lambda.list_provisioned_concurrency_configs().function_name(name).send().await.unwrap();
    assert_eq!(list.provisioned_concurrency_configs().len(), 2);
}

#[tokio::test]
async fn nothing_outlives_a_dropped_stack() {
    let stack = Stack::start(echo()).await.unwrap();
    function(&stack, "larder-echo-d", "x").await;
    invoke(&stack, "larder-echo-d", "$LATEST", &json!({})).await;
    let pids = stack.pids();
    assert_eq!(pids.len(), 2);
    drop(stack);
    assert!(!pids.iter().any(|pid| runs(*pid)));
}

/// The other half of the next test: holds a stack until it is killed.
#[tokio::test]
#[ignore = "run by nothing_outlives_a_killed_test"]
async fn holds_a_stack() {
    let Ok(note) = std::env::var("LARDER_TEST_NOTE") else { return };
    let stack = Stack::start(Options::default()).await.unwrap();
    let said = format!("{}\n{:?}", stack.dir().display(), stack.pids());
    std::fs::write(format!("{note}.new"), said).unwrap();
    std::fs::rename(format!("{note}.new"), note).unwrap();
    tokio::time::sleep(Duration::from_mins(5)).await;
}

#[tokio::test]
async fn nothing_outlives_a_killed_test() {
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("note");
    let mut other = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_stack", "--ignored"])
        .env("LARDER_TEST_NOTE", &note)
        .env("TMPDIR", dir.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..3000 {
        if note.exists() {
            break;
        }
        assert_eq!(other.try_wait().unwrap(), None, "the other test ended before its stack was up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = std::fs::read_to_string(&note).unwrap();
    let pids: Vec<u32> = serde_json::from_str(said.lines().nth(1).unwrap()).unwrap();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| runs(*pid)));
    other.kill().await.unwrap();
    eventually("everything ended with the killed test", async || {
        (!pids.iter().any(|pid| runs(*pid))).then_some(())
    })
    .await
    .unwrap();
}
