//! The adapter to AWS against AWS on the wire: whole lives, where each write is seen by the reads.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "a test that cannot go on must fail at once, and tables of cases are long"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::types::{ChecksumAlgorithm, CreateBucketConfiguration};
use larder::cloud::aws::{AwsCloud, Connector, Settings};
use larder::cloud::{Cloud as _, CloudError, FileSystemQuery, ListedAccessPoint};
use larder::listing::source;
use larder_contract::revision::revision;
use larder_contract::source::S3Prefix;
use larder_contract::sync::{SyncRequest, SyncSource};
use larder_contract::{Digest, Manifest, ModelSource, ObjectEntry, RelativePath};
use larder_core::endpoint::{AccessPointSpec, Architecture, CodeRef, ImageRef, Place};
use larder_core::names::Owner;
use larder_core::observed::{
    Code, Function, FunctionConfig, LastUpdate, LogGroup, Package, ProvisionedStatus, Remote, Source, Start,
};
use larder_core::step::{Permission, PermissionAction};
use larder_core::{Class, Step};
use larder_tests::stack::{
    ACCESS_KEY, ACCOUNT, Fault, FunctionProgram, Options, REGION, Rule, SECRET_KEY, Stack, When,
};

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

fn other() -> Owner {
    Owner("cluster/ns/ocr/2".to_owned())
}

/// Asks until the answer is there; fails when it has not come after half a minute.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("did not happen: {what}");
}

fn class<T: std::fmt::Debug>(answer: Result<T, CloudError>) -> Class {
    answer.unwrap_err().problem.class
}

