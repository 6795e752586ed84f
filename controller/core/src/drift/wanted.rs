//! What is wanted of each area, in digests, so that a step in it can be told from drift.

use std::collections::BTreeSet;
use std::fmt::Debug;

use larder_contract::Digest;
use larder_crds::status::{ConvergedArea, ConvergedStatus, InferenceEndpointStatus};

use crate::desired::{Desired, sync_request};
use crate::endpoint::Endpoint;
use crate::observed::{Observed, ObservedFunction};
use crate::plan::rollout::{is_disturbed, to_serve};
use crate::plan::{Area, Plan, Plans, Reason, are_models_there};
use crate::status::Failures;

/// What was wanted of each area when it was last as wanted.
#[must_use]
pub fn converged(
    endpoint: &Endpoint,
    desired: &Desired,
    observed: &Observed,
    plans: &Plans,
    failures: &Failures,
    previous: &InferenceEndpointStatus,
) -> Option<ConvergedStatus> {
    if endpoint.deleting {
        return previous.converged.clone();
    }
    let mut now = previous.converged.clone().unwrap_or_default();
    for (area, wanted) in wanted(desired, observed, previous) {
        if is_as_wanted(area, plans.get(area)) && !failures.contains_key(&area) {
            now.areas.retain(|it| it.condition != wanted.condition);
            now.areas.push(wanted);
        }
    }
    now.areas.sort_by(|a, b| a.condition.cmp(&b.condition));
    now.everything |= failures.is_empty() && plans.is_converged();
    (!now.areas.is_empty()).then_some(now)
}

/// The areas of which the same is wanted as when they were last as wanted. What cannot be known now is taken for
/// unchanged.
pub(super) fn unchanged(
    endpoint: &Endpoint,
    desired: &Desired,
    observed: &Observed,
    previous: &InferenceEndpointStatus,
) -> BTreeSet<Area> {
    if endpoint.deleting || previous.converged.is_none() {
        return BTreeSet::new();
    }
    let same = |now: &Option<String>, before: &Option<String>| now.is_none() || now == before;
    let is_unchanged = |now: &ConvergedArea| {
        before(previous, &now.condition).is_some_and(|before| {
            now.spec == before.spec
                && same(&now.manifest, &before.manifest)
                && same(&now.code, &before.code)
                && same(&now.version, &before.version)
        })
    };
    let wanted = wanted(desired, observed, previous);
    let mut unchanged: BTreeSet<Area> =
        wanted.into_iter().filter(|(_, now)| is_unchanged(now)).map(|(area, _)| area).collect();
    if is_disturbed(desired, observed, previous.rollout.as_ref()) {
        unchanged.insert(Area::Traffic);
    }
    unchanged
}

/// Whether AWS holds what is wanted of an area, be it that it does not work: a version that was taken back, does not
/// start or does not get warm.
pub(super) const fn is_as_wanted(area: Area, plan: &Plan) -> bool {
    match plan {
        Plan::Converged => true,
        Plan::Blocked { reason, .. } => matches!(
            (area, reason),
            (Area::Traffic, Reason::RolloutAborted | Reason::RolledBack)
                | (Area::Function, Reason::FunctionFailed)
                | (Area::Capacity, Reason::ProgressDeadlineExceeded)
        ),
        Plan::Do(_) | Plan::Retry { .. } | Plan::Wait { .. } => false,
    }
}

fn before<'a>(previous: &'a InferenceEndpointStatus, condition: &str) -> Option<&'a ConvergedArea> {
    previous.converged.as_ref()?.areas.iter().find(|it| it.condition == condition)
}

/// What is wanted now of each area that others can change, as far as it is known. How a version takes over, and what
/// people say about that, is no setting of anything in AWS: it shows in the version that is to serve.
fn wanted(
    desired: &Desired,
    observed: &Observed,
    previous: &InferenceEndpointStatus,
) -> Vec<(Area, ConvergedArea)> {
    let Desired {
        names,
        file_system,
        adopts,
        recreate_file_system,
        access_point,
        subnets,
        security_groups,
        sync,
        models,
        inference,
        provisioned,
        url,
        events,
        // How and when to copy, and what to keep.
        sync_bytes_per_second: _,
        settle_seconds: _,
        retain_revisions: _,
        collect_after_seconds: _,
        verify_every_seconds: _,
        rollout: _,
        controls: _,
    } = desired;
    let of = |area: Area, what: &dyn Debug| ConvergedArea {
        condition: area.condition().to_owned(),
        spec: Digest::of(format!("{names:?} {adopts:?} {what:?}").as_bytes()).short(),
        ..ConvergedArea::default()
    };
    let code = |of: &ObservedFunction| of.code.as_ref().ok().map(|code| code.digest.clone());
    let manifest = sync_request(models, &observed.sources, observed.inventory())
        .map(|request| request.manifest.digest().to_string());
    let version = to_serve(desired, observed);
    // Where functions run, and the way to their files.
    let place = (recreate_file_system, access_point, subnets, security_groups);
    // What is not known of it is as it was: until other models are there, it is to serve those that it serves.
    let last = before(previous, Area::Function.condition());
    let function = ConvergedArea {
        manifest: manifest
            .clone()
            .filter(|_| are_models_there(desired, observed))
            .or_else(|| last?.manifest.clone()),
        code: code(&observed.inference).or_else(|| last?.code.clone()),
        ..of(Area::Function, &(place, inference))
    };
    let models = ConvergedArea { manifest, code: code(&observed.sync), ..of(Area::Models, &(place, sync)) };
    // Versions are warmed and take over because of what the function is.
    let capacity =
        ConvergedArea { version: version.clone(), ..of(Area::Capacity, &(&function, provisioned)) };
    let traffic = ConvergedArea { version, ..of(Area::Traffic, &function) };
    vec![
        (Area::Storage, of(Area::Storage, &(file_system, place))),
        (Area::Models, models),
        (Area::Function, function),
        (Area::Capacity, capacity),
        (Area::Traffic, traffic),
        (Area::Exposure, of(Area::Exposure, url)),
        (Area::Events, of(Area::Events, events)),
    ]
}
