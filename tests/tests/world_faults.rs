//! Random schedules: calls throttled, failed, unanswered, denied, answered with yesterday's news, controllers killed and
//! doubled, clocks that jump, specs, sources and AWS itself changed in the middle. Invariants hold throughout; once
//! faults stop, the end is the wanted one. A schedule that fails is shrunk, and told in words.
//!
//! `SCHEDULES` says how many schedules run (2,000), from seed `FROM` on (0); `SEED` runs one again.

#![expect(clippy::panic, reason = "this is a test")]

use std::sync::atomic::{AtomicU64, Ordering};

use larder_tests::world::faults::{Fault, On, Trouble};
use larder_tests::world::schedule::Schedule;
use larder_tests::world::schedule::disturbance::Disturbance;
use larder_tests::world::schedule::play::Failed;
use larder_tests::world::schedule::shrink::shrink;

/// The most schedules that shrinking plays.
const TRIES: u32 = 500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// What failed, shrunk and in words.
fn told(seed: u64, failed: Failed) -> String {
    let what = failed.what.clone();
    let (schedule, failed) = shrink(Schedule::from_seed(seed), failed, TRIES, Schedule::play);
    format!(
        "seed {seed}: {what}\nagain with: make test-world SEED={seed}\nshrunk to:\n{schedule}\nwhich ends so: {}\n{}",
        failed.what, failed.told
    )
}

#[test]
fn random_schedules_converge_once_faults_stop() {
    if let Some(seed) = number("SEED") {
        let schedule = Schedule::from_seed(seed);
        println!("seed {seed}:\n{schedule}");
        schedule.play().unwrap_or_else(|failed| panic!("{}", told(seed, failed)));
        return;
    }
    let from = number("FROM").unwrap_or_default();
    let schedules = number("SCHEDULES").unwrap_or(2000);
    let next = AtomicU64::new(from);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut failed: Vec<(u64, Failed)> = std::thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + schedules {
                    return failed;
                }
                if let Err(it) = Schedule::from_seed(seed).play() {
                    println!("seed {seed}: {}", it.what);
                    failed.push((seed, it));
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    println!("{schedules} schedules from seed {from} on, {} failed", failed.len());
    failed.sort_by_key(|(seed, _)| *seed);
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    if let Some((seed, first)) = failed.into_iter().next() {
        panic!("seeds {seeds:?} failed, the first of them so:\n{}", told(seed, first));
    }
}

fn planted(what: &str, faults: &[Fault]) -> Failed {
    Failed { what: format!("{what}: planted"), told: String::new(), faults: faults.to_vec() }
}

/// A schedule with more of everything than a seed gives.
fn large() -> Schedule {
    let rng = &mut fastrand::Rng::with_seed(7);
    let mut schedule = Schedule::from_seed(3);
    schedule.settings.controllers = 2;
    schedule.faults.kinds = Trouble::ALL.to_vec();
    schedule.events = (0..40).map(|_| (Disturbance::random(rng), rng.u64(1..40))).collect();
    schedule.events.insert(11, (Disturbance::Memory(1111), 5));
    schedule.events.insert(31, (Disturbance::Clock(77), 9));
    schedule
}

#[test]
fn what_fails_by_two_disturbances_is_shrunk_to_these_two() {
    let plays = AtomicU64::new(0);
    let play = |schedule: &Schedule| {
        plays.fetch_add(1, Ordering::Relaxed);
        let has = |words: &str| schedule.events.iter().any(|(it, _)| it.to_string() == words);
        let fails = has("the spec's memory is 1111 MiB") && has("the controllers' clock jumps by 77 s");
        if fails {
            Err(planted("both", &[]))
        } else if has("the spec's memory is 1111 MiB") {
            Err(planted("another failure", &[]))
        } else {
            Ok(())
        }
    };
    let failed = play(&large()).unwrap_err();
    let (schedule, _) = shrink(large(), failed.clone(), TRIES, play);
    let words = schedule.to_string();
    let words: Vec<&str> = words.lines().collect();
    assert!(
        words[0].starts_with("one controller; pages of 2; the file system is Larder's own"),
        "{words:#?}"
    );
    assert_eq!(
        words[1..],
        [
            "- it is created; 1 s",
            "- the spec's memory is 1111 MiB; 1 s",
            "- the controllers' clock jumps by 77 s; 1 s",
            "- faults stop, and it comes to rest",
            &format!("- it is deleted; faults for {} s more, then none", schedule.ends),
        ]
    );
    // It gives up in time, with what it has until then.
    plays.store(0, Ordering::Relaxed);
    let (schedule, _) = shrink(large(), failed, 3, play);
    assert_eq!(plays.load(Ordering::Relaxed), 3);
    assert!(play(&schedule).unwrap_err().what.starts_with("both"));
}

#[test]
fn what_fails_by_one_call_is_shrunk_to_this_call() {
    let fault = |nth| Fault { on: On::Operation("CreateAlias", nth), trouble: Trouble::TimedOutAfter };
    let befallen: Vec<Fault> = (1..30).map(fault).collect();
    let play = |schedule: &Schedule| {
        let by_chance = schedule.faults.kinds.contains(&Trouble::TimedOutAfter);
        let is_hit = by_chance || schedule.faults.planned.contains(&fault(17));
        if is_hit { Err(planted("hit", &befallen)) } else { Ok(()) }
    };
    let (schedule, _) = shrink(large(), play(&large()).unwrap_err(), TRIES, play);
    assert_eq!(schedule.faults.planned, [fault(17)]);
    assert!(schedule.faults.kinds.is_empty() && schedule.events.is_empty());
    assert!(
        schedule.to_string().contains("call 17 of CreateAlias: no answer, and it took effect"),
        "{schedule}"
    );
}
