//! The model-sync function, as it looks from the outside: it copies while time goes on, its work
//! survives it on the file system, and it can be cut short at any point.

use std::time::Duration;

use larder_contract::sync::{ModelReport, ModelState, SyncReport, SyncRequest, WorkerReport, WorkerState};
use larder_contract::{Digest, Worker};

use super::account::{Account, Copy, Folder, Refusal, Share};

/// How long a heartbeat counts as a sign of life.
const FRESH: Duration = Duration::from_secs(10);

impl Account {
    /// An asynchronous invoke: a copy begins.
    pub(super) fn start_sync(&mut self, function: &str, request: &SyncRequest) -> Result<(), Refusal> {
        let now = self.now;
        let config = self.invoke(function)?.latest.config.clone();
        let Some(folder) = self.folder_of(&config) else { return Ok(()) };
        let timeout = Duration::from_secs(u64::try_from(config.timeout_seconds).unwrap_or_default());
        // A second delivery of a share that is at work finds it taken, and leaves.
        let is_taken = |copy: &Copy| {
            copy.folder == folder && copy.request.worker == request.worker && copy.deadline > now
        };
        if request.worker.is_some() && self.copies.iter().any(is_taken) {
            return Ok(());
        }
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
        let (now, inventory) = (self.now, self.inventory(function)?);
        let config = self.invoke(function)?.latest.config.clone();
        let folder =
            self.folder_of(&config).and_then(|key| self.folders.get(&key)).cloned().unwrap_or_default();
        let is_running = |revision: &Digest| {
            let alone = folder.heartbeats.get(revision).is_some_and(|beat| *beat + FRESH > now);
            alone || folder.shares.get(revision).is_some_and(|shares| is_shared_now(shares, now))
        };
        let models = &request.manifest.models;
        let is_served = folder.is_served(&request.manifest);
        let is_at_work = models.iter().any(|model| is_running(&model.revision));
        let model = |model: &larder_contract::ManifestModel| {
            let revision = model.revision;
            let mut report = ModelReport {
                model: model.name.clone(),
                revision,
                state: ModelState::Pending,
                bytes_done: 0,
                bytes_total: 0,
                files: 0,
                files_done: 0,
                message: String::new(),
                bytes_per_second: None,
                remaining_seconds: None,
                workers: Vec::new(),
            };
            if let Some((bytes, files)) = folder.revisions.get(&revision) {
                report.state = ModelState::Ready;
                (report.bytes_done, report.bytes_total, report.files) = (*bytes, *bytes, *files);
                report.files_done = *files;
            } else if let Some((state, message)) =
                folder.failures.get(&revision).filter(|_| !is_running(&revision))
            {
                report.state = *state;
                report.message.clone_from(message);
            } else if is_running(&revision) || folder.staging.contains_key(&revision) {
                report.state = ModelState::Syncing;
                report.bytes_done = folder.staging.get(&revision).copied().unwrap_or_default();
            }
            // As the function does: it tries to write only where nobody is at work.
            if let Some(why) = self.broken.writes.as_ref().filter(|_| !is_served && !is_at_work)
                && report.state != ModelState::Ready
            {
                (report.state, report.message) = (ModelState::Failed, why.clone());
            }
            if let Some(shares) = folder.shares.get(&revision) {
                report.bytes_done += shares.iter().map(|share| share.done).sum::<u64>();
                report.workers = worker_reports(shares, now);
            }
            report
        };
        Ok(SyncReport {
            inventory: Some(inventory),
            models: models.iter().map(model).collect(),
            manifest_present: is_served,
            running: is_at_work,
        })
    }

