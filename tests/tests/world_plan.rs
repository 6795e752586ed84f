//! What `larder plan` foretells is what the controller does, and what is then there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use larder::plan_command::{Planned, Verdict, render};
use larder_contract::Digest;
use larder_core::foresee::Foreseen;
use larder_core::observed::{Observed, ObservedFunction, Read, Remote};
use larder_core::{Area, Plan, Step};
use larder_crds::spec::{AuthType, DeletionPolicy, DriftPolicy, Strategy};
use larder_crds::{InferenceEndpoint, InferenceEndpointSpec};
use larder_tests::world::example::{BUCKET, defaults, object, world};
use larder_tests::world::run::Run;
use serde_json::{Value, json};

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

fn ours<T>(remote: &Read<Remote<T>>) -> Option<&T> {
    remote.as_ref().unwrap().ours()
}

fn of_function(seen: &ObservedFunction) -> String {
    let function = ours(&seen.function).map(|it| {
        let mount = it.config.mount.as_ref().map(|(_, path)| path);
        let config = larder_core::observed::FunctionConfig { mount: None, ..it.config.clone() };
        (it.code_digest.clone(), mount, config, it.reserved)
    });
    format!("{function:?} logs {:?}", ours(&seen.log_group).map(|it| it.retention_days))
}

/// What is there, without the ids and times that AWS chooses.
fn there(seen: &Observed) -> Vec<String> {
    let mut lines = vec![format!("file system: {:?}", ours(&seen.file_system).map(|it| &it.throughput_mode))];
    let mount_targets = seen.mount_targets.as_ref().unwrap().iter();
    lines.extend(
        mount_targets.map(|it| format!("mount target: {} {:?} {}", it.zone, it.security_groups, it.state)),
    );
    let access_point = ours(&seen.access_point).map(|it| (&it.path, &it.user, &it.creation));
    lines.push(format!("access point: {access_point:?}"));
    lines.push(format!("model-sync: {}", of_function(&seen.sync)));
    lines.push(format!("inference: {}", of_function(&seen.inference)));
    for version in seen.versions.as_ref().unwrap() {
        let code = version.function.ours().map(|it| (&it.code_digest, &it.config.env));
        let warm = version.provisioned.as_ref().map(|it| (it.requested, it.available, &it.status));
        lines.push(format!("version {}: {code:?} {warm:?}", version.number));
    }
    let alias = seen.alias.as_ref().unwrap().as_ref().map(|it| (it.version, it.second));
    let url = seen.url.as_ref().unwrap().as_ref().map(|it| (&it.auth_type, &it.invoke_mode, it.has_cors));
    lines.push(format!("alias: {alias:?} url {url:?} {:?}", seen.permissions));
    let rule = ours(&seen.events.rule).map(|it| (&it.pattern, it.is_enabled, it.targets.len()));
    let queue = ours(&seen.events.queue).map(|it| it.takes_events);
    lines.push(format!("rule: {rule:?} queue {queue:?} buckets {:?}", seen.events.buckets));
    if let Some(stored) = seen.inventory() {
        let revisions = stored.revisions.iter();
        lines.extend(revisions.map(|it| {
            format!("revision {}: whole {} marked {}", it.revision, it.is_complete, it.marked.is_some())
        }));
        let manifests = stored.manifests.iter();
        lines.extend(
            manifests.map(|it| {
                format!("manifest {}: {:?} marked {}", it.manifest, it.models, it.marked.is_some())
            }),
        );
    }
    lines.sort();
    lines
}

/// The writes, by operation, but for `Invoke`: a plan has one for what is asked again and again.
fn writes(foretold: &Foreseen) -> BTreeMap<&'static str, u64> {
    let mut counted = BTreeMap::new();
    for operation in foretold.steps.iter().map(|(_, step)| step.operation()).filter(|it| *it != "Invoke") {
        *counted.entry(operation).or_default() += 1;
    }
    counted
}

