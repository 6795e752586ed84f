//! The memory that a copy takes does not grow with what is copied, and stays below what its settings may take.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use larder_model_sync::transfer::Settings;

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// So many objects of this length, all zeros, of which nothing is kept in memory.
#[derive(Debug, Clone, Copy)]
struct Zeros {
    objects: usize,
    length: u64,
}

impl Zeros {
    fn list(self, query: &str) -> Response {
        let after = query.split('&').find_map(|pair| pair.strip_prefix("continuation-token="));
        let from: usize = after.map_or(0, |token| token.parse().unwrap());
        let to = (from + 1_000).min(self.objects);
        let mut text = "<ListBucketResult>".to_owned();
        for nth in from..to {
            // No two are the same object.
            let (key, length) = (format!("m/some/folder/{nth:08}.bin"), self.length);
            write!(
                text,
                "<Contents><Key>{key}</Key><Size>{length}</Size><ETag>\"object-{nth}\"</ETag></Contents>"
            )
            .unwrap();
        }
        let more = to < self.objects;
        let token = "NextContinuationToken";
        write!(text, "<IsTruncated>{more}</IsTruncated><{token}>{to}</{token}></ListBucketResult>").unwrap();
        ([("content-type", "application/xml")], text).into_response()
    }

    fn get(self, request: &Request) -> Response {
        let range = request.headers().get(header::RANGE).map(|range| {
            let (from, to) = range.to_str().unwrap().trim_start_matches("bytes=").split_once('-').unwrap();
            (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap())
        });
        let (from, to) = range.unwrap_or((0, self.length - 1));
        let left = to + 1 - from;
        let chunks = (0..left.div_ceil(ZEROS.len() as u64)).map(move |nth| {
            let length = (left - nth * ZEROS.len() as u64).min(ZEROS.len() as u64);
            Ok::<_, std::io::Error>(Bytes::from_static(&ZEROS[..usize::try_from(length).unwrap()]))
        });
        let body = Body::from_stream(futures::stream::iter(chunks));
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_LENGTH, left.into());
        if range.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {from}-{to}/{}", self.length);
            response.headers_mut().insert(header::CONTENT_RANGE, text.parse().unwrap());
        }
        response
    }
}

async fn answer(State(zeros): State<Zeros>, request: Request) -> Response {
    if request.uri().path().trim_matches('/') == "models" {
        return zeros.list(request.uri().query().unwrap_or(""));
    }
    if request.method() == axum::http::Method::HEAD {
        return [(header::CONTENT_LENGTH, zeros.length.to_string())].into_response();
    }
    zeros.get(&request)
}

/// Copies all of it; the most memory that the process had, in KiB.
async fn copied(zeros: Zeros, settings: &[&str]) -> u64 {
    let url = support::serve(Router::new().fallback(answer).with_state(zeros)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = support::binary();
    command.args(["copy", "s3://models/m/"]).arg(dir.path()).args(["--endpoint-url", &url, "--json"]);
    let mut command = tokio::process::Command::from(command);
    command.args(settings).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = Arc::clone(&most);
    let look = tokio::spawn(async move {
        // The kernel keeps the maximum: the last look has it, but for the last instants.
        while let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            if let Some(kib) = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()) {
                seen.store(kib, std::sync::atomic::Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let output = child.wait_with_output().await.unwrap();
    look.abort();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["bytes"], zeros.objects as u64 * zeros.length);
    let most = most.load(std::sync::atomic::Ordering::SeqCst);
    eprintln!("{zeros:?} {settings:?}: {} MiB", most >> 10);
    assert!(most > 0, "its memory was looked at");
    most
}

const MIB: u64 = 1 << 20;

fn may_take(parts_in_flight: usize) -> u64 {
    Settings { parts_in_flight, ..Settings::default() }.memory() >> 10
}

/// One file of twice the memory that the copy may take; longer parts take no more.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_long_file() {
    let zeros = Zeros { objects: 1, length: 512 * MIB };
    for settings in [&[][..], &["--part-mib", "64"]] {
        let most = copied(zeros, settings).await;
        assert!(most < may_take(16).min(256 << 10), "{} MiB", most >> 10);
    }
}

/// As many names as a model of many files has. They are empty, or asking for them would take longer than all else.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_files() {
    let most = copied(Zeros { objects: 20_000, length: 0 }, &[]).await;
    assert!(most < may_take(16).min(256 << 10), "{} MiB", most >> 10);
}

/// Files that are just short enough to be fetched four at once for each part: what takes the most.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_longest_of_small_files() {
    for (parts, settings) in [(16, &[][..]), (32, &["--parts", "32"])] {
        let most = copied(Zeros { objects: 400, length: MIB }, settings).await;
        assert!(most < may_take(parts).min(256 << 10), "--parts {parts}: {} MiB", most >> 10);
    }
}
