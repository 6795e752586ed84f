//! File system, one mount target in each zone, and the access point.

use std::collections::BTreeMap;

use super::adopt::foreign;
use super::{Plan, Reason, either, fixed};
use crate::desired::{Desired, Want};
use crate::endpoint::{FileSystemRef, ThroughputMode};
use crate::observed::{AccessPoint, FileSystem, MountTarget, Observed, Remote, Subnet};
use crate::retry::Class;
use crate::step::{Step, Tagged};

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let file_system = match &desired.file_system {
        Want::Present(wanted) => return either(present(desired, wanted, observed)),
        Want::Absent => true,
        Want::Leave => false,
    };
    either(absent(desired, file_system, observed))
}

/// EFS's word for a throughput mode.
const fn mode_name(mode: ThroughputMode) -> &'static str {
    match mode {
        ThroughputMode::Elastic => "elastic",
        ThroughputMode::Bursting => "bursting",
    }
}

fn present(desired: &Desired, wanted: &FileSystemRef, observed: &Observed) -> Result<Plan, Plan> {
    let file_system = available_file_system(desired, wanted, observed)?;
    let mut steps = Vec::new();
    let zones = zones(desired, observed)?;
    let mount_targets = observed.mount_targets.as_ref().map_err(Plan::from)?;
    let mut waiting = Vec::new();
    for (zone, subnet) in &zones {
        match mount_targets.iter().find(|mt| &mt.zone == zone && mt.state != "deleted") {
            None if matches!(wanted, FileSystemRef::Existing(_)) => {
                return Err(Plan::blocked(
                    Reason::MountTargetMissing,
                    Class::NotFound,
                    format!(
                        "file system {} has no mount target in zone {zone} (subnet {subnet}): create one there, or take the subnet out of spec.network.subnetIds",
                        file_system.id
                    ),
                ));
            }
            None => steps.push(Step::CreateMountTarget {
                file_system: file_system.id.clone(),
                subnet: subnet.clone(),
                zone: zone.clone(),
                security_groups: desired.security_groups.iter().cloned().collect(),
            }),
            Some(mt) if mt.state == "error" => {
                return Err(Plan::Retry {
                    steps: match wanted {
                        FileSystemRef::Managed { .. } => vec![Step::DeleteMountTarget { id: mt.id.clone() }],
                        FileSystemRef::Existing(_) => Vec::new(),
                    },
                    reason: Reason::MountTargetFailed,
                    message: format!("mount target {} in zone {zone} is in state error", mt.id),
                });
            }
            Some(mt) if mt.state != "available" => {
                waiting.push(format!("mount target {} in {zone} ({})", mt.id, mt.state));
            }
            Some(mt) => {
                let is_ours = matches!(wanted, FileSystemRef::Managed { .. });
                if is_ours && mt.security_groups != desired.security_groups {
                    steps.push(Step::SetMountTargetSecurityGroups {
                        id: mt.id.clone(),
                        security_groups: desired.security_groups.iter().cloned().collect(),
                    });
                }
            }
        }
    }
    if matches!(wanted, FileSystemRef::Managed { .. }) && functions_use_only(desired, observed) {
        let surplus =
            mount_targets.iter().filter(|mt| !zones.contains_key(&mt.zone) && mt.state == "available");
        steps.extend(surplus.map(|mt| Step::DeleteMountTarget { id: mt.id.clone() }));
    }
    match (&desired.access_point, observed.access_point.as_ref().map_err(Plan::from)?) {
        (Want::Present(spec), Remote::Absent) => steps.push(Step::CreateAccessPoint {
            token: desired.names.access_point.clone(),
            owner: desired.names.owner.clone(),
            file_system: file_system.id.clone(),
            spec: spec.clone(),
        }),
        (Want::Present(_), Remote::Pending(ap) | Remote::Deleting(ap)) => {
            waiting.push(format!("access point {}", ap.id));
        }
        (Want::Present(_), Remote::Failed { it, reason }) => {
            return Err(Plan::Retry {
                steps: vec![Step::DeleteAccessPoint { id: it.id.clone() }],
                reason: Reason::FileSystemFailed,
                message: format!("access point {} failed: {reason}", it.id),
            });
        }
        (Want::Present(_), Remote::Foreign { owner, id }) => {
            let resource = format!("access point with token {}", desired.names.access_point);
            return Err(foreign(desired, observed, Tagged::AccessPoint, &resource, (owner, id)));
        }
        (Want::Present(spec), Remote::Ready(it)) => fixed::is_as_made(spec, it)?,
        (Want::Absent | Want::Leave, _) => {}
    }
    // Last: AWS may refuse it for hours, and nothing else waits for it.
    if let FileSystemRef::Managed { mode, .. } = wanted
        && file_system.throughput_mode != mode_name(*mode)
    {
        let id = file_system.id.clone();
        steps.push(Step::UpdateFileSystem { id, throughput_mode: mode_name(*mode) });
    }
    if steps.is_empty() && !waiting.is_empty() {
        return Err(Plan::wait(Reason::Waiting, waiting.join(", ")));
    }
    Ok(Plan::of(steps))
}

