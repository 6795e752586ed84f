//! What others change in AWS: it is told field by field and put back, but not against a writer that goes on, nor under
//! `driftPolicy: Report`; and what is gone is made again, unless data went with it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::time::Duration;

use larder_core::endpoint::Architecture;
use larder_core::step::{Permission, PermissionAction};
use larder_crds::RECREATE_FILE_SYSTEM;
use larder_crds::spec::{DriftPolicy, S3Object, SourceEvents, Zip};
use larder_tests::world::account::{AccessPoint, Account, Function};
use larder_tests::world::example::{BROUGHT, BUCKET, defaults, digest, object, world};
use larder_tests::world::run::Run;

#[track_caller]
fn settle(run: &mut Run) {
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

/// An endpoint with all that can drift, ready.
fn ready() -> Run {
    let mut object = object();
    object.spec.rollout.history_limit = 0;
    object.spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::EventBridge;
    let mut run = Run::new(world(), object, defaults()).unwrap();
    settle(&mut run);
    assert_eq!(run.condition("Drifted"), None);
    run
}

fn inference(account: &mut Account) -> &mut Function {
    account.functions.iter_mut().find(|(name, _)| !name.ends_with("-sync")).unwrap().1
}

fn managed(account: &Account) -> String {
    account.file_systems.keys().find(|id| *id != BROUGHT).unwrap().clone()
}

/// Somebody else's changes: what they are, and the fields that the status then names.
type Drift = (&'static str, fn(&mut Account), &'static [&'static str]);

const DRIFTS: [Drift; 28] = [
    (
        "memory and role",
        |a| {
            inference(a).latest.config.memory_mib = 128;
            "arn:aws:iam::111122223333:role/other".clone_into(&mut inference(a).latest.config.role);
        },
        &["memory", "role"],
    ),
    ("timeout", |a| inference(a).latest.config.timeout_seconds = 3, &["timeout"]),
    ("/tmp", |a| inference(a).latest.config.ephemeral_mib = 1024, &["ephemeral storage"]),
    (
        "a variable",
        |a| {
            inference(a).latest.config.env.insert("DEBUG".to_owned(), "1".to_owned());
        },
        &["environment variable DEBUG"],
    ),
    (
        "the network",
        |a| {
            inference(a).latest.config.subnets.pop_first();
            inference(a).latest.config.security_groups.insert("sg-0000000f".to_owned());
        },
        &["subnets", "security groups"],
    ),
    ("the mount", |a| inference(a).latest.config.mount = None, &["mount"]),
    ("a layer", |a| inference(a).latest.config.start.layers.push("arn:layer".to_owned()), &["layers"]),
    (
        "an image's command",
        |a| inference(a).latest.config.start.overrides.push("sh".to_owned()),
        &["image overrides"],
    ),
    ("code", |a| inference(a).latest.code_digest = digest("other"), &["code"]),
    ("reserved concurrency", |a| inference(a).reserved = Some(100), &["reserved concurrency"]),
    (
        "provisioned concurrency",
        |a| {
            inference(a).versions.get_mut(&1).unwrap().provisioned.as_mut().unwrap().requested = 1;
        },
        &["provisioned concurrency"],
    ),
    (
        "the alias's weights",
        |a| {
            let function = inference(a);
            let version = function.versions[&1].clone();
            function.versions.insert(2, version);
            function.next_version = 3;
            function.alias.as_mut().unwrap().second = Some((2, 10));
        },
        &["weights"],
    ),
    (
        "the URL",
        |a| {
            let url = inference(a).alias.as_mut().unwrap().url.as_mut().unwrap();
            (url.auth_type, url.invoke_mode, url.has_cors) =
                ("NONE".to_owned(), "RESPONSE_STREAM".to_owned(), true);
        },
        &["authorisation", "invoke mode", "CORS"],
    ),
    (
        "a permission for everyone",
        |a| {
            let everyone = Permission { action: PermissionAction::InvokeFunctionUrl, public: true };
            let statements = &mut inference(a).alias.as_mut().unwrap().statements;
            statements.insert(everyone.statement().to_owned(), everyone.into());
        },
        &["existence"],
    ),
    (
        "a permission without its condition",
        |a| {
            let statements = &mut inference(a).alias.as_mut().unwrap().statements;
            statements.get_mut("larder-invoke-account").unwrap().condition = None;
        },
        &["existence"],
    ),
    ("the processor", |a| inference(a).latest.architecture = Architecture::X86_64, &["architecture"]),
    (
        "the model-sync function",
        |a| {
            let (_, sync) = a.functions.iter_mut().find(|(name, _)| name.ends_with("-sync")).unwrap();
            let config = &mut sync.latest.config;
            (config.memory_mib, config.timeout_seconds, config.ephemeral_mib) = (128, 3, 1024);
            "arn:aws:iam::111122223333:role/other".clone_into(&mut config.role);
            config.env.insert("DEBUG".to_owned(), "1".to_owned());
            config.security_groups.insert("sg-0000000f".to_owned());
        },
        &["memory", "timeout", "ephemeral storage", "role", "environment variable DEBUG", "security groups"],
    ),
    (
        "the model-sync function's code",
        |a| {
            let (_, sync) = a.functions.iter_mut().find(|(name, _)| name.ends_with("-sync")).unwrap();
            sync.latest.code_digest = digest("other");
        },
        &["code"],
    ),
    (
        "another target of the rule",
        |a| {
            a.rules.values_mut().for_each(|rule| {
                rule.targets.values_mut().for_each(|arn| "arn:aws:sqs:eu-west-1:1:other".clone_into(arn));
            });
        },
        &["target"],
    ),
    (
        "the queue's policy",
        |a| a.queues.values_mut().for_each(|queue| queue.takes_events = false),
        &["existence"],
    ),
    (
        "retention",
        |a| a.log_groups.values_mut().for_each(|group| group.retention_days = None),
        &["retention in days"],
    ),
    (
        "the throughput mode",
        |a| {
            let id = managed(a);
            "bursting".clone_into(&mut a.file_systems.get_mut(&id).unwrap().mode);
        },
        &["throughput mode"],
    ),
    (
        "a mount target's security groups",
        |a| {
            let id = managed(a);
            let target = a.mount_targets.values_mut().find(|mt| mt.file_system == id).unwrap();
            target.security_groups.clear();
        },
        &["security groups"],
    ),
    ("a disabled rule", |a| a.rules.values_mut().for_each(|rule| rule.is_enabled = false), &["state"]),
    (
        "another pattern",
        |a| a.rules.values_mut().for_each(|rule| "{}".clone_into(&mut rule.pattern)),
        &["pattern"],
    ),
    ("a bucket that is silent", |a| a.notifications.clear(), &["existence"]),
    ("no alias", |a| inference(a).alias = None, &["existence"]),
    ("no functions", |a| a.functions.clear(), &["existence"]),
];

#[test]
fn every_field_that_others_change_is_told_and_put_back() {
    for (what, drift, fields) in DRIFTS {
        let mut run = ready();
        let end = run.end();
        run.checks_truth = false;
        run.world.meddle(drift);
        run.ask().unwrap();
        run.pass().unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        let (status, reason, message) =
            run.condition("Drifted").unwrap_or_else(|| panic!("{what} is not told"));
        assert_eq!((status, reason), ("True", "Drifted"), "{what}");
        for field in fields {
            let told = run.status.drift.iter().find(|it| it.field == *field && it.ended.is_none());
            let told = told.unwrap_or_else(|| panic!("{what}: {field} is not in {:#?}", run.status.drift));
            assert!(told.want != told.have, "{told:?}");
        }
        assert!(message.contains(fields[0]), "{what}: {message}");
        settle(&mut run);
        assert_eq!(run.end(), end, "{what}");
        assert!(run.status.drift.iter().all(|it| it.ended.is_some()), "{what}: {:#?}", run.status.drift);
        assert!(
            run.status.drift.iter().any(|it| it.corrections.len() == 1),
            "{what}: {:#?}",
            run.status.drift
        );
        run.checks_truth = true;
        run.stays_quiet().unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        run.go_on_for(Duration::from_mins(80)).unwrap();
        assert_eq!(run.condition("Drifted"), None, "{what}");
        assert!(run.status.drift.is_empty());
    }
}

#[test]
fn what_the_user_changes_is_no_drift() {
    let mut run = ready();
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    settle(&mut run);
    assert_eq!(run.condition("Drifted"), None);
    run.world.push_image("larder-inference:1", &digest("inference 1b"));
    run.world.put_object(BUCKET, "ocr/rec.onnx", 1 << 20, "rec-2");
    run.go_on_for(Duration::from_mins(30)).unwrap();
    settle(&mut run);
    assert_ne!(run.status.function.as_ref().unwrap().version.as_deref(), Some("1"));
    assert_eq!(run.condition("Drifted"), None, "{:#?}", run.status.drift);
}

#[test]
fn a_report_puts_nothing_back_and_follows_the_spec() {
    for (what, drift, fields) in DRIFTS {
        let mut run = ready();
        run.change(|spec| spec.drift_policy = DriftPolicy::Report).unwrap();
        settle(&mut run);
        run.world.meddle(drift);
        let writes = run.world.writes();
        run.go_on_for(Duration::from_hours(2)).unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        assert_eq!(run.world.writes(), writes, "{what}: {:#?}", run.world.history());
        let (_, reason, message) = run.condition("Stalled").unwrap_or_else(|| panic!("{what}"));
        assert_eq!(reason, "Drifted", "{what}");
        assert!(message.contains("driftPolicy"), "{what}: {message}");
        for field in fields {
            assert!(run.status.drift.iter().any(|it| it.field == *field), "{what}: {:#?}", run.status.drift);
        }
        // A change of the spec is made, and made whole where it is about what has drifted.
        run.change(|spec| spec.function.memory_mib = 4096).unwrap();
        run.go_on_for(Duration::from_mins(10)).unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        let is_true = |type_| run.condition(type_).is_some_and(|(status, ..)| status == "True");
        let mut versions = ["FunctionReady", "CapacityReady", "TrafficReady"].into_iter();
        assert_eq!(versions.all(is_true), what != "no functions", "{what}: {:#?}", run.status.conditions);
        let rest = run.status.drift.iter().filter(|it| it.ended.is_none());
        assert_eq!(rest.count() == 0, run.is_ready(), "{what}: {:#?}", run.status.drift);
        run.change(|spec| spec.drift_policy = DriftPolicy::Correct).unwrap();
        settle(&mut run);
    }
}

#[test]
fn another_writer_is_not_fought() {
    let mut run = ready();
    run.checks_truth = false;
    let meddle = |run: &Run| run.world.meddle(|a| inference(a).latest.config.memory_mib = 128);
    let corrections =
        |run: &Run| run.world.history().iter().filter(|line| line.contains("memory 128 → 2048 MiB")).count();
    // It rewrites the field at once, whenever it is put back.
    let fight = |run: &mut Run, time: Duration| {
        let end = run.world.now() + time;
        while run.world.now() < end {
            meddle(run);
            let again = run.pass().unwrap_or_else(|stuck| panic!("{stuck}"));
            run.world.advance(again);
        }
    };
    fight(&mut run, Duration::from_mins(10));
    assert_eq!(corrections(&run), 3);
    let (_, reason, message) = run.condition("Stalled").unwrap();
    assert_eq!(reason, "Contested");
    for part in [
        "memory is 128 MiB, not 2048 MiB",
        "CloudTrail",
        "UpdateFunctionConfiguration",
        "driftPolicy",
        "last modified",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(run.status.traffic[0].version, "1", "what serves goes on serving");
    // A restart does not forget.
    run.restart();
    fight(&mut run, Duration::from_mins(30));
    assert_eq!(corrections(&run), 3);
    assert_eq!(run.condition("Stalled").unwrap().1, "Contested");
    // The user asks for another try.
    run.ask().unwrap();
    fight(&mut run, Duration::from_mins(1));
    assert_eq!(corrections(&run), 6);
    // It stops, and by itself all is well within the hour.
    run.go_on_for(Duration::from_mins(70)).unwrap();
    settle(&mut run);
    assert_eq!(corrections(&run), 7);
}

#[test]
fn a_field_that_is_changed_again_at_once_is_corrected_ten_seconds_later_and_told_since_then() {
    let mut run = ready();
    run.checks_truth = false;
    let change = |run: &Run| run.world.meddle(|a| inference(a).latest.config.memory_mib = 128);
    let memory =
        |run: &Run| run.world.look(|a| a.functions[&run.endpoint().names.function].latest.config.memory_mib);
    let told = |run: &Run| run.status.drift.iter().find(|it| it.field == "memory").cloned().unwrap();
    change(&run);
    run.ask().unwrap();
    run.until("to correct it", |run| memory(run) == 2048).unwrap();
    let corrected = run.world.now();
    let since = told(&run).since;
    // Until AWS is done with the correction, nothing can be changed.
    run.go_on_for(Duration::from_secs(5)).unwrap();
    change(&run);
    run.restart();
    run.until("to correct it again", |run| memory(run) == 2048).unwrap();
    let between = run.world.now().checked_sub(corrected).unwrap();
    assert!(between >= Duration::from_secs(10) && between < Duration::from_secs(15), "{between:?}");
    assert_eq!(told(&run).corrections.len(), 2);
    settle(&mut run);
    // It had ended: the next one is another.
    run.go_on_for(Duration::from_mins(5)).unwrap();
    change(&run);
    run.ask().unwrap();
    run.until("to tell it", |run| told(run).ended.is_none()).unwrap();
    assert!(told(&run).since > since, "{:?}", told(&run));
}

#[test]
fn what_lasts_is_told_since_it_began() {
    let mut run = ready();
    run.checks_truth = false;
    run.change(|spec| spec.drift_policy = DriftPolicy::Report).unwrap();
    run.world.meddle(|a| inference(a).latest.config.memory_mib = 128);
    run.ask().unwrap();
    run.until("to tell it", |run| !run.status.drift.is_empty()).unwrap();
    let since = run.status.drift[0].since.clone();
    run.go_on_for(Duration::from_mins(30)).unwrap();
    assert_eq!((run.status.drift.len(), &run.status.drift[0].since), (1, &since));
}

#[test]
fn a_contested_field_can_be_wanted_as_it_is() {
    let mut run = ready();
    run.checks_truth = false;
    for _ in 0..100 {
        run.world.meddle(|a| inference(a).latest.config.memory_mib = 4096);
        let again = run.pass().unwrap();
        run.world.advance(again);
    }
    assert_eq!(run.condition("Stalled").unwrap().1, "Contested");
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    settle(&mut run);
}

#[test]
fn a_file_system_that_is_gone_is_not_made_anew_unasked() {
    let mut run = ready();
    run.checks_truth = false;
    run.world.set_outage(true);
    let lost = run.world.look(managed);
    run.world.meddle(|a| {
        a.file_systems.remove(&lost);
        a.mount_targets.retain(|_, mt| mt.file_system != lost);
        a.access_points.retain(|_, ap| ap.file_system != lost);
    });
    run.restart();
    let created = run.world.calls("CreateFileSystem");
    for _ in 0..3 {
        run.go_on_for(Duration::from_hours(1)).unwrap_or_else(|stuck| panic!("{stuck}"));
        let (_, reason, message) = run.condition("Stalled").unwrap();
        assert_eq!(reason, "FileSystemNotFound");
        assert!(message.contains(&lost) && message.contains(RECREATE_FILE_SYSTEM), "{message}");
        assert_eq!(run.world.calls("CreateFileSystem"), created);
        assert_eq!(run.status.storage.as_ref().unwrap().file_system_id.as_ref(), Some(&lost));
    }
    // The wrong id is no consent.
    run.annotate(RECREATE_FILE_SYSTEM, Some("fs-00000000")).unwrap();
    run.go_on_for(Duration::from_mins(10)).unwrap();
    assert_eq!(run.world.calls("CreateFileSystem"), created);
    // The copies take longer than all else: what serves must not move to where they are not yet.
    run.world.meddle(|a| a.delays.copy_rate = 100 << 10);
    run.annotate(RECREATE_FILE_SYSTEM, Some(&lost)).unwrap();
    settle(&mut run);
    run.checks_truth = true;
    run.world.set_outage(false);
    run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(run.world.calls("CreateFileSystem"), created + 1);
}

#[test]
fn an_archives_runtime_and_handler_are_put_back() {
    let mut object = object();
    object.spec.function.image = None;
    let (bucket, key) = ("acme-code".to_owned(), "inference.zip".to_owned());
    let s3 = S3Object { bucket: bucket.clone(), key: key.clone(), version_id: None };
    object.spec.function.zip = Some(Zip { s3 });
    let world = world();
    world.put_object(&bucket, &key, 6 << 20, "inference-1");
    let mut run = Run::new(world, object, defaults()).unwrap();
    settle(&mut run);
    let end = run.end();
    run.checks_truth = false;
    run.world.meddle(|a| {
        let start = &mut inference(a).latest.config.start;
        "python3.13".clone_into(&mut start.runtime);
        "main.handler".clone_into(&mut start.handler);
    });
    run.ask().unwrap();
    run.pass().unwrap();
    for (field, want, have) in
        [("runtime", "provided.al2023", "python3.13"), ("handler", "bootstrap", "main.handler")]
    {
        let told = run.status.drift.iter().find(|it| it.field == field).unwrap();
        assert_eq!((told.want.as_str(), told.have.as_str()), (want, have));
    }
    settle(&mut run);
    assert_eq!(run.end(), end);
}

/// What EFS never changes is not put back by deleting it: it is told, with what to do.
#[test]
fn what_efs_never_changes_is_told_and_nothing_is_deleted() {
    type Change = (fn(&mut Account), &'static [&'static str]);
    let changes: [Change; 5] = [
        (|a| access_point(a).spec.uid = 0, &["uid is 0, should be 1000", "delete the access point"]),
        (|a| access_point(a).spec.gid = 0, &["gid is 0, should be 1000", "the data stays"]),
        (|a| access_point(a).secondary_gids = [5].into(), &["secondary groups is 5, should be none"]),
        (
            |a| "0777".clone_into(&mut access_point(a).spec.permissions),
            &["1000:1000 0777, should be 1000:1000 0750"],
        ),
        (
            |a| {
                let id = managed(a);
                let key = "arn:aws:kms:eu-west-1:111122223333:key/other".to_owned();
                a.file_systems.get_mut(&id).unwrap().kms_key_id = Some(key);
            },
            &["is encrypted with arn:aws:kms:eu-west-1:111122223333:key/other", "kmsKeyId is 1234"],
        ),
    ];
    for (change, told) in changes {
        let mut object = object();
        object.spec.storage.efs.managed.as_mut().unwrap().kms_key_id = Some("1234".to_owned());
        let mut run = Run::new(world(), object, defaults()).unwrap();
        settle(&mut run);
        run.checks_truth = false;
        run.world.meddle(change);
        let writes = run.world.writes();
        run.ask().unwrap();
        run.go_on_for(Duration::from_hours(1)).unwrap_or_else(|stuck| panic!("{told:?}: {stuck}"));
        assert_eq!(run.world.writes(), writes, "{told:?}: {:#?}", run.world.history());
        let (_, reason, message) = run.condition("Stalled").unwrap();
        assert_eq!(reason, "FileSystemFailed");
        for part in told {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
}

fn access_point(account: &mut Account) -> &mut AccessPoint {
    account.access_points.values_mut().next().unwrap()
}
