//! What is asked of AWS. The trait has two implementations: [`aws`], over the official SDKs, and the
//! in-memory world of the tests.
//!
//! Reads are typed and small, lists come in pages as AWS gives them, and every write is one
//! [`Step`]. Retry classes are decided by the implementations and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use larder_contract::sync::{SyncReport, SyncRequest};
use larder_contract::upkeep::Inventory;
use larder_contract::{ModelSource, ObjectEntry};
use larder_core::endpoint::CodeRef;
use larder_core::names::Owner;
use larder_core::observed::{
    Alias, Code, EventRule, FileSystem, Function, FunctionUrl, Health, LogGroup, MountTarget, Provisioned,
    Queue, Remote, Subnet,
};
use larder_core::{Class, Problem, Step};

pub mod aws;

/// A call that failed.
#[derive(Debug)]
pub struct CloudError {
    /// What failed, as data: operation, resource, class, code, message, request id.
    pub problem: Problem,
    /// The SDK's error, for logs.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CloudError {
    /// An error without an SDK error behind it.
    #[must_use]
    pub fn new(operation: &'static str, resource: &str, class: Class, code: &str, message: &str) -> Self {
        Self {
            problem: Problem {
                operation,
                resource: resource.to_owned(),
                class,
                code: code.to_owned(),
                message: message.to_owned(),
                request_id: None,
            },
            source: None,
        }
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.problem, f)
    }
}

impl std::error::Error for CloudError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, CloudError>;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Asks for the next page; none on the last.
    pub next: Option<String>,
}

/// How a file system is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemQuery<'a> {
    /// Ours, by its creation token: foreign when its owner tag is not `owner`.
    Ours {
        /// The creation token.
        token: &'a str,
        /// The owner tag that it must have.
        owner: &'a Owner,
    },
    /// One that exists, by id, whoever owns it. Absent when there is none.
    Existing(&'a str),
}

/// An access point as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccessPoint {
    /// Its id.
    pub id: String,
    /// Its client token.
    pub token: String,
    /// The access point, or foreign when its owner tag is not the one asked for.
    pub it: Remote<larder_core::observed::AccessPoint>,
}

/// What is asked of AWS. "Not there" is an answer, never an error, unless the thing was brought by the
/// user (a bucket, an image): then the error's class is `NotFound`.
pub trait Cloud: Send + Sync {
    /// The subnets with these ids (`DescribeSubnets`). Unknown ids are an error of class `NotFound`.
    fn subnets(&self, ids: &BTreeSet<String>) -> impl Future<Output = Result<Vec<Subnet>>> + Send;

    /// The ids of the network interfaces whose description names a function, or one whose name begins so
    /// (`DescribeNetworkInterfaces`).
    fn interfaces(
        &self,
        function: &str,
        page: Option<String>,
    ) -> impl Future<Output = Result<Page<String>>> + Send;

    /// A file system (`DescribeFileSystems`).
    fn file_system(
        &self,
        query: FileSystemQuery<'_>,
    ) -> impl Future<Output = Result<Remote<FileSystem>>> + Send;

    /// The mount targets of a file system (`DescribeMountTargets`, and their security groups).
    fn mount_targets(
        &self,
        file_system: &str,
        page: Option<String>,
    ) -> impl Future<Output = Result<Page<MountTarget>>> + Send;

    /// The access points of a file system (`DescribeAccessPoints`).
    fn access_points(
        &self,
        file_system: &str,
        owner: &Owner,
        page: Option<String>,
    ) -> impl Future<Output = Result<Page<ListedAccessPoint>>> + Send;

    /// Log groups with these names, each of which begins with the first (`DescribeLogGroups`, `ListTagsForResource`).
    fn log_groups<const N: usize>(
        &self,
        names: [&str; N],
        owner: &Owner,
    ) -> impl Future<Output = Result<[Remote<LogGroup>; N]>> + Send;

    /// A function's `$LATEST` (`GetFunction`), foreign when its owner tag is not `owner`.
    fn function(&self, name: &str, owner: &Owner) -> impl Future<Output = Result<Remote<Function>>> + Send;

    /// The numbers of a function's published versions (`ListVersionsByFunction`), in any order.
    fn version_numbers(
        &self,
        function: &str,
        page: Option<String>,
    ) -> impl Future<Output = Result<Page<u64>>> + Send;

    /// A published version (`GetFunction` with a qualifier).
    fn version(
        &self,
        function: &str,
        number: u64,
        owner: &Owner,
    ) -> impl Future<Output = Result<Remote<Function>>> + Send;

    /// A version's provisioned concurrency (`GetProvisionedConcurrencyConfig`).
    fn provisioned(
        &self,
        function: &str,
        number: u64,
    ) -> impl Future<Output = Result<Option<Provisioned>>> + Send;

    /// The function's alias (`GetAlias`).
    fn alias(&self, function: &str) -> impl Future<Output = Result<Option<Alias>>> + Send;

