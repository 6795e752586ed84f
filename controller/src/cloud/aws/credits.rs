//! Burst credits of file systems, as CloudWatch tells them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use jiff::Timestamp;
use tokio::time::Instant;

use super::clients::Clients;
use super::error::Call;
use super::health::{PERIOD, values, whole};
use crate::cloud::Result;

/// How long an answer is taken for true. Credits grow and go slowly, and each question costs.
const LASTS: Duration = Duration::from_mins(5);

/// CloudWatch's values of so many minutes are looked at; the last one counts.
const MINUTES: i64 = 15;

/// Bytes, or that CloudWatch told none.
type Answer = Option<u64>;

/// What was last told of each file system.
#[derive(Debug, Default)]
pub(super) struct Credits(Mutex<HashMap<String, (Instant, Answer)>>);

impl Credits {
    /// The answer, while it is taken for true.
    fn fresh(&self, file_system: &str, now: Instant) -> Option<Answer> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (at, _)| now.duration_since(*at) < LASTS);
        all.get(file_system).map(|(_, answer)| *answer)
    }

    fn keep(&self, file_system: &str, now: Instant, answer: Answer) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(file_system.to_owned(), (now, answer));
    }
}

impl Clients {
    /// Bytes of burst credits that a bursting file system has left; none where CloudWatch tells nothing, or may not be
    /// asked: nothing but what is told to people hangs on it.
    pub(super) async fn burst_credits(&self, file_system: &str) -> Option<u64> {
        let now = Instant::now();
        if let Some(known) = self.credits.fresh(file_system, now) {
            return known;
        }
        let balance = self.burst_credit_balance(file_system).await.unwrap_or_else(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "burst credits cannot be read");
            None
        });
        self.credits.keep(file_system, now, balance);
        balance
    }

    /// <https://docs.aws.amazon.com/efs/latest/ug/efs-metrics.html>: `BurstCreditBalance`. Values come newest first.
    async fn burst_credit_balance(&self, file_system: &str) -> Result<Option<u64>> {
        let call = Call::new("GetMetricData", format!("burst credits of file system {file_system}"));
        let metric = Metric::builder()
            .namespace("AWS/EFS")
            .metric_name("BurstCreditBalance")
            .dimensions(Dimension::builder().name("FileSystemId").value(file_system).build())
            .build();
        let period = i32::try_from(PERIOD).unwrap_or(i32::MAX);
        let wanted = MetricStat::builder().metric(metric).period(period).stat("Minimum").build();
        let end = Timestamp::now().as_second().div_euclid(PERIOD) * PERIOD;
        let request = self
            .cloudwatch
            .get_metric_data()
            .metric_data_queries(MetricDataQuery::builder().id("credits").metric_stat(wanted).build())
            .start_time(DateTime::from_secs(end - MINUTES * PERIOD))
            .end_time(DateTime::from_secs(end));
        let results = call.answer(request.send().await)?.metric_data_results.unwrap_or_default();
        Ok(values(&results, "credits").next().map(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lasts_five_minutes_also_when_there_was_none() {
        let (credits, now) = (Credits::default(), Instant::now());
        assert_eq!(credits.fresh("fs-1", now), None);
        credits.keep("fs-1", now, Some(7));
        credits.keep("fs-2", now, None);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(
            (credits.fresh("fs-1", at(299)), credits.fresh("fs-2", at(299))),
            (Some(Some(7)), Some(None))
        );
        assert_eq!(credits.fresh("fs-1", at(300)), None);
        assert!(credits.0.lock().unwrap().is_empty(), "what is not asked for any more is not kept");
    }
}
