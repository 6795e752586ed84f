//! S3's events wake endpoints: one long poll for each queue, and who is meant by an event.
//!
//! A message is only a wake-up. What is true is what the pass then lists, so a message may come twice, late or
//! never; a controller that starts looks at every endpoint anyway.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_contract::ModelSource;
use larder_core::Endpoint;
use larder_core::endpoint::Place;
use larder_core::retry::delay;
use serde::Deserialize;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::cloud::aws::{AwsCloud, Message};

/// The shortest time between two passes that events ask for: an upload of many files is one change.
pub const GAP: Duration = Duration::from_secs(5);

/// Who waits for events, the polls that bring them, and whom they have woken.
#[derive(Debug, Default)]
pub struct Wakes {
    state: Mutex<State>,
    bell: Sender<()>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    listeners: HashMap<String, Listener>,
    polls: HashMap<Line, CancellationToken>,
    woken: HashSet<String>,
}

/// A queue, and as whom it is read.
type Line = (Place, String);

/// An endpoint that waits for events.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listener {
    line: Line,
    /// Buckets and key prefixes.
    sources: Vec<(String, String)>,
}

impl Wakes {
    /// Has the endpoint with this UID woken by the events in `queue`, the URL; by none when there is no queue.
    pub fn listen(self: &Arc<Self>, uid: &str, endpoint: &Endpoint, cloud: &AwsCloud, queue: Option<&str>) {
        let sources = sources(endpoint);
        let Some(queue) = queue.filter(|_| !sources.is_empty()) else { return self.forget(uid) };
        let line = (endpoint.place.clone(), queue.to_owned());
        let mut state = self.lock();
        state.listeners.insert(uid.to_owned(), Listener { line: line.clone(), sources });
        state.polls.entry(line).or_insert_with_key(|(_, queue)| {
            let stop = self.stop.child_token();
            tokio::spawn(poll(Arc::clone(self), cloud.clone(), queue.clone(), stop.clone()));
            stop
        });
        state.end_idle_polls();
    }

    /// Forgets an endpoint.
    pub fn forget(&self, uid: &str) {
        let mut state = self.lock();
        state.listeners.remove(uid);
        state.woken.remove(uid);
        state.end_idle_polls();
    }

    /// Whether an event has woken the endpoint.
    #[must_use]
    pub fn is_woken(&self, uid: &str) -> bool {
        self.lock().woken.contains(uid)
    }

    /// The endpoint is being looked at: what wakes it from now on is news.
    pub fn answered(&self, uid: &str) {
        self.lock().woken.remove(uid);
    }

    /// Has everyone looked up: something has changed that may concern anyone.
    pub fn ring(&self) {
        self.bell.send_replace(());
    }

    /// Changes after an endpoint was woken.
    #[must_use]
    pub fn bell(&self) -> Receiver<()> {
        self.bell.subscribe()
    }

    /// Whether events would wake the endpoint.
    #[must_use]
    pub fn is_listening(&self, uid: &str) -> bool {
        self.lock().listeners.contains_key(uid)
    }

    /// Ends every poll.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Wakes whom a message is about; answers how many.
    fn wake(&self, message: &str) -> usize {
        let Ok(event) = serde_json::from_str::<Event>(message) else {
            tracing::debug!("a message in the queue is no event of S3");
            return 0;
        };
        let Event { detail: Detail { bucket, object } } = event;
        let mut state = self.lock();
        let meant: Vec<String> = state
            .listeners
            .iter()
            .filter(|(_, listener)| {
                let is_meant = |(of, prefix): &(String, String)| {
                    *of == bucket.name && object.key.starts_with(prefix.as_str())
                };
                listener.sources.iter().any(is_meant)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        let count = meant.len();
        state.woken.extend(meant);
        drop(state);
        if count > 0 {
            self.bell.send_replace(());
        }
        count
    }

    /// What a panicking holder left is still sound: every change under this lock is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_idle_polls(&mut self) {
        let Self { listeners, polls, .. } = self;
        polls.retain(|line, stop| {
            let is_needed = listeners.values().any(|listener| listener.line == *line);
            if !is_needed {
                stop.cancel();
            }
            is_needed
        });
    }
}

fn sources(endpoint: &Endpoint) -> Vec<(String, String)> {
    let wanted = endpoint.models.iter().filter(|model| model.has_events && !endpoint.deleting);
    wanted
        .filter_map(|model| match &model.source {
            ModelSource::S3(place) => Some((place.bucket.clone(), place.prefix.clone())),
            ModelSource::Oci(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => None,
        })
        .collect()
}

/// Reads a queue until it is told to stop.
async fn poll(wakes: Arc<Wakes>, cloud: AwsCloud, queue: String, stop: CancellationToken) {
    tracing::info!(queue, "events of S3 are read");
    let mut failures = 0;
    let work = async {
        loop {
            let failed = match Box::pin(cloud.receive(&queue)).await {
                Ok(messages) if messages.is_empty() => None,
                Ok(messages) => hand_out(&wakes, &cloud, &queue, &messages).await,
                Err(error) => Some(error),
            };
            let Some(error) = failed else {
                failures = 0;
                continue;
            };
            failures += 1;
            let wait = delay(error.problem.class, failures, fastrand::f64());
            tracing::warn!(queue, error = &error as &dyn std::error::Error, "events of S3 cannot be read");
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
    tracing::info!(queue, "events of S3 are read no more");
}

async fn hand_out(
    wakes: &Wakes,
    cloud: &AwsCloud,
    queue: &str,
    messages: &[Message],
) -> Option<crate::cloud::CloudError> {
    let woken: usize = messages.iter().map(|message| wakes.wake(&message.body)).sum();
    tracing::debug!(queue, messages = messages.len(), woken, "events of S3 came");
    Box::pin(cloud.take_off(queue, messages)).await.err()
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>
#[derive(Deserialize)]
struct Event {
    detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_wakes_those_whose_source_it_is_about() {
        let wakes = Wakes::default();
        let place = Place { region: "eu-west-1".to_owned(), role_arn: None, external_id: None };
        for (uid, bucket, prefix) in
            [("a", "models", "ocr/"), ("b", "models", "ocr/v2/"), ("c", "other", "ocr/")]
        {
            let sources =
                vec![("unrelated".to_owned(), "x/".to_owned()), (bucket.to_owned(), prefix.to_owned())];
            let line = (place.clone(), "queue".to_owned());
            wakes.lock().listeners.insert(uid.to_owned(), Listener { line, sources });
        }
        let event = |bucket: &str, key: &str| {
            serde_json::json!({
                "source": "aws.s3",
                "detail-type": "Object Created",
                "detail": {"bucket": {"name": bucket}, "object": {"key": key, "size": 3}, "reason": "PutObject"},
            })
            .to_string()
        };
        for (message, woken) in [
            (event("models", "ocr/det.onnx"), &["a"][..]),
            (event("models", "ocr/v2/ü +%20.onnx"), &["a", "b"]),
            (event("other", "ocr/det.onnx"), &["c"]),
            (event("models", "ocr"), &[]),
            (event("unknown", "ocr/x"), &[]),
            (r#"{"Records": []}"#.to_owned(), &[]),
            ("not JSON".to_owned(), &[]),
            (String::new(), &[]),
        ] {
            assert_eq!(wakes.wake(&message), woken.len(), "{message}");
            for uid in ["a", "b", "c"] {
                assert_eq!(wakes.is_woken(uid), woken.contains(&uid), "{uid}: {message}");
                wakes.answered(uid);
            }
        }
    }
}
