//! What others change while a rollout is held, was taken back or is under way: an area of which nothing new is wanted is
//! as well guarded as at rest.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::time::Duration;

use larder_crds::spec::{AbortOn, DriftPolicy, RolloutStep, Strategy};
use larder_crds::{REJECTED_VERSIONS, RETRY_AT, ROLLOUT_PAUSED};
use larder_tests::world::account::{Account, Function};
use larder_tests::world::example::{BROUGHT, defaults, digest, image, object, world};
use larder_tests::world::run::Run;
use larder_tests::world::time_of_day;

/// An endpoint that serves version 1, and rolls the next ones out by 10 %.
fn serving() -> Run {
    let mut object = object();
    let rollout = &mut object.spec.rollout;
    rollout.strategy = Strategy::Canary;
    rollout.steps = vec![RolloutStep { weight_percent: 10, hold_seconds: 120 }];
    rollout.abort_on = Some(AbortOn { error_rate_percent: Some(1), ..AbortOn::default() });
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap();
    run
}

fn traffic(run: &Run) -> (u64, Option<(u64, u8)>) {
    run.world.look(|account| {
        let alias = account.functions[&run.endpoint().names.function].alias.as_ref().unwrap();
        (alias.version, alias.second)
    })
}

fn is(run: &Run, type_: &str, reason: &str) -> bool {
    run.condition(type_).is_some_and(|(_, it, _)| it == reason)
}

fn roll_out(run: &mut Run) {
    run.change(|spec| spec.function.image = Some(image("larder-inference", "2"))).unwrap();
}

/// A canary that failed.
fn aborted() -> Run {
    let mut run = serving();
    run.world.meddle(|account| account.broken.serving.insert(digest("inference 2")));
    roll_out(&mut run);
    run.until("to be taken back", |run| is(run, "TrafficReady", "RolloutAborted")).unwrap();
    run.until("to say so at rest", |run| run.status.plan.is_empty()).unwrap();
    run
}

/// A version that a person has rejected.
fn rolled_back() -> Run {
    let mut run = serving();
    roll_out(&mut run);
    run.settle().unwrap();
    run.annotate(REJECTED_VERSIONS, Some("2")).unwrap();
    run.until("to go back", |run| is(run, "TrafficReady", "RolledBack")).unwrap();
    run.go_on_for(Duration::from_mins(2)).unwrap();
    run
}

/// A canary that a person holds.
fn paused() -> Run {
    let mut run = serving();
    roll_out(&mut run);
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.annotate(ROLLOUT_PAUSED, Some("true")).unwrap();
    run.until("to hold", |run| is(run, "TrafficReady", "Paused")).unwrap();
    run
}

/// Nothing is rolled out, and a person holds it.
fn paused_at_rest() -> Run {
    let mut run = serving();
    run.annotate(ROLLOUT_PAUSED, Some("true")).unwrap();
    run.pass().unwrap();
    run
}

