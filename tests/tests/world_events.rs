//! What makes S3 tell of changes: made, shared, kept apart from what others have, and taken away.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use larder_crds::InferenceEndpoint;
use larder_crds::spec::{DeletionPolicy, SourceEvents};
use larder_tests::world::World;
use larder_tests::world::account::{Notification, Queue, Rule};
use larder_tests::world::example::{BUCKET, defaults, object, world};
use larder_tests::world::run::Run;

fn named(name: &str, events: SourceEvents) -> InferenceEndpoint {
    let mut object = object();
    object.metadata.name = Some(name.to_owned());
    object.metadata.uid = Some(format!("uid of {name}"));
    object.spec.models[0].source.s3.as_mut().unwrap().events = events;
    object
}

fn run(world: &World, object: InferenceEndpoint) -> Run {
    Run::new(world.clone(), object, defaults()).unwrap()
}

/// Worlds tell of one endpoint's invariants at a time: it is this one's turn.
#[track_caller]
fn settle(run: &mut Run) {
    run.change(|_| ()).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[track_caller]
fn delete(run: &mut Run) {
    run.delete().unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

fn condition(run: &Run) -> (String, String, String) {
    let (status, reason, message) = run.condition("EventsReady").unwrap();
    (status.to_owned(), reason.to_owned(), message.to_owned())
}

fn queues(world: &World) -> usize {
    world.look(|account| account.queues.len())
}

#[test]
fn endpoints_share_a_queue_and_the_last_takes_it_along() {
    let world = world();
    let mut first = run(&world, named("first", SourceEvents::EventBridge));
    let mut second = run(&world, named("second", SourceEvents::EventBridge));
    settle(&mut first);
    settle(&mut second);
    assert_eq!((queues(&world), world.look(|a| a.rules.len())), (1, 2));
    assert!(first.status.events.is_some());

    first.change(|spec| spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::None).unwrap();
    first.settle().unwrap();
    assert_eq!((queues(&world), world.look(|a| a.rules.len())), (1, 1), "the second still needs it");
    assert_eq!(first.status.events, None);
    second.change(|_| ()).unwrap();
    delete(&mut second);
    assert_eq!((queues(&world), world.look(|a| a.rules.len())), (0, 0));

    // Its name is taken for a minute: a wait, and no person is called.
    let asked = world.now();
    first
        .change(|spec| spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::EventBridge)
        .unwrap();
    first.until("to be refused", |run| condition(run).1 == "Unavailable").unwrap();
    assert_eq!(first.condition("Stalled"), None);
    settle(&mut first);
    assert!((1..200).contains(&world.now().saturating_sub(asked).as_secs()), "{:?}", world.now());
    delete(&mut first);
    assert_eq!(queues(&world), 0);
}

#[test]
fn what_others_have_stays_as_it_is() {
    let world = world();
    let theirs = || Notification { event_bridge: false, entries: vec!["one".to_owned(), "two".to_owned()] };
    let rule = || Rule {
        owner: None,
        pattern: "{}".to_owned(),
        is_enabled: true,
        targets: BTreeMap::from([("mine".to_owned(), "arn:aws:sqs:eu-west-1:111122223333:mine".to_owned())]),
    };
    world.meddle(|account| {
        account.notifications.insert(BUCKET.to_owned(), theirs());
        account.rules.insert("theirs".to_owned(), rule());
        account.queues.insert("mine".to_owned(), Queue { owner: None, takes_events: false });
    });
    let mut run = run(&world, named("signs", SourceEvents::EventBridge));
    settle(&mut run);
    delete(&mut run);
    world.look(|account| {
        // Others may have come to rely on the bucket's events.
        assert_eq!(account.notifications[BUCKET], Notification { event_bridge: true, ..theirs() });
        assert_eq!(account.rules, BTreeMap::from([("theirs".to_owned(), rule())]));
        assert_eq!(account.queues.keys().collect::<Vec<_>>(), ["mine"]);
    });
}

#[test]
fn a_queue_or_rule_of_somebody_else_is_not_touched() {
    for is_queue in [true, false] {
        let world = world();
        let mut run = run(&world, named("signs", SourceEvents::EventBridge));
        let names = run.endpoint().names.clone();
        let owner = Some("somebody".to_owned());
        world.meddle(|account| {
            if is_queue {
                account.queues.insert(names.event_queue.clone(), Queue { owner, takes_events: false });
            } else {
                let (pattern, targets) = ("{}".to_owned(), BTreeMap::new());
                account
                    .rules
                    .insert(names.event_rule.clone(), Rule { owner, pattern, is_enabled: true, targets });
            }
        });
        run.until("to say whose it is", |run| condition(run).1 == "ForeignResource").unwrap();
        // It serves all the same.
        run.until("to serve", |run| run.condition("TrafficReady").is_some_and(|c| c.0 == "True")).unwrap();
        delete(&mut run);
        assert_eq!(world.look(|a| a.queues.len() + a.rules.len()), 1);
    }
}

#[test]
fn without_events_nothing_is_asked_for() {
    let world = world();
    for operation in
        ["GetQueueAttributes", "DescribeRule", "GetBucketNotificationConfiguration", "ListRuleNamesByTarget"]
    {
        world.deny(operation);
    }
    let mut run = run(&world, named("signs", SourceEvents::None));
    settle(&mut run);
    assert_eq!(run.status.events, None);
    delete(&mut run);
}

#[test]
fn a_bucket_that_may_not_be_changed_is_said_and_the_endpoint_serves() {
    let world = world();
    world.deny("PutBucketNotificationConfiguration");
    let mut run = run(&world, named("signs", SourceEvents::EventBridge));
    run.until("to be denied and serve", |run| {
        let is_serving = run.condition("Exposed").is_some_and(|c| c.0 == "True");
        is_serving && condition(run).1 == "AccessDenied"
    })
    .unwrap();
    assert!(condition(&run).2.contains("PutBucketNotificationConfiguration of bucket acme-models"));
    world.allow("PutBucketNotificationConfiguration");
    settle(&mut run);
    // Somebody turns it off: it is drift like any other.
    world.meddle(|account| account.notifications.get_mut(BUCKET).unwrap().event_bridge = false);
    run.go_on_for(Duration::from_mins(30)).unwrap();
    assert!(run.is_ready() && world.look(|account| account.notifications[BUCKET].event_bridge));
}

#[test]
fn retain_leaves_events_on() {
    let world = world();
    let mut object = named("signs", SourceEvents::EventBridge);
    object.spec.deletion_policy = DeletionPolicy::Retain;
    let mut run = run(&world, object);
    settle(&mut run);
    delete(&mut run);
    assert_eq!((queues(&world), world.look(|a| a.rules.len())), (1, 1));
}
