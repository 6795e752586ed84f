//! Plays a plan to its end against what was seen, as if AWS did everything at once and well: what
//! `larder plan` prints. Ids that AWS will choose are written `(new)`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use larder_contract::sync::{ModelReport, ModelState, SyncReport};
use larder_contract::upkeep::{
    CollectRequest, Inventory, NamedRevision, StoredManifest, StoredRevision, Verified,
};
use larder_contract::{Digest, Manifest};

use crate::desired::{Desired, sync_request};
use crate::observed::{
    AccessPoint, Alias, EventRule, FileSystem, Function, FunctionUrl, Health, LastUpdate, LogGroup,
    MountTarget, Observed, ObservedFunction, Package, Provisioned, ProvisionedStatus, Queue, Remote, Smoke,
    Source, Trial, Version,
};
use crate::plan::{Area, BUFFERED, Plans, TARGET, plan, rollout};
use crate::step::Step;

/// All steps to the end, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// The steps, in order.
    pub steps: Vec<(Area, Step)>,
    /// What is left when nothing more can be done: converged, or blocked.
    pub end: Plans,
    /// What AWS then holds.
    pub observed: Observed,
}

/// A create takes about twenty rounds; a plan that needs more than this does not come to an end.
const MAX_ROUNDS: usize = 200;

/// Plays the plan from `observed` to `desired` to its end.
#[must_use]
pub fn foresee(desired: &Desired, observed: &Observed) -> Foreseen {
    foresee_by(desired, observed, |observed| plan(desired, observed))
}

/// Plays what `plan` makes of what is seen to its end.
pub(crate) fn foresee_by(
    desired: &Desired,
    observed: &Observed,
    mut plan: impl FnMut(&Observed) -> Plans,
) -> Foreseen {
    let mut observed = observed.clone();
    let mut steps: Vec<(Area, Step)> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let plans = plan(&observed);
        let now: Vec<(Area, Step)> = plans.steps().map(|(area, step)| (area, step.clone())).collect();
        let before = observed.clone();
        for (_, step) in &now {
            apply(step, &mut observed);
        }
        settle(desired, &mut observed);
        prove(desired, &mut observed);
        steps.extend(now);
        if observed == before {
            break;
        }
    }
    let end = plan(&observed);
    Foreseen { steps, end, observed }
}

/// Writes into `observed` what a step has done whose answer says as much as a read would: CloudWatch Logs has done all
/// of it when it answers. Whether it is such a step.
pub fn take_answer(step: &Step, observed: &mut Observed) -> bool {
    let is_told = matches!(step, Step::CreateLogGroup { .. } | Step::PutRetentionPolicy { .. });
    if is_told {
        apply(step, observed);
    }
    is_told
}

