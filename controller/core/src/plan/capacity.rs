//! Provisioned concurrency: on the published version, never on the alias or `$LATEST`, and taken from
//! the old version only when no request can reach it any more.

use jiff::Timestamp;

use super::rollout::{elapsed, goal};
use super::{Plan, Reason, either};
use crate::desired::{Desired, Want};
use crate::observed::{Observed, ProvisionedStatus, Version};
use crate::retry::Class;
use crate::step::Step;

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    match &desired.inference {
        Want::Leave => Plan::Converged,
        Want::Present(_) => either(present(desired, observed)),
        Want::Absent => either(absent(desired, observed)),
    }
}

fn present(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    let goal = goal(desired, observed)
        .map_err(|_| Plan::wait(Reason::WaitingForFunction, "the function to be ready"))?;
    let (version, name) = (goal.version, &desired.names.function);
    let versions = observed.versions.as_ref().map_err(Plan::from)?;
    let alias = observed.alias.as_ref().map_err(Plan::from)?;
    let warmth = warm(desired, observed.at, version);
    // What a rollout left warm that another overtook counts against the reserved concurrency, so where that matters
    // it goes before anything else is warmed.
    let serves = |number| alias.as_ref().is_some_and(|alias| alias.serves(number));
    let provisioned: i32 = versions.iter().filter_map(|v| v.provisioned.as_ref()).map(|p| p.requested).sum();
    let is_tight = matches!(&desired.inference, Want::Present(want) if want.reserved.is_some_and(|most| most < provisioned));
    let unused: Vec<Step> = versions
        .iter()
        .filter(|v| v.provisioned.is_some() && v.number != version.number && !serves(v.number))
        .map(|v| Step::DeleteProvisionedConcurrency { name: name.clone(), version: v.number })
        .collect();
    if !unused.is_empty() && (warmth.is_err() || is_tight) {
        return Ok(Plan::Do(unused));
    }
    // Lambda refuses provisioned concurrency of a version of an alias with weights.
    let is_weighted =
        alias.as_ref().is_some_and(|alias| alias.second.is_some() && alias.serves(version.number));
    if is_weighted && warmth.as_ref().is_err_and(|plan| !plan.steps().is_empty()) {
        return Err(Plan::wait(
            Reason::WaitingForTraffic,
            format!(
                "version {} of function {name} to take all requests before its capacity changes",
                version.number
            ),
        ));
    }
    warmth?;
    Ok(Plan::Converged)
}

/// Whether a version is as warm as is wanted; until then what is to be done.
pub(super) fn warm(desired: &Desired, at: Timestamp, version: &Version) -> Result<(), Plan> {
    let name = desired.names.function.clone();
    let number = version.number;
    let Some(count) = desired.provisioned else {
        return match version.provisioned {
            None => Ok(()),
            Some(_) => Err(Plan::Do(vec![Step::DeleteProvisionedConcurrency { name, version: number }])),
        };
    };
    let put = Step::PutProvisionedConcurrency { name: name.clone(), version: number, count };
    let Some(has) = version.provisioned.as_ref().filter(|p| p.requested == count) else {
        return Err(Plan::Do(vec![put]));
    };
    match &has.status {
        ProvisionedStatus::Ready if has.available >= count => Ok(()),
        ProvisionedStatus::Ready | ProvisionedStatus::InProgress
            if has.changed.is_some_and(|since| elapsed(since, at) > desired.rollout.progress_deadline) =>
        {
            Err(Plan::blocked(
                Reason::ProgressDeadlineExceeded,
                Class::Transient,
                format!(
                    "version {number} of function {name} has {} of {count} warm sandboxes after more than progressDeadlineSeconds, {} s; traffic stays where it was; see the account's concurrency quota and the function's log group",
                    has.available,
                    desired.rollout.progress_deadline.as_secs()
                ),
            ))
        }
        ProvisionedStatus::Ready | ProvisionedStatus::InProgress => Err(Plan::wait(
            Reason::Waiting,
            format!("version {number} of function {name} to be warm: {} of {count} sandboxes", has.available),
        )),
        ProvisionedStatus::Failed(why) => Err(Plan::Retry {
            steps: vec![put],
            reason: Reason::CapacityFailed,
            message: format!(
                "version {number} of function {name} could not be warmed: {why}; traffic stays where it was; see the function's log group"
            ),
        }),
    }
}

fn absent(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    let name = &desired.names.function;
    let steps = observed
        .versions
        .as_ref()
        .map_err(Plan::from)?
        .iter()
        .filter(|v| v.provisioned.is_some())
        .map(|v| Step::DeleteProvisionedConcurrency { name: name.clone(), version: v.number })
        .collect();
    Ok(Plan::of(steps))
}
