//! What was seen of AWS a moment ago. While an endpoint is being brought to what is wanted, a pass reads again only
//! what it waits for, what the last pass wrote to, and what is a minute old.
//!
//! Nothing that is told as final rests on it: when there is nothing more to do, and before anything is deleted,
//! [`crate::reconcile`] looks at everything that was not read just now. What AWS itself is still at is never kept.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_contract::upkeep::Inventory;
use larder_core::Step;
use larder_core::foresee::take_answer;
use larder_core::names::Names;
use larder_core::observed::{
    Function, LastUpdate, Observed, Provisioned, ProvisionedStatus, Read, Remote, Version,
};
use larder_core::step::Tagged;

/// What is read by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The subnets.
    Subnets,
    /// The file system.
    FileSystem,
    /// Its mount targets.
    MountTargets,
    /// The access point.
    AccessPoint,
    /// What the model-sync function's code resolves to.
    SyncCode,
    /// The model-sync function.
    SyncFunction,
    /// What the inference function's code resolves to.
    Code,
    /// The inference function.
    Function,
    /// The log groups of both functions.
    Logs,
    /// The numbers of its versions.
    Numbers,
    /// The versions' provisioned concurrency.
    Provisioned,
    /// The alias.
    Alias,
    /// The function URL.
    Url,
    /// The alias's policy.
    Permissions,
    /// What lies on the file system.
    Stored,
    /// How far the copy is.
    Report,
    /// What makes S3 tell of changes.
    Events,
}

impl Part {
    const ALL: [Self; 17] = [
        Self::Subnets,
        Self::FileSystem,
        Self::MountTargets,
        Self::AccessPoint,
        Self::SyncCode,
        Self::SyncFunction,
        Self::Code,
        Self::Function,
        Self::Logs,
        Self::Numbers,
        Self::Provisioned,
        Self::Alias,
        Self::Url,
        Self::Permissions,
        Self::Stored,
        Self::Report,
        Self::Events,
    ];

    /// Whether this part of `seen` is there, or not there, and AWS is at nothing.
    fn is_settled(self, seen: &Observed) -> bool {
        match self {
            Self::Subnets => seen.subnets.is_ok(),
            Self::FileSystem => is_still(&seen.file_system),
            Self::MountTargets => {
                seen.mount_targets.as_ref().is_ok_and(|all| all.iter().all(|it| it.state == "available"))
            }
            Self::AccessPoint => is_still(&seen.access_point),
            Self::SyncCode => seen.sync.code.is_ok(),
            Self::SyncFunction => is_idle(&seen.sync.function),
            Self::Code => seen.inference.code.is_ok(),
            Self::Function => is_idle(&seen.inference.function),
            Self::Logs => is_still(&seen.sync.log_group) && is_still(&seen.inference.log_group),
            Self::Numbers => is_read(seen) && seen.versions.is_ok(),
            Self::Provisioned => {
                let is_decided = |it: &Version| it.provisioned.as_ref().is_none_or(is_warm);
                is_read(seen) && seen.versions.as_ref().is_ok_and(|all| all.iter().all(is_decided))
            }
            Self::Alias => is_read(seen) && seen.alias.is_ok(),
            Self::Url => is_read(seen) && seen.url.is_ok(),
            Self::Permissions => is_read(seen) && seen.permissions.is_ok(),
            Self::Stored => is_as_reported(seen),
            Self::Report => {
                matches!(&seen.sync_report, Ok(Some(report)) if report.manifest_present && !report.running)
            }
            Self::Events => {
                let events = &seen.events;
                is_still(&events.queue)
                    && is_still(&events.rule)
                    && events.former == Ok(None)
                    && events.is_shared.is_ok()
                    && events.buckets.values().all(Result::is_ok)
            }
        }
    }
}

fn is_still<T>(seen: &Read<Remote<T>>) -> bool {
    matches!(seen, Ok(Remote::Ready(_) | Remote::Absent))
}

