//! Where the planner's limits lie: what is planned at one, and a moment before or after.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use jiff::{SignedDuration, Timestamp};
use larder_contract::upkeep::{Inventory, Verified};
use larder_core::observed::{Health, LastUpdate, Observed, Provisioned, ProvisionedStatus, Remote, Source};
use larder_core::plan::Reason;
use larder_core::plan::rollout::{Record, questions};
use larder_core::{Area, Desired, Plan, Step, plan};
use larder_crds::spec::{Adoption, InferenceEndpointSpec, RolloutStep, Strategy};
use larder_crds::{ADOPT_FROM, RECREATE_FILE_SYSTEM, REJECTED_VERSIONS, RETRY_AT};
use larder_tests::world::example::{defaults, object, world};
use larder_tests::world::run::Run;

/// An endpoint that is as wanted and has two versions, and what is there.
fn ready(spec: fn(&mut InferenceEndpointSpec)) -> (Run, Observed) {
    let mut object = object();
    spec(&mut object.spec);
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    let seen = run.observed().unwrap();
    (run, seen)
}

fn canary(spec: &mut InferenceEndpointSpec) {
    spec.rollout.strategy = Strategy::Canary;
    spec.rollout.steps = vec![RolloutStep { weight_percent: 10, hold_seconds: 120 }];
    spec.rollout.progress_deadline_seconds = 600;
}

/// `seen` with version 1 serving, the second with this share, and this to be remembered.
fn with(seen: &Observed, second: Option<(u64, u8)>, record: &Record) -> Observed {
    let mut seen = seen.clone();
    let alias = seen.alias.as_mut().unwrap().as_mut().unwrap();
    (alias.version, alias.second, alias.description) = (1, second, record.to_string());
    // Both are warm.
    for version in seen.versions.as_mut().unwrap() {
        let status = ProvisionedStatus::Ready;
        version.provisioned = Some(Provisioned { requested: 2, available: 2, status, changed: None });
    }
    seen
}

fn in_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn planned(run: &Run, seen: &Observed, area: Area) -> Plan {
    plan(&Desired::of(run.endpoint()), seen).get(area).clone()
}

fn reason(plan: &Plan) -> Option<Reason> {
    match plan {
        Plan::Wait { reason, .. } | Plan::Blocked { reason, .. } | Plan::Retry { reason, .. } => {
            Some(*reason)
        }
        Plan::Converged | Plan::Do(_) => None,
    }
}

/// The version and the share of another that the alias is moved to.
fn moved(plan: &Plan) -> Option<(u64, Option<(u64, u8)>)> {
    match plan.steps() {
        [Step::UpdateAlias { version, second, .. }] => Some((*version, *second)),
        _ => None,
    }
}

#[test]
fn a_step_is_held_for_its_time() {
    let (run, seen) = ready(canary);
    let since = seen.at;
    let record = Record::Step { version: 2, step: 0, percent: 10, since, begun: since, paused: None };
    let after = |seconds| {
        let at = in_seconds(since, seconds);
        planned(&run, &Observed { at, ..with(&seen, Some((2, 10)), &record) }, Area::Traffic)
    };
    assert_eq!(reason(&after(0)), Some(Reason::Progressing));
    assert_eq!(reason(&after(119)), Some(Reason::Progressing));
    assert_eq!(moved(&after(120)), Some((2, None)));
}

#[test]
fn a_rollout_may_take_its_deadline_and_no_longer() {
    let (run, seen) = ready(canary);
    let begun = seen.at;
    let after = |seconds| {
        let at = in_seconds(begun, seconds);
        let record = Record::Step { version: 2, step: 0, percent: 10, since: at, begun, paused: None };
        planned(&run, &Observed { at, ..with(&seen, Some((2, 10)), &record) }, Area::Traffic)
    };
    assert_eq!(reason(&after(600)), Some(Reason::Progressing));
    assert_eq!(moved(&after(601)), Some((1, None)), "it is taken back");
}

#[test]
fn what_was_taken_back_is_tried_again_from_the_moment_after() {
    let (mut run, seen) = ready(canary);
    let at = seen.at;
    let aborted = Record::Aborted { version: 2, at, why: "it failed".to_owned() };
    let seen = Observed { at: in_seconds(at, 60), ..with(&seen, None, &aborted) };
    assert_eq!(reason(&planned(&run, &seen, Area::Traffic)), Some(Reason::RolloutAborted));
    run.annotate(RETRY_AT, Some(&at.to_string())).unwrap();
    assert_eq!(reason(&planned(&run, &seen, Area::Traffic)), Some(Reason::RolloutAborted));
    run.annotate(RETRY_AT, Some(&in_seconds(at, 1).to_string())).unwrap();
    assert_eq!(moved(&planned(&run, &seen, Area::Traffic)), Some((1, Some((2, 10)))));
}

