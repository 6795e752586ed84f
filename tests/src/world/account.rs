//! What an AWS account holds, as plain data. How it changes is told in the modules beside this one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use larder_contract::source::S3Prefix;
use larder_contract::sync::{ModelState, SyncRequest};
use larder_contract::{Digest, ModelSource, ObjectEntry};
use larder_core::Class;
use larder_core::endpoint::{AccessPointSpec, Architecture};
use larder_core::observed::{FunctionConfig, FunctionUrl, LastUpdate, ProvisionedStatus, Subnet};
use larder_core::step::Permission;

pub use super::behaviour::{Broken, Delays};

/// Why AWS does not do what it is asked: class, error code, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of failure it is to a caller.
    pub class: Class,
    /// The error code, as the API reference names it.
    pub code: &'static str,
    /// What AWS says.
    pub message: String,
}

/// A refusal as a result.
pub(super) fn refuse<T>(class: Class, code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { class, code, message: message.into() })
}

/// A file system.
#[derive(Debug, Clone)]
pub struct FileSystem {
    /// Its creation token.
    pub token: String,
    /// The owner tag.
    pub owner: Option<String>,
    /// `elastic`, `bursting`.
    pub mode: String,
    /// Encrypted at rest.
    pub is_encrypted: bool,
    /// The ARN of its key, where the account's own is not used.
    pub kms_key_id: Option<String>,
    /// When it is or was available.
    pub available_at: Duration,
    /// When it is gone.
    pub gone_at: Option<Duration>,
    /// When its throughput mode was last changed.
    pub mode_changed_at: Option<Duration>,
}

/// A mount target.
#[derive(Debug, Clone)]
pub struct MountTarget {
    /// Its file system.
    pub file_system: String,
    /// Its subnet.
    pub subnet: String,
    /// Its zone.
    pub zone: String,
    /// Its security groups.
    pub security_groups: BTreeSet<String>,
    /// When it is or was available.
    pub available_at: Duration,
    /// Ends in state error.
    pub is_broken: bool,
    /// When it is gone.
    pub gone_at: Option<Duration>,
}

/// An access point.
#[derive(Debug, Clone)]
pub struct AccessPoint {
    /// Its client token.
    pub token: String,
    /// The owner tag.
    pub owner: Option<String>,
    /// Its file system.
    pub file_system: String,
    /// Root and user.
    pub spec: AccessPointSpec,
    /// More groups that the user is in.
    pub secondary_gids: BTreeSet<i64>,
    /// When it is or was available.
    pub available_at: Duration,
    /// When it is gone.
    pub gone_at: Option<Duration>,
}

/// What lies under one root directory of a file system. It outlives access points, as data does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    /// Complete revisions, and their bytes and files.
    pub revisions: BTreeMap<Digest, (u64, u64)>,
    /// Bytes of revisions in flight.
    pub staging: BTreeMap<Digest, u64>,
    /// Of these the rest is divided among workers.
    pub shares: BTreeMap<Digest, Vec<Share>>,
    /// Manifests that were written.
    pub manifests: BTreeMap<String, larder_contract::Manifest>,
    /// How the last attempt at a revision failed.
    pub failures: BTreeMap<Digest, (ModelState, String)>,
    /// When a copy of a revision last gave a sign of life.
    pub heartbeats: BTreeMap<Digest, Duration>,
    /// When complete revisions were copied, in seconds since 1970.
    pub copied: BTreeMap<Digest, u64>,
    /// What is marked as not needed, and since when.
    pub marks: BTreeMap<Digest, u64>,
    /// What a look at a revision's bytes came to.
    pub verified: BTreeMap<Digest, larder_contract::upkeep::Verified>,
    /// Revisions whose bytes are not what was copied, known or not.
    pub damaged: BTreeSet<Digest>,
    /// Bytes that were freed.
    pub freed: u64,
}

/// One worker's share of a revision in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Its bytes.
    pub bytes: u64,
    /// Those that are there.
    pub done: u64,
    /// Its worker's last sign of life, unless it ended by itself.
    pub beat: Option<Duration>,
    /// All of it is there, and the worker said so.
    pub is_done: bool,
}

/// A running invoke of model-sync.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The function.
    pub function: String,
    /// Where it writes: file system and root.
    pub folder: (String, String),
    /// What it was asked for.
    pub request: SyncRequest,
    /// When Lambda ends it.
    pub deadline: Duration,
    /// It does its work from here on.
    pub at: Duration,
}

/// A running look at a revision's bytes.
#[derive(Debug, Clone)]
pub struct Look {
    /// Where: file system and root.
    pub folder: (String, String),
    /// At what.
    pub revision: Digest,
    /// When it ends.
    pub due: Duration,
}

