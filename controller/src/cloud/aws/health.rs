//! What a new version answers and how it does: an invocation by its number, and CloudWatch's word for that version
//! alone.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    AlarmType, Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StateValue,
};
use aws_sdk_lambda::types::InvocationType;
use aws_smithy_types::Blob;
use jiff::Timestamp;
use larder_contract::operation::Operation;
use larder_core::Class;
use larder_core::names::ALIAS;
use larder_core::observed::Health;

use super::clients::Clients;
use super::error::Call;
use super::lambda::named;
use crate::cloud::{HealthQuery, Result};

/// The shortest period of Lambda's metrics, seconds.
pub(super) const PERIOD: i64 = 60;

impl Clients {
    /// The payload that a version answers with, or what the function itself says of its failure.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
    pub(super) async fn ask_version(
        &self,
        function: &str,
        version: u64,
        payload: Vec<u8>,
    ) -> Result<std::result::Result<Vec<u8>, String>> {
        let call = Call::new("Invoke", format!("version {version} of function {function}"));
        let request = self.invoke.invoke().function_name(function).qualifier(version.to_string());
        let request = request.invocation_type(InvocationType::RequestResponse).payload(Blob::new(payload));
        let answer = call.answer(request.send().await)?;
        let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
        Ok(match answer.function_error {
            None => Ok(body),
            Some(kind) => {
                let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let message = said.get("errorMessage").and_then(serde_json::Value::as_str);
                Err(format!("{kind}: {}", message.unwrap_or("no message; see the function's log group")))
            }
        })
    }

    /// Nothing waits for its end: an asynchronous invocation is queued and answered at once,
    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html>.
    pub(super) async fn prepare_models(&self, function: &str, version: u64) -> Result<()> {
        let call = Call::new("Invoke", format!("version {version} of function {function}"));
        let payload = serde_json::json!({"op": Operation::Prepare}).to_string();
        let request = self.invoke.invoke().function_name(function).qualifier(version.to_string());
        let request = request.invocation_type(InvocationType::Event).payload(Blob::new(payload));
        call.done(request.send().await)
    }

    /// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html>: `ExecutedVersion` tells the
    /// versions of a weighted alias apart. An answer with a status of 5xx is no error of the invocation, but one of
    /// `Url5xxCount`, <https://docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html>.
    pub(super) async fn health(&self, query: &HealthQuery<'_>) -> Result<Health> {
        let mut health = Health {
            version: query.version,
            invocations: 0,
            errors: 0,
            p99_milliseconds: None,
            alarms_on: self.alarms_on(query.alarms).await?,
        };
        if !query.has_metrics {
            return Ok(health);
        }
        let call = Call::new("GetMetricData", named(query.function));
        let (start, end) = window(query.since, query.until);
        let ask = |id: &str, name: &str, statistic: &str| {
            let dimension = |name: &str, value: String| Dimension::builder().name(name).value(value).build();
            let metric = Metric::builder()
                .namespace("AWS/Lambda")
                .metric_name(name)
                .dimensions(dimension("FunctionName", query.function.to_owned()))
                .dimensions(dimension("Resource", format!("{}:{ALIAS}", query.function)))
                .dimensions(dimension("ExecutedVersion", query.version.to_string()))
                .build();
            let period = i32::try_from(end - start).unwrap_or(i32::MAX);
            let wanted = MetricStat::builder().metric(metric).period(period).stat(statistic).build();
            MetricDataQuery::builder().id(id).metric_stat(wanted).build()
        };
        let request = self
            .cloudwatch
            .get_metric_data()
            .metric_data_queries(ask("invocations", "Invocations", "Sum"))
            .metric_data_queries(ask("errors", "Errors", "Sum"))
            .metric_data_queries(ask("url5xx", "Url5xxCount", "Sum"))
            .metric_data_queries(ask("p99", "Duration", "p99"))
            .start_time(DateTime::from_secs(start))
            .end_time(DateTime::from_secs(end));
        let answer = call.answer(request.send().await)?;
        let results = answer.metric_data_results.unwrap_or_default();
        health.invocations = whole(values(&results, "invocations").sum());
        health.errors = failed(&results);
        health.p99_milliseconds = values(&results, "p99").reduce(f64::max).map(whole);
        Ok(health)
    }