#[test]
fn an_alarm_holds_a_rollout_until_its_deadline() {
    let (mut run, seen) = ready(canary);
    let abort_on = serde_json::json!({"alarms": ["a"]});
    run.change(|spec| spec.rollout.abort_on = serde_json::from_value(abort_on).unwrap()).unwrap();
    let done = Record::Done { version: 1, since: seen.at };
    let mut seen = with(&seen, None, &done);
    let alarms_on = vec!["a".to_owned()];
    let health = Health { version: 2, invocations: 0, errors: 0, p99_milliseconds: None, alarms_on };
    seen.trial.health = Ok(Some(health));
    // The newest of what was done for the version counts.
    let at = seen.at;
    let Ok(Remote::Ready(latest)) = &mut seen.inference.function else { panic!() };
    latest.modified = Some(in_seconds(at, -50));
    for version in seen.versions.as_mut().unwrap() {
        let Remote::Ready(function) = &mut version.function else { panic!() };
        function.modified = Some(in_seconds(at, -40));
        version.provisioned.as_mut().unwrap().changed = Some(in_seconds(at, -30));
    }
    let after = |seconds| {
        let at = in_seconds(at, seconds);
        reason(&planned(&run, &Observed { at, ..seen.clone() }, Area::Traffic))
    };
    assert_eq!(after(570), Some(Reason::WaitingForAlarm));
    assert_eq!(after(571), Some(Reason::ProgressDeadlineExceeded));
}

#[test]
fn capacity_may_take_its_deadline_and_no_longer() {
    let (run, seen) = ready(canary);
    let changed = Some(seen.at);
    for status in [ProvisionedStatus::InProgress, ProvisionedStatus::Ready] {
        let mut seen = seen.clone();
        let version = seen.versions.as_mut().unwrap().last_mut().unwrap();
        version.provisioned = Some(Provisioned { requested: 2, available: 1, status, changed });
        let after = |seconds| {
            let at = in_seconds(seen.at, seconds);
            reason(&planned(&run, &Observed { at, ..seen.clone() }, Area::Capacity))
        };
        assert_eq!(after(600), Some(Reason::Waiting));
        assert_eq!(after(601), Some(Reason::ProgressDeadlineExceeded));
    }
}

/// What nothing serves from stays warm while the version that is to serve is, unless that is more than may run.
#[test]
fn what_is_kept_warm_in_vain_goes_when_the_reserve_is_exceeded() {
    let (run, seen) = ready(|spec| spec.capacity.reserved = Some(5));
    let done = Record::Done { version: 2, since: seen.at };
    let mut seen = with(&seen, None, &done);
    seen.alias.as_mut().unwrap().as_mut().unwrap().version = 2;
    let with_first = |requested: i32| {
        let mut seen = seen.clone();
        let first = seen.versions.as_mut().unwrap()[0].provisioned.as_mut().unwrap();
        (first.requested, first.available) = (requested, requested);
        planned(&run, &seen, Area::Capacity)
    };
    assert_eq!(with_first(3), Plan::Converged, "five of five");
    assert!(matches!(with_first(4).steps(), [Step::DeleteProvisionedConcurrency { version: 1, .. }]));
}

#[test]
fn a_version_stays_warm_for_half_a_minute_after_its_last_request() {
    let (run, seen) = ready(canary);
    let since = seen.at;
    let mut seen = with(&seen, None, &Record::Done { version: 2, since });
    seen.alias.as_mut().unwrap().as_mut().unwrap().version = 2;
    let after = |seconds| {
        let at = in_seconds(since, seconds);
        planned(&run, &Observed { at, ..seen.clone() }, Area::History)
    };
    assert_eq!(reason(&after(0)), Some(Reason::Draining));
    assert_eq!(reason(&after(29)), Some(Reason::Draining));
    let cools = |plan: &Plan| matches!(plan.steps(), [Step::DeleteProvisionedConcurrency { version: 1, .. }]);
    assert!(cools(&after(30)));
    assert!(cools(&after(-1)), "the clock was set back");
}

