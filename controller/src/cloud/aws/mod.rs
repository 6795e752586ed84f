//! AWS, over its own SDKs.
//!
//! - [`clients`]: from a place to clients: credentials, account, and what the process shares.
//! - [`door`]: opens a place once, and does not let those who wait for one that will not open pile up.
//! - [`budget`]: the token buckets of an account in a region.
//! - [`error`]: from an SDK's error to a class, the only place where that is decided.
//! - [`credits`]: burst credits of file systems, asked for rarely.
//! - [`efs`], [`lambda`], [`ec2`], [`ecr`], [`logs`], [`s3`], [`events`], [`sources`], [`sync`]: reads.
//! - [`health`]: what a new version answers, and how it does.
//! - [`notification`]: what a bucket tells whom, changed without losing what others put there.
//! - [`messages`]: the queue of S3's events, read.
//! - [`function`]: a Lambda function between AWS's words and ours, without I/O.
//! - [`perform`]: writes, by step; [`write_storage`], [`write_function`], [`write_traffic`],
//!   [`write_events`], [`write_tags`], [`sync`] make them.
//!
//! Deliberately absent: decisions, and retries. A call is made once; the next pass looks again.

#![expect(
    clippy::result_large_err,
    reason = "an error is rarer and slower than the network that it is about"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use larder_contract::sync::{SyncReport, SyncRequest};
use larder_contract::upkeep::Inventory;
use larder_contract::{ModelSource, ObjectEntry};
use larder_core::Step;
use larder_core::endpoint::CodeRef;
use larder_core::names::{OWNER_TAG, Owner};
use larder_core::observed::{
    Alias, Code, EventRule, FileSystem, Function, FunctionUrl, Health, LogGroup, MountTarget, Provisioned,
    Queue, Remote, Subnet,
};

use super::{Cloud, FileSystemQuery, HealthQuery, ListedAccessPoint, ListedObject, Page, Result};

mod budget;
mod clients;
mod credits;
mod door;
mod ec2;
mod ecr;
mod efs;
mod error;
mod events;
mod function;
mod health;
mod lambda;
mod logs;
mod messages;
mod notification;
mod perform;
mod s3;
mod sources;
mod sync;
mod write_events;
mod write_function;
mod write_storage;
mod write_tags;
mod write_traffic;

use budget::Rate;
pub use clients::{Connector, Settings};
pub use messages::Message;

/// One account in one region, as one role. Cheap to clone.
#[derive(Clone)]
pub struct AwsCloud(Arc<clients::Clients>);

impl AwsCloud {
    /// The account's id.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.0.account
    }

    /// Whether a look for drift may be at everything, so that changes still find room. It is counted with the answer.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.budget.has_room()
    }

    /// Does `work`, a look for drift, whose calls let those for changes go first.
    pub async fn yielding<F: Future>(work: F) -> F::Output {
        budget::yielding(work).await
    }
}

impl fmt::Debug for AwsCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCloud")
            .field("account", &self.0.account)
            .field("region", &self.0.region)
            .finish_non_exhaustive()
    }
}

/// What was found, unless its owner tag is another than `owner`; tags are set by `id`.
fn owned<T>(remote: Remote<T>, owner: &Owner, tag: Option<&str>, id: &str) -> Remote<T> {
    if tag == Some(owner.0.as_str()) || matches!(remote, Remote::Absent) {
        remote
    } else {
        Remote::Foreign { owner: tag.unwrap_or_default().to_owned(), id: id.to_owned() }
    }
}

/// The tags of what is made for `owner`.
fn tags(owner: &Owner) -> [(String, String); 1] {
    [(OWNER_TAG.to_owned(), owner.0.clone())]
}

impl Cloud for AwsCloud {
    async fn subnets(&self, ids: &BTreeSet<String>) -> Result<Vec<Subnet>> {
        self.0.subnets(ids).await
    }

    async fn interfaces(&self, function: &str, page: Option<String>) -> Result<Page<String>> {
        self.0.interfaces(function, page).await
    }

    async fn file_system(&self, query: FileSystemQuery<'_>) -> Result<Remote<FileSystem>> {
        self.0.file_system(query).await
    }