    /// The version that the function's alias points at (`GetFunction` with the alias as its qualifier); 0 for
    /// `$LATEST`. It costs nothing of the rate that [`Self::alias`] is counted against, and does not tell weights.
    fn serving(&self, function: &str) -> impl Future<Output = Result<Option<u64>>> + Send;

    /// The function URL on the alias (`GetFunctionUrlConfig`).
    fn function_url(&self, function: &str) -> impl Future<Output = Result<Option<FunctionUrl>>> + Send;

    /// The alias's policy statements whose ids begin with `larder-`, and whether each allows what its id says
    /// (`GetPolicy`).
    fn permissions(&self, function: &str) -> impl Future<Output = Result<BTreeMap<String, bool>>> + Send;

    /// What a published version answers to a payload (`Invoke`, synchronously), or how it failed by its own words.
    fn ask(
        &self,
        function: &str,
        version: u64,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<std::result::Result<Vec<u8>, String>>> + Send;

    /// How a version does with its share of the alias's requests (`GetMetricData`, `DescribeAlarms`). An alarm that is
    /// not there is an error of class `NotFound`.
    fn health(&self, query: &HealthQuery<'_>) -> impl Future<Output = Result<Health>> + Send;

    /// What code resolves to: an image's digest (`DescribeImages`), or an archive's SHA-256
    /// (`HeadObject`, or its bytes where S3 has no such checksum).
    fn code(&self, code: &CodeRef) -> impl Future<Output = Result<Code>> + Send;

    /// The objects under a prefix (`ListObjectsV2`): the key without the prefix, size, `ETag` and time.
    fn objects(
        &self,
        bucket: &str,
        prefix: &str,
        page: Option<String>,
    ) -> impl Future<Output = Result<Page<ListedObject>>> + Send;

    /// The bytes of a small object (`GetObject`). One of more than `limit` bytes is an error of class `Invalid`.
    fn object(&self, bucket: &str, key: &str, limit: u64) -> impl Future<Output = Result<Vec<u8>>> + Send;

    /// What lies on the file system (`Invoke` of the model-sync function, synchronously).
    fn inventory(&self, function: &str) -> impl Future<Output = Result<Inventory>> + Send;

    /// The files of a source other than S3 (`GET`, of whoever has them).
    fn files(&self, source: &ModelSource) -> impl Future<Output = Result<Vec<ObjectEntry>>> + Send;

    /// A queue (`GetQueueUrl`, `GetQueueAttributes`, `ListQueueTags`).
    fn event_queue(&self, name: &str, owner: &Owner) -> impl Future<Output = Result<Remote<Queue>>> + Send;

    /// A rule on the default event bus (`DescribeRule`, `ListTargetsByRule`, `ListTagsForResource`).
    fn event_rule(&self, name: &str, owner: &Owner)
    -> impl Future<Output = Result<Remote<EventRule>>> + Send;

    /// Whether any rule sends to a queue, but for this one, if one is named (`ListRuleNamesByTarget`).
    fn is_shared(&self, queue_arn: &str, rule: Option<&str>) -> impl Future<Output = Result<bool>> + Send;

    /// Whether a bucket sends its events to Amazon `EventBridge` (`GetBucketNotificationConfiguration`).
    fn sends_events(&self, bucket: &str) -> impl Future<Output = Result<bool>> + Send;

    /// How far a copy is (`Invoke` of the model-sync function, synchronously).
    fn sync_status(
        &self,
        function: &str,
        request: &SyncRequest,
    ) -> impl Future<Output = Result<SyncReport>> + Send;

    /// Writes. A step whose precondition no longer holds fails with class `Conflict`, and deleting what
    /// is gone succeeds.
    fn perform(&self, step: &Step) -> impl Future<Output = Result<()>> + Send;
}

/// What is asked of a version that takes a share of the requests.
#[derive(Debug, Clone, Copy)]
pub struct HealthQuery<'a> {
    /// The function.
    pub function: &'a str,
    /// The version.
    pub version: u64,
    /// From when on.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Its invocations are to be counted.
    pub has_metrics: bool,
    /// The names of alarms.
    pub alarms: &'a [String],
}

/// An object as a list shows it; its key may be unsafe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key, with the prefix taken off.
    pub relative_key: String,
    /// Bytes.
    pub size: u64,
    /// The `ETag`, without quotes.
    pub etag: String,
    /// When S3 says that it was written. Of an object in parts, when its upload began.
    pub modified: Timestamp,
}

impl TryFrom<ListedObject> for ObjectEntry {
    type Error = larder_contract::revision::UnsafePath;

    fn try_from(object: ListedObject) -> std::result::Result<Self, Self::Error> {
        let path = larder_contract::RelativePath::parse(&object.relative_key)?;
        Ok(Self { path, size: object.size, etag: object.etag })
    }
}