#[test]
fn a_source_settles_when_it_was_listed_late_enough() {
    let (run, mut seen) = ready(canary);
    let (at, settle) = (seen.at, i64::from(run.object.spec.refresh.settle_seconds));
    let mut after = |seconds: i64| {
        let Some(Ok(Source::Found { changed, listed, revision, .. })) = seen.sources.get_mut("ocr") else {
            panic!()
        };
        (*changed, *listed) = (at, in_seconds(at, seconds));
        *revision = larder_contract::Digest::of(b"new");
        let report = seen.sync_report.as_mut().unwrap().as_mut().unwrap();
        (report.manifest_present, report.models) = (false, Vec::new());
        planned(&run, &seen, Area::Models)
    };
    assert_eq!(reason(&after(settle - 1)), Some(Reason::Settling));
    assert!(matches!(after(settle).steps(), [Step::StartSync { .. }]));
}

fn stored(seen: &mut Observed) -> &mut Inventory {
    seen.stored.as_mut().unwrap().as_mut().unwrap()
}

#[test]
fn what_is_marked_goes_after_its_grace() {
    let (run, mut seen) = ready(|spec| {
        spec.storage.retain_revisions = 0;
        spec.storage.collect_after_seconds = 900;
    });
    let now = stored(&mut seen).now;
    let mut other = stored(&mut seen).revisions[0].clone();
    (other.revision, other.marked) = (larder_contract::Digest::of(b"other"), Some(now));
    stored(&mut seen).revisions.push(other.clone());
    let mut after = |seconds: u64| {
        stored(&mut seen).now = now + seconds;
        planned(&run, &seen, Area::Upkeep)
    };
    assert_eq!(after(899), Plan::Converged);
    let plan = after(900);
    let [Step::Collect { request, .. }] = plan.steps() else { panic!("{plan:?}") };
    assert_eq!(request.delete.len(), 1);
    assert_eq!((request.delete[0].digest, request.delete[0].since), (other.revision, now));
}

#[test]
fn bytes_are_read_again_when_the_last_look_is_old_enough() {
    let (run, mut seen) = ready(|spec| spec.storage.verify_every_seconds = Some(3600));
    let copied = stored(&mut seen).revisions[0].copied;
    let mut after = |verified: Option<u64>, now: u64| {
        let stored = stored(&mut seen);
        stored.now = now;
        stored.revisions[0].verified = verified.map(|at| Verified { at, damage: String::new() });
        let plan = planned(&run, &seen, Area::Upkeep);
        matches!(plan.steps(), [Step::Verify { .. }])
    };
    for (verified, last) in [(None, copied), (Some(copied + 50), copied + 50), (Some(copied - 50), copied)] {
        assert!(!after(verified, last + 3599), "{verified:?}");
        assert!(after(verified, last + 3600), "{verified:?}");
    }
    stored(&mut seen).revisions[0].is_complete = false;
    let now = stored(&mut seen).now;
    stored(&mut seen).now = now + 7200;
    assert_eq!(planned(&run, &seen, Area::Upkeep), Plan::Converged, "what is in flight is not read");
}

