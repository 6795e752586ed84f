//! What AWS was seen to hold.
//!
//! Every part is a [`Read`]: a call that failed is an observation too, and must reach the status of
//! its area without stopping the others.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use larder_contract::Digest;
use larder_contract::sync::SyncReport;
use larder_contract::upkeep::Inventory;

use crate::endpoint::{AccessPointSpec, Architecture};
use crate::retry::Problem;

/// What a read gave, or why it failed.
pub type Read<T> = Result<T, Problem>;

/// A resource as it was seen. An `Option` would lose what a correct controller depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote<T> {
    /// Not there.
    Absent,
    /// There, and not usable yet.
    Pending(T),
    /// Usable.
    Ready(T),
    /// On its way out.
    Deleting(T),
    /// AWS gave up on it.
    Failed {
        /// What it is.
        it: T,
        /// Why, in AWS's words.
        reason: String,
    },
    /// Under our name without our owner tag: never touched, always reported.
    Foreign {
        /// The owner tag's value, or empty.
        owner: String,
        /// What its tags are set by: an ARN, or an id of EFS.
        id: String,
    },
}

impl<T> Remote<T> {
    /// The resource when it is usable.
    pub const fn ready(&self) -> Option<&T> {
        match self {
            Self::Ready(it) => Some(it),
            Self::Absent
            | Self::Pending(_)
            | Self::Deleting(_)
            | Self::Failed { .. }
            | Self::Foreign { .. } => None,
        }
    }

    /// The resource whatever its state, unless it is foreign.
    pub const fn ours(&self) -> Option<&T> {
        match self {
            Self::Pending(it) | Self::Ready(it) | Self::Deleting(it) | Self::Failed { it, .. } => Some(it),
            Self::Absent | Self::Foreign { .. } => None,
        }
    }

    /// Nothing of ours is there.
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Absent | Self::Foreign { .. })
    }
}

/// A VPC subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its availability zone's name.
    pub zone: String,
    /// Its VPC.
    pub vpc: String,
}

/// An EFS file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its id.
    pub id: String,
    /// `elastic`, `bursting` or `provisioned`.
    pub throughput_mode: String,
    /// Encrypted at rest.
    pub is_encrypted: bool,
    /// Bytes of burst credits (`BurstCreditBalance`), of a bursting one, where CloudWatch tells them.
    pub burst_credits: Option<u64>,
    /// The ARN of the KMS key that it is encrypted with.
    pub kms_key_id: Option<String>,
}

/// An EFS mount target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountTarget {
    /// Its id.
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// Its availability zone's name.
    pub zone: String,
    /// `creating`, `available`, `updating`, `deleting`, `deleted` or `error`.
    pub state: String,
    /// Its security groups.
    pub security_groups: BTreeSet<String>,
}

/// An EFS access point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPoint {
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// The folder that it leads to.
    pub path: String,
    /// `PosixUser`: who everybody is on it; clients say it themselves when absent.
    pub user: Option<PosixUser>,
    /// `CreationInfo`: how the folder is made when it is not there; it is not made when absent.
    pub creation: Option<CreationInfo>,
}

impl AccessPoint {
    /// What is made of a spec.
    #[must_use]
    pub fn of(spec: &AccessPointSpec, id: String, arn: String) -> Self {
        let AccessPointSpec { path, uid, gid, permissions } = spec;
        let user = Some(PosixUser { uid: *uid, gid: *gid, secondary_gids: BTreeSet::new() });
        let permissions = permissions.clone();
        let creation = Some(CreationInfo { owner_uid: *uid, owner_gid: *gid, permissions });
        Self { id, arn, path: path.clone(), user, creation }
    }
}

/// Who everybody is on an access point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PosixUser {
    /// User.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// More groups; Larder sets none.
    pub secondary_gids: BTreeSet<i64>,
}

/// How an access point's folder is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreationInfo {
    /// Its user.
    pub owner_uid: i64,
    /// Its group.
    pub owner_gid: i64,
    /// Its permissions, octal.
    pub permissions: String,
}

/// A CloudWatch log group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogGroup {
    /// Days that its events are kept; for ever when absent.
    pub retention_days: Option<i32>,
}

/// Code, resolved to what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// How Lambda is told where it is.
    pub package: Package,
    /// The image's digest, or the archive's SHA-256: `sha256:` and 64 hex digits.
    pub digest: String,
}

/// Where code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Package {
    /// A container image's URI, by digest.
    Image {
        /// The URI.
        uri: String,
    },
    /// A zip archive in S3.
    Zip {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The object's version.
        version_id: Option<String>,
    },
}