#[tokio::test]
async fn storage_is_made_seen_and_taken_away() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;
    assert_eq!(cloud.account(), ACCOUNT);

    let known = stack.ec2().describe_subnets().send().await.unwrap().subnets.unwrap();
    let ids: BTreeSet<String> = known.iter().take(2).filter_map(|it| it.subnet_id.clone()).collect();
    let subnets = cloud.subnets(&ids).await.unwrap();
    assert_eq!(subnets.iter().map(|it| it.id.clone()).collect::<BTreeSet<_>>(), ids);
    assert!(
        subnets.iter().all(|it| it.zone.starts_with(REGION) && it.vpc.starts_with("vpc-")),
        "{subnets:?}"
    );
    assert_eq!(cloud.subnets(&BTreeSet::new()).await.unwrap(), []);
    let error = cloud.subnets(&["subnet-0000".to_owned()].into()).await.unwrap_err();
    assert_eq!(error.problem.class, Class::NotFound, "{error}");
    assert!(error.problem.resource.contains("subnet-0000"), "{error}");

    let (token, owner) = ("larder-ns-ocr", owner());
    let ours = FileSystemQuery::Ours { token, owner: &owner };
    let create = Step::CreateFileSystem {
        token: token.to_owned(),
        owner: owner.clone(),
        throughput_mode: "elastic",
        encrypted: true,
        kms_key_id: None,
    };
    assert_eq!(cloud.file_system(ours).await.unwrap(), Remote::Absent);
    assert_eq!(cloud.file_system(FileSystemQuery::Existing("fs-00000000")).await.unwrap(), Remote::Absent);
    cloud.perform(&create).await.unwrap();
    assert!(matches!(cloud.file_system(ours).await.unwrap(), Remote::Pending(_)));
    assert_eq!(class(cloud.perform(&create).await), Class::Conflict);
    let made = eventually("the file system is ready", async || {
        cloud.file_system(ours).await.unwrap().ready().cloned()
    })
    .await;
    assert_eq!(made.throughput_mode, "elastic");
    let theirs = FileSystemQuery::Ours { token, owner: &other() };
    let seen = cloud.file_system(theirs).await.unwrap();
    assert!(matches!(&seen, Remote::Foreign { owner: it, .. } if *it == owner.0), "{seen:?}");
    let file_system = made.id.clone();
    assert_eq!(
        cloud.file_system(FileSystemQuery::Existing(&file_system)).await.unwrap(),
        Remote::Ready(made)
    );
    cloud
        .perform(&Step::UpdateFileSystem { id: file_system.clone(), throughput_mode: "bursting" })
        .await
        .unwrap();
    eventually("the throughput mode is another", async || {
        let seen = cloud.file_system(ours).await.unwrap();
        seen.ready().filter(|it| it.throughput_mode == "bursting").map(drop)
    })
    .await;

    let mut groups = Vec::new();
    for name in ["one", "two", "three"] {
        let request = stack.ec2().create_security_group().group_name(name).description(name);
        groups.extend(request.vpc_id(&subnets[0].vpc).send().await.unwrap().group_id);
    }
    let targets = async || cloud.mount_targets(&file_system, None).await.unwrap();
    assert_eq!(targets().await.items, []);
    let create = Step::CreateMountTarget {
        file_system: file_system.clone(),
        subnet: subnets[0].id.clone(),
        zone: subnets[0].zone.clone(),
        security_groups: vec![groups[0].clone()],
    };
    cloud.perform(&create).await.unwrap();
    assert_eq!(targets().await.items[0].state, "creating");
    assert_eq!(class(cloud.perform(&create).await), Class::Conflict);
    let target = eventually("the mount target is there", async || {
        targets().await.items.into_iter().find(|it| it.state == "available")
    })
    .await;
    assert_eq!((&target.subnet, &target.zone), (&subnets[0].id, &subnets[0].zone));
    assert_eq!(target.security_groups, [groups[0].clone()].into());
    let groups = groups.split_off(1);
    let set = Step::SetMountTargetSecurityGroups { id: target.id.clone(), security_groups: groups.clone() };
    cloud.perform(&set).await.unwrap();
    assert_eq!(targets().await.items[0].security_groups, groups.into_iter().collect());

    let points = async |owner: &Owner| cloud.access_points(&file_system, owner, None).await.unwrap().items;
    let spec =
        AccessPointSpec { path: "/larder".to_owned(), uid: 1000, gid: 1000, permissions: "0750".to_owned() };
    let create = Step::CreateAccessPoint {
        token: "larder-ns-ocr-ap".to_owned(),
        owner: owner.clone(),
        file_system: file_system.clone(),
        spec,
    };
    cloud.perform(&create).await.unwrap();
    let point = eventually("the access point is there", async || {
        let mut points = points(&owner).await;
        assert_eq!((points.len(), points[0].token.as_str()), (1, "larder-ns-ocr-ap"));
        points.remove(0).it.ready().cloned()
    })
    .await;
    assert!(point.arn.ends_with(&point.id), "{point:?}");
    let foreign = Remote::Foreign { owner: owner.0.clone(), id: point.id.clone() };
    assert_eq!(
        points(&other()).await,
        [ListedAccessPoint { id: point.id.clone(), token: "larder-ns-ocr-ap".to_owned(), it: foreign }]
    );
    let kept = stack.efs().describe_access_points().send().await.unwrap().access_points.unwrap();
    let root = kept[0].root_directory().unwrap();
    assert_eq!((root.path(), kept[0].posix_user().unwrap().uid()), (Some("/larder"), 1000));

    assert_eq!(
        class(cloud.perform(&Step::DeleteFileSystem { id: file_system.clone() }).await),
        Class::Conflict,
        "it is in use"
    );
    for step in
        [Step::DeleteAccessPoint { id: point.id.clone() }, Step::DeleteMountTarget { id: target.id.clone() }]
    {
        cloud.perform(&step).await.unwrap();
    }
    eventually("they are gone", async || {
        let left = (targets().await.items.len(), points(&owner).await.len());
        (left == (0, 0)).then_some(())
    })
    .await;
    cloud.perform(&Step::DeleteFileSystem { id: file_system.clone() }).await.unwrap();
    eventually("the file system is gone", async || {
        cloud.file_system(ours).await.unwrap().is_gone().then_some(())
    })
    .await;
    assert_eq!(targets().await.items, []);
    assert_eq!(points(&owner).await, []);
    for step in [
        Step::DeleteAccessPoint { id: point.id },
        Step::DeleteMountTarget { id: target.id },
        Step::DeleteFileSystem { id: file_system.clone() },
    ] {
        cloud.perform(&step).await.unwrap_or_else(|error| panic!("deleting what is gone succeeds: {error}"));
    }
    assert_eq!(stack.leftovers().await.unwrap(), []);
}