/// Whose things are taken over, by what the spec and the annotation say.
#[test]
fn what_is_taken_over_is_what_was_consented_to() {
    const UID: &str = "old/team/signs/uid-9";
    const PLACE: &str = "old/team/signs";
    let (run, seen) = ready(canary);
    for (policy, from, owner, is_new, is_taken) in [
        (Adoption::Adopt, None, "", true, true),
        (Adoption::Adopt, None, "", false, true),
        (Adoption::Never, None, "", true, false),
        (Adoption::Adopt, None, "test/vision/signs/uid-0", true, true),
        (Adoption::Adopt, None, "test/vision/signs/uid-0", false, false),
        (Adoption::Never, None, "test/vision/signs/uid-0", true, false),
        (Adoption::Adopt, None, "test/vision/sign/uid-0", true, false),
        (Adoption::Adopt, None, "test/vision/signs2/uid-0", true, false),
        (Adoption::Adopt, None, "nonsense", true, false),
        (Adoption::Never, Some(UID), UID, true, true),
        (Adoption::Never, Some(UID), UID, false, false),
        (Adoption::Never, Some(UID), "old/team/signs/uid-8", true, false),
        (Adoption::Never, Some(PLACE), "old/team/signs/uid-8", true, true),
        (Adoption::Never, Some(PLACE), "old/team/signs/uid-8", false, false),
        (Adoption::Never, Some(PLACE), "old/team/other/uid-8", true, false),
        (Adoption::Never, Some(PLACE), "", true, false),
    ] {
        let mut object = run.object.clone();
        object.spec.adoption = policy;
        let annotations = from.map(|from| (ADOPT_FROM.to_owned(), from.to_owned()));
        object.metadata.annotations = Some(annotations.into_iter().collect());
        let endpoint = larder_core::Endpoint::parse(&object, &defaults()).unwrap();
        let mut seen = Observed { was_converged: !is_new, ..seen.clone() };
        seen.access_point = Ok(Remote::Foreign { owner: owner.to_owned(), id: "fsap-1".to_owned() });
        let plans = plan(&Desired::of(&endpoint), &seen);
        let storage = plans.get(Area::Storage);
        let told = format!("{policy:?} {from:?} {owner} {is_new}: {storage:?}");
        if is_taken {
            let [Step::TagResource { id, from, owner: to, .. }] = storage.steps() else { panic!("{told}") };
            assert_eq!(
                (id.as_str(), from.as_str(), to.0.as_str()),
                ("fsap-1", owner, "test/vision/signs/uid-1")
            );
        } else {
            assert_eq!(reason(storage), Some(Reason::ForeignResource), "{told}");
        }
    }
}

/// A file system that others have a way to stays, and so do theirs.
#[test]
fn a_mount_target_is_ours_by_its_subnet_or_its_security_groups() {
    let (mut run, mut seen) = ready(canary);
    run.delete().unwrap();
    for function in [&mut seen.sync.function, &mut seen.inference.function] {
        *function = Ok(Remote::Absent);
    }
    (seen.versions, seen.access_point) = (Ok(Vec::new()), Ok(Remote::Absent));
    let ours = seen.mount_targets.as_ref().unwrap()[0].clone();
    let with = |subnet: &str, group: &str, state: &str| {
        let mut it = ours.clone();
        (it.id, it.subnet, it.state) = ("fsmt-x".to_owned(), subnet.to_owned(), state.to_owned());
        it.security_groups = [group.to_owned()].into();
        Observed { mount_targets: Ok(vec![it]), ..seen.clone() }
    };
    let (subnet, group) = (ours.subnet.as_str(), ours.security_groups.first().unwrap().as_str());
    let storage = |seen: &Observed| planned(&run, seen, Area::Storage);
    let deletes = |plan: &Plan| matches!(plan.steps(), [Step::DeleteMountTarget { id }] if id == "fsmt-x");
    assert!(deletes(&storage(&with(subnet, group, "available"))));
    assert!(deletes(&storage(&with(subnet, "sg-x", "available"))));
    assert!(deletes(&storage(&with("subnet-x", group, "available"))));
    assert!(deletes(&storage(&with("subnet-x", "sg-x", "error"))));
    let theirs = with("subnet-x", "sg-x", "available");
    assert_eq!(reason(&storage(&theirs)), Some(Reason::InUse));
    assert_eq!(reason(&storage(&with("subnet-x", "sg-x", "deleting"))), Some(Reason::WaitingForDeletion));
    let gone = with("subnet-x", "sg-x", "deleted");
    assert!(matches!(storage(&gone).steps(), [Step::DeleteFileSystem { .. }]));
    let shared = Observed { other_access_points: Ok(vec!["fsap-x".to_owned()]), ..gone };
    assert_eq!(reason(&storage(&shared)), Some(Reason::InUse));
}

/// Whichever is listed first.
#[test]
fn the_first_subnet_of_a_zone_has_its_mount_target() {
    let (mut run, mut seen) = ready(canary);
    run.change(|spec| spec.network.subnet_ids.push("subnet-00000001".to_owned())).unwrap();
    let first = seen.subnets.as_ref().unwrap()[0].clone();
    let another = larder_core::observed::Subnet { id: "subnet-00000001".to_owned(), ..first.clone() };
    let zone = first.zone;
    seen.mount_targets.as_mut().unwrap().retain(|it| it.zone != zone);
    for at in [0, 1, 2] {
        let mut seen = seen.clone();
        seen.subnets.as_mut().unwrap().insert(at, another.clone());
        let plan = planned(&run, &seen, Area::Storage);
        let [Step::CreateMountTarget { subnet, .. }] = plan.steps() else { panic!("{plan:?}") };
        assert_eq!(*subnet, another.id);
    }
}

