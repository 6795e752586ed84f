//! Files that have a URL, from servers that do what servers do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use support::{bytes, copied, copy_from, serve, sha256};

/// What a server makes of ranges and validators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Ranges, and a strong `ETag`.
    Good,
    /// No ranges.
    Plain,
    /// Ranges, and an `ETag` that is weak.
    Weak,
    /// No length.
    Chunked,
    /// As good, but another content from the third request on.
    Replaced,
    /// Sends elsewhere.
    Redirects(&'static str),
    /// Wants a bearer's token.
    Closed,
}

#[derive(Debug)]
struct Site {
    server: Server,
    content: Mutex<Vec<u8>>,
    requests: AtomicUsize,
    ranges: AtomicUsize,
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let nth = site.requests.fetch_add(1, Ordering::SeqCst);
    let headers = request.headers();
    if let Server::Redirects(to) = site.server
        && request.uri().path() != "/moved/model.onnx"
    {
        let port = headers[header::HOST].to_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
        let to = to.replace("PORT", &port);
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    if site.server == Server::Closed
        && headers.get(header::AUTHORIZATION).is_none_or(|it| it != "Bearer t0ken")
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if site.server == Server::Replaced && nth == 2 {
        site.content.lock().unwrap()[0] ^= 1;
    }
    let content = site.content.lock().unwrap().clone();
    let etag = format!("\"{}\"", sha256(&content));
    if headers.get(header::IF_MATCH).is_some_and(|want| want != etag.as_str()) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    if site.server == Server::Chunked {
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(content)]);
        return Body::from_stream(stream).into_response();
    }
    let etag = if site.server == Server::Weak { format!("W/{etag}") } else { etag };
    let etag = HeaderValue::from_str(&etag).unwrap();
    let range = headers.get(header::RANGE).filter(|_| site.server != Server::Plain);
    let Some(range) = range.map(|range| range.to_str().unwrap().to_owned()) else {
        return ([(header::ETAG, etag)], content).into_response();
    };
    site.ranges.fetch_add(1, Ordering::SeqCst);
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    let said = HeaderValue::from_str(&format!("bytes {from}-{to}/{}", content.len())).unwrap();
    let headers = [(header::CONTENT_RANGE, said), (header::ETAG, etag)];
    (StatusCode::PARTIAL_CONTENT, headers, content[from..=to].to_vec()).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_whole_and_verified_or_not_at_all() {
    let content = bytes((5 << 20) + 7, 1);
    let right = sha256(&content);
    let other = sha256(b"another");
    // The probe twice: to list, and before parts are planned.
    for (server, digest, token, want) in [
        (Server::Good, &right, "", Ok(2 + 6)),
        (Server::Plain, &right, "", Ok(0)),
        (Server::Weak, &right, "", Ok(2)),
        (Server::Good, &other, "", Err(&["the content is wrong", "SHA-256"][..])),
        (Server::Plain, &other, "", Err(&["the content is wrong"][..])),
        (Server::Chunked, &right, "", Err(&["does not tell its length"][..])),
        (Server::Replaced, &right, "", Err(&["it was replaced meanwhile"][..])),
        (Server::Redirects("/moved/model.onnx"), &right, "", Ok(2 + 6)),
        (Server::Redirects("/again"), &right, "", Err(&["redirects more than 5 times"][..])),
        (
            Server::Redirects("http://localhost:PORT/moved/model.onnx"),
            &right,
            "",
            Err(&["not on the public Internet"][..]),
        ),
        (
            Server::Redirects("http://10.0.0.1/model.onnx"),
            &right,
            "",
            Err(&["is to be asked without TLS"][..]),
        ),
        (
            Server::Redirects("https://169.254.169.254/model.onnx"),
            &right,
            "",
            Err(&["not on the public Internet"][..]),
        ),
        (Server::Redirects("file:///etc/passwd"), &right, "", Err(&["only http and https"][..])),
        (Server::Closed, &right, "", Err(&["401 Unauthorized", "name a secret"][..])),
        (Server::Closed, &right, r#"{"token":"t0ken"}"#, Ok(2 + 6)),
    ] {
        let site = Arc::new(Site {
            server,
            content: Mutex::new(content.clone()),
            requests: AtomicUsize::new(0),
            ranges: AtomicUsize::new(0),
        });
        let url = serve(Router::new().fallback(answer).with_state(Arc::clone(&site))).await;
        let dir = tempfile::tempdir().unwrap();
        let mut command =
            copy_from(&format!("{url}/model.onnx?signature=s3cret#sha256={digest}"), dir.path());
        if !token.is_empty() {
            command.env("LARDER_CREDENTIALS", token);
        }
        let result = copied(command, &[("model.onnx", &content)]).await;
        match want {
            Ok(ranges) => {
                result.unwrap();
                assert_eq!(site.ranges.load(Ordering::SeqCst), ranges, "{server:?}");
            }
            Err(parts) => {
                let said = result.unwrap_err();
                for part in parts {
                    assert!(said.contains(part), "{server:?}: no {part:?} in {said}");
                }
                assert!(!said.contains("s3cret"), "{said}");
                assert!(!dir.path().join("revisions").exists(), "{server:?}");
            }
        }
    }
}

/// The digest is what a file is: the same content elsewhere is the same revision.
#[tokio::test(flavor = "multi_thread")]
async fn a_revision_is_the_content_and_not_the_server() {
    let content = bytes(100_000, 2);
    let dir = tempfile::tempdir().unwrap();
    let mut revisions = Vec::new();
    for server in [Server::Good, Server::Plain] {
        let site = Site {
            server,
            content: Mutex::new(content.clone()),
            requests: AtomicUsize::new(0),
            ranges: AtomicUsize::new(0),
        };
        let url = serve(Router::new().fallback(answer).with_state(Arc::new(site))).await;
        let address = format!("{url}/x#sha256={}&path=onnx/model.onnx", sha256(&content));
        let summary =
            copied(copy_from(&address, dir.path()), &[("onnx/model.onnx", &content)]).await.unwrap();
        revisions.push((summary["revision"].clone(), summary["alreadyPresent"].clone()));
    }
    assert_eq!(revisions[0].0, revisions[1].0);
    assert_eq!((&revisions[0].1, &revisions[1].1), (&false.into(), &true.into()));
}