/// A state of a rollout: what it is called, how it comes about, whether requests are on their way to another version.
type State = (&'static str, fn() -> Run, bool);

const STATES: [State; 4] = [
    ("aborted", aborted, false),
    ("rolled back", rolled_back, false),
    ("paused", paused, true),
    ("paused at rest", paused_at_rest, false),
];

fn inference(account: &mut Account) -> &mut Function {
    account.functions.iter_mut().find(|(name, _)| !name.ends_with("-sync")).unwrap().1
}

fn sync(account: &mut Account) -> &mut Function {
    account.functions.iter_mut().find(|(name, _)| name.ends_with("-sync")).unwrap().1
}

/// What another writer writes again and again: what it is, how it does, whether it is so, the field and its values.
struct Writer {
    what: &'static str,
    writes: fn(&mut Account),
    has_written: fn(&Account) -> bool,
    field: &'static str,
    want: &'static str,
    have: &'static str,
}

const WRITERS: [Writer; 5] = [
    Writer {
        what: "memory",
        writes: |a| inference(a).latest.config.memory_mib = 128,
        has_written: |a| a.functions.values().any(|it| it.latest.config.memory_mib == 128),
        field: "memory",
        want: "2048 MiB",
        have: "128 MiB",
    },
    Writer {
        what: "the model-sync function",
        writes: |a| sync(a).latest.config.timeout_seconds = 3,
        has_written: |a| a.functions.values().any(|it| it.latest.config.timeout_seconds == 3),
        field: "timeout",
        want: "900 s",
        have: "3 s",
    },
    Writer {
        what: "retention",
        writes: |a| a.log_groups.values_mut().for_each(|group| group.retention_days = Some(1)),
        has_written: |a| a.log_groups.values().any(|group| group.retention_days == Some(1)),
        field: "retention in days",
        want: "30",
        have: "1",
    },
    Writer {
        what: "the URL",
        writes: |a| {
            let url = inference(a).alias.as_mut().unwrap().url.as_mut().unwrap();
            "NONE".clone_into(&mut url.auth_type);
        },
        has_written: |a| {
            let mut urls = a.functions.values().filter_map(|it| it.alias.as_ref()?.url.as_ref());
            urls.any(|url| url.auth_type == "NONE")
        },
        field: "authorisation",
        want: "AWS_IAM",
        have: "NONE",
    },
    Writer {
        what: "security groups",
        writes: |a| {
            let ours = a.mount_targets.values_mut().filter(|it| it.file_system != BROUGHT);
            ours.for_each(|it| it.security_groups = ["sg-0000000f".to_owned()].into());
        },
        has_written: |a| {
            let mut ours = a.mount_targets.values().filter(|it| it.file_system != BROUGHT);
            ours.any(|it| it.security_groups.contains("sg-0000000f"))
        },
        field: "security groups",
        want: "sg-0000000a",
        have: "sg-0000000f",
    },
];

/// The weights of an alias are what a rollout moves.
const WEIGHTS: Writer = Writer {
    what: "weights",
    writes: |a| {
        let alias = inference(a).alias.as_mut().unwrap();
        alias.second = Some((3 - alias.version, 30));
    },
    has_written: |a| a.functions.values().any(|it| it.alias.as_ref().is_some_and(|it| it.second.is_some())),
    field: "weights",
    want: "not set",
    have: "30 % to version",
};

/// Every state with every writer; the weights only where nothing moves them and there is another version.
fn all() -> impl Iterator<Item = (String, fn() -> Run, &'static Writer)> {
    STATES.iter().flat_map(|(state, begin, is_moving)| {
        let has_weights = !*is_moving && *state != "paused at rest";
        let weights = Some(&WEIGHTS).filter(|_| has_weights);
        WRITERS.iter().chain(weights).map(move |it| (format!("{state}, {}", it.what), *begin, it))
    })
}

#[test]
fn another_writer_is_not_fought_whatever_a_rollout_is_at() {
    for (what, begin, writer) in all() {
        let mut run = begin();
        run.checks_truth = false;
        let serves = traffic(&run);
        let mut corrections = 0;
        // At rest it is looked at every ten minutes.
        let end = run.world.now() + Duration::from_mins(45);
        while run.world.now() < end {
            run.world.meddle(writer.writes);
            let again = run.pass().unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
            if !run.world.look(writer.has_written) {
                corrections += 1;
            }
            run.world.advance(again);
        }
        assert!(corrections <= 3, "{what}: {corrections}");
        assert_eq!(
            traffic(&run),
            if writer.what == "weights" { (1, Some((2, 30))) } else { serves },
            "{what}"
        );
        let (_, reason, message) = run.condition("Stalled").unwrap_or_else(|| panic!("{what}"));
        assert_eq!(reason, "Contested", "{what}: {message}");
        for part in [writer.field, writer.want, writer.have, "CloudTrail", "after 3 corrections"] {
            assert!(message.contains(part), "{what}: {part} is not in {message}");
        }
        let (_, _, message) = run.condition("Drifted").unwrap_or_else(|| panic!("{what}"));
        for part in [writer.field, writer.want, writer.have] {
            assert!(message.contains(part), "{what}: {part} is not in {message}");
        }
    }
}

#[test]
fn a_report_puts_nothing_back_whatever_a_rollout_is_at() {
    for (what, begin, writer) in all() {
        let mut run = begin();
        run.change(|spec| spec.drift_policy = DriftPolicy::Report).unwrap();
        run.pass().unwrap();
        run.checks_truth = false;
        run.world.meddle(writer.writes);
        let writes = run.world.writes();
        run.go_on_for(Duration::from_hours(2)).unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        assert_eq!(run.world.writes(), writes, "{what}: {:#?}", run.world.history());
        assert!(run.world.look(writer.has_written), "{what}");
        let (_, reason, message) = run.condition("Stalled").unwrap_or_else(|| panic!("{what}"));
        assert_eq!(reason, "Drifted", "{what}: {message}");
        let told = run.status.drift.iter().find(|it| it.field == writer.field && it.ended.is_none());
        let told = told.unwrap_or_else(|| panic!("{what}: {:#?}", run.status.drift));
        assert!(told.want.contains(writer.want) && told.have.contains(writer.have), "{what}: {told:?}");
        // Nobody minds any more.
        run.change(|spec| spec.drift_policy = DriftPolicy::Correct).unwrap();
        run.until("to put it back", |run| !run.world.look(writer.has_written))
            .unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
    }
}

#[test]
fn a_report_does_not_correct_because_a_person_holds_rollouts_or_keeps_more_versions() {
    for pauses in [true, false] {
        let mut run = serving();
        run.change(|spec| spec.drift_policy = DriftPolicy::Report).unwrap();
        run.settle().unwrap();
        run.checks_truth = false;
        run.world.meddle(|a| inference(a).latest.config.memory_mib = 128);
        run.ask().unwrap();
        run.until("to tell it", |run| is(run, "Stalled", "Drifted")).unwrap();
        let writes = run.world.writes();
        if pauses {
            run.annotate(ROLLOUT_PAUSED, Some("true")).unwrap();
        } else {
            run.change(|spec| spec.rollout.history_limit += 1).unwrap();
        }
        run.go_on_for(Duration::from_hours(1)).unwrap();
        assert_eq!(run.world.writes(), writes, "{:#?}", run.world.history());
        assert!(is(&run, "Stalled", "Drifted"), "{:#?}", run.status.conditions);
    }
}

/// Requests that somebody else sends to a version that was taken back are taken from it again, and why it was taken back
/// stays known: it is not tried again.
#[test]
fn a_version_that_was_taken_back_stays_so_when_others_give_it_requests() {
    for whole in [false, true] {
        let mut run = aborted();
        let why = run.status.rollout.clone().unwrap().message;
        run.checks_truth = false;
        run.world.meddle(|a| {
            let alias = inference(a).alias.as_mut().unwrap();
            (alias.version, alias.second) = if whole { (2, None) } else { (1, Some((2, 50))) };
            a.broken.serving.clear();
        });
        run.ask().unwrap();
        run.until("to take it back", |run| traffic(run) == (1, None)).unwrap();
        run.go_on_for(Duration::from_mins(30)).unwrap();
        assert_eq!((traffic(&run), is(&run, "TrafficReady", "RolloutAborted")), ((1, None), true));
        let told = run.status.rollout.clone().unwrap();
        assert_eq!((told.state.as_str(), told.message), ("Aborted", why));
        let now = time_of_day(run.world.now() + Duration::from_mins(1)).to_string();
        run.annotate(RETRY_AT, Some(&now)).unwrap();
        run.settle().unwrap();
        assert_eq!(traffic(&run), (2, None));
    }
}

#[test]
fn a_rollout_is_no_drift() {
    let mut run = serving();
    let told = |run: &Run| run.condition("Drifted").is_some();
    roll_out(&mut run);
    run.until("to be rolled out", |run| {
        assert!(!told(run), "{:#?}", run.status.drift);
        run.is_ready()
    })
    .unwrap();
    for come in [aborted, rolled_back, paused, paused_at_rest] {
        let run = come();
        assert!(!told(&run), "{:#?}", run.status.drift);
    }
    // Nor is what a person wants of one.
    let mut run = rolled_back();
    run.annotate(REJECTED_VERSIONS, None).unwrap();
    run.until("to go on", |run| {
        assert!(!told(run), "{:#?}", run.status.drift);
        run.is_ready()
    })
    .unwrap();
}

type Taking = (&'static str, fn(&mut Account));

/// How somebody takes the shares of a canary away: by the weights alone, as a deployment tool does; by other weights; by
/// the whole alias with its description, as who declares it elsewhere does.
const TAKINGS: [Taking; 4] = [
    ("no weights", |a| inference(a).alias.as_mut().unwrap().second = None),
    ("more", |a| inference(a).alias.as_mut().unwrap().second = Some((2, 90))),
    ("less", |a| inference(a).alias.as_mut().unwrap().second = Some((2, 5))),
    ("the whole alias", |a| {
        let alias = inference(a).alias.as_mut().unwrap();
        (alias.version, alias.second) = (1, None);
        alias.description.clear();
    }),
];

/// A canary that has taken its first share.
fn canary(policy: DriftPolicy) -> Run {
    let mut run = serving();
    run.change(|spec| {
        spec.drift_policy = policy;
        spec.rollout.steps[0].hold_seconds = 300;
    })
    .unwrap();
    run.settle().unwrap();
    roll_out(&mut run);
    run.until("to take a tenth", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
    run.pass().unwrap();
    run.checks_truth = false;
    run
}

#[test]
fn who_takes_the_shares_of_a_canary_again_and_again_is_not_fought() {
    for (what, takes) in TAKINGS {
        let mut run = canary(DriftPolicy::Correct);
        let end = run.world.now() + Duration::from_mins(45);
        let mut corrections = 0;
        while run.world.now() < end {
            run.world.meddle(takes);
            let taken = traffic(&run);
            let again = run.pass().unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
            corrections += usize::from(traffic(&run) != taken);
            run.world.advance(again);
        }
        assert_eq!(corrections, 3, "{what}");
        let (_, reason, message) = run.condition("Stalled").unwrap_or_else(|| panic!("{what}"));
        assert_eq!(reason, "Contested", "{what}: {message}");
        for part in ["weights", "10 % to version 2", "CloudTrail", "UpdateAlias", "after 3 corrections"] {
            assert!(message.contains(part), "{what}: {part} is not in {message}");
        }
        // Left alone, it ends what it began.
        let now = time_of_day(run.world.now()).to_string();
        run.annotate(larder_crds::RECONCILE_AT, Some(&now)).unwrap();
        run.settle().unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        assert_eq!(traffic(&run), (2, None), "{what}");
    }
}

#[test]
fn a_share_that_was_taken_once_is_given_again_and_held_anew() {
    for (what, takes) in TAKINGS {
        let mut run = canary(DriftPolicy::Correct);
        run.world.meddle(takes);
        run.until("to give it again", |run| traffic(run) == (1, Some((2, 10)))).unwrap();
        let told = run.status.drift.clone();
        let [entry] = &told[..] else { panic!("{what}: {told:#?}") };
        assert_eq!((entry.field.as_str(), entry.want.as_str()), ("weights", "10 % to version 2"), "{what}");
        assert_eq!(entry.corrections.len(), 1, "{what}: {entry:?}");
        let given = run.world.now();
        run.until("to take all", |run| traffic(run) == (2, None)).unwrap();
        let held = run.world.now().saturating_sub(given);
        assert!(held >= Duration::from_secs(290), "{what}: {held:?}");
        assert!(run.condition("Stalled").is_none(), "{what}: {:#?}", run.status.conditions);
    }
}

#[test]
fn a_report_gives_no_share_again_but_takes_back_what_fails() {
    for (what, takes) in TAKINGS {
        let mut run = canary(DriftPolicy::Report);
        run.world.meddle(takes);
        let (taken, writes) = (traffic(&run), run.world.writes());
        // What has a share is taken back at the rollout's deadline, as ever.
        run.go_on_for(Duration::from_mins(50)).unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        assert_eq!((traffic(&run), run.world.writes()), (taken, writes), "{what}");
        let (_, reason, message) = run.condition("Stalled").unwrap_or_else(|| panic!("{what}"));
        assert_eq!(reason, "Drifted", "{what}: {message}");
        assert!(message.contains("weights") && message.contains("10 % to version 2"), "{what}: {message}");
    }
    let mut run = canary(DriftPolicy::Report);
    run.world.meddle(TAKINGS[1].1);
    run.world.meddle(|account| account.broken.serving.insert(digest("inference 2")));
    run.until("to be taken back", |run| traffic(run) == (1, None)).unwrap();
    run.until("to say so", |run| is(run, "TrafficReady", "RolloutAborted")).unwrap();
}
