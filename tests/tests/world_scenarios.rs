//! What users do to an endpoint, against AWS in memory: the end is as wanted, and a second pass does
//! nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::time::Duration;

use larder_contract::source::OciSource;
use larder_contract::{ModelSource, ObjectEntry, RelativePath};
use larder_core::endpoint::{DeletionPolicy, ThroughputMode};
use larder_crds::InferenceEndpoint;
use larder_crds::spec::{AuthType, Expose, FunctionUrl, ManagedFileSystem, Source, Throughput};
use larder_tests::world::World;
use larder_tests::world::example::{BROUGHT, BUCKET, SUBNET_A, defaults, digest, image, object, world};
use larder_tests::world::run::Run;
use serde_json::json;

/// A run whose endpoint is ready.
fn ready(object: InferenceEndpoint) -> Run {
    let mut run = Run::new(world(), object, defaults()).unwrap();
    settle(&mut run);
    run
}

#[track_caller]
fn settle(run: &mut Run) {
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    // Where nothing fails, nothing is tried before its time either.
    let refused = run.world.refused();
    assert!(refused.iter().all(|told| told.contains("24 hours")), "{refused:#?}");
    if !run.is_deleted {
        run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
    }
}

/// Changes something and settles; the version that serves must be `version`, and `more` must hold.
#[track_caller]
fn check(run: &mut Run, change: impl FnOnce(&mut Run), version: &str, more: impl FnOnce(&World, &Run)) {
    change(run);
    settle(run);
    assert!(run.is_ready());
    let function = run.status.function.as_ref().unwrap();
    assert_eq!(function.version.as_deref(), Some(version), "{:#?}", run.world.history());
    more(&run.world, run);
}

#[test]
fn a_fresh_create_ends_with_everything_served() {
    let run = ready(object());
    assert_eq!(run.status.summary.models, "1/1");
    assert_eq!(run.status.summary.capacity, "2/2");
    assert!(run.status.url.is_some());
    assert_eq!(run.end().len(), 10, "{:#?}", run.end());
    // Time does pass on the way: mount targets alone take their minute and a half.
    assert!(run.world.now() > Duration::from_secs(100));
    // The sources are listed for each refresh, not for each pass.
    assert!(run.world.calls("ListObjectsV2") < 10, "{}", run.world.calls("ListObjectsV2"));
}

#[test]
fn changes_of_the_function_become_versions() {
    let mut run = ready(object());
    let run = &mut run;
    check(
        run,
        |run| run.change(|spec| spec.function.memory_mib = 4096).unwrap(),
        "2",
        |world, run| {
            let old = world
                .look(|a| a.functions[&run.endpoint().names.function].versions[&1].provisioned.is_none());
            assert!(old, "the old version's capacity is given back");
        },
    );
    let next = image("larder-inference", "2");
    check(
        run,
        |run| run.change(|spec| spec.function.image = Some(next)).unwrap(),
        "3",
        |_, run| {
            assert_eq!(run.status.function.as_ref().unwrap().code_digest, Some(digest("inference 2")));
        },
    );
    let back = image("larder-inference", "1");
    // What was published once is found again.
    check(run, |run| run.change(|spec| spec.function.image = Some(back)).unwrap(), "2", |_, _| {});
    check(
        run,
        |run| run.change(|spec| spec.network.subnet_ids = vec![SUBNET_A.to_owned()]).unwrap(),
        "4",
        |world, _| {
            let zones =
                world.look(|a| a.mount_targets.values().filter(|mt| mt.file_system != BROUGHT).count());
            assert_eq!(zones, 2, "old versions of the history still mount there");
        },
    );
}

#[test]
fn a_tag_that_moves_is_followed() {
    let mut run = ready(object());
    check(
        &mut run,
        |run| {
            run.world.push_image("larder-inference:1", &digest("inference 1 rebuilt"));
            run.pass().unwrap();
        },
        "2",
        |_, run| {
            assert_eq!(
                run.status.function.as_ref().unwrap().code_digest,
                Some(digest("inference 1 rebuilt"))
            );
        },
    );
}

#[test]
fn a_model_that_changes_becomes_a_version_while_the_old_one_serves() {
    let mut run = ready(object());
    check(
        &mut run,
        |run| {
            run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
            run.world.advance(Duration::from_secs(331));
            run.pass().unwrap();
            assert!(!run.is_ready(), "a change that was seen is not served yet");
            assert_eq!(run.status.summary.models, "0/1");
        },
        "2",
        |_, run| assert_eq!(run.status.summary.models, "1/1"),
    );
}

