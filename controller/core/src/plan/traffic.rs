//! The alias that clients reach the function by, and the versions that nobody needs any more.

use super::{Plan, Reason, capacity, either, target};
use larder_contract::upkeep::Inventory;
use larder_contract::{Digest, layout};

use crate::desired::{Desired, Want, is_damaged};
use crate::observed::{Alias, Observed, Version};
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
    let function = desired.names.function.clone();
    let alias = observed.alias.as_ref().map_err(Plan::from)?;
    let version = target.number;
    let is_there = alias.as_ref().is_some_and(|a| a.version == version && a.second.is_none());
    if !is_there {
        capacity::warm(desired, target).map_err(|_| {
            Plan::wait(Reason::WaitingForCapacity, format!("version {version} of {function} to be warm"))
        })?;
    }
    match alias {
        None => Ok(Plan::Do(vec![Step::CreateAlias { function, version }])),
        Some(alias) if !is_there => Ok(Plan::Do(vec![Step::UpdateAlias {
            function,
            from: alias.version,
            version,
            revision_id: alias.revision_id.clone(),
        }])),
        Some(alias) => {
            let versions = observed.versions.as_ref().map_err(Plan::from)?;
            Ok(Plan::of(prune(desired, observed, versions, alias)))
        }
    }
}

/// Deletes all but the newest `history_limit` versions that no request can reach and nothing keeps warm. Going back
/// to one whose models are damaged would help nobody, so such a one is not kept.
fn prune(desired: &Desired, observed: &Observed, versions: &[Version], alias: &Alias) -> Vec<Step> {
    let (damaged, whole): (Vec<&Version>, Vec<&Version>) = versions
        .iter()
        .rev()
        .filter(|v| !alias.serves(v.number))
        .partition(|v| names_damage(v, observed.inventory()));
    let surplus = whole.into_iter().skip(desired.history_limit).chain(damaged);
    surplus
        .filter(|v| v.provisioned.is_none())
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

fn absent(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    let has_url = observed.url.as_ref().map_err(Plan::from)?.is_some();
    match observed.alias.as_ref().map_err(Plan::from)? {
        None => Ok(Plan::Converged),
        Some(_) if has_url => Err(Plan::wait(Reason::WaitingForDeletion, "the function URL to be gone")),
        Some(_) => Ok(Plan::Do(vec![Step::DeleteAlias { function: desired.names.function.clone() }])),
    }
}
