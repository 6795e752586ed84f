//! Log groups.

use larder_core::names::{OWNER_TAG, Owner};
use larder_core::observed::{LogGroup, Remote};

use super::clients::Clients;
use super::error::Call;
use super::owned;
use crate::cloud::Result;

impl Clients {
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DescribeLogGroups.html>
    pub(super) async fn log_group(&self, name: &str, owner: &Owner) -> Result<Remote<LogGroup>> {
        let resource = format!("log group {name}");
        let call = Call::new("DescribeLogGroups", resource.as_str());
        // Sorted by name, and none that begins with the whole name comes before it: one page will do.
        let request = self.logs.describe_log_groups().log_group_name_prefix(name);
        let answer = call.found(request.send().await)?;
        let groups = answer.and_then(|answer| answer.log_groups).unwrap_or_default();
        let Some(group) = groups.into_iter().find(|group| group.log_group_name.as_deref() == Some(name))
        else {
            return Ok(Remote::Absent);
        };
        let arn = group.log_group_arn.or(group.arn).ok_or_else(|| call.lacks("ARN"))?;
        let arn = arn.trim_end_matches(":*");
        let call = Call::new("ListTagsForResource", resource);
        let request = self.logs.list_tags_for_resource().resource_arn(arn);
        let Some(tags) = call.found(request.send().await)? else {
            return Ok(Remote::Absent); // deleted in between
        };
        let tags = tags.tags.unwrap_or_default();
        let found = Remote::Ready(LogGroup { retention_days: group.retention_in_days });
        Ok(owned(found, owner, tags.get(OWNER_TAG).map(String::as_str), arn))
    }
}
