//! Metrics: counted here, given out as Prometheus text at `GET /metrics`, and as [`emf`] lines in Lambda.
//!
//! Labels are routes of the router, words of enums and names of the manifest's models, so there are never
//! more of them than those.

pub mod emf;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use larder_contract::Task;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use emf::Change;

/// From a millisecond to half a minute: a request, or a load.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// The metrics of one process. Cheap to clone: every clone counts into the same numbers.
#[derive(Debug, Clone)]
pub struct Telemetry {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<ModelLabels, Histogram>,
    in_flight: Gauge,
    loads: Family<LoadLabels, Counter>,
    load_seconds: Family<ModelLabels, Histogram>,
    evictions: Family<ModelLabels, Counter>,
    resident: Family<ModelLabels, Gauge>,
    budget: Gauge,
    states: Family<StateLabels, Gauge>,
    lines: Option<Lines>,
}

/// Lines for CloudWatch are written.
#[derive(Debug, Clone)]
struct Lines {
    /// The function's published version.
    version: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    task: TaskLabel,
    status: StatusClass,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    model: String,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    #[expect(non_camel_case_types, reason = "the label's value")]
    loaded,
    #[expect(non_camel_case_types, reason = "the label's value")]
    failed,
}

/// What the model that a request was for does, if it was for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TaskLabel(Option<Task>);

impl EncodeLabelValue for TaskLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.map_or("none", Task::as_str).encode(encoder)
    }
}

/// The class of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum StatusClass {
    Informed,
    Succeeded,
    Redirected,
    Refused,
    Failed,
}

impl StatusClass {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informed,
            200..300 => Self::Succeeded,
            300..400 => Self::Redirected,
            400..500 => Self::Refused,
            500.. => Self::Failed,
        }
    }
}

impl EncodeLabelValue for StatusClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let word = match self {
            Self::Informed => "1xx",
            Self::Succeeded => "2xx",
            Self::Redirected => "3xx",
            Self::Refused => "4xx",
            Self::Failed => "5xx",
        };
        word.encode(encoder)
    }
}

/// A request that has been answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The route's pattern, never the path.
    pub route: &'a str,
    /// The model that it was for.
    pub model: Option<(&'a str, Task)>,
    /// How it was answered.
    pub status: StatusCode,
    /// From its first byte to its answer.
    pub time: Duration,
}

impl Default for Telemetry {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let requests = Family::default();
        let request_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        let in_flight = Gauge::default();
        let loads = Family::default();
        let load_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        let evictions = Family::default();
        let resident = Family::default();
        let budget = Gauge::default();
        let states = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        registry.register(
            "request_seconds",
            "Time of a request for a model, with its body",
            request_seconds.clone(),
        );
        registry.register("requests_in_flight", "Requests under way", in_flight.clone());
        registry.register("model_loads", "Loads of a model", loads.clone());
        registry.register("model_load_seconds", "Time of a load that succeeded", load_seconds.clone());
        registry.register("model_evictions", "Models unloaded to make room", evictions.clone());
        registry.register("model_resident_bytes", "Memory that a loaded model takes", resident.clone());
        registry.register("memory_budget_bytes", "Memory that all loaded models may take", budget.clone());
        registry.register("models", "Models by where they are", states.clone());
        Self {
            registry: Arc::new(registry),
            requests,
            request_seconds,
            in_flight,
            loads,
            load_seconds,
            evictions,
            resident,
            budget,
            states,
            lines: None,
        }
    }
}

impl Telemetry {
    /// Writes lines for CloudWatch, too, which name this published version of the function.
    #[must_use]
    pub fn with_lines(self, version: Option<&str>) -> Self {
        Self { lines: Some(Lines { version: version.map(Arc::from) }), ..self }
    }

    fn line(&self, line: impl FnOnce(Option<&str>) -> serde_json::Result<String>) {
        let Some(lines) = &self.lines else { return };
        match line(lines.version.as_deref()) {
            Ok(line) => emf::write(&line),
            Err(error) => tracing::warn!(%error, "the metrics' line cannot be written"),
        }
    }

    /// Counts a request as under way until the guard is dropped, whichever way it ends.
    #[must_use]
    pub fn under_way(&self) -> UnderWay {
        self.in_flight.inc();
        UnderWay(self.in_flight.clone())
    }

