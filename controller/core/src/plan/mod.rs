//! The steps between what is wanted and what is there, area by area.
//!
//! A step is planned only when what it needs has been *observed* ready. Nothing here depends on what
//! was planned before, so a crash at any point is just another start, and two controllers at once do
//! no harm.
//!
//! - `adopt`: what bears our name and not our tag
//! - `storage`: file system, mount targets, access point; `fixed`: what of them AWS never changes
//! - `models`: model-sync function, sources, the copy; `settle`: whether an upload may be under way; [`spread`]:
//!   among how many invocations the copy is shared
//! - `function`: inference function and its versions; `lambda` converges one function, for both
//! - `capacity`: provisioned concurrency
//! - `traffic`: the alias; [`rollout`]: how a new version takes over
//! - `history`: old versions
//! - `exposure`: function URL and its permissions
//! - `events`: what makes S3 tell of changes
//! - `upkeep`: collecting what is not needed, and reading again what is

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::desired::Desired;
use crate::observed::Observed;
use crate::retry::{Class, Problem};
use crate::step::Step;

mod adopt;
mod capacity;
mod events;
mod exposure;
mod fixed;
mod function;
mod history;
mod lambda;
mod models;
pub mod rollout;
mod settle;
pub mod spread;
mod storage;
mod traffic;
mod upkeep;

pub use events::TARGET;
pub(crate) use exposure::BUFFERED;
pub(crate) use function::are_models_there;
pub use function::target;
pub use history::names_damage;
pub use settle::settles_at;

/// The areas of an endpoint, in the order in which a create goes through them. Each has a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// `StorageReady`
    Storage,
    /// `ModelsSynced`
    Models,
    /// `FunctionReady`
    Function,
    /// `CapacityReady`
    Capacity,
    /// `TrafficReady`
    Traffic,
    /// `Exposed`
    Exposure,
    /// `EventsReady`
    Events,
    /// `HistoryPruned`. `Ready` does not wait for it.
    History,
    /// `StorageMaintained`. `Ready` does not wait for it.
    Upkeep,
}

impl Area {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Storage,
        Self::Models,
        Self::Function,
        Self::Capacity,
        Self::Traffic,
        Self::Exposure,
        Self::Events,
        Self::History,
        Self::Upkeep,
    ];

    /// Whether `Ready` sums it up.
    #[must_use]
    pub const fn is_part_of_ready(self) -> bool {
        !matches!(self, Self::History | Self::Upkeep)
    }

    /// The type of its condition.
    #[must_use]
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Storage => "StorageReady",
            Self::Models => "ModelsSynced",
            Self::Function => "FunctionReady",
            Self::Capacity => "CapacityReady",
            Self::Traffic => "TrafficReady",
            Self::Exposure => "Exposed",
            Self::Events => "EventsReady",
            Self::History => "HistoryPruned",
            Self::Upkeep => "StorageMaintained",
        }
    }
}

