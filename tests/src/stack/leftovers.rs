//! What of Larder's is in the emulator: after a delete, nothing may be.

use std::collections::BTreeSet;
use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_efs::types::Tag;

use super::error::StackError;

/// The tag that says whose a resource is.
const OWNER: &str = "larder.dev/owner";
/// What every name that Larder makes holds.
const NAME: &str = "larder";

/// An AWS resource that is Larder's by tag or name, or hangs on one that is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// What it is, in words.
    pub kind: &'static str,
    /// Its id, name or URL.
    pub id: String,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// Everything that is left, in order. `capacities` are the provisioned concurrency configurations.
pub(super) async fn list(config: &SdkConfig, capacities: Vec<String>) -> Result<Vec<Leftover>, StackError> {
    let mut found: BTreeSet<Leftover> =
        capacities.into_iter().map(|id| Leftover { kind: "provisioned concurrency", id }).collect();
    storage(config, &mut found).await?;
    functions(config, &mut found).await?;
    surroundings(config, &mut found).await?;
    events(config, &mut found).await?;
    Ok(found.into_iter().collect())
}

async fn storage(config: &SdkConfig, found: &mut BTreeSet<Leftover>) -> Result<(), StackError> {
    let efs = aws_sdk_efs::Client::new(config);
    let systems = efs
        .describe_file_systems()
        .max_items(1000)
        .send()
        .await
        .map_err(StackError::aws("DescribeFileSystems"))?;
    let mut owned = BTreeSet::new();
    for system in systems.file_systems() {
        if ours(system.tags()) || system.creation_token().contains(NAME) {
            owned.insert(system.file_system_id().to_owned());
            found.insert(Leftover { kind: "file system", id: system.file_system_id().to_owned() });
        }
    }
    for system in &owned {
        let targets = efs.describe_mount_targets().file_system_id(system).send().await;
        for target in targets.map_err(StackError::aws("DescribeMountTargets"))?.mount_targets() {
            found.insert(Leftover {
                kind: "mount target",
                id: format!("{} of {system}", target.mount_target_id()),
            });
        }
    }
    let points = efs.describe_access_points().max_results(1000).send().await;
    for point in points.map_err(StackError::aws("DescribeAccessPoints"))?.access_points() {
        let system = point.file_system_id().unwrap_or_default();
        if ours(point.tags()) || owned.contains(system) {
            let id = point.access_point_id().unwrap_or_default();
            found.insert(Leftover { kind: "access point", id: format!("{id} of {system}") });
        }
    }
    Ok(())
}

fn ours(tags: &[Tag]) -> bool {
    tags.iter().any(|tag| tag.key() == OWNER || (tag.key() == "Name" && tag.value().contains(NAME)))
}

async fn functions(config: &SdkConfig, found: &mut BTreeSet<Leftover>) -> Result<(), StackError> {
    let lambda = aws_sdk_lambda::Client::new(config);
    let mut pages = lambda.list_functions().into_paginator().items().send();
    while let Some(function) = pages.next().await {
        let function = function.map_err(StackError::aws("ListFunctions"))?;
        let name = function.function_name().unwrap_or_default().to_owned();
        let tags = lambda.list_tags().resource(function.function_arn().unwrap_or_default()).send().await;
        let tagged =
            tags.map_err(StackError::aws("ListTags"))?.tags().is_some_and(|tags| tags.contains_key(OWNER));
        if !tagged && !name.contains(NAME) {
            continue;
        }
        let versions = lambda.list_versions_by_function().function_name(&name).send().await;
        for version in versions.map_err(StackError::aws("ListVersionsByFunction"))?.versions() {
            let number = version.version().filter(|number| *number != "$LATEST");
            found.extend(
                number.map(|number| Leftover { kind: "function version", id: format!("{name}:{number}") }),
            );
        }
        let aliases = lambda.list_aliases().function_name(&name).send().await;
        for alias in aliases.map_err(StackError::aws("ListAliases"))?.aliases() {
            let id = format!("{name}:{}", alias.name().unwrap_or_default());
            found.insert(Leftover { kind: "alias", id });
        }
        let urls = lambda.list_function_url_configs().function_name(&name).send().await;
        for url in urls.map_err(StackError::aws("ListFunctionUrlConfigs"))?.function_url_configs() {
            found.insert(Leftover { kind: "function URL", id: url.function_url().to_owned() });
        }
        found.insert(Leftover { kind: "function", id: name });
    }
    Ok(())
}

async fn events(config: &SdkConfig, found: &mut BTreeSet<Leftover>) -> Result<(), StackError> {
    let queues = aws_sdk_sqs::Client::new(config).list_queues().queue_name_prefix(NAME).send().await;
    let queues = queues.map_err(StackError::aws("ListQueues"))?.queue_urls.unwrap_or_default();
    found.extend(queues.into_iter().map(|id| Leftover { kind: "queue", id }));
    let rules = aws_sdk_eventbridge::Client::new(config).list_rules().name_prefix(NAME).send().await;
    let rules = rules.map_err(StackError::aws("ListRules"))?.rules.unwrap_or_default();
    found.extend(rules.into_iter().filter_map(|rule| Some(Leftover { kind: "rule", id: rule.name? })));
    Ok(())
}

async fn surroundings(config: &SdkConfig, found: &mut BTreeSet<Leftover>) -> Result<(), StackError> {
    let logs = aws_sdk_cloudwatchlogs::Client::new(config);
    let mut pages = logs.describe_log_groups().into_paginator().items().send();
    while let Some(group) = pages.next().await {
        let group = group.map_err(StackError::aws("DescribeLogGroups"))?;
        let name = group.log_group_name().unwrap_or_default();
        if name.contains(NAME) {
            found.insert(Leftover { kind: "log group", id: name.to_owned() });
        }
    }
    let ec2 = aws_sdk_ec2::Client::new(config);
    let groups =
        ec2.describe_security_groups().send().await.map_err(StackError::aws("DescribeSecurityGroups"))?;
    for group in groups.security_groups() {
        if group.tags().iter().any(|tag| tag.key() == Some(OWNER)) {
            let id = group.group_id().unwrap_or_default().to_owned();
            found.insert(Leftover { kind: "security group", id });
        }
    }
    Ok(())
}
