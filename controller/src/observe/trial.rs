//! What the planner wants to know of a new version: its answer to the smoke test, and how it does.

use aws_smithy_types::base64;
use larder_core::endpoint::SmokeTest;
use larder_core::observed::{Health, Observed, Read, Smoke, Trial};
use larder_core::plan::rollout::health::answered_wrongly;
use larder_core::plan::rollout::questions;
use larder_core::{Class, Desired};

use super::read;
use crate::cloud::{Cloud, CloudError, HealthQuery};

/// The most bytes of an object of inputs: with Base64 and the rest they fit an `Invoke` (6 MiB).
const MAX_INPUTS: u64 = 4 << 20;

/// Asks what the planner wants to know, and nothing else.
pub(super) async fn trial<C: Cloud>(cloud: &C, desired: &Desired, observed: &Observed) -> Trial {
    let asked = questions(desired, observed);
    let smoke = async {
        match (asked.smoke, &desired.rollout.smoke_test) {
            (Some(version), Some(test)) => read(smoke(cloud, desired, test, version)).await.map(Some),
            (_, _) => Ok(None),
        }
    };
    let health = async {
        let (version, since) = asked.health.or_else(|| Some((asked.alarms?, observed.at)))?;
        let on = &desired.rollout.abort_on;
        let query = HealthQuery {
            function: &desired.names.function,
            version,
            since,
            until: observed.at,
            has_metrics: asked.health.is_some()
                && (on.error_rate_percent.is_some() || on.p99_milliseconds.is_some()),
            alarms: &on.alarms,
        };
        Some(read(cloud.health(&query)).await)
    };
    let health: Read<Option<Health>> = health.await.transpose();
    // While an alarm holds the version back, it is not asked again and again.
    let is_quiet = matches!(&health, Ok(seen) if seen.as_ref().is_none_or(|it| it.alarms_on.is_empty()));
    let smoke = if asked.alarms.is_none() || is_quiet { smoke.await } else { Ok(None) };
    Trial { smoke, health }
}

async fn smoke<C: Cloud>(
    cloud: &C,
    desired: &Desired,
    test: &SmokeTest,
    version: u64,
) -> Result<Smoke, CloudError> {
    let mut payload = test.payload.clone();
    if let Some((bucket, key)) = &test.inputs_from {
        let bytes = cloud.object(bucket, key, MAX_INPUTS).await?;
        payload["inputs"] = base64::encode(bytes).into();
    }
    let function = &desired.names.function;
    let payload = serde_json::to_vec(&payload).map_err(|error| {
        CloudError::new("Invoke", function.as_str(), Class::Invalid, "", &error.to_string())
    })?;
    let fault = match cloud.ask(function, version, payload).await? {
        Ok(answer) => answered_wrongly(test, &answer),
        Err(failure) => Some(failure),
    };
    Ok(Smoke { version, fault })
}