/// A log group.
#[derive(Debug, Clone)]
pub struct LogGroup {
    /// The owner tag; Lambda sets none.
    pub owner: Option<String>,
    /// Days that events are kept.
    pub retention_days: Option<i32>,
}

/// What a function or a version runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The image's or archive's digest.
    pub code_digest: String,
    /// Its processor.
    pub architecture: Architecture,
    /// Its settings.
    pub config: FunctionConfig,
}

/// `State` of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Being made, or waking up.
    Pending,
    /// Can be invoked.
    Active,
    /// Asleep; an invoke wakes it.
    Inactive,
    /// Its creation failed.
    Failed(String),
}

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    /// The owner tag.
    pub owner: Option<String>,
    /// `$LATEST`.
    pub latest: Body,
    /// Counts changes, for `RevisionId`.
    pub revision: u64,
    /// Its state.
    pub state: State,
    /// How the last update went.
    pub last_update: LastUpdate,
    /// When what is under way ends, and how.
    pub busy: Option<(Duration, Result<(), String>)>,
    /// Reserved concurrency.
    pub reserved: Option<i32>,
    /// Published versions.
    pub versions: BTreeMap<u64, Version>,
    /// The number of the next version.
    pub next_version: u64,
    /// What was published last, for the no-op.
    pub last_published: Option<(u64, Body)>,
    /// The alias.
    pub alias: Option<Alias>,
    /// The requests that its versions took through the alias.
    pub served: super::rollout::Served,
    /// When it was changed.
    pub modified_at: Duration,
}

/// A published version.
#[derive(Debug, Clone)]
pub struct Version {
    /// What it runs.
    pub body: Body,
    /// When it is or was active.
    pub active_at: Duration,
    /// Its provisioned concurrency.
    pub provisioned: Option<Provisioned>,
    /// When it was published.
    pub published_at: Duration,
}

/// Provisioned concurrency of a version.
#[derive(Debug, Clone)]
pub struct Provisioned {
    /// Asked for.
    pub requested: i32,
    /// Warm.
    pub available: i32,
    /// How it is.
    pub status: ProvisionedStatus,
    /// When it is decided.
    pub due: Duration,
    /// When it was last asked for.
    pub changed_at: Duration,
}

/// An alias, with what hangs on it.
#[derive(Debug, Clone)]
pub struct Alias {
    /// The version that it points at.
    pub version: u64,
    /// A second version, with its share.
    pub second: Option<(u64, u8)>,
    /// Its description.
    pub description: String,
    /// Counts changes.
    pub revision: u64,
    /// The function URL.
    pub url: Option<FunctionUrl>,
    /// The policy's statements, by their ids.
    pub statements: BTreeMap<String, Statement>,
}

/// A statement of an alias's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it allows, such as `lambda:InvokeFunction`.
    pub action: String,
    /// To everyone, or to the account.
    pub public: bool,
    /// On which condition: operator, key and value.
    pub condition: Option<(String, String, String)>,
}

impl From<Permission> for Statement {
    fn from(permission: Permission) -> Self {
        let (operator, key, value) = permission.condition();
        Self {
            action: permission.action().to_owned(),
            public: permission.public,
            condition: Some((operator.to_owned(), key.to_owned(), value.to_owned())),
        }
    }
}

impl Statement {
    /// Whether it allows what its id says.
    #[must_use]
    pub fn is_as_named(&self, id: &str) -> bool {
        Permission::named(id).is_some_and(|it| *self == Self::from(it))
    }
}

impl Alias {
    /// Whether requests can reach `version`.
    #[must_use]
    pub fn serves(&self, version: u64) -> bool {
        self.version == version || self.second.is_some_and(|(second, _)| second == version)
    }
}

/// Objects by key.
pub type Bucket = BTreeMap<String, Object>;

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// Its `ETag`.
    pub etag: String,
    /// Its `LastModified`.
    pub modified: Duration,
    /// Its content, where somebody reads it here.
    pub text: String,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The owner tag.
    pub owner: Option<String>,
    /// Its policy lets Larder's rules send.
    pub takes_events: bool,
}

/// A rule on the default event bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The owner tag.
    pub owner: Option<String>,
    /// What it matches.
    pub pattern: String,
    /// It is not disabled.
    pub is_enabled: bool,
    /// Where it sends, by the targets' ids.
    pub targets: BTreeMap<String, String>,
}

/// What a bucket tells whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// Events go to Amazon `EventBridge`.
    pub event_bridge: bool,
    /// What others put there, as they wrote it.
    pub entries: Vec<String>,
}

