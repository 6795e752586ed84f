//! How a new version takes over, and what a person says about it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use larder_crds::{InferenceEndpoint, spec};
use serde_json::Value;

use super::Refused;

/// How a new version takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Its shares of the requests before it takes all, rising; none for all at once.
    pub steps: Vec<WeightStep>,
    /// What it must answer before it takes any.
    pub smoke_test: Option<SmokeTest>,
    /// Whether it is asked to prepare its models before it takes any.
    pub prepares_models: bool,
    /// When it is taken back.
    pub abort_on: AbortOn,
    /// How long it may take.
    pub progress_deadline: Duration,
    /// Versions kept beside the one that serves.
    pub history_limit: usize,
}

/// A share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightStep {
    /// In percent, 1 to 99.
    pub percent: u8,
    /// For how long it is watched.
    pub hold: Duration,
}

/// A request and what its answer must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmokeTest {
    /// The payload of the invocation, but for inputs that are an object's bytes.
    pub payload: Value,
    /// The object whose bytes are the inputs, in Base64: bucket and key.
    pub inputs_from: Option<(String, String)>,
    /// What the answer must hold.
    pub expect: Option<Value>,
}

/// When a new version is taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AbortOn {
    /// More of its invocations fail, percent.
    pub error_rate_percent: Option<i32>,
    /// Its 99th percentile is longer, milliseconds.
    pub p99_milliseconds: Option<i64>,
    /// Its invocations in the present step before these two are judged.
    pub min_invocations: u64,
    /// One of these alarms is on.
    pub alarms: Vec<String>,
}

impl AbortOn {
    /// Whether nothing is watched.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.error_rate_percent.is_none() && self.p99_milliseconds.is_none() && self.alarms.is_empty()
    }
}

/// What a person says about a rollout, in annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controls {
    /// It holds where it is.
    pub is_paused: bool,
    /// This version takes all requests now.
    pub promoted: Option<u64>,
    /// These take none.
    pub rejected: BTreeSet<u64>,
    /// What was taken back before is tried again.
    pub retry_at: Option<Timestamp>,
}

/// Reads a rollout.
///
/// # Errors
/// [`Refused`] for a smoke test that asks nothing, or two things.
pub(super) fn rollout(rollout: &spec::Rollout) -> Result<Rollout, Refused> {
    Ok(Rollout {
        steps: rollout
            .steps
            .iter()
            .map(|step| WeightStep {
                percent: u8::try_from(step.weight_percent.clamp(1, 99)).unwrap_or(1),
                hold: seconds(step.hold_seconds),
            })
            .collect(),
        smoke_test: rollout.smoke_test.as_ref().map(smoke_test).transpose()?,
        prepares_models: rollout.prepare_models,
        abort_on: rollout.abort_on.as_ref().map_or_else(AbortOn::default, |on| AbortOn {
            error_rate_percent: on.error_rate_percent,
            p99_milliseconds: on.p99_milliseconds,
            min_invocations: u64::try_from(on.min_invocations).unwrap_or_default(),
            alarms: on.alarms.clone(),
        }),
        progress_deadline: seconds(rollout.progress_deadline_seconds),
        history_limit: usize::try_from(rollout.history_limit).unwrap_or_default(),
    })
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or_default())
}

fn smoke_test(test: &spec::SmokeTest) -> Result<SmokeTest, Refused> {
    if test.inputs.is_some() == test.inputs_from.is_some() {
        let value = if test.inputs.is_some() { "both inputs and inputsFrom" } else { "without inputs" };
        return Err(Refused {
            field: "spec.rollout.smokeTest".to_owned(),
            value: value.to_owned(),
            remedy:
                "write either inputs, or inputsFrom.s3 with the bucket and key of an object that holds them"
                    .to_owned(),
        });
    }
    let mut payload = serde_json::json!({"model": test.model});
    for (field, value) in [("inputs", &test.inputs), ("parameters", &test.parameters)] {
        if let Some(value) = value {
            payload[field] = value.clone();
        }
    }
    Ok(SmokeTest {
        payload,
        inputs_from: test.inputs_from.as_ref().map(|from| (from.s3.bucket.clone(), from.s3.key.clone())),
        expect: test.expect.clone(),
    })
}

/// Reads the annotations of a rollout.
///
/// # Errors
/// [`Refused`] for one that says nothing that can be done.
pub(super) fn controls(object: &InferenceEndpoint) -> Result<Controls, Refused> {
    let annotations = object.metadata.annotations.as_ref();
    let read = |key: &str| annotations.and_then(|all| all.get(key)).map(|text| text.trim());
    let refused = |key: &str, value: &str, remedy: &str| Refused {
        field: format!("metadata.annotations[{key}]"),
        value: format!("{value:?}"),
        remedy: remedy.to_owned(),
    };
    let version = |key: &str, text: &str| {
        let remedy = "write the numbers of versions, as status.history shows them, or take it away";
        text.trim().parse().map_err(|_| refused(key, text, remedy))
    };
    Ok(Controls {
        is_paused: match read(larder_crds::ROLLOUT_PAUSED) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                return Err(refused(larder_crds::ROLLOUT_PAUSED, other, "write true or take it away"));
            }
        },
        promoted: read(larder_crds::PROMOTE).map(|text| version(larder_crds::PROMOTE, text)).transpose()?,
        rejected: read(larder_crds::REJECTED_VERSIONS)
            .into_iter()
            .flat_map(|all| all.split(','))
            .filter(|text| !text.trim().is_empty())
            .map(|text| version(larder_crds::REJECTED_VERSIONS, text))
            .collect::<Result<_, _>>()?,
        retry_at: read(larder_crds::RETRY_AT)
            .map(|text| {
                let remedy = "write a time such as 2026-01-31T12:00:00Z, or take it away";
                text.parse().map_err(|_| refused(larder_crds::RETRY_AT, text, remedy))
            })
            .transpose()?,
    })
}
