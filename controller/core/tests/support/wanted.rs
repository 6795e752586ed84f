//! What is wanted, and what is not to be touched, said without the planner.

use std::collections::BTreeSet;

use larder_contract::{Digest, layout};
use larder_core::desired::{FunctionWant, Want, sync_request};
use larder_core::endpoint::{AuthType, CodeRef, DeletionPolicy, FileSystemRef};
use larder_core::foresee::foresee;
use larder_core::names::Names;
use larder_core::observed::{LastUpdate, ObservedFunction, ProvisionedStatus};
use larder_core::plan::names_damage;
use larder_core::{Desired, Endpoint, Observed, Remote, Step};

fn is_function_right(
    seen: &ObservedFunction,
    want: &FunctionWant,
    desired: &Desired,
    manifest: Option<&str>,
) -> bool {
    let (Ok(Remote::Ready(it)), Ok(code), Ok(Remote::Ready(group))) =
        (&seen.function, &seen.code, &seen.log_group)
    else {
        return false;
    };
    let mut env = want.env.clone();
    env.extend(manifest.map(|manifest| (layout::ENV_MANIFEST.to_owned(), manifest.to_owned())));
    it.last_update == LastUpdate::Successful
        && it.code_digest == code.digest
        && it.architecture == want.architecture
        && it.config.memory_mib == want.memory_mib
        && it.config.timeout_seconds == want.timeout_seconds
        && it.config.ephemeral_mib == want.ephemeral_mib
        && it.config.role == want.role_arn
        && it.config.env == env
        && it.config.subnets == desired.subnets
        && it.config.security_groups == desired.security_groups
        && it.config.start.overrides.is_empty()
        && it.config.start.layers.is_empty()
        && it.config.start.runtime
            == if matches!(want.code, CodeRef::Zip { .. }) { "provided.al2023" } else { "" }
        && it.reserved == want.reserved
        && group.retention_days == Some(want.log_retention_days)
}

/// Whether S3 tells of changes where it is to, and nothing of ours is there where it is not.
fn are_events_right(desired: &Desired, seen: &Observed) -> bool {
    let events = &seen.events;
    let (Ok(queue), Ok(rule)) = (&events.queue, &events.rule) else { return false };
    match &desired.events {
        Want::Present(want) => {
            let (Remote::Ready(queue), Remote::Ready(rule)) = (queue, rule) else { return false };
            events.is_announced
                && queue.takes_events
                && rule.is_enabled
                && rule.pattern == want.pattern
                && rule.targets.get("larder") == Some(&queue.arn)
                && want.buckets.iter().all(|bucket| events.buckets.get(bucket) == Some(&Ok(true)))
        }
        Want::Absent => rule.is_gone() && (queue.is_gone() || events.is_shared == Ok(true)),
        Want::Leave => true,
    }
}

/// Whether a version that may be gone back to is in subnets that are no longer wanted.
fn are_others_needed(desired: &Desired, seen: &Observed) -> bool {
    let versions = seen.versions.iter().flatten().filter_map(|version| version.function.ours());
    versions.into_iter().any(|it| !it.config.subnets.is_subset(&desired.subnets))
}

