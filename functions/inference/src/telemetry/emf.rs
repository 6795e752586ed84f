//! CloudWatch metrics as log lines: one line of JSON a request, in the embedded metric format.
//!
//! The rules are those of the CloudWatch Logs user guide, "Specification: Embedded metric format".

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::SystemTime;

use serde::Serialize;

use super::Answered;

/// The metrics' namespace in CloudWatch.
pub const NAMESPACE: &str = "Larder/Inference";

/// A line, its metrics and what else is searched for in the log.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(rename = "_aws")]
    aws: Metadata,
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
    metrics: [Metric; 4],
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
    /// The function's published version.
    pub version: Option<&'a str>,
    /// Milliseconds by stage.
    pub stages: &'a BTreeMap<&'static str, f64>,
}

/// The line for a request, without its end.
///
/// # Errors
/// Those of the JSON writer.
pub fn line(
    answered: &Answered<'_>,
    properties: &Properties<'_>,
    now: SystemTime,
) -> serde_json::Result<String> {
    let metric = |name, unit| Metric { name, unit };
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serde_json::to_string(&Line {
        aws: Metadata {
            timestamp: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            cloud_watch_metrics: [Directive {
                namespace: NAMESPACE,
                // A dimension must be a member of the line.
                dimensions: [if answered.model.is_some() { &["Model", "Route"] } else { &["Route"] }],
                metrics: [
                    metric("Requests", "Count"),
                    metric("Refused", "Count"),
                    metric("Failed", "Count"),
                    metric("Latency", "Milliseconds"),
                ],
            }],
        },
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
        version: properties.version,
        stages: properties.stages,
    })
}

/// Writes a line to standard output, where Lambda's log agent looks for them.
pub fn write(line: &str) {
    // There is nobody to tell when standard output is gone.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::StatusCode;
    use larder_contract::Task;
    use serde_json::Value;

    use super::*;

    /// The rules of the specification that a line can break.
    fn check(model: Option<(&str, Task)>, status: StatusCode, dimensions: &[&str], failed: u64) {
        let answered = Answered { route: "/ocr", model, status, time: Duration::from_micros(1500) };
        let stages = BTreeMap::from([("inference", 1.25)]);
        let properties = Properties { request: "r", trace: "t", version: Some("7"), stages: &stages };
        let text =
            line(&answered, &properties, SystemTime::UNIX_EPOCH + Duration::from_millis(1234)).unwrap();
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).unwrap();
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
        assert_eq!((&value["Latency"], &value["Failed"]), (&Value::from(1.5), &Value::from(failed)));
    }

    #[test]
    fn lines_keep_the_specification() {
        check(Some(("signs", Task::Ocr)), StatusCode::OK, &["Model", "Route"], 0);
        check(None, StatusCode::NOT_FOUND, &["Route"], 0);
        check(None, StatusCode::GATEWAY_TIMEOUT, &["Route"], 1);
    }
}
