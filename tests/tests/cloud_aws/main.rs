//! The adapter to AWS against AWS on the wire.
//!
//! - `contract`: what every implementation of `Cloud` must do.
//! - `kept`, `sources`: what AWS keeps of what is written, and what is made of what users bring.
//! - Here: failures and roles.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use aws_credential_types::Credentials;
use larder::cloud::aws::{AwsCloud, Connector, Settings};
use larder::cloud::{Cloud as _, CloudError, FileSystemQuery};
use larder_core::Class;
use larder_core::endpoint::Place;
use larder_core::names::Owner;
use larder_tests::stack::{ACCESS_KEY, ACCOUNT, Fault, Options, REGION, Rule, SECRET_KEY, Stack, When};

mod contract;
mod kept;
mod sources;

async fn connect(stack: &Stack) -> AwsCloud {
    let settings =
        Settings { endpoint_url: Some(stack.endpoint()), calls_per_second: 1000, ..Settings::default() };
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "larder-tests");
    let connector = Connector::with_credentials(settings, credentials).await.unwrap();
    connector.connect(&place(None)).await.unwrap()
}

fn place(role_arn: Option<&str>) -> Place {
    Place { region: REGION.to_owned(), role_arn: role_arn.map(str::to_owned), external_id: None }
}

fn owner() -> Owner {
    Owner("cluster/ns/ocr/1".to_owned())
}

fn class<T: std::fmt::Debug>(answer: Result<T, CloudError>) -> Class {
    answer.unwrap_err().problem.class
}

#[tokio::test]
async fn failures_on_the_wire_have_their_classes() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;
    assert_eq!(cloud.account(), ACCOUNT);
    for (fault, class) in [
        (Fault::Throttled, Class::Throttled),
        (Fault::Denied, Class::Denied),
        (Fault::Internal, Class::Transient),
        (Fault::ResetBefore, Class::Transient),
    ] {
        for (service, operation) in [
            ("lambda", "GetFunction"),
            ("efs", "DescribeFileSystems"),
            ("s3", "ListObjectsV2"),
            ("ec2", "DescribeSubnets"),
            ("logs", "DescribeLogGroups"),
        ] {
            stack.inject(Rule::new(service, operation, When::Always, fault));
        }
        let before = stack.fault_hits();
        let ours = FileSystemQuery::Ours { token: "t", owner: &owner() };
        let problems = [
            cloud.function("f", &owner()).await.unwrap_err().problem,
            cloud.file_system(ours).await.unwrap_err().problem,
            cloud.objects("b", "p/", None).await.unwrap_err().problem,
            cloud.subnets(&["subnet-1".to_owned()].into()).await.unwrap_err().problem,
            cloud.log_groups(["g"], &owner()).await.unwrap_err().problem,
        ];
        for problem in &problems {
            assert_eq!(problem.class, class, "{fault:?}: {problem}");
        }
        assert_eq!(stack.fault_hits() - before, 5, "no call is repeated");
        stack.clear_faults();
    }
}

#[tokio::test]
async fn a_role_is_assumed_once_and_shared() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let settings = Settings { endpoint_url: Some(stack.endpoint()), ..Settings::default() };
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "larder-tests");
    let connector = Connector::with_credentials(settings, credentials).await.unwrap();
    let role = place(Some("arn:aws:iam::000000000000:role/larder"));
    let cloud = connector.connect(&role).await.unwrap();
    connector.connect(&role).await.unwrap();
    cloud.function("f", &owner()).await.unwrap();
    cloud.log_groups(["g"], &owner()).await.unwrap();
    assert_eq!((stack.count("sts", "AssumeRole"), stack.count("sts", "GetCallerIdentity")), (1, 1));

    stack.inject(Rule::new("sts", "AssumeRole", When::Always, Fault::Denied));
    let error = connector.connect(&place(Some("arn:aws:iam::000000000000:role/closed"))).await.unwrap_err();
    assert_eq!(error.problem.class, Class::Denied, "{error}");
    assert!(error.to_string().contains("role/closed"), "{error}");
}
