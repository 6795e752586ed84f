//! What the user brings, as S3 and ECR have it.

use aws_sdk_s3::types::{ChecksumAlgorithm, CreateBucketConfiguration};
use larder::cloud::Cloud as _;
use larder::cloud::aws::AwsCloud;
use larder::listing::source;
use larder_contract::revision::revision;
use larder_contract::source::S3Prefix;
use larder_contract::{Digest, ModelSource, ObjectEntry, RelativePath};
use larder_core::Class;
use larder_core::endpoint::{CodeRef, ImageRef};
use larder_core::observed::{Code, Package, Source};
use larder_tests::stack::{Options, REGION, Stack};

use super::{class, connect};

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
