//! A deletion from any partial state, under each policy: nothing of ours is left, or what the policy keeps; nothing of
//! others is touched; and what holds it up says how to get out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::time::Duration;

use larder_core::endpoint::DeletionPolicy;
use larder_crds::InferenceEndpoint;
use larder_crds::spec::SourceEvents;
use larder_tests::world::World;
use larder_tests::world::account::{AccessPoint, Account, MountTarget};
use larder_tests::world::example::{BROUGHT, SUBNET_A, defaults, object, world};
use larder_tests::world::faults::{Chance, Trouble};
use larder_tests::world::run::Run;

#[track_caller]
fn settle(run: &mut Run) {
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

fn run_of(object: InferenceEndpoint) -> Run {
    Run::new(world(), object, defaults()).unwrap()
}

fn ready() -> Run {
    let mut run = run_of(object());
    settle(&mut run);
    run
}

fn on_a_brought_file_system() -> InferenceEndpoint {
    let mut object = object();
    object.spec.storage.efs.managed = None;
    object.spec.storage.efs.file_system_id = Some(BROUGHT.to_owned());
    object
}

fn managed(account: &Account) -> String {
    account.file_systems.keys().find(|id| *id != BROUGHT).unwrap().clone()
}

/// What belongs to nobody's endpoint, as text.
fn others(world: &World) -> String {
    world.look(|a| {
        let targets: Vec<_> = a.mount_targets.iter().filter(|(_, mt)| mt.file_system == BROUGHT).collect();
        let theirs = |owner: &Option<String>| owner.as_ref().is_some_and(|owner| owner.starts_with("some"));
        // What is under way in them goes on by itself.
        let functions = a.functions.iter().filter(|(_, it)| theirs(&it.owner));
        let functions: Vec<_> = functions
            .map(|(name, it)| (name, &it.latest, it.versions.keys().collect::<Vec<_>>(), it.reserved))
            .collect();
        let groups: Vec<_> = a.log_groups.iter().filter(|(_, it)| theirs(&it.owner)).collect();
        format!("{:?} {targets:?} {functions:?} {groups:?} {:?}", a.file_systems.get(BROUGHT), a.buckets)
    })
}

/// Something that people do meanwhile.
fn meddle(account: &mut Account, rng: &mut fastrand::Rng) {
    let somebody = || Some("somebody/else".to_owned());
    match rng.u8(0..8) {
        0 => account.functions.clear(),
        1 => {
            account.functions.pop_first();
        }
        2 => account.log_groups.clear(),
        3 => {
            let keep = BROUGHT.to_owned();
            account.file_systems.retain(|id, _| *id == keep);
            account.mount_targets.retain(|_, mt| mt.file_system == keep);
            account.access_points.retain(|_, ap| ap.file_system == keep);
        }
        4 => account.access_points.clear(),
        5 => account.functions.values_mut().take(1).for_each(|it| it.owner = somebody()),
        6 => account.log_groups.values_mut().take(1).for_each(|it| it.owner = somebody()),
        _ => {}
    }
}

#[test]
fn from_any_partial_state_nothing_is_left_and_nothing_foreign_is_touched() {
    const TROUBLES: [Trouble; 6] = [
        Trouble::Throttled,
        Trouble::ServerError,
        Trouble::TimedOutBefore,
        Trouble::TimedOutAfter,
        Trouble::KilledBefore,
        Trouble::KilledAfter,
    ];
    let seeds = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in seeds.map_or(0..150u64, |seed: u64| seed..seed + 1) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut object = if rng.bool() { object() } else { on_a_brought_file_system() };
        if rng.bool() {
            object.spec.models[0].source.s3.as_mut().unwrap().events = SourceEvents::EventBridge;
        }
        let policies = [DeletionPolicy::Delete, DeletionPolicy::RetainData, DeletionPolicy::Retain];
        let policy = *rng.choice(&policies).unwrap();
        object.spec.deletion_policy = policy;
        let is_managed = object.spec.storage.efs.managed.is_some();
        let mut run = run_of(object).with_seed(seed);
        run.checks_truth = false;
        run.world.set_chance(Some(Chance::new(seed, 100, &TROUBLES)));
        for _ in 0..rng.u32(0..60) {
            let again = run.pass().unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
            run.world.advance(again);
        }
        run.world.meddle(|a| meddle(a, &mut rng));
        if policy == DeletionPolicy::Retain {
            // What is under way in AWS comes to its end: what is then there is compared to the letter.
            run.world.advance(Duration::from_hours(1));
        }
        let (foreign, before) = (others(&run.world), run.end());
        run.delete().unwrap();
        run.until("to be deleted", |run| run.is_deleted)
            .unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        assert_eq!(others(&run.world), foreign, "seed {seed}");
        let left = run.end();
        match policy {
            DeletionPolicy::Retain => assert_eq!(left, before, "seed {seed}"),
            DeletionPolicy::RetainData if is_managed => {
                let is_data =
                    |line: &String| line.starts_with("file system") || line.starts_with("mount target");
                assert!(left.iter().all(is_data), "seed {seed}: {left:#?}");
                let had_data = before.iter().any(|line| line.starts_with("file system"));
                assert_eq!(!left.is_empty(), had_data, "seed {seed}: {before:#?} {left:#?}");
            }
            DeletionPolicy::Delete | DeletionPolicy::RetainData => {
                assert_eq!(left, Vec::<String>::new(), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_deletion_asks_for_neither_code_nor_subnets() {
    let mut run = ready();
    run.world.meddle(|a| {
        a.images.clear();
        a.buckets.clear();
    });
    let reads =
        ["DescribeImages", "DescribeSubnets", "ListObjectsV2"].map(|read| (read, run.world.calls(read)));
    run.delete().unwrap();
    settle(&mut run);
    for (read, before) in reads {
        assert_eq!(run.world.calls(read), before, "{read}");
    }
    assert_eq!(run.end(), Vec::<String>::new());
}

#[test]
fn long_waits_are_shown() {
    let mut run = ready();
    run.world.meddle(|a| a.delays.mount_target = Duration::from_mins(30));
    run.delete().unwrap();
    run.until("to say how long it lasts", |run| {
        run.condition("Ready").is_some_and(|(_, reason, message)| {
            reason == "Deleting"
                && message.contains("mount targets fsmt-")
                && message.ends_with("until then, 7 min")
                || message.contains(", 7 min;")
        })
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    let message = run.condition("Ready").unwrap().2;
    assert!(message.contains("2 network interfaces") && message.contains("security groups"), "{message}");
    settle(&mut run);
    // They are AWS's to remove, and others may use them: nobody waits.
    assert!(run.world.look(|a| !a.interfaces.is_empty()));
    assert!(run.condition("Ready").unwrap().2.contains("2 network interfaces"));
}

#[test]
fn what_is_denied_says_how_to_get_out() {
    for (operation, is_brought) in [
        ("DeleteFunctionUrlConfig", false),
        ("RemovePermission", false),
        ("DeleteProvisionedConcurrencyConfig", false),
        ("DeleteAlias", false),
        ("DeleteFunction", false),
        ("DeleteLogGroup", false),
        ("DeleteAccessPoint", true),
        ("DeleteMountTarget", false),
        ("DeleteFileSystem", false),
        ("GetFunction", false),
        ("DescribeFileSystems", false),
        ("DescribeAccessPoints", true),
        ("DescribeMountTargets", false),
        ("DescribeLogGroups", false),
    ] {
        for is_allowed_later in [true, false] {
            let mut run = run_of(if is_brought { on_a_brought_file_system() } else { object() });
            settle(&mut run);
            run.world.deny(operation);
            run.delete().unwrap();
            run.until("to say what to allow", |run| {
                run.condition("Stalled").is_some_and(|(_, _, message)| {
                    message.contains(operation)
                        && message.contains("allow this action")
                        && message.contains("deletionPolicy: Retain")
                })
            })
            .unwrap_or_else(|stuck| panic!("{operation}: {stuck}"));
            run.go_on_for(Duration::from_mins(10)).unwrap();
            assert!(!run.is_deleted, "{operation}");
            if is_allowed_later {
                run.world.allow(operation);
            } else {
                run.change(|spec| spec.deletion_policy = DeletionPolicy::Retain).unwrap();
            }
            run.until("to be deleted", |run| run.is_deleted)
                .unwrap_or_else(|stuck| panic!("{operation}: {stuck}"));
            assert_eq!(run.end().is_empty(), is_allowed_later, "{operation}");
        }
    }
}

#[test]
fn the_interfaces_are_only_shown() {
    let mut run = ready();
    run.world.deny("DescribeNetworkInterfaces");
    run.delete().unwrap();
    settle(&mut run);
    assert_eq!(run.end(), Vec::<String>::new());
}

#[test]
fn interfaces_that_outlive_the_functions_are_told_of() {
    let mut run = ready();
    run.delete().unwrap();
    settle(&mut run);
    let (_, _, message) = run.condition("Ready").unwrap();
    assert!(message.contains("2 network interfaces") && message.contains("keep the role"), "{message}");
}

#[test]
fn a_file_system_that_others_mount_is_kept() {
    let access_point = |a: &mut Account| {
        let file_system = managed(a);
        let mut spec = a.access_points.values().next().unwrap().spec.clone();
        spec.path = "/notebooks".to_owned();
        let it = AccessPoint {
            token: "console".to_owned(),
            owner: None,
            file_system,
            spec,
            secondary_gids: [].into(),
            available_at: Duration::ZERO,
            gone_at: None,
        };
        a.access_points.insert("fsap-others".to_owned(), it);
    };
    let mount_target = |a: &mut Account| {
        let it = MountTarget {
            file_system: managed(a),
            subnet: "subnet-0000000c".to_owned(),
            zone: "eu-west-1c".to_owned(),
            security_groups: ["sg-0000000f".to_owned()].into(),
            available_at: Duration::ZERO,
            is_broken: false,
            gone_at: None,
        };
        a.mount_targets.insert("fsmt-others".to_owned(), it);
    };
    for (id, share) in
        [("fsap-others", &access_point as &dyn Fn(&mut Account)), ("fsmt-others", &mount_target)]
    {
        for is_kept in [true, false] {
            let mut run = ready();
            run.delete().unwrap();
            run.world.meddle(share);
            run.until("to say who uses it", |run| {
                run.condition("Stalled").is_some_and(|(_, reason, message)| {
                    reason == "InUse" && message.contains(id) && message.contains("RetainData")
                })
            })
            .unwrap_or_else(|stuck| panic!("{id}: {stuck}"));
            run.go_on_for(Duration::from_mins(10)).unwrap();
            let targets = run.world.look(|a| {
                let fs = managed(a);
                a.mount_targets.values().filter(|mt| mt.file_system == fs && mt.gone_at.is_none()).count()
            });
            assert!(targets >= 2, "{id}: what others may mount through stays");
            if is_kept {
                run.change(|spec| spec.deletion_policy = DeletionPolicy::RetainData).unwrap();
                settle(&mut run);
                assert!(run.end().iter().any(|line| line.starts_with("file system")));
            } else {
                run.world.meddle(|a| {
                    a.access_points.remove(id);
                    a.mount_targets.remove(id);
                });
                settle(&mut run);
                assert_eq!(run.end(), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn mount_targets_of_an_earlier_network_are_ours() {
    let mut run = ready();
    run.change(|spec| spec.network.subnet_ids = vec![SUBNET_A.to_owned()]).unwrap();
    for _ in 0..2 {
        let again = run.pass().unwrap_or_else(|stuck| panic!("{stuck}"));
        run.world.advance(again);
    }
    run.delete().unwrap();
    settle(&mut run);
    assert_eq!(run.end(), Vec::<String>::new());
}
