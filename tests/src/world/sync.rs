//! The model-sync function, as it looks from the outside: it copies while time goes on, its work
//! survives it on the file system, and it can be cut short at any point.

use std::time::Duration;

use larder_contract::Digest;
use larder_contract::sync::{ModelReport, ModelState, SyncReport, SyncRequest};

use super::account::{Account, Copy, Refusal};

/// How long a heartbeat counts as a sign of life.
const FRESH: Duration = Duration::from_secs(10);

impl Account {
    /// An asynchronous invoke: a copy begins.
    pub(super) fn start_sync(&mut self, function: &str, request: &SyncRequest) -> Result<(), Refusal> {
        let now = self.now;
        let config = self.invoke(function)?.latest.config.clone();
        let Some(folder) = self.folder_of(&config) else { return Ok(()) };
        let timeout = Duration::from_secs(u64::try_from(config.timeout_seconds).unwrap_or_default());
        let copy = Copy {
            function: function.to_owned(),
            folder,
            request: request.clone(),
            deadline: now + timeout,
            at: now,
        };
        self.beat(&copy, now);
        self.copies.push(copy);
        Ok(())
    }

    /// A synchronous invoke: how far a request is.
    pub(super) fn sync_report(
        &mut self,
        function: &str,
        request: &SyncRequest,
    ) -> Result<SyncReport, Refusal> {
        let now = self.now;
        let config = self.invoke(function)?.latest.config.clone();
        let folder =
            self.folder_of(&config).and_then(|key| self.folders.get(&key)).cloned().unwrap_or_default();
        let is_running =
            |revision: &Digest| folder.heartbeats.get(revision).is_some_and(|beat| *beat + FRESH > now);
        let model = |model: &larder_contract::ManifestModel| {
            let revision = model.revision;
            let mut report = ModelReport {
                model: model.name.clone(),
                revision,
                state: ModelState::Pending,
                bytes_done: 0,
                bytes_total: 0,
                files: 0,
                message: String::new(),
                workers: Vec::new(),
            };
            if let Some((bytes, files)) = folder.revisions.get(&revision) {
                report.state = ModelState::Ready;
                (report.bytes_done, report.bytes_total, report.files) = (*bytes, *bytes, *files);
            } else if let Some((state, message)) =
                folder.failures.get(&revision).filter(|_| !is_running(&revision))
            {
                report.state = *state;
                report.message.clone_from(message);
            } else if is_running(&revision) || folder.staging.contains_key(&revision) {
                report.state = ModelState::Syncing;
                report.bytes_done = folder.staging.get(&revision).copied().unwrap_or_default();
            }
            report
        };
        let models = &request.manifest.models;
        Ok(SyncReport {
            models: models.iter().map(model).collect(),
            manifest_present: folder.is_served(&request.manifest),
            running: models.iter().any(|model| is_running(&model.revision)),
        })
    }

    fn beat(&mut self, copy: &Copy, at: Duration) {
        let Some(folder) = self.folders.get_mut(&copy.folder) else { return };
        for model in &copy.request.manifest.models {
            folder.heartbeats.insert(model.revision, at);
            folder.failures.remove(&model.revision);
        }
    }

    /// Copies go on until now.
    pub(super) fn run_copies(&mut self) {
        let copies = std::mem::take(&mut self.copies);
        for mut copy in copies {
            if self.run_copy(&mut copy) {
                self.copies.push(copy);
            }
        }
    }

    /// Whether there is more to do.
    fn run_copy(&mut self, copy: &mut Copy) -> bool {
        let until = self.now.min(copy.deadline);
        let millis = until.saturating_sub(copy.at).as_millis();
        // Bytes that this time allows.
        let mut budget = u64::try_from(millis * u128::from(self.delays.copy_rate) / 1000).unwrap_or(u64::MAX);
        copy.at = until;
        self.beat(copy, until);
        for model in copy.request.manifest.models.clone() {
            let source = copy.request.sources.iter().find(|source| source.model == model.name);
            let found = source.and_then(|source| self.revision_at(&source.source));
            let failure = self.broken.copy.clone();
            let Some(folder) = self.folders.get_mut(&copy.folder) else { return false };
            if folder.revisions.contains_key(&model.revision) {
                continue;
            }
            let failed = match (failure, found) {
                (Some(message), _) => Some((ModelState::Failed, message)),
                (None, Some((revision, ..))) if revision == model.content() => None,
                (None, _) => Some((ModelState::SourceChanged, "the source holds other content".to_owned())),
            };
            if let Some(failed) = failed {
                folder.failures.insert(model.revision, failed);
                folder.heartbeats.remove(&model.revision);
                self.end(copy);
                return false;
            }
            let (_, bytes, files) = found.unwrap_or((model.revision, 0, 0));
            let done = folder.staging.entry(model.revision).or_default();
            let step = budget.min(bytes - *done);
            *done += step;
            budget -= step;
            if *done < bytes {
                return until < copy.deadline;
            }
            folder.staging.remove(&model.revision);
            folder.revisions.insert(model.revision, (bytes, files));
            folder.copied.insert(model.revision, 1_800_000_000 + until.as_secs());
        }
        let manifest = &copy.request.manifest;
        if let Some(folder) = self.folders.get_mut(&copy.folder) {
            folder.manifests.insert(manifest.digest().to_string(), manifest.clone());
            folder.marks.remove(&manifest.digest());
            folder.marks.retain(|marked, _| !manifest.models.iter().any(|model| model.revision == *marked));
        }
        self.end(copy);
        false
    }

    /// A copy that ends by itself takes its heartbeats along.
    fn end(&mut self, copy: &Copy) {
        let Some(folder) = self.folders.get_mut(&copy.folder) else { return };
        for model in &copy.request.manifest.models {
            folder.heartbeats.remove(&model.revision);
        }
    }
}
