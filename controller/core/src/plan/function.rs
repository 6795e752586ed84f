//! The inference function, and the published version that pins its code, configuration and models.

use larder_contract::layout;

use super::{Plan, Reason, either, lambda, settle, storage};
use crate::desired::{Desired, FunctionWant, Want, is_synced, sync_request};
use crate::observed::{Function, Observed, Remote, Version};
use crate::retry::Class;
use crate::step::Step;

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    match &desired.inference {
        Want::Leave => Plan::Converged,
        Want::Present(_) => either(target(desired, observed).map(|_| Plan::Converged)),
        Want::Absent => {
            let is_free = matches!(&observed.alias, Ok(None))
                && matches!(&observed.versions, Ok(v) if v.iter().all(|v| v.provisioned.is_none()));
            if is_free {
                lambda::remove(&desired.names.function, &observed.inference)
            } else {
                Plan::wait(Reason::WaitingForDeletion, "alias and provisioned concurrency to be gone")
            }
        }
    }
}

/// The published version that is exactly what is wanted, once it is there and active; until then what is
/// to be done. Capacity and traffic hold still until this is settled.
///
/// # Errors
/// The plan of the function area.
pub fn target<'a>(desired: &Desired, observed: &'a Observed) -> Result<&'a Version, Plan> {
    let Want::Present(want) = &desired.inference else {
        return Err(Plan::Converged);
    };
    let latest = latest(desired, want, observed)?;
    let reserve = lambda::reserve(&want.name, attainable_reserve(want, observed), latest);
    let versions = observed.versions.as_ref().map_err(Plan::from)?;
    let Some(version) = versions.iter().rev().find(|v| v.function.ours().is_some_and(|f| is_same(f, latest)))
    else {
        let publish = Step::PublishVersion {
            name: want.name.clone(),
            code_sha256: latest.code_sha256.clone(),
            revision_id: latest.revision_id.clone(),
        };
        return Err(Plan::Do(std::iter::once(publish).chain(reserve).collect()));
    };
    if let Some(reserve) = reserve {
        return Err(Plan::Do(vec![reserve]));
    }
    match &version.function {
        Remote::Ready(_) => Ok(version),
        Remote::Failed { reason, .. } => Err(Plan::blocked(
            Reason::FunctionFailed,
            Class::Transient,
            format!("version {} of function {} failed: {reason}", version.number, want.name),
        )),
        Remote::Pending(it) | Remote::Deleting(it) => Err(lambda::awaited(
            desired,
            observed,
            it,
            format!("version {} of function {} to be active", version.number, want.name),
        )),
        Remote::Absent | Remote::Foreign { .. } => Err(Plan::wait(
            Reason::Waiting,
            format!("version {} of function {} to be active", version.number, want.name),
        )),
    }
}

/// `$LATEST`, once it is as wanted.
fn latest<'a>(desired: &Desired, want: &FunctionWant, observed: &'a Observed) -> Result<&'a Function, Plan> {
    lambda::log_group(want, &observed.inference.log_group, (desired, observed))?;
    let access_point = storage::mountable(desired, observed)?;
    let manifest = manifest(desired, observed)
        .ok_or_else(|| Plan::wait(Reason::WaitingForModels, "the models to be on the file system"))?;
    let mut config = lambda::config(want, desired, &access_point.arn);
    config.env.insert(layout::ENV_MANIFEST.to_owned(), manifest);
    lambda::converge(want, config, &observed.inference, (desired, observed))
}

/// The reserved concurrency that can be set now. Lambda refuses one below what is provisioned in all, so
/// when both go down, the reserved one stays until capacity has gone down, which then is still awaited.
fn attainable_reserve(want: &FunctionWant, observed: &Observed) -> Option<i32> {
    let versions = observed.versions.as_ref().map_or(&[][..], Vec::as_slice);
    let provisioned: i32 = versions.iter().filter_map(|v| v.provisioned.as_ref()).map(|p| p.requested).sum();
    match want.reserved {
        Some(reserved) if reserved < provisioned => {
            observed.inference.function.as_ref().ok()?.ours()?.reserved
        }
        wanted => wanted,
    }
}

/// The manifest to serve: the wanted one once it is synced, and until then the one that is served, so
/// that a broken source does not hold up a change of, say, the memory size.
fn manifest(desired: &Desired, observed: &Observed) -> Option<String> {
    let wanted = sync_request(&desired.models, &observed.sources, observed.inventory());
    let wanted = wanted.filter(|_| are_models_there(desired, observed));
    wanted.map(|request| request.manifest.digest().to_string()).or_else(|| {
        let function = observed.inference.function.as_ref().ok()?.ours()?;
        function
            .config
            .env
            .get(layout::ENV_MANIFEST)
            .filter(|served| is_there(served, function, observed))
            .cloned()
    })
}

/// Whether the wanted models are on the file system, and may be served.
pub(crate) fn are_models_there(desired: &Desired, observed: &Observed) -> bool {
    is_synced(observed) && settle::settling(desired, observed).is_none()
}

/// Whether a manifest lies on the file system: on one that was made anew there is nothing yet.
fn is_there(manifest: &str, function: &Function, observed: &Observed) -> bool {
    if let Some(stored) = observed.inventory() {
        return stored.manifests.iter().any(|it| it.manifest.to_string() == manifest);
    }
    mounts_what_is_there(function, observed)
}

/// Whether a function or a version mounts the access point that is there: one that was made again has another ARN.
pub(super) fn mounts_what_is_there(function: &Function, observed: &Observed) -> bool {
    let access_point = observed.access_point.as_ref().ok().and_then(Remote::ours);
    let mounted = function.config.mount.as_ref().map(|(arn, _)| arn);
    access_point.is_some_and(|it| mounted == Some(&it.arn))
}

/// Whether a version runs what `$LATEST` runs.
fn is_same(version: &Function, latest: &Function) -> bool {
    version.code_digest == latest.code_digest
        && version.architecture == latest.architecture
        && version.config == latest.config
}
