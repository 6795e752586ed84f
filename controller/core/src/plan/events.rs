//! S3's events: a bucket sends them to Amazon `EventBridge`, a rule of the endpoint picks those of its sources,
//! and a queue that a controller's endpoints share keeps them until the controller has read them.
//!
//! A bucket that was told to send its events goes on doing so: others may have come to rely on it.

use super::adopt::{foreign, is_taken_over, left_alone};
use super::{Plan, Reason, either};
use crate::desired::{Desired, EventsWant, Want};
use crate::observed::{EventRule, Observed, Queue, Read, Remote};
use crate::step::{Step, Tagged};

/// The id of our target of our rule.
pub const TARGET: &str = "larder";

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    match &desired.events {
        Want::Leave => Plan::Converged,
        Want::Absent => either(remove(desired, observed)),
        Want::Present(want) => either(present(desired, want, observed)),
    }
}

fn present(desired: &Desired, want: &EventsWant, observed: &Observed) -> Result<Plan, Plan> {
    let seen = &observed.events;
    let names = &desired.names;
    // The status comes first: it is what a later deletion, or a spec without events, goes by.
    if !seen.is_announced {
        return Err(Plan::wait(Reason::InProgress, "the status to name the rule and the queue"));
    }
    let Some(queue) = queue(desired, &seen.queue)? else {
        return Err(Plan::Do(vec![Step::CreateQueue {
            name: names.event_queue.clone(),
            owner: names.cluster.clone(),
        }]));
    };
    if !queue.takes_events {
        let Queue { url, arn, .. } = queue.clone();
        return Err(Plan::Do(vec![Step::SetQueuePolicy { url, arn }]));
    }
    let right = |rule: &EventRule| rule.is_enabled && is_same(&rule.pattern, &want.pattern);
    let Some(rule) = rule(desired, observed)?.filter(|rule| right(rule)) else {
        return Err(Plan::Do(vec![Step::PutRule {
            name: names.event_rule.clone(),
            owner: names.owner.clone(),
            pattern: want.pattern.clone(),
            is_new: matches!(seen.rule, Ok(Remote::Absent)),
        }]));
    };
    if rule.targets.get(TARGET) != Some(&queue.arn) {
        remove_former(observed)?;
        return Err(Plan::Do(vec![Step::PutTarget {
            rule: names.event_rule.clone(),
            queue_arn: queue.arn.clone(),
        }]));
    }
    let mut steps = Vec::new();
    for bucket in &want.buckets {
        match seen.buckets.get(bucket) {
            Some(Ok(true)) => {}
            Some(Err(problem)) => return Err(Plan::from(problem)),
            Some(Ok(false)) => steps.push(Step::EnableBucketEvents { bucket: bucket.clone() }),
            None => return Err(Plan::wait(Reason::Waiting, format!("a look at bucket {bucket}"))),
        }
    }
    Ok(Plan::of(steps))
}

/// The rule, then the queue if no other rule sends to it. An earlier object's rule is taken over first.
fn remove(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    let (names, seen) = (&desired.names, &observed.events);
    if let Ok(Remote::Foreign { owner, .. }) = &seen.rule
        && is_taken_over(desired, observed, owner)
    {
        rule(desired, observed)?;
    }
    if let Some(rule) = seen.rule.as_ref().map_err(Plan::from)?.ours() {
        remove_former(observed)?;
        let name = names.event_rule.clone();
        let targets: Vec<String> = rule.targets.keys().cloned().collect();
        return Err(Plan::Do(vec![if targets.is_empty() {
            Step::DeleteRule { name }
        } else {
            Step::RemoveTargets { rule: name, targets }
        }]));
    }
    let Some(queue) = seen.queue.as_ref().map_err(Plan::from)?.ours() else { return Ok(Plan::Converged) };
    let is_shared = *seen.is_shared.as_ref().map_err(Plan::from)?;
    Ok(Plan::of(if is_shared { Vec::new() } else { vec![Step::DeleteQueue { url: queue.url.clone() }] }))
}

/// The queue of the controller that the endpoint has left, while the rule still tells which it is.
fn remove_former(observed: &Observed) -> Result<(), Plan> {
    match observed.events.former.as_ref().map_err(Plan::from)? {
        Some(Queue { url, .. }) => Err(Plan::Do(vec![Step::DeleteQueue { url: url.clone() }])),
        None => Ok(()),
    }
}

/// Whether two patterns are the same JSON.
fn is_same(a: &str, b: &str) -> bool {
    let parsed = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || parsed(a).is_some_and(|a| Some(a) == parsed(b))
}

/// The cluster's queue bears the cluster's tag, which no endpoint takes over.
fn queue<'a>(desired: &Desired, seen: &'a Read<Remote<Queue>>) -> Result<Option<&'a Queue>, Plan> {
    let resource = format!("queue {}", desired.names.event_queue);
    found(seen, |owner, _| left_alone(&resource, owner, &desired.names.place.to_string()))
}

fn rule<'a>(desired: &Desired, observed: &'a Observed) -> Result<Option<&'a EventRule>, Plan> {
    let resource = format!("rule {}", desired.names.event_rule);
    found(&observed.events.rule, |owner, id| foreign(desired, observed, Tagged::Rule, &resource, (owner, id)))
}

/// Queues and rules are there or not: they have no states between.
fn found<T>(seen: &Read<Remote<T>>, not_ours: impl Fn(&str, &str) -> Plan) -> Result<Option<&T>, Plan> {
    match seen.as_ref().map_err(Plan::from)? {
        Remote::Absent => Ok(None),
        Remote::Foreign { owner, id } => Err(not_ours(owner, id)),
        Remote::Ready(it) | Remote::Pending(it) | Remote::Deleting(it) | Remote::Failed { it, .. } => {
            Ok(Some(it))
        }
    }
}