    fn beat(&mut self, copy: &Copy, at: Duration) {
        if self.broken.writes.is_some() {
            return;
        }
        let Some(folder) = self.folders.get_mut(&copy.folder) else { return };
        for model in &copy.request.manifest.models {
            folder.failures.remove(&model.revision);
            let Some(worker) = copy.request.worker else {
                folder.heartbeats.insert(model.revision, at);
                continue;
            };
            let shares = folder.shares.get_mut(&model.revision);
            let mine = shares.filter(|shares| shares.len() == usize::from(worker.of()));
            if let Some(share) = mine.and_then(|shares| shares.get_mut(usize::from(worker.index()))) {
                share.beat = Some(at);
            }
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
        if self.broken.writes.is_some() {
            return false;
        }
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
            let is_there = match copy.request.worker {
                Some(worker) => match folder.divided(model.revision, bytes, worker, until) {
                    None => return false,
                    Some(share) => {
                        let step = budget.min(share.bytes - share.done);
                        share.done += step;
                        budget -= step;
                        share.is_done = share.done == share.bytes;
                        share.beat = (!share.is_done).then_some(until);
                        if !share.is_done {
                            return until < copy.deadline;
                        }
                        folder.shares[&model.revision].iter().all(|share| share.is_done)
                    }
                },
                None if folder
                    .shares
                    .get(&model.revision)
                    .is_some_and(|shares| is_shared_now(shares, until)) =>
                {
                    return false;
                }
                None => {
                    folder.fold(model.revision);
                    let done = folder.staging.entry(model.revision).or_default();
                    let step = budget.min(bytes - *done);
                    *done += step;
                    budget -= step;
                    if *done < bytes {
                        return until < copy.deadline;
                    }
                    true
                }
            };
            if !is_there {
                continue;
            }
            folder.shares.remove(&model.revision);
            folder.staging.remove(&model.revision);
            folder.revisions.insert(model.revision, (bytes, files));
            folder.copied.insert(model.revision, 1_800_000_000 + until.as_secs());
        }
        let manifest = &copy.request.manifest;
        if let Some(folder) = self.folders.get_mut(&copy.folder)
            && manifest.models.iter().all(|model| folder.revisions.contains_key(&model.revision))
        {
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
            let Some(worker) = copy.request.worker else {
                folder.heartbeats.remove(&model.revision);
                continue;
            };
            let shares = folder.shares.get_mut(&model.revision);
            if let Some(share) = shares.and_then(|shares| shares.get_mut(usize::from(worker.index()))) {
                share.beat = None;
            }
        }
    }
}

impl Folder {
    /// What workers did counts for whoever comes next.
    fn fold(&mut self, revision: Digest) {
        let shares = self.shares.remove(&revision).unwrap_or_default();
        *self.staging.entry(revision).or_default() += shares.iter().map(|share| share.done).sum::<u64>();
    }

    /// A worker's share; none while the work is still another's, or divided among another number that is at it.
    fn divided(&mut self, revision: Digest, bytes: u64, worker: Worker, now: Duration) -> Option<&mut Share> {
        let of = u64::from(worker.of());
        let shares = self.shares.get(&revision).map_or(&[][..], Vec::as_slice);
        if shares.len() != usize::from(worker.of()) {
            let alone = self.heartbeats.get(&revision).is_some_and(|beat| *beat + FRESH > now);
            if alone || is_shared_now(shares, now) {
                return None;
            }
            self.fold(revision);
            let left = bytes - self.staging.get(&revision).copied().unwrap_or_default();
            let share = |i: u64| Share { bytes: left * (i + 1) / of - left * i / of, ..Share::default() };
            self.shares.insert(revision, (0..of).map(share).collect());
        }
        self.shares.get_mut(&revision)?.get_mut(usize::from(worker.index()))
    }
}

fn is_shared_now(shares: &[Share], now: Duration) -> bool {
    shares.iter().any(|share| share.beat.is_some_and(|beat| beat + FRESH > now))
}

fn worker_reports(shares: &[Share], now: Duration) -> Vec<WorkerReport> {
    let state = |share: &Share| match share.beat {
        _ if share.is_done => WorkerState::Done,
        None => WorkerState::Idle,
        Some(beat) if beat + FRESH > now => WorkerState::Running,
        Some(_) => WorkerState::Stalled,
    };
    let workers = Worker::all(u16::try_from(shares.len()).unwrap_or(1));
    workers.zip(shares).map(|(worker, share)| WorkerReport { worker, state: state(share) }).collect()
}