async fn log_group(cloud: &AwsCloud, name: &str, owner: &Owner) -> Result<Remote<LogGroup>, CloudError> {
    cloud.log_groups(&[name], owner).await.map(|found| found.into_iter().next().unwrap())
}

#[tokio::test]
async fn log_groups_are_made_seen_and_taken_away() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;
    let (name, owner) = ("/aws/lambda/larder-a", owner());
    let create =
        |name: &str, owner: &Owner| Step::CreateLogGroup { name: name.to_owned(), owner: owner.clone() };
    cloud.perform(&create("/aws/lambda/larder-a-sync", &other())).await.unwrap();
    assert_eq!(log_group(&cloud, name, &owner).await.unwrap(), Remote::Absent, "a longer name is another's");
    cloud.perform(&create(name, &owner)).await.unwrap();
    assert_eq!(class(cloud.perform(&create(name, &owner)).await), Class::Conflict);
    assert_eq!(
        log_group(&cloud, name, &owner).await.unwrap(),
        Remote::Ready(LogGroup { retention_days: None })
    );
    let both = cloud.log_groups(&[name, "/aws/lambda/larder-a-sync"], &owner).await.unwrap();
    assert!(matches!(&both[..], [Remote::Ready(_), Remote::Foreign { .. }]), "{both:?}");
    cloud.perform(&Step::PutRetentionPolicy { name: name.to_owned(), days: 14 }).await.unwrap();
    assert_eq!(
        log_group(&cloud, name, &owner).await.unwrap(),
        Remote::Ready(LogGroup { retention_days: Some(14) })
    );
    let seen = log_group(&cloud, name, &other()).await.unwrap();
    assert!(matches!(&seen, Remote::Foreign { owner: it, .. } if *it == owner.0), "{seen:?}");
    for _ in 0..2 {
        cloud.perform(&Step::DeleteLogGroup { name: name.to_owned() }).await.unwrap();
        assert_eq!(log_group(&cloud, name, &owner).await.unwrap(), Remote::Absent);
    }
}

const REPOSITORY: &str = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/larder-echo";

fn image(reference: &str) -> CodeRef {
    CodeRef::Image(ImageRef::parse(&format!("{REPOSITORY}{reference}")).unwrap())
}

fn archive(key: &str) -> CodeRef {
    CodeRef::Zip { bucket: "code".to_owned(), key: key.to_owned(), version_id: None }
}

/// Puts a manifest of this media type into the repository, under a tag.
async fn push(stack: &Stack, tag: &str, media_type: &str) -> String {
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}},"layers":[]}}"#
    );
    let request = stack.ecr().put_image().repository_name("larder-echo").image_tag(tag);
    let request = request.image_manifest(manifest).image_manifest_media_type(media_type);
    request.send().await.unwrap().image.unwrap().image_id.unwrap().image_digest.unwrap()
}