/// Everything that an account holds in one region.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The time.
    pub now: Duration,
    /// Makes ids.
    pub serial: u64,
    /// How long things take.
    pub delays: Delays,
    /// What goes wrong.
    pub broken: Broken,
    /// Subnets by id.
    pub subnets: BTreeMap<String, Subnet>,
    /// File systems by id.
    pub file_systems: BTreeMap<String, FileSystem>,
    /// Mount targets by id.
    pub mount_targets: BTreeMap<String, MountTarget>,
    /// Access points by id.
    pub access_points: BTreeMap<String, AccessPoint>,
    /// Folders, by file system and root.
    pub folders: BTreeMap<(String, String), Folder>,
    /// Copies at work.
    pub copies: Vec<Copy>,
    /// Looks at work.
    pub looks: Vec<Look>,
    /// Collections that go on after their caller has given them up: when, by which function, what.
    pub late: Vec<(Duration, String, larder_contract::upkeep::CollectRequest)>,
    /// Log groups by name.
    pub log_groups: BTreeMap<String, LogGroup>,
    /// Functions by name.
    pub functions: BTreeMap<String, Function>,
    /// Nobody sends requests.
    pub is_idle: bool,
    /// How often a version was asked something by name.
    pub asked: u64,
    /// Versions that were asked to prepare their models, and whether they took requests by then.
    pub preparing: Vec<(String, u64, bool)>,
    /// CloudWatch alarms by name, and whether they are on.
    pub alarms: BTreeMap<String, bool>,
    /// Network interfaces that outlive their function: the function, and when they are gone.
    pub interfaces: Vec<(String, Duration)>,
    /// Buckets by name.
    pub buckets: BTreeMap<String, Bucket>,
    /// Files of sources other than S3.
    pub elsewhere: BTreeMap<ModelSource, Vec<ObjectEntry>>,
    /// What buckets tell whom, by name.
    pub notifications: BTreeMap<String, Notification>,
    /// Queues by name.
    pub queues: BTreeMap<String, Queue>,
    /// Queues that were deleted, and until when their names are taken.
    pub deleted_queues: BTreeMap<String, Duration>,
    /// Rules by name.
    pub rules: BTreeMap<String, Rule>,
    /// Image digests, by `repository:tag`.
    pub images: BTreeMap<String, String>,
    /// Roles that Lambda cannot assume before a time.
    pub roles_assumable_at: BTreeMap<String, Duration>,
}

impl Account {
    /// A new id.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}-{:017x}", self.serial)
    }

    /// Time goes on.
    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.run_copies();
        self.run_upkeep();
        self.serve(by);
        self.settle();
    }

    /// What was due has happened.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        let is_there = |gone_at: &Option<Duration>| gone_at.is_none_or(|at| at > now);
        self.mount_targets.retain(|_, it| is_there(&it.gone_at));
        self.access_points.retain(|_, it| is_there(&it.gone_at));
        self.file_systems.retain(|_, it| is_there(&it.gone_at));
        self.folders.retain(|(id, _), _| self.file_systems.contains_key(id));
        self.interfaces.retain(|(_, gone_at)| *gone_at > now);
        for function in self.functions.values_mut() {
            function.settle(now, &self.broken);
        }
    }

    /// An access point by its ARN, with its id.
    #[must_use]
    pub fn access_point_by_arn(&self, arn: &str) -> Option<(&String, &AccessPoint)> {
        self.access_points.iter().find(|(id, _)| arn.ends_with(&format!("/{id}")))
    }

    /// The folder that a function with these settings sees.
    #[must_use]
    pub fn folder_of(&self, config: &FunctionConfig) -> Option<(String, String)> {
        let (arn, _) = config.mount.as_ref()?;
        let (_, ap) = self.access_point_by_arn(arn)?;
        Some((ap.file_system.clone(), ap.spec.path.clone()))
    }

    /// The revision of what lies at a source; none when there is nothing.
    #[must_use]
    pub fn revision_at(&self, source: &ModelSource) -> Option<(Digest, u64, u64)> {
        let entries = match source {
            ModelSource::S3(S3Prefix { bucket, prefix }) => entries(self.buckets.get(bucket)?, prefix),
            ModelSource::Oci(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => {
                self.elsewhere.get(source)?.clone()
            }
        };
        (!entries.is_empty()).then(|| {
            let bytes = entries.iter().map(|e| e.size).sum();
            (larder_contract::revision::revision(&entries), bytes, entries.len() as u64)
        })
    }
}

/// The objects under a prefix that can be files.
fn entries(bucket: &Bucket, prefix: &str) -> Vec<larder_contract::ObjectEntry> {
    bucket
        .iter()
        .filter_map(|(key, Object { size, etag, .. })| {
            let path = larder_contract::RelativePath::parse(key.strip_prefix(prefix)?).ok()?;
            Some(larder_contract::ObjectEntry { path, size: *size, etag: etag.clone() })
        })
        .collect()
}

/// The ARN of an access point.
#[must_use]
pub fn access_point_arn(id: &str) -> String {
    format!("arn:aws:elasticfilesystem:eu-west-1:111122223333:access-point/{id}")
}
