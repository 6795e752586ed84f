//! A Lambda runtime API, for the real binary as a function.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use larder_contract::source::S3Prefix;
use larder_contract::sync::{SyncEvent, SyncReport, SyncRequest, SyncSource};
use larder_contract::{Digest, Manifest, ManifestModel, ModelSource, Parameters};

/// A Lambda runtime API that has these events, and keeps the answers.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    pub(crate) events: Mutex<VecDeque<SyncEvent>>,
    pub(crate) answers: Mutex<Vec<SyncReport>>,
}

impl Runtime {
    /// Serves on a free port until the test's runtime ends; answers host and port.
    pub(crate) async fn serve(self: &Arc<Self>) -> String {
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/1/response", post(response))
            .with_state(Arc::clone(self));
        super::serve(router).await.trim_start_matches("http://").to_owned()
    }

    /// Has these events answered, within 30 s.
    pub(crate) async fn answers(&self, events: impl IntoIterator<Item = SyncEvent>) -> Vec<SyncReport> {
        self.answers.lock().unwrap().clear();
        let before = {
            let mut waiting = self.events.lock().unwrap();
            waiting.extend(events);
            waiting.len()
        };
        for _ in 0..3_000 {
            if self.answers.lock().unwrap().len() == before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let answers = self.answers.lock().unwrap().clone();
        assert_eq!(answers.len(), before, "not all are answered within 30 s: {answers:?}");
        answers
    }
}

async fn next(State(runtime): State<Arc<Runtime>>) -> (HeaderMap, String) {
    let event = loop {
        let event = runtime.events.lock().unwrap().pop_front();
        match event {
            Some(event) => break event,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let mut headers = HeaderMap::new();
    let deadline = std::time::SystemTime::now() + Duration::from_mins(1);
    let deadline = deadline.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().to_string();
    headers.insert("lambda-runtime-aws-request-id", "1".parse().unwrap());
    headers.insert("lambda-runtime-deadline-ms", deadline.parse().unwrap());
    headers.insert("lambda-runtime-invoked-function-arn", "arn:aws:lambda:x".parse().unwrap());
    (headers, serde_json::to_string(&event).unwrap())
}

async fn response(State(runtime): State<Arc<Runtime>>, body: String) -> StatusCode {
    runtime.answers.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    StatusCode::ACCEPTED
}

/// What Lambda sets in a function's environment, with the runtime API at this host and port.
pub(crate) fn environment(api: &str) -> [(&'static str, &str); 6] {
    [
        ("AWS_LAMBDA_RUNTIME_API", api),
        ("AWS_LAMBDA_FUNCTION_NAME", "sync"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "g"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "s"),
    ]
}

/// One model, from a prefix of the bucket `models`.
pub(crate) fn request(prefix: &str, revision: Digest) -> SyncRequest {
    let model = ManifestModel {
        name: "ocr".to_owned(),
        task: None,
        revision,
        copy_of: None,
        parameters: Parameters::default(),
        preload: true,
    };
    let place = S3Prefix { bucket: "models".to_owned(), prefix: prefix.to_owned() };
    let from = SyncSource { model: "ocr".to_owned(), source: ModelSource::S3(place) };
    SyncRequest { manifest: Manifest::new(vec![model]), sources: vec![from], worker: None }
}
