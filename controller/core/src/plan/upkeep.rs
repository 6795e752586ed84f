//! What nobody needs any more on the file system, and whether what is needed is still what was copied.
//!
//! Nothing is done while anything else is: only a converged endpoint shows all that it needs. What is not needed
//! is marked, and deleted when the mark is old enough; a deletion names its mark, so that it does nothing when the
//! revision is needed again by then.

use std::collections::BTreeSet;
use std::time::Duration;

use larder_contract::upkeep::{CollectRequest, Inventory, Marked, StoredRevision, VerifyRequest};
use larder_contract::{Digest, layout};

use super::{Plan, Plans, Reason, either};
use crate::desired::{Desired, Want, is_damaged, sync_request};
use crate::observed::{Function, Observed};
use crate::retry::Class;
use crate::step::Step;

pub(super) fn plan(desired: &Desired, observed: &Observed, others: &Plans) -> Plan {
    match &desired.sync {
        Want::Leave | Want::Absent => Plan::Converged,
        Want::Present(_) => either(present(desired, observed, others)),
    }
}

fn present(desired: &Desired, observed: &Observed, others: &Plans) -> Result<Plan, Plan> {
    let rest = || waiting(Reason::WaitingForTraffic, "everything else to be as wanted".to_owned());
    let Some(stored) = observed.stored.as_ref().map_err(Plan::from)? else { return Err(rest()) };
    let needed = needed(desired, observed, stored);
    if let Some(damaged) = needed.as_ref().ok().and_then(|needed| damage(stored, needed)) {
        return Err(damaged);
    }
    if !others.is_converged() {
        return Err(rest());
    }
    if !stored.others.is_empty() {
        return Err(Plan::blocked(
            Reason::SharedFolder,
            Class::Invalid,
            format!(
                "the access point's folder is also used by {}, so nothing in it is collected: give each endpoint a storage.efs.accessPoint.path of its own; if that endpoint is gone, delete its file below owners/ in the folder",
                stored.others.join(", ")
            ),
        ));
    }
    let needed = needed?;
    let function = desired.names.sync_function.clone();
    let request = collection(desired, stored, &needed);
    if request != CollectRequest::default() || stored.is_deleting {
        return Ok(Plan::Do(vec![Step::Collect { function, request }]));
    }
    if let Some(verifying) = verifying(stored) {
        return Err(verifying);
    }
    let due = due(desired, stored, &needed);
    Ok(Plan::of(if due.is_empty() {
        Vec::new()
    } else {
        vec![Step::Verify { function, request: VerifyRequest { revisions: due } }]
    }))
}

/// How often a look at the bytes is asked whether it has come to its end.
const LOOK: Duration = Duration::from_secs(30);

/// One look at a time; what it finds is told when it ends.
fn verifying(stored: &Inventory) -> Option<Plan> {
    let revisions = stored.revisions.iter().filter(|it| it.is_verifying);
    let revisions: Vec<String> = revisions.map(|it| it.revision.short()).collect();
    (!revisions.is_empty()).then(|| Plan::Wait {
        reason: Reason::Verifying,
        on: format!("the bytes of revision {} to be read again", revisions.join(", ")),
        after: LOOK,
    })
}

/// It waits for what others are at, and they say when to look again.
fn waiting(reason: Reason, on: String) -> Plan {
    Plan::Wait { reason, on, after: Duration::from_mins(10) }
}

/// What must stay.
struct Needed {
    /// By a published version, `$LATEST` or the spec.
    revisions: BTreeSet<Digest>,
    /// All of these, and what is retained.
    all: BTreeSet<Digest>,
}