fn available_file_system<'a>(
    desired: &Desired,
    wanted: &FileSystemRef,
    observed: &'a Observed,
) -> Result<&'a FileSystem, Plan> {
    let seen = observed.file_system.as_ref().map_err(Plan::from)?;
    match (seen, wanted) {
        (Remote::Ready(it), FileSystemRef::Managed { encrypted, kms_key_id, .. }) => {
            fixed::is_encrypted_so(*encrypted, kms_key_id.as_deref(), it)?;
            Ok(it)
        }
        (Remote::Ready(it), FileSystemRef::Existing(_)) => Ok(it),
        (Remote::Pending(it) | Remote::Deleting(it), _) => {
            Err(Plan::wait(Reason::Waiting, format!("file system {} to be available", it.id)))
        }
        (Remote::Failed { it, reason }, _) => Err(Plan::blocked(
            Reason::FileSystemFailed,
            Class::Invalid,
            format!(
                "file system {} is in state error: {reason}; delete it, and set annotation {}: {} to have an empty one made",
                it.id,
                larder_crds::RECREATE_FILE_SYSTEM,
                it.id
            ),
        )),
        (Remote::Foreign { owner, id }, _) => {
            let resource = format!("file system with token {}", desired.names.file_system);
            Err(foreign(desired, observed, Tagged::FileSystem, &resource, (owner, id)))
        }
        (Remote::Absent, FileSystemRef::Existing(id)) => Err(Plan::blocked(
            Reason::FileSystemNotFound,
            Class::NotFound,
            format!("file system {id} does not exist in this region: correct spec.storage.efs.fileSystemId"),
        )),
        (Remote::Absent, FileSystemRef::Managed { mode, encrypted, kms_key_id }) => {
            lost(desired, observed)?;
            Err(Plan::Do(vec![Step::CreateFileSystem {
                token: desired.names.file_system.clone(),
                owner: desired.names.owner.clone(),
                throughput_mode: mode_name(*mode),
                encrypted: *encrypted,
                kms_key_id: kms_key_id.clone(),
            }]))
        }
    }
}