/// The effect of one step, done well.
#[expect(clippy::too_many_lines, reason = "one arm for each step; a table reads best in one piece")]
fn apply(step: &Step, observed: &mut Observed) {
    match step {
        // What is then seen of it is not known yet; what is prepared is not looked at.
        Step::TagResource { .. } | Step::PrepareModels { .. } => {}
        Step::CreateFileSystem { throughput_mode, encrypted, kms_key_id, .. } => {
            let id = "fs-(new)".to_owned();
            let throughput_mode = (*throughput_mode).to_owned();
            let it = FileSystem {
                id,
                throughput_mode,
                is_encrypted: *encrypted,
                kms_key_id: kms_key_id.clone(),
                burst_credits: None,
            };
            observed.file_system = Ok(Remote::Ready(it));
        }
        Step::UpdateFileSystem { throughput_mode, .. } => {
            if let Ok(Remote::Ready(it)) = &mut observed.file_system {
                (*throughput_mode).clone_into(&mut it.throughput_mode);
            }
        }
        Step::DeleteFileSystem { .. } => observed.file_system = Ok(Remote::Absent),
        Step::CreateMountTarget { subnet, zone, security_groups, .. } => {
            if let Ok(mount_targets) = &mut observed.mount_targets {
                mount_targets.push(MountTarget {
                    id: format!("fsmt-(new in {zone})"),
                    subnet: subnet.clone(),
                    zone: zone.clone(),
                    state: "available".to_owned(),
                    security_groups: security_groups.iter().cloned().collect(),
                });
            }
        }
        Step::SetMountTargetSecurityGroups { id, security_groups } => {
            for mt in observed.mount_targets.iter_mut().flatten().filter(|mt| &mt.id == id) {
                mt.security_groups = security_groups.iter().cloned().collect();
            }
        }
        Step::DeleteMountTarget { id } => {
            if let Ok(mount_targets) = &mut observed.mount_targets {
                mount_targets.retain(|mt| &mt.id != id);
            }
        }
        Step::CreateAccessPoint { spec, .. } => {
            let (id, arn) = ("fsap-(new)".to_owned(), "(new access point)".to_owned());
            observed.access_point = Ok(Remote::Ready(AccessPoint::of(spec, id, arn)));
        }
        Step::DeleteAccessPoint { .. } => observed.access_point = Ok(Remote::Absent),
        Step::CreateLogGroup { name, .. } => {
            set_log_group(observed, name, Remote::Ready(LogGroup { retention_days: None }));
        }
        Step::PutRetentionPolicy { name, days } => {
            set_log_group(observed, name, Remote::Ready(LogGroup { retention_days: Some(*days) }));
        }
        Step::DeleteLogGroup { name } => set_log_group(observed, name, Remote::Absent),
        Step::CreateFunction { name, code, architecture, config, .. } => {
            function_mut(observed, name).function = Ok(Remote::Ready(Function {
                name: name.clone(),
                arn: format!("(new function {name})"),
                code_digest: code.digest.clone(),
                code_sha256: match code.package {
                    Package::Image { .. } => String::new(),
                    Package::Zip { .. } => code.digest.clone(),
                },
                architecture: *architecture,
                config: config.clone(),
                last_update: LastUpdate::Successful,
                revision_id: "(new)".to_owned(),
                reserved: None,
                last_modified: String::new(),
                modified: None,
            }));
        }
        Step::UpdateFunctionCode { name, code, architecture, .. } => {
            change(observed, name, |it| {
                it.code_digest.clone_from(&code.digest);
                it.architecture = *architecture;
                it.last_update = LastUpdate::Successful;
            });
        }
        Step::UpdateFunctionConfiguration { name, config, .. } => {
            change(observed, name, |it| {
                it.config = config.clone();
                it.last_update = LastUpdate::Successful;
            });
        }
        Step::DeleteFunction { name } => {
            let is_inference = !is_sync(name);
            function_mut(observed, name).function = Ok(Remote::Absent);
            if is_inference {
                observed.versions = Ok(Vec::new());
            }
        }
        Step::PutFunctionConcurrency { name, reserved } => {
            change(observed, name, |it| it.reserved = Some(*reserved));
        }
        Step::DeleteFunctionConcurrency { name } => change(observed, name, |it| it.reserved = None),
        Step::StartSync { request, .. } => {
            store(observed, &request.manifest);
            observed.sync_report = Ok(Some(SyncReport {
                inventory: None,
                models: request
                    .manifest
                    .models
                    .iter()
                    .map(|m| ModelReport {
                        model: m.name.clone(),
                        revision: m.revision,
                        state: ModelState::Ready,
                        bytes_done: 0,
                        bytes_total: 0,
                        files: 0,
                        files_done: 0,
                        message: String::new(),
                        bytes_per_second: None,
                        remaining_seconds: None,
                        workers: Vec::new(),
                    })
                    .collect(),
                manifest_present: true,
                running: false,
            }));
        }
        Step::Collect { request, .. } => collect(observed, request),
        Step::Verify { request, .. } => {
            for stored in observed.stored.iter_mut().flatten() {
                let now = stored.now;
                for revision in
                    stored.revisions.iter_mut().filter(|it| request.revisions.contains(&it.revision))
                {
                    revision.verified = Some(Verified { at: now, damage: String::new() });
                }
            }
        }
        Step::PublishVersion { .. } => {
            let Ok(Remote::Ready(latest)) = &observed.inference.function else { return };
            let function = Remote::Ready(latest.clone());
            if let Ok(versions) = &mut observed.versions {
                let number = versions.last().map_or(1, |v| v.number + 1);
                versions.push(Version { number, function, provisioned: None });
            }
        }
        Step::DeleteVersion { version, .. } => {
            if let Ok(versions) = &mut observed.versions {
                versions.retain(|v| v.number != *version);
            }
        }
        Step::PutProvisionedConcurrency { version, count, .. } => {
            let (requested, available) = (*count, *count);
            let status = ProvisionedStatus::Ready;
            provision(observed, *version, Some(&Provisioned { requested, available, status, changed: None }));
        }
        Step::DeleteProvisionedConcurrency { version, .. } => provision(observed, *version, None),
        Step::CreateAlias { version, description, .. } => set_alias(observed, *version, None, description),
        Step::UpdateAlias { version, second, description, .. } => {
            set_alias(observed, *version, *second, description);
        }
        Step::DeleteAlias { .. } => {
            observed.alias = Ok(None);
            observed.permissions = Ok(BTreeMap::new());
        }
        Step::CreateFunctionUrl { auth_type, .. } => {
            let (url, auth_type) = ("(new)".to_owned(), (*auth_type).to_owned());
            let invoke_mode = BUFFERED.to_owned();
            observed.url = Ok(Some(FunctionUrl { url, auth_type, invoke_mode, has_cors: false }));
        }
        Step::UpdateFunctionUrl { auth_type, .. } => {
            if let Ok(Some(url)) = &mut observed.url {
                (*auth_type).clone_into(&mut url.auth_type);
                BUFFERED.clone_into(&mut url.invoke_mode);
                url.has_cors = false;
            }
        }
        Step::DeleteFunctionUrl { .. } => observed.url = Ok(None),
        Step::AddPermission { permission, .. } => {
            if let Ok(there) = &mut observed.permissions {
                there.insert(permission.statement().to_owned(), true);
            }
        }
        Step::RemovePermission { statement, .. } => {
            if let Ok(there) = &mut observed.permissions {
                there.remove(statement);
            }
        }
        Step::CreateQueue { name, .. } => {
            let (url, arn) = (format!("(new queue {name})"), format!("(new queue {name})"));
            observed.events.queue = Ok(Remote::Ready(Queue { url, arn, takes_events: false }));
        }
        Step::SetQueuePolicy { .. } => {
            if let Ok(Remote::Ready(queue)) = &mut observed.events.queue {
                queue.takes_events = true;
            }
        }
        Step::DeleteQueue { url } => {
            let is_former = matches!(&observed.events.former, Ok(Some(former)) if former.url == *url);
            if is_former {
                observed.events.former = Ok(None);
            } else {
                observed.events.queue = Ok(Remote::Absent);
            }
        }
        Step::PutRule { pattern, .. } => {
            let targets = match &observed.events.rule {
                Ok(Remote::Ready(rule)) => rule.targets.clone(),
                Ok(_) | Err(_) => BTreeMap::new(),
            };
            let rule = EventRule { pattern: pattern.clone(), is_enabled: true, targets };
            observed.events.rule = Ok(Remote::Ready(rule));
        }
        Step::PutTarget { queue_arn, .. } => {
            if let Ok(Remote::Ready(rule)) = &mut observed.events.rule {
                rule.targets.insert(TARGET.to_owned(), queue_arn.clone());
            }
        }
        Step::RemoveTargets { targets, .. } => {
            if let Ok(Remote::Ready(rule)) = &mut observed.events.rule {
                rule.targets.retain(|id, _| !targets.contains(id));
            }
        }
        Step::DeleteRule { .. } => observed.events.rule = Ok(Remote::Absent),
        Step::EnableBucketEvents { bucket } => {
            observed.events.buckets.insert(bucket.clone(), Ok(true));
        }
    }
}

