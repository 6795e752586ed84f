//! What the status tells, field by field, of what is there: an endpoint that is as wanted, and one difference.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use larder_contract::Digest;
use larder_contract::sync::ModelState;
use larder_contract::upkeep::Verified;
use larder_core::drift::differences;
use larder_core::observed::{Observed, Provisioned, ProvisionedStatus, Remote, Source};
use larder_core::plan::rollout::Record;
use larder_core::status::status;
use larder_core::step::Tagged;
use larder_core::{Area, Class, Desired, Problem, Step, plan};
use larder_crds::InferenceEndpointStatus;
use larder_crds::spec::{RolloutStep, Strategy};
use larder_crds::status::{ModelStatus, RolloutStatus, TrafficStatus};
use larder_tests::world::example::{BUCKET, defaults, object, world};
use larder_tests::world::run::Run;

/// An endpoint that is as wanted, its second version serving, and what is there.
fn ready() -> (Run, Observed) {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    let seen = run.observed().unwrap();
    (run, seen)
}

/// From now on, new versions take these shares of the requests first, in percent, a minute each.
fn roll_out_by(run: &mut Run, shares: &[i32]) {
    let step = |weight_percent: &i32| RolloutStep { weight_percent: *weight_percent, hold_seconds: 60 };
    run.change(|spec| {
        spec.rollout.strategy = Strategy::Canary;
        spec.rollout.steps = shares.iter().map(step).collect();
    })
    .unwrap();
}

/// What is told of it after what was told before.
fn told(run: &Run, seen: &Observed, before: &InferenceEndpointStatus) -> InferenceEndpointStatus {
    let plans = plan(&Desired::of(run.endpoint()), seen);
    status(run.endpoint(), seen, &plans, &BTreeMap::new(), before, seen.at)
}

fn model(run: &Run, seen: &Observed, before: &InferenceEndpointStatus) -> ModelStatus {
    told(run, seen, before).models.remove(0)
}

/// The model's line in the answer of the model-sync function.
fn report(seen: &mut Observed) -> &mut larder_contract::sync::ModelReport {
    &mut seen.sync_report.as_mut().unwrap().as_mut().unwrap().models[0]
}

#[test]
fn a_model_that_is_there_has_the_size_that_it_has_there() {
    let (run, mut seen) = ready();
    let sizes = |seen: &Observed| {
        let it = model(&run, seen, &run.status);
        (it.bytes, it.files)
    };
    // Two layers at the source, five files here.
    let Some(Ok(Source::Found { bytes, files, .. })) = seen.sources.get_mut("ocr") else { panic!() };
    (*bytes, *files) = (1000, 2);
    (report(&mut seen).bytes_total, report(&mut seen).files) = (3000, 5);
    assert_eq!(sizes(&seen), (3000, 5));
    let mut uncounted = seen.clone();
    report(&mut uncounted).files = 0;
    assert_eq!(sizes(&uncounted), (1000, 2));
    let mut on_its_way = seen.clone();
    report(&mut on_its_way).state = ModelState::Syncing;
    assert_eq!(sizes(&on_its_way), (1000, 2));
    let mut other = seen.clone();
    report(&mut other).revision = Digest::of(b"other content");
    assert_eq!(sizes(&other), (1000, 2), "it is about other content");
}

#[test]
fn a_model_was_last_copied_when_it_came_to_be_there() {
    let (run, mut seen) = ready();
    let before = &run.status;
    let was = before.models[0].last_sync_time.clone();
    assert!(was.is_some());
    seen.at = seen.at.checked_add(SignedDuration::from_hours(1)).unwrap();
    let now = Some(seen.at.to_string());
    let last = |seen: &Observed, before: &InferenceEndpointStatus| model(&run, seen, before).last_sync_time;
    assert_eq!(last(&seen, before), was, "it is there still");
    let with = |change: fn(&mut ModelStatus)| {
        let mut before = before.clone();
        change(&mut before.models[0]);
        before
    };
    assert_eq!(last(&seen, &with(|it| it.state = "Syncing".to_owned())), now);
    assert_eq!(last(&seen, &with(|it| it.desired_digest = Some("sha256:1".to_owned()))), now);
    assert_eq!(last(&seen, &InferenceEndpointStatus::default()), now);
    report(&mut seen).state = ModelState::Syncing;
    assert_eq!(last(&seen, before), was, "another copy is under way");
    assert_eq!(last(&seen, &InferenceEndpointStatus::default()), None);
}