/// Whether AWS holds what a living endpoint wants.
pub(crate) fn is_satisfied(endpoint: &Endpoint, desired: &Desired, seen: &Observed) -> bool {
    let (Want::Present(sync), Want::Present(inference)) = (&desired.sync, &desired.inference) else {
        return false;
    };
    let Ok(Remote::Ready(fs)) = &seen.file_system else { return false };
    let (Ok(targets), Ok(Remote::Ready(ap))) = (&seen.mount_targets, &seen.access_point) else {
        return false;
    };
    let Ok(subnets) = &seen.subnets else { return false };
    let is_managed = matches!(endpoint.file_system, FileSystemRef::Managed { .. });
    let is_mode_right = match &endpoint.file_system {
        FileSystemRef::Managed { mode, .. } => fs.throughput_mode == format!("{mode:?}").to_lowercase(),
        FileSystemRef::Existing(_) => true,
    };
    let zones: BTreeSet<&String> = subnets.iter().map(|s| &s.zone).collect();
    let are_targets_right = zones.iter().all(|zone| {
        targets.iter().any(|mt| {
            &&mt.zone == zone
                && mt.state == "available"
                && (!is_managed || mt.security_groups == desired.security_groups)
        })
    }) && (!is_managed
        || are_others_needed(desired, seen)
        || targets.iter().all(|mt| zones.contains(&mt.zone) || mt.state != "available"));
    let Some(request) = sync_request(&endpoint.models, &seen.sources, seen.inventory()) else { return false };
    let manifest = request.manifest.digest().to_string();
    let is_synced = matches!(&seen.sync_report, Ok(Some(report)) if report.manifest_present);
    let (Ok(versions), Ok(Some(alias))) = (&seen.versions, &seen.alias) else { return false };
    let Ok(Remote::Ready(latest)) = &seen.inference.function else { return false };
    let Some(live) = versions.iter().find(|v| v.number == alias.version) else { return false };
    let runs_the_same = matches!(&live.function, Remote::Ready(it)
        if it.code_digest == latest.code_digest && it.architecture == latest.architecture && it.config == latest.config);
    let is_warm = live.provisioned.as_ref().map(|p| (p.requested, p.available, p.status.clone()))
        == endpoint.provisioned.map(|n| (n, n, ProvisionedStatus::Ready));
    let (Ok(url), Ok(permissions)) = (&seen.url, &seen.permissions) else { return false };
    let is_public = url.as_ref().map(|url| url.auth_type == "NONE");
    let wanted_public = endpoint.url.map(|auth| auth == AuthType::None);
    let wanted_permissions: &[&str] = match wanted_public {
        None => &[],
        Some(true) => &["larder-invoke-public", "larder-url-public"],
        Some(false) => &["larder-invoke-account", "larder-url-account"],
    };
    let mounted = Some((ap.arn.clone(), layout::MOUNT_PATH.to_owned()));
    is_mode_right
        && are_events_right(desired, seen)
        && are_targets_right
        && is_function_right(&seen.sync, sync, desired, None)
        && is_function_right(&seen.inference, inference, desired, Some(&manifest))
        && latest.config.mount == mounted
        && seen.sync.function.as_ref().unwrap().ready().unwrap().config.mount == mounted
        && is_synced
        && alias.second.is_none()
        && runs_the_same
        && is_warm
        && is_public == wanted_public
        && url.as_ref().is_none_or(|url| url.invoke_mode == "BUFFERED" && !url.has_cors)
        && permissions.keys().map(String::as_str).eq(wanted_permissions.iter().copied())
        && permissions.values().all(|is_as_named| *is_as_named)
}

/// Whether nothing is left of old versions beyond what a living endpoint keeps.
pub(crate) fn is_pruned(endpoint: &Endpoint, seen: &Observed) -> bool {
    let (Ok(versions), Ok(Some(alias))) = (&seen.versions, &seen.alias) else { return false };
    let mut others = versions.iter().filter(|v| v.number != alias.version);
    let (damaged, whole): (Vec<_>, Vec<_>) = others.clone().partition(|v| names_damage(v, seen.inventory()));
    others.all(|v| v.provisioned.is_none())
        && damaged.is_empty()
        && whole.len() <= endpoint.rollout.history_limit
}

/// What a delete must leave of ours: nothing, or the file system.
pub(crate) fn is_deleted(endpoint: &Endpoint, seen: &Observed) -> bool {
    let keeps_data = endpoint.deletion == DeletionPolicy::RetainData
        || matches!(endpoint.file_system, FileSystemRef::Existing(_));
    let are_functions_gone = [&seen.sync, &seen.inference].iter().all(|f| {
        f.function.as_ref().is_ok_and(Remote::is_gone) && f.log_group.as_ref().is_ok_and(Remote::is_gone)
    });
    are_functions_gone
        && are_events_right(&Desired::of(endpoint), seen)
        && seen.access_point.as_ref().is_ok_and(Remote::is_gone)
        && (keeps_data || seen.file_system.as_ref().is_ok_and(Remote::is_gone))
}