fn is_idle(seen: &Read<Remote<Function>>) -> bool {
    match seen {
        Ok(Remote::Ready(it)) => it.last_update == LastUpdate::Successful,
        Ok(seen) => matches!(seen, Remote::Absent),
        Err(_) => false,
    }
}

/// What hangs on the function was read. It is not while another's tag is on it; and another controller may take it over.
fn is_read(seen: &Observed) -> bool {
    !matches!(seen.inference.function, Ok(Remote::Foreign { .. }))
}

/// The inventory was taken before anything was copied, or after all of it was.
fn is_as_reported(seen: &Observed) -> bool {
    let (Ok(Some(stored)), Ok(Some(report))) = (&seen.stored, &seen.sync_report) else { return false };
    let is_whole = |revision| stored.revisions.iter().any(|it| it.is_complete && it.revision == revision);
    !report.manifest_present || report.models.iter().all(|it| is_whole(it.revision))
}

fn is_warm(it: &Provisioned) -> bool {
    it.status == ProvisionedStatus::Ready && it.available >= it.requested
}

/// How long a part is taken for true.
const LASTS: Duration = Duration::from_mins(1);

/// How old a part may be that something final rests on: about as long as it takes to read all of them.
pub const JUST_NOW: Duration = Duration::from_secs(5);

/// What was seen of one endpoint, and when each part of it was read. Lost in a crash, to no harm.
#[derive(Debug, Default)]
pub struct Known {
    seen: Option<Box<Observed>>,
    at: BTreeMap<Part, Duration>,
    /// The time of this pass.
    now: Duration,
    /// What the inventory's clock showed when it was read.
    clock: u64,
}

impl Known {
    /// The observation that holds `part`, while it is taken for true.
    #[must_use]
    pub fn part(&self, part: Part) -> Option<&Observed> {
        self.seen.as_deref().filter(|_| self.at.contains_key(&part))
    }

    /// The inventory, while it is taken for true. Its clock goes on: marks and looks are due by it.
    #[must_use]
    pub fn inventory(&self) -> Option<Inventory> {
        let (stored, at) = (self.part(Part::Stored)?.inventory()?, self.at.get(&Part::Stored)?);
        let age = self.now.saturating_sub(*at) + Duration::from_nanos(999_999_999);
        Some(Inventory { now: self.clock + age.as_secs(), ..stored.clone() })
    }

