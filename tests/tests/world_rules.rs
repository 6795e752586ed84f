//! The rules that AWS sets (EFS, Lambda and S3 API references), one test for each that the scenarios do
//! not already show.

#![expect(
    clippy::type_complexity,
    reason = "a test that cannot go on must fail at once, and tables of cases are long"
)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use larder_core::observed::Subnet;
use larder_core::step::{Permission, PermissionAction};
use larder_crds::InferenceEndpoint;
use larder_crds::spec::{AuthType, EnvValue};
use larder_tests::world::World;
use larder_tests::world::account::{Account, Function, MountTarget, State};
use larder_tests::world::example::{BROUGHT, BUCKET, ROLE, SUBNET_A, defaults, image, object, world};
use larder_tests::world::faults::{Fault, On, Trouble};
use larder_tests::world::run::Run;

fn run_of(world: World, object: InferenceEndpoint) -> Run {
    Run::new(world, object, defaults()).unwrap()
}

#[track_caller]
fn settle(run: &mut Run) {
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

fn ready() -> Run {
    let mut run = run_of(world(), object());
    settle(&mut run);
    run
}

/// The times at which something that begins so was done.
fn done(run: &Run, what: &str) -> Vec<usize> {
    let history = run.world.history();
    history
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains(&format!("s  {what}")))
        .map(|(i, _)| i)
        .collect()
}

fn with_function(account: &mut Account, run_name: &str, change: impl FnOnce(&mut Function)) {
    change(account.functions.get_mut(run_name).unwrap());
}

// ---- EFS ----

#[test]
fn an_unanswered_create_is_found_by_its_token() {
    for operation in ["CreateFileSystem", "CreateAccessPoint", "CreateMountTarget"] {
        let mut run = run_of(world(), object());
        run.world.plan_fault(Fault { on: On::Operation(operation, 1), trouble: Trouble::TimedOutAfter });
        settle(&mut run);
        assert_eq!(run.end(), ready().end(), "{operation}");
    }
}

#[test]
fn a_create_that_was_not_seen_yet_recovers_from_already_exists() {
    let mut run = run_of(world(), object());
    run.checks_truth = false;
    // It dies once it is made, and the list lags: it is made a second time, which its token forbids.
    run.world.plan_fault(Fault { on: On::Operation("CreateFileSystem", 1), trouble: Trouble::KilledAfter });
    run.world.plan_fault(Fault { on: On::Operation("DescribeFileSystems", 2), trouble: Trouble::Stale });
    settle(&mut run);
    let refused = run.world.refused();
    let twice = refused.iter().filter(|told| told.contains("FileSystemAlreadyExists"));
    assert_eq!(twice.count(), 1, "what is there is looked for after that: {refused:#?}");
    assert_eq!(run.end(), ready().end());
}

/// What it took from its last look is not what AWS knows: a failure tells so, and all is looked at again.
#[test]
fn what_a_refused_step_relied_on_is_looked_at_again() {
    let world = world();
    world.meddle(|a| a.delays.mount_target = Duration::from_secs(30));
    let mut run = run_of(world, object());
    run.checks_truth = false;
    run.until("to make an access point", |run| run.world.look(|a| !a.access_points.is_empty())).unwrap();
    // It is seen, and then only the mount targets are waited for.
    run.go_on_for(Duration::from_secs(15)).unwrap();
    run.world.meddle(|a| a.access_points.clear());
    settle(&mut run);
    let refused = run.world.refused();
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert!(refused[0].starts_with("create function"), "{refused:#?}");
}

#[test]
fn two_subnets_of_one_zone_share_a_mount_target() {
    let world = world();
    let subnet =
        Subnet { id: "subnet-0000000c".to_owned(), zone: "eu-west-1a".to_owned(), vpc: "vpc-1".to_owned() };
    world.meddle(|a| a.subnets.insert(subnet.id.clone(), subnet));
    let mut object = object();
    object.spec.network.subnet_ids.push("subnet-0000000c".to_owned());
    let mut run = run_of(world, object);
    settle(&mut run);
    let ours = run.world.look(|a| a.mount_targets.values().filter(|mt| mt.file_system != BROUGHT).count());
    assert_eq!(ours, 2);
    assert_eq!(run.world.refused(), Vec::<String>::new());
}

#[test]
fn functions_wait_for_mount_targets_that_take_long() {
    let world = world();
    world.meddle(|a| a.delays.mount_target = Duration::from_mins(30));
    let mut run = run_of(world, object());
    settle(&mut run);
    assert_eq!(run.world.refused(), Vec::<String>::new());
}