/// A file system that was there has taken data along: an empty one in its place is for people to decide.
fn lost(desired: &Desired, observed: &Observed) -> Result<(), Plan> {
    match &observed.known_file_system {
        Some(id) if desired.recreate_file_system.as_ref() != Some(id) => Err(Plan::blocked(
            Reason::FileSystemNotFound,
            Class::NotFound,
            format!(
                "file system {id} is gone, with what was on it, and Larder did not delete it: set annotation {}: {id} to have an empty one made and the models copied again; or restore a backup, and write its id in storage.efs.fileSystemId of a new InferenceEndpoint",
                larder_crds::RECREATE_FILE_SYSTEM
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// The zones of the wanted subnets, each with the subnet that its mount target goes to: two subnets of
/// one zone share one mount target (`CreateMountTarget`).
fn zones(desired: &Desired, observed: &Observed) -> Result<BTreeMap<String, String>, Plan> {
    let subnets: Vec<&Subnet> = observed.subnets.as_ref().map_err(Plan::from)?.iter().collect();
    if let Some(missing) = desired.subnets.iter().find(|id| !subnets.iter().any(|s| &s.id == *id)) {
        return Err(Plan::blocked(
            Reason::SubnetsInvalid,
            Class::NotFound,
            format!("subnet {missing} does not exist in this region: correct spec.network.subnetIds"),
        ));
    }
    let mut zones = BTreeMap::new();
    for subnet in &subnets {
        if subnet.vpc != subnets[0].vpc {
            return Err(Plan::blocked(
                Reason::SubnetsInvalid,
                Class::Invalid,
                format!(
                    "subnets {} and {} are in different VPCs ({}, {}): write subnets of one VPC in spec.network.subnetIds",
                    subnets[0].id, subnet.id, subnets[0].vpc, subnet.vpc
                ),
            ));
        }
        let chosen = zones.entry(subnet.zone.clone()).or_insert_with(|| subnet.id.clone());
        if subnet.id < *chosen {
            chosen.clone_from(&subnet.id);
        }
    }
    Ok(zones)
}

/// No function, nor version that takes requests or may be gone back to, is in a subnet that is no longer wanted.
fn functions_use_only(desired: &Desired, observed: &Observed) -> bool {
    // What bears another's tag may be about to be taken over, and serves from where it is.
    let within = |seen: &Remote<crate::observed::Function>| {
        !matches!(seen, Remote::Foreign { .. })
            && seen.ours().is_none_or(|f| f.config.subnets.is_subset(&desired.subnets))
    };
    let functions = [&observed.sync.function, &observed.inference.function];
    let (Ok(versions), Ok(alias)) = (&observed.versions, &observed.alias) else { return false };
    // A serving version that a lagging list leaves out is not known to be within.
    let serving = alias.iter().flat_map(|a| [Some(a.version), a.second.map(|(second, _)| second)]).flatten();
    let mut serving = serving.map(|number| versions.iter().any(|version| version.number == number));
    functions.iter().all(|read| read.as_ref().is_ok_and(within))
        && versions.iter().all(|version| within(&version.function))
        && serving.all(|is_known| is_known)
}

/// The access point, once functions can mount it: `CreateFunction` demands an available mount target in
/// every zone of the function's subnets.
pub(super) fn mountable<'a>(desired: &Desired, observed: &'a Observed) -> Result<&'a AccessPoint, Plan> {
    let not_yet = || Plan::wait(Reason::WaitingForStorage, "storage to be ready");
    let (Ok(file_system), Ok(mount_targets), Ok(access_point)) =
        (&observed.file_system, &observed.mount_targets, &observed.access_point)
    else {
        return Err(not_yet());
    };
    file_system.ready().ok_or_else(not_yet)?;
    let zones = zones(desired, observed).map_err(|_| not_yet())?;
    let is_available =
        |zone: &String| mount_targets.iter().any(|mt| &mt.zone == zone && mt.state == "available");
    if !zones.keys().all(is_available) {
        return Err(not_yet());
    }
    access_point.ready().ok_or_else(not_yet)
}

/// Access point, then mount targets, then the file system, each only when the one before is gone.
fn absent(desired: &Desired, file_system_too: bool, observed: &Observed) -> Result<Plan, Plan> {
    if desired.access_point == Want::Leave {
        return Ok(Plan::Converged);
    }
    let functions = [&observed.sync.function, &observed.inference.function];
    for function in functions {
        if !function.as_ref().map_err(Plan::from)?.is_gone() {
            return Err(Plan::wait(Reason::WaitingForDeletion, "the functions to be deleted"));
        }
    }
    match observed.access_point.as_ref().map_err(Plan::from)? {
        Remote::Ready(ap) | Remote::Failed { it: ap, .. } | Remote::Pending(ap) => {
            return Ok(Plan::Do(vec![Step::DeleteAccessPoint { id: ap.id.clone() }]));
        }
        Remote::Deleting(ap) => {
            return Err(Plan::wait(Reason::WaitingForDeletion, format!("access point {} to be gone", ap.id)));
        }
        Remote::Absent | Remote::Foreign { .. } => {}
    }
    if !file_system_too {
        return Ok(Plan::Converged);
    }
    let file_system = match observed.file_system.as_ref().map_err(Plan::from)? {
        Remote::Absent | Remote::Foreign { .. } => return Ok(Plan::Converged),
        Remote::Deleting(it) => {
            return Err(Plan::wait(Reason::WaitingForDeletion, format!("file system {} to be gone", it.id)));
        }
        // `DeleteFileSystem` of one that is still creating is refused.
        Remote::Pending(it) => {
            return Err(Plan::wait(
                Reason::WaitingForDeletion,
                format!("file system {} to settle before it is deleted", it.id),
            ));
        }
        Remote::Ready(it) | Remote::Failed { it, .. } => it,
    };
    let there: Vec<&MountTarget> = observed
        .mount_targets
        .as_ref()
        .map_err(Plan::from)?
        .iter()
        .filter(|mt| mt.state != "deleted")
        .collect();
    unused(desired, &file_system.id, &there, observed)?;
    if there.is_empty() {
        return Ok(Plan::Do(vec![Step::DeleteFileSystem { id: file_system.id.clone() }]));
    }
    let steps: Vec<Step> = there
        .iter()
        .filter(|mt| matches!(mt.state.as_str(), "available" | "error"))
        .map(|mt| Step::DeleteMountTarget { id: mt.id.clone() })
        .collect();
    if steps.is_empty() {
        let ids: Vec<&str> = there.iter().map(|mt| mt.id.as_str()).collect();
        let on = format!("mount targets {} to be gone", ids.join(", "));
        return Err(Plan::wait(Reason::WaitingForDeletion, on));
    }
    Ok(Plan::Do(steps))
}

/// That nobody else has made themselves a way to the file system. A mount target bears no tag: ours are in the
/// subnets of the spec, or have its security groups, where the subnets were others before.
fn unused(desired: &Desired, id: &str, there: &[&MountTarget], observed: &Observed) -> Result<(), Plan> {
    let is_ours = |mt: &MountTarget| {
        mt.state != "available"
            || desired.subnets.contains(&mt.subnet)
            || mt.security_groups == desired.security_groups
    };
    let points = observed.other_access_points.as_ref().map_err(Plan::from)?;
    let points = points.iter().map(|id| format!("access point {id}"));
    let targets = there.iter().filter(|mt| !is_ours(mt));
    let targets = targets.map(|mt| format!("mount target {} in {}", mt.id, mt.subnet));
    let others: Vec<String> = points.chain(targets).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Plan::blocked(
        Reason::InUse,
        Class::Invalid,
        format!(
            "file system {id} is not deleted, since others have made {}: delete that, or keep the file system with spec.deletionPolicy: RetainData",
            others.join(", ")
        ),
    ))
}