/// What is foretold is done, and is then there.
#[track_caller]
fn comes_true(run: &mut Run, what: &str) {
    let (foretold, seen) = (run.foretold().unwrap(), run.observed().unwrap());
    let before = run.world.all_calls();
    run.settle().unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
    let done =
        run.world.all_calls().into_iter().map(|(operation, count)| {
            (operation, count - before.get(operation).copied().unwrap_or_default())
        });
    let writes = writes(&foretold);
    let done: BTreeMap<&str, u64> =
        done.filter(|(operation, count)| *count > 0 && is_write(operation)).collect();
    assert_eq!(writes, done, "{what}: {:#?}", run.world.history());
    assert!(foretold.end.is_converged(), "{what}: {:#?}", foretold.end);
    let then = run.observed().unwrap();
    assert_eq!(there(&foretold.observed), there(&then), "{what}");
    let is_copying = matches!(&seen.sync_report, Ok(Some(report)) if report.running);
    let manifests = |seen: &Observed| -> BTreeSet<Digest> {
        seen.inventory().iter().flat_map(|it| &it.manifests).map(|it| it.manifest).collect()
    };
    let comes = !manifests(&then).is_subset(&manifests(&seen));
    let copies = foretold.steps.iter().filter(|(_, step)| matches!(step, Step::StartSync { .. })).count();
    assert!(!comes || is_copying || copies == 1, "{what}: {copies} copies are foretold");
}

fn collections(foretold: &Foreseen) -> usize {
    foretold.steps.iter().filter(|(_, step)| matches!(step, Step::Collect { .. })).count()
}

fn is_write(operation: &str) -> bool {
    operation != "Invoke"
        && !["Get", "List", "Describe", "Head", "Read", "Batch", "GET"]
            .iter()
            .any(|it| operation.starts_with(it))
}

#[test]
fn a_creation_comes_true() {
    comes_true(&mut Run::new(world(), object(), defaults()).unwrap(), "created");
}

/// Whatever is under way, the plan knows what is still to come. `begin` gives an endpoint with something to do.
fn what_is_left_comes_true(begin: impl Fn() -> Run, least_passes: u32) {
    for passes in 1.. {
        let mut run = begin();
        let before = run.world.now();
        for _ in 0..passes {
            let again = run.pass().unwrap();
            run.world.advance(again);
        }
        if run.is_deleted || (run.is_ready() && run.status.plan.is_empty() && passes > least_passes) {
            return;
        }
        let since = run.world.now().checked_sub(before).unwrap();
        comes_true(&mut run, &format!("after {passes} passes and {since:?}"));
    }
}

#[test]
fn what_is_left_of_a_creation_comes_true() {
    what_is_left_comes_true(|| Run::new(world(), object(), defaults()).unwrap(), 10);
}

#[test]
fn what_is_left_of_a_rollout_comes_true() {
    let begin = || {
        let mut run = ready();
        run.change(|spec| {
            canary(spec);
            set_events(spec, json!("EventBridge"));
        })
        .unwrap();
        run
    };
    what_is_left_comes_true(begin, 10);
}

#[test]
fn what_is_left_of_a_copy_and_its_rollout_comes_true() {
    let begin = || {
        let mut run = ready();
        run.world.put_object(BUCKET, "ocr/rec.onnx", 300 << 20, "rec-2");
        run.ask().unwrap();
        run
    };
    what_is_left_comes_true(begin, 10);
}

#[test]
fn what_is_left_of_a_deletion_comes_true() {
    let begin = || {
        let mut object = object();
        set_events(&mut object.spec, json!("EventBridge"));
        let mut run = Run::new(world(), object, defaults()).unwrap();
        run.settle().unwrap();
        run.delete().unwrap();
        run
    };
    what_is_left_comes_true(begin, 10);
}

type Change = fn(&mut InferenceEndpointSpec);

#[test]
fn changes_of_the_spec_come_true() {
    let mut run = ready();
    let changes: [(&str, Change); 10] = [
        ("memory", |spec| spec.function.memory_mib = 4096),
        ("image", |spec| {
            spec.function.image = Some(larder_tests::world::example::image("larder-inference", "2"));
        }),
        ("warm", |spec| spec.capacity.provisioned = Some(3)),
        ("cold", |spec| spec.capacity.provisioned = None),
        ("not reserved", |spec| spec.capacity.reserved = None),
        ("public", |spec| spec.expose.as_mut().unwrap().function_url.auth_type = AuthType::None),
        ("canary", canary),
        ("another model", |spec| {
            let source = json!({"s3": {"bucket": BUCKET, "prefix": "extra/"}});
            let model = json!({"name": "extra", "task": "tensor", "source": source});
            spec.models.push(serde_json::from_value(model).unwrap());
        }),
        ("events", |spec| set_events(spec, json!("EventBridge"))),
        ("no events", |spec| set_events(spec, json!("None"))),
    ];
    for (what, change) in changes {
        run.change(change).unwrap();
        comes_true(&mut run, what);
    }
}