#[test]
fn what_serves_is_named_until_something_else_does() {
    let (run, seen) = ready();
    let wanted = run.status.models[0].desired_digest.clone();
    let active = |seen: &Observed, before: &InferenceEndpointStatus| model(&run, seen, before).active_digest;
    assert_eq!(active(&seen, &InferenceEndpointStatus::default()), wanted);
    let mut other = seen.clone();
    let Some(Ok(Source::Found { revision, .. })) = other.sources.get_mut("ocr") else { panic!() };
    *revision = Digest::of(b"other content");
    assert_eq!(active(&other, &run.status), wanted, "the old content still serves");
    assert_eq!(active(&other, &InferenceEndpointStatus::default()), None);
    let mut unlisted = seen;
    unlisted.sources.clear();
    assert_eq!(active(&unlisted, &run.status), wanted);
    assert_eq!(active(&unlisted, &InferenceEndpointStatus::default()), None);
}

#[test]
fn a_look_at_the_bytes_is_told_of_the_content_that_it_was_about() {
    let (run, mut seen) = ready();
    let last = |seen: &Observed| model(&run, seen, &run.status).last_verified_time;
    assert_eq!(last(&seen), None);
    let look = |damage: &str| Some(Verified { at: 1_700_000_000, damage: damage.to_owned() });
    let stored = |seen: &mut Observed| seen.stored.as_mut().unwrap().as_mut().unwrap().revisions[0].clone();
    let mut other = stored(&mut seen);
    (other.revision, other.verified) = (Digest::of(b"other content"), look(""));
    seen.stored.as_mut().unwrap().as_mut().unwrap().revisions.insert(0, other);
    assert_eq!(last(&seen), None);
    seen.stored.as_mut().unwrap().as_mut().unwrap().revisions[1].verified = look("");
    assert_eq!(last(&seen).as_deref(), Some("2023-11-14T22:13:20Z"));
    seen.stored.as_mut().unwrap().as_mut().unwrap().revisions[1].verified = look("a byte differs");
    assert_eq!(last(&seen), None);
}

#[test]
fn the_code_that_is_told_is_the_serving_versions() {
    let (run, mut seen) = ready();
    let code = |seen: &Observed| told(&run, seen, &run.status).function.unwrap().code_digest;
    let serving = code(&seen);
    let Ok(latest) = &mut seen.inference.function else { panic!() };
    let mut it = latest.ours().unwrap().clone();
    it.code_digest = "sha256:new".to_owned();
    *latest = Remote::Ready(it);
    assert_eq!(code(&seen), serving);
    seen.alias = Ok(None);
    let function = told(&run, &seen, &run.status).function.unwrap();
    assert_eq!(function.code_digest.as_deref(), Some("sha256:new"));
    assert_eq!((function.version, function.alias), (None, None));
}

#[test]
fn the_capacity_that_is_told_is_that_of_the_version_to_serve() {
    let (run, mut seen) = ready();
    let warm =
        |requested, available, status| Some(Provisioned { requested, available, status, changed: None });
    let versions = seen.versions.as_mut().unwrap();
    versions[0].provisioned = warm(7, 7, ProvisionedStatus::Ready);
    versions[1].provisioned = warm(2, 1, ProvisionedStatus::InProgress);
    let capacity = |run: &Run, seen: &Observed| {
        let it = told(run, seen, &run.status).capacity.unwrap();
        (it.requested, it.available, it.status)
    };
    let said = |status: &str| Some(status.to_owned());
    assert_eq!(capacity(&run, &seen), (2, 1, said("IN_PROGRESS")));
    assert_eq!(told(&run, &seen, &run.status).summary.capacity, "1/2");
    seen.versions.as_mut().unwrap()[1].provisioned = warm(2, 0, ProvisionedStatus::Failed("no".to_owned()));
    assert_eq!(capacity(&run, &seen), (2, 0, said("FAILED")));
    seen.alias.as_mut().unwrap().as_mut().unwrap().version = 1;
    assert_eq!(capacity(&run, &seen), (2, 0, said("FAILED")), "the other one serves");
    seen.alias.as_mut().unwrap().as_mut().unwrap().version = 2;
    // The version that is to serve is not published yet: the serving one's is told.
    let mut next = run;
    next.change(|spec| spec.function.memory_mib = 3008).unwrap();
    assert_eq!(capacity(&next, &seen), (2, 0, said("FAILED")));
    seen.alias.as_mut().unwrap().as_mut().unwrap().version = 1;
    assert_eq!(capacity(&next, &seen), (7, 7, said("READY")));
}

