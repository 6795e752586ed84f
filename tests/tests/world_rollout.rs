//! Rollouts: step by step, watched, taken back, paused, hurried on, turned round in the middle.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::time::Duration;

use larder_crds::spec::{AbortOn, Rollout, RolloutStep, SmokeTest, Strategy};
use larder_crds::{PROMOTE, REJECTED_VERSIONS, RETRY_AT, ROLLOUT_PAUSED};
use larder_tests::world::account::Alias;
use larder_tests::world::example::{defaults, digest, image, object, world};
use larder_tests::world::run::Run;
use larder_tests::world::time_of_day;
use serde_json::json;

/// By 10 % and 50 %, two minutes each.
fn step_by_step(rollout: &mut Rollout) {
    rollout.strategy = Strategy::Canary;
    let step = |weight_percent| RolloutStep { weight_percent, hold_seconds: 120 };
    rollout.steps = vec![step(10), step(50)];
}

/// An endpoint that serves version 1, and rolls the next ones out by 10 % and 50 %, two minutes each.
fn serving() -> Run {
    let mut object = object();
    let rollout = &mut object.spec.rollout;
    step_by_step(rollout);
    rollout.abort_on =
        Some(AbortOn { error_rate_percent: Some(1), p99_milliseconds: Some(2000), ..AbortOn::default() });
    rollout.smoke_test = Some(SmokeTest {
        model: "ocr".to_owned(),
        inputs: Some(json!("https://example.com/sign.png")),
        inputs_from: None,
        parameters: None,
        expect: Some(json!({"predicted_label": "park"})),
    });
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap();
    run
}

fn alias(run: &Run) -> Alias {
    run.world.look(|account| account.functions[&run.endpoint().names.function].alias.clone().unwrap())
}

/// What takes requests: the version, and the share of another.
fn traffic(run: &Run) -> (u64, Option<(u64, u8)>) {
    let alias = alias(run);
    (alias.version, alias.second)
}

fn warm(run: &Run, version: u64) -> Option<i32> {
    run.world.look(|account| {
        let versions = &account.functions[&run.endpoint().names.function].versions;
        versions.get(&version)?.provisioned.as_ref().map(|it| it.available)
    })
}

fn change_image(run: &mut Run, tag: &str) {
    run.change(|spec| spec.function.image = Some(image("larder-inference", tag))).unwrap();
}

fn reason(run: &Run, type_: &str) -> String {
    run.condition(type_).map(|(_, reason, _)| reason.to_owned()).unwrap_or_default()
}

#[test]
fn a_new_version_takes_over_step_by_step_and_both_stay_warm() {
    let mut run = serving();
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    let begun = run.world.now();
    assert_eq!((warm(&run, 1), warm(&run, 2)), (Some(2), Some(2)));
    run.pass().unwrap();
    assert!(!run.is_ready());
    assert_eq!(reason(&run, "TrafficReady"), "Progressing");
    assert_eq!(run.status.summary.canary.as_deref(), Some("version 2: 10 %, step 1/2"));
    // A controller that knows nothing goes on where the last one was.
    run.go_on_for(Duration::from_mins(1)).unwrap();
    run.restart();
    run.until("to take half", |run| traffic(run) == (1, Some((2, 50)))).unwrap();
    let second = run.world.now();
    let held = second.checked_sub(begun).unwrap();
    assert!(held >= Duration::from_secs(119) && held < Duration::from_secs(140), "{held:?}");
    run.until("to take all", |run| traffic(run) == (2, None)).unwrap();
    let held = run.world.now().checked_sub(second).unwrap();
    assert!(held >= Duration::from_secs(119) && held < Duration::from_secs(140), "{held:?}");
    // The old one stays warm until its last requests have ended; the new one is ready meanwhile.
    run.until("to be ready", Run::is_ready).unwrap();
    assert_eq!(warm(&run, 1), Some(2));
    run.settle().unwrap();
    assert_eq!(warm(&run, 1), None);
    let rollout = run.status.rollout.clone().unwrap();
    assert_eq!((rollout.version.as_str(), rollout.state.as_str()), ("2", "Complete"));
    run.stays_quiet().unwrap();
}