/// What must stay, or why that cannot be told.
fn needed(desired: &Desired, observed: &Observed, stored: &Inventory) -> Result<Needed, Plan> {
    let versions = observed.versions.as_ref().map_err(Plan::from)?;
    let latest = observed.inference.function.as_ref().map_err(Plan::from)?;
    let unknown = |what: String| waiting(Reason::Waiting, format!("{what}: until then nothing is collected"));
    let latest = latest.ready().ok_or_else(|| unknown("the function to be ready".to_owned()))?;
    let named = versions.iter().filter_map(|version| version.function.ours()).chain([latest]);
    let named: BTreeSet<Digest> = named.filter_map(manifest_of).collect();
    let mut revisions = BTreeSet::new();
    for manifest in &named {
        let known = stored.manifests.iter().find(|it| it.manifest == *manifest);
        let known = known.ok_or_else(|| {
            unknown(format!("manifest {}, which a version names, to be on the file system", manifest.short()))
        })?;
        revisions.extend(known.models.iter().map(|model| model.revision));
    }
    let wanted = sync_request(&desired.models, &observed.sources, Some(stored));
    let wanted = wanted.ok_or_else(|| unknown("the sources to be listed".to_owned()))?.manifest;
    revisions.extend(wanted.models.iter().map(|model| model.revision));
    let mut all: BTreeSet<Digest> = named.union(&revisions).copied().collect();
    all.insert(wanted.digest());
    for model in &desired.models {
        for revision in retained(desired.retain_revisions, &model.name, stored, &revisions) {
            all.insert(revision);
            // What tells whose it is.
            let names_it = |it: &&larder_contract::upkeep::StoredManifest| {
                it.models.iter().any(|named| named.model == model.name && named.revision == revision)
            };
            all.extend(stored.manifests.iter().find(names_it).map(|it| it.manifest));
        }
    }
    Ok(Needed { revisions, all })
}

/// The manifest that a function is to serve.
fn manifest_of(function: &Function) -> Option<Digest> {
    function.config.env.get(layout::ENV_MANIFEST)?.parse().ok()
}

/// A model's newest revisions that nothing names.
fn retained(most: usize, model: &str, stored: &Inventory, named: &BTreeSet<Digest>) -> Vec<Digest> {
    let of_model: BTreeSet<Digest> = stored
        .manifests
        .iter()
        .flat_map(|it| &it.models)
        .filter(|it| it.model == model && !named.contains(&it.revision))
        .map(|it| it.revision)
        .collect();
    let mut whole: Vec<&StoredRevision> = stored
        .revisions
        .iter()
        .filter(|it| it.is_complete && !is_damaged(it) && of_model.contains(&it.revision))
        .collect();
    whole.sort_by_key(|it| (std::cmp::Reverse(it.copied), it.revision));
    whole.into_iter().take(most).map(|it| it.revision).collect()
}

fn collection(desired: &Desired, stored: &Inventory, needed: &Needed) -> CollectRequest {
    let revisions = stored.revisions.iter().map(|it| (it.revision, it.marked));
    let manifests = stored.manifests.iter().map(|it| (it.manifest, it.marked));
    let mut request = CollectRequest::default();
    for (digest, marked) in revisions.chain(manifests) {
        match (needed.all.contains(&digest), marked) {
            (true, Some(_)) => request.spare.push(digest),
            (false, None) => request.mark.push(digest),
            (false, Some(since)) if stored.now.saturating_sub(since) >= desired.collect_after_seconds => {
                request.delete.push(Marked { digest, since });
            }
            (true, None) | (false, Some(_)) => {}
        }
    }
    request
}

/// What is wrong with a revision that is needed, if anything.
fn damage(stored: &Inventory, needed: &Needed) -> Option<Plan> {
    let damaged =
        stored.revisions.iter().find(|it| is_damaged(it) && needed.revisions.contains(&it.revision))?;
    let what = damaged.verified.as_ref().map_or("", |look| look.damage.as_str());
    Some(Plan::blocked(
        Reason::Damaged,
        Class::Transient,
        format!(
            "revision {} is damaged on the file system: {what}; it is copied again beside it and rolled out, and the damaged one goes with the last version that names it",
            damaged.revision
        ),
    ))
}

/// The needed revisions whose bytes have not been looked at for too long.
fn due(desired: &Desired, stored: &Inventory, needed: &Needed) -> Vec<Digest> {
    let Some(every) = desired.verify_every_seconds else { return Vec::new() };
    let is_due = |it: &&StoredRevision| {
        let last = it.verified.as_ref().map_or(it.copied, |look| look.at.max(it.copied));
        it.is_complete
            && needed.revisions.contains(&it.revision)
            && !is_damaged(it)
            && stored.now.saturating_sub(last) >= every
    };
    stored.revisions.iter().filter(is_due).map(|it| it.revision).collect()
}
