//! Queues, rules on the default event bus, and what buckets tell whom.

use std::time::Duration;

use larder_core::Class;
use larder_core::names::Owner;
use larder_core::observed::{self, Remote};
use larder_core::plan::TARGET;

use super::account::{Account, Queue, Refusal, Rule, refuse};
use super::efs::owned;

/// How long the name of a deleted queue is taken.
const TAKEN: Duration = Duration::from_mins(1);

/// The ARN of a queue.
#[must_use]
pub fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:eu-west-1:111122223333:{name}")
}

fn queue_url(name: &str) -> String {
    format!("https://sqs.eu-west-1.amazonaws.com/111122223333/{name}")
}

/// The name of the queue at a URL.
#[must_use]
pub(super) fn queue_at(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

impl Account {
    pub(super) fn seen_queue(&self, name: &str, owner: &Owner) -> Remote<observed::Queue> {
        self.queues.get(name).map_or(Remote::Absent, |queue| {
            let (url, arn) = (queue_url(name), queue_arn(name));
            let it = observed::Queue { url, arn, takes_events: queue.takes_events };
            owned(queue.owner.as_ref(), owner, Remote::Ready(it), name)
        })
    }

    pub(super) fn seen_rule(&self, name: &str, owner: &Owner) -> Remote<observed::EventRule> {
        self.rules.get(name).map_or(Remote::Absent, |rule| {
            let Rule { pattern, is_enabled, targets, .. } = rule.clone();
            owned(
                rule.owner.as_ref(),
                owner,
                Remote::Ready(observed::EventRule { pattern, is_enabled, targets }),
                name,
            )
        })
    }

    pub(super) fn is_shared(&self, queue_arn: &str, rule: Option<&str>) -> bool {
        self.rules
            .iter()
            .any(|(name, it)| Some(name.as_str()) != rule && it.targets.values().any(|arn| arn == queue_arn))
    }

    pub(super) fn sends_events(&self, bucket: &str) -> Result<bool, Refusal> {
        if !self.buckets.contains_key(bucket) {
            return refuse(Class::NotFound, "NoSuchBucket", "the specified bucket does not exist");
        }
        Ok(self.notifications.get(bucket).is_some_and(|notification| notification.event_bridge))
    }

    pub(super) fn create_queue(&mut self, name: &str, owner: &Owner) -> Result<(), Refusal> {
        if self.deleted_queues.get(name).is_some_and(|until| *until > self.now) {
            return refuse(
                Class::Transient,
                "AWS.SimpleQueueService.QueueDeletedRecently",
                "you must wait 60 seconds after deleting a queue before you can create another with its name",
            );
        }
        // The same attributes: it is answered as if it had been made. Tags are those of the first.
        let queue = Queue { owner: Some(owner.0.clone()), takes_events: false };
        self.queues.entry(name.to_owned()).or_insert(queue);
        Ok(())
    }

    pub(super) fn set_queue_policy(&mut self, url: &str) -> Result<(), Refusal> {
        match self.queues.get_mut(queue_at(url)) {
            Some(queue) => {
                queue.takes_events = true;
                Ok(())
            }
            None => refuse(Class::NotFound, "QueueDoesNotExist", format!("{url} does not exist")),
        }
    }

    pub(super) fn delete_queue(&mut self, url: &str) {
        if self.queues.remove(queue_at(url)).is_some() {
            self.deleted_queues.insert(queue_at(url).to_owned(), self.now + TAKEN);
        }
    }

    pub(super) fn put_rule(&mut self, name: &str, owner: &Owner, pattern: &str, has_tags: bool) {
        let owner = has_tags.then(|| owner.0.clone());
        let new = || Rule {
            owner,
            pattern: String::new(),
            is_enabled: true,
            targets: std::collections::BTreeMap::new(),
        };
        let rule = self.rules.entry(name.to_owned()).or_insert_with(new);
        pattern.clone_into(&mut rule.pattern);
        rule.is_enabled = true;
    }

    fn rule_mut(&mut self, name: &str) -> Result<&mut Rule, Refusal> {
        if let Some(rule) = self.rules.get_mut(name) {
            return Ok(rule);
        }
        let message = format!("rule {name} does not exist on EventBus default");
        refuse(Class::NotFound, "ResourceNotFoundException", message)
    }

    pub(super) fn put_target(&mut self, rule: &str, queue_arn: &str) -> Result<(), Refusal> {
        self.rule_mut(rule)?.targets.insert(TARGET.to_owned(), queue_arn.to_owned());
        Ok(())
    }

    pub(super) fn remove_targets(&mut self, rule: &str, targets: &[String]) -> Result<(), Refusal> {
        self.rule_mut(rule)?.targets.retain(|id, _| !targets.contains(id));
        Ok(())
    }

    pub(super) fn delete_rule(&mut self, name: &str) -> Result<(), Refusal> {
        if self.rules.get(name).is_some_and(|rule| !rule.targets.is_empty()) {
            let message = "rule can't be deleted since it has targets";
            return refuse(Class::Invalid, "ValidationException", message);
        }
        self.rules.remove(name);
        Ok(())
    }

    pub(super) fn enable_bucket_events(&mut self, bucket: &str) -> Result<(), Refusal> {
        if !self.buckets.contains_key(bucket) {
            return refuse(Class::NotFound, "NoSuchBucket", "the specified bucket does not exist");
        }
        self.notifications.entry(bucket.to_owned()).or_default().event_bridge = true;
        Ok(())
    }
}
