//! Log groups.

use std::collections::BTreeMap;

use aws_sdk_cloudwatchlogs::types;
use futures::future::try_join_all;
use larder_core::names::{OWNER_TAG, Owner};
use larder_core::observed::{LogGroup, Remote};

use super::clients::Clients;
use super::error::Call;
use super::owned;
use crate::cloud::Result;

/// The most pages of log groups that are read for one endpoint.
const MAX_PAGES: usize = 20;

impl Clients {
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DescribeLogGroups.html>
    pub(super) async fn log_groups<const N: usize>(
        &self,
        names: [&str; N],
        owner: &Owner,
    ) -> Result<[Remote<LogGroup>; N]> {
        let listed = self.listed(&names).await?.into_iter();
        let found = listed.map(|(name, group)| async move {
            let group = self.log_group(&name, group, owner).await?;
            Ok((name, group))
        });
        let mut found: BTreeMap<String, Remote<LogGroup>> = try_join_all(found).await?.into_iter().collect();
        Ok(names.map(|name| found.remove(name).unwrap_or(Remote::Absent)))
    }

    /// Those of the named that are there, in one list: all of them begin with the first name.
    async fn listed(&self, names: &[&str]) -> Result<BTreeMap<String, types::LogGroup>> {
        let prefix = names.first().copied().unwrap_or_default();
        let call = Call::new("DescribeLogGroups", format!("log group {prefix}"));
        let (mut found, mut next) = (BTreeMap::new(), None);
        for _ in 0..MAX_PAGES {
            let request = self.logs.describe_log_groups().log_group_name_prefix(prefix).set_next_token(next);
            let Some(answer) = call.found(request.send().await)? else { break };
            let groups = answer.log_groups.unwrap_or_default().into_iter();
            let pairs = groups.filter_map(|group| Some((group.log_group_name.clone()?, group)));
            found.extend(pairs.filter(|(name, _)| names.contains(&name.as_str())));
            next = answer.next_token;
            if next.is_none() || found.len() == names.len() {
                break;
            }
        }
        Ok(found)
    }

    async fn log_group(&self, name: &str, group: types::LogGroup, owner: &Owner) -> Result<Remote<LogGroup>> {
        let call = Call::new("ListTagsForResource", format!("log group {name}"));
        let arn = group.log_group_arn.or(group.arn).ok_or_else(|| call.lacks("ARN"))?;
        let arn = arn.trim_end_matches(":*");
        let request = self.logs.list_tags_for_resource().resource_arn(arn);
        let Some(tags) = call.found(request.send().await)? else {
            return Ok(Remote::Absent); // deleted in between
        };
        let tags = tags.tags.unwrap_or_default();
        let found = Remote::Ready(LogGroup { retention_days: group.retention_in_days });
        Ok(owned(found, owner, tags.get(OWNER_TAG).map(String::as_str), arn))
    }
}