#[test]
fn asking_looks_at_the_sources_now() {
    let mut run = ready(object());
    check(
        &mut run,
        |run| {
            run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
            run.ask().unwrap();
            run.pass().unwrap();
        },
        "2",
        |_, _| {},
    );
}

#[test]
fn models_come_and_go() {
    let mut run = ready(object());
    let run = &mut run;
    let mut more = object().spec.models[0].clone();
    "extra".clone_into(&mut more.name);
    "extra/".clone_into(&mut more.source.s3.as_mut().unwrap().prefix);
    check(
        run,
        |run| run.change(|spec| spec.models.push(more)).unwrap(),
        "2",
        |_, run| {
            assert_eq!(run.status.summary.models, "2/2");
        },
    );
    check(
        run,
        |run| run.change(|spec| spec.models.truncate(1)).unwrap(),
        "1",
        |_, run| {
            assert_eq!(run.status.summary.models, "1/1");
        },
    );
}

/// A tag that moves is a new version, as a changed prefix is.
#[test]
fn a_model_moves_to_a_registry_and_follows_its_tag() {
    let mut run = ready(object());
    let written = json!({"oci": {"reference": "registry.example/acme/ocr:v1"}});
    let written: Source = serde_json::from_value(written).unwrap();
    let reference = "registry.example/acme/ocr:v1".parse().unwrap();
    let source = ModelSource::Oci(OciSource { reference, path: None, secret: None });
    let push = |run: &Run, content: &str| {
        let path = RelativePath::parse("model.onnx").unwrap();
        let etag = larder_contract::Digest::of(content.as_bytes()).to_string();
        let file = ObjectEntry { path, size: 1 << 20, etag };
        run.world.meddle(|account| account.elsewhere.insert(source.clone(), vec![file]));
    };
    check(
        &mut run,
        |run| {
            push(run, "first");
            run.change(|spec| spec.models[0].source = written).unwrap();
        },
        "2",
        |_, _| {},
    );
    check(
        &mut run,
        |run| {
            push(run, "second");
            run.ask().unwrap();
            run.pass().unwrap();
        },
        "3",
        |_, _| {},
    );
}

#[test]
fn capacity_changes_keep_the_version() {
    let mut run = ready(object());
    let run = &mut run;
    check(
        run,
        |run| run.change(|spec| spec.capacity.provisioned = Some(4)).unwrap(),
        "1",
        |_, run| {
            assert_eq!(run.status.summary.capacity, "4/4");
        },
    );
    check(run, |run| run.change(|spec| spec.capacity.provisioned = None).unwrap(), "1", |_, _| {});
    check(run, |run| run.change(|spec| spec.capacity.reserved = None).unwrap(), "1", |_, _| {});
    check(
        run,
        |run| {
            run.change(|spec| {
                spec.capacity.provisioned = Some(8);
                spec.capacity.reserved = Some(20);
            })
            .unwrap();
        },
        "1",
        |_, _| {},
    );
}

#[test]
fn both_kinds_of_concurrency_can_go_down_at_once() {
    let mut run = ready(object());
    let change = |run: &mut Run| {
        run.change(|spec| {
            spec.capacity.provisioned = Some(8);
            spec.capacity.reserved = Some(20);
        })
        .unwrap();
    };
    check(&mut run, change, "1", |_, _| {});
    let change = |run: &mut Run| {
        run.change(|spec| {
            spec.capacity.provisioned = Some(1);
            spec.capacity.reserved = Some(4);
        })
        .unwrap();
    };
    check(&mut run, change, "1", |_, _| {});
}

#[test]
fn the_url_follows_the_spec() {
    let mut run = ready(object());
    let run = &mut run;
    let none = || Some(Expose { function_url: FunctionUrl { auth_type: AuthType::None } });
    check(run, |run| run.change(|spec| spec.expose = none()).unwrap(), "1", |_, _| {});
    check(
        run,
        |run| run.change(|spec| spec.expose = None).unwrap(),
        "1",
        |_, run| {
            assert_eq!(run.status.url, None);
        },
    );
    check(run, |run| run.change(|spec| spec.expose = none()).unwrap(), "1", |_, _| {});
}