/// The settings of a function that `UpdateFunctionConfiguration` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionConfig {
    /// The execution role.
    pub role: String,
    /// Memory, MiB.
    pub memory_mib: i32,
    /// Longest invoke, seconds.
    pub timeout_seconds: i32,
    /// `/tmp`, MiB.
    pub ephemeral_mib: i32,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The subnets.
    pub subnets: BTreeSet<String>,
    /// The security groups.
    pub security_groups: BTreeSet<String>,
    /// The access point's ARN and where it is mounted.
    pub mount: Option<(String, String)>,
    /// What starts.
    pub start: Start,
}

/// What starts in a function, as far as its code does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// The runtime of an archive; empty for an image.
    pub runtime: String,
    /// The handler of an archive; empty for an image.
    pub handler: String,
    /// The ARNs of the layers under an archive.
    pub layers: Vec<String>,
    /// Entry point, command and working directory that take the place of an image's own.
    pub overrides: Vec<String>,
}

impl Start {
    /// Larder's archives: a `bootstrap` on provided.al2023, and nothing under it.
    #[must_use]
    pub fn archive() -> Self {
        Self { runtime: "provided.al2023".to_owned(), handler: "bootstrap".to_owned(), ..Self::default() }
    }
}

/// `LastUpdateStatus` of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastUpdate {
    /// Done. So is nothing else: null counts as in progress.
    Successful,
    /// Under way, or not said.
    InProgress,
    /// Failed, with the reason.
    Failed(String),
}

/// A Lambda function, `$LATEST` or a published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its ARN, without a qualifier.
    pub arn: String,
    /// The image's digest, or the archive's SHA-256: `sha256:` and 64 hex digits.
    pub code_digest: String,
    /// `CodeSha256` as Lambda writes it, for preconditions. Empty when Lambda says none.
    pub code_sha256: String,
    /// The processor.
    pub architecture: Architecture,
    /// Its settings.
    pub config: FunctionConfig,
    /// How the last update went.
    pub last_update: LastUpdate,
    /// For preconditions.
    pub revision_id: String,
    /// Reserved concurrency; said of the function, not of versions.
    pub reserved: Option<i32>,
    /// When it was last changed, as Lambda writes it; of a version, when it was published.
    pub last_modified: String,
    /// The same as a time.
    pub modified: Option<Timestamp>,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// What it runs.
    pub function: Remote<Function>,
    /// Its provisioned concurrency.
    pub provisioned: Option<Provisioned>,
}

/// A provisioned concurrency configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// Asked for.
    pub requested: i32,
    /// Warm.
    pub available: i32,
    /// How it is.
    pub status: ProvisionedStatus,
    /// When it was last asked for (`LastModified`).
    pub changed: Option<Timestamp>,
}

/// `Status` of a provisioned concurrency configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvisionedStatus {
    /// Under way.
    InProgress,
    /// All of it is warm.
    Ready,
    /// AWS gave up, with the reason.
    Failed(String),
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The version that it points at.
    pub version: u64,
    /// Another version with a share of the requests, in percent.
    pub second: Option<(u64, u8)>,
    /// Its description: what is remembered of a rollout.
    pub description: String,
    /// For preconditions.
    pub revision_id: String,
}

impl Alias {
    /// Whether requests can reach `version`.
    #[must_use]
    pub fn serves(&self, version: u64) -> bool {
        self.version == version || self.second.is_some_and(|(second, _)| second == version)
    }
}

/// What was found out about a new version because the planner asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// How it answered the smoke test.
    pub smoke: Read<Option<Smoke>>,
    /// How it does with its share of the requests.
    pub health: Read<Option<Health>>,
}

impl Default for Trial {
    fn default() -> Self {
        Self { smoke: Ok(None), health: Ok(None) }
    }
}

/// How a version answered the smoke test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// The version.
    pub version: u64,
    /// What was wrong with its answer, if anything.
    pub fault: Option<String>,
}

/// How a version did, as CloudWatch says it of that version alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The version.
    pub version: u64,
    /// Its invocations.
    pub invocations: u64,
    /// Those that failed, or that it answered with a status of 5xx by the function URL.
    pub errors: u64,
    /// The 99th percentile of their durations, milliseconds; none without invocations.
    pub p99_milliseconds: Option<u64>,
    /// The alarms that were asked for and are in state ALARM.
    pub alarms_on: Vec<String>,
}

/// A function URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionUrl {
    /// `https://….lambda-url.<region>.on.aws/`
    pub url: String,
    /// `AWS_IAM` or `NONE`.
    pub auth_type: String,
    /// `BUFFERED` or `RESPONSE_STREAM`.
    pub invoke_mode: String,
    /// Answers to browsers of other origins.
    pub has_cors: bool,
}