#[test]
fn shares_and_versions_are_told_newest_first() {
    let (run, mut seen) = ready();
    let alias = seen.alias.as_mut().unwrap().as_mut().unwrap();
    (alias.version, alias.second) = (1, Some((2, 30)));
    let it = told(&run, &seen, &run.status);
    let share = |version: &str, percent| TrafficStatus { version: version.to_owned(), percent };
    assert_eq!(it.traffic, [share("1", 70), share("2", 30)]);
    let versions: Vec<&str> = it.history.iter().map(|it| it.version.as_str()).collect();
    assert_eq!(versions, ["2", "1"]);
    let manifests: Vec<_> = it.history.iter().filter_map(|it| it.manifest.as_ref()).collect();
    assert_eq!(manifests.len(), 2);
    assert!(it.history.iter().all(|it| it.code_digest.is_some() && it.published.is_some()));
    seen.alias.as_mut().unwrap().as_mut().unwrap().second = None;
    assert_eq!(told(&run, &seen, &run.status).traffic, [share("1", 100)]);
}

/// A deletion says since when it goes on, once that is a minute.
#[test]
fn a_deletion_says_how_long_it_has_lasted() {
    let (mut run, _) = ready();
    run.delete().unwrap();
    run.pass().unwrap();
    let seen = run.observed().unwrap();
    let begun = run.endpoint().deleting_since.unwrap();
    let message = |after: i64| {
        let at = begun.checked_add(SignedDuration::from_secs(after)).unwrap();
        let it = told(&run, &Observed { at, ..seen.clone() }, &run.status);
        it.conditions.into_iter().find(|it| it.type_ == "Ready").unwrap().message
    };
    for (after, lasting) in [(0, None), (59, None), (60, Some(", 1 min")), (150, Some(", 2 min"))] {
        let message = message(after);
        assert_eq!(message.contains(" min"), lasting.is_some(), "{message}");
        assert!(lasting.is_none_or(|lasting| message.ends_with(lasting)), "{message}");
    }
    // And what AWS has not taken away yet.
    let left = Observed { interfaces: Ok(vec!["eni-1".to_owned(), "eni-2".to_owned()]), ..seen.clone() };
    let it = told(&run, &left, &run.status);
    let message = &it.conditions.iter().find(|it| it.type_ == "Ready").unwrap().message;
    assert!(
        message.contains("AWS still has 2 network interfaces of the functions (eni-1, eni-2)"),
        "{message}"
    );
}

#[test]
fn an_area_on_its_way_tells_its_steps() {
    let (run, mut seen) = ready();
    inside(&mut seen.inference.function).config.memory_mib = 128;
    let names = &run.endpoint().names;
    let message = |seen: &Observed, type_: &str| {
        let it = told(&run, seen, &run.status);
        it.conditions.into_iter().find(|it| it.type_ == type_).unwrap().message
    };
    let told = message(&seen, "FunctionReady");
    let expected = format!("update the configuration of function {}: memory 128 → 4096 MiB", names.function);
    assert_eq!(told, expected);
    seen.permissions = Ok(BTreeMap::new());
    let told = message(&seen, "Exposed");
    let add = |statement: &str| format!("add permission {statement} to function {}", names.function);
    assert_eq!(told, format!("{}; {}", add("larder-url-account"), add("larder-invoke-account")));
}

#[test]
fn a_source_says_when_it_changed_and_when_it_is_taken() {
    let (mut run, _) = ready();
    run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
    run.ask().unwrap();
    run.pass().unwrap();
    let (changed, settle) =
        (run.status.models[0].changed_time.clone().unwrap(), run.object.spec.refresh.settle_seconds);
    let changed: Timestamp = changed.parse().unwrap();
    let taken = changed.checked_add(SignedDuration::from_secs(settle.into())).unwrap();
    let (_, reason, message) = run.condition("ModelsSynced").unwrap();
    assert_eq!(reason, "Settling");
    for part in [format!("changed at {changed:.0}"), format!("taken at {taken:.0}")] {
        assert!(message.contains(&part), "{message} lacks {part}");
    }
}