#[test]
fn storage_is_not_said_to_be_ready_before_its_mount_targets_are() {
    let world = world();
    world.meddle(|a| a.delays.mount_target = Duration::from_mins(30));
    let mut run = run_of(world, object());
    run.until("to wait for them", |run| {
        run.condition("StorageReady").is_some_and(|(_, reason, message)| {
            reason == "Waiting"
                && ["eu-west-1a (creating)", "eu-west-1b (creating)"]
                    .iter()
                    .all(|part| message.contains(part))
        })
    })
    .unwrap();
    // Nor is it when one of them goes back to that.
    settle(&mut run);
    run.checks_truth = false;
    run.world.meddle(|a| {
        let ours = a.mount_targets.values_mut().filter(|mt| mt.file_system != BROUGHT);
        ours.filter(|mt| mt.zone == "eu-west-1b")
            .for_each(|mt| mt.available_at = a.now + Duration::from_mins(5));
    });
    run.world.set_outage(true);
    run.restart();
    run.pass().unwrap();
    let (status, _, message) = run.condition("StorageReady").unwrap();
    assert!(status == "False" && message.contains("eu-west-1b (creating)"), "{status} {message}");
    assert!(!run.is_ready());
}

#[test]
fn encryption_that_aws_does_not_change_is_said_not_to_be_as_wanted() {
    let mut run = ready();
    run.checks_truth = false;
    run.change(|spec| spec.storage.efs.managed.as_mut().unwrap().encrypted = false).unwrap();
    run.pass().unwrap();
    let (status, reason, message) = run.condition("StorageReady").unwrap();
    assert_eq!((status, reason), ("False", "FileSystemFailed"));
    assert!(message.contains("is encrypted, spec.storage.efs.managed.encrypted is false"), "{message}");
    run.change(|spec| spec.storage.efs.managed.as_mut().unwrap().encrypted = true).unwrap();
    settle(&mut run);
}

#[test]
fn functions_wait_for_a_mount_target_in_every_zone() {
    let mut run = run_of(world(), object());
    run.until("to have its mount targets", |run| run.world.look(|a| a.mount_targets.len()) == 4).unwrap();
    run.world.meddle(|a| {
        let slow = a.mount_targets.values_mut().filter(|mt| mt.file_system != BROUGHT);
        slow.filter(|mt| mt.zone == "eu-west-1b").for_each(|mt| mt.available_at += Duration::from_mins(30));
    });
    settle(&mut run);
    assert_eq!(run.world.refused(), Vec::<String>::new());
}

#[test]
fn a_subnet_is_left_only_when_no_version_is_there_any_more() {
    let mut run = ready();
    let ours = |run: &Run| {
        let is_ours = |mt: &&MountTarget| mt.file_system != BROUGHT;
        run.world.look(|a| a.mount_targets.values().filter(is_ours).count())
    };
    run.change(|spec| spec.network.subnet_ids = vec![SUBNET_A.to_owned()]).unwrap();
    settle(&mut run);
    assert_eq!(ours(&run), 2, "version 1 can be gone back to");
    run.change(|spec| spec.rollout.history_limit = 0).unwrap();
    settle(&mut run);
    run.go_on_for(Duration::from_mins(30)).unwrap();
    assert_eq!(ours(&run), 1);
}

