//! The file system, and what is on it.

use jiff::Timestamp;
use larder_contract::upkeep::Inventory;
use larder_crds::status::{
    CollectableStatus, InferenceEndpointStatus, ModelStatus, MountTargetStatus, StorageStatus,
};

use super::details::signed;
use crate::endpoint::{Endpoint, FileSystemRef};
use crate::observed::{Observed, Remote};

/// So many marked revisions are shown.
const SHOWN: usize = 20;

pub(super) fn storage(
    endpoint: &Endpoint,
    observed: &Observed,
    previous: &InferenceEndpointStatus,
) -> Option<StorageStatus> {
    let Some(file_system) = observed.file_system.as_ref().ok()?.ours() else {
        // What is gone goes on being named, or it would be made anew, empty.
        let known = observed.known_file_system.clone().filter(|_| !endpoint.deleting)?;
        return Some(StorageStatus { file_system_id: Some(known), ..StorageStatus::default() });
    };
    let mut mount_targets: Vec<MountTargetStatus> = observed
        .mount_targets
        .as_ref()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|mt| MountTargetStatus { zone: mt.zone.clone(), id: mt.id.clone(), state: mt.state.clone() })
        .collect();
    // The list is a map by zone. EFS has one mount target a zone, but one may go while another comes.
    mount_targets.sort_by(|a, b| a.zone.cmp(&b.zone).then(a.state.cmp(&b.state)));
    mount_targets.dedup_by(|a, b| a.zone == b.zone);
    let before = previous.storage.clone().unwrap_or_default();
    let (used_bytes, freed_bytes, collectable) = match observed.inventory() {
        Some(stored) => {
            (Some(signed(stored.used_bytes)), Some(signed(stored.freed_bytes)), collectable(stored))
        }
        None => (before.used_bytes, before.freed_bytes, before.collectable),
    };
    let access_point = observed.access_point.as_ref().ok().and_then(Remote::ours);
    Some(StorageStatus {
        file_system_id: Some(file_system.id.clone()),
        access_point_arn: access_point.map(|ap| ap.arn.clone()),
        throughput_mode: Some(file_system.throughput_mode.clone()),
        burst_credit_balance: file_system.burst_credits.map(signed),
        mount_targets,
        used_bytes,
        freed_bytes,
        collectable,
    })
}

/// So many sandboxes may start at once where no concurrency is reserved.
const STARTS: i64 = 100;

/// About a tenth of what a new file system has, bytes.
const TENTH: i64 = 200 << 30;

/// That the burst credits left do not suffice for as many sandboxes to load the models as may start at once, in words.
/// More than a tenth of what a new file system has is always enough.
///
/// <https://docs.aws.amazon.com/efs/latest/ug/performance.html>
pub(super) fn low_credits(
    endpoint: &Endpoint,
    storage: Option<&StorageStatus>,
    models: &[ModelStatus],
) -> Option<String> {
    let storage = storage.filter(|_| !endpoint.deleting)?;
    let left = storage.burst_credit_balance?;
    let starts = endpoint.reserved.map_or(STARTS, i64::from);
    let all = models.iter().map(|model| model.bytes).sum::<i64>().saturating_mul(starts);
    if left >= all.min(TENTH) {
        return None;
    }
    let mend = match endpoint.file_system {
        FileSystemRef::Managed { .. } => "set storage.efs.managed.throughput.mode: Elastic",
        FileSystemRef::Existing(_) => "change its throughput mode to elastic",
    };
    Some(format!(
        "file system {} has {} of burst credits left, and {starts} sandboxes that start at once read {}; without credits it is only as fast as its size lets it be, and sandboxes start slowly or not at all: {mend}, or wait for credits to grow",
        storage.file_system_id.as_deref().unwrap_or_default(),
        size(left),
        size(all)
    ))
}

/// The marked revisions, those that go first before the others. Manifests are too small to speak of.
fn collectable(stored: &Inventory) -> Vec<CollectableStatus> {
    let marked = stored.revisions.iter().filter_map(|it| Some((it.marked?, it.revision, it.bytes)));
    let mut marked: Vec<_> = marked.collect();
    marked.sort_unstable();
    let show = |(since, revision, bytes): (u64, larder_contract::Digest, u64)| CollectableStatus {
        digest: revision.to_string(),
        bytes: signed(bytes),
        since: time(since).unwrap_or_default(),
    };
    marked.into_iter().take(SHOWN).map(show).collect()
}

/// Seconds since 1970, as RFC 3339.
pub(super) fn time(seconds: u64) -> Option<String> {
    Some(Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}

/// What the models take, for the columns: `1.2 GiB`, and what is marked.
pub(super) fn in_words(storage: Option<&StorageStatus>) -> Option<String> {
    let storage = storage?;
    let used = size(storage.used_bytes?);
    Some(match storage.collectable.len() {
        0 => used,
        marked => format!("{used}, {marked} to go"),
    })
}

/// Bytes for people, in binary units with one decimal.
#[must_use]
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut tenths, mut unit) = (u128::from(bytes.unsigned_abs()) * 10, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    if unit == 0 {
        format!("{} B", tenths / 10)
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (62_914_560, "60.0 MiB"),
            (i64::MAX, "8191.9 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