#[test]
fn what_fails_with_a_share_of_the_requests_is_taken_back_and_not_tried_again_by_itself() {
    for slow in [false, true] {
        let mut run = serving();
        run.world.meddle(|account| {
            let broken = if slow { &mut account.broken.slow } else { &mut account.broken.serving };
            broken.insert(digest("inference 2"));
        });
        change_image(&mut run, "2");
        run.until("to be taken back", |run| reason(run, "TrafficReady") == "RolloutAborted").unwrap();
        assert_eq!(traffic(&run), (1, None));
        assert_eq!(warm(&run, 1), Some(2), "the old version keeps its capacity");
        let (status, _, message) = run.condition("Stalled").unwrap();
        assert_eq!(status, "True");
        assert!(message.contains(if slow { "takes 5000 ms" } else { "invocations failed" }), "{message}");
        // Neither time nor a restart brings it back.
        run.restart();
        run.go_on_for(Duration::from_mins(20)).unwrap();
        assert_eq!(traffic(&run), (1, None));
        assert_eq!(run.status.rollout.as_ref().unwrap().state, "Aborted");
        assert_eq!(warm(&run, 2), None, "nobody pays for what takes no requests");
        // Mended, and asked for.
        run.world.meddle(|account| {
            account.broken.serving.clear();
            account.broken.slow.clear();
        });
        let now = time_of_day(run.world.now() + Duration::from_mins(1)).to_string();
        run.annotate(RETRY_AT, Some(&now)).unwrap();
        run.settle().unwrap();
        assert_eq!(traffic(&run), (2, None));
    }
}

#[test]
fn one_failure_among_few_requests_takes_nothing_back_and_lets_nothing_through() {
    for (later, end) in [((300, 1), (1, Some((2, 50)))), ((20, 2), (1, None))] {
        let mut run = serving();
        run.world.meddle(|account| account.is_idle = true);
        change_image(&mut run, "2");
        run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
        let serve = |run: &Run, served: (u64, u64)| {
            let minute = run.world.now().as_secs() / 60;
            run.world.meddle(|account| {
                account.functions.values_mut().for_each(|f| f.served = [((2, minute), served)].into());
            });
        };
        serve(&run, (1, 1));
        run.go_on_for(Duration::from_mins(10)).unwrap();
        assert_eq!(traffic(&run), (1, Some((2, 10))), "a step is held for two minutes");
        let (_, _, message) = run.condition("TrafficReady").unwrap();
        assert!(message.contains("20 invocations in this step"), "{message}");
        assert!(message.contains("1 of its 1 invocations failed"), "{message}");
        serve(&run, later);
        run.until("to be judged", |run| traffic(run) != (1, Some((2, 10)))).unwrap();
        assert_eq!(traffic(&run), end);
    }
    // Where nobody asks, nothing can be said against it.
    let mut run = serving();
    run.world.meddle(|account| account.is_idle = true);
    change_image(&mut run, "2");
    run.settle().unwrap();
    assert_eq!(traffic(&run), (2, None));
}

#[test]
fn a_new_spec_ends_the_rollout_of_the_one_before() {
    let mut run = serving();
    change_image(&mut run, "2");
    run.until("to take half", |run| traffic(run) == (1, Some((2, 50)))).unwrap();
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.until("to take the second back", |run| traffic(run) == (1, None)).unwrap();
    run.until("to begin again", |run| traffic(run) == (1, Some((3, 10)))).unwrap();
    assert_eq!(warm(&run, 2), None);
    // And back to what serves.
    change_image(&mut run, "1");
    run.change(|spec| spec.function.memory_mib = 2048).unwrap();
    run.settle().unwrap();
    assert_eq!(traffic(&run), (1, None));
}