/// A copy is there.
fn store(observed: &mut Observed, manifest: &Manifest) {
    let Some(stored) = observed.stored.iter_mut().flatten().next() else { return };
    let digest = manifest.digest();
    stored.manifests.retain(|it| it.manifest != digest);
    let models = manifest.models.iter();
    let models = models.map(|it| NamedRevision { model: it.name.clone(), revision: it.revision }).collect();
    stored.manifests.push(StoredManifest { manifest: digest, models, marked: None });
    for model in &manifest.models {
        stored.revisions.retain(|it| it.revision != model.revision);
        stored.revisions.push(StoredRevision {
            revision: model.revision,
            is_complete: true,
            bytes: 0,
            copied: stored.now,
            marked: None,
            verified: None,
            is_verifying: false,
        });
    }
}

fn collect(observed: &mut Observed, request: &CollectRequest) {
    let Some(stored) = observed.stored.iter_mut().flatten().next() else { return };
    let now = stored.now;
    let deletes = |digest: Digest| request.delete.iter().any(|it| it.digest == digest);
    let marked = |digest: Digest, marked: Option<u64>| match marked {
        None if request.mark.contains(&digest) => Some(now),
        Some(_) if request.spare.contains(&digest) => None,
        other => other,
    };
    stored.revisions.retain(|it| !deletes(it.revision));
    stored.manifests.retain(|it| !deletes(it.manifest));
    for it in &mut stored.revisions {
        it.marked = marked(it.revision, it.marked);
    }
    for it in &mut stored.manifests {
        it.marked = marked(it.manifest, it.marked);
    }
    stored.is_deleting = false;
}

