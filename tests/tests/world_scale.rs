//! What an endpoint costs AWS: a new one, and one that is as it should be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]

use std::time::Duration;

use larder::reconcile::{Memory, Now, glance};
use larder_tests::world::account::{Account, Delays};
use larder_tests::world::example::{BUCKET, defaults, object, world};
use larder_tests::world::run::Run;
use larder_tests::world::{World, time_of_day};

fn settled(delays: Delays) -> (World, Run) {
    let world = world();
    world.meddle(|account| account.delays = delays);
    // The sources have settled.
    world.advance(Duration::from_mins(1));
    let mut run = Run::new(world.clone(), object(), defaults()).unwrap();
    run.settle().unwrap();
    (world, run)
}

fn all_calls(world: &World) -> u64 {
    world.all_calls().values().sum()
}

/// AWS that is done when it answers.
fn at_once() -> Delays {
    let zero = Duration::ZERO;
    Delays {
        file_system: zero,
        mount_target: zero,
        access_point: zero,
        function: zero,
        update: zero,
        version: zero,
        provisioned: zero,
        interfaces: zero,
        copy_rate: u64::MAX / (1 << 20),
    }
}

#[test]
fn where_aws_is_ready_at_once_a_new_endpoint_costs_few_calls_and_no_waiting() {
    let (world, run) = settled(at_once());
    let (calls, passes, took) =
        (all_calls(&world), run.passes, world.now().saturating_sub(Duration::from_mins(1)));
    assert!(calls <= 40, "{calls} calls in {passes} passes: {:?}", world.all_calls());
    assert!(took <= Duration::from_secs(2), "{took:?} in {passes} passes");
    // Its log groups are as the answers to their writes told.
    assert_eq!(world.calls("DescribeLogGroups"), 1);
}

#[test]
fn where_aws_takes_its_time_only_what_is_waited_for_is_read() {
    let (world, run) = settled(Delays::default());
    let (calls, took) = (all_calls(&world), world.now());
    assert!(
        calls <= 148 && took > Duration::ZERO,
        "{calls} calls in {} passes: {:?}",
        run.passes,
        world.all_calls()
    );
    // Nothing was read as often as it was waited.
    assert!(world.calls("DescribeImages") <= 8, "{}", world.calls("DescribeImages"));
}

/// What is known from before is not what the end of a rollout rests on.
#[test]
fn what_changes_behind_a_rollout_is_seen_before_it_is_called_ready() {
    let world = world();
    let mut run = Run::new(world.clone(), object(), defaults()).unwrap();
    run.until("to warm", |run| run.world.calls("PutProvisionedConcurrencyConfig") == 1).unwrap();
    world.meddle(|account| {
        account.log_groups.retain(|name, _| name.ends_with("-sync"));
    });
    let lost = |account: &Account| account.log_groups.len() < 2;
    assert!(world.look(lost));
    run.settle().unwrap();
    assert!(!world.look(lost));
    run.stays_quiet().unwrap();
}

async fn look(world: &World, run: &Run, memory: &mut Memory) -> Option<Duration> {
    let now = Now { since_start: world.now(), timestamp: time_of_day(world.now()), jitter: 0.5 };
    glance(world, run.endpoint(), &run.status, memory, now).await.ok()
}

#[tokio::test]
async fn a_glance_at_what_is_as_it_should_be_costs_two_calls_of_the_free_rate() {
    let (world, run) = settled(Delays::default());
    let mut memory = Memory::default();
    assert!(look(&world, &run, &mut memory).await.is_some(), "the first one lists the sources");
    let (all, functions) = (all_calls(&world), world.calls("GetFunction"));
    assert!(look(&world, &run, &mut memory).await.is_some());
    assert_eq!((all_calls(&world) - all, world.calls("GetFunction") - functions), (2, 2));
}

#[tokio::test]
async fn a_glance_sees_who_changed_the_function_the_alias_or_a_source() {
    type Meddle = fn(&World);
    let changes: [(&str, Meddle); 6] = [
        ("memory", |world| {
            world.meddle(|account| {
                let mut functions = account.functions.iter_mut();
                let (_, function) = functions.find(|(name, _)| !name.ends_with("-sync")).unwrap();
                function.latest.config.memory_mib = 128;
                function.revision += 1;
            });
        }),
        ("alias", |world| {
            world.meddle(|account| {
                let alias = account.functions.values_mut().find_map(|it| it.alias.as_mut()).unwrap();
                alias.version = 0;
            });
        }),
        ("no alias", |world| {
            world.meddle(|account| account.functions.values_mut().for_each(|it| it.alias = None));
        }),
        ("reserved concurrency", |world| {
            world.meddle(|account| account.functions.values_mut().for_each(|it| it.reserved = Some(3)));
        }),
        ("source", |world| world.put_object(BUCKET, "ocr/det.onnx", 41 << 20, "det-2")),
        ("denied", |world| world.deny("GetFunction")),
    ];
    for (what, change) in changes {
        let (world, run) = settled(Delays::default());
        change(&world);
        assert_eq!(look(&world, &run, &mut Memory::default()).await, None, "{what}");
    }
}