    /// The alarms of these names that are on.
    ///
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>
    async fn alarms_on(&self, names: &[String]) -> Result<Vec<String>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let call = Call::new("DescribeAlarms", format!("alarms {}", names.join(", ")));
        let request = self
            .cloudwatch
            .describe_alarms()
            .set_alarm_names(Some(names.to_vec()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm);
        let answer = call.answer(request.send().await)?;
        let simple = answer.metric_alarms.unwrap_or_default();
        let composite = answer.composite_alarms.unwrap_or_default();
        let states: Vec<(String, bool)> = simple
            .into_iter()
            .map(|alarm| (alarm.alarm_name.unwrap_or_default(), alarm.state_value == Some(StateValue::Alarm)))
            .chain(composite.into_iter().map(|alarm| {
                (alarm.alarm_name.unwrap_or_default(), alarm.state_value == Some(StateValue::Alarm))
            }))
            .collect();
        if let Some(missing) = names.iter().find(|name| !states.iter().any(|(known, _)| known == *name)) {
            let message = format!("there is no alarm {missing}, so that nothing can be said of it");
            return Err(call.failed(Class::NotFound, "", &message));
        }
        Ok(states.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect())
    }
}

/// Whole minutes around a time, in seconds since 1970.
fn window(since: Timestamp, until: Timestamp) -> (i64, i64) {
    let start = since.as_second().div_euclid(PERIOD) * PERIOD;
    let end = (until.as_second().div_euclid(PERIOD) + 1) * PERIOD;
    (start, end.max(start + PERIOD))
}

pub(super) fn values<'a>(results: &'a [MetricDataResult], id: &'a str) -> impl Iterator<Item = f64> + 'a {
    let of_id = results.iter().filter(move |result| result.id.as_deref() == Some(id));
    of_id.flat_map(|result| result.values.iter().flatten().copied())
}

/// Invocations that failed or were answered with a status of 5xx. A crash behind the function URL is counted as both,
/// so that the larger number is the least that there were.
fn failed(results: &[MetricDataResult]) -> u64 {
    let count = |id| whole(values(results, id).sum());
    count("errors").max(count("url5xx"))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts and milliseconds")]
pub(super) fn whole(number: f64) -> u64 {
    number.max(0.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_asked_for_in_whole_minutes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(window(at(119), at(121)), (60, 180));
        assert_eq!(window(at(120), at(120)), (120, 180));
        assert_eq!(window(at(300), at(100)), (300, 360));
    }

    #[test]
    fn values_of_a_metric_are_told_by_its_id() {
        let result = |id: &str, values: &[f64]| {
            MetricDataResult::builder().id(id).set_values(Some(values.to_vec())).build()
        };
        let results = [result("errors", &[1.0, 2.0]), result("p99", &[180.2])];
        assert_eq!(failed(&results), 3);
        assert_eq!(values(&results, "p99").reduce(f64::max).map(whole), Some(181));
        assert_eq!(values(&results, "invocations").reduce(f64::max).map(whole), None);
    }

    #[test]
    fn an_answer_of_5xx_is_a_failure_and_a_crash_is_one_failure() {
        let failures = |errors: &[f64], url: &[f64]| {
            let result = |id: &str, values: &[f64]| {
                MetricDataResult::builder().id(id).set_values(Some(values.to_vec())).build()
            };
            failed(&[result("errors", errors), result("url5xx", url)])
        };
        assert_eq!(failures(&[], &[]), 0);
        assert_eq!(failures(&[], &[2.0, 1.0]), 3);
        assert_eq!(failures(&[0.0], &[3.0]), 3);
        assert_eq!(failures(&[3.0], &[3.0]), 3);
        assert_eq!(failures(&[3.0], &[]), 3);
    }
}