/// What waits for AWS comes about.
fn settle(desired: &Desired, observed: &mut Observed) {
    fn settled<T>(remote: &mut Remote<T>) {
        *remote = match std::mem::replace(remote, Remote::Absent) {
            Remote::Pending(it) | Remote::Ready(it) => Remote::Ready(it),
            Remote::Deleting(_) | Remote::Absent => Remote::Absent,
            stays @ (Remote::Failed { .. } | Remote::Foreign { .. }) => stays,
        };
    }
    observed.file_system.iter_mut().for_each(settled);
    observed.access_point.iter_mut().for_each(settled);
    for seen in [&mut observed.sync, &mut observed.inference] {
        seen.function.iter_mut().for_each(settled);
        if let Ok(Remote::Ready(it)) = &mut seen.function
            && it.last_update == LastUpdate::InProgress
        {
            it.last_update = LastUpdate::Successful;
        }
    }
    if let Ok(mount_targets) = &mut observed.mount_targets {
        mount_targets.retain(|mt| !matches!(mt.state.as_str(), "deleting" | "deleted"));
        for mt in mount_targets.iter_mut().filter(|mt| matches!(mt.state.as_str(), "creating" | "updating")) {
            "available".clone_into(&mut mt.state);
        }
    }
    for version in observed.versions.iter_mut().flatten() {
        settled(&mut version.function);
        if let Some(provisioned) = &mut version.provisioned
            && provisioned.status == ProvisionedStatus::InProgress
        {
            provisioned.status = ProvisionedStatus::Ready;
            provisioned.available = provisioned.requested;
        }
    }
    // The status names what is to come.
    observed.events.is_announced = true;
    // A source that settles is listed once it has.
    for source in observed.sources.values_mut() {
        if let Ok(Source::Found { listed, .. }) = source {
            *listed = Timestamp::MAX;
        }
    }
    // The model-sync function can be asked once it is there.
    let is_there = matches!(observed.sync.function, Ok(Remote::Ready(_)));
    match &mut observed.sync_report {
        Ok(None) if is_there => {
            observed.sync_report = Ok(Some(SyncReport::default()));
            if observed.stored == Ok(None) {
                observed.stored = Ok(Some(Inventory::default()));
            }
        }
        Ok(Some(report)) if report.running => {
            report.running = false;
            report.manifest_present = true;
            let copied = sync_request(&desired.models, &observed.sources, observed.inventory());
            if let Some(copied) = copied {
                store(observed, &copied.manifest);
            }
        }
        Ok(_) | Err(_) => {}
    }
}

/// A new version answers well, and the time of its steps passes.
fn prove(desired: &Desired, observed: &mut Observed) {
    let asked = rollout::questions(desired, observed);
    let judged = asked.health.map(|(version, _)| version).or(asked.alarms);
    let health = judged.map(|version| Health {
        version,
        invocations: 0,
        errors: 0,
        p99_milliseconds: None,
        alarms_on: Vec::new(),
    });
    observed.trial =
        Trial { smoke: Ok(asked.smoke.map(|version| Smoke { version, fault: None })), health: Ok(health) };
    if let Some(until) = rollout::waits_until(desired, observed) {
        observed.at = observed.at.max(until);
    }
}

fn set_alias(observed: &mut Observed, version: u64, second: Option<(u64, u8)>, description: &str) {
    let (description, revision_id) = (description.to_owned(), "(new)".to_owned());
    observed.alias = Ok(Some(Alias { version, second, description, revision_id }));
}

fn is_sync(name: &str) -> bool {
    name.ends_with("-sync")
}

fn function_mut<'a>(observed: &'a mut Observed, name: &str) -> &'a mut ObservedFunction {
    if is_sync(name) { &mut observed.sync } else { &mut observed.inference }
}

fn set_log_group(observed: &mut Observed, name: &str, group: Remote<LogGroup>) {
    function_mut(observed, name).log_group = Ok(group);
}

fn change(observed: &mut Observed, name: &str, with: impl FnOnce(&mut Function)) {
    if let Ok(Remote::Ready(it)) = &mut function_mut(observed, name).function {
        with(it);
    }
}

fn provision(observed: &mut Observed, number: u64, provisioned: Option<&Provisioned>) {
    for version in observed.versions.iter_mut().flatten().filter(|v| v.number == number) {
        version.provisioned = provisioned.cloned();
    }
}
