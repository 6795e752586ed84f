//! Provisioned concurrency: on the published version, never on the alias or `$LATEST`, and taken from
//! the old version only when no request can reach it any more.

use super::{Plan, Reason, either, target};
use crate::desired::{Desired, Want};
use crate::observed::{Observed, ProvisionedStatus, Version};
use crate::step::Step;

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    match &desired.inference {
        Want::Leave => Plan::Converged,
        Want::Present(_) => either(present(desired, observed)),
        Want::Absent => either(absent(desired, observed)),
    }
}

fn present(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    let target = target(desired, observed)
        .map_err(|_| Plan::wait(Reason::WaitingForFunction, "the function to be ready"))?;
    let name = &desired.names.function;
    let versions = observed.versions.as_ref().map_err(Plan::from)?;
    let alias = observed.alias.as_ref().map_err(Plan::from)?;
    // What a rollout left warm that another overtook counts against the reserved concurrency, so it goes
    // before anything else is warmed.
    let serves = |number| alias.as_ref().is_some_and(|alias| alias.serves(number));
    let unused: Vec<Step> = versions
        .iter()
        .filter(|v| v.provisioned.is_some() && v.number != target.number && !serves(v.number))
        .map(|v| Step::DeleteProvisionedConcurrency { name: name.clone(), version: v.number })
        .collect();
    if !unused.is_empty() {
        return Ok(Plan::Do(unused));
    }
    warm(desired, target)?;
    Ok(Plan::Converged)
}

/// Whether a version is as warm as is wanted; until then what is to be done.
pub(super) fn warm(desired: &Desired, version: &Version) -> Result<(), Plan> {
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
