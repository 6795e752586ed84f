//! The controller's trait, over the world.

use std::collections::{BTreeMap, BTreeSet};

use larder::cloud::{Cloud, FileSystemQuery, HealthQuery, ListedAccessPoint, ListedObject, Page, Result};
use larder_contract::sync::{SyncReport, SyncRequest};
use larder_contract::upkeep::Inventory;
use larder_contract::{ModelSource, ObjectEntry};
use larder_core::endpoint::CodeRef;
use larder_core::names::Owner;
use larder_core::observed::{
    Alias, Code, EventRule, FileSystem, Function, FunctionUrl, Health, LogGroup, MountTarget, Provisioned,
    Queue, Remote, Subnet,
};
use larder_core::{Class, Step};

use super::World;
use super::account::refuse;

impl Cloud for World {
    async fn subnets(&self, ids: &BTreeSet<String>) -> Result<Vec<Subnet>> {
        self.read("DescribeSubnets", "the subnets", |account| {
            ids.iter()
                .map(|id| match account.subnets.get(id) {
                    Some(subnet) => Ok(subnet.clone()),
                    None => refuse(
                        Class::NotFound,
                        "InvalidSubnetID.NotFound",
                        format!("the subnet ID '{id}' does not exist"),
                    ),
                })
                .collect()
        })
        .await
    }

    async fn interfaces(&self, function: &str, page: Option<String>) -> Result<Page<String>> {
        let all = self
            .read("DescribeNetworkInterfaces", &format!("interfaces of function {function}"), |account| {
                let left = account.interfaces.iter().filter(|(of, _)| of.starts_with(function));
                Ok(left.map(|(of, _)| format!("eni-of-{of}")).collect())
            })
            .await?;
        Ok(self.page(all, page.as_deref()))
    }

    async fn file_system(&self, query: FileSystemQuery<'_>) -> Result<Remote<FileSystem>> {
        let resource = match query {
            FileSystemQuery::Ours { token, .. } => format!("file system with token {token}"),
            FileSystemQuery::Existing(id) => format!("file system {id}"),
        };
        self.read("DescribeFileSystems", &resource, |account| {
            Ok(match query {
                FileSystemQuery::Ours { token, owner } => account.file_system_by_token(token, owner),
                FileSystemQuery::Existing(id) => account.file_system_by_id(id),
            })
        })
        .await
    }

    async fn mount_targets(&self, file_system: &str, page: Option<String>) -> Result<Page<MountTarget>> {
        let resource = format!("file system {file_system}");
        let all = self
            .read("DescribeMountTargets", &resource, |account| Ok(account.seen_mount_targets(file_system)))
            .await?;
        Ok(self.page(all, page.as_deref()))
    }

    async fn access_points(
        &self,
        file_system: &str,
        owner: &Owner,
        page: Option<String>,
    ) -> Result<Page<ListedAccessPoint>> {
        let resource = format!("file system {file_system}");
        let all = self
            .read("DescribeAccessPoints", &resource, |account| {
                Ok(account.seen_access_points(file_system, owner))
            })
            .await?;
        Ok(self.page(all, page.as_deref()))
    }

    async fn log_groups<const N: usize>(
        &self,
        names: [&str; N],
        owner: &Owner,
    ) -> Result<[Remote<LogGroup>; N]> {
        let prefix = names.first().copied().unwrap_or_default();
        self.read("DescribeLogGroups", &format!("log group {prefix}"), |account| {
            // A name that does not begin so is not listed.
            let listed = |name: &str| name.starts_with(prefix).then(|| account.seen_log_group(name, owner));
            Ok(names.map(|name| listed(name).unwrap_or(Remote::Absent)))
        })
        .await
    }

    async fn function(&self, name: &str, owner: &Owner) -> Result<Remote<Function>> {
        self.read(
            "GetFunction",
            &format!("function {name}"),
            |account| Ok(account.seen_function(name, owner)),
        )
        .await
    }

    async fn version_numbers(&self, function: &str, page: Option<String>) -> Result<Page<u64>> {
        let all = self
            .read("ListVersionsByFunction", &format!("function {function}"), |account| {
                let function = account.functions.get(function);
                Ok(function.map(|f| f.versions.keys().rev().copied().collect()).unwrap_or_default())
            })
            .await?;
        Ok(self.page(all, page.as_deref()))
    }

