//! A model that one invocation cannot copy is copied by several, each started once, and again when it is cut short.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::time::Duration;

use larder_tests::world::example::{BUCKET, defaults, object, world};
use larder_tests::world::run::Run;

/// An endpoint with a model of so many GiB, and invocations that copy 64 MiB a second.
fn with_gib(gib: u64) -> Run {
    let world = world();
    world.put_object(BUCKET, "ocr/llm.safetensors", gib << 30, "llm-1");
    world.meddle(|account| account.delays.copy_rate = 64 << 20);
    Run::new(world, object(), defaults()).unwrap()
}

/// How often each of so many workers was started.
fn starts(run: &Run, of: u16) -> Vec<usize> {
    let history = run.world.history();
    let of_worker =
        |nth| history.iter().filter(|line| line.contains(&format!("worker {nth} of {of}: "))).count();
    (1..=of).map(of_worker).collect()
}

fn is_copying(run: &Run, workers: usize) -> bool {
    run.world.look(|account| account.copies.len() == workers)
}

#[test]
fn a_large_model_is_spread_and_each_worker_started_once() {
    for (gib, of) in [(100, 4), (200, 8)] {
        let mut run = with_gib(gib);
        run.settle().unwrap();
        assert_eq!(starts(&run, of), vec![1; of.into()], "{gib} GiB");
        run.stays_quiet().unwrap();
    }
    let mut small = with_gib(5);
    small.settle().unwrap();
    assert!(!small.world.history().iter().any(|line| line.contains("worker ")));
}

#[test]
fn a_worker_that_dies_is_started_again_while_the_others_go_on() {
    let mut run = with_gib(100);
    run.until("to copy", |run| is_copying(run, 4)).unwrap();
    // The first sign of life takes a moment.
    run.world.advance(Duration::from_secs(2));
    run.go_on_for(Duration::from_secs(30)).unwrap();
    run.world.cut_copy(1);
    run.until("to start it again", |run| is_copying(run, 4)).unwrap();
    run.settle().unwrap();
    let mut starts = starts(&run, 4);
    starts.sort_unstable();
    assert_eq!(starts, [1, 1, 1, 2]);
}

#[test]
fn workers_that_all_die_again_and_again_come_to_an_end() {
    let mut run = with_gib(100);
    for _ in 0..5 {
        run.until("to copy", |run| run.world.look(|account| !account.copies.is_empty())).unwrap();
        run.go_on_for(Duration::from_secs(20)).unwrap();
        run.world.cut_copies();
    }
    run.settle().unwrap();
}

#[test]
fn what_fails_is_told_and_goes_on_when_it_is_mended() {
    let mut run = with_gib(100);
    run.until("to copy", |run| is_copying(run, 4)).unwrap();
    run.world.meddle(|account| account.broken.copy = Some("GetObject failed".to_owned()));
    run.until("to say so", |run| {
        run.condition("ModelsSynced").is_some_and(|(_, reason, _)| reason == "SyncFailed")
    })
    .unwrap();
    run.world.meddle(|account| account.broken.copy = None);
    run.settle().unwrap();
}

#[test]
fn two_controllers_spread_it_as_one() {
    for seed in 0..20 {
        let mut run = with_gib(100).with_seed(seed).with_controllers(2);
        run.checks_truth = false;
        run.settle().unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        let twice = starts(&run, 4);
        assert!(twice.iter().all(|starts| (1..=2).contains(starts)), "seed {seed}: {twice:?}");
    }
}