/// What the listing of a model's source shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Objects were found.
    Found {
        /// Their revision.
        revision: Digest,
        /// Their bytes.
        bytes: u64,
        /// Their number.
        files: u64,
        /// When they last changed, as far as S3 says or was seen.
        changed: Timestamp,
        /// When they were listed.
        listed: Timestamp,
    },
    /// There is no object under the prefix.
    Empty,
    /// A key, or the number of objects, breaks a rule; the text says which.
    Unusable(String),
    /// The source's marker says that an upload is under way; the text says why.
    Unmarked(String),
}

/// Everything that one pass saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When it was seen: the planner's clock.
    pub at: Timestamp,
    /// The status says that everything was once as wanted.
    pub was_converged: bool,
    /// The subnets that the spec names.
    pub subnets: Read<Vec<Subnet>>,
    /// The file system: ours, or the one that was brought.
    pub file_system: Read<Remote<FileSystem>>,
    /// The file system that the status named last, where we make it ourselves.
    pub known_file_system: Option<String>,
    /// Its mount targets, all of them.
    pub mount_targets: Read<Vec<MountTarget>>,
    /// Our access point on it.
    pub access_point: Read<Remote<AccessPoint>>,
    /// The ids of the access points of others on it.
    pub other_access_points: Read<Vec<String>>,
    /// The ids of the network interfaces that the functions have left behind; looked for when those are gone.
    pub interfaces: Read<Vec<String>>,
    /// The model-sync function.
    pub sync: ObservedFunction,
    /// The listings of the models' sources, by the models' names.
    pub sources: BTreeMap<String, Read<Source>>,
    /// What the model-sync function says that lies on the file system; none while it cannot be asked.
    pub stored: Read<Option<Inventory>>,
    /// The answer of the model-sync function; none while it cannot be asked.
    pub sync_report: Read<Option<SyncReport>>,
    /// The inference function.
    pub inference: ObservedFunction,
    /// Its published versions, oldest first.
    pub versions: Read<Vec<Version>>,
    /// Its alias.
    pub alias: Read<Option<Alias>>,
    /// What was found out about a new version.
    pub trial: Trial,
    /// Its function URL.
    pub url: Read<Option<FunctionUrl>>,
    /// The statements of the alias's resource policy whose ids begin with `larder-`, and whether each allows what its
    /// id says, to whom and on the condition that it says.
    pub permissions: Read<BTreeMap<String, bool>>,
    /// What makes S3 tell of changes.
    pub events: ObservedEvents,
}

/// What makes S3 tell of changes. Looked at only once the status says that there may be such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedEvents {
    /// The status says so.
    pub is_announced: bool,
    /// The queue that the rule is to send to.
    pub queue: Read<Remote<Queue>>,
    /// The queue of the cluster that only this rule sends to, where that is another one: of a controller with another
    /// scope.
    pub former: Read<Option<Queue>>,
    /// The endpoint's rule.
    pub rule: Read<Remote<EventRule>>,
    /// Whether a rule other than the endpoint's sends to the queue.
    pub is_shared: Read<bool>,
    /// Whether the buckets' events go to Amazon `EventBridge`, by bucket.
    pub buckets: BTreeMap<String, Read<bool>>,
}

impl Default for ObservedEvents {
    fn default() -> Self {
        Self {
            is_announced: false,
            queue: Ok(Remote::Absent),
            former: Ok(None),
            rule: Ok(Remote::Absent),
            is_shared: Ok(false),
            buckets: BTreeMap::new(),
        }
    }
}

/// An SQS queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its URL.
    pub url: String,
    /// Its ARN.
    pub arn: String,
    /// Its policy lets the rules of Larder send to it.
    pub takes_events: bool,
}

/// A rule on the default event bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRule {
    /// What it matches, as JSON.
    pub pattern: String,
    /// It is not disabled.
    pub is_enabled: bool,
    /// The ARNs that it sends to, by the targets' ids.
    pub targets: BTreeMap<String, String>,
}

impl Observed {
    /// What lies on the file system, where that is known.
    #[must_use]
    pub fn inventory(&self) -> Option<&Inventory> {
        self.stored.as_ref().ok()?.as_ref()
    }
}

/// A function, its code as the spec names it, and its log group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFunction {
    /// What the spec's code resolves to now.
    pub code: Read<Code>,
    /// The function.
    pub function: Read<Remote<Function>>,
    /// Its log group.
    pub log_group: Read<Remote<LogGroup>>,
}