#[test]
fn old_versions_are_pruned_beyond_the_limit() {
    let mut run = ready(object());
    run.change(|spec| spec.rollout.history_limit = 2).unwrap();
    for (i, memory) in [512, 1024, 1536, 3072, 4096].into_iter().enumerate() {
        let version = (i + 2).to_string();
        check(
            &mut run,
            |run| run.change(|spec| spec.function.memory_mib = memory).unwrap(),
            &version,
            |_, _| {},
        );
    }
    let kept: Vec<&str> = run.status.history.iter().map(|v| v.version.as_str()).collect();
    assert_eq!(kept, ["6", "5", "4"]);
}

#[test]
fn security_groups_change_everywhere() {
    let mut run = ready(object());
    let groups = vec!["sg-0000000b".to_owned()];
    check(
        &mut run,
        |run| run.change(|spec| spec.network.security_group_ids = groups).unwrap(),
        "2",
        |world, _| {
            world.look(|a| {
                for mt in a.mount_targets.values().filter(|mt| mt.file_system != BROUGHT) {
                    assert!(mt.security_groups.contains("sg-0000000b"));
                }
            });
        },
    );
}

fn deletes(object: InferenceEndpoint, policy: DeletionPolicy) -> Run {
    let mut run = ready(object);
    run.change(|spec| spec.deletion_policy = policy).unwrap();
    settle(&mut run);
    run.delete().unwrap();
    settle(&mut run);
    assert!(run.is_deleted);
    run
}

fn existing() -> InferenceEndpoint {
    let mut object = object();
    object.spec.storage.efs.managed = None;
    object.spec.storage.efs.file_system_id = Some(BROUGHT.to_owned());
    object
}

#[test]
fn a_delete_leaves_nothing_of_ours() {
    let run = deletes(object(), DeletionPolicy::Delete);
    assert_eq!(run.end(), Vec::<String>::new());
    run.world.look(|a| assert_eq!(a.file_systems.len(), 1, "the other file system stays"));
}

#[test]
fn retain_data_keeps_the_file_system_and_its_data() {
    let run = deletes(object(), DeletionPolicy::RetainData);
    let end = run.end();
    assert!(end.iter().all(|l| l.starts_with("file system") || l.starts_with("mount target")), "{end:#?}");
    assert_eq!(end.len(), 3);
    run.world.look(|a| assert!(a.folders.values().any(|folder| !folder.manifests.is_empty())));
}

#[test]
fn retain_leaves_everything_serving() {
    let run = deletes(object(), DeletionPolicy::Retain);
    assert_eq!(run.end().len(), 10);
}

#[test]
fn a_file_system_that_was_brought_gets_an_access_point_and_loses_only_that() {
    for policy in [DeletionPolicy::Delete, DeletionPolicy::RetainData] {
        let run = deletes(existing(), policy);
        assert_eq!(run.end(), Vec::<String>::new());
        run.world.look(|a| {
            assert_eq!(a.file_systems.len(), 1);
            assert_eq!(a.mount_targets.len(), 2);
            assert!(a.folders.values().any(|folder| !folder.manifests.is_empty()), "its data stays");
        });
    }
}

#[test]
fn a_half_made_endpoint_can_be_deleted_at_any_point() {
    for passes in (0..140).step_by(3) {
        let mut run = Run::new(world(), object(), defaults()).unwrap();
        for _ in 0..passes {
            let again = run.pass().unwrap();
            run.world.advance(again);
        }
        run.delete().unwrap();
        settle(&mut run);
        assert_eq!(run.end(), Vec::<String>::new(), "deleted after {passes} passes");
    }
}

#[test]
fn the_throughput_mode_changes_once_a_day() {
    let mut run = ready(object());
    let mode =
        |mode| Some(ManagedFileSystem { encrypted: true, throughput: Throughput { mode }, kms_key_id: None });
    let run = &mut run;
    check(
        run,
        |run| run.change(|spec| spec.storage.efs.managed = mode(ThroughputMode::Bursting)).unwrap(),
        "1",
        |_, run| {
            let storage = run.status.storage.as_ref().unwrap();
            assert_eq!(storage.throughput_mode.as_deref(), Some("bursting"));
        },
    );
    let before = run.world.now();
    check(
        run,
        |run| run.change(|spec| spec.storage.efs.managed = mode(ThroughputMode::Elastic)).unwrap(),
        "1",
        |world, _| {
            assert!(world.now() > before + Duration::from_secs(80_000));
            // A planned wait, not an error loop: four looks an hour.
            let refused = world.refused().len();
            assert!((1..=24 * 4 + 2).contains(&refused), "{refused}");
        },
    );
}
