//! A small S3 server whose answers a test can hold back and spoil, and the real binary against it.

#![allow(dead_code, reason = "no test uses all of it")]

pub(crate) mod lambda;
mod run;
mod signature;

use std::collections::{BTreeMap, VecDeque};
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
use larder_contract::revision::revision;
use larder_contract::{Digest, ObjectEntry, RelativePath};
use larder_model_sync::checksum::{Algorithm, Checksum};
use tokio::sync::Semaphore;

#[allow(unused_imports, reason = "no test uses all of it")]
pub(crate) use run::{bytes, copied, copy_from, output, sha256};

/// The server's state; one bucket named `models`.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a test turns one of them on, or none")]
pub(crate) struct Bucket {
    pub(crate) objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// How many `GetObject` there were.
    pub(crate) gets: AtomicUsize,
    /// Each `GetObject` takes one, and waits when there is none.
    pub(crate) open: Semaphore,
    /// What happens to the `GetObject` with this number, counted from 0.
    pub(crate) faults: Mutex<BTreeMap<usize, Fault>>,
    /// What happens to the next calls that are no `GetObject`.
    pub(crate) calls: Mutex<VecDeque<Fault>>,
    /// Whether every call is denied.
    pub(crate) is_denied: bool,
    /// What happens by chance, if anything does.
    pub(crate) chance: Mutex<Option<Chance>>,
    /// Key and first byte of every `GetObject`.
    pub(crate) asked: Mutex<Vec<(String, usize)>>,
    /// How many objects were replaced by chance.
    pub(crate) swaps: AtomicUsize,
    /// What replaced objects were, with their `ETag`s.
    pub(crate) replaced: Mutex<Vec<(String, Vec<u8>)>>,
    /// Whether answers about an object have no `ETag`: then only the condition of a request keeps contents apart.
    pub(crate) tells_no_etag: bool,
    /// The length of the parts that objects were uploaded in; whole when none.
    pub(crate) uploaded_in: Option<usize>,
    /// Whether it keeps no checksum of any object.
    pub(crate) keeps_no_checksum: bool,
    /// Whether it denies every `GetObject` that the SDK did not make.
    pub(crate) wants_the_sdk: bool,
    /// How many `GetObject` the SDK made.
    pub(crate) of_the_sdk: AtomicUsize,
    /// How often the length of such a part was asked for.
    pub(crate) part_lengths: AtomicUsize,
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
            calls: Mutex::default(),
            is_denied: false,
            chance: Mutex::default(),
            asked: Mutex::default(),
            swaps: AtomicUsize::new(0),
            replaced: Mutex::default(),
            tells_no_etag: false,
            uploaded_in: None,
            keeps_no_checksum: false,
            wants_the_sdk: false,
            of_the_sdk: AtomicUsize::new(0),
            part_lengths: AtomicUsize::new(0),
        }
    }

    /// Gives an object other content, of the same length.
    fn swap(&self, key: &str) {
        let mut objects = self.objects.lock().unwrap();
        let Some(bytes) = objects.get_mut(key).filter(|bytes| !bytes.is_empty()) else { return };
        self.replaced.lock().unwrap().push((etag(bytes), bytes.clone()));
        bytes.rotate_left(1);
        self.swaps.fetch_add(1, Ordering::SeqCst);
    }

    /// The content that had this `ETag` (without quotes), now or before it was replaced.
    pub(crate) fn content(&self, wanted: &str) -> Option<Vec<u8>> {
        let is_it = |bytes: &&Vec<u8>| etag(bytes).trim_matches('"') == wanted;
        let now = self.objects.lock().unwrap().values().find(is_it).cloned();
        let replaced = self.replaced.lock().unwrap();
        now.or_else(|| replaced.iter().map(|(_, bytes)| bytes).find(is_it).cloned())
    }

    /// What goes wrong with a call that is no `GetObject`, if anything does.
    async fn trouble(&self) -> Option<Fault> {
        let chosen = self.calls.lock().unwrap().pop_front();
        let fault = chosen.or_else(|| self.chance.lock().unwrap().as_mut().and_then(Chance::next));
        match fault {
            Some(Fault::Pause(pause)) => tokio::time::sleep(pause).await,
            Some(Fault::Silent) => std::future::pending().await,
            _ => {}
        }
        fault
    }

    /// What is said of an object, or of a part of its upload.
    fn facts(&self, bytes: &[u8], part: Option<usize>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !self.tells_no_etag {
            headers.insert(header::ETAG, etag(bytes).parse().unwrap());
        }
        let Some(length) = self.uploaded_in else {
            headers.insert(header::CONTENT_LENGTH, bytes.len().into());
            if self.keeps_no_checksum {
                return headers;
            }
            let checksum = Checksum::of(Algorithm::Crc64Nvme, bytes);
            let text = aws_smithy_types::base64::encode(checksum.value);
            headers.insert("x-amz-checksum-crc64nvme", text.parse().unwrap());
            return headers;
        };
        let parts: Vec<&[u8]> = bytes.chunks(length.max(1)).collect();
        if let Some(number) = part {
            self.part_lengths.fetch_add(1, Ordering::SeqCst);
            headers.insert(header::CONTENT_LENGTH, parts[number - 1].len().into());
            headers.insert("x-amz-mp-parts-count", parts.len().into());
            return headers;
        }
        headers.insert(header::CONTENT_LENGTH, bytes.len().into());
        if !parts.is_empty() {
            let raw: Vec<u8> =
                parts.iter().flat_map(|part| Checksum::of(Algorithm::Sha256, part).value).collect();
            let text = aws_smithy_types::base64::encode(Checksum::of(Algorithm::Sha256, &raw).value);
            headers.insert("x-amz-checksum-sha256", format!("{text}-{}", parts.len()).parse().unwrap());
        }
        headers
    }

    /// The revision of what is below a prefix now.
    pub(crate) fn revision(&self, prefix: &str) -> Digest {
        let objects = self.objects.lock().unwrap();
        let files = objects.iter().filter_map(|(key, bytes)| Some((key.strip_prefix(prefix)?, bytes)));
        let entry = |(path, bytes): (&str, &Vec<u8>)| ObjectEntry {
            path: RelativePath::parse(path).unwrap(),
            size: bytes.len() as u64,
            etag: etag(bytes).trim_matches('"').to_owned(),
        };
        revision(&files.filter(|(path, _)| !path.is_empty()).map(entry).collect::<Vec<_>>())
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
    signature::check(&request);
    let path = unescaped(request.uri().path().trim_start_matches('/'));
    let (name, key) = path.split_once('/').unwrap_or((&path, ""));
    if bucket.is_denied {
        return error(StatusCode::FORBIDDEN, "AccessDenied");
    }
    if name != "models" {
        return error(StatusCode::NOT_FOUND, "NoSuchBucket");
    }
    let query = request.uri().query().unwrap_or("");
    if key.is_empty() {
        return listed(&bucket, query).await;
    }
    let Some(bytes) = bucket.objects.lock().unwrap().get(key).cloned() else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey");
    };
    // S3 would answer. Here nothing may be asked of an object without saying which content is meant.
    let Some(condition) = request.headers().get(header::IF_MATCH) else {
        return error(StatusCode::BAD_REQUEST, "NoIfMatch");
    };
    if request.method() == Method::HEAD {
        if let Some(Fault::SlowDown | Fault::Reset | Fault::Truncated) = bucket.trouble().await {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if condition != etag(&bytes).as_str() {
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
        let part = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")?.parse().ok());
        return bucket.facts(&bytes, part).into_response();
    }
    if request.headers().contains_key("amz-sdk-invocation-id") {
        bucket.of_the_sdk.fetch_add(1, Ordering::SeqCst);
    } else if bucket.wants_the_sdk {
        return error(StatusCode::FORBIDDEN, "AccessDenied");
    }
    get(&bucket, key, &bytes, request.headers()).await
}

/// A page of the listing, if nothing goes wrong with it.
async fn listed(bucket: &Bucket, query: &str) -> Response {
    let fault = bucket.trouble().await;
    let page = list(bucket, query);
    let (parts, body) = page.into_parts();
    let text = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let half = text.slice(..text.len() / 2);
    match fault {
        Some(Fault::SlowDown) => return error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        Some(Fault::Reset) => {
            let broken = Err(std::io::Error::other("reset by the test"));
            return Response::from_parts(parts, Body::from_stream(futures::stream::iter([Ok(half), broken])));
        }
        Some(Fault::Truncated) => {
            let half = futures::stream::iter([Ok::<_, std::io::Error>(half)]);
            return Response::from_parts(parts, Body::from_stream(half));
        }
        Some(Fault::Swapped) => {
            let keys: Vec<String> = bucket.objects.lock().unwrap().keys().cloned().collect();
            bucket.swap(&keys[fastrand::usize(..keys.len())]);
        }
        Some(Fault::Pause(_) | Fault::Silent | Fault::Replaced) | None => {}
    }
    Response::from_parts(parts, Body::from(text))
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
    let count = format!("<KeyCount>{}</KeyCount>", page.len());
    let text = format!("<ListBucketResult>{count}{next}{how}{contents}</ListBucketResult>");
    ([("content-type", "application/xml")], text).into_response()
}

pub(crate) fn etag(bytes: &[u8]) -> String {
    format!("\"{}-1\"", Digest::of(bytes).short())
}

async fn get(bucket: &Bucket, key: &str, bytes: &[u8], headers: &HeaderMap) -> Response {
    let nth = bucket.gets.fetch_add(1, Ordering::SeqCst);
    bucket.open.acquire().await.unwrap().forget();
    let chosen = bucket.chance.lock().unwrap().as_mut().and_then(Chance::next);
    let fault = bucket.faults.lock().unwrap().get(&nth).copied().or(chosen);
    if let Some(Fault::Pause(pause)) = fault {
        tokio::time::sleep(pause).await;
    }
    let bytes = &match fault {
        Some(Fault::Swapped) => {
            bucket.swap(key);
            bucket.objects.lock().unwrap()[key].clone()
        }
        _ => bytes.to_vec(),
    };
    let is_same = headers.get(header::IF_MATCH).is_some_and(|want| want == etag(bytes).as_str());
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
        None => *response.headers_mut() = bucket.facts(bytes, None),
        Some(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
            response.headers_mut().insert(header::CONTENT_RANGE, text.parse().unwrap());
            if !bucket.tells_no_etag {
                response.headers_mut().insert(header::ETAG, etag(bytes).parse().unwrap());
            }
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
    // A rule that is broken on purpose is broken in the program, too.
    command.envs(std::env::var_os("LARDER_MUTATION").map(|which| ("LARDER_MUTATION", which)));
    command
}

/// `copy` of a prefix in the bucket `models`.
pub(crate) fn copy(url: &str, prefix: &str, dir: &Path) -> Command {
    let mut command = binary();
    command.arg("copy").arg(format!("s3://models/{prefix}")).arg(dir);
    command.args(["--endpoint-url", url, "--json", "--part-mib", "1", "--parts", "4"]);
    command
}
