//! A controller that dies before or after any of its writes, or never hears how one went, and comes back
//! with nothing in its memory: the end is the same, with no duplicate and nothing leaked.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::time::Duration;

use larder_core::endpoint::DeletionPolicy;
use larder_crds::spec::SourceEvents;
use larder_tests::world::example::{BROUGHT, BUCKET, defaults, digest, object, world};
use larder_tests::world::faults::{Fault, On, Trouble};
use larder_tests::world::run::Run;

fn fresh() -> Run {
    Run::new(world(), object(), defaults()).unwrap()
}

fn ready() -> Run {
    let mut run = fresh();
    run.settle().unwrap();
    run
}

fn on_a_brought_file_system() -> Run {
    let mut object = object();
    object.spec.storage.efs.managed = None;
    object.spec.storage.efs.file_system_id = Some(BROUGHT.to_owned());
    Run::new(world(), object, defaults()).unwrap()
}

/// The bucket tells others of its events already.
fn with_events() -> Run {
    let mut object = object();
    object.spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::EventBridge;
    let world = world();
    world.meddle(|account| {
        account.notifications.entry(BUCKET.to_owned()).or_default().entries = vec!["theirs".to_owned()];
    });
    Run::new(world, object, defaults()).unwrap()
}

fn ready_with_events() -> Run {
    let mut run = with_events();
    run.settle().unwrap();
    run
}

/// Makes the fault happen at every write of what `act` sets off, one at a time, and compares the end.
fn check(prepare: fn() -> Run, act: fn(&mut Run), least_writes: u64) {
    let mut undisturbed = prepare();
    let before = undisturbed.world.writes();
    act(&mut undisturbed);
    undisturbed.settle().unwrap();
    let writes = undisturbed.world.writes() - before;
    assert!(writes >= least_writes, "only {writes} writes");
    for trouble in [Trouble::KilledBefore, Trouble::KilledAfter, Trouble::TimedOutAfter, Trouble::ServerError]
    {
        for k in 1..=writes {
            let mut run = prepare();
            assert_eq!(run.world.writes(), before, "the world is not deterministic");
            run.world.plan_fault(Fault { on: On::Write(before + k), trouble });
            act(&mut run);
            let at = format!("{trouble:?} at write {k} of {writes}");
            run.settle().unwrap_or_else(|stuck| panic!("{at}: {stuck}"));
            let kills = matches!(trouble, Trouble::KilledBefore | Trouble::KilledAfter);
            assert_eq!(run.deaths, u32::from(kills), "{at}");
            assert_eq!(run.end(), undisturbed.end(), "{at}: {:#?}", run.world.history());
            if !run.is_deleted {
                run.stays_quiet().unwrap_or_else(|stuck| panic!("{at}: {stuck}"));
            }
        }
    }
}

#[test]
fn during_a_fresh_create() {
    check(fresh, |_| {}, 16);
}

/// 100 GiB, which four invocations copy together.
fn with_a_model_for_many() -> Run {
    let world = world();
    world.put_object(BUCKET, "ocr/llm.safetensors", 100 << 30, "llm-1");
    world.meddle(|account| account.delays.copy_rate = 64 << 20);
    Run::new(world, object(), defaults()).unwrap()
}

#[test]
fn during_a_create_whose_copy_is_spread() {
    check(with_a_model_for_many, |_| {}, 19);
}

#[test]
fn during_a_create_on_a_brought_file_system() {
    check(on_a_brought_file_system, |_| {}, 12);
}

#[test]
fn during_a_create_with_events() {
    check(with_events, |_| {}, 21);
}

#[test]
fn when_events_are_turned_on_and_off() {
    fn turn(run: &mut Run, events: SourceEvents) {
        run.change(|spec| spec.models[0].source.s3.as_mut().unwrap().events = events).unwrap();
    }
    check(ready, |run| turn(run, SourceEvents::EventBridge), 5);
    check(ready_with_events, |run| turn(run, SourceEvents::None), 3);
}

#[test]
fn during_a_delete_with_events() {
    check(ready_with_events, |run| run.delete().unwrap(), 15);
}

#[test]
fn during_a_model_change() {
    let change = |run: &mut Run| {
        run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
        run.ask().unwrap();
    };
    check(ready, change, 6);
}

#[test]
fn during_an_image_change() {
    check(ready, |run| run.world.push_image("larder-inference:1", &digest("rebuilt")), 5);
}

#[test]
fn during_a_change_of_everything() {
    let change = |run: &mut Run| {
        run.world.push_image("larder-inference:1", &digest("rebuilt"));
        run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
        run.change(|spec| {
            spec.function.memory_mib = 4096;
            spec.capacity.provisioned = Some(3);
            spec.rollout.history_limit = 0;
            spec.expose = None;
        })
        .unwrap();
    };
    check(ready, change, 8);
}

#[test]
fn during_a_delete() {
    check(ready, |run| run.delete().unwrap(), 12);
}

#[test]
fn during_a_delete_that_retains_the_data() {
    let delete = |run: &mut Run| {
        run.change(|spec| spec.deletion_policy = DeletionPolicy::RetainData).unwrap();
        run.delete().unwrap();
    };
    check(ready, delete, 10);
}

#[test]
fn after_every_write() {
    let mut undisturbed = ready();
    let mut run = fresh();
    for k in 1..200 {
        run.world.plan_fault(Fault { on: On::Write(k), trouble: Trouble::KilledAfter });
    }
    run.settle().unwrap();
    assert!(run.deaths > 15, "{}", run.deaths);
    assert_eq!(run.end(), undisturbed.end());
    undisturbed.delete().unwrap();
    undisturbed.settle().unwrap();
    run.delete().unwrap();
    run.settle().unwrap();
    assert_eq!(run.end(), undisturbed.end());
    assert_eq!(run.end(), Vec::<String>::new());
}

#[test]
fn the_copy_dies_again_and_again() {
    let mut run = fresh();
    let mut cuts = 0;
    while !run.is_ready() {
        let again = run.pass().unwrap();
        // Woken early each time, so that little is copied between two deaths.
        run.world.advance(again.min(Duration::from_millis(500)));
        if run.world.look(|a| !a.copies.is_empty()) && cuts < 5 {
            run.world.cut_copies();
            cuts += 1;
        }
        assert!(run.passes < 2000, "{:#?}", run.world.history());
    }
    assert_eq!(cuts, 5);
    assert_eq!(run.end(), ready().end());
}

#[test]
fn two_controllers_at_once() {
    let alone = ready();
    let mut both_wrote = 0;
    for seed in 0..40 {
        let mut run = fresh().with_seed(seed).with_controllers(2);
        run.checks_truth = false;
        run.settle().unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        assert_eq!(run.end(), alone.end(), "seed {seed}");
        both_wrote += u32::from(run.world.writes() > alone.world.writes());
        run.change(|spec| spec.function.memory_mib = 4096).unwrap();
        run.settle().unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        run.delete().unwrap();
        run.settle().unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        assert_eq!(run.end(), Vec::<String>::new(), "seed {seed}");
    }
    assert!(both_wrote > 20, "the two hardly met: {both_wrote}");
}
