//! What makes S3 tell of changes: made, shared, kept apart from what others have, and taken away.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use larder_core::{Defaults, Endpoint};
use larder_crds::InferenceEndpoint;
use larder_crds::spec::{DeletionPolicy, DriftPolicy, SourceEvents};
use larder_tests::world::World;
use larder_tests::world::account::{Notification, Queue, Rule};
use larder_tests::world::events::queue_arn;
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

/// A shard of the controller that works on `scope`.
fn shard(world: &World, name: &str, scope: Option<&str>) -> Run {
    let flags = Defaults { scope: scope.map(str::to_owned), ..defaults() };
    Run::new(world.clone(), named(name, SourceEvents::EventBridge), flags).unwrap()
}

/// Whether the rule of an endpoint sends to its queue and to no other.
fn is_routed(world: &World, run: &Run) -> bool {
    let names = &run.endpoint().names;
    world.look(|account| {
        account.rules[&names.event_rule].targets.values().eq([&queue_arn(&names.event_queue)])
    })
}

#[test]
fn each_shard_has_a_queue_of_its_own_which_goes_with_its_last_endpoint() {
    let world = world();
    let mut first = shard(&world, "first", Some("a"));
    let mut second = shard(&world, "second", Some("b"));
    let mut third = shard(&world, "third", Some("b"));
    for run in [&mut first, &mut second, &mut third] {
        settle(run);
    }
    assert_eq!(queues(&world), 2);
    assert!([&first, &second, &third].iter().all(|run| is_routed(&world, run)));
    for (run, left) in [(&mut second, 2), (&mut first, 1), (&mut third, 0)] {
        run.change(|_| ()).unwrap();
        delete(run);
        assert_eq!(queues(&world), left);
    }
}

#[test]
fn an_endpoint_that_another_shard_works_on_moves_and_the_last_takes_the_old_queue_along() {
    for (from, to) in [(None, Some("a")), (Some("a"), Some("b"))] {
        let world = world();
        let old = ["first", "second"].map(|name| {
            let mut run = shard(&world, name, from);
            // Nothing is somebody else's doing when the controllers share their work in another way.
            run.object.spec.drift_policy = DriftPolicy::Report;
            settle(&mut run);
            run
        });
        assert_eq!(queues(&world), 1);
        for (old, left) in old.into_iter().zip([2, 1]) {
            let mut moved = shard(&world, &old.object.metadata.name.clone().unwrap(), to);
            (moved.object, moved.status) = (old.object, old.status);
            settle(&mut moved);
            assert!(is_routed(&world, &moved), "{from:?} {to:?}");
            assert_eq!(queues(&world), left);
            assert_eq!((&moved.status.drift, moved.condition("Drifted")), (&Vec::new(), None));
            assert_eq!(moved.status.events.clone().unwrap().queue, moved.endpoint().names.event_queue);
        }
    }
}

#[test]
fn what_is_deleted_before_it_has_moved_leaves_no_queue() {
    let world = world();
    let mut old = shard(&world, "first", None);
    settle(&mut old);
    let mut moved = shard(&world, "first", Some("a"));
    moved.status = old.status;
    delete(&mut moved);
    assert_eq!((queues(&world), world.look(|a| a.rules.len())), (0, 0));
}

#[test]
fn who_knows_of_no_shards_goes_by_the_status() {
    let world = world();
    let mut run = shard(&world, "signs", Some("a"));
    settle(&mut run);
    let mut object = run.object.clone();
    object.status = Some(run.status.clone());
    let queue = |object: &InferenceEndpoint| Endpoint::parse(object, &defaults()).unwrap().names.event_queue;
    assert_eq!(queue(&object), run.endpoint().names.event_queue);
    // What no controller of Larder has named is not believed.
    object.status.as_mut().unwrap().events.as_mut().unwrap().queue = "mine".to_owned();
    assert_eq!(queue(&object), queue(&named("signs", SourceEvents::EventBridge)));
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
