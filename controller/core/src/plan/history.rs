//! Versions that no request can reach any more: what keeps them warm goes, and then all but the newest of them.

use std::time::Duration;

use larder_contract::upkeep::Inventory;
use larder_contract::{Digest, layout};

use super::rollout::{Record, elapsed, goal, record};
use super::{Plan, Reason, either};
use crate::desired::{Desired, Want, is_damaged};
use crate::observed::{Alias, Observed, Version};
use crate::step::Step;

/// How long a version stays warm after the alias has left it: Lambda may take a moment to send it no more requests.
pub(super) const DRAIN: Duration = Duration::from_secs(30);

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    match &desired.inference {
        Want::Leave | Want::Absent => Plan::Converged,
        Want::Present(_) => either(present(desired, observed)),
    }
}

fn present(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    // The traffic says when to look again.
    let rest = || Plan::Wait {
        reason: Reason::WaitingForTraffic,
        on: "the version that is to serve to take all requests".to_owned(),
        after: Duration::from_mins(10),
    };
    let goal = goal(desired, observed).map_err(|_| rest())?;
    let alias = observed.alias.as_ref().map_err(Plan::from)?.as_ref().ok_or_else(rest)?;
    let versions = observed.versions.as_ref().map_err(Plan::from)?;
    if alias.version != goal.version.number || alias.second.is_some() {
        return Err(rest());
    }
    let left: Vec<&Version> =
        versions.iter().filter(|v| v.provisioned.is_some() && !alias.serves(v.number)).collect();
    if let (Some(Record::Done { since, .. }), false) = (record(Some(alias)), left.is_empty()) {
        let passed = elapsed(since, observed.at);
        if passed < DRAIN && since <= observed.at {
            return Err(Plan::Wait {
                reason: Reason::Draining,
                on: format!("the last requests of {} to end", numbers(&left)),
                after: DRAIN.saturating_sub(passed),
            });
        }
    }
    let name = &desired.names.function;
    let cooled: Vec<Step> = left
        .iter()
        .map(|v| Step::DeleteProvisionedConcurrency { name: name.clone(), version: v.number })
        .collect();
    Ok(if cooled.is_empty() { Plan::of(prune(desired, observed, versions, alias)) } else { Plan::Do(cooled) })
}

fn numbers(versions: &[&Version]) -> String {
    let all: Vec<String> = versions.iter().map(|version| format!("version {}", version.number)).collect();
    all.join(" and ")
}

/// Deletes all but the newest `history_limit` versions that no request can reach. Going back to one whose models are
/// damaged would help nobody, so such a one is not kept.
fn prune(desired: &Desired, observed: &Observed, versions: &[Version], alias: &Alias) -> Vec<Step> {
    let (damaged, whole): (Vec<&Version>, Vec<&Version>) = versions
        .iter()
        .rev()
        .filter(|v| !alias.serves(v.number))
        .partition(|v| names_damage(v, observed.inventory()));
    let surplus = whole.into_iter().skip(desired.rollout.history_limit).chain(damaged);
    // The version that the spec asks for was taken back, and may be tried again.
    let target = super::target(desired, observed).ok().map(|version| version.number);
    surplus
        .filter(|v| v.provisioned.is_none() && Some(v.number) != target)
        .map(|v| Step::DeleteVersion { name: desired.names.function.clone(), version: v.number })
        .collect()
}

/// Whether a version serves a revision that was found damaged.
#[must_use]
pub fn names_damage(version: &Version, stored: Option<&Inventory>) -> bool {
    let named = || {
        let manifest =
            version.function.ours()?.config.env.get(layout::ENV_MANIFEST)?.parse::<Digest>().ok()?;
        let stored = stored?;
        let manifest = stored.manifests.iter().find(|it| it.manifest == manifest)?;
        let is_named = |revision| manifest.models.iter().any(|model| model.revision == revision);
        Some(stored.revisions.iter().any(|it| is_damaged(it) && is_named(it.revision)))
    };
    named().unwrap_or(false)
}
