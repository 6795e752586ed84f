//! The queue of S3's events, and the rule that sends them there.

use std::collections::BTreeMap;

use aws_sdk_eventbridge::types::RuleState;
use aws_sdk_sqs::types::QueueAttributeName;
use larder_core::Class;
use larder_core::names::{OWNER_TAG, Owner};
use larder_core::observed::{EventRule, Queue, Remote};
use serde_json::{Value, json};

use super::clients::Clients;
use super::error::Call;
use super::owned;
use crate::cloud::Result;

/// The most pages of targets or rules; a rule has at most five targets.
const MAX_PAGES: usize = 100;

impl Clients {
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
    pub(super) async fn event_queue(&self, name: &str, owner: &Owner) -> Result<Remote<Queue>> {
        let resource = format!("queue {name}");
        let call = Call::new("GetQueueUrl", resource.as_str());
        let Some(found) = call.found(self.sqs.get_queue_url().queue_name(name).send().await)? else {
            return Ok(Remote::Absent);
        };
        let url = found.queue_url.ok_or_else(|| call.lacks("URL"))?;
        let call = Call::new("GetQueueAttributes", resource.as_str());
        let request = self.sqs.get_queue_attributes().queue_url(&url);
        let request =
            request.attribute_names(QueueAttributeName::QueueArn).attribute_names(QueueAttributeName::Policy);
        let Some(answer) = call.found(request.send().await)? else {
            return Ok(Remote::Absent); // deleted in between
        };
        let attribute = |name| answer.attributes.as_ref().and_then(|all| all.get(&name)).cloned();
        let arn = attribute(QueueAttributeName::QueueArn).ok_or_else(|| call.lacks("ARN"))?;
        let policy = attribute(QueueAttributeName::Policy).unwrap_or_default();
        let call = Call::new("ListQueueTags", resource);
        let Some(answer) = call.found(self.sqs.list_queue_tags().queue_url(&url).send().await)? else {
            return Ok(Remote::Absent);
        };
        let tag = answer.tags.as_ref().and_then(|tags| tags.get(OWNER_TAG)).map(String::as_str);
        let takes_events = is_allowed(&policy, &arn);
        let id = url.clone();
        Ok(owned(Remote::Ready(Queue { url, arn, takes_events }), owner, tag, &id))
    }

    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DescribeRule.html>
    pub(super) async fn event_rule(&self, name: &str, owner: &Owner) -> Result<Remote<EventRule>> {
        let resource = format!("rule {name}");
        let call = Call::new("DescribeRule", resource.as_str());
        let Some(rule) = call.found(self.eventbridge.describe_rule().name(name).send().await)? else {
            return Ok(Remote::Absent);
        };
        let arn = rule.arn.ok_or_else(|| call.lacks("ARN"))?;
        let call = Call::new("ListTagsForResource", resource.as_str());
        let request = self.eventbridge.list_tags_for_resource().resource_arn(&arn);
        let Some(tags) = call.found(request.send().await)? else { return Ok(Remote::Absent) };
        let tags = tags.tags.unwrap_or_default();
        let tag = tags.iter().find(|tag| tag.key() == OWNER_TAG).map(|tag| tag.value().to_owned());
        let call = Call::new("ListTargetsByRule", resource);
        let mut targets = BTreeMap::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let request = self.eventbridge.list_targets_by_rule().rule(name).set_next_token(next);
            let Some(page) = call.found(request.send().await)? else { return Ok(Remote::Absent) };
            targets
                .extend(page.targets.unwrap_or_default().into_iter().map(|target| (target.id, target.arn)));
            next = page.next_token;
            if next.is_none() {
                let is_enabled = rule.state != Some(RuleState::Disabled);
                let pattern = rule.event_pattern.unwrap_or_default();
                let it = EventRule { pattern, is_enabled, targets };
                return Ok(owned(Remote::Ready(it), owner, tag.as_deref(), &arn));
            }
        }
        Err(call.failed(Class::Invalid, "", "its targets have more than 100 pages"))
    }

    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_ListRuleNamesByTarget.html>
    pub(super) async fn is_shared(&self, queue_arn: &str, rule: Option<&str>) -> Result<bool> {
        let call = Call::new("ListRuleNamesByTarget", format!("queue {queue_arn}"));
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let request = self.eventbridge.list_rule_names_by_target().target_arn(queue_arn);
            let Some(page) = call.found(request.set_next_token(next).send().await)? else { return Ok(false) };
            if page.rule_names.unwrap_or_default().iter().any(|name| Some(name.as_str()) != rule) {
                return Ok(true);
            }
            next = page.next_token;
            if next.is_none() {
                return Ok(false);
            }
        }
        Err(call.failed(Class::Invalid, "", "its rules have more than 100 pages"))
    }
}

/// The statement that lets Larder's rules send to a queue.
pub(super) fn statement(queue_arn: &str) -> Value {
    // arn:PARTITION:sqs:REGION:ACCOUNT:NAME
    let part = |n| queue_arn.split(':').nth(n).unwrap_or_default();
    let rules = format!("arn:{}:events:{}:{}:rule/larder-*", part(1), part(3), part(4));
    json!({
        "Sid": "larder-events",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnLike": {"aws:SourceArn": rules}},
    })
}

fn is_allowed(policy: &str, queue_arn: &str) -> bool {
    let policy: Value = serde_json::from_str(policy).unwrap_or_default();
    let statements = policy.get("Statement").and_then(Value::as_array);
    statements.is_some_and(|all| all.contains(&statement(queue_arn)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_events_when_its_policy_has_the_statement() {
        let arn = "arn:aws-cn:sqs:cn-north-1:111122223333:larder-events-x";
        let with = |statements: Value| json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        assert!(is_allowed(&with(json!([{"Sid": "another"}, statement(arn)])), arn));
        assert_eq!(
            statement(arn)["Condition"]["ArnLike"]["aws:SourceArn"],
            "arn:aws-cn:events:cn-north-1:111122223333:rule/larder-*"
        );
        for policy in ["", "{}", "[]", &with(json!([])), &with(json!([statement("arn:aws:sqs:a:b:c")]))] {
            assert!(!is_allowed(policy, arn), "{policy}");
        }
    }
}