/// What differs in the text of a pattern only is no difference.
#[test]
fn a_rule_is_as_wanted_when_its_pattern_is_the_same_json() {
    let events = serde_json::json!([{"name": "ocr", "task": "ocr", "source": {
        "s3": {"bucket": "acme-models", "prefix": "ocr/", "events": "EventBridge"}}}]);
    let mut object = object();
    object.spec.models = serde_json::from_value(events).unwrap();
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    let seen = run.observed().unwrap();
    let Ok(Remote::Ready(rule)) = &seen.events.rule else { panic!() };
    let spaced = format!(" {} ", rule.pattern);
    for (pattern, is_enabled, is_right) in [
        (rule.pattern.clone(), true, true),
        (spaced.clone(), true, true),
        (spaced, false, false),
        (rule.pattern.clone(), false, false),
        ("{}".to_owned(), true, false),
        ("no JSON".to_owned(), true, false),
    ] {
        let mut seen = seen.clone();
        let Ok(Remote::Ready(rule)) = &mut seen.events.rule else { panic!() };
        (rule.pattern, rule.is_enabled) = (pattern, is_enabled);
        let plan = planned(&run, &seen, Area::Events);
        if is_right {
            assert_eq!(plan, Plan::Converged);
        } else {
            assert!(matches!(plan.steps(), [Step::PutRule { is_new: false, .. }]), "{plan:?}");
        }
    }
}

/// A copy is looked at every second, for its progress; what AWS is at, every two.
#[test]
fn a_copy_is_looked_at_twice_as_often_as_what_else_is_waited_for() {
    let (run, mut seen) = ready(canary);
    let after = |plan: &Plan| match plan {
        Plan::Wait { after, .. } => after.as_secs(),
        Plan::Converged | Plan::Do(_) | Plan::Retry { .. } | Plan::Blocked { .. } => panic!("{plan:?}"),
    };
    let version = seen.versions.as_mut().unwrap().last_mut().unwrap();
    let status = ProvisionedStatus::InProgress;
    version.provisioned = Some(Provisioned { requested: 2, available: 1, status, changed: None });
    assert_eq!(after(&planned(&run, &seen, Area::Capacity)), 2);
    let report = seen.sync_report.as_mut().unwrap().as_mut().unwrap();
    (report.manifest_present, report.running) = (false, true);
    assert_eq!(after(&planned(&run, &seen, Area::Models)), 1);
}

/// Lambda refuses a reserved concurrency below what is provisioned in all.
#[test]
fn the_reserve_goes_down_to_what_is_provisioned_and_no_further() {
    let (run, mut seen) = ready(|spec| spec.capacity.reserved = Some(5));
    let Ok(Remote::Ready(latest)) = &mut seen.inference.function else { panic!() };
    latest.reserved = Some(10);
    let mut with_first = |requested: i32| {
        let (available, status) = (requested, ProvisionedStatus::Ready);
        let provisioned = Some(Provisioned { requested, available, status, changed: None });
        seen.versions.as_mut().unwrap()[0].provisioned = provisioned;
        planned(&run, &seen, Area::Function)
    };
    assert!(matches!(with_first(3).steps(), [Step::PutFunctionConcurrency { reserved: 5, .. }]));
    assert_eq!(with_first(4), Plan::Converged, "what is provisioned goes down first");
}

/// While the wanted models are not there, what is served goes on being served, as long as it is there.
#[test]
fn a_function_is_changed_only_to_serve_what_is_there() {
    let (mut run, mut seen) = ready(canary);
    run.change(|spec| spec.function.memory_mib = 3008).unwrap();
    seen.sync_report.as_mut().unwrap().as_mut().unwrap().manifest_present = false;
    let changes = |plan: &Plan| matches!(plan.steps(), [Step::UpdateFunctionConfiguration { .. }]);
    assert!(changes(&planned(&run, &seen, Area::Function)));
    let mut unknown = seen.clone();
    unknown.stored = Ok(None);
    assert!(changes(&planned(&run, &unknown, Area::Function)), "it mounts the access point that is there");
    let Ok(Remote::Ready(access_point)) = &mut unknown.access_point else { panic!() };
    "another".clone_into(&mut access_point.arn);
    assert_eq!(reason(&planned(&run, &unknown, Area::Function)), Some(Reason::WaitingForModels));
    stored(&mut seen).manifests.clear();
    assert_eq!(reason(&planned(&run, &seen, Area::Function)), Some(Reason::WaitingForModels));
}

