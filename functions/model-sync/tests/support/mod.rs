//! A small S3 server whose answers a test can hold back and spoil, and the real binary against it.

#![allow(dead_code, reason = "no test uses all of it")]

mod run;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use larder_contract::Digest;
use larder_model_sync::checksum::{Algorithm, Checksum};
use tokio::sync::Semaphore;

#[allow(unused_imports, reason = "no test uses all of it")]
pub(crate) use run::{bytes, copied, copy_from, output, sha256};

/// The server's state; one bucket named `models`.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// How many `GetObject` there were.
    pub(crate) gets: AtomicUsize,
    /// Each `GetObject` takes one, and waits when there is none.
    pub(crate) open: Semaphore,
    /// What happens to the `GetObject` with this number, counted from 0.
    pub(crate) faults: Mutex<BTreeMap<usize, Fault>>,
    /// Whether every call is denied.
    pub(crate) is_denied: bool,
    /// What happens by chance, if anything does.
    pub(crate) chance: Mutex<Option<Chance>>,
    /// Key and first byte of every `GetObject`.
    pub(crate) asked: Mutex<Vec<(String, usize)>>,
    /// How many objects were replaced by chance.
    pub(crate) swaps: AtomicUsize,
}

/// Faults by chance: some for each twenty reads.
#[derive(Debug)]
pub(crate) struct Chance {
    rng: fastrand::Rng,
    swaps: bool,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), swaps: true }
    }

    /// Faults of the way only: objects stay what they are.
    pub(crate) fn without_swaps(seed: u64) -> Self {
        Self { swaps: false, ..Self::new(seed) }
    }

    fn next(&mut self) -> Option<Fault> {
        let pause = Duration::from_millis(self.rng.u64(1..60));
        Some(match self.rng.u32(..100) {
            0..3 => Fault::SlowDown,
            3..6 => Fault::Reset,
            6..9 => Fault::Truncated,
            9..20 => Fault::Pause(pause),
            20 => Fault::Silent,
            21 if self.swaps && self.rng.u32(..4) == 0 => Fault::Swapped,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    SlowDown,
    Reset,
    Replaced,
    /// The body ends early, as if that were all.
    Truncated,
    /// It takes its time.
    Pause(Duration),
    /// The body stops in the middle, and the connection stays.
    Silent,
    /// The object has other content from now on.
    Swapped,
}

impl Bucket {
    pub(crate) fn new(objects: &[(&str, usize)]) -> Self {
        let objects = objects.iter().map(|(key, length)| {
            let bytes = (0..*length).map(|i| u8::try_from((i * 31 + i / 255) % 256).unwrap()).collect();
            ((*key).to_owned(), bytes)
        });
        Self {
            objects: Mutex::new(objects.collect()),
            gets: AtomicUsize::new(0),
            open: Semaphore::new(1_000_000),
            faults: Mutex::default(),
            is_denied: false,
            chance: Mutex::default(),
            asked: Mutex::default(),
            swaps: AtomicUsize::new(0),
        }
    }

    /// Serves on a free port until the test's runtime ends; answers the URL.
    pub(crate) async fn serve(self: &Arc<Self>) -> String {
        let router = Router::new().fallback(answer).with_state(Arc::clone(self));
        serve(router).await
    }
}

pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn error(status: StatusCode, code: &str) -> Response {
    let text = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    (status, [("x-amz-request-id", "REQ1"), ("content-type", "application/xml")], text).into_response()
}

async fn answer(State(bucket): State<Arc<Bucket>>, request: Request) -> Response {
    let path = unescaped(request.uri().path().trim_start_matches('/'));
    let (name, key) = path.split_once('/').unwrap_or((&path, ""));
    if bucket.is_denied {
        return error(StatusCode::FORBIDDEN, "AccessDenied");
    }
    if name != "models" {
        return error(StatusCode::NOT_FOUND, "NoSuchBucket");
    }
    if key.is_empty() {
        return list(&bucket, request.uri().query().unwrap_or(""));
    }
    let Some(bytes) = bucket.objects.lock().unwrap().get(key).cloned() else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey");
    };
    if request.method() == Method::HEAD {
        return facts(&bytes).into_response();
    }
    get(&bucket, key, &bytes, request.headers()).await
}

/// As S3 writes keys in a listing with `encoding-type=url`.
fn escaped(key: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b'/' => {
            char::from(byte).to_string()
        }
        b' ' => "+".to_owned(),
        other => format!("%{other:02X}"),
    };
    key.bytes().map(escape).collect()
}

fn unescaped(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digits = (byte == b'%').then(|| [rest.next().unwrap(), rest.next().unwrap()]);
        let decode = |digits: [u8; 2]| u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
        bytes.push(digits.map_or(byte, decode));
    }
    String::from_utf8(bytes).unwrap()
}