#[test]
fn an_access_point_that_leads_elsewhere_is_said_to() {
    let mut run = ready();
    run.checks_truth = false;
    run.world.meddle(|a| {
        a.access_points.values_mut().for_each(|ap| "/elsewhere".clone_into(&mut ap.spec.path));
    });
    run.ask().unwrap();
    run.until("to be told", |run| {
        run.condition("StorageReady").is_some_and(|(_, reason, message)| {
            reason == "FileSystemFailed" && message.contains("path is /elsewhere")
        })
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    assert!(run.condition("Stalled").is_some());
}

#[test]
fn a_delete_goes_from_the_outside_to_the_inside() {
    let mut run = ready();
    run.delete().unwrap();
    settle(&mut run);
    assert_eq!(run.world.refused(), Vec::<String>::new());
    let order = [
        "delete the function URL",
        "delete alias",
        "delete function larder-vision-signs-b61f68e62b ",
        "delete access point",
        "delete mount target",
        "delete file system",
    ];
    let times = order.map(|what| done(&run, what));
    for (pair, what) in times.windows(2).zip(order.windows(2)) {
        let (last, first) = (pair[0].last().unwrap(), pair[1].first().unwrap());
        assert!(last < first, "{what:?}: {:#?}", run.world.history());
    }
    let cooled = done(&run, "stop keeping version");
    assert!(cooled.first().unwrap() < times[2].first().unwrap());
}

// ---- Lambda ----

#[test]
fn a_role_that_cannot_be_assumed_yet_is_waited_for() {
    let world = world();
    world.meddle(|a| a.roles_assumable_at.insert(ROLE.to_owned(), Duration::from_mins(5)));
    let mut run = run_of(world, object());
    run.until("to say so", |run| {
        run.condition("ModelsSynced").is_some_and(|(_, _, message)| message.contains("cannot be assumed"))
    })
    .unwrap();
    assert!(run.condition("Stalled").is_none(), "it is not a person's business yet");
    settle(&mut run);
}

#[test]
fn an_inactive_function_is_woken() {
    let mut run = ready();
    let sync = run.endpoint().names.sync_function.clone();
    let inference = run.endpoint().names.function.clone();
    run.world.meddle(|a| {
        with_function(a, &sync, |function| function.state = State::Inactive);
        with_function(a, &inference, |function| function.state = State::Inactive);
    });
    run.world.put_object(BUCKET, "ocr/rec.onnx", 1 << 20, "rec-2");
    run.ask().unwrap();
    run.pass().unwrap();
    settle(&mut run);
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("2"));
}

#[test]
fn an_environment_that_is_too_big_is_said_to_be() {
    let mut run = ready();
    let value = EnvValue("x".repeat(4000));
    run.change(|spec| spec.function.env = BTreeMap::from([("BIG".to_owned(), value)])).unwrap();
    run.until("to be rejected", |run| {
        run.condition("FunctionReady").is_some_and(|(_, reason, message)| {
            reason == "Rejected"
                && message.contains("4096")
                && message.contains("UpdateFunctionConfiguration")
        })
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(run.status.traffic[0].version, "1");
    run.change(|spec| spec.function.env.clear()).unwrap();
    settle(&mut run);
}

#[test]
fn an_environment_never_shows_its_values() {
    let mut run = ready();
    let value = || EnvValue("s3cret".to_owned());
    run.change(|spec| spec.function.env = BTreeMap::from([("PASSWORD".to_owned(), value())])).unwrap();
    settle(&mut run);
    run.change(|spec| {
        spec.function.env = BTreeMap::from([("PASSWORD".to_owned(), EnvValue("n3w".to_owned()))]);
    })
    .unwrap();
    settle(&mut run);
    let told = format!("{:?} {:?}", run.status, run.world.history());
    assert!(told.contains("PASSWORD"));
    assert!(!told.contains("s3cret") && !told.contains("n3w"));
}

#[test]
fn fewer_warm_sandboxes_than_asked_for_are_not_ready() {
    let mut run = ready();
    let name = run.endpoint().names.function.clone();
    run.world.meddle(|a| {
        with_function(a, &name, |function| {
            let version = function.versions.get_mut(&1).unwrap();
            version.provisioned.as_mut().unwrap().available = 1;
        });
    });
    run.ask().unwrap();
    run.pass().unwrap();
    let (status, _, message) = run.condition("CapacityReady").unwrap();
    assert!(status == "False" && message.contains("1 of 2 sandboxes"), "{message}");
    assert!(!run.is_ready());
}

#[test]
fn both_permissions_stand_behind_a_url() {
    let run = ready();
    let name = &run.endpoint().names.function;
    let statements = run.world.look(|a| a.functions[name].alias.as_ref().unwrap().statements.clone());
    assert_eq!(statements.into_keys().collect::<Vec<_>>(), ["larder-invoke-account", "larder-url-account"]);
}

#[test]
fn a_policy_that_is_full_of_others_statements_is_said_to_be() {
    let mut run = ready();
    run.world.meddle(|a| a.broken.policy_bytes = 20_000);
    run.change(|spec| {
        let url = spec.expose.as_mut().unwrap();
        url.function_url.auth_type = AuthType::None;
    })
    .unwrap();
    run.until("to say so", |run| {
        run.condition("Exposed").is_some_and(|(status, reason, message)| {
            status == "False"
                && reason == "QuotaExceeded"
                && ["AddPermission", "PolicyLengthExceededException", "free some of it"]
                    .iter()
                    .all(|part| message.contains(part))
        })
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    assert!(run.condition("Stalled").is_some() && !run.is_ready());
    run.world.meddle(|a| a.broken.policy_bytes = 0);
    settle(&mut run);
}

#[test]
fn code_and_settings_that_change_at_once_are_updated_one_after_the_other() {
    let mut run = ready();
    run.change(|spec| {
        spec.function.image = Some(image("larder-inference", "2"));
        spec.function.memory_mib = 4096;
    })
    .unwrap();
    settle(&mut run);
    assert_eq!(run.world.refused(), Vec::<String>::new());
    let updates = ["update the code of", "update the configuration of"].map(|what| done(&run, what));
    assert!(updates.iter().all(|times| times.len() == 1), "{updates:?}: {:#?}", run.world.history());
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("2"));
}

#[test]
fn a_function_that_is_pending_is_waited_for() {
    let world = world();
    world.meddle(|a| a.delays.function = Duration::from_mins(5));
    let mut run = run_of(world, object());
    settle(&mut run);
    assert_eq!(run.world.refused(), Vec::<String>::new());
}

#[test]
fn more_than_fifteen_writes_a_second_are_spread() {
    let mut run = ready();
    run.world.set_page_size(1);
    run.change(|spec| spec.rollout.history_limit = 100).unwrap();
    for memory in 1000..1025 {
        run.change(|spec| spec.function.memory_mib = memory).unwrap();
        settle(&mut run);
    }
    assert_eq!(run.status.history.len(), 26);
    run.change(|spec| spec.rollout.history_limit = 0).unwrap();
    settle(&mut run);
    assert!(run.world.refused().iter().any(|told| told.contains("TooManyRequests")));
    assert_eq!(run.status.history.len(), 1);
}

#[test]
fn what_people_change_by_hand_is_put_back() {
    fn alias(function: &mut Function) -> &mut larder_tests::world::account::Alias {
        function.alias.as_mut().unwrap()
    }
    let drifts: [(&str, fn(&mut Function)); 14] = [
        ("memory", |f| f.latest.config.memory_mib = 128),
        ("environment", |f| f.latest.config.env.clear()),
        ("reserved concurrency", |f| f.reserved = Some(100)),
        ("the role", |f| "arn:aws:iam::111122223333:role/other".clone_into(&mut f.latest.config.role)),
        ("a layer", |f| f.latest.config.start.layers.push("arn:layer".to_owned())),
        ("the image's command", |f| f.latest.config.start.overrides.push("sh".to_owned())),
        ("the URL's authorisation", |f| {
            "NONE".clone_into(&mut alias(f).url.as_mut().unwrap().auth_type);
        }),
        ("the URL's invoke mode", |f| {
            "RESPONSE_STREAM".clone_into(&mut alias(f).url.as_mut().unwrap().invoke_mode);
        }),
        ("the URL's CORS", |f| alias(f).url.as_mut().unwrap().has_cors = true),
        ("a permission too many", |f| {
            let everyone = Permission { action: PermissionAction::InvokeFunctionUrl, public: true };
            alias(f).statements.insert(everyone.statement().to_owned(), everyone.into());
        }),
        ("a permission of another kind", |f| {
            alias(f).statements.get_mut("larder-url-account").unwrap().public = true;
        }),
        ("a permission without its condition", |f| {
            alias(f).statements.get_mut("larder-invoke-account").unwrap().condition = None;
        }),
        ("no permissions", |f| alias(f).statements.clear()),
        ("no provisioned concurrency", |f| f.versions.get_mut(&1).unwrap().provisioned = None),
    ];
    for (what, drift) in drifts {
        let mut run = ready();
        let name = run.endpoint().names.function.clone();
        let end = run.end();
        run.world.meddle(|a| with_function(a, &name, drift));
        assert_ne!(run.end(), end, "{what}");
        run.checks_truth = false;
        run.pass().unwrap();
        settle(&mut run);
        assert_eq!(run.end(), end, "{what}");
    }
}

// ---- Lists ----

#[test]
fn lists_are_read_to_their_end() {
    let world = world();
    world.set_page_size(1);
    for i in 0..20 {
        world.put_object(BUCKET, &format!("ocr/part-{i}"), 1000, &i.to_string());
    }
    // Other access points on the same file system, before and behind ours.
    let mut object = object();
    object.spec.storage.efs.managed = None;
    object.spec.storage.efs.file_system_id = Some(BROUGHT.to_owned());
    let mut other = object.clone();
    other.metadata.uid = Some("uid-2".to_owned());
    other.metadata.name = Some("other".to_owned());
    let mut first = run_of(world.clone(), other);
    settle(&mut first);
    let mut run = run_of(world, object);
    settle(&mut run);
    assert_eq!(run.status.models[0].files, 22);
    run.world.look(|a| assert_eq!(a.access_points.len(), 2));
    let end = first.end();
    run.delete().unwrap();
    settle(&mut run);
    assert_eq!(run.end(), Vec::<String>::new());
    assert_eq!(first.end(), end, "the neighbour on the same file system stays as it is");
}