fn canary(spec: &mut InferenceEndpointSpec) {
    spec.rollout.strategy = Strategy::Canary;
    let steps = json!([{"weightPercent": 10, "holdSeconds": 60}, {"weightPercent": 50, "holdSeconds": 60}]);
    spec.rollout.steps = serde_json::from_value(steps).unwrap();
    spec.function.memory_mib = 3008;
}

fn set_events(spec: &mut InferenceEndpointSpec, events: Value) {
    let mut models = serde_json::to_value(&spec.models).unwrap();
    models[0]["source"]["s3"]["events"] = events;
    spec.models = serde_json::from_value(models).unwrap();
}

/// What is copied, marked, spared and deleted.
#[test]
fn collections_come_true() {
    let mut object = object();
    object.spec.storage.retain_revisions = 0;
    object.spec.storage.collect_after_seconds = 900;
    object.spec.rollout.history_limit = 0;
    let mut run = Run::new(world(), object, defaults()).unwrap();
    comes_true(&mut run, "created");
    let replace = |run: &mut Run, etag: &str| {
        run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, etag);
        run.ask().unwrap();
    };
    let once = |run: &mut Run, what: &str| {
        assert_eq!(collections(&run.foretold().unwrap()), 1, "{what}");
        comes_true(run, what);
    };
    replace(&mut run, "rec-2");
    once(&mut run, "the first is marked");
    replace(&mut run, "rec-3");
    once(&mut run, "two are marked");
    replace(&mut run, "rec-2");
    once(&mut run, "one is needed again");
    run.change(|spec| spec.storage.retain_revisions = 1).unwrap();
    once(&mut run, "one is spared");
    run.change(|spec| spec.storage.retain_revisions = 0).unwrap();
    once(&mut run, "it is marked again");
    run.world.meddle(|account| account.now += Duration::from_mins(20));
    once(&mut run, "two are deleted");
}

#[test]
fn corrections_come_true() {
    let mut run = ready();
    run.world.meddle(|account| {
        let mount_target = account.mount_targets.values_mut().next().unwrap();
        mount_target.security_groups = ["sg-theirs".to_owned()].into();
    });
    comes_true(&mut run, "security groups of one mount target");
    meddle(&run);
    comes_true(&mut run, "memory");
}

#[test]
fn deletions_come_true() {
    for policy in [DeletionPolicy::Delete, DeletionPolicy::RetainData, DeletionPolicy::Retain] {
        let mut object: InferenceEndpoint = object();
        object.spec.deletion_policy = policy;
        let mut run = Run::new(world(), object, defaults()).unwrap();
        run.settle().unwrap();
        run.delete().unwrap();
        comes_true(&mut run, &format!("{policy:?}"));
    }
}

/// A queue that others send to stays, and the plan says so before its own rule is gone.
#[test]
fn that_a_queue_stays_is_foretold() {
    let mut object = object();
    set_events(&mut object.spec, json!("EventBridge"));
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap();
    run.world.meddle(|account| {
        let rule = account.rules.values().next().unwrap().clone();
        account.rules.insert("larder-another".to_owned(), rule);
    });
    run.change(|spec| set_events(spec, json!("None"))).unwrap();
    assert_eq!(writes(&run.foretold().unwrap()), BTreeMap::from([("DeleteRule", 1), ("RemoveTargets", 1)]));
    run.settle().unwrap();
    assert_eq!(run.world.look(|account| account.queues.len()), 1);
}

/// What is found damaged is copied beside it, rolled out, and the damaged copy marked.
#[test]
fn a_repair_comes_true() {
    let mut object = object();
    object.spec.storage.verify_every_seconds = Some(3600);
    object.spec.storage.retain_revisions = 0;
    object.spec.rollout.history_limit = 0;
    let mut run = Run::new(world(), object, defaults()).unwrap();
    run.settle().unwrap();
    run.world.meddle(|account| {
        for folder in account.folders.values_mut() {
            folder.damaged = folder.revisions.keys().copied().collect();
        }
    });
    run.until("to say so", |run| {
        run.condition("StorageMaintained").is_some_and(|(_, reason, _)| reason == "Damaged")
    })
    .unwrap();
    comes_true(&mut run, "repaired");
}
