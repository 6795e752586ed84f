//! What `larder plan` foretells of drift is what the controller does about it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use larder::plan_command::{Planned, Verdict, render};
use larder_core::foresee::Foreseen;
use larder_core::{Area, Plan, Step};
use larder_crds::spec::DriftPolicy;
use larder_tests::world::example::{defaults, object, world};
use larder_tests::world::run::Run;

fn ready() -> Run {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    run.checks_truth = false;
    run
}

/// Another writer's memory size.
fn meddle(run: &Run) {
    let name = run.endpoint().names.function.clone();
    run.world.meddle(|a| a.functions.get_mut(&name).unwrap().latest.config.memory_mib = 128);
}

fn planned(foreseen: Foreseen, held: Option<&str>) -> Planned {
    let (name, held) = ("vision/signs".to_owned(), held.map(str::to_owned));
    Planned { name, is_new: false, held, foreseen: Ok(foreseen) }
}

#[test]
fn a_correction_is_foretold() {
    let run = ready();
    meddle(&run);
    let foretold = run.foretold().unwrap();
    assert!(matches!(
        foretold.steps.as_slice(),
        [(Area::Function, Step::UpdateFunctionConfiguration { .. })]
    ));
    assert!(foretold.end.is_converged());
}

#[test]
fn what_is_only_reported_is_foretold_as_held() {
    let mut run = ready();
    run.change(|spec| spec.drift_policy = DriftPolicy::Report).unwrap();
    run.settle().unwrap();
    meddle(&run);
    let foretold = run.foretold().unwrap();
    assert_eq!(foretold.steps, []);
    let Plan::Blocked { message, .. } = foretold.end.get(Area::Function) else {
        panic!("{:?}", foretold.end)
    };
    assert!(message.contains("memory is 128 MiB, not 2048 MiB"), "{message}");
    let planned = planned(foretold, None);
    assert_eq!(planned.verdict(), Verdict::SomethingToDo);
    let text = render(&planned, false);
    for part in ["! Drifted: function", "spec.driftPolicy is Report", "Plan: 0 to create, 0 to change"] {
        assert!(text.contains(part), "{text}");
    }
    // A new spec is rolled out.
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    let foretold = run.foretold().unwrap();
    assert!(!foretold.steps.is_empty() && foretold.end.is_converged(), "{:?}", foretold.end);
}

#[test]
fn what_is_contested_is_foretold_as_held() {
    let mut run = ready();
    for _ in 0..100 {
        meddle(&run);
        let again = run.pass().unwrap();
        run.world.advance(again);
    }
    let foretold = run.foretold().unwrap();
    assert_eq!(foretold.steps, []);
    assert!(render(&planned(foretold, None), false).contains("! Contested: function"));
}

#[test]
fn what_a_namespace_does_not_allow_is_foretold_as_held() {
    let run = ready();
    let why = "RoleNotAllowed: namespace vision may not use it";
    let planned = planned(run.foretold().unwrap(), Some(why));
    assert_eq!(planned.verdict(), Verdict::SomethingToDo);
    let text = render(&planned, false);
    assert!(text.contains(why) && !text.contains("Nothing to do"), "{text}");
}