    async fn version(&self, function: &str, number: u64, owner: &Owner) -> Result<Remote<Function>> {
        self.read("GetFunction", &format!("function {function}:{number}"), |account| {
            Ok(account.seen_version(function, number, owner))
        })
        .await
    }

    async fn provisioned(&self, function: &str, number: u64) -> Result<Option<Provisioned>> {
        let resource = format!("function {function}:{number}");
        self.read("GetProvisionedConcurrencyConfig", &resource, |account| {
            Ok(account.seen_provisioned(function, number))
        })
        .await
    }

    async fn alias(&self, function: &str) -> Result<Option<Alias>> {
        self.read("GetAlias", &format!("function {function}"), |account| Ok(account.seen_alias(function)))
            .await
    }

    async fn serving(&self, function: &str) -> Result<Option<u64>> {
        self.read("GetFunction", &format!("function {function}:live"), |account| {
            Ok(account.seen_alias(function).map(|alias| alias.version))
        })
        .await
    }

    async fn function_url(&self, function: &str) -> Result<Option<FunctionUrl>> {
        let resource = format!("function {function}");
        self.read("GetFunctionUrlConfig", &resource, |account| Ok(account.seen_url(function))).await
    }

    async fn permissions(&self, function: &str) -> Result<BTreeMap<String, bool>> {
        self.read("GetPolicy", &format!("function {function}"), |account| {
            Ok(account.seen_permissions(function))
        })
        .await
    }

    async fn ask(
        &self,
        function: &str,
        version: u64,
        _payload: Vec<u8>,
    ) -> Result<std::result::Result<Vec<u8>, String>> {
        let resource = format!("function {function}:{version}");
        self.read("Invoke", &resource, |account| {
            account.asked += 1;
            account.answer(function, version)
        })
        .await
    }

    async fn health(&self, query: &HealthQuery<'_>) -> Result<Health> {
        let resource = format!("function {}:{}", query.function, query.version);
        self.read("GetMetricData", &resource, |account| account.health(query)).await
    }

    async fn code(&self, code: &CodeRef) -> Result<Code> {
        let operation = match code {
            CodeRef::Image(_) => "DescribeImages",
            CodeRef::Zip { .. } => "HeadObject",
        };
        self.read(operation, &code.to_string(), |account| account.resolve(code)).await
    }

    async fn objects(&self, bucket: &str, prefix: &str, page: Option<String>) -> Result<Page<ListedObject>> {
        let all = self
            .read("ListObjectsV2", &format!("bucket {bucket}"), |account| {
                account.listed_objects(bucket, prefix)
            })
            .await?;
        Ok(self.page(all, page.as_deref()))
    }

    async fn object(&self, bucket: &str, key: &str, limit: u64) -> Result<Vec<u8>> {
        let resource = format!("object s3://{bucket}/{key}");
        self.read("GetObject", &resource, |account| account.content(bucket, key, limit)).await
    }

    async fn inventory(&self, function: &str) -> Result<Inventory> {
        self.read("Invoke", &format!("function {function}"), |account| account.inventory(function)).await
    }

    async fn files(&self, source: &ModelSource) -> Result<Vec<ObjectEntry>> {
        self.read("GET", &source.to_string(), |account| account.listed_files(source)).await
    }

    async fn event_queue(&self, name: &str, owner: &Owner) -> Result<Remote<Queue>> {
        self.read("GetQueueAttributes", &format!("queue {name}"), |account| {
            Ok(account.seen_queue(name, owner))
        })
        .await
    }

    async fn event_rule(&self, name: &str, owner: &Owner) -> Result<Remote<EventRule>> {
        self.read("DescribeRule", &format!("rule {name}"), |account| Ok(account.seen_rule(name, owner))).await
    }

    async fn is_shared(&self, queue_arn: &str, rule: Option<&str>) -> Result<bool> {
        let resource = format!("queue {queue_arn}");
        self.read("ListRuleNamesByTarget", &resource, |account| Ok(account.is_shared(queue_arn, rule))).await
    }

    async fn sends_events(&self, bucket: &str) -> Result<bool> {
        let resource = format!("bucket {bucket}");
        self.read("GetBucketNotificationConfiguration", &resource, |account| account.sends_events(bucket))
            .await
    }

    async fn sync_status(&self, function: &str, request: &SyncRequest) -> Result<SyncReport> {
        self.read("Invoke", &format!("function {function}"), |account| account.sync_report(function, request))
            .await
    }

    async fn perform(&self, step: &Step) -> Result<()> {
        self.write(step).await
    }
}
