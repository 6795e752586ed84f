//! The S3 client against MiniStack: pages, multipart uploads and checksums as a server of others makes them.
//!
//! `LARDER_PYTHON` names the Python of a virtual environment that has `ministack[full]`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails there and then"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures::StreamExt as _;
use larder_contract::layout;
use larder_contract::source::S3Prefix;
use larder_model_sync::copy::{CopyError, Ending, copy};
use larder_model_sync::listing::{Listing, ListingError, list};
use larder_model_sync::retry::Budget;
use larder_model_sync::s3::S3;
use larder_model_sync::source::{Class, Source as _};
use larder_model_sync::transfer::{Progress, Settings};
use tokio_util::sync::CancellationToken;

struct MiniStack {
    child: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Drop for MiniStack {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl MiniStack {
    async fn start() -> Self {
        let python = std::env::var_os("LARDER_PYTHON")
            .expect("LARDER_PYTHON must name the Python of a virtual environment with ministack[full]");
        let program = Path::new(&python).with_file_name("ministack");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = tempfile::tempdir().unwrap();
        let child = Command::new(&program)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("SFTP_ENABLED", "0")
            .env("IOT_MTLS_ENABLED", "0")
            .env("TMPDIR", data.path())
            .env("HOME", data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        let started = Self { child, url: format!("http://127.0.0.1:{port}"), _data: data };
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return started;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("MiniStack did not listen on port {port} within 60 s");
    }

    async fn client(&self) -> Client {
        let shared = larder_model_sync::s3::config(Some(&self.url), Some("us-east-1".to_owned())).await;
        let shared = larder_model_sync::s3::client(&shared);
        let keys = aws_sdk_s3::config::Credentials::new("test", "test", None, None, "test");
        Client::from_conf(shared.config().to_builder().credentials_provider(keys).build())
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 13 + i / 254) % 256).unwrap()).collect()
}

async fn put(client: &Client, key: &str, body: Vec<u8>) {
    let request = client.put_object().bucket("models").key(key).body(ByteStream::from(body));
    request.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
}

async fn put_in_parts(client: &Client, key: &str, body: &[u8]) {
    let begun = client.create_multipart_upload().bucket("models").key(key).send().await.unwrap();
    let upload = begun.upload_id().unwrap();
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(body.chunks(5 << 20)) {
        let request = client.upload_part().bucket("models").key(key).upload_id(upload).part_number(number);
        let answer = request.body(ByteStream::from(part.to_vec())).send().await.unwrap();
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let request = client.complete_multipart_upload().bucket("models").key(key).upload_id(upload);
    request.multipart_upload(parts).send().await.unwrap();
}

async fn listing(source: &S3) -> Result<Listing, ListingError> {
    list(source, &Budget::new(3, 10, Duration::from_millis(10)), Duration::from_secs(30)).await
}

async fn run(source: &Arc<S3>, listing: &Listing, root: &Path) -> Result<Ending, CopyError> {
    let settings = Settings { part_bytes: 1 << 20, ..Settings::default() };
    let progress = Arc::new(Progress::default());
    let ending =
        copy(Arc::clone(source), root, listing, &settings, &progress, &CancellationToken::new()).await;
    if matches!(ending, Ok(Ending::Copied)) {
        assert_eq!(progress.bytes.load(Ordering::SeqCst), listing.bytes());
    }
    ending
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_from_a_real_server() {
    let ministack = MiniStack::start().await;
    let client = ministack.client().await;
    client.create_bucket().bucket("models").send().await.unwrap();
    let at = |bucket: &str, prefix: &str| {
        let place = S3Prefix { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        Arc::new(S3::new(client.clone(), place))
    };

    let empty = listing(&at("models", "ocr/")).await.unwrap_err();
    assert!(matches!(empty, ListingError::Empty(_)), "{empty}");
    let missing = listing(&at("no-such-bucket", "ocr/")).await.unwrap_err();
    let ListingError::Source(missing) = missing else { panic!("{missing}") };
    assert_eq!((missing.class, missing.code.as_str()), (Class::NoBucket, "NoSuchBucket"));

    let mut files: Vec<(String, Vec<u8>)> =
        (0..1_005).map(|i| (format!("many/{i:04}.txt"), bytes(i % 7))).collect();
    files.push(("det model.onnx".to_owned(), bytes(3_333_333)));
    files.push(("rec+ü.onnx".to_owned(), bytes((5 << 20) + 77)));
    put_in_parts(&client, "ocr/rec+ü.onnx", &files[1_006].1).await;
    put(&client, "ocr/", Vec::new()).await;
    futures::stream::iter(&files[..1_006])
        .for_each_concurrent(16, async |(name, body)| {
            put(&client, &format!("ocr/{name}"), body.clone()).await;
        })
        .await;

    let source = at("models", "ocr/");
    let listed = listing(&source).await.unwrap();
    assert_eq!(listed.objects.len(), 1_007, "all pages are read");
    let one = source.expected("ocr/det model.onnx", &listed.objects[0].etag).await.unwrap();
    assert!(one.is_some(), "the server's own checksum is used");

    let root = tempfile::tempdir().unwrap();
    assert_eq!(run(&source, &listed, root.path()).await.unwrap(), Ending::Copied);
    let folder: PathBuf = layout::revision_dir(root.path(), &listed.revision);
    for (name, body) in &files {
        assert!(std::fs::read(folder.join(name)).unwrap() == *body, "{name} differs");
    }
    assert_eq!(run(&source, &listed, root.path()).await.unwrap(), Ending::Present);

    // Replaced after it was listed: the condition fails, and nothing of the mixture appears.
    put(&client, "ocr/det model.onnx", bytes(3_333_334)).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let error = run(&source, &listed, elsewhere.path()).await.unwrap_err();
    assert_eq!(error.state(), larder_contract::sync::ModelState::SourceChanged, "{error}");
    assert!(!folder_exists(elsewhere.path(), &listed));
    let again = listing(&source).await.unwrap();
    assert_ne!(again.revision, listed.revision);
    assert_eq!(run(&source, &again, root.path()).await.unwrap(), Ending::Copied);
}

fn folder_exists(root: &Path, listing: &Listing) -> bool {
    layout::revision_dir(root, &listing.revision).exists()
}