#[test]
fn a_failed_smoke_test_lets_no_request_through() {
    let mut run = serving();
    run.world.meddle(|account| account.broken.answers.insert(digest("inference 2")));
    change_image(&mut run, "2");
    run.until("to be taken back", |run| reason(run, "TrafficReady") == "RolloutAborted").unwrap();
    let (_, _, message) = run.condition("TrafficReady").unwrap();
    assert!(message.contains(r#"the answer.predicted_label is "wrong"; expected is "park""#), "{message}");
    let served = run.world.look(|account| {
        let served = &account.functions[&run.endpoint().names.function].served;
        served.keys().any(|(version, _)| *version == 2)
    });
    assert!(!served, "it took requests");
    change_image(&mut run, "1");
    run.settle().unwrap();
}

#[test]
fn the_first_version_waits_for_its_smoke_test_too() {
    let mut object = serving().object;
    object.metadata.generation = Some(1);
    let world = world();
    world.meddle(|account| account.broken.answers.insert(digest("inference 1")));
    let mut run = Run::new(world, object, defaults()).unwrap();
    run.until("to fail the smoke test", |run| reason(run, "TrafficReady") == "SmokeTestFailed").unwrap();
    run.world.meddle(|account| account.broken.answers.clear());
    run.settle().unwrap();
}

#[test]
fn a_person_holds_hurries_and_turns_a_rollout_round() {
    let mut run = serving();
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.annotate(ROLLOUT_PAUSED, Some("true")).unwrap();
    run.go_on_for(Duration::from_hours(2)).unwrap();
    assert_eq!((traffic(&run), reason(&run, "TrafficReady")), ((1, Some((2, 10))), "Paused".to_owned()));
    // Two hours are more than its deadline, and count for nothing.
    run.annotate(ROLLOUT_PAUSED, None).unwrap();
    run.until("to go on", |run| reason(run, "TrafficReady") == "Progressing").unwrap();
    run.go_on_for(Duration::from_mins(1)).unwrap();
    assert_eq!(traffic(&run), (1, Some((2, 10))), "the rest of its step is still held");
    run.annotate(PROMOTE, Some("2")).unwrap();
    let passes = run.passes;
    run.until("to take all", |run| traffic(run) == (2, None)).unwrap();
    assert!(run.passes - passes <= 2, "{} passes", run.passes - passes);
    run.settle().unwrap();
    // Back to the version before, which is warmed first.
    run.annotate(PROMOTE, None).unwrap();
    run.annotate(REJECTED_VERSIONS, Some("2")).unwrap();
    run.until("to go back", |run| traffic(run) == (1, None)).unwrap();
    run.until("to say so", |run| reason(run, "TrafficReady") == "RolledBack").unwrap();
    assert_eq!(warm(&run, 1), Some(2));
    run.go_on_for(Duration::from_mins(10)).unwrap();
    assert_eq!(traffic(&run), (1, None));
    assert_eq!(run.status.summary.capacity, "2/2", "of the version that serves");
    // A new spec is a new version, which nobody has rejected.
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.settle().unwrap();
    assert_eq!(traffic(&run), (3, None));
}

/// Somebody deletes the access point: another comes in its place, and the versions that mounted it have lost it for good.
fn lose_the_access_point(run: &mut Run) {
    run.world.set_outage(true);
    run.world.meddle(|account| account.access_points.clear());
    run.ask().unwrap();
}

#[test]
fn no_requests_stay_with_a_version_that_has_lost_its_files() {
    // With a reserve, a third version has no room beside two that are warm.
    for (in_a_rollout, provisioned) in [(false, 2), (true, 2), (true, 4)] {
        let mut run = serving();
        run.change(|spec| spec.capacity.provisioned = Some(provisioned)).unwrap();
        run.settle().unwrap();
        if in_a_rollout {
            change_image(&mut run, "2");
            run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
        }
        let next = if in_a_rollout { 3 } else { 2 };
        lose_the_access_point(&mut run);
        // The second fails, too: that says nothing of what comes after it.
        run.world.meddle(|account| account.broken.serving.insert(digest("inference 2")));
        run.until("to go over to what has files", |run| {
            let (serving, second) = traffic(run);
            assert!(second.is_none_or(|(second, _)| second != next), "all at once");
            serving == next
        })
        .unwrap();
        assert_eq!(traffic(&run), (next, None));
        run.world.meddle(|account| account.broken.serving.clear());
        run.settle().unwrap();
        assert_eq!((traffic(&run), warm(&run, next)), ((next, None), Some(provisioned)));
        run.stays_quiet().unwrap();
    }
}

#[test]
fn no_version_stands_in_that_has_lost_its_files() {
    let mut run = serving();
    lose_the_access_point(&mut run);
    run.settle().unwrap();
    run.annotate(REJECTED_VERSIONS, Some("2")).unwrap();
    run.until("to say that nothing can serve", |run| {
        run.condition("TrafficReady").is_some_and(|(_, _, message)| message.contains("no other version"))
    })
    .unwrap();
    assert_eq!(traffic(&run), (2, None), "version 1 would answer nothing");
    // One that has files stands in.
    run.annotate(REJECTED_VERSIONS, None).unwrap();
    change_image(&mut run, "2");
    run.settle().unwrap();
    run.annotate(REJECTED_VERSIONS, Some("3")).unwrap();
    run.until("to go back", |run| traffic(run) == (2, None)).unwrap();
}

#[test]
fn rolling_back_to_any_version_that_is_kept_takes_two_passes_when_aws_is_at_once_ready() {
    for (rejected, to) in [("4", 3), ("3,4", 2), ("2,3,4", 1)] {
        let mut run = serving();
        assert_eq!(run.object.spec.rollout.history_limit, 3);
        run.change(|spec| spec.rollout.steps.clear()).unwrap();
        for memory in [3008, 4096, 5120] {
            run.change(|spec| spec.function.memory_mib = memory).unwrap();
            run.settle().unwrap();
        }
        assert_eq!((traffic(&run), warm(&run, to)), ((4, None), None), "an old version is cold");
        run.world.meddle(|account| account.delays.provisioned = Duration::ZERO);
        run.annotate(REJECTED_VERSIONS, Some(rejected)).unwrap();
        run.pass().unwrap();
        run.world.advance(Duration::from_millis(500));
        run.pass().unwrap();
        assert_eq!((traffic(&run), warm(&run, to)), ((to, None), Some(2)), "{rejected} are rejected");
    }
}

#[test]
fn a_rollout_that_is_turned_round_leaves_all_requests_with_the_version_that_serves() {
    let mut run = serving();
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.annotate(REJECTED_VERSIONS, Some("2")).unwrap();
    run.pass().unwrap();
    assert_eq!((traffic(&run), warm(&run, 1)), ((1, None), Some(2)));
    run.until("to say so", |run| reason(run, "TrafficReady") == "RolledBack").unwrap();
    run.go_on_for(Duration::from_mins(2)).unwrap();
    assert_eq!((traffic(&run), warm(&run, 2)), ((1, None), None));
    run.stays_quiet().unwrap();
}

#[test]
fn what_takes_longer_than_its_deadline_goes_back_or_says_so() {
    let mut run = serving();
    run.change(|spec| spec.rollout.progress_deadline_seconds = 300).unwrap();
    // It never gets warm.
    run.world.meddle(|account| account.delays.provisioned = Duration::from_hours(10));
    change_image(&mut run, "2");
    run.until("to say that it is stuck", |run| reason(run, "CapacityReady") == "ProgressDeadlineExceeded")
        .unwrap();
    assert_eq!(traffic(&run), (1, None));
    // It takes requests, and what it does cannot be told.
    let mut run = serving();
    run.change(|spec| spec.rollout.progress_deadline_seconds = 300).unwrap();
    run.world.deny("GetMetricData");
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.until("to say why it does not go on", |run| reason(run, "TrafficReady") == "AccessDenied").unwrap();
    run.until("to be taken back", |run| reason(run, "TrafficReady") == "RolloutAborted").unwrap();
    assert_eq!(traffic(&run), (1, None));
}

#[test]
fn what_aws_never_ends_is_said_to_be_stuck_at_the_deadline_and_goes_on_when_it_ends() {
    let forever = Duration::from_hours(2);
    for (what, stuck) in [
        ("update", "the update of function larder-vision-signs"),
        ("version", "version 2 of function larder-vision-signs"),
        ("function", "function larder-vision-signs"),
    ] {
        let mut run = if what == "function" {
            let mut object = object();
            object.spec.rollout.progress_deadline_seconds = 300;
            let world = world();
            world.meddle(|account| account.delays.function = forever);
            Run::new(world, object, defaults()).unwrap()
        } else {
            let mut run = serving();
            run.change(|spec| spec.rollout.progress_deadline_seconds = 300).unwrap();
            run.settle().unwrap();
            run.world.meddle(|account| match what {
                "update" => account.delays.update = forever,
                _ => account.delays.version = forever,
            });
            change_image(&mut run, "2");
            run
        };
        // Of a new endpoint it is the model-sync function that comes first.
        let type_ = if what == "function" { "ModelsSynced" } else { "FunctionReady" };
        run.until("to begin", |run| reason(run, type_) == "Waiting").unwrap();
        run.go_on_for(Duration::from_mins(4)).unwrap();
        assert_eq!(reason(&run, type_), "Waiting", "{what}: the deadline is not over");
        run.until("to be said to be stuck", |run| reason(run, type_) == "ProgressDeadlineExceeded").unwrap();
        let message = run.condition(type_).unwrap().2.to_owned();
        assert!(message.contains(stuck) && message.contains("300 s"), "{message}");
        assert_eq!(reason(&run, "Ready"), "ProgressDeadlineExceeded");
        if what != "function" {
            assert_eq!(traffic(&run), (1, None));
        }
        run.world.meddle(|account| {
            account.delays.function = Duration::from_secs(5);
            account.delays.update = Duration::from_secs(5);
            account.delays.version = Duration::from_secs(5);
        });
        // No retry hurries AWS; when it is through, the rollout goes on.
        run.settle().unwrap();
        assert_eq!(traffic(&run), (if what == "function" { 1 } else { 2 }, None));
    }
}

#[test]
fn an_alarm_that_stays_on_is_said_to_hold_a_rollout_beyond_its_deadline() {
    let mut run = serving();
    run.world.meddle(|account| account.alarms.insert("checkout".to_owned(), true));
    let alarms = vec!["checkout".to_owned()];
    run.change(|spec| {
        spec.rollout.abort_on = Some(AbortOn { alarms, ..AbortOn::default() });
        spec.rollout.progress_deadline_seconds = 300;
    })
    .unwrap();
    run.settle().unwrap();
    change_image(&mut run, "2");
    run.until("to be held", |run| reason(run, "TrafficReady") == "WaitingForAlarm").unwrap();
    run.until("to be stuck", |run| reason(run, "TrafficReady") == "ProgressDeadlineExceeded").unwrap();
    assert!(run.condition("TrafficReady").unwrap().2.contains("alarm checkout, which is on"));
    assert_eq!(traffic(&run), (1, None));
    run.world.meddle(|account| account.alarms.insert("checkout".to_owned(), false));
    run.settle().unwrap();
    assert_eq!(traffic(&run), (2, None));
}

#[test]
fn an_alarm_takes_a_version_back_and_one_that_is_not_there_holds_it() {
    let mut run = serving();
    let alarms = vec!["checkout".to_owned()];
    run.change(|spec| spec.rollout.abort_on = Some(AbortOn { alarms, ..AbortOn::default() })).unwrap();
    change_image(&mut run, "2");
    run.until("to miss the alarm", |run| reason(run, "TrafficReady") == "NotFound").unwrap();
    assert_eq!(traffic(&run), (1, None), "before it takes any request");
    run.world.meddle(|account| account.alarms.insert("checkout".to_owned(), false));
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.world.meddle(|account| account.alarms.clear());
    run.until("to miss it again", |run| reason(run, "TrafficReady") == "NotFound").unwrap();
    assert_eq!(traffic(&run), (1, Some((2, 10))));
    run.world.meddle(|account| account.alarms.insert("checkout".to_owned(), false));
    run.until("to take half", |run| traffic(run) == (1, Some((2, 50)))).unwrap();
    run.world.meddle(|account| account.alarms.insert("checkout".to_owned(), true));
    run.until("to be taken back", |run| reason(run, "TrafficReady") == "RolloutAborted").unwrap();
    assert!(run.condition("TrafficReady").unwrap().2.contains("alarm checkout is on"));
}

#[test]
fn an_alarm_that_is_on_before_the_first_share_moves_holds_it() {
    let mut run = serving();
    let alarms = vec!["quiet".to_owned(), "checkout".to_owned()];
    run.world.meddle(|account| {
        account.alarms.extend([("quiet".to_owned(), false), ("checkout".to_owned(), true)]);
    });
    run.change(|spec| spec.rollout.abort_on = Some(AbortOn { alarms, ..AbortOn::default() })).unwrap();
    run.settle().unwrap();
    let asked = |run: &Run| run.world.look(|account| account.asked);
    let before = asked(&run);
    change_image(&mut run, "2");
    run.until("to be held", |run| reason(run, "TrafficReady") == "WaitingForAlarm").unwrap();
    assert!(run.condition("TrafficReady").unwrap().2.contains("alarm checkout, which is on"));
    run.go_on_for(Duration::from_mins(10)).unwrap();
    assert_eq!((traffic(&run), asked(&run)), ((1, None), before), "nor is it asked the smoke test");
    assert_eq!(warm(&run, 2), Some(2));
    run.world.meddle(|account| account.alarms.insert("checkout".to_owned(), false));
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.settle().unwrap();
    // A person decides otherwise.
    run.world.meddle(|account| account.alarms.insert("checkout".to_owned(), true));
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.until("to be held", |run| reason(run, "TrafficReady") == "WaitingForAlarm").unwrap();
    run.annotate(PROMOTE, Some("3")).unwrap();
    run.settle().unwrap();
    assert_eq!(traffic(&run), (3, None));
}

#[test]
fn steps_that_are_changed_in_the_middle_begin_at_the_one_that_was_reached() {
    let step = |weight_percent| RolloutStep { weight_percent, hold_seconds: 120 };
    for (steps, share) in [
        (vec![step(10), step(50), step(80)], 50),
        (vec![step(20), step(30), step(60)], 30),
        (vec![step(60), step(80)], 60),
    ] {
        let mut run = serving();
        change_image(&mut run, "2");
        run.until("to take half", |run| traffic(run) == (1, Some((2, 50)))).unwrap();
        run.change(|spec| spec.rollout.steps.clone_from(&steps)).unwrap();
        run.pass().unwrap();
        assert_eq!(traffic(&run), (1, Some((2, share))), "{steps:?}");
        run.go_on_for(Duration::from_secs(100)).unwrap();
        assert_eq!(traffic(&run), (1, Some((2, share))), "it is held for its time");
        run.settle().unwrap();
        assert_eq!(traffic(&run), (2, None));
    }
    // Without steps it is for a person to say when, if a person has said to wait.
    let mut run = serving();
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.annotate(ROLLOUT_PAUSED, Some("true")).unwrap();
    run.change(|spec| spec.rollout.steps.clear()).unwrap();
    run.go_on_for(Duration::from_mins(5)).unwrap();
    let (_, reason, message) = run.condition("TrafficReady").unwrap();
    assert!(
        reason == "Paused" && message.contains("version 2 takes 10 % of the requests"),
        "{reason} {message}"
    );
    run.annotate(ROLLOUT_PAUSED, None).unwrap();
    run.settle().unwrap();
    assert_eq!(traffic(&run), (2, None));
}

#[test]
fn a_version_is_asked_the_smoke_test_only_when_it_may_take_its_first_request() {
    let asked = |run: &Run| run.world.look(|account| account.asked);
    let mut run = serving();
    let first = asked(&run);
    assert!(first > 0);
    run.restart();
    run.go_on_for(Duration::from_mins(30)).unwrap();
    assert_eq!(asked(&run), first, "it serves");
    // Not yet warm, then held by a person.
    run.annotate(ROLLOUT_PAUSED, Some("true")).unwrap();
    change_image(&mut run, "2");
    run.go_on_for(Duration::from_mins(5)).unwrap();
    assert_eq!(asked(&run), first);
    run.annotate(ROLLOUT_PAUSED, None).unwrap();
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    let second = asked(&run);
    assert!(second > first);
    run.settle().unwrap();
    // A person's word needs no test, and nor does going back.
    run.annotate(PROMOTE, Some("3")).unwrap();
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.settle().unwrap();
    run.annotate(PROMOTE, None).unwrap();
    run.annotate(REJECTED_VERSIONS, Some("3")).unwrap();
    run.until("to go back", |run| traffic(run).0 != 3).unwrap();
    assert_eq!(asked(&run), second);
    // Where none is asked for, there is none.
    let mut run = serving();
    run.change(|spec| spec.rollout.smoke_test = None).unwrap();
    change_image(&mut run, "2");
    run.settle().unwrap();
    assert_eq!(asked(&run), first);
}

#[test]
fn a_version_prepares_its_models_once_and_before_its_first_request() {
    let asked = |run: &Run| run.world.look(|account| account.preparing.clone());
    let mut object = object();
    object.spec.capacity.provisioned = None;
    object.spec.rollout.prepare_models = true;
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap();
    let name = run.endpoint().names.function.clone();
    let before_requests = |versions: &[u64]| -> Vec<(String, u64, bool)> {
        versions.iter().map(|version| (name.clone(), *version, false)).collect()
    };
    assert_eq!(asked(&run), before_requests(&[1]), "the first one, too");
    run.change(|spec| step_by_step(&mut spec.rollout)).unwrap();
    run.settle().unwrap();
    assert_eq!(asked(&run), before_requests(&[1]), "it serves");
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    assert_eq!(asked(&run), before_requests(&[1, 2]));
    run.restart();
    run.settle().unwrap();
    assert_eq!((traffic(&run), asked(&run)), ((2, None), before_requests(&[1, 2])), "once");
    // What goes back has prepared its own, and what a person hurries on is not held up.
    run.annotate(REJECTED_VERSIONS, Some("2")).unwrap();
    run.until("to go back", |run| traffic(run) == (1, None)).unwrap();
    run.annotate(PROMOTE, Some("3")).unwrap();
    run.change(|spec| spec.function.memory_mib = 3072).unwrap();
    run.until("to take all", |run| traffic(run) == (3, None)).unwrap();
    run.annotate(PROMOTE, None).unwrap();
    run.settle().unwrap();
    assert_eq!(asked(&run), before_requests(&[1, 2]));
    // Warm-ups prepare models unasked.
    run.change(|spec| {
        spec.capacity.provisioned = Some(2);
        spec.function.memory_mib = 4096;
    })
    .unwrap();
    run.settle().unwrap();
    assert_eq!((traffic(&run), asked(&run)), ((4, None), before_requests(&[1, 2])));
    // Where it is not said, nothing is asked: the code may be anybody's.
    run.change(|spec| {
        spec.capacity.provisioned = None;
        spec.rollout.prepare_models = false;
        spec.function.memory_mib = 1024;
    })
    .unwrap();
    run.settle().unwrap();
    assert_eq!((traffic(&run), asked(&run)), ((5, None), before_requests(&[1, 2])));
}

#[test]
fn what_was_taken_back_is_kept_beyond_the_limit_with_no_capacity_too() {
    let mut run = serving();
    run.change(|spec| {
        spec.rollout.history_limit = 0;
        spec.capacity.provisioned = None;
    })
    .unwrap();
    run.settle().unwrap();
    run.world.meddle(|account| account.broken.serving.insert(digest("inference 2")));
    change_image(&mut run, "2");
    run.until("to be taken back", |run| reason(run, "TrafficReady") == "RolloutAborted").unwrap();
    run.go_on_for(Duration::from_mins(20)).unwrap();
    let versions: Vec<u64> = run
        .world
        .look(|account| account.functions[&run.endpoint().names.function].versions.keys().copied().collect());
    assert_eq!(versions, [1, 2], "published once, and there for another try");
}

#[test]
fn a_smoke_test_that_asks_nothing_is_refused() {
    let mut run = serving();
    let refused = run.change(|spec| spec.rollout.smoke_test.as_mut().unwrap().inputs = None).unwrap_err();
    assert!(refused.what.contains("spec.rollout.smokeTest is without inputs: write either"), "{refused}");
}

#[test]
fn an_annotation_that_says_nothing_is_refused_with_its_name() {
    for (key, value) in
        [(PROMOTE, "two"), (REJECTED_VERSIONS, "1;2"), (RETRY_AT, "soon"), (ROLLOUT_PAUSED, "yes")]
    {
        let mut run = serving();
        let refused = run.annotate(key, Some(value)).unwrap_err();
        assert!(refused.what.contains(key) && refused.what.contains(value), "{refused}");
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_prolong_a_step() {
    let mut run = serving();
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    let begun = run.world.now();
    run.jump(-24 * 3600);
    run.settle().unwrap();
    assert_eq!(traffic(&run), (2, None));
    let took = run.world.now().checked_sub(begun).unwrap();
    assert!(took < Duration::from_mins(10), "{took:?}");
}

#[test]
fn capacity_of_a_version_with_a_share_is_changed_when_it_has_all_requests() {
    let mut run = serving();
    change_image(&mut run, "2");
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.change(|spec| spec.capacity.provisioned = Some(3)).unwrap();
    run.settle().unwrap();
    assert_eq!((traffic(&run), warm(&run, 2)), ((2, None), Some(3)));
    assert_eq!(run.world.refused(), Vec::<String>::new());
}

/// The weights as somebody sets them in the console: to what another version is given, and to nothing.
#[test]
fn weights_changed_by_hand_while_the_capacity_changes() {
    for in_a_rollout in [false, true] {
        for by_hand in [None, Some((2, 90)), Some((1, 30)), Some((3, 30))] {
            for (count, is_first) in [(1, true), (4, true), (1, false), (4, false)] {
                let mut run = serving();
                change_image(&mut run, "2");
                if in_a_rollout {
                    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
                } else {
                    run.settle().unwrap();
                }
                let weigh = |run: &Run| {
                    run.world.meddle(|account| {
                        for function in account.functions.values_mut() {
                            let Some(alias) = &mut function.alias else { continue };
                            if by_hand == Some((3, 30)) {
                                let serves = function.versions[&alias.version].clone();
                                function.versions.insert(3, serves);
                                function.next_version = 4;
                            }
                            alias.second = by_hand.filter(|(version, _)| *version != alias.version);
                            alias.revision += 1;
                        }
                    });
                };
                let change =
                    |run: &mut Run| run.change(|spec| spec.capacity.provisioned = Some(count)).unwrap();
                if is_first {
                    weigh(&run);
                    change(&mut run);
                } else {
                    change(&mut run);
                    weigh(&run);
                }
                let told = format!("{in_a_rollout} {by_hand:?} {count} {is_first}");
                run.ask().unwrap();
                run.settle().unwrap_or_else(|stuck| panic!("{told}: {stuck}"));
                // A version that somebody published of the same is as good as ours.
                let (serving, second) = traffic(&run);
                assert!(serving >= 2 && second.is_none(), "{told}: {serving} {second:?}");
                for version in 1..=3 {
                    let wanted = (version == serving).then_some(count);
                    assert_eq!(warm(&run, version), wanted, "{told}: version {version}");
                }
                assert_eq!(run.world.refused(), Vec::<String>::new(), "{told}");
            }
        }
    }
}
