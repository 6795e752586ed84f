//! The alias that clients reach the function by.

use super::rollout::{NoGoal, Way, advance, goal, take_back};
use super::{Plan, Reason, either};
use crate::desired::{Desired, Want};
use crate::observed::Observed;
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
    let alias = observed.alias.as_ref().map_err(Plan::from)?.as_ref();
    if let Some(step) = alias.and_then(|alias| take_back(desired, observed, alias)) {
        return Ok(Plan::Do(vec![step]));
    }
    let goal = match goal(desired, observed) {
        Ok(goal) => goal,
        Err(NoGoal::Blocked(plan)) => return Err(plan),
        Err(NoGoal::Unready) => {
            return Err(Plan::wait(Reason::WaitingForFunction, "the function to be ready"));
        }
    };
    let plan = advance(desired, observed, alias, &goal)?;
    Ok(match (plan, goal.way) {
        (Plan::Converged, Way::Retreat { reason, message }) => Plan::blocked(reason, Class::Invalid, message),
        (plan, Way::Rollout | Way::Promotion | Way::Retreat { .. }) => plan,
    })
}

fn absent(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    let has_url = observed.url.as_ref().map_err(Plan::from)?.is_some();
    match observed.alias.as_ref().map_err(Plan::from)? {
        None => Ok(Plan::Converged),
        Some(_) if has_url => Err(Plan::wait(Reason::WaitingForDeletion, "the function URL to be gone")),
        Some(_) => Ok(Plan::Do(vec![Step::DeleteAlias { function: desired.names.function.clone() }])),
    }
}