/// Why a condition is as it is. A closed set: scripts and alerts can rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the documentation; each message says the rest")]
pub enum Reason {
    Converged,
    InProgress,
    Waiting,
    WaitingForStorage,
    WaitingForModels,
    WaitingForFunction,
    WaitingForCapacity,
    WaitingForTraffic,
    WaitingForDeletion,
    WaitingForAlarm,
    Settling,
    WaitingForMarker,
    Syncing,
    SourceNotFound,
    SourceEmpty,
    SourceUnusable,
    SourceChanged,
    DigestMismatch,
    SyncFailed,
    Verifying,
    Damaged,
    SharedFolder,
    BurstCreditsLow,
    CodeNotFound,
    FileSystemNotFound,
    FileSystemFailed,
    InUse,
    MountTargetFailed,
    MountTargetMissing,
    SubnetsInvalid,
    FunctionFailed,
    CapacityFailed,
    Progressing,
    Paused,
    Draining,
    SmokeTestFailed,
    RolloutAborted,
    RolledBack,
    ProgressDeadlineExceeded,
    ForeignResource,
    AccessDenied,
    NotFound,
    Rejected,
    QuotaExceeded,
    CoolingDown,
    Throttled,
    Unavailable,
    Conflict,
    Accepted,
    InvalidSpec,
    RoleNotAllowed,
    StillOwned,
    Drifted,
    Contested,
    PlanOnly,
    Suspended,
    Deleting,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl From<Class> for Reason {
    fn from(class: Class) -> Self {
        match class {
            Class::NotFound => Self::NotFound,
            Class::Conflict => Self::Conflict,
            Class::Throttled => Self::Throttled,
            Class::Transient => Self::Unavailable,
            Class::Denied => Self::AccessDenied,
            Class::Invalid => Self::Rejected,
            Class::Quota => Self::QuotaExceeded,
            Class::Cooldown => Self::CoolingDown,
        }
    }
}

/// What is to be done in one area now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: AWS holds what is wanted.
    Converged,
    /// These steps, in this order.
    Do(Vec<Step>),
    /// These steps again, since the last attempt failed, after a delay that grows.
    Retry {
        /// The steps.
        steps: Vec<Step>,
        /// What failed.
        reason: Reason,
        /// What AWS or model-sync said.
        message: String,
    },
    /// Nothing yet.
    Wait {
        /// What kind of thing is waited for.
        reason: Reason,
        /// What is waited for.
        on: String,
        /// When to look again.
        after: Duration,
    },
    /// Nothing, until something is mended.
    Blocked {
        /// What kind of thing is wrong.
        reason: Reason,
        /// How soon to look again.
        class: Class,
        /// What is wrong with which resource, and what to do.
        message: String,
    },
}

impl Plan {
    /// The steps to take.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Do(steps) | Self::Retry { steps, .. } => steps,
            Self::Converged | Self::Wait { .. } | Self::Blocked { .. } => &[],
        }
    }

    fn wait(reason: Reason, on: impl Into<String>) -> Self {
        let after = Duration::from_secs(if reason == Reason::Syncing { 1 } else { 2 });
        Self::Wait { reason, on: on.into(), after }
    }

    fn blocked(reason: Reason, class: Class, message: impl Into<String>) -> Self {
        Self::Blocked { reason, class, message: message.into() }
    }

    /// `Do`, or `Converged` when there are no steps.
    fn of(steps: Vec<Step>) -> Self {
        if steps.is_empty() { Self::Converged } else { Self::Do(steps) }
    }
}

impl From<&Problem> for Plan {
    fn from(problem: &Problem) -> Self {
        Self::blocked(problem.class.into(), problem.class, problem.to_string())
    }
}

/// A [`Plan`] for every area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans(pub BTreeMap<Area, Plan>);

impl Plans {
    /// The plan of an area.
    #[must_use]
    pub fn get(&self, area: Area) -> &Plan {
        self.0.get(&area).unwrap_or(&Plan::Converged)
    }

    /// Every area that `Ready` sums up is converged.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.0.iter().all(|(area, plan)| !area.is_part_of_ready() || *plan == Plan::Converged)
    }

    /// Every step, in order, with its area.
    pub fn steps(&self) -> impl Iterator<Item = (Area, &Step)> {
        self.0.iter().flat_map(|(area, plan)| plan.steps().iter().map(move |step| (*area, step)))
    }
}

/// The steps from `observed` to `desired`. Total: every pair has a plan.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Plans {
    let mut plans = Plans(BTreeMap::new());
    for area in Area::ALL {
        let plan = match area {
            Area::Storage => storage::plan(desired, observed),
            Area::Models => models::plan(desired, observed),
            Area::Function => function::plan(desired, observed),
            Area::Capacity => capacity::plan(desired, observed),
            Area::Traffic => traffic::plan(desired, observed),
            Area::Exposure => exposure::plan(desired, observed),
            Area::Events => events::plan(desired, observed),
            Area::History => history::plan(desired, observed),
            Area::Upkeep => upkeep::plan(desired, observed, &plans),
        };
        plans.0.insert(area, plan);
    }
    plans
}

/// Areas answer with `Result<what is ready, what is to be done first>`; both sides are a plan.
fn either(result: Result<Plan, Plan>) -> Plan {
    result.unwrap_or_else(|plan| plan)
}