    /// A published version, as it was seen. Once it is active, what it runs never changes.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<&Version> {
        self.seen.as_ref()?.versions.as_ref().ok()?.iter().find(|it| it.number == number)
    }

    /// Keeps what was seen at `now`. What is known already was not read again.
    pub fn learn(&mut self, seen: &Observed, now: Duration) {
        if let Some(stored) = seen.inventory().filter(|_| !self.at.contains_key(&Part::Stored)) {
            self.clock = stored.now;
        }
        for part in Part::ALL {
            self.at.entry(part).or_insert(now);
        }
        self.seen = Some(Box::new(seen.clone()));
    }

    /// Keeps only what AWS is done with.
    pub fn settle(&mut self) {
        if let Some(seen) = &self.seen {
            self.at.retain(|part, _| part.is_settled(seen));
        }
    }

    /// A step was made: what it wrote to is read again, unless its answer has told.
    pub fn wrote(&mut self, step: &Step, names: &Names) {
        if self.seen.as_mut().is_some_and(|seen| take_answer(step, seen)) {
            return;
        }
        for part in written(step, names) {
            self.at.remove(part);
        }
    }

    /// Forgets what is too old at `now` to go on from.
    pub fn age(&mut self, now: Duration) {
        self.now = now;
        self.at.retain(|_, at| now.saturating_sub(*at) < LASTS);
    }

    /// Forgets what is too old at `now` for something final to rest on. Whether there was any.
    pub fn doubt(&mut self, now: Duration) -> bool {
        let known = self.at.len();
        self.at.retain(|_, at| now.saturating_sub(*at) < JUST_NOW);
        self.at.len() != known
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What a step changes.
fn written(step: &Step, names: &Names) -> &'static [Part] {
    let is_sync = |name: &String| *name == names.sync_function;
    match step {
        Step::TagResource { tagged, .. } => match tagged {
            Tagged::FileSystem => &[Part::FileSystem, Part::MountTargets, Part::AccessPoint],
            Tagged::AccessPoint => &[Part::AccessPoint],
            Tagged::LogGroup => &[Part::Logs],
            Tagged::Rule => &[Part::Events],
            Tagged::Function => &[
                Part::SyncFunction,
                Part::Function,
                Part::Numbers,
                Part::Provisioned,
                Part::Alias,
                Part::Url,
                Part::Permissions,
            ],
        },
        // A new one has neither mount targets nor access points, and there were none without it.
        Step::CreateFileSystem { .. } | Step::UpdateFileSystem { .. } => &[Part::FileSystem],
        Step::DeleteFileSystem { .. } => &[Part::FileSystem, Part::MountTargets, Part::AccessPoint],
        Step::CreateMountTarget { .. }
        | Step::SetMountTargetSecurityGroups { .. }
        | Step::DeleteMountTarget { .. } => &[Part::MountTargets],
        Step::CreateAccessPoint { .. } | Step::DeleteAccessPoint { .. } => &[Part::AccessPoint],
        Step::CreateLogGroup { .. } | Step::PutRetentionPolicy { .. } | Step::DeleteLogGroup { .. } => {
            &[Part::Logs]
        }
        Step::CreateFunction { name, .. }
        | Step::UpdateFunctionCode { name, .. }
        | Step::UpdateFunctionConfiguration { name, .. }
        | Step::DeleteFunction { name }
        | Step::PutFunctionConcurrency { name, .. }
        | Step::DeleteFunctionConcurrency { name }
            if is_sync(name) =>
        {
            &[Part::SyncFunction]
        }
        Step::CreateFunction { .. }
        | Step::UpdateFunctionCode { .. }
        | Step::UpdateFunctionConfiguration { .. }
        | Step::PutFunctionConcurrency { .. }
        | Step::DeleteFunctionConcurrency { .. } => &[Part::Function],
        Step::DeleteFunction { .. } => {
            &[Part::Function, Part::Numbers, Part::Provisioned, Part::Alias, Part::Url, Part::Permissions]
        }
        Step::StartSync { .. } | Step::Collect { .. } | Step::Verify { .. } => &[Part::Stored, Part::Report],
        Step::PrepareModels { .. } => &[],
        // `RevisionId` of `$LATEST` changes with it.
        Step::PublishVersion { .. } => &[Part::Function, Part::Numbers],
        Step::DeleteVersion { .. } => &[Part::Numbers, Part::Provisioned],
        Step::PutProvisionedConcurrency { .. } | Step::DeleteProvisionedConcurrency { .. } => {
            &[Part::Provisioned]
        }
        Step::CreateAlias { .. } | Step::UpdateAlias { .. } => &[Part::Alias],
        Step::DeleteAlias { .. } => &[Part::Alias, Part::Url, Part::Permissions],
        Step::CreateFunctionUrl { .. } | Step::UpdateFunctionUrl { .. } | Step::DeleteFunctionUrl { .. } => {
            &[Part::Url]
        }
        Step::AddPermission { .. } | Step::RemovePermission { .. } => &[Part::Permissions],
        Step::CreateQueue { .. }
        | Step::SetQueuePolicy { .. }
        | Step::DeleteQueue { .. }
        | Step::PutRule { .. }
        | Step::PutTarget { .. }
        | Step::RemoveTargets { .. }
        | Step::DeleteRule { .. }
        | Step::EnableBucketEvents { .. } => &[Part::Events],
    }
}