#[tokio::test]
async fn code_and_models_are_found() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;

    assert_eq!(class(cloud.code(&image(":v1")).await), Class::NotFound, "there is no repository");
    stack.ecr().create_repository().repository_name("larder-echo").send().await.unwrap();
    let digest = push(&stack, "v1", "application/vnd.docker.distribution.manifest.v2+json").await;
    let uri = format!("{REPOSITORY}@{digest}");
    let code = Code { package: Package::Image { uri }, digest: digest.clone() };
    assert_eq!(cloud.code(&image(":v1")).await.unwrap(), code);
    assert_eq!(cloud.code(&image(&format!("@{digest}"))).await.unwrap(), code);
    let error = cloud.code(&image(":v2")).await.unwrap_err();
    assert_eq!(error.problem.class, Class::NotFound, "{error}");
    assert!(error.problem.resource.ends_with("larder-echo:v2"), "{error}");
    push(&stack, "many", "application/vnd.oci.image.index.v1+json").await;
    assert_eq!(class(cloud.code(&image(":many")).await), Class::Invalid);

    let s3 = stack.s3();
    assert_eq!(class(cloud.code(&archive("a.zip")).await), Class::NotFound, "there is no bucket");
    let here = CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
    s3.create_bucket().bucket("code").create_bucket_configuration(here).send().await.unwrap();
    assert_eq!(class(cloud.code(&archive("a.zip")).await), Class::NotFound, "there is no object");
    let put =
        |key: &str, body: &'static [u8]| s3.put_object().bucket("code").key(key).body(body.to_vec().into());
    put("a.zip", b"first").checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    put("b.zip", b"second").send().await.unwrap();
    for (key, body) in [("a.zip", b"first".as_slice()), ("b.zip", b"second")] {
        for _ in 0..2 {
            let code = cloud.code(&archive(key)).await.unwrap();
            assert_eq!(code.digest, Digest::of(body).to_string(), "{key}");
        }
    }
    assert_eq!(stack.count("s3", "GetObject"), 1, "only what has no checksum is read, and once");
    put("b.zip", b"third").send().await.unwrap();
    assert_eq!(cloud.code(&archive("b.zip")).await.unwrap().digest, Digest::of(b"third").to_string());

    let error = cloud.objects("no-such-bucket", "ocr/", None).await.unwrap_err();
    assert_eq!(
        (error.problem.class, error.problem.resource.as_str()),
        (Class::NotFound, "bucket no-such-bucket")
    );
    for n in 0..1001 {
        put(&format!("ocr/{n:04}"), b"four").send().await.unwrap();
    }
    put("other", b"x").send().await.unwrap();
    let first = cloud.objects("code", "ocr/", None).await.unwrap();
    let last = cloud.objects("code", "ocr/", first.next.clone()).await.unwrap();
    assert_eq!((first.items.len(), last.items.len(), last.next), (1000, 1, None));
    assert_eq!((last.items[0].relative_key.as_str(), last.items[0].size), ("1000", 4));
    assert!(!last.items[0].etag.contains('"'), "{:?}", last.items[0]);
    assert_eq!(cloud.objects("code", "none/", None).await.unwrap().items, []);
    let head = s3.head_object().bucket("code").key("ocr/1000").send().await.unwrap();
    assert_eq!(last.items[0].modified.as_second(), head.last_modified.unwrap().secs());

    assert_eq!(cloud.object("code", "a.zip", 5).await.unwrap(), b"first");
    assert_eq!(class(cloud.object("code", "a.zip", 4).await), Class::Invalid, "it is too large");
    assert_eq!(class(cloud.object("code", "c.zip", 4).await), Class::NotFound);
}

/// What the controller makes of a source with objects of these keys: the revision's digest, or what it says.
async fn listed(
    cloud: &AwsCloud,
    stack: &Stack,
    bucket: &str,
    keys: &[(&str, usize)],
) -> Result<Digest, String> {
    let here = CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
    stack.s3().create_bucket().bucket(bucket).create_bucket_configuration(here).send().await.unwrap();
    let mut entries = Vec::new();
    for (key, size) in keys {
        let put = stack.s3().put_object().bucket(bucket).key(*key).body(vec![7; *size].into());
        let etag = put.send().await.unwrap().e_tag.unwrap().trim_matches('"').to_owned();
        let path = RelativePath::parse(key.strip_prefix("ocr/").unwrap());
        entries.extend(path.ok().map(|path| ObjectEntry { path, size: *size as u64, etag }));
    }
    let place = ModelSource::S3(S3Prefix { bucket: bucket.to_owned(), prefix: "ocr/".to_owned() });
    match source(cloud, &place, None, jiff::Timestamp::now()).await.unwrap() {
        Source::Found { revision: found, files, .. } => {
            assert_eq!((found, files), (revision(&entries), entries.len() as u64), "{keys:?}");
            Ok(found)
        }
        Source::Empty => Err("empty".to_owned()),
        Source::Unusable(why) | Source::Unmarked(why) => Err(why),
    }
}

