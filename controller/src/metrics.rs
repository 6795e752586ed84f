//! What the controller counts, for Prometheus. Label values come from enums, from the SDKs' own names of services and
//! operations and from the closed set of reasons: their number has a bound, whatever the cluster holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use larder_core::Class;
use larder_crds::InferenceEndpointStatus;
use larder_crds::status::ModelStatus;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The calls of AWS that the process has made. Every account and endpoint shares them, and they are counted where
/// the answers are read, far from all else; so there is one of it.
static CALLS: LazyLock<Family<CallLabels, Counter>> = LazyLock::new(Family::default);

/// What became of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The endpoint is ready.
    Ready,
    /// It is on its way.
    Progressing,
    /// Somebody has to mend something.
    Stalled,
    /// Nothing of a deleted endpoint is left.
    Deleted,
    /// AWS could not be reached as the endpoint's role.
    Unreachable,
    /// It took too long and was given up.
    GivenUp,
}

impl Outcome {
    /// Of a pass that came to its end with this status.
    #[must_use]
    pub fn of(status: &InferenceEndpointStatus) -> Self {
        let is_true = |type_: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
        match (is_true("Ready"), is_true("Stalled")) {
            (true, _) => Self::Ready,
            (false, true) => Self::Stalled,
            (false, false) => Self::Progressing,
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let word = match self {
            Self::Ready => "ready",
            Self::Progressing => "progressing",
            Self::Stalled => "stalled",
            Self::Deleted => "deleted",
            Self::Unreachable => "unreachable",
            Self::GivenUp => "given_up",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabels {
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    service: &'static str,
    operation: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    ready: String,
    reason: String,
}

/// Counts a call that was answered, or failed with a class. `error` is the type name of the SDK's error, which
/// begins with the crate of the service.
pub(crate) fn called(error: &'static str, operation: &'static str, class: Option<Class>) {
    let service = error.strip_prefix("aws_sdk_").and_then(|rest| rest.split("::").next()).unwrap_or("other");
    let class = match class {
        None => "OK",
        Some(Class::NotFound) => "NotFound",
        Some(Class::Conflict) => "Conflict",
        Some(Class::Throttled) => "Throttled",
        Some(Class::Transient) => "Transient",
        Some(Class::Denied) => "Denied",
        Some(Class::Invalid) => "Invalid",
        Some(Class::Quota) => "Quota",
        Some(Class::Cooldown) => "Cooldown",
    };
    CALLS.get_or_create(&CallLabels { service, operation, class }).inc();
}

/// What a scrape says of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    labels: EndpointLabels,
    is_shifting: bool,
    is_damaged: bool,
}

/// The controller's own counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Family<PassLabels, Counter>,
    pass_seconds: Histogram,
    bytes_copied: Counter,
    copies_failed: Counter,
    bytes_collected: Counter,
    endpoints: Family<EndpointLabels, Gauge>,
    shifting: Gauge,
    damaged: Gauge,
    seen: Mutex<HashMap<String, Seen>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let passes = Family::default();
        registry.register("passes", "Looks at an endpoint, with the steps taken, by outcome", passes.clone());
        // From 50 ms to 3.4 minutes; a pass is given up after 5.
        let pass_seconds = Histogram::new(exponential_buckets(0.05, 2.0, 13));
        registry.register_with_unit("pass", "How long a pass takes", Unit::Seconds, pass_seconds.clone());
        let calls =
            "Calls of AWS, by service, operation and what became of them; class Throttled is AWS's own word";
        registry.register("aws_calls", calls, CALLS.clone());
        let bytes_copied = Counter::default();
        registry.register("copied_bytes", "Bytes of models that were seen to arrive", bytes_copied.clone());
        let copies_failed = Counter::default();
        let words = "Copies of models that were seen to have failed";
        registry.register("failed_copies", words, copies_failed.clone());
        let bytes_collected = Counter::default();
        let words = "Bytes that were seen to be freed on file systems, of revisions that nothing names";
        registry.register("collected_bytes", words, bytes_collected.clone());
        let endpoints = Family::default();
        registry.register("endpoints", "Endpoints by the status and reason of Ready", endpoints.clone());
        let shifting = Gauge::default();
        let words = "Endpoints two versions of which take requests";
        registry.register("endpoints_shifting", words, shifting.clone());
        let damaged = Gauge::default();
        let words = "Endpoints that need a revision whose bytes are no longer what was copied";
        registry.register("endpoints_damaged", words, damaged.clone());
        Self {
            registry,
            passes,
            pass_seconds,
            bytes_copied,
            copies_failed,
            bytes_collected,
            endpoints,
            shifting,
            damaged,
            seen: Mutex::default(),
        }
    }
}

impl Metrics {
    /// A pass has ended.
    pub fn passed(&self, outcome: Outcome, time: Duration) {
        self.passes.get_or_create(&PassLabels { outcome }).inc();
        self.pass_seconds.observe(time.as_secs_f64());
    }