    /// A request has been answered.
    pub fn answered(&self, answered: &Answered<'_>, properties: &emf::Properties<'_>) {
        let labels = RequestLabels {
            route: answered.route.to_owned(),
            task: TaskLabel(answered.model.map(|(_, task)| task)),
            status: StatusClass::of(answered.status),
        };
        self.requests.get_or_create(&labels).inc();
        if let Some((model, _)) = answered.model {
            self.request_seconds.get_or_create(&of(model)).observe(answered.time.as_secs_f64());
        }
        self.line(|version| emf::of_request(answered, properties, version, SystemTime::now()));
    }

    /// A model of the manifest has been loaded; `request`: the id of the request that began it.
    pub fn loaded(&self, model: &str, time: Duration, request: Option<&str>) {
        let labels = LoadLabels { model: model.to_owned(), outcome: Outcome::loaded };
        self.loads.get_or_create(&labels).inc();
        self.load_seconds.get_or_create(&of(model)).observe(time.as_secs_f64());
        self.changed(model, Change::Loaded(time), request);
    }

    fn changed(&self, model: &str, change: Change, request: Option<&str>) {
        self.line(|version| emf::of_model(model, change, request, version, SystemTime::now()));
    }

    /// A model of the manifest could not be loaded; `request`: the id that the log has the reason under.
    pub fn load_failed(&self, model: &str, request: &str) {
        let labels = LoadLabels { model: model.to_owned(), outcome: Outcome::failed };
        self.loads.get_or_create(&labels).inc();
        self.changed(model, Change::LoadFailed, Some(request));
    }

    /// A model of the manifest was unloaded to make room; `request`: the id of the request that had need of it.
    pub fn evicted(&self, model: &str, request: Option<&str>) {
        self.evictions.get_or_create(&of(model)).inc();
        self.changed(model, Change::Evicted, request);
    }

    /// The memory that a model of the manifest takes now; 0 when it is not loaded.
    pub fn resident(&self, model: &str, bytes: u64) {
        self.resident.get_or_create(&of(model)).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The memory that all loaded models may take.
    pub fn budget(&self, bytes: u64) {
        self.budget.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// How many models are in each state.
    pub fn states(&self, states: &[(&'static str, i64)]) {
        for (state, count) in states {
            self.states.get_or_create(&StateLabels { state }).set(*count);
        }
    }

    /// All of it in the text format that Prometheus reads (`OpenMetrics` 1.0).
    ///
    /// # Errors
    /// Those of the formatter.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn of(model: &str) -> ModelLabels {
    ModelLabels { model: model.to_owned() }
}

/// A request is under way.
#[derive(Debug)]
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_told_is_what_is_counted() {
        let telemetry = Telemetry::default();
        let second = Duration::from_secs(1);
        let answer = |model, status| {
            let route = "/models/{model}";
            let properties = emf::Properties { request: "r", trace: "t", stages: &BTreeMap::new() };
            telemetry.answered(&Answered { route, model, status, time: second }, &properties);
        };
        answer(Some(("a", Task::FeatureExtraction)), StatusCode::OK);
        answer(Some(("a", Task::FeatureExtraction)), StatusCode::CREATED);
        answer(None, StatusCode::NOT_FOUND);
        telemetry.loaded("a", second, None);
        telemetry.load_failed("b", "r");
        telemetry.evicted("b", None);
        telemetry.resident("a", 5);
        telemetry.budget(7);
        telemetry.states(&[("ready", 1), ("failed", 2)]);
        telemetry.states(&[("ready", 3), ("failed", 0)]);
        let guard = telemetry.under_way();
        let check = |lines: &[&str]| {
            let text = telemetry.text().unwrap();
            for line in lines {
                assert!(text.lines().any(|l| l == *line), "no {line:?} in\n{text}");
            }
        };
        check(&[
            r#"larder_requests_total{route="/models/{model}",task="feature-extraction",status="2xx"} 2"#,
            r#"larder_requests_total{route="/models/{model}",task="none",status="4xx"} 1"#,
            r#"larder_request_seconds_count{model="a"} 2"#,
            r#"larder_request_seconds_bucket{le="1.024",model="a"} 2"#,
            r#"larder_request_seconds_bucket{le="0.512",model="a"} 0"#,
            r#"larder_model_loads_total{model="a",outcome="loaded"} 1"#,
            r#"larder_model_loads_total{model="b",outcome="failed"} 1"#,
            r#"larder_model_evictions_total{model="b"} 1"#,
            r#"larder_model_resident_bytes{model="a"} 5"#,
            "larder_memory_budget_bytes 7",
            r#"larder_models{state="ready"} 3"#,
            r#"larder_models{state="failed"} 0"#,
            "larder_requests_in_flight 1",
        ]);
        drop(guard);
        check(&["larder_requests_in_flight 0"]);
    }
}