/// The function that a step writes to.
#[expect(clippy::wildcard_enum_match_arm, reason = "the steps of functions are named, the rest has none")]
fn function_of(step: &Step) -> Option<&String> {
    match step {
        Step::CreateFunction { name, .. }
        | Step::UpdateFunctionCode { name, .. }
        | Step::UpdateFunctionConfiguration { name, .. }
        | Step::DeleteFunction { name }
        | Step::PutFunctionConcurrency { name, .. }
        | Step::DeleteFunctionConcurrency { name }
        | Step::PublishVersion { name, .. }
        | Step::DeleteVersion { name, .. }
        | Step::PutProvisionedConcurrency { name, .. }
        | Step::DeleteProvisionedConcurrency { name, .. }
        | Step::StartSync { function: name, .. }
        | Step::Collect { function: name, .. }
        | Step::Verify { function: name, .. }
        | Step::CreateAlias { function: name, .. }
        | Step::UpdateAlias { function: name, .. }
        | Step::DeleteAlias { function: name }
        | Step::CreateFunctionUrl { function: name, .. }
        | Step::UpdateFunctionUrl { function: name, .. }
        | Step::DeleteFunctionUrl { function: name }
        | Step::AddPermission { function: name, .. }
        | Step::RemovePermission { function: name, .. } => Some(name),
        _ => None,
    }
}

/// Whether a step writes to something that is not this endpoint's.
#[expect(clippy::wildcard_enum_match_arm, reason = "steps of functions are dealt with before")]
pub(crate) fn touches_foreign(step: &Step, endpoint: &Endpoint, seen: &Observed) -> bool {
    let is_foreign = |f: &ObservedFunction| matches!(f.function, Ok(Remote::Foreign { .. }));
    let is_group_foreign = |f: &ObservedFunction| matches!(f.log_group, Ok(Remote::Foreign { .. }));
    let names = &endpoint.names;
    let of = |name: &String| if *name == names.sync_function { &seen.sync } else { &seen.inference };
    if let Some(name) = function_of(step) {
        return is_foreign(of(name));
    }
    let is_storage_foreign = matches!(endpoint.file_system, FileSystemRef::Existing(_))
        || matches!(seen.file_system, Ok(Remote::Foreign { .. }));
    match step {
        Step::DeleteQueue { url } if url == "https://former" => false,
        Step::CreateQueue { .. } | Step::SetQueuePolicy { .. } | Step::DeleteQueue { .. } => {
            matches!(seen.events.queue, Ok(Remote::Foreign { .. }))
        }
        Step::PutRule { .. }
        | Step::PutTarget { .. }
        | Step::RemoveTargets { .. }
        | Step::DeleteRule { .. } => matches!(seen.events.rule, Ok(Remote::Foreign { .. })),
        // It is added to, by the adapter.
        Step::EnableBucketEvents { .. } => false,
        Step::CreateLogGroup { name, .. }
        | Step::PutRetentionPolicy { name, .. }
        | Step::DeleteLogGroup { name } => {
            let sync = Names::log_group(&names.sync_function);
            is_group_foreign(if *name == sync { &seen.sync } else { &seen.inference })
        }
        Step::CreateAccessPoint { .. } | Step::DeleteAccessPoint { .. } => {
            matches!(seen.access_point, Ok(Remote::Foreign { .. }))
        }
        // File systems and mount targets.
        _ => is_storage_foreign,
    }
}

/// What `foresee` ends with, with what lies on the file system as it was, but for what was copied.
pub(crate) fn foresee_but_for_upkeep(desired: &Desired, seen: &Observed) -> Observed {
    let mut end = foresee(desired, seen).observed;
    let (Ok(Some(before)), Ok(Some(after))) = (&seen.stored, &mut end.stored) else { return end };
    for it in &before.revisions {
        after.revisions.retain(|other| other.revision != it.revision);
        after.revisions.push(it.clone());
    }
    for it in &before.manifests {
        after.manifests.retain(|other| other.manifest != it.manifest);
        after.manifests.push(it.clone());
    }
    end
}

/// The manifests and revisions that a version, `$LATEST` or the spec names.
pub(crate) fn named(endpoint: &Endpoint, seen: &Observed) -> BTreeSet<Digest> {
    let stored = seen.inventory();
    let mut named = BTreeSet::new();
    if let Some(request) = sync_request(&endpoint.models, &seen.sources, stored) {
        named.insert(request.manifest.digest());
        named.extend(request.manifest.models.iter().map(|model| model.revision));
    }
    let functions = seen.versions.iter().flatten().filter_map(|version| version.function.ours());
    for function in functions.chain(seen.inference.function.iter().filter_map(Remote::ours)) {
        let Some(manifest) = function.config.env.get(layout::ENV_MANIFEST) else { continue };
        let manifest: Digest = manifest.parse().unwrap();
        named.insert(manifest);
        let models = stored.iter().flat_map(|all| &all.manifests).filter(|it| it.manifest == manifest);
        named.extend(models.flat_map(|it| &it.models).map(|it| it.revision));
    }
    named
}
