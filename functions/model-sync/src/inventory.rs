//! What lies on the file system, for the controller. Reads names and small files only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use larder_contract::upkeep::{Inventory, MAX_LISTED, NamedRevision, StoredManifest, StoredRevision};
use larder_contract::{Digest, Manifest, layout};

use crate::collect::{all_prepared, is_deleting, usage};
use crate::reverify;
use crate::store::{self, marks};

/// Seconds since 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Looks at everything below `root`.
#[must_use]
pub fn inventory(root: &Path, owner: Option<&str>, now: SystemTime) -> Inventory {
    let marks = marks::all_marks(root);
    let manifests = manifests(root, &marks);
    let usage = usage(root);
    Inventory {
        now: seconds(now),
        revisions: revisions(root, &marks, &manifests, now),
        manifests,
        others: owner.map(|owner| marks::others(root, owner)).unwrap_or_default(),
        used_bytes: usage.used_bytes,
        freed_bytes: usage.freed_bytes,
        is_deleting: is_deleting(root),
    }
}

fn manifests(root: &Path, marks: &BTreeMap<Digest, u64>) -> Vec<StoredManifest> {
    let names = store::named_by_digest(&root.join("manifests"), ".json").into_iter();
    names
        .filter_map(|manifest| {
            let text = fs::read(layout::manifest_path(root, &manifest)).ok()?;
            let read: Manifest = serde_json::from_slice(&text).ok()?;
            let models = read.models.into_iter();
            let models =
                models.map(|model| NamedRevision { model: model.name, revision: model.revision }).collect();
            Some(StoredManifest { manifest, models, marked: marks.get(&manifest).copied() })
        })
        .take(MAX_LISTED)
        .collect()
}

fn revisions(
    root: &Path,
    marks: &BTreeMap<Digest, u64>,
    manifests: &[StoredManifest],
    now: SystemTime,
) -> Vec<StoredRevision> {
    let complete: BTreeSet<Digest> =
        store::named_by_digest(&root.join("revisions"), "").into_iter().collect();
    let mut all = complete.clone();
    all.extend(store::named_by_digest(&root.join("staging"), ""));
    all.extend(all_prepared(root).into_iter().map(|(revision, _)| revision));
    // A mark whose revision went, and that was to go after it.
    all.extend(marks.keys().filter(|digest| !manifests.iter().any(|it| it.manifest == **digest)));
    all.into_iter()
        .take(MAX_LISTED)
        .map(|revision| {
            let is_complete = complete.contains(&revision);
            let bytes = if is_complete {
                store::size(root, &revision).map_or(0, |size| size.bytes)
            } else {
                store::progress(root, &revision).map_or(0, |(_, done)| done.bytes())
            };
            StoredRevision {
                revision,
                is_complete,
                bytes,
                copied: store::copied(root, &revision).map_or(0, seconds),
                marked: marks.get(&revision).copied(),
                verified: reverify::verified(root, &revision),
                is_verifying: reverify::is_verifying(root, &revision, now),
            }
        })
        .collect()
}
