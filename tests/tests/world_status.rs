//! What users are told when something is wrong: a False condition with the right reason, a message that
//! names the resource, and a way back to Ready without anyone's help once it is mended.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use larder_contract::ModelSource;
use larder_contract::source::S3Prefix;
use std::collections::BTreeMap;
use std::time::Duration;

use larder_crds::InferenceEndpoint;
use larder_crds::spec::ThroughputMode;
use larder_tests::world::World;
use larder_tests::world::account::{FileSystem, Function, LogGroup};
use larder_tests::world::example::{BROUGHT, BUCKET, defaults, digest, object, world};
use larder_tests::world::run::Run;

/// One thing that is wrong.
struct Wrong {
    object: InferenceEndpoint,
    /// The condition that says so, its reason, and what its message names.
    says: (&'static str, &'static str, &'static [&'static str]),
    /// Whether only a person can mend it, which `Stalled` says.
    stalls: bool,
    breaks: fn(&World),
    mends: fn(&World),
}

#[track_caller]
fn check(wrong: Wrong) {
    let Wrong { object, says: (type_, reason, names), stalls, breaks, mends } = wrong;
    let mut run = Run::new(world(), object, defaults()).unwrap();
    (breaks)(&run.world);
    let says_so = |run: &Run| {
        run.condition(type_).is_some_and(|(status, has, message)| {
            status == "False" && has == reason && names.iter().all(|name| message.contains(name))
        })
    };
    // It goes on saying so, though each attempt to do better may take its time, and sums it up in Ready.
    for _ in 0..3 {
        run.until(&format!("to say {type_} {reason} with {names:?}"), says_so)
            .unwrap_or_else(|stuck| panic!("{stuck}"));
        run.world.advance(Duration::from_secs(70));
    }
    let (status, ready_reason, message) = run.condition("Ready").unwrap();
    assert_eq!(status, "False");
    assert_eq!(ready_reason, reason, "{message}");
    assert!(names.iter().all(|name| message.contains(name)), "{message}");
    assert_eq!(run.condition("Stalled").is_some(), stalls, "{:#?}", run.status.conditions);
    assert_eq!(run.condition("Reconciling").is_some(), !stalls, "{:#?}", run.status.conditions);
    (mends)(&run.world);
    let mended = run.world.now();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    assert!(run.is_ready());
    let took = run.world.now().saturating_sub(mended);
    assert!(took < Duration::from_secs(400), "it took {took:?} to be ready again");
    run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn burst_credits_that_run_low_are_told_of_and_hold_nothing_up() {
    for brought in [false, true] {
        let mut object = if brought { existing() } else { object() };
        if let Some(managed) = &mut object.spec.storage.efs.managed {
            managed.throughput.mode = ThroughputMode::Bursting;
        }
        let mut run = Run::new(world(), object, defaults()).unwrap();
        run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
        let told = |run: &Run| {
            let balance = run.status.storage.as_ref().unwrap().burst_credit_balance;
            let low = run.condition("BurstCreditsLow").map(|(status, _, message)| {
                assert_eq!(status, "True");
                message.to_owned()
            });
            (balance, low)
        };
        assert_eq!(told(&run), (Some(2_308_974_418_329), None));
        // What twenty sandboxes read of the models, which are all that may run, and a byte less.
        run.change(|spec| spec.capacity.reserved = Some(20)).unwrap();
        let bytes: i64 = run.status.models.iter().map(|it| it.bytes).sum();
        for (left, is_low) in [(20 * bytes, false), (20 * bytes - 1, true), (0, true)] {
            run.world.meddle(|a| a.broken.burst_credits = u64::try_from(left).ok());
            run.ask().unwrap();
            run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
            let (balance, low) = told(&run);
            assert_eq!((balance, low.is_some()), (Some(left), is_low));
            let advice = if brought { "change its throughput mode" } else { "throughput.mode: Elastic" };
            assert!(low.is_none_or(|it| it.contains("20 sandboxes") && it.contains(advice)));
        }
        run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
        run.world.meddle(|a| a.broken.burst_credits = None);
        run.ask().unwrap();
        run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
        assert_eq!(told(&run).1, None);
    }
}

#[test]
fn an_elastic_file_system_has_no_burst_credits() {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.world.meddle(|a| a.broken.burst_credits = Some(0));
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(run.status.storage.as_ref().unwrap().burst_credit_balance, None);
    assert_eq!(run.condition("BurstCreditsLow"), None);
}

fn existing() -> InferenceEndpoint {
    let mut object = object();
    object.spec.storage.efs.managed = None;
    object.spec.storage.efs.file_system_id = Some(BROUGHT.to_owned());
    object
}

fn name() -> String {
    let endpoint = larder_core::Endpoint::parse(&object(), &defaults()).unwrap();
    endpoint.names.function
}

#[test]
fn an_empty_prefix() {
    check(Wrong {
        object: object(),
        says: ("ModelsSynced", "SourceEmpty", &["model ocr", "s3://acme-models/ocr/"]),
        stalls: true,
        breaks: |world| {
            world.delete_object(BUCKET, "ocr/det.onnx");
            world.delete_object(BUCKET, "ocr/rec.onnx");
        },
        mends: |world| world.put_object(BUCKET, "ocr/rec.onnx", 1 << 20, "new"),
    });
}

#[test]
fn a_missing_bucket() {
    check(Wrong {
        object: object(),
        says: ("ModelsSynced", "SourceNotFound", &["bucket acme-models", "does not exist"]),
        stalls: true,
        breaks: |world| world.meddle(|a| a.buckets.clear()),
        mends: |world| world.put_object(BUCKET, "ocr/rec.onnx", 1 << 20, "new"),
    });
}

#[test]
fn an_unsafe_key() {
    check(Wrong {
        object: object(),
        says: ("ModelsSynced", "SourceUnusable", &["model ocr", "../../etc/passwd"]),
        stalls: true,
        breaks: |world| world.put_object(BUCKET, "ocr/../../etc/passwd", 1, "x"),
        mends: |world| world.delete_object(BUCKET, "ocr/../../etc/passwd"),
    });
}

#[test]
fn other_content_than_the_pin() {
    let mut pinned = object();
    let source = ModelSource::S3(S3Prefix { bucket: BUCKET.to_owned(), prefix: "ocr/".to_owned() });
    let revision = world().look(|a| a.revision_at(&source).unwrap().0);
    pinned.spec.models[0].digest = Some(revision.to_string());
    check(Wrong {
        object: pinned,
        says: ("ModelsSynced", "DigestMismatch", &["model ocr", "s3://acme-models/ocr/", "sha256:"]),
        stalls: true,
        breaks: |world| world.put_object(BUCKET, "ocr/rec.onnx", 20 << 20, "other"),
        mends: |world| world.put_object(BUCKET, "ocr/rec.onnx", 20 << 20, "rec-1"),
    });
}

#[test]
fn calls_that_are_denied() {
    for (operation, type_) in [
        ("ListObjectsV2", "ModelsSynced"),
        ("Invoke", "ModelsSynced"),
        ("CreateFunction", "ModelsSynced"),
        ("CreateLogGroup", "ModelsSynced"),
        ("PutFunctionConcurrency", "FunctionReady"),
        ("PublishVersion", "FunctionReady"),
        ("PutProvisionedConcurrencyConfig", "CapacityReady"),
        ("CreateAlias", "TrafficReady"),
        ("CreateFunctionUrlConfig", "Exposed"),
        ("AddPermission", "Exposed"),
        ("CreateFileSystem", "StorageReady"),
        ("CreateMountTarget", "StorageReady"),
        ("CreateAccessPoint", "StorageReady"),
        ("DescribeFileSystems", "StorageReady"),
        ("DescribeSubnets", "StorageReady"),
    ] {
        let mut run = Run::new(world(), object(), defaults()).unwrap();
        run.world.deny(operation);
        run.until(&format!("to say that {operation} is denied"), |run| {
            run.condition(type_).is_some_and(|(status, reason, message)| {
                status == "False" && reason == "AccessDenied" && message.contains(operation)
            })
        })
        .unwrap_or_else(|stuck| panic!("{operation}: {stuck}"));
        assert!(run.condition("Stalled").is_some(), "{operation}");
        run.world.allow(operation);
        run.settle().unwrap_or_else(|stuck| panic!("{operation}: {stuck}"));
        assert!(run.is_ready(), "{operation}");
    }
}

#[test]
fn a_missing_image() {
    check(Wrong {
        object: object(),
        says: ("FunctionReady", "CodeNotFound", &["larder-inference:1"]),
        stalls: true,
        breaks: |world| {
            world.meddle(|a| a.images.remove("larder-inference:1"));
        },
        mends: |world| world.push_image("larder-inference:1", &digest("inference 1")),
    });
}

#[test]
fn code_that_does_not_start() {
    check(Wrong {
        object: object(),
        says: ("CapacityReady", "CapacityFailed", &["version 1", "FUNCTION_ERROR_INIT_FAILURE"]),
        stalls: false,
        breaks: |world| world.meddle(|a| a.broken.init.extend([digest("inference 1")])),
        mends: |world| world.meddle(|a| a.broken.init.clear()),
    });
}

#[test]
fn a_new_version_that_does_not_start_leaves_traffic_where_it_was() {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.settle().unwrap();
    run.world.meddle(|a| a.broken.init.insert(digest("bad")));
    run.world.push_image("larder-inference:1", &digest("bad"));
    run.go_on_for(Duration::from_mins(10)).unwrap_or_else(|stuck| panic!("{stuck}"));
    run.until("to say why", |run| run.condition("Ready").is_some_and(|ready| ready.1 == "CapacityFailed"))
        .unwrap_or_else(|stuck| panic!("{stuck}"));
    let traffic: Vec<_> = run.status.traffic.iter().map(|t| (t.version.as_str(), t.percent)).collect();
    assert_eq!(traffic, [("1", 100)]);
    let warm = run.world.look(|a| a.functions[&name()].versions[&1].provisioned.as_ref().unwrap().available);
    assert_eq!(warm, 2);
    run.world.push_image("larder-inference:1", &digest("inference 1"));
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("1"));
    let wasted = run.world.look(|a| a.functions[&name()].versions[&2].provisioned.is_some());
    assert!(!wasted, "the version that failed keeps no capacity");
}

