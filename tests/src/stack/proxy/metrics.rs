//! CloudWatch's metrics of Lambda, out of the invocations that passed the proxy: the emulator measures none.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ciborium::Value;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::stack::http::{self, Body, BoxError};
use crate::stack::locked;

/// Bytes of burst credits that a new file system has: 2.1 TiB.
pub(super) const BURST_CREDITS: f64 = 2_308_974_418_329.0;

/// One invocation through an alias.
#[derive(Debug, Clone, Copy)]
struct Invocation {
    at: Duration,
    took: Duration,
    is_error: bool,
    /// By function URL: the answer's status.
    status: Option<u16>,
}

/// Invocations by function, alias and version.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<BTreeMap<(String, String, String), Vec<Invocation>>>);

impl Metrics {
    /// An invocation has ended.
    pub(super) fn note(
        &self,
        (function, alias, version): (&str, &str, &str),
        took: Duration,
        is_error: bool,
        status: Option<u16>,
    ) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = (function.to_owned(), alias.to_owned(), version.to_owned());
        locked(&self.0).entry(key).or_default().push(Invocation { at, took, is_error, status });
    }

    /// `GetMetricData`, in CBOR. Other calls are answered with nothing found.
    pub(super) fn perform(&self, operation: &str, body: &Bytes) -> Result<Response<Body>, BoxError> {
        let request: Value = ciborium::from_reader(body.as_ref())?;
        let mut results = Vec::new();
        if operation == "GetMetricData" {
            let (start, end) = (seconds(field(&request, "StartTime")), seconds(field(&request, "EndTime")));
            let queries = field(&request, "MetricDataQueries").and_then(Value::as_array);
            results = queries.into_iter().flatten().map(|query| self.result(query, start, end)).collect();
        }
        let answer = Value::Map(vec![(text("MetricDataResults"), Value::Array(results))]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&answer, &mut bytes)?;
        let mut response = Response::new(http::whole(bytes));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/cbor"));
        let protocol = HeaderName::from_static("smithy-protocol");
        response.headers_mut().insert(protocol, HeaderValue::from_static("rpc-v2-cbor"));
        Ok(response)
    }

    fn result(&self, query: &Value, start: f64, end: f64) -> Value {
        let metric = field(query, "MetricStat").and_then(|stat| field(stat, "Metric"));
        let dimension = |name: &str| {
            let all = metric.and_then(|metric| field(metric, "Dimensions")).and_then(Value::as_array);
            let named = all.into_iter().flatten().find(|it| word(field(it, "Name")) == name);
            named.map(|it| word(field(it, "Value"))).unwrap_or_default()
        };
        let (function, version) = (dimension("FunctionName"), dimension("ExecutedVersion"));
        let alias = dimension("Resource").split(':').nth(1).unwrap_or_default().to_owned();
        let all = locked(&self.0);
        let within: Vec<Invocation> = all
            .get(&(function, alias, version))
            .into_iter()
            .flatten()
            .filter(|it| (start..end).contains(&it.at.as_secs_f64()))
            .copied()
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let value = match word(metric.and_then(|metric| field(metric, "MetricName"))).as_str() {
            "Invocations" => Some(within.len() as f64),
            "Errors" => Some(within.iter().filter(|it| it.is_error).count() as f64),
            "Url5xxCount" => {
                Some(within.iter().filter(|it| it.status.is_some_and(|status| status >= 500)).count() as f64)
            }
            "Duration" => p99(&within),
            _ => None,
        };
        // Lambda sends nothing where nothing was invoked.
        let value = value.filter(|_| !within.is_empty());
        let value = value.or_else(|| (!dimension("FileSystemId").is_empty()).then_some(BURST_CREDITS));
        let values = value.map(Value::Float).into_iter().collect();
        Value::Map(vec![
            (text("Id"), text(&word(field(query, "Id")))),
            (text("StatusCode"), text("Complete")),
            (text("Values"), Value::Array(values)),
        ])
    }
}

/// The 99th percentile of durations, milliseconds.
fn p99(all: &[Invocation]) -> Option<f64> {
    let mut took: Vec<Duration> = all.iter().map(|it| it.took).collect();
    took.sort_unstable();
    let last = took.len().checked_sub(1)?;
    took.get((took.len() * 99 / 100).min(last)).map(|it| it.as_secs_f64() * 1000.0)
}

fn text(of: &str) -> Value {
    Value::Text(of.to_owned())
}

fn word(value: Option<&Value>) -> String {
    value.and_then(Value::as_text).unwrap_or_default().to_owned()
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

/// A time in seconds since 1970: a number with a tag, or without.
fn seconds(value: Option<&Value>) -> f64 {
    match value {
        Some(Value::Tag(_, inner)) => seconds(Some(inner)),
        Some(Value::Float(number)) => *number,
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        Some(Value::Integer(number)) => i64::try_from(*number).unwrap_or_default() as f64,
        Some(_) | None => 0.0,
    }
}
