//! How far a rollout is.

use larder_crds::status::RolloutStatus;

use crate::desired::Desired;
use crate::observed::{Alias, Observed};
use crate::plan::rollout::{Record, is_disturbed};

fn alias(observed: &Observed) -> Option<&Alias> {
    observed.alias.as_ref().ok()?.as_ref()
}

/// The rollout that is under way, or how the last one ended.
pub(super) fn rollout(
    desired: &Desired,
    observed: &Observed,
    previous: Option<&RolloutStatus>,
) -> Option<RolloutStatus> {
    let alias = alias(observed)?;
    let steps = i32::try_from(desired.rollout.steps.len()).unwrap_or(i32::MAX);
    let told = |version: u64, state: &str, step, since: jiff::Timestamp, message: String| RolloutStatus {
        version: version.to_string(),
        state: state.to_owned(),
        step,
        steps,
        since: Some(format!("{since:.0}")),
        message,
    };
    let Some(record) = Record::parse(&alias.description) else {
        // Somebody else has written over the alias: how far it was is known from here alone.
        return previous.filter(|_| is_disturbed(desired, observed, previous)).cloned();
    };
    Some(match record {
        Record::Step { version, step, since, .. } => {
            let state = if desired.controls.is_paused { "Paused" } else { "Progressing" };
            told(version, state, i32::try_from(step + 1).ok(), since, String::new())
        }
        Record::Done { version, since } => told(version, "Complete", None, since, String::new()),
        Record::Aborted { version, at, why } => {
            let state = if desired.controls.rejected.contains(&version) { "RolledBack" } else { "Aborted" };
            told(version, state, None, at, why)
        }
    })
}

/// A rollout under way, for the columns: `version 7: 10 %, step 1/2`.
pub(super) fn canary(desired: &Desired, observed: &Observed) -> Option<String> {
    let alias = alias(observed)?;
    let (version, percent) = alias.second?;
    let step = match Record::parse(&alias.description) {
        Some(Record::Step { step, .. }) => format!(", step {}/{}", step + 1, desired.rollout.steps.len()),
        Some(Record::Done { .. } | Record::Aborted { .. }) | None => String::new(),
    };
    Some(format!("version {version}: {percent} %{step}"))
}