fn inside<T>(remote: &mut larder_core::observed::Read<Remote<T>>) -> &mut T {
    match remote {
        Ok(Remote::Ready(it)) => it,
        Ok(
            Remote::Absent
            | Remote::Pending(_)
            | Remote::Deleting(_)
            | Remote::Failed { .. }
            | Remote::Foreign { .. },
        )
        | Err(_) => panic!("it is not ready"),
    }
}

type Change = fn(&mut Observed);

/// What was changed by hand is told as it is there and as it should be, of the resource that has it.
#[test]
fn what_was_changed_is_told_with_what_is_there() {
    let mut object = object();
    let events = serde_json::json!([{"name": "ocr", "task": "ocr", "source": {
        "s3": {"bucket": BUCKET, "prefix": "ocr/", "events": "EventBridge"}}}]);
    object.spec.models = serde_json::from_value(events).unwrap();
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    let seen = run.observed().unwrap();
    let changes: [(Change, &[&str]); 16] = [
        (
            |it| "bursting".clone_into(&mut inside(&mut it.file_system).throughput_mode),
            &["file system fs-00000000000000001: throughput mode is bursting, not elastic"],
        ),
        (
            |it| {
                let changed = &mut it.mount_targets.as_mut().unwrap()[1];
                changed.security_groups = ["sg-2".to_owned(), "sg-3".to_owned()].into();
            },
            &["mount target fsmt-", ": security groups is sg-2,sg-3, not sg-0000000a"],
        ),
        (
            |it| inside(&mut it.inference.log_group).retention_days = Some(7),
            &["log group /aws/lambda/larder-vision-signs-b61f68e62b: retention in days is 7, not 30"],
        ),
        (
            |it| inside(&mut it.sync.log_group).retention_days = None,
            &[
                "log group /aws/lambda/larder-vision-signs-b61f68e62b-sync: retention in days is not set, not 30",
            ],
        ),
        (
            |it| "sha256:x".clone_into(&mut inside(&mut it.inference.function).code_digest),
            &["function larder-vision-signs-b61f68e62b: code is sha256:x, not sha256:"],
        ),
        (
            |it| {
                inside(&mut it.inference.function).architecture = larder_core::endpoint::Architecture::X86_64;
            },
            &["function larder-vision-signs-b61f68e62b: architecture is x86_64, not arm64"],
        ),
        (
            |it| inside(&mut it.sync.function).config.memory_mib = 128,
            &["function larder-vision-signs-b61f68e62b-sync: memory is 128 MiB, not 1769 MiB"],
        ),
        (
            |it| inside(&mut it.inference.function).reserved = Some(11),
            &["function larder-vision-signs-b61f68e62b: reserved concurrency is 11, not 10"],
        ),
        (
            |it| inside(&mut it.inference.function).reserved = None,
            &["function larder-vision-signs-b61f68e62b: reserved concurrency is not set, not 10"],
        ),
        (
            |it| {
                let versions = it.versions.as_mut().unwrap();
                let mut other = versions[0].clone();
                (other.number, other.provisioned) = (0, None);
                versions.insert(0, other);
                versions[1].provisioned.as_mut().unwrap().requested = 4;
            },
            &["version 1 of function larder-vision-signs-b61f68e62b: provisioned concurrency is 4, not 2"],
        ),
        (
            |it| "RESPONSE_STREAM".clone_into(&mut it.url.as_mut().unwrap().as_mut().unwrap().invoke_mode),
            &["URL of function larder-vision-signs-b61f68e62b: invoke mode is RESPONSE_STREAM, not BUFFERED"],
        ),
        (
            |it| it.url.as_mut().unwrap().as_mut().unwrap().has_cors = true,
            &["URL of function larder-vision-signs-b61f68e62b: CORS is set, not not set"],
        ),
        (
            |it| "NONE".clone_into(&mut it.url.as_mut().unwrap().as_mut().unwrap().auth_type),
            &["URL of function larder-vision-signs-b61f68e62b: authorisation is NONE, not AWS_IAM"],
        ),
        (
            |it| inside(&mut it.events.rule).is_enabled = false,
            &["rule larder-vision-signs-b61f68e62b: state is disabled, not enabled"],
        ),
        (
            |it| "{}".clone_into(&mut inside(&mut it.events.rule).pattern),
            &["rule larder-vision-signs-b61f68e62b: pattern is {}, not {"],
        ),
        (
            |it| inside(&mut it.events.rule).targets = [("larder".to_owned(), "arn:x".to_owned())].into(),
            &["rule larder-vision-signs-b61f68e62b: target is arn:x, not arn:"],
        ),
    ];
    let desired = Desired::of(run.endpoint());
    for (change, told) in changes {
        let mut seen = seen.clone();
        change(&mut seen);
        let plans = plan(&desired, &seen);
        let found: Vec<String> =
            plans.steps().flat_map(|(_, step)| differences(step, &seen)).map(|it| it.to_string()).collect();
        let all = found.join("; ");
        assert!(told.iter().all(|part| all.contains(part)), "{told:?}: {all}");
        let about = all.matches(" is ").count();
        assert_eq!(about, told.iter().filter(|part| part.contains(" is ")).count(), "{all}");
    }
}