    async fn mount_targets(&self, file_system: &str, page: Option<String>) -> Result<Page<MountTarget>> {
        self.0.mount_targets(file_system, page).await
    }

    async fn access_points(
        &self,
        file_system: &str,
        owner: &Owner,
        page: Option<String>,
    ) -> Result<Page<ListedAccessPoint>> {
        self.0.access_points(file_system, owner, page).await
    }

    async fn log_groups<const N: usize>(
        &self,
        names: [&str; N],
        owner: &Owner,
    ) -> Result<[Remote<LogGroup>; N]> {
        self.0.log_groups(names, owner).await
    }

    async fn function(&self, name: &str, owner: &Owner) -> Result<Remote<Function>> {
        self.0.budget.heed(Rate::GetFunction, self.0.function(name, owner).await)
    }

    async fn version_numbers(&self, function: &str, page: Option<String>) -> Result<Page<u64>> {
        self.0.budget.heed(Rate::Control, self.0.version_numbers(function, page).await)
    }

    async fn version(&self, function: &str, number: u64, owner: &Owner) -> Result<Remote<Function>> {
        self.0.budget.heed(Rate::GetFunction, self.0.version(function, number, owner).await)
    }

    async fn provisioned(&self, function: &str, number: u64) -> Result<Option<Provisioned>> {
        self.0.budget.heed(Rate::Control, self.0.provisioned(function, number).await)
    }

    async fn alias(&self, function: &str) -> Result<Option<Alias>> {
        self.0.budget.heed(Rate::Control, self.0.alias(function).await)
    }

    async fn serving(&self, function: &str) -> Result<Option<u64>> {
        self.0.budget.heed(Rate::GetFunction, self.0.serving(function).await)
    }

    async fn function_url(&self, function: &str) -> Result<Option<FunctionUrl>> {
        self.0.budget.heed(Rate::Control, self.0.function_url(function).await)
    }

    async fn permissions(&self, function: &str) -> Result<BTreeMap<String, bool>> {
        self.0.budget.heed(Rate::GetPolicy, self.0.permissions(function).await)
    }

    async fn ask(
        &self,
        function: &str,
        version: u64,
        payload: Vec<u8>,
    ) -> Result<std::result::Result<Vec<u8>, String>> {
        self.0.ask_version(function, version, payload).await
    }

    async fn health(&self, query: &HealthQuery<'_>) -> Result<Health> {
        self.0.health(query).await
    }

    async fn code(&self, code: &CodeRef) -> Result<Code> {
        match code {
            CodeRef::Image(image) => self.0.image(image).await,
            CodeRef::Zip { bucket, key, version_id } => {
                self.0.archive(bucket, key, version_id.as_deref()).await
            }
        }
    }

    async fn objects(&self, bucket: &str, prefix: &str, page: Option<String>) -> Result<Page<ListedObject>> {
        self.0.objects(bucket, prefix, page).await
    }

    async fn object(&self, bucket: &str, key: &str, limit: u64) -> Result<Vec<u8>> {
        self.0.object(bucket, key, limit).await
    }

    async fn inventory(&self, function: &str) -> Result<Inventory> {
        self.0.inventory(function).await
    }

    async fn files(&self, source: &ModelSource) -> Result<Vec<ObjectEntry>> {
        self.0.files(source).await
    }

    async fn event_queue(&self, name: &str, owner: &Owner) -> Result<Remote<Queue>> {
        self.0.event_queue(name, owner).await
    }

    async fn event_rule(&self, name: &str, owner: &Owner) -> Result<Remote<EventRule>> {
        self.0.event_rule(name, owner).await
    }

    async fn is_shared(&self, queue_arn: &str, rule: Option<&str>) -> Result<bool> {
        self.0.is_shared(queue_arn, rule).await
    }

    async fn sends_events(&self, bucket: &str) -> Result<bool> {
        self.0.sends_events(bucket).await
    }

    async fn sync_status(&self, function: &str, request: &SyncRequest) -> Result<SyncReport> {
        self.0.sync_status(function, request).await
    }

    async fn perform(&self, step: &Step) -> Result<()> {
        self.0.perform(step).await
    }
}