#[test]
fn the_versions_that_drain_are_named() {
    let (run, seen) = ready(canary);
    let mut seen = with(&seen, None, &Record::Done { version: 2, since: seen.at });
    seen.alias.as_mut().unwrap().as_mut().unwrap().version = 2;
    let on = |seen: &Observed| {
        let plan = planned(&run, seen, Area::History);
        let Plan::Wait { on, .. } = plan else { panic!("{plan:?}") };
        on
    };
    assert_eq!(on(&seen), "the last requests of version 1 to end");
    let versions = seen.versions.as_mut().unwrap();
    let mut older = versions[0].clone();
    older.number = 0;
    versions.insert(0, older);
    assert_eq!(on(&seen), "the last requests of version 0 and version 1 to end");
}

/// A version is watched when anything is named that takes it back.
#[test]
fn each_reason_to_take_a_version_back_has_it_watched() {
    use larder_core::endpoint::AbortOn;
    assert!(AbortOn::default().is_empty());
    assert!(AbortOn { min_invocations: 5, ..AbortOn::default() }.is_empty());
    for on in [
        AbortOn { error_rate_percent: Some(1), ..AbortOn::default() },
        AbortOn { p99_milliseconds: Some(1), ..AbortOn::default() },
        AbortOn { alarms: vec!["a".to_owned()], ..AbortOn::default() },
    ] {
        assert!(!on.is_empty(), "{on:?}");
    }
}

#[test]
fn rejected_versions_are_numbers_with_commas_between() {
    let (mut run, _) = ready(canary);
    for (text, rejected) in [("", vec![]), (" 3, ,4,", vec![3, 4]), ("7", vec![7])] {
        run.annotate(REJECTED_VERSIONS, Some(text)).unwrap();
        let told: Vec<u64> = Desired::of(run.endpoint()).controls.rejected.into_iter().collect();
        assert_eq!(told, rejected, "{text:?}");
    }
}

#[test]
fn an_update_of_a_function_may_take_its_deadline_and_no_longer() {
    let (run, mut seen) = ready(canary);
    let since = seen.at;
    let Ok(Remote::Ready(latest)) = &mut seen.inference.function else { panic!() };
    latest.last_update = LastUpdate::InProgress;
    let after = |modified: Option<Timestamp>, seconds| {
        let mut seen = Observed { at: in_seconds(since, seconds), ..seen.clone() };
        let Ok(Remote::Ready(latest)) = &mut seen.inference.function else { panic!() };
        latest.modified = modified;
        reason(&planned(&run, &seen, Area::Function))
    };
    assert_eq!(after(Some(since), 600), Some(Reason::Waiting));
    assert_eq!(after(Some(since), 601), Some(Reason::ProgressDeadlineExceeded));
    assert_eq!(after(None, 601), Some(Reason::Waiting), "since when is not known");
}

/// The one that serves, else the newest that can.
#[test]
fn what_serves_stands_in_for_what_must_not() {
    let (mut run, seen) = ready(canary);
    let message = |run: &Run, seen: &Observed| {
        let plan = planned(run, seen, Area::Traffic);
        let Plan::Blocked { message, .. } = plan else { panic!("{plan:?}") };
        message
    };
    let aborted = Record::Aborted { version: 2, at: seen.at, why: "it failed".to_owned() };
    let mut first = with(&seen, None, &aborted);
    let versions = first.versions.as_mut().unwrap();
    let mut older = versions[0].clone();
    older.number = 0;
    versions.insert(0, older);
    first.alias.as_mut().unwrap().as_mut().unwrap().version = 0;
    assert!(message(&run, &first).ends_with("; version 0 serves"), "{}", message(&run, &first));
    // Of the one that is rejected, another takes the requests, unless its models are damaged.
    run.annotate(REJECTED_VERSIONS, Some("2")).unwrap();
    let mut second = with(&seen, None, &Record::Done { version: 2, since: seen.at });
    second.alias.as_mut().unwrap().as_mut().unwrap().version = 2;
    assert_eq!(moved(&planned(&run, &second, Area::Traffic)), Some((1, None)));
    stored(&mut second).revisions[0].verified = Some(Verified { at: 1, damage: "a byte differs".to_owned() });
    let told = message(&run, &second);
    assert!(told.ends_with("; no other version is there that could serve"), "{told}");
}

