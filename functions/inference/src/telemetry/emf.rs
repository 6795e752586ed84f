//! CloudWatch metrics as log lines: one line of JSON for a request, and for each time that a model comes or goes, in the
//! embedded metric format.
//!
//! The rules are those of the CloudWatch Logs user guide, "Specification: Embedded metric format".

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Answered;

/// The metrics' namespace in CloudWatch.
pub const NAMESPACE: &str = "Larder/Inference";

/// A line: which of its members are metrics, and the members.
#[derive(Debug, Serialize)]
struct Line<T> {
    #[serde(rename = "_aws")]
    aws: Metadata,
    #[serde(flatten)]
    members: T,
}

/// A request's metrics, and what else is searched for in the log.
#[derive(Debug, Serialize)]
struct OfRequest<'a> {
    #[serde(rename = "Route")]
    route: &'a str,
    #[serde(rename = "Model", skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(rename = "Requests")]
    requests: u8,
    #[serde(rename = "Refused")]
    refused: u8,
    #[serde(rename = "Failed")]
    failed: u8,
    #[serde(rename = "Latency")]
    latency: f64,
    #[serde(rename = "Task", skip_serializing_if = "Option::is_none")]
    task: Option<&'static str>,
    #[serde(rename = "Status")]
    status: u16,
    #[serde(rename = "RequestId")]
    request: &'a str,
    #[serde(rename = "TraceId")]
    trace: &'a str,
    #[serde(rename = "FunctionVersion", skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    /// Milliseconds by stage.
    #[serde(rename = "Stages")]
    stages: &'a BTreeMap<&'static str, f64>,
}

/// What became of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was loaded, in this time.
    Loaded(Duration),
    /// It could not be.
    LoadFailed,
    /// It was unloaded to make room.
    Evicted,
}

/// A model's metrics. Those of what did not happen are 0, so that sums and rates need no default.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct OfModel<'a> {
    model: &'a str,
    loads: u8,
    load_failures: u8,
    evictions: u8,
    /// Milliseconds of a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_time: Option<f64>,
    /// That of the request that began it, under which the log tells the reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_version: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    timestamp: u64,
    cloud_watch_metrics: [Directive; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [&'static [&'static str]; 1],
    metrics: Vec<Metric>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

/// What a line tells besides the metrics.
#[derive(Debug, Clone, Copy)]
pub struct Properties<'a> {
    /// The request's id.
    pub request: &'a str,
    /// The trace that it is part of.
    pub trace: &'a str,
    /// Milliseconds by stage.
    pub stages: &'a BTreeMap<&'static str, f64>,
}

/// A line's text: its metrics are of these names and units, by these dimensions, each of which is a member.
fn text(
    now: SystemTime,
    dimensions: &'static [&'static str],
    metrics: &[(&'static str, &'static str)],
    members: impl Serialize,
) -> serde_json::Result<String> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let directive = Directive {
        namespace: NAMESPACE,
        dimensions: [dimensions],
        metrics: metrics.iter().map(|(name, unit)| Metric { name, unit }).collect(),
    };
    let timestamp = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    serde_json::to_string(&Line { aws: Metadata { timestamp, cloud_watch_metrics: [directive] }, members })
}

/// The line for a request, without its end.
///
/// # Errors
/// Those of the JSON writer.
pub fn of_request(
    answered: &Answered<'_>,
    properties: &Properties<'_>,
    version: Option<&str>,
    now: SystemTime,
) -> serde_json::Result<String> {
    let dimensions: &[&str] = if answered.model.is_some() { &["Model", "Route"] } else { &["Route"] };
    let metrics =
        [("Requests", "Count"), ("Refused", "Count"), ("Failed", "Count"), ("Latency", "Milliseconds")];
    let members = OfRequest {
        route: answered.route,
        model: answered.model.map(|(name, _)| name),
        requests: 1,
        refused: answered.status.is_client_error().into(),
        failed: answered.status.is_server_error().into(),
        latency: answered.time.as_secs_f64() * 1000.0,
        task: answered.model.map(|(_, task)| task.as_str()),
        status: answered.status.as_u16(),
        request: properties.request,
        trace: properties.trace,
        version,
        stages: properties.stages,
    };
    text(now, dimensions, &metrics, members)
}

