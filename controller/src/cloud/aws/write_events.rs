//! Writes to the queue of S3's events and to the rule that sends them there.

use aws_sdk_eventbridge::types::{RuleState, Tag, Target};
use aws_sdk_sqs::types::QueueAttributeName;
use larder_core::Class;
use larder_core::names::Owner;
use larder_core::plan::TARGET;
use serde_json::json;

use super::clients::Clients;
use super::error::Call;
use super::events::statement;
use super::tags;
use crate::cloud::Result;

/// Seconds that a message is kept: it only wakes, and after an hour listings have found what it was about.
const RETENTION: &str = "3600";

/// Seconds for which a message that was read is hidden from other readers.
const VISIBILITY: &str = "30";

impl Clients {
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html>
    pub(super) async fn create_queue(&self, name: &str, owner: &Owner) -> Result<()> {
        let call = Call::new("CreateQueue", format!("queue {name}"));
        let request = self.sqs.create_queue().queue_name(name);
        let request = request
            .attributes(QueueAttributeName::MessageRetentionPeriod, RETENTION)
            .attributes(QueueAttributeName::VisibilityTimeout, VISIBILITY);
        call.done(request.set_tags(Some(tags(owner).into_iter().collect())).send().await)
    }

    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
    pub(super) async fn set_queue_policy(&self, url: &str, arn: &str) -> Result<()> {
        let call = Call::new("SetQueueAttributes", format!("queue {arn}"));
        let policy = json!({"Version": "2012-10-17", "Statement": [statement(arn)]}).to_string();
        let request = self.sqs.set_queue_attributes().queue_url(url);
        call.done(request.attributes(QueueAttributeName::Policy, policy).send().await)
    }

    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteQueue.html>
    pub(super) async fn delete_queue(&self, url: &str) -> Result<()> {
        let call = Call::new("DeleteQueue", format!("queue {url}"));
        call.done(self.sqs.delete_queue().queue_url(url).send().await)
    }

    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html>
    pub(super) async fn put_rule(
        &self,
        name: &str,
        owner: &Owner,
        pattern: &str,
        is_new: bool,
    ) -> Result<()> {
        let call = Call::new("PutRule", format!("rule {name}"));
        let mut request = self.eventbridge.put_rule().name(name).event_pattern(pattern);
        if is_new {
            for (key, value) in tags(owner) {
                request = request.tags(call.built(Tag::builder().key(key).value(value).build())?);
            }
        }
        call.done(request.state(RuleState::Enabled).send().await)
    }

    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutTargets.html>
    pub(super) async fn put_target(&self, rule: &str, queue_arn: &str) -> Result<()> {
        let call = Call::new("PutTargets", format!("rule {rule}"));
        let target = call.built(Target::builder().id(TARGET).arn(queue_arn).build())?;
        let answer = call.answer(self.eventbridge.put_targets().rule(rule).targets(target).send().await)?;
        match answer.failed_entries.unwrap_or_default().first() {
            None => Ok(()),
            Some(failed) => {
                let (code, message) = (failed.error_code(), failed.error_message());
                Err(call.failed(Class::Transient, code.unwrap_or_default(), message.unwrap_or_default()))
            }
        }
    }

    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_RemoveTargets.html>
    pub(super) async fn remove_targets(&self, rule: &str, targets: &[String]) -> Result<()> {
        let call = Call::new("RemoveTargets", format!("rule {rule}"));
        let request = self.eventbridge.remove_targets().rule(rule).set_ids(Some(targets.to_vec()));
        call.done(request.send().await)
    }

    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DeleteRule.html>
    pub(super) async fn delete_rule(&self, name: &str) -> Result<()> {
        let call = Call::new("DeleteRule", format!("rule {name}"));
        call.done(self.eventbridge.delete_rule().name(name).send().await)
    }
}