#[test]
fn a_copy_under_way_is_told_with_its_bytes() {
    let (run, mut seen) = ready(canary);
    let report = seen.sync_report.as_mut().unwrap().as_mut().unwrap();
    (report.manifest_present, report.running) = (false, true);
    (report.models[0].bytes_done, report.models[0].bytes_total) = (10 << 20, 60 << 20);
    let Plan::Wait { on, .. } = planned(&run, &seen, Area::Models) else { panic!() };
    assert_eq!(on, "the copy of the models: 10.0 MiB of 60.0 MiB");
}

/// Alarms are asked for before a first share, where there are such, and where a share is what comes next.
#[test]
fn nothing_is_asked_without_need() {
    let (mut run, seen) = ready(|_| {});
    let seen = with(&seen, None, &Record::Done { version: 1, since: seen.at });
    let asked = |run: &Run, seen: &Observed| {
        let asked = questions(&Desired::of(run.endpoint()), seen);
        (asked.smoke, asked.health, asked.alarms)
    };
    assert_eq!(asked(&run, &seen), (None, None, None));
    run.change(canary).unwrap();
    assert_eq!(asked(&run, &seen), (None, None, None), "there are no alarms");
    let alarms = serde_json::json!({"alarms": ["a"]});
    run.change(|spec| spec.rollout.abort_on = serde_json::from_value(alarms).unwrap()).unwrap();
    assert_eq!(asked(&run, &seen), (None, None, Some(2)));
    let mut other = seen.clone();
    other.alias.as_mut().unwrap().as_mut().unwrap().second = Some((7, 10));
    assert_eq!(asked(&run, &other), (None, Some((7, other.at)), None), "another one has a share");
    let mut first = seen.clone();
    first.alias = Ok(None);
    assert_eq!(asked(&run, &first), (None, None, None), "nothing serves");
    let mut cold = seen;
    cold.versions.as_mut().unwrap()[1].provisioned = None;
    assert_eq!(asked(&run, &cold), (None, None, None), "it is not warm");
}

/// A record that does not tell how the version came to its share tells nothing of how long it has had it.
#[test]
fn a_hold_begins_again_where_the_record_is_of_something_else() {
    let (run, seen) = ready(|spec| {
        canary(spec);
        spec.rollout.steps.push(RolloutStep { weight_percent: 50, hold_seconds: 120 });
    });
    let long_ago = in_seconds(seen.at, -300);
    let step = |version, step, percent, since| Record::Step {
        version,
        step,
        percent,
        since,
        begun: long_ago,
        paused: None,
    };
    let planned = |record: &Record| {
        let plan = planned(&run, &with(&seen, Some((2, 10)), record), Area::Traffic);
        let [Step::UpdateAlias { version: 1, second: Some((2, share)), description, .. }] = plan.steps()
        else {
            panic!("{record:?}: {plan:?}")
        };
        (*share, Record::parse(description).unwrap())
    };
    let again = |nth, share| {
        let (since, begun) = (seen.at, seen.at);
        (share, Record::Step { version: 2, step: nth, percent: share, since, begun, paused: None })
    };
    // It has had its time: it goes on.
    let next =
        Record::Step { version: 2, step: 1, percent: 50, since: seen.at, begun: long_ago, paused: None };
    assert_eq!(planned(&step(2, 0, 10, long_ago)), (50, next));
    for (record, expected) in [
        (step(7, 0, 10, long_ago), again(0, 10)),
        (step(2, 1, 10, long_ago), again(0, 10)),
        (step(2, 5, 10, long_ago), again(0, 10)),
        (step(2, 0, 10, in_seconds(seen.at, 1)), again(0, 10)),
        // Somebody gave it less than it had been given.
        (step(2, 1, 50, long_ago), again(1, 50)),
        (step(2, 1, 70, long_ago), again(1, 50)),
        // What another version was given is not this one's.
        (step(7, 1, 50, long_ago), again(0, 10)),
        (Record::Done { version: 2, since: long_ago }, again(0, 10)),
    ] {
        assert_eq!(planned(&record), expected, "{record:?}");
    }
}