/// A step names each field with what it is and will be; what may be a secret is not shown.
#[test]
fn a_step_names_what_it_changes() {
    let (run, mut seen) = ready();
    let config = &mut inside(&mut seen.inference.function).config;
    config.memory_mib = 128;
    config.env.insert("THEIRS".to_owned(), "secret".to_owned());
    config.env.insert("LARDER_MEMORY_MIB".to_owned(), "secret".to_owned());
    let plans = plan(&Desired::of(run.endpoint()), &seen);
    let told: Vec<String> = plans.steps().map(|(_, step)| step.to_string()).collect();
    let [told] = told.as_slice() else { panic!("{told:?}") };
    for part in [
        "memory 128 → 4096 MiB",
        "environment variable LARDER_MEMORY_MIB changed",
        "environment variable THEIRS removed",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn an_owner_tag_is_told_with_whose_it_is() {
    let (run, seen) = ready();
    let told = |from: &str| {
        let step = Step::TagResource {
            tagged: Tagged::AccessPoint,
            id: "fsap-1".to_owned(),
            resource: "access point x".to_owned(),
            from: from.to_owned(),
            owner: run.endpoint().names.owner.clone(),
        };
        differences(&step, &seen).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(""), ["access point x: owner tag is not set, not test/vision/signs/uid-1"]);
    assert_eq!(told("a/b/c/d"), ["access point x: owner tag is a/b/c/d, not test/vision/signs/uid-1"]);
}

#[test]
fn that_it_was_as_wanted_stays_told() {
    let (run, mut seen) = ready();
    let converged = |seen: &Observed, before: &InferenceEndpointStatus| {
        told(&run, seen, before).converged.is_some_and(|it| it.everything)
    };
    let never = InferenceEndpointStatus::default();
    assert!(converged(&seen, &never));
    inside(&mut seen.inference.function).config.memory_mib = 128;
    assert!(!converged(&seen, &never) && converged(&seen, &run.status));
}

/// `Ready` tells what went wrong, rather than what is on its way.
#[test]
fn what_failed_is_told_before_what_is_on_its_way() {
    let (run, mut seen) = ready();
    inside(&mut seen.inference.function).config.memory_mib = 128;
    let plans = plan(&Desired::of(run.endpoint()), &seen);
    let told = |failures: &BTreeMap<Area, Problem>, class: Class| {
        let it = status(run.endpoint(), &seen, &plans, failures, &run.status, seen.at);
        let is_stalled = it.conditions.iter().any(|it| it.type_ == "Stalled");
        assert_eq!(is_stalled, !failures.is_empty() && class.is_stalling());
        it.conditions.into_iter().find(|it| it.type_ == "Ready").unwrap().message
    };
    let message = told(&BTreeMap::new(), Class::Transient);
    assert!(message.starts_with("FunctionReady: update the configuration"), "{message}");
    for class in [Class::Transient, Class::Throttled, Class::Denied] {
        let problem = Problem {
            operation: "AddPermission",
            resource: "function f".to_owned(),
            class,
            code: "SomeException".to_owned(),
            message: String::new(),
            request_id: None,
        };
        let message = told(&BTreeMap::from([(Area::Exposure, problem)]), class);
        assert!(message.starts_with("Exposed: AddPermission of function f failed"), "{message}");
    }
}

#[test]
fn a_rollout_is_told_as_it_is_remembered() {
    let (mut run, mut seen) = ready();
    roll_out_by(&mut run, &[10, 50]);
    let at = seen.at;
    let mut rollout = |run: &Run, second: Option<(u64, u8)>, record: &Record| {
        let alias = seen.alias.as_mut().unwrap().as_mut().unwrap();
        (alias.version, alias.second, alias.description) = (1, second, record.to_string());
        let it = told(run, &seen, &run.status);
        let rollout = it.rollout.unwrap();
        assert_eq!((rollout.version.as_str(), rollout.steps, rollout.since.is_some()), ("2", 2, true));
        (rollout.state, rollout.step, rollout.message, it.summary.canary)
    };
    let said = |state: &str, step, message: &str, canary: Option<&str>| {
        (state.to_owned(), step, message.to_owned(), canary.map(str::to_owned))
    };
    let record = Record::Step { version: 2, step: 1, percent: 50, since: at, begun: at, paused: None };
    let canary = Some("version 2: 50 %, step 2/2");
    assert_eq!(rollout(&run, Some((2, 50)), &record), said("Progressing", Some(2), "", canary));
    let done = Record::Done { version: 2, since: at };
    assert_eq!(rollout(&run, None, &done), said("Complete", None, "", None));
    assert_eq!(rollout(&run, Some((2, 7)), &done), said("Complete", None, "", Some("version 2: 7 %")));
    let aborted = Record::Aborted { version: 2, at, why: "it failed".to_owned() };
    assert_eq!(rollout(&run, None, &aborted), said("Aborted", None, "it failed", None));
    run.annotate(larder_crds::REJECTED_VERSIONS, Some("2")).unwrap();
    assert_eq!(rollout(&run, None, &aborted), said("RolledBack", None, "it failed", None));
    run.annotate(larder_crds::ROLLOUT_PAUSED, Some("true")).unwrap();
    assert_eq!(rollout(&run, Some((2, 50)), &record), said("Paused", Some(2), "", canary));
}

/// A correction counts when it was made, and AWS did not refuse it.
#[test]
fn a_correction_counts_when_it_was_made() {
    let (mut run, mut seen) = ready();
    inside(&mut seen.inference.function).config.memory_mib = 128;
    "NONE".clone_into(&mut seen.url.as_mut().unwrap().as_mut().unwrap().auth_type);
    let problem = |area: Area| {
        let problem = Problem {
            operation: "UpdateFunctionConfiguration",
            resource: "function f".to_owned(),
            class: Class::Transient,
            code: String::new(),
            message: String::new(),
            request_id: None,
        };
        BTreeMap::from([(area, problem)])
    };
    let corrections = |run: &Run, failures: &BTreeMap<Area, Problem>| {
        let plans = plan(&Desired::of(run.endpoint()), &seen);
        let it = status(run.endpoint(), &seen, &plans, failures, &run.status, seen.at);
        let mut counted: Vec<_> =
            it.drift.iter().map(|it| (it.field.clone(), it.corrections.len())).collect();
        counted.sort();
        counted
    };
    let counted = |authorisation, memory| {
        vec![("authorisation".to_owned(), authorisation), ("memory".to_owned(), memory)]
    };
    assert_eq!(corrections(&run, &BTreeMap::new()), counted(1, 1));
    assert_eq!(corrections(&run, &problem(Area::Function)), counted(1, 0));
    assert_eq!(corrections(&run, &problem(Area::Exposure)), counted(0, 1));
    run.change(|spec| spec.management = larder_crds::spec::Management::Plan).unwrap();
    assert_eq!(corrections(&run, &BTreeMap::new()), counted(0, 0));
}

#[test]
fn what_lies_there_and_what_is_to_go_is_told() {
    let (mut run, mut seen) = ready();
    let stored = seen.stored.as_mut().unwrap().as_mut().unwrap();
    (stored.used_bytes, stored.freed_bytes) = (60 << 20, 1 << 20);
    let it = told(&run, &seen, &run.status);
    assert_eq!(it.summary.storage.as_deref(), Some("60.0 MiB"));
    assert_eq!(it.storage.unwrap().freed_bytes, Some(1 << 20));
    let stored = seen.stored.as_mut().unwrap().as_mut().unwrap();
    for (name, marked) in [("later", 1_700_000_100), ("first", 1_700_000_000)] {
        let mut other = stored.revisions[0].clone();
        (other.revision, other.marked, other.bytes) = (Digest::of(name.as_bytes()), Some(marked), 5);
        stored.revisions.push(other);
    }
    let it = told(&run, &seen, &run.status);
    assert_eq!(it.summary.storage.as_deref(), Some("60.0 MiB, 2 to go"));
    let storage = it.storage.unwrap();
    let shown: Vec<_> =
        storage.collectable.iter().map(|it| (it.digest.clone(), it.bytes, it.since.as_str())).collect();
    let line = |name: &str, since| (Digest::of(name.as_bytes()).to_string(), 5, since);
    assert_eq!(shown, [line("first", "2023-11-14T22:13:20Z"), line("later", "2023-11-14T22:15:00Z")]);
    // One that is gone goes on being named, or it would be made anew, empty; not once it is deleted.
    seen.file_system = Ok(Remote::Absent);
    seen.known_file_system = Some("fs-1".to_owned());
    let named = |run: &Run| told(run, &seen, &run.status).storage.and_then(|it| it.file_system_id);
    assert_eq!(named(&run).as_deref(), Some("fs-1"));
    run.delete().unwrap();
    assert_eq!(named(&run), None);
}

/// A field that is put back step by step is told once.
#[test]
fn each_field_that_was_changed_is_told_once() {
    let (mut run, _) = ready();
    roll_out_by(&mut run, &[10, 50]);
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    let mut seen = run.observed().unwrap();
    seen.alias.as_mut().unwrap().as_mut().unwrap().version = 1;
    let it = told(&run, &seen, &run.status);
    let told: Vec<(&str, &str, &str)> =
        it.drift.iter().map(|it| (it.field.as_str(), it.have.as_str(), it.want.as_str())).collect();
    assert_eq!(told, [("weights", "not set", "10 % to version 2"), ("version", "1", "2")]);
}

/// Where somebody has written over the alias, the last status alone knows how far a rollout was.
#[test]
fn a_rollout_that_was_written_over_goes_on_being_told() {
    let (mut run, mut seen) = ready();
    roll_out_by(&mut run, &[10]);
    let mut of = |description: String, second: Option<(u64, u8)>, version: &str, step: Option<i32>| {
        let alias = seen.alias.as_mut().unwrap().as_mut().unwrap();
        (alias.version, alias.second, alias.description) = (1, second, description);
        let mut before = run.status.clone();
        before.rollout = Some(RolloutStatus {
            version: version.to_owned(),
            state: "Progressing".to_owned(),
            step,
            ..RolloutStatus::default()
        });
        told(&run, &seen, &before).rollout.is_some_and(|it| it.state == "Progressing")
    };
    let theirs = || "theirs".to_owned();
    assert!(of(theirs(), None, "2", Some(1)));
    assert!(!of(theirs(), None, "2", None), "it had ended");
    assert!(!of(theirs(), None, "7", Some(1)), "it was another version's");
    assert!(!of(theirs(), Some((2, 10)), "2", Some(1)), "it has a share");
    let done = Record::Done { version: 1, since: Timestamp::UNIX_EPOCH }.to_string();
    assert!(!of(done, None, "2", Some(1)), "it has been taken back since");
}

/// What was never as wanted was not changed by others since.
#[test]
fn nothing_has_drifted_before_it_was_as_wanted() {
    let (mut run, mut seen) = ready();
    roll_out_by(&mut run, &[10]);
    let at = seen.at;
    let record = Record::Step { version: 2, step: 0, percent: 10, since: at, begun: at, paused: None };
    let alias = seen.alias.as_mut().unwrap().as_mut().unwrap();
    (alias.version, alias.second, alias.description) = (1, Some((2, 30)), record.to_string());
    let drifted = |before: &InferenceEndpointStatus| !told(&run, &seen, before).drift.is_empty();
    assert!(drifted(&run.status), "it was given 10 %");
    assert!(!drifted(&InferenceEndpointStatus { converged: None, ..run.status.clone() }));
}