    /// The endpoint with this UID is as `after` says, and was as `before` says.
    pub fn saw(&self, uid: &str, before: &InferenceEndpointStatus, after: &InferenceEndpointStatus) {
        self.bytes_copied.inc_by(after.models.iter().map(|model| arrived(&before.models, model)).sum());
        self.copies_failed.inc_by(failed(before, after));
        self.bytes_collected.inc_by(freed(before, after));
        let ready = condition(after, "Ready");
        let labels = EndpointLabels {
            ready: ready.map_or_else(|| "Unknown".to_owned(), |c| c.status.clone()),
            reason: ready.map_or_else(String::new, |c| c.reason.clone()),
        };
        let maintained = condition(after, "StorageMaintained");
        let seen = Seen {
            labels,
            is_shifting: after.traffic.len() > 1,
            is_damaged: maintained.is_some_and(|c| c.status == "False" && c.reason == "Damaged"),
        };
        self.lock().insert(uid.to_owned(), seen);
    }

    /// The endpoint with this UID is no more.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// All of it in the text format that Prometheus reads (`OpenMetrics` 1.0).
    ///
    /// # Errors
    /// Those of the formatter.
    pub fn text(&self) -> Result<String, fmt::Error> {
        // Two scrapes at once must not count twice.
        let seen = self.lock();
        self.endpoints.clear();
        for one in seen.values() {
            self.endpoints.get_or_create(&one.labels).inc();
        }
        let count =
            |is: fn(&&Seen) -> bool| i64::try_from(seen.values().filter(is).count()).unwrap_or(i64::MAX);
        self.shifting.set(count(|one| one.is_shifting));
        self.damaged.set(count(|one| one.is_damaged));
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// What a panicking holder left is still sound: every change under this lock is one call.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a model that have come since. What was there when its content was first wanted was not copied now.
fn arrived(before: &[ModelStatus], model: &ModelStatus) -> u64 {
    let was = before.iter().find(|it| it.name == model.name && it.desired_digest == model.desired_digest);
    was.map_or(0, |was| u64::try_from(model.bytes_done.saturating_sub(was.bytes_done)).unwrap_or(0))
}

fn condition<'a>(status: &'a InferenceEndpointStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == type_)
}

/// How many models' copies have failed since. One that fails again and again, without a look at it in between, has
/// failed once.
fn failed(before: &InferenceEndpointStatus, after: &InferenceEndpointStatus) -> u64 {
    let is_copy = condition(after, "ModelsSynced").is_some_and(|c| c.reason == "SyncFailed");
    let had_failed = |name: &str| before.models.iter().any(|it| it.name == name && it.state == "Failed");
    let new = after.models.iter().filter(|model| model.state == "Failed" && !had_failed(&model.name));
    if is_copy { new.count() as u64 } else { 0 }
}

/// The bytes that collections have freed since. What was freed before this was first looked at is not counted.
fn freed(before: &InferenceEndpointStatus, after: &InferenceEndpointStatus) -> u64 {
    let of = |status: &InferenceEndpointStatus| status.storage.as_ref()?.freed_bytes;
    let since = of(before).zip(of(after)).map_or(0, |(was, is)| is.saturating_sub(was));
    u64::try_from(since).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use larder_crds::status::{StorageStatus, TrafficStatus};

    use super::*;

    fn status(
        ready: &str,
        reason: &str,
        digest: &str,
        bytes_done: i64,
        versions: i32,
    ) -> InferenceEndpointStatus {
        let condition = |type_: &str, status: &str| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        let share = |n: i32| TrafficStatus { version: n.to_string(), percent: 100 / versions };
        InferenceEndpointStatus {
            conditions: vec![condition("Ready", ready), condition("Stalled", "True")],
            models: vec![ModelStatus {
                name: "ocr".to_owned(),
                desired_digest: Some(digest.to_owned()),
                bytes_done,
                ..ModelStatus::default()
            }],
            traffic: (0..versions).map(share).collect(),
            ..InferenceEndpointStatus::default()
        }
    }

    #[test]
    fn what_is_told_is_what_is_counted() {
        let metrics = Metrics::default();
        let none = InferenceEndpointStatus::default();
        let steps = [
            ("a", none.clone(), status("False", "Syncing", "1", 50, 1)), // was there before it was wanted
            ("a", status("False", "Syncing", "1", 50, 1), status("False", "Syncing", "1", 75, 1)),
            ("a", status("False", "Syncing", "1", 75, 1), status("False", "Syncing", "1", 0, 1)), // begun again
            ("a", status("True", "Converged", "1", 0, 1), status("True", "Converged", "2", 99, 2)),
            ("b", none.clone(), status("False", "AccessDenied", "1", 0, 1)),
            ("c", none, status("False", "AccessDenied", "1", 0, 2)),
        ];
        for (uid, before, after) in &steps {
            metrics.saw(uid, before, after);
            metrics.passed(Outcome::of(after), Duration::from_millis(300));
        }
        metrics.passed(Outcome::GivenUp, Duration::from_mins(5));
        metrics.forget("c");
        let check = |lines: &[&str]| {
            let text = metrics.text().unwrap();
            for line in lines {
                assert!(text.lines().any(|l| l == *line), "no {line:?} in\n{text}");
            }
        };
        // A scrape changes nothing.
        for _ in 0..2 {
            check(&[
                r#"larder_passes_total{outcome="ready"} 1"#,
                r#"larder_passes_total{outcome="stalled"} 5"#,
                r#"larder_passes_total{outcome="given_up"} 1"#,
                "larder_pass_seconds_count 7",
                r#"larder_pass_seconds_bucket{le="0.4"} 6"#,
                "larder_copied_bytes_total 25",
                r#"larder_endpoints{ready="True",reason="Converged"} 1"#,
                r#"larder_endpoints{ready="False",reason="AccessDenied"} 1"#,
                "larder_endpoints_shifting 1",
            ]);
        }
        assert!(!metrics.text().unwrap().contains("Syncing"), "what is past is not told");
    }

    /// An endpoint whose model is in this state, which has freed so many bytes.
    fn stored(state: &str, synced: &str, maintained: &str, freed: Option<i64>) -> InferenceEndpointStatus {
        let mut status = status("False", synced, "1", 0, 1);
        status.models[0].state = state.to_owned();
        let ready = status.conditions[0].clone();
        let of = |type_: &str, reason: &str| Condition {
            type_: type_.to_owned(),
            reason: reason.to_owned(),
            ..ready.clone()
        };
        status.conditions.extend([of("ModelsSynced", synced), of("StorageMaintained", maintained)]);
        status.storage = Some(StorageStatus { freed_bytes: freed, ..StorageStatus::default() });
        status
    }

    #[test]
    fn what_fails_is_damaged_or_freed_is_counted() {
        let metrics = Metrics::default();
        let none = InferenceEndpointStatus::default();
        let steps = [
            ("a", none.clone(), stored("Syncing", "Syncing", "WaitingForTraffic", None)),
            // Before it was looked at.
            ("a", none.clone(), stored("Syncing", "Syncing", "WaitingForTraffic", Some(1000))),
            ("a", stored("Syncing", "Syncing", "x", None), stored("Failed", "SyncFailed", "x", Some(1000))),
            ("a", stored("Failed", "SyncFailed", "x", None), stored("Failed", "SyncFailed", "x", None)),
            ("a", stored("Syncing", "Syncing", "x", None), stored("Failed", "SyncFailed", "x", None)),
            // No copy has failed where there is nothing to be copied.
            ("b", stored("Pending", "Syncing", "x", None), stored("Failed", "SourceEmpty", "x", None)),
            (
                "b",
                stored("Ready", "Converged", "x", Some(5)),
                stored("Ready", "Converged", "Damaged", Some(47)),
            ),
            // Another file system.
            (
                "a",
                stored("Ready", "Converged", "x", Some(5)),
                stored("Ready", "Converged", "Converged", Some(0)),
            ),
        ];
        for (uid, before, after) in &steps {
            metrics.saw(uid, before, after);
        }
        let text = metrics.text().unwrap();
        for line in
            ["larder_failed_copies_total 2", "larder_collected_bytes_total 42", "larder_endpoints_damaged 1"]
        {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
        metrics.saw("b", &none, &stored("Ready", "Converged", "Converged", Some(47)));
        assert!(metrics.text().unwrap().contains("larder_endpoints_damaged 0\n"));
    }

    #[test]
    fn a_call_is_counted_by_the_crate_of_its_error() {
        use aws_sdk_efs::operation::describe_file_systems::DescribeFileSystemsError;
        let error = std::any::type_name::<DescribeFileSystemsError>();
        called(error, "TestOnly", None);
        called(error, "TestOnly", Some(Class::Throttled));
        called("x::Y", "TestOnly", None);
        let text = Metrics::default().text().unwrap();
        for line in [
            r#"larder_aws_calls_total{service="efs",operation="TestOnly",class="OK"} 1"#,
            r#"larder_aws_calls_total{service="efs",operation="TestOnly",class="Throttled"} 1"#,
            r#"larder_aws_calls_total{service="other",operation="TestOnly",class="OK"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
