//! Collecting and reading again, as the model-sync function does it: see `functions/model-sync`.

use std::time::Duration;

use larder_contract::Digest;
use larder_contract::upkeep::{
    CollectRequest, Inventory, NamedRevision, StoredManifest, StoredRevision, Verified, VerifyRequest,
};

use super::account::{Account, Folder, Look, Refusal};

/// Seconds since 1970 at the world's beginning.
const BEGINNING: u64 = 1_800_000_000;

/// How long the function takes to read a revision again.
const READING: Duration = Duration::from_secs(20);

impl Folder {
    /// The folder's mark for a name that is as it is shown.
    fn mark_of(&self, digest: Digest) -> Option<u64> {
        self.marks.get(&digest).copied()
    }

    /// Whether a manifest is there whole, and nothing of it is marked or was found damaged.
    pub(super) fn is_served(&self, manifest: &larder_contract::Manifest) -> bool {
        let digest = manifest.digest();
        let is_damaged =
            |revision| self.verified.get(revision).is_some_and(|look: &Verified| !look.damage.is_empty());
        self.manifests.contains_key(&digest.to_string())
            && self.mark_of(digest).is_none()
            && manifest.models.iter().map(|model| &model.revision).all(|revision| {
                self.revisions.contains_key(revision)
                    && self.mark_of(*revision).is_none()
                    && !is_damaged(revision)
            })
    }
}

impl Account {
    fn seconds(&self) -> u64 {
        BEGINNING + self.now.as_secs()
    }

    fn folder_key(&mut self, function: &str) -> Result<Option<(String, String)>, Refusal> {
        let config = self.invoke(function)?.latest.config.clone();
        Ok(self.folder_of(&config))
    }

    /// A synchronous invoke: what there is.
    pub(super) fn inventory(&mut self, function: &str) -> Result<Inventory, Refusal> {
        let folder =
            self.folder_key(function)?.and_then(|key| self.folders.get(&key)).cloned().unwrap_or_default();
        let mut names: Vec<Digest> = folder.revisions.keys().chain(folder.staging.keys()).copied().collect();
        names.sort_unstable();
        names.dedup();
        let revision = |revision: Digest| StoredRevision {
            revision,
            is_complete: folder.revisions.contains_key(&revision),
            bytes: folder.revisions.get(&revision).map_or(0, |(bytes, _)| *bytes),
            copied: folder.copied.get(&revision).copied().unwrap_or_default(),
            marked: folder.mark_of(revision),
            verified: folder.verified.get(&revision).cloned(),
            is_verifying: self.looks.iter().any(|look| look.revision == revision),
        };
        let manifest = |manifest: &larder_contract::Manifest| StoredManifest {
            manifest: manifest.digest(),
            models: manifest
                .models
                .iter()
                .map(|it| NamedRevision { model: it.name.clone(), revision: it.revision })
                .collect(),
            marked: folder.mark_of(manifest.digest()),
        };
        Ok(Inventory {
            now: self.seconds(),
            revisions: names.into_iter().map(revision).collect(),
            manifests: folder.manifests.values().map(manifest).collect(),
            others: Vec::new(),
            used_bytes: folder.revisions.values().map(|(bytes, _)| bytes).sum(),
            freed_bytes: folder.freed,
            is_deleting: false,
        })
    }

    /// A synchronous invoke.
    pub(super) fn collect(&mut self, function: &str, request: &CollectRequest) -> Result<(), Refusal> {
        let now = self.seconds();
        let Some(key) = self.folder_key(function)? else { return Ok(()) };
        let busy: Vec<Digest> = self
            .copies
            .iter()
            .filter(|copy| copy.folder == key)
            .flat_map(|copy| copy.request.manifest.models.iter().map(|model| model.revision))
            .collect();
        let Some(folder) = self.folders.get_mut(&key) else { return Ok(()) };
        for digest in &request.spare {
            folder.marks.remove(digest);
        }
        for digest in &request.mark {
            let is_there = folder.revisions.contains_key(digest)
                || folder.staging.contains_key(digest)
                || folder.manifests.contains_key(&digest.to_string());
            if is_there {
                folder.marks.entry(*digest).or_insert(now);
            }
        }
        for marked in &request.delete {
            let digest = marked.digest;
            if folder.mark_of(digest) != Some(marked.since) || busy.contains(&digest) {
                continue;
            }
            folder.manifests.remove(&digest.to_string());
            folder.freed += folder.revisions.remove(&digest).map_or(0, |(bytes, _)| bytes);
            folder.staging.remove(&digest);
            folder.verified.remove(&digest);
            folder.copied.remove(&digest);
            folder.damaged.remove(&digest);
            folder.marks.remove(&digest);
        }
        Ok(())
    }

    /// The invoke goes on after its caller has given it up, and takes effect later.
    pub(super) fn collect_late(&mut self, at: Duration, function: &str, request: &CollectRequest) {
        self.late.push((at, function.to_owned(), request.clone()));
    }

    /// An asynchronous invoke.
    pub(super) fn start_verify(&mut self, function: &str, request: &VerifyRequest) -> Result<(), Refusal> {
        let Some(folder) = self.folder_key(function)? else { return Ok(()) };
        let mut due = self.now;
        for revision in &request.revisions {
            due += READING;
            if !self.looks.iter().any(|look| look.revision == *revision) {
                self.looks.push(Look { folder: folder.clone(), revision: *revision, due });
            }
        }
        Ok(())
    }

    /// What was begun and is due by now.
    pub(super) fn run_upkeep(&mut self) {
        let now = self.now;
        let at = self.seconds();
        let (due, rest) =
            std::mem::take(&mut self.looks).into_iter().partition(|look: &Look| look.due <= now);
        self.looks = rest;
        for look in due {
            let Some(folder) = self.folders.get_mut(&look.folder) else { continue };
            if folder.revisions.contains_key(&look.revision) {
                let is_damaged = folder.damaged.contains(&look.revision);
                let damage = if is_damaged { "det.onnx: want CRC64NVME 1, have CRC64NVME 2" } else { "" };
                folder.verified.insert(look.revision, Verified { at, damage: damage.to_owned() });
            }
        }
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(due, ..)| *due <= now);
        self.late = rest;
        for (_, function, request) in due {
            // Its function may be gone by now.
            let _ = self.collect(&function, &request);
        }
    }
}