/// The line for what became of a model, without its end. `request`: the id of the request that began it.
///
/// # Errors
/// Those of the JSON writer.
pub fn of_model(
    model: &str,
    change: Change,
    request: Option<&str>,
    version: Option<&str>,
    now: SystemTime,
) -> serde_json::Result<String> {
    let counts = [("Loads", "Count"), ("LoadFailures", "Count"), ("Evictions", "Count")];
    let mut metrics = counts.to_vec();
    let load_time = match change {
        Change::Loaded(time) => Some(time.as_secs_f64() * 1000.0),
        Change::LoadFailed | Change::Evicted => None,
    };
    metrics.extend(load_time.map(|_| ("LoadTime", "Milliseconds")));
    let members = OfModel {
        model,
        loads: load_time.is_some().into(),
        load_failures: (change == Change::LoadFailed).into(),
        evictions: (change == Change::Evicted).into(),
        load_time,
        request_id: request,
        function_version: version,
    };
    text(now, &["Model"], &metrics, members)
}

/// Writes a line to standard output, where Lambda's log agent looks for them.
pub fn write(line: &str) {
    // There is nobody to tell when standard output is gone.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use larder_contract::Task;
    use serde_json::Value;

    use super::*;

    const NOW: Duration = Duration::from_millis(1234);

    /// The rules of the specification that a line can break.
    fn kept(text: &str, dimensions: &[&str]) -> Value {
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["_aws"]["Timestamp"], 1234);
        let directive = &value["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], NAMESPACE);
        assert_eq!(directive["Dimensions"], serde_json::json!([dimensions]));
        for name in dimensions {
            assert!(value[name].is_string(), "dimension {name} is not a string of the root: {value}");
        }
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            assert!(value[name].is_number(), "metric {name} is not a number of the root: {value}");
            assert!(["Count", "Milliseconds"].contains(&metric["Unit"].as_str().unwrap()));
        }
        value
    }

    fn check(model: Option<(&str, Task)>, status: StatusCode, dimensions: &[&str], failed: u64) {
        let answered = Answered { route: "/ocr", model, status, time: Duration::from_micros(1500) };
        let stages = BTreeMap::from([("inference", 1.25)]);
        let properties = Properties { request: "r", trace: "t", stages: &stages };
        let text = of_request(&answered, &properties, Some("7"), SystemTime::UNIX_EPOCH + NOW).unwrap();
        let value = kept(&text, dimensions);
        assert_eq!((&value["Latency"], &value["Failed"]), (&Value::from(1.5), &Value::from(failed)));
    }

    #[test]
    fn lines_keep_the_specification() {
        check(Some(("signs", Task::Ocr)), StatusCode::OK, &["Model", "Route"], 0);
        check(None, StatusCode::NOT_FOUND, &["Route"], 0);
        check(None, StatusCode::GATEWAY_TIMEOUT, &["Route"], 1);
        for (change, counts) in [
            (Change::Loaded(Duration::from_micros(2500)), [1, 0, 0]),
            (Change::LoadFailed, [0, 1, 0]),
            (Change::Evicted, [0, 0, 1]),
        ] {
            let text = of_model("signs", change, Some("r"), Some("7"), SystemTime::UNIX_EPOCH + NOW).unwrap();
            let value = kept(&text, &["Model"]);
            let have = ["Loads", "LoadFailures", "Evictions"].map(|name| value[name].as_u64().unwrap());
            assert_eq!(have, counts, "{value}");
            let time = if counts[0] == 1 { Value::from(2.5) } else { Value::Null };
            assert_eq!((&value["LoadTime"], &value["FunctionVersion"]), (&time, &Value::from("7")));
            assert_eq!(value["RequestId"], "r");
        }
    }
}