#[test]
fn a_copy_that_fails() {
    check(Wrong {
        object: object(),
        says: ("ModelsSynced", "SyncFailed", &["model ocr", "checksum of rec.onnx differs"]),
        stalls: false,
        breaks: |world| {
            world.meddle(|a| a.broken.copy = Some("checksum of rec.onnx differs".to_owned()));
        },
        mends: |world| world.meddle(|a| a.broken.copy = None),
    });
}

/// A copy that can write nothing leaves no word of it behind.
const READ_ONLY: &str = "cannot write to the folder /mnt/models: Read-only file system (os error 30)";

#[test]
fn a_file_system_that_cannot_be_written() {
    check(Wrong {
        object: object(),
        says: ("ModelsSynced", "SyncFailed", &["model ocr", READ_ONLY]),
        stalls: false,
        breaks: |world| world.meddle(|a| a.broken.writes = Some(READ_ONLY.to_owned())),
        mends: |world| world.meddle(|a| a.broken.writes = None),
    });
}

#[test]
fn a_file_system_that_cannot_be_written_any_more_in_the_middle_of_a_copy() {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.until("to copy", |run| run.world.look(|a| !a.copies.is_empty())).unwrap();
    run.world.meddle(|a| a.broken.writes = Some(READ_ONLY.to_owned()));
    run.until("to say so", |run| {
        let models = run.condition("ModelsSynced");
        models.is_some_and(|(_, reason, message)| reason == "SyncFailed" && message.contains(READ_ONLY))
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    let starts =
        |run: &Run| run.world.history().iter().filter(|line| line.contains("sync the models")).count();
    let before = starts(&run);
    run.go_on_for(Duration::from_mins(30)).unwrap_or_else(|stuck| panic!("{stuck}"));
    let tries = starts(&run) - before;
    assert!((2..=60).contains(&tries), "{tries} copies were begun in half an hour");
    run.world.meddle(|a| a.broken.writes = None);
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn a_source_that_changes_during_the_copy() {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.until("to copy", |run| run.world.look(|a| !a.copies.is_empty())).unwrap();
    run.world.put_object(BUCKET, "ocr/rec.onnx", 25 << 20, "rec-2");
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn a_source_that_changes_during_the_copy_and_back() {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.until("to copy", |run| run.world.look(|a| !a.copies.is_empty())).unwrap();
    run.world.put_object(BUCKET, "ocr/rec.onnx", 25 << 20, "rec-2");
    run.world.advance(Duration::from_secs(1));
    run.world.put_object(BUCKET, "ocr/rec.onnx", 20 << 20, "rec-1");
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn a_broken_source_does_not_hold_up_a_change_of_the_function() {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.settle().unwrap();
    run.world.meddle(|a| a.buckets.clear());
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.until("to serve version 2", |run| {
        run.status.traffic.first().is_some_and(|traffic| traffic.version == "2")
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(run.condition("Ready").unwrap().1, "SourceNotFound");
}

fn somebody() -> String {
    "somebody/else".to_owned()
}

#[test]
fn a_foreign_function() {
    check(Wrong {
        object: object(),
        says: ("FunctionReady", "ForeignResource", &["function larder-vision-signs", "owner somebody/else"]),
        stalls: true,
        breaks: |world| {
            // Somebody else's function has the name: one like ours, with another tag.
            let mut other = Run::new(self::world(), object(), defaults()).unwrap();
            other.settle().unwrap();
            let function = other.world.look(|a| a.functions[&name()].clone());
            world.meddle(|a| a.functions.insert(name(), Function { owner: Some(somebody()), ..function }));
        },
        mends: |world| world.meddle(|a| drop(a.functions.remove(&name()))),
    });
}

#[test]
fn a_foreign_file_system() {
    check(Wrong {
        object: object(),
        says: (
            "StorageReady",
            "ForeignResource",
            &["file system with token larder-vision-signs", "nobody's tag"],
        ),
        stalls: true,
        breaks: |world| {
            let fs = FileSystem {
                is_encrypted: true,
                kms_key_id: None,
                token: name(),
                owner: None,
                mode: "elastic".to_owned(),
                available_at: Duration::ZERO,
                gone_at: None,
                mode_changed_at: None,
            };
            world.meddle(|a| a.file_systems.insert("fs-foreign".to_owned(), fs));
        },
        mends: |world| world.meddle(|a| drop(a.file_systems.remove("fs-foreign"))),
    });
}

#[test]
fn a_foreign_log_group() {
    check(Wrong {
        object: object(),
        says: ("FunctionReady", "ForeignResource", &["log group /aws/lambda/larder-vision-signs"]),
        stalls: true,
        breaks: |world| {
            let group = LogGroup { owner: None, retention_days: None };
            world.meddle(|a| a.log_groups.insert(format!("/aws/lambda/{}", name()), group));
        },
        mends: |world| world.meddle(|a| drop(a.log_groups.remove(&format!("/aws/lambda/{}", name())))),
    });
}

#[test]
fn a_file_system_that_is_not_there() {
    check(Wrong {
        object: existing(),
        says: ("StorageReady", "FileSystemNotFound", &[BROUGHT]),
        stalls: true,
        breaks: |world| {
            world.meddle(|a| {
                a.file_systems = BTreeMap::new();
                a.mount_targets = BTreeMap::new();
            });
        },
        mends: |world| world.bring_file_system(BROUGHT),
    });
}

#[test]
fn a_brought_file_system_without_a_mount_target() {
    check(Wrong {
        object: existing(),
        says: ("StorageReady", "MountTargetMissing", &[BROUGHT, "eu-west-1a"]),
        stalls: true,
        breaks: |world| {
            world.meddle(|a| a.mount_targets.retain(|_, mt| mt.zone != "eu-west-1a"));
        },
        mends: |world| world.bring_file_system(BROUGHT),
    });
}

#[test]
fn a_subnet_that_is_not_there() {
    check(Wrong {
        object: object(),
        says: ("StorageReady", "NotFound", &["subnet-0000000b"]),
        stalls: true,
        breaks: |world| world.meddle(|a| drop(a.subnets.remove("subnet-0000000b"))),
        mends: |world| {
            let subnets = self::world().look(|a| a.subnets.clone());
            world.meddle(|a| a.subnets = subnets);
        },
    });
}

#[test]
fn subnets_of_two_vpcs() {
    check(Wrong {
        object: object(),
        says: ("StorageReady", "SubnetsInvalid", &["subnet-0000000a", "subnet-0000000b", "vpc-2"]),
        stalls: true,
        breaks: |world| {
            world.meddle(|a| "vpc-2".clone_into(&mut a.subnets.get_mut("subnet-0000000b").unwrap().vpc));
        },
        mends: |world| {
            world.meddle(|a| "vpc-1".clone_into(&mut a.subnets.get_mut("subnet-0000000b").unwrap().vpc));
        },
    });
}

#[test]
fn mount_targets_that_fail() {
    check(Wrong {
        object: object(),
        says: ("StorageReady", "MountTargetFailed", &["mount target fsmt-", "state error"]),
        stalls: false,
        breaks: |world| world.meddle(|a| a.broken.mount_targets = true),
        mends: |world| world.meddle(|a| a.broken.mount_targets = false),
    });
}

#[test]
fn a_function_whose_creation_fails_is_made_again() {
    check(Wrong {
        object: object(),
        says: ("FunctionReady", "FunctionFailed", &["function larder-vision-signs", "EniLimitExceeded"]),
        stalls: false,
        breaks: |world| {
            world.meddle(|a| a.broken.creation.insert(name(), "EniLimitExceeded".to_owned()));
        },
        mends: |world| world.meddle(|a| a.broken.creation.clear()),
    });
}

#[test]
fn an_update_that_fails_is_tried_again() {
    let mut run = Run::new(world(), object(), defaults()).unwrap();
    run.settle().unwrap();
    run.world.meddle(|a| a.broken.update.insert(name(), "SubnetOutOfIPAddresses".to_owned()));
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    run.until("to say why", |run| {
        run.condition("FunctionReady").is_some_and(|(_, reason, message)| {
            reason == "FunctionFailed" && message.contains("SubnetOutOfIPAddresses")
        })
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(run.status.traffic[0].version, "1");
    run.world.meddle(|a| a.broken.update.clear());
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn nothing_is_written_while_management_is_plan() {
    let mut planned = object();
    planned.spec.management = larder_core::endpoint::Management::Plan;
    let mut run = Run::new(world(), planned, defaults()).unwrap();
    run.go_on_for(Duration::from_secs(1000)).unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(run.world.writes(), 0);
    assert!(!run.status.plan.is_empty());
    assert_eq!(run.condition("Ready").unwrap().1, "PlanOnly");
    run.change(|spec| spec.management = larder_core::endpoint::Management::Apply).unwrap();
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}
