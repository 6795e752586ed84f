//! What tells of changes on S3: queues, rules and buckets' notifications.

use anyhow::{Context as _, Result, ensure};
use larder::cloud::Cloud as _;
use larder_core::names::Owner;
use larder_core::observed::{EventRule, Queue, Remote};
use larder_core::{Class, Step};

use super::ground::Ground;
use super::{done, done_twice, other, owner, refused};

const PATTERN: &str = r#"{"source":["aws.s3"]}"#;
const ANOTHER: &str = r#"{"source":["aws.ec2"]}"#;

fn create_queue<G: Ground>(ground: &G) -> Step {
    Step::CreateQueue { name: ground.name("events"), owner: owner() }
}

async fn queue<G: Ground>(ground: &G, owner: &Owner) -> Result<Remote<Queue>> {
    Ok(ground.cloud().event_queue(&ground.name("events"), owner).await?)
}

/// A queue that is there.
async fn made<G: Ground>(ground: &G) -> Result<Queue> {
    done(ground, create_queue(ground)).await?;
    queue(ground, &owner()).await?.ready().cloned().context("the queue is there")
}

fn put_rule<G: Ground>(ground: &G, what: &str, pattern: &str, is_new: bool) -> Step {
    Step::PutRule { name: ground.name(what), owner: owner(), pattern: pattern.to_owned(), is_new }
}

async fn rule<G: Ground>(ground: &G, owner: &Owner) -> Result<Remote<EventRule>> {
    Ok(ground.cloud().event_rule(&ground.name("rule"), owner).await?)
}

fn target<G: Ground>(ground: &G, what: &str, queue: &Queue) -> Step {
    Step::PutTarget { rule: ground.name(what), queue_arn: queue.arn.clone() }
}

pub(super) async fn a_queue_takes_events_when_its_policy_lets_it<G: Ground>(ground: &G) -> Result<()> {
    ensure!(queue(ground, &owner()).await? == Remote::Absent, "before it is made");
    let it = made(ground).await?;
    ensure!(!it.takes_events && it.arn.ends_with(&ground.name("events")), "{it:?}");
    let theirs = queue(ground, &other()).await?;
    ensure!(matches!(&theirs, Remote::Foreign { owner: it, .. } if *it == owner().0), "{theirs:?}");
    done(ground, create_queue(ground)).await.context("the same again")?;
    done_twice(ground, Step::SetQueuePolicy { url: it.url.clone(), arn: it.arn }).await?;
    let found = queue(ground, &owner()).await?;
    ensure!(found.ready().is_some_and(|it| it.takes_events), "{found:?}");
    let (url, arn) = (format!("{}-not-there", it.url), "arn:aws:sqs:eu-west-1:111122223333:none".to_owned());
    let none = Step::SetQueuePolicy { url, arn };
    refused(ground.cloud().perform(&none).await, Class::NotFound, "a queue that is not there")
}

pub(super) async fn a_queue_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let it = made(ground).await?;
    done_twice(ground, Step::DeleteQueue { url: it.url }).await?;
    ensure!(queue(ground, &owner()).await? == Remote::Absent, "it is gone");
    Ok(())
}

pub(super) async fn the_name_of_a_deleted_queue_is_taken_for_a_while<G: Ground>(ground: &G) -> Result<()> {
    let it = made(ground).await?;
    done(ground, Step::DeleteQueue { url: it.url }).await?;
    refused(ground.cloud().perform(&create_queue(ground)).await, Class::Transient, "for a minute")
}

pub(super) async fn a_rule_matches_and_sends<G: Ground>(ground: &G) -> Result<()> {
    let queue = made(ground).await?;
    ensure!(rule(ground, &owner()).await? == Remote::Absent, "before it is made");
    let none = target(ground, "rule", &queue);
    refused(ground.cloud().perform(&none).await, Class::NotFound, "a rule that is not there")?;
    done(ground, put_rule(ground, "rule", PATTERN, true)).await?;
    done(ground, put_rule(ground, "rule", ANOTHER, false)).await?;
    let found = rule(ground, &owner()).await?;
    let is_right = |it: &EventRule| it.pattern == ANOTHER && it.is_enabled && it.targets.is_empty();
    ensure!(found.ready().is_some_and(is_right), "{found:?}");
    let theirs = rule(ground, &other()).await?;
    ensure!(matches!(&theirs, Remote::Foreign { owner: it, .. } if *it == owner().0), "{theirs:?}");
    done_twice(ground, target(ground, "rule", &queue)).await?;
    let found = rule(ground, &owner()).await?;
    let sends = |it: &EventRule| it.targets.values().collect::<Vec<_>>() == [&queue.arn];
    ensure!(found.ready().is_some_and(sends), "{found:?}");
    Ok(())
}

pub(super) async fn a_rule_with_targets_stays<G: Ground>(ground: &G) -> Result<()> {
    let queue = made(ground).await?;
    done(ground, put_rule(ground, "rule", PATTERN, true)).await?;
    done(ground, target(ground, "rule", &queue)).await?;
    let delete = Step::DeleteRule { name: ground.name("rule") };
    refused(ground.cloud().perform(&delete).await, Class::Invalid, "it has a target")
}

pub(super) async fn a_rule_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let queue = made(ground).await?;
    done(ground, put_rule(ground, "rule", PATTERN, true)).await?;
    done(ground, target(ground, "rule", &queue)).await?;
    let found = rule(ground, &owner()).await?;
    let targets: Vec<String> = found.ready().context("it is there")?.targets.keys().cloned().collect();
    done_twice(ground, Step::RemoveTargets { rule: ground.name("rule"), targets }).await?;
    done_twice(ground, Step::DeleteRule { name: ground.name("rule") }).await?;
    ensure!(rule(ground, &owner()).await? == Remote::Absent, "it is gone");
    Ok(())
}

pub(super) async fn a_queue_is_shared_while_another_rule_sends_to_it<G: Ground>(ground: &G) -> Result<()> {
    let queue = made(ground).await?;
    let name = ground.name("rule");
    ensure!(!ground.cloud().is_shared(&queue.arn, Some(&name)).await?, "nobody sends");
    for (what, expected) in [("rule", false), ("another", true)] {
        done(ground, put_rule(ground, what, PATTERN, true)).await?;
        done(ground, target(ground, what, &queue)).await?;
        ensure!(ground.cloud().is_shared(&queue.arn, Some(&name)).await? == expected, "{what} sends");
    }
    Ok(())
}

pub(super) async fn a_bucket_tells_event_bridge<G: Ground>(ground: &G) -> Result<()> {
    let bucket = ground.name("bucket");
    let enable = Step::EnableBucketEvents { bucket: bucket.clone() };
    refused(ground.cloud().sends_events(&bucket).await, Class::NotFound, "a bucket that is not there")?;
    refused(ground.cloud().perform(&enable).await, Class::NotFound, "a bucket that is not there")?;
    ground.make_bucket(&bucket).await?;
    ensure!(!ground.cloud().sends_events(&bucket).await?, "a new one tells nobody");
    done_twice(ground, enable).await?;
    ensure!(ground.cloud().sends_events(&bucket).await?, "it tells");
    Ok(())
}