/// An empty file system takes the place of one that is gone only where a person has named that one.
#[test]
fn a_file_system_is_made_anew_with_consent_alone() {
    let (mut run, mut seen) = ready(canary);
    seen.file_system = Ok(Remote::Absent);
    let is_made = |run: &Run, seen: &Observed| {
        matches!(planned(run, seen, Area::Storage).steps(), [Step::CreateFileSystem { .. }])
    };
    assert!(is_made(&run, &Observed { known_file_system: None, ..seen.clone() }));
    seen.known_file_system = Some("fs-1".to_owned());
    for (consent, expected) in [(None, false), (Some("fs-2"), false), (Some("fs-1"), true)] {
        run.annotate(RECREATE_FILE_SYSTEM, consent).unwrap();
        assert_eq!(is_made(&run, &seen), expected, "{consent:?}");
        let told = reason(&planned(&run, &seen, Area::Storage));
        assert_eq!(told, (!expected).then_some(Reason::FileSystemNotFound));
    }
}

/// A model keeps the newest of its own revisions that is whole.
#[test]
fn what_is_retained_is_whole_and_of_the_model() {
    let (run, mut seen) = ready(|spec| spec.storage.retain_revisions = 1);
    let stored = stored(&mut seen);
    let (now, revision, manifest) = (stored.now, stored.revisions[0].clone(), stored.manifests[0].clone());
    let digest = |name: &str| larder_contract::Digest::of(name.as_bytes());
    let mut add = |name: &str, model: &str, age: u64, is_complete: bool, damage: &str| {
        let (copied, verified) = (now - age, Some(Verified { at: now, damage: damage.to_owned() }));
        let revision = larder_contract::upkeep::StoredRevision {
            revision: digest(name),
            copied,
            is_complete,
            verified,
            ..revision
        };
        stored.revisions.push(revision);
        let mut manifest = manifest.clone();
        manifest.manifest = digest(&format!("manifest {name}"));
        (manifest.models[0].model, manifest.models[0].revision) = (model.to_owned(), digest(name));
        stored.manifests.push(manifest);
    };
    add("in flight", "ocr", 10, false, "");
    add("damaged", "ocr", 20, true, "a byte differs");
    add("another model's", "extra", 30, true, "");
    add("kept", "ocr", 40, true, "");
    add("older", "ocr", 50, true, "");
    let plan = planned(&run, &seen, Area::Upkeep);
    let [Step::Collect { request, .. }] = plan.steps() else { panic!("{plan:?}") };
    let gone = ["in flight", "damaged", "another model's", "older"];
    let mut expected: Vec<_> = gone.iter().map(|name| digest(name)).collect();
    expected.extend(gone.iter().map(|name| digest(&format!("manifest {name}"))));
    expected.sort();
    let mut marked = request.mark.clone();
    marked.sort();
    assert_eq!(marked, expected);
}

/// Why a version was taken back is remembered whoever moves the alias, or it would be tried again.
#[test]
fn why_a_version_was_taken_back_stays_known() {
    let (run, seen) = ready(canary);
    let aborted = Record::Aborted { version: 2, at: seen.at, why: "it failed".to_owned() };
    let plan = planned(&run, &with(&seen, Some((2, 10)), &aborted), Area::Traffic);
    let [Step::UpdateAlias { version: 1, second: None, description, .. }] = plan.steps() else {
        panic!("{plan:?}")
    };
    assert_eq!(Record::parse(description), Some(aborted));
}

/// What another version has done says nothing of this one.
#[test]
fn a_version_goes_on_when_it_is_known_what_it_has_done() {
    let (mut run, seen) = ready(canary);
    let abort_on = serde_json::json!({"errorRatePercent": 1});
    run.change(|spec| spec.rollout.abort_on = serde_json::from_value(abort_on).unwrap()).unwrap();
    let since = in_seconds(seen.at, -120);
    let record = Record::Step { version: 2, step: 0, percent: 10, since, begun: since, paused: None };
    let mut seen = with(&seen, Some((2, 10)), &record);
    let mut of = |version, errors| {
        let health =
            Health { version, invocations: 100, errors, p99_milliseconds: None, alarms_on: Vec::new() };
        seen.trial.health = Ok(Some(health));
        planned(&run, &seen, Area::Traffic)
    };
    assert_eq!(reason(&of(7, 0)), Some(Reason::Progressing));
    assert_eq!(reason(&of(7, 100)), Some(Reason::Progressing));
    assert_eq!(moved(&of(2, 0)), Some((2, None)));
    assert_eq!(moved(&of(2, 2)), Some((1, None)), "it is taken back");
}
