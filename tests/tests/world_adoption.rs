//! What bears an endpoint's names and another tag: left alone, or taken over where the user has consented, and then
//! nothing but the tag changes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::time::Duration;

use larder_core::Defaults;
use larder_crds::ADOPT_FROM;
use larder_crds::InferenceEndpoint;
use larder_crds::spec::{Adoption, SourceEvents};
use larder_tests::world::World;
use larder_tests::world::account::Account;
use larder_tests::world::example::{defaults, object, world};
use larder_tests::world::faults::{Chance, Trouble};
use larder_tests::world::run::Run;

#[track_caller]
fn settle(run: &mut Run) {
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

fn with_events() -> InferenceEndpoint {
    let mut object = object();
    object.spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::EventBridge;
    object
}

/// The same object, made again from Git.
fn again(mut object: InferenceEndpoint, adoption: Adoption) -> InferenceEndpoint {
    object.metadata.uid = Some("uid-2".to_owned());
    object.spec.adoption = adoption;
    object
}

/// An endpoint, ready, whose cluster is then gone.
fn before(object: InferenceEndpoint) -> Run {
    let mut run = Run::new(world(), object, defaults()).unwrap();
    settle(&mut run);
    run
}

/// What was written from here on, the first of them.
fn since(world: &World, from: usize) -> Vec<String> {
    world
        .history()
        .into_iter()
        .skip(from)
        .map(|line| line.split("s  ").nth(1).unwrap_or_default().to_owned())
        .collect()
}

fn untag(account: &mut Account) {
    account.file_systems.values_mut().for_each(|it| it.owner = None);
    account.access_points.values_mut().for_each(|it| it.owner = None);
    account.functions.values_mut().for_each(|it| it.owner = None);
    account.log_groups.values_mut().for_each(|it| it.owner = None);
}

#[test]
fn a_cluster_that_is_made_again_from_git_changes_nothing_but_tags() {
    let old = before(with_events());
    let (world, end, from) = (old.world.clone(), old.end(), old.world.history().len());
    let mut run = Run::new(world, again(with_events(), Adoption::Adopt), defaults()).unwrap();
    settle(&mut run);
    assert_eq!(run.end(), end);
    assert_eq!(
        old.end().iter().filter(|line| !line.starts_with("queue")).count(),
        0,
        "nothing is the old one's"
    );
    let writes = since(&run.world, from);
    assert_eq!(writes.len(), 7, "two functions and log groups, file system, access point, rule: {writes:#?}");
    assert!(writes.iter().all(|line| line.starts_with("take over ")), "{writes:#?}");
    run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn two_controllers_change_nothing_but_tags_either() {
    for seed in 0..200 {
        let old = before(object());
        let (end, from) = (old.end(), old.world.history().len());
        let mut run = Run::new(old.world.clone(), again(object(), Adoption::Adopt), defaults())
            .unwrap()
            .with_seed(seed)
            .with_controllers(2);
        run.checks_truth = false;
        settle(&mut run);
        assert_eq!(run.end(), end, "seed {seed}");
        let writes = since(&run.world, from);
        assert!(writes.iter().all(|line| line.starts_with("take over ")), "seed {seed}: {writes:#?}");
    }
}

#[test]
fn what_is_taken_over_serves_on_from_where_it_is() {
    let old = before(object());
    let mut fewer = again(object(), Adoption::Adopt);
    fewer.spec.network.subnet_ids.truncate(1);
    let mut run = Run::new(old.world.clone(), fewer, defaults()).unwrap();
    // A mount target in the other subnet goes only when the version there does, which the world watches.
    settle(&mut run);
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("2"));
}

#[test]
fn the_rule_of_an_earlier_object_goes_when_no_events_are_wanted_any_more() {
    let old = before(with_events());
    let mut object = again(old.object.clone(), Adoption::Adopt);
    object.spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::None;
    let denied = old.world.look(Account::clone);
    let mut run = Run::new(old.world.clone(), object.clone(), defaults()).unwrap();
    settle(&mut run);
    assert_eq!(run.world.look(|a| (a.rules.len(), a.queues.len())), (0, 0));
    run.stays_quiet().unwrap();
    // Who may not look at rules goes on without.
    let world = world();
    world.meddle(|account| *account = denied);
    world.deny("DescribeRule");
    let mut run = Run::new(world, object, defaults()).unwrap();
    run.checks_truth = false;
    settle(&mut run);
    assert_eq!(run.world.look(|a| (a.rules.len(), a.queues.len())), (1, 1));
}

#[test]
fn the_queue_stays_while_the_rule_of_an_earlier_object_sends_to_it() {
    let old = before(with_events());
    let from = old.world.history().len();
    let mut run =
        Run::new(old.world.clone(), again(old.object.clone(), Adoption::Never), defaults()).unwrap();
    run.go_on_for(Duration::from_secs(10)).unwrap();
    run.change(|spec| spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::None).unwrap();
    run.go_on_for(Duration::from_mins(2)).unwrap();
    assert_eq!(run.world.look(|a| (a.rules.len(), a.queues.len())), (1, 1));
    assert_eq!(since(&run.world, from), Vec::<String>::new());
}

#[test]
fn without_consent_it_is_left_alone() {
    let old = before(object());
    let (end, from) = (old.end(), old.world.history().len());
    let mut run = Run::new(old.world.clone(), again(object(), Adoption::Never), defaults()).unwrap();
    run.go_on_for(Duration::from_mins(30)).unwrap_or_else(|stuck| panic!("{stuck}"));
    let (_, reason, message) = run.condition("Stalled").unwrap();
    assert_eq!(reason, "ForeignResource");
    assert!(message.contains("test/vision/signs/uid-1") && message.contains("adoption: Adopt"), "{message}");
    assert_eq!(since(&run.world, from), Vec::<String>::new());
    assert_eq!(old.end(), end);
    // A deletion leaves it, too.
    run.delete().unwrap();
    settle(&mut run);
    assert_eq!(old.end(), end);
}

#[test]
fn the_one_it_was_taken_from_does_not_take_it_back() {
    let mut adopting = object();
    adopting.spec.adoption = Adoption::Adopt;
    let mut old = before(adopting.clone());
    let mut run = Run::new(old.world.clone(), again(adopting, Adoption::Adopt), defaults()).unwrap();
    settle(&mut run);
    let (end, from) = (run.end(), run.world.history().len());
    old.go_on_for(Duration::from_hours(1)).unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(old.condition("Stalled").unwrap().1, "ForeignResource");
    assert_eq!(since(&run.world, from), Vec::<String>::new());
    assert_eq!(run.end(), end);
    run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn an_endpoint_moves_to_another_cluster_and_namespace() {
    let old = before(object());
    let (end, from) = (old.end(), old.world.history().len());
    for named in ["test/vision/signs/uid-1", "test/vision/signs"] {
        let mut moved = again(object(), Adoption::Never);
        moved.metadata.namespace = Some("sight".to_owned());
        moved.metadata.annotations = Some([(ADOPT_FROM.to_owned(), named.to_owned())].into());
        let elsewhere = Defaults { cluster: "another".to_owned(), ..defaults() };
        let world = World::clone(&old.world);
        if named.ends_with("signs") {
            world.meddle(|a| {
                for owner in a.file_systems.values_mut().map(|it| &mut it.owner).filter(|it| it.is_some()) {
                    *owner = Some("test/vision/signs/uid-1".to_owned());
                }
            });
        }
        let mut run = Run::new(world, moved, elsewhere).unwrap();
        settle(&mut run);
        assert_eq!(run.end(), end, "{named}");
        let writes = since(&run.world, from);
        assert!(writes.iter().all(|line| line.starts_with("take over ")), "{writes:#?}");
    }
}

#[test]
fn an_annotation_that_names_nobody_is_refused() {
    let mut moved = object();
    moved.metadata.annotations = Some([(ADOPT_FROM.to_owned(), "signs".to_owned())].into());
    let stuck = Run::new(world(), moved, defaults()).unwrap_err();
    assert!(stuck.what.contains(ADOPT_FROM) && stuck.what.contains("owner tag"), "{stuck}");
}

#[test]
fn names_that_would_change_are_refused() {
    let run = before(object());
    let mut object = run.object.clone();
    object.status = Some(run.status.clone());
    Run::new(world(), object.clone(), defaults()).unwrap();
    let elsewhere = Defaults { cluster: "another".to_owned(), ..defaults() };
    let stuck = Run::new(world(), object, elsewhere).unwrap_err();
    assert!(stuck.what.contains("--cluster-id"), "{stuck}");
}

#[test]
fn what_bears_no_tag_is_taken_over_when_asked() {
    let mut run = before(object());
    let end = run.end();
    run.checks_truth = false;
    run.world.meddle(untag);
    run.ask().unwrap();
    run.until("to say so", |run| {
        run.condition("Stalled").is_some_and(|(_, reason, _)| reason == "ForeignResource")
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    assert!(run.condition("Stalled").unwrap().2.contains("adoption: Adopt"));
    run.change(|spec| spec.adoption = Adoption::Adopt).unwrap();
    settle(&mut run);
    // What was brought along bears no tag, and is none of ours.
    assert_eq!(run.end(), end);
}

#[test]
fn what_bears_another_owners_tag_never_is() {
    for owner in
        ["somebody/else", "test/vision/others/uid-1", "other/vision/signs/uid-1", "test/vision/signs2/uid-1"]
    {
        let old = before(object());
        let from = old.world.history().len();
        old.world.meddle(|a| a.functions.values_mut().for_each(|it| it.owner = Some(owner.to_owned())));
        let mut run = Run::new(old.world.clone(), again(object(), Adoption::Adopt), defaults()).unwrap();
        run.go_on_for(Duration::from_mins(30)).unwrap_or_else(|stuck| panic!("{stuck}"));
        let (_, reason, message) = run.condition("Stalled").unwrap();
        assert!(reason == "ForeignResource" && message.contains(owner), "{message}");
        assert!(!since(&run.world, from).iter().any(|line| line.contains("take over function")));
    }
}

#[test]
fn a_takeover_that_breaks_off_is_gone_on_with() {
    const TROUBLES: [Trouble; 5] = [
        Trouble::Throttled,
        Trouble::TimedOutBefore,
        Trouble::TimedOutAfter,
        Trouble::KilledBefore,
        Trouble::KilledAfter,
    ];
    for seed in 0..40 {
        let old = before(object());
        let (end, from) = (old.end(), old.world.history().len());
        let mut run = Run::new(old.world.clone(), again(object(), Adoption::Adopt), defaults())
            .unwrap()
            .with_seed(seed);
        run.world.set_chance(Some(Chance::new(seed, 150, &TROUBLES)));
        settle(&mut run);
        assert_eq!(run.end(), end, "seed {seed}");
        let writes = since(&run.world, from);
        let is_fine = |line: &String| line.starts_with("take over ") || line.contains(": ");
        assert!(writes.iter().all(is_fine), "seed {seed}: {writes:#?}");
    }
}

#[test]
fn an_access_point_of_another_user_is_told_and_kept() {
    let old = before(object());
    old.world.meddle(|a| a.access_points.values_mut().for_each(|it| it.spec.uid = 0));
    let points = |world: &World| world.look(|a| a.access_points.keys().cloned().collect::<Vec<_>>());
    let there = points(&old.world);
    let mut run = Run::new(old.world.clone(), again(object(), Adoption::Adopt), defaults()).unwrap();
    run.checks_truth = false;
    run.until("to tell it", |run| {
        let condition = run.condition("StorageReady");
        condition.is_some_and(|(_, _, message)| message.contains("uid is 0, should be 1000"))
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    run.go_on_for(Duration::from_hours(1)).unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(points(&run.world), there);
    assert!(run.condition("Stalled").is_some(), "{:#?}", run.status.conditions);
}