fn list(bucket: &Bucket, query: &str) -> Response {
    let query: BTreeMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, unescaped(value)))
        .collect();
    let encoded = query.get("encoding-type").is_some_and(|how| how == "url");
    let prefix = query.get("prefix").map_or("", String::as_str);
    let after = query.get("continuation-token").map(|key| unescaped(key)).unwrap_or_default();
    let objects = bucket.objects.lock().unwrap();
    let all: Vec<_> = objects.iter().filter(|(k, _)| k.starts_with(prefix) && **k > after).collect();
    // Small pages, so that every test has several.
    let page = &all[..all.len().min(2)];
    let content = |(key, bytes): &(&String, &Vec<u8>)| {
        let (size, etag) = (bytes.len(), etag(bytes));
        let key = if encoded { escaped(key) } else { (*key).clone() };
        format!("<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{etag}</ETag></Contents>")
    };
    let contents = page.iter().map(content).collect::<Vec<_>>().concat();
    let next = match page.last() {
        Some((key, _)) if page.len() < all.len() => {
            let key = escaped(key);
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{key}</NextContinuationToken>")
        }
        _ => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    let how = if encoded { "<EncodingType>url</EncodingType>" } else { "" };
    let text = format!("<ListBucketResult>{how}{contents}{next}</ListBucketResult>");
    ([("content-type", "application/xml")], text).into_response()
}

pub(crate) fn etag(bytes: &[u8]) -> String {
    format!("\"{}-1\"", Digest::of(bytes).short())
}

fn facts(bytes: &[u8]) -> HeaderMap {
    let checksum = Checksum::of(Algorithm::Crc64Nvme, bytes);
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, etag(bytes).parse().unwrap());
    headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let text = aws_smithy_types::base64::encode(checksum.value);
    headers.insert("x-amz-checksum-crc64nvme", text.parse().unwrap());
    headers
}

async fn get(bucket: &Bucket, key: &str, bytes: &[u8], headers: &HeaderMap) -> Response {
    let nth = bucket.gets.fetch_add(1, Ordering::SeqCst);
    bucket.open.acquire().await.unwrap().forget();
    let chosen = bucket.chance.lock().unwrap().as_mut().and_then(Chance::next);
    let fault = bucket.faults.lock().unwrap().get(&nth).copied().or(chosen);
    if let Some(Fault::Pause(pause)) = fault {
        tokio::time::sleep(pause).await;
    }
    if let Some(Fault::Swapped) = fault {
        let mut objects = bucket.objects.lock().unwrap();
        objects.get_mut(key).unwrap().rotate_left(1);
        bucket.swaps.fetch_add(1, Ordering::SeqCst);
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    let is_same = headers.get(header::IF_MATCH).is_none_or(|want| want == etag(bytes).as_str());
    if matches!(fault, Some(Fault::Replaced)) || !is_same {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    if matches!(fault, Some(Fault::SlowDown)) {
        return error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
    }
    let range = headers.get(header::RANGE).map(|range| {
        let (from, to) = range.to_str().unwrap().trim_start_matches("bytes=").split_once('-').unwrap();
        from.parse::<usize>().unwrap()..to.parse::<usize>().unwrap() + 1
    });
    let part = Bytes::copy_from_slice(&bytes[range.clone().unwrap_or(0..bytes.len())]);
    let length = part.len();
    let from = range.as_ref().map_or(0, |range| range.start);
    bucket.asked.lock().unwrap().push((key.to_owned(), from));
    let half = part.slice(..part.len() / 2);
    let body = match fault {
        Some(Fault::Reset) => {
            let broken = Err(std::io::Error::other("reset by the test"));
            Body::from_stream(futures::stream::iter([Ok(half), broken]).boxed())
        }
        Some(Fault::Silent) => {
            let first = futures::stream::iter([Ok::<_, std::io::Error>(half)]);
            Body::from_stream(first.chain(futures::stream::pending()).boxed())
        }
        Some(Fault::SlowDown | Fault::Replaced | Fault::Truncated | Fault::Pause(_) | Fault::Swapped)
        | None => Body::from(part),
    };
    let mut response = Response::new(body);
    match range {
        None => *response.headers_mut() = facts(bytes),
        Some(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
            response.headers_mut().insert(header::CONTENT_RANGE, text.parse().unwrap());
            response.headers_mut().insert(header::ETAG, etag(bytes).parse().unwrap());
        }
    }
    if matches!(fault, Some(Fault::Truncated)) {
        // Without a length the body is chunked, and ends where the server says.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        let half = Bytes::copy_from_slice(&bytes[from..from + length / 2]);
        *response.body_mut() = Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(half)]));
    } else {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

/// The real binary, with nothing of the outside in its environment.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder-model-sync"));
    command.env_clear().envs([
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    command
}

/// `copy` of a prefix in the bucket `models`.
pub(crate) fn copy(url: &str, prefix: &str, dir: &Path) -> Command {
    let mut command = binary();
    command.arg("copy").arg(format!("s3://models/{prefix}")).arg(dir);
    command.args(["--endpoint-url", url, "--json", "--part-mib", "1", "--parts", "4"]);
    command
}