#[tokio::test]
async fn keys_are_read_as_they_are_and_those_that_cannot_be_files_are_named() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;
    let long = ["x".repeat(254), "y".repeat(254), "z".repeat(254), "w".repeat(255)].join("/");
    let (longest, too_long) = (format!("ocr/{long}"), format!("ocr/{}", "x".repeat(256)));
    assert_eq!(longest.len(), 1_024);
    let good: &[&[(&str, usize)]] = &[
        &[("ocr/model.onnx", 3), ("ocr/a b+c%20d.onnx", 3), ("ocr/<&>\"'.onnx", 3), ("ocr/ü/识别.onnx", 3)],
        &[("ocr/..a/.b/c..", 3), ("ocr/-rf", 3), ("ocr/*?[x]", 3), (&longest, 3)],
        &[("ocr/Model.onnx", 3), ("ocr/model.onnx", 4)],
        &[("ocr/", 0), ("ocr/a/", 0), ("ocr/a/b", 5), ("ocr/empty", 0)],
    ];
    for (n, keys) in good.iter().enumerate() {
        listed(&cloud, &stack, &format!("good-{n}"), keys).await.unwrap();
    }
    let bad: &[(&[(&str, usize)], &str)] = &[
        (&[("ocr/../x", 1)], r#"object key "../x" cannot be a file in the model's folder"#),
        (&[("ocr/a/../../x", 1)], "it has a . or .. segment"),
        (&[("ocr//etc/passwd", 1)], "it is absolute"),
        (&[("ocr/a//b", 1)], "it has an empty segment"),
        (&[("ocr/a/", 1)], "it ends in /"),
        (&[("ocr/a\\b", 1)], "it has a control character or a backslash"),
        // XML cannot hold these: without URL encoding the whole listing would be unreadable.
        (&[("ocr/a\u{1}b", 1), ("ocr/good", 1)], r#""a\u{1}b""#),
        (&[("ocr/a\0b", 1)], r#""a\0b""#),
        (&[("ocr/a\nb", 1)], r#""a\nb""#),
        (&[(&too_long, 1)], "a segment is longer than 255 bytes"),
        (&[("ocr/a", 1), ("ocr/a/b", 1)], r#"object key "a" is also the folder of "a/b""#),
        (&[], "empty"),
    ];
    for (n, (keys, says)) in bad.iter().enumerate() {
        let said = listed(&cloud, &stack, &format!("bad-{n}"), keys).await.unwrap_err();
        assert!(said.contains(says), "{keys:?}: {said}");
    }
}

fn echo() -> Options {
    Options::aws().program(FunctionProgram::new("larder-echo", env!("CARGO_BIN_EXE_echo_function")))
}

const NAME: &str = "larder-echo-a";

fn config(memory_mib: i32, subnet: &str) -> FunctionConfig {
    FunctionConfig {
        role: format!("arn:aws:iam::{ACCOUNT}:role/r"),
        memory_mib,
        timeout_seconds: 20,
        ephemeral_mib: 1024,
        env: [("GREETING".to_owned(), "hello".to_owned())].into(),
        subnets: [subnet.to_owned()].into(),
        security_groups: ["sg-1".to_owned()].into(),
        mount: Some((
            format!("arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-1"),
            "/mnt/larder".to_owned(),
        )),
        start: Start::default(),
    }
}

fn code(body: &str) -> Code {
    let digest = Digest::of(body.as_bytes()).to_string();
    Code { package: Package::Image { uri: format!("{REPOSITORY}@{digest}") }, digest }
}

/// The function, once it is ready and its last update is done.
async fn settled(cloud: &AwsCloud) -> Function {
    eventually("the function is settled", async || {
        let seen = cloud.function(NAME, &owner()).await.unwrap();
        seen.ready().filter(|it| it.last_update == LastUpdate::Successful).cloned()
    })
    .await
}

async fn publish(cloud: &AwsCloud, number: u64) {
    let it = settled(cloud).await;
    let (code_sha256, revision_id) = (it.code_sha256, it.revision_id);
    cloud.perform(&Step::PublishVersion { name: NAME.to_owned(), code_sha256, revision_id }).await.unwrap();
    eventually("the version is ready", async || {
        cloud.version(NAME, number, &owner()).await.unwrap().ready().map(drop)
    })
    .await;
}

async fn created(stack: &Stack, cloud: &AwsCloud) -> FunctionConfig {
    let subnets = stack.ec2().describe_subnets().send().await.unwrap().subnets.unwrap();
    let config = config(512, subnets[0].subnet_id().unwrap());
    let create = Step::CreateFunction {
        name: NAME.to_owned(),
        owner: owner(),
        code: code("1"),
        architecture: Architecture::Arm64,
        config: config.clone(),
    };
    assert_eq!(cloud.function(NAME, &owner()).await.unwrap(), Remote::Absent);
    cloud.perform(&create).await.unwrap();
    assert!(matches!(cloud.function(NAME, &owner()).await.unwrap(), Remote::Pending(_)));
    assert_eq!(class(cloud.perform(&create).await), Class::Conflict);
    config
}

#[tokio::test]
async fn functions_are_made_changed_and_taken_away() {
    let stack = Stack::start(echo()).await.unwrap();
    let cloud = connect(&stack).await;
    let mut config = created(&stack, &cloud).await;
    let made = settled(&cloud).await;
    assert_eq!(
        (&made.config, made.architecture, &made.code_digest),
        (&config, Architecture::Arm64, &code("1").digest)
    );
    assert_eq!((made.name.as_str(), made.reserved), (NAME, None));
    assert_eq!(made.arn, format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"));
    let seen = cloud.function(NAME, &other()).await.unwrap();
    assert!(matches!(&seen, Remote::Foreign { owner: it, .. } if *it == owner().0), "{seen:?}");

    config.memory_mib = 1024;
    config.mount = None;
    config.env.clear();
    let update = |revision_id: &str| Step::UpdateFunctionConfiguration {
        name: NAME.to_owned(),
        config: config.clone(),
        changes: Vec::new(),
        revision_id: revision_id.to_owned(),
    };
    assert_eq!(class(cloud.perform(&update("stale")).await), Class::Conflict);
    cloud.perform(&update(&made.revision_id)).await.unwrap();
    let changed = settled(&cloud).await;
    assert_eq!(changed.config, config);
    assert_ne!(changed.revision_id, made.revision_id);
    let update = |revision_id: &str| Step::UpdateFunctionCode {
        name: NAME.to_owned(),
        code: code("2"),
        architecture: Architecture::X86_64,
        revision_id: revision_id.to_owned(),
    };
    assert_eq!(class(cloud.perform(&update(&made.revision_id)).await), Class::Conflict);
    cloud.perform(&update(&changed.revision_id)).await.unwrap();
    let changed = settled(&cloud).await;
    assert_eq!((changed.code_digest, changed.architecture), (code("2").digest, Architecture::X86_64));

    let name = NAME.to_owned();
    cloud.perform(&Step::PutFunctionConcurrency { name: name.clone(), reserved: 5 }).await.unwrap();
    assert_eq!(settled(&cloud).await.reserved, Some(5));
    for _ in 0..2 {
        cloud.perform(&Step::DeleteFunctionConcurrency { name: name.clone() }).await.unwrap();
        assert_eq!(settled(&cloud).await.reserved, None);
    }

    let model = "ocr".to_owned();
    let place = S3Prefix { bucket: "models".to_owned(), prefix: "secret-place/".to_owned() };
    let request = SyncRequest {
        manifest: Manifest::new(Vec::new()),
        sources: vec![SyncSource { model, source: ModelSource::S3(place) }],
        worker: None,
    };
    cloud.perform(&Step::StartSync { function: name.clone(), request: request.clone() }).await.unwrap();
    let error = cloud.sync_status(NAME, &request).await.unwrap_err();
    assert_eq!(error.problem.class, Class::Transient, "an echo is no report: {error}");
    assert!(!format!("{error:?}").contains("secret-place"), "no payload is repeated: {error:?}");
    assert_eq!(class(cloud.sync_status("larder-none", &request).await), Class::NotFound);

    for _ in 0..2 {
        cloud.perform(&Step::DeleteFunction { name: name.clone() }).await.unwrap();
        assert_eq!(cloud.function(NAME, &owner()).await.unwrap(), Remote::Absent);
    }
    assert!(cloud.version_numbers(NAME, None).await.unwrap().items.is_empty());
    assert_eq!(cloud.version(NAME, 1, &owner()).await.unwrap(), Remote::Absent);
    assert_eq!(stack.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn versions_lead_to_a_url_and_back() {
    let stack = Stack::start(echo()).await.unwrap();
    let cloud = connect(&stack).await;
    let config = created(&stack, &cloud).await;
    let name = NAME.to_owned();
    publish(&cloud, 1).await;
    let it = settled(&cloud).await;
    let stale = Step::PublishVersion {
        name: name.clone(),
        code_sha256: it.code_sha256.clone(),
        revision_id: "stale".to_owned(),
    };
    assert_eq!(class(cloud.perform(&stale).await), Class::Conflict);
    let changed = FunctionConfig { memory_mib: 1024, ..config.clone() };
    let step = Step::UpdateFunctionConfiguration {
        name: name.clone(),
        config: changed.clone(),
        changes: Vec::new(),
        revision_id: it.revision_id,
    };
    cloud.perform(&step).await.unwrap();
    publish(&cloud, 2).await;
    let mut numbers = cloud.version_numbers(NAME, None).await.unwrap().items;
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2], "$LATEST is no version");
    for (number, config) in [(1, &config), (2, &changed)] {
        let version = cloud.version(NAME, number, &owner()).await.unwrap();
        let version = version.ready().unwrap();
        assert_eq!((&version.config, &version.code_digest), (config, &code("1").digest));
        assert!(version.arn.ends_with(NAME), "without a qualifier: {}", version.arn);
    }

    assert_eq!(cloud.provisioned(NAME, 2).await.unwrap(), None);
    let put = Step::PutProvisionedConcurrency { name: name.clone(), version: 2, count: 2 };
    cloud.perform(&put).await.unwrap();
    let seen = cloud.provisioned(NAME, 2).await.unwrap().unwrap();
    assert_eq!((seen.requested, seen.status), (2, ProvisionedStatus::InProgress));
    eventually("all of it is warm", async || {
        let seen = cloud.provisioned(NAME, 2).await.unwrap()?;
        (seen.status == ProvisionedStatus::Ready && seen.available == 2).then_some(())
    })
    .await;

    assert_eq!(cloud.alias(NAME).await.unwrap(), None);
    let function = NAME.to_owned();
    let description = "larder: version=1 since=2026-01-31T12:00:00Z".to_owned();
    let create =
        Step::CreateAlias { function: function.clone(), version: 1, description: description.clone() };
    cloud.perform(&create).await.unwrap();
    let seen = cloud.alias(NAME).await.unwrap().unwrap();
    assert_eq!((seen.version, seen.second, seen.description), (1, None, description));
    let revision_id = seen.revision_id;
    let routing =
        aws_sdk_lambda::types::AliasRoutingConfiguration::builder().additional_version_weights("2", 0.29);
    let weigh = stack.lambda().update_alias().function_name(NAME).name("live");
    weigh.routing_config(routing.build()).send().await.unwrap();
    let weighed = cloud.alias(NAME).await.unwrap().unwrap();
    assert_eq!((weighed.version, weighed.second), (1, Some((2, 29))));
    let update = |second, revision_id: String| Step::UpdateAlias {
        function: function.clone(),
        from: 1,
        version: 2,
        second,
        description: "moved".to_owned(),
        revision_id,
    };
    assert_eq!(class(cloud.perform(&update(None, revision_id)).await), Class::Conflict);
    cloud.perform(&update(Some((1, 7)), weighed.revision_id)).await.unwrap();
    let alias = cloud.alias(NAME).await.unwrap().unwrap();
    assert_eq!((alias.version, alias.second, alias.description.as_str()), (2, Some((1, 7)), "moved"));
    cloud.perform(&update(None, alias.revision_id)).await.unwrap();
    let alias = cloud.alias(NAME).await.unwrap().unwrap();
    assert_eq!((alias.version, alias.second), (2, None), "all requests go to one version");
    assert_eq!(
        class(cloud.perform(&Step::DeleteVersion { name: name.clone(), version: 2 }).await),
        Class::Conflict
    );

    assert_eq!(cloud.function_url(NAME).await.unwrap(), None);
    cloud
        .perform(&Step::CreateFunctionUrl { function: function.clone(), auth_type: "AWS_IAM" })
        .await
        .unwrap();
    let url = cloud.function_url(NAME).await.unwrap().unwrap();
    assert_eq!(url.auth_type, "AWS_IAM");
    assert!(url.url.contains("lambda-url"), "{}", url.url);
    cloud.perform(&Step::UpdateFunctionUrl { function: function.clone(), auth_type: "NONE" }).await.unwrap();
    assert_eq!(cloud.function_url(NAME).await.unwrap().unwrap().auth_type, "NONE");

    assert_eq!(cloud.permissions(NAME).await.unwrap(), BTreeMap::new());
    let mut expected = BTreeMap::new();
    for action in [PermissionAction::InvokeFunctionUrl, PermissionAction::InvokeFunction] {
        for public in [true, false] {
            let permission = Permission { action, public };
            let add = Step::AddPermission { function: function.clone(), permission };
            cloud.perform(&add).await.unwrap();
            assert_eq!(class(cloud.perform(&add).await), Class::Conflict);
            expected.insert(permission.statement().to_owned(), true);
            assert_eq!(cloud.permissions(NAME).await.unwrap(), expected);
        }
    }
    let policy = stack.lambda().get_policy().function_name(NAME).qualifier("live").send().await.unwrap();
    let policy: serde_json::Value = serde_json::from_str(policy.policy().unwrap()).unwrap();
    let principals = policy["Statement"].to_string();
    assert!(principals.contains(r#""*""#) && principals.contains(ACCOUNT), "{principals}");

    for _ in 0..2 {
        for statement in expected.keys() {
            let (function, statement) = (function.clone(), statement.clone());
            cloud.perform(&Step::RemovePermission { function, statement }).await.unwrap();
        }
        cloud.perform(&Step::DeleteFunctionUrl { function: function.clone() }).await.unwrap();
        cloud.perform(&Step::DeleteProvisionedConcurrency { name: name.clone(), version: 2 }).await.unwrap();
        cloud.perform(&Step::DeleteAlias { function: function.clone() }).await.unwrap();
        cloud.perform(&Step::DeleteVersion { name: name.clone(), version: 1 }).await.unwrap();
        assert_eq!(cloud.permissions(NAME).await.unwrap(), BTreeMap::new());
        assert_eq!(cloud.function_url(NAME).await.unwrap(), None);
        assert_eq!(cloud.provisioned(NAME, 2).await.unwrap(), None);
        assert_eq!(cloud.alias(NAME).await.unwrap(), None);
        assert_eq!(cloud.version_numbers(NAME, None).await.unwrap().items, [2]);
    }
    cloud.perform(&Step::DeleteFunction { name }).await.unwrap();
    assert_eq!(stack.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn failures_on_the_wire_have_their_classes() {
    let stack = Stack::start(Options::aws()).await.unwrap();
    let cloud = connect(&stack).await;
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
            log_group(&cloud, "g", &owner()).await.unwrap_err().problem,
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
    log_group(&cloud, "g", &owner()).await.unwrap();
    assert_eq!((stack.count("sts", "AssumeRole"), stack.count("sts", "GetCallerIdentity")), (1, 1));

    stack.inject(Rule::new("sts", "AssumeRole", When::Always, Fault::Denied));
    let error = connector.connect(&place(Some("arn:aws:iam::000000000000:role/closed"))).await.unwrap_err();
    assert_eq!(error.problem.class, Class::Denied, "{error}");
    assert!(error.to_string().contains("role/closed"), "{error}");
}
