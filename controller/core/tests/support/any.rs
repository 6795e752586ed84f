//! Any endpoint, and anything that AWS may be seen to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use jiff::Timestamp;
use larder_contract::revision::copy_name;
use larder_contract::sync::{ModelReport, ModelState, SyncReport};
use larder_contract::upkeep::{Inventory, NamedRevision, StoredManifest, StoredRevision, Verified};
use larder_contract::{Digest, layout};
use larder_core::desired::Want;
use larder_core::endpoint::{Architecture, CodeRef, FileSystemRef};
use larder_core::observed::{
    AccessPoint, Alias, Code, EventRule, FileSystem, Function, FunctionConfig, FunctionUrl, LastUpdate,
    LogGroup, MountTarget, ObservedEvents, ObservedFunction, Package, Provisioned, ProvisionedStatus, Queue,
    Read, Source, Start, Subnet, Trial, Version,
};
use larder_core::plan::rollout::Record;
use larder_core::{Class, Defaults, Desired, Endpoint, Observed, Problem, Remote};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;

const SUBNETS: [(&str, &str); 3] = [("subnet-a", "zone-a"), ("subnet-b", "zone-b"), ("subnet-c", "zone-a")];
const GROUPS: [&str; 2] = ["sg-a", "sg-b"];
const ROLE: &str = "arn:aws:iam::111122223333:role/larder";

fn content(n: u8) -> Digest {
    Digest::of(&[n])
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let storage = select(vec![
        json!({"managed": {}}),
        json!({"managed": {"throughput": {"mode": "Bursting"}}}),
        json!({"fileSystemId": "fs-1"}),
    ]);
    let capacity = select(vec![
        json!({}),
        json!({"provisioned": 2}),
        json!({"provisioned": 1, "reserved": 8}),
        json!({"reserved": 8}),
    ]);
    let expose = select(vec![
        None,
        Some(json!({"functionUrl": {"authType": "AWS_IAM"}})),
        Some(json!({"functionUrl": {"authType": "NONE"}})),
    ]);
    let pin = proptest::option::weighted(0.2, 0u8..3);
    let function =
        (select(vec![1024, 2048]), proptest::option::of("[a-z]{0,3}"), select(vec!["arm64", "x86_64"]));
    (
        (storage, capacity, expose, function),
        (
            1usize..3,
            pin,
            any::<bool>(),
            select(vec!["None", "EventBridge"]),
            subsequence(SUBNETS.to_vec(), 1..3),
            subsequence(GROUPS.to_vec(), 1..2),
        ),
        (rollout(), select(vec!["Delete", "RetainData", "Retain"]), proptest::bool::weighted(0.25)),
    )
        .prop_map(|((storage, capacity, expose, function), network, (rollout, deletion, deleting))| {
            let (models, pin, preload, events, subnets, groups) = network;
            let model = |n: usize| {
                let mut model = json!({
                    "name": format!("m{n}"),
                    "preload": preload,
                    "source": {"s3": {"bucket": "models", "prefix": format!("m{n}/"), "events": events}},
                });
                if let Some(pin) = pin {
                    model["digest"] = content(pin).to_string().into();
                }
                model
            };
            let (memory, env, architecture) = function;
            let mut object = json!({
                "apiVersion": "larder.dev/v1alpha1",
                "kind": "InferenceEndpoint",
                "metadata": {"name": "signs", "namespace": "vision", "uid": "1", "generation": 3},
                "spec": {
                    "models": (0..models).map(model).collect::<Vec<_>>(),
                    "storage": {"efs": storage},
                    "network": {
                        "subnetIds": subnets.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
                        "securityGroupIds": groups,
                    },
                    "function": {
                        "image": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/inference:1",
                        "memoryMiB": memory,
                        "architecture": architecture,
                        "roleArn": ROLE,
                        "env": env.map_or_else(|| json!({}), |value| json!({"LEVEL": value})),
                    },
                    "capacity": capacity,
                    "rollout": rollout,
                    "deletionPolicy": deletion,
                },
            });
            if let Some(expose) = expose {
                object["spec"]["expose"] = expose;
            }
            if deleting {
                object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let defaults = Defaults {
                source_hosts: Vec::new(),
                source_ca: None,
                sync_bytes_per_second: 64 << 20,
                cluster: "c".to_owned(),
                scope: None,
                region: Some("eu-west-1".to_owned()),
                sync_code: CodeRef::Zip {
                    bucket: "code".to_owned(),
                    key: "sync.zip".to_owned(),
                    version_id: None,
                },
            };
            Endpoint::parse(&serde_json::from_value(object).unwrap(), &defaults).unwrap()
        })
}

fn rollout() -> impl Strategy<Value = serde_json::Value> {
    let steps = select(vec![
        json!([]),
        json!([{"weightPercent": 10, "holdSeconds": 60}]),
        json!([{"weightPercent": 5, "holdSeconds": 0}, {"weightPercent": 50, "holdSeconds": 120}]),
    ]);
    let abort_on = select(vec![json!(null), json!({"errorRatePercent": 1}), json!({"alarms": ["a"]})]);
    let smoke_test = select(vec![json!(null), json!({"model": "m0", "inputs": "a"})]);
    let all = (0i32..3, steps, abort_on, smoke_test, any::<bool>());
    all.prop_map(|(history, steps, abort_on, smoke_test, prepares)| {
        let strategy = if steps == json!([]) { "AllAtOnce" } else { "Canary" };
        json!({
            "historyLimit": history,
            "strategy": strategy,
            "steps": steps,
            "abortOn": if strategy == "Canary" { abort_on } else { json!(null) },
            "smokeTest": smoke_test,
            "prepareModels": prepares,
        })
    })
}

fn remote<T: Clone + Debug>(it: impl Strategy<Value = T>) -> impl Strategy<Value = Remote<T>> {
    (it, 0u8..12).prop_map(|(it, kind)| match kind {
        0 => Remote::Absent,
        1 => Remote::Pending(it),
        2 => Remote::Deleting(it),
        3 => Remote::Failed { it, reason: "why".to_owned() },
        4 => Remote::Foreign { owner: String::new(), id: "id".to_owned() },
        5 => Remote::Foreign { owner: "else".to_owned(), id: "id".to_owned() },
        _ => Remote::Ready(it),
    })
}

fn read<T: Clone + Debug>(it: impl Strategy<Value = T>) -> impl Strategy<Value = Read<T>> {
    let class =
        select(vec![Class::NotFound, Class::Conflict, Class::Throttled, Class::Transient, Class::Denied]);
    (it, class, 0u8..20).prop_map(|(it, class, kind)| {
        if kind > 0 {
            return Ok(it);
        }
        Err(Problem {
            operation: "Describe",
            resource: "it".to_owned(),
            class,
            code: "Code".to_owned(),
            message: "message".to_owned(),
            request_id: None,
        })
    })
}

fn mount_targets() -> impl Strategy<Value = Vec<MountTarget>> {
    let states =
        select(vec!["available", "available", "creating", "updating", "deleting", "deleted", "error"]);
    let one = (select(SUBNETS.to_vec()), states, subsequence(GROUPS.to_vec(), 1..2));
    proptest::collection::vec(one, 0..4).prop_map(|all| {
        // One a zone, as EFS has it.
        let by_zone: BTreeMap<_, _> = all.into_iter().map(|it| (it.0.1, it)).collect();
        by_zone
            .into_values()
            .map(|((subnet, zone), state, groups)| MountTarget {
                id: format!("fsmt-{zone}"),
                subnet: subnet.to_owned(),
                zone: zone.to_owned(),
                state: state.to_owned(),
                security_groups: groups.into_iter().map(str::to_owned).collect(),
            })
            .collect()
    })
}

pub(crate) fn lambda(name: String) -> impl Strategy<Value = Function> {
    let update = select(vec![
        LastUpdate::Successful,
        LastUpdate::Successful,
        LastUpdate::InProgress,
        LastUpdate::Failed("why".to_owned()),
    ]);
    let manifest = proptest::option::of(0u8..3);
    let config = (
        select(vec![1024, 2048]),
        manifest,
        subsequence(SUBNETS.to_vec(), 1..3),
        subsequence(GROUPS.to_vec(), 1..2),
        any::<bool>(),
        select(vec![Vec::new(), Vec::new(), vec!["sh".to_owned()]]),
    );
    let modified = proptest::option::of((0i64..3).prop_map(|hours| at(-3600 * hours)));
    (config, 0u8..3, update, proptest::option::of(select(vec![8, 20])), any::<bool>(), modified).prop_map(
        move |(
            (memory, manifest, subnets, groups, mounted, overrides),
            code,
            last_update,
            reserved,
            is_arm,
            modified,
        )| {
            let mut env = BTreeMap::from([(layout::ENV_MEMORY.to_owned(), memory.to_string())]);
            if let Some(manifest) = manifest {
                env.insert(layout::ENV_MANIFEST.to_owned(), content(manifest).to_string());
            }
            Function {
                name: name.clone(),
                arn: format!("arn:{name}"),
                code_digest: content(code).to_string(),
                code_sha256: String::new(),
                architecture: if is_arm { Architecture::Arm64 } else { Architecture::X86_64 },
                config: FunctionConfig {
                    role: ROLE.to_owned(),
                    memory_mib: memory,
                    timeout_seconds: 30,
                    ephemeral_mib: 512,
                    env,
                    subnets: subnets.into_iter().map(|(id, _)| id.to_owned()).collect(),
                    security_groups: groups.into_iter().map(str::to_owned).collect(),
                    mount: mounted.then(|| ("arn:ap".to_owned(), layout::MOUNT_PATH.to_owned())),
                    start: Start { overrides, ..Start::default() },
                },
                last_update,
                revision_id: "r".to_owned(),
                reserved,
                last_modified: "then".to_owned(),
                modified,
            }
        },
    )
}

fn observed_function(name: &str) -> impl Strategy<Value = ObservedFunction> + use<> {
    let code = (0u8..3).prop_map(|n| {
        let digest = content(n).to_string();
        Code { package: Package::Image { uri: format!("inference@{digest}") }, digest }
    });
    let group = select(vec![None, Some(30), Some(7)]).prop_map(|retention_days| LogGroup { retention_days });
    // A log group is there or not.
    let group = remote(group).prop_map(|it| match it {
        Remote::Pending(it) | Remote::Deleting(it) | Remote::Failed { it, .. } => Remote::Ready(it),
        it @ (Remote::Absent | Remote::Ready(_) | Remote::Foreign { .. }) => it,
    });
    (read(code), read(remote(lambda(name.to_owned()))), read(group))
        .prop_map(|(code, function, log_group)| ObservedFunction { code, function, log_group })
}

fn provisioned() -> impl Strategy<Value = Option<Provisioned>> {
    let status = select(vec![
        ProvisionedStatus::Ready,
        ProvisionedStatus::InProgress,
        ProvisionedStatus::Failed("why".to_owned()),
    ]);
    let changed = proptest::option::of((0i64..3).prop_map(|hours| at(-3600 * hours)));
    proptest::option::of((1i32..3, 0i32..3, status, changed).prop_map(
        |(requested, available, status, changed)| Provisioned {
            requested,
            available: available.min(requested),
            status,
            changed,
        },
    ))
}

fn versions(name: &str) -> impl Strategy<Value = Vec<Version>> + use<> {
    let function = lambda(name.to_owned()).prop_flat_map(|it| {
        select(vec![Remote::Ready(it.clone()), Remote::Ready(it.clone()), Remote::Pending(it)])
    });
    proptest::collection::btree_map(1u64..5, (function, provisioned()), 0..4).prop_map(|all| {
        let version = |(number, (function, provisioned))| Version { number, function, provisioned };
        all.into_iter().map(version).collect()
    })
}

fn report(models: usize) -> impl Strategy<Value = SyncReport> {
    let states = select(vec![
        ModelState::Pending,
        ModelState::Syncing,
        ModelState::Ready,
        ModelState::Failed,
        ModelState::SourceChanged,
    ]);
    (states, any::<bool>(), any::<bool>(), 0u8..3).prop_map(move |(state, present, running, revision)| {
        let model = |n| ModelReport {
            model: format!("m{n}"),
            revision: content(revision),
            state: if present { ModelState::Ready } else { state },
            bytes_done: 1,
            bytes_total: 2,
            files: 1,
            files_done: 0,
            message: String::new(),
            bytes_per_second: None,
            remaining_seconds: None,
            workers: Vec::new(),
        };
        SyncReport {
            models: (0..models).map(model).collect(),
            manifest_present: present,
            running,
            inventory: None,
        }
    })
}

/// A source that last changed so many seconds ago.
fn found(revision: Digest, age: i64) -> Source {
    let changed = Timestamp::from_second(-age).unwrap();
    Source::Found { revision, bytes: 2, files: 1, changed, listed: Timestamp::UNIX_EPOCH }
}

/// Revisions, and manifests that name some of them.
fn inventory(models: usize) -> impl Strategy<Value = Inventory> {
    let look =
        proptest::option::of((0u64..2_000, proptest::bool::weighted(0.3)).prop_map(|(at, is_damaged)| {
            Verified { at, damage: if is_damaged { "m: it is not there".to_owned() } else { String::new() } }
        }));
    let mark = || proptest::option::weighted(0.4, 0u64..2_000);
    let revision = (proptest::bool::weighted(0.8), 0u64..2_000, mark(), look, proptest::bool::weighted(0.1));
    let revision =
        (0u8..6, 0u32..3, revision).prop_map(|(n, nth, (is_complete, copied, marked, verified, busy))| {
            StoredRevision {
                revision: copy_name(&content(n), nth),
                is_complete,
                bytes: 1,
                copied,
                marked,
                verified: verified.filter(|_| is_complete),
                is_verifying: busy,
            }
        });
    let manifest = (0u8..4, proptest::collection::vec((0u8..6, 0u32..2), models), mark());
    let manifest = manifest.prop_map(|(n, named, marked)| StoredManifest {
        manifest: content(n),
        models: (0..)
            .zip(named)
            .map(|(m, (n, nth))| NamedRevision {
                model: format!("m{m}"),
                revision: copy_name(&content(n), nth),
            })
            .collect(),
        marked,
    });
    let revisions = proptest::collection::vec(revision, 0..8);
    let manifests = proptest::collection::vec(manifest, 0..5);
    (revisions, manifests, proptest::bool::weighted(0.1), proptest::bool::weighted(0.1)).prop_map(
        |(mut revisions, mut manifests, is_deleting, is_shared)| {
            revisions.sort_by_key(|it| it.revision);
            revisions.dedup_by_key(|it| it.revision);
            manifests.sort_by_key(|it| it.manifest);
            manifests.dedup_by_key(|it| it.manifest);
            let others = if is_shared { vec!["c/vision/other".to_owned()] } else { Vec::new() };
            Inventory { now: 2_000, revisions, manifests, is_deleting, others, ..Inventory::default() }
        },
    )
}

/// What makes S3 tell of changes: there or not, ours or not, right or not.
fn events(endpoint: &Endpoint) -> impl Strategy<Value = ObservedEvents> + use<> {
    fn there<T: Clone + Debug>(it: impl Strategy<Value = T>) -> impl Strategy<Value = Remote<T>> {
        (it, 0u8..8).prop_map(|(it, kind)| match kind {
            0 | 1 => Remote::Absent,
            2 => Remote::Foreign { owner: "else".to_owned(), id: "id".to_owned() },
            _ => Remote::Ready(it),
        })
    }
    let right = match Desired::of(endpoint).events {
        Want::Present(events) => events.pattern,
        Want::Absent | Want::Leave => String::new(),
    };
    let queue = any::<bool>().prop_map(|takes_events| Queue {
        url: "https://queue".to_owned(),
        arn: "arn:queue".to_owned(),
        takes_events,
    });
    let targets = subsequence(vec![("larder", "arn:queue"), ("larder", "arn:other"), ("x", "arn:x")], 0..3);
    let rule = (select(vec![right, "{}".to_owned()]), any::<bool>(), targets).prop_map(
        |(pattern, is_enabled, targets)| EventRule {
            pattern,
            is_enabled,
            targets: targets.into_iter().map(|(id, arn)| (id.to_owned(), arn.to_owned())).collect(),
        },
    );
    let former = read(proptest::option::of(Just(Queue {
        url: "https://former".to_owned(),
        arn: "arn:other".to_owned(),
        takes_events: true,
    })));
    let bucket = read(any::<bool>());
    let all = (read(there(queue)), former, read(there(rule)), read(any::<bool>()), bucket);
    (any::<bool>(), all).prop_map(|(is_announced, (queue, former, rule, is_shared, bucket))| {
        if !is_announced {
            return ObservedEvents::default();
        }
        let buckets = BTreeMap::from([("models".to_owned(), bucket)]);
        // It is known by our rule alone.
        let sends = |rule: &EventRule| rule.targets.get("larder").is_some_and(|arn| arn == "arn:other");
        let is_left = rule.as_ref().is_ok_and(|rule| rule.ours().is_some_and(sends));
        let former = if is_left { former } else { Ok(None) };
        ObservedEvents { is_announced, queue, former, rule, is_shared, buckets }
    })
}

/// Everything at random, held together only as `observe` holds it together.
fn observed(endpoint: &Endpoint) -> impl Strategy<Value = Observed> + use<> {
    let names = endpoint.names.clone();
    let wanted: Vec<Subnet> = SUBNETS
        .iter()
        .filter(|(id, _)| endpoint.subnets.contains(*id))
        .map(|(id, zone)| Subnet { id: (*id).to_owned(), zone: (*zone).to_owned(), vpc: "vpc-1".to_owned() })
        .collect();
    let mode = select(vec!["elastic", "bursting"]);
    let file_system = mode.prop_map(|mode| FileSystem {
        id: "fs-1".to_owned(),
        throughput_mode: mode.to_owned(),
        is_encrypted: true,
        burst_credits: (mode == "bursting").then_some(1 << 30),
        kms_key_id: None,
    });
    let access_point =
        Just(AccessPoint::of(&endpoint.access_point, "fsap-1".to_owned(), "arn:ap".to_owned()));
    let source = || {
        (0u8..3, 0u8..8, 0i64..100).prop_map(|(n, kind, age)| match kind {
            0 => Source::Empty,
            1 => Source::Unusable("a key".to_owned()),
            2 => Source::Unmarked("a marker".to_owned()),
            _ => found(content(n), age),
        })
    };
    let models: Vec<String> = endpoint.models.iter().map(|m| m.name.clone()).collect();
    let sources = proptest::collection::vec(read(source()), models.len())
        .prop_map(move |sources| models.iter().cloned().zip(sources).collect::<BTreeMap<_, _>>());
    let statements =
        ["larder-url-public", "larder-url-account", "larder-invoke-public", "larder-invoke-account"];
    let permissions = (subsequence(statements.to_vec(), 0..=4), proptest::bool::weighted(0.8)).prop_map(
        |(all, is_as_named)| {
            all.into_iter().map(|id| (id.to_owned(), is_as_named)).collect::<BTreeMap<_, _>>()
        },
    );
    let url = proptest::option::of(
        (
            select(vec!["AWS_IAM", "NONE"]),
            select(vec!["BUFFERED", "BUFFERED", "RESPONSE_STREAM"]),
            any::<bool>(),
        )
            .prop_map(|(auth_type, invoke_mode, has_cors)| FunctionUrl {
                url: "https://it/".to_owned(),
                auth_type: auth_type.to_owned(),
                invoke_mode: invoke_mode.to_owned(),
                has_cors,
            }),
    );
    let second = proptest::option::weighted(0.2, (1u64..5, 1u8..100));
    let alias =
        proptest::option::of((1u64..5, second, description()).prop_map(|(version, second, description)| {
            Alias { version, second, description, revision_id: "r".to_owned() }
        }));
    (
        (read(Just(wanted)), read(remote(file_system)), read(mount_targets()), read(remote(access_point))),
        (
            observed_function(&names.sync_function),
            sources,
            read(proptest::option::of(report(endpoint.models.len()))),
            read(proptest::option::weighted(0.9, inventory(endpoint.models.len()))),
        ),
        (observed_function(&names.function), read(versions(&names.function))),
        (read(alias), read(url), read(permissions), events(endpoint)),
    )
        .prop_map(
            |(
                storage,
                (sync, sources, sync_report, stored),
                (inference, versions),
                (alias, url, permissions, events),
            )| {
                let (subnets, file_system, mount_targets, access_point) = storage;
                let mut seen = Observed {
                    at: Timestamp::UNIX_EPOCH,
                    was_converged: false,
                    subnets,
                    file_system,
                    known_file_system: None,
                    mount_targets,
                    access_point,
                    other_access_points: Ok(Vec::new()),
                    interfaces: Ok(Vec::new()),
                    sync,
                    sources,
                    stored,
                    sync_report,
                    inference,
                    versions,
                    alias,
                    url,
                    trial: Trial::default(),
                    permissions,
                    events,
                };
                hold_together(&mut seen);
                seen
            },
        )
}

/// Seconds after the moment of the observation.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// What an alias's description may say of a rollout, of versions and times that fit or do not.
fn description() -> impl Strategy<Value = String> {
    let record =
        (1u64..5, 0usize..3, -7200i64..100, 0u8..3).prop_map(|(version, step, since, kind)| match kind {
            0 => Record::Step {
                version,
                step,
                percent: 10,
                since: at(since),
                begun: at(since - 60),
                paused: None,
            },
            1 => Record::Done { version, since: at(since) },
            _ => Record::Aborted { version, at: at(since), why: "it failed".to_owned() },
        });
    prop_oneof![Just("the live one".to_owned()), record.prop_map(|record| record.to_string())]
}

/// Nothing hangs on what is not there.
fn hold_together(seen: &mut Observed) {
    if seen.file_system.as_ref().is_ok_and(Remote::is_gone) {
        seen.mount_targets = Ok(Vec::new());
        seen.access_point = Ok(Remote::Absent);
    }
    match &seen.inference.function {
        Ok(function) if function.is_gone() => {
            seen.versions = Ok(Vec::new());
            seen.alias = Ok(None);
        }
        Ok(_) => {}
        Err(problem) => {
            seen.versions = Err(problem.clone());
            seen.alias = Err(problem.clone());
            seen.url = Err(problem.clone());
        }
    }
    if let Err(problem) = &seen.alias {
        seen.permissions = Err(problem.clone());
    }
    if let (Ok(versions), Ok(Some(alias))) = (&seen.versions, &seen.alias) {
        let is_there = |n| versions.iter().any(|v| v.number == n);
        if !is_there(alias.version) || alias.second.is_some_and(|(n, _)| !is_there(n)) {
            seen.alias = Ok(None);
        }
    }
    if seen.alias == Ok(None) {
        seen.url = Ok(None);
        seen.permissions = Ok(BTreeMap::new());
    }
}

/// The same with nothing in it that only a person can mend.
fn mend(endpoint: &mut Endpoint, seen: &mut Observed) {
    fn ours<T: Clone>(read: &mut Read<Remote<T>>) {
        if !matches!(read, Ok(it) if !matches!(it, Remote::Foreign { .. })) {
            *read = Ok(Remote::Absent);
        }
    }
    // What took too long, or was taken back, waits for a person.
    endpoint.rollout.progress_deadline = std::time::Duration::from_hours(24);
    if let Ok(Some(alias)) = &mut seen.alias
        && matches!(Record::parse(&alias.description), Some(Record::Aborted { .. }))
    {
        alias.description.clear();
    }
    let zones: BTreeMap<&str, &str> = SUBNETS.iter().map(|(id, zone)| (*id, *zone)).collect();
    let subnet =
        |id: &String| Subnet { id: id.clone(), zone: zones[id.as_str()].to_owned(), vpc: "vpc-1".to_owned() };
    seen.subnets = Ok(endpoint.subnets.iter().map(subnet).collect());
    ours(&mut seen.file_system);
    if let Ok(Remote::Failed { it, .. }) = &seen.file_system {
        seen.file_system = Ok(Remote::Ready(it.clone()));
    }
    ours(&mut seen.access_point);
    if seen.mount_targets.is_err() {
        seen.mount_targets = Ok(Vec::new());
    }
    // A mount target of others would hold a deletion up.
    for mt in seen.mount_targets.iter_mut().flatten() {
        mt.security_groups.clone_from(&endpoint.security_groups);
    }
    if matches!(endpoint.file_system, FileSystemRef::Existing(_)) {
        let it = FileSystem {
            id: "fs-1".to_owned(),
            throughput_mode: "bursting".to_owned(),
            is_encrypted: false,
            burst_credits: None,
            kms_key_id: None,
        };
        seen.file_system = Ok(Remote::Ready(it));
        let target = |(subnet, zone): &(&str, &str)| MountTarget {
            id: format!("fsmt-{zone}"),
            subnet: (*subnet).to_owned(),
            zone: (*zone).to_owned(),
            state: "available".to_owned(),
            security_groups: BTreeSet::new(),
        };
        seen.mount_targets = Ok(SUBNETS[..2].iter().map(target).collect());
    }
    ours(&mut seen.events.queue);
    ours(&mut seen.events.rule);
    if seen.events.former.is_err() {
        seen.events.former = Ok(None);
    }
    if seen.events.is_shared.is_err() {
        seen.events.is_shared = Ok(false);
    }
    for sends in seen.events.buckets.values_mut().filter(|sends| sends.is_err()) {
        *sends = Ok(false);
    }
    if endpoint.models.iter().any(|model| model.has_events) {
        seen.events.buckets.entry("models".to_owned()).or_insert(Ok(false));
    }
    for function in [&mut seen.sync, &mut seen.inference] {
        ours(&mut function.function);
        ours(&mut function.log_group);
        let digest = content(0).to_string();
        let package = Package::Image { uri: "inference".to_owned() };
        function.code = Ok(Code { package, digest });
    }
    for model in &endpoint.models {
        let revision = model.pin.unwrap_or(content(0));
        seen.sources.insert(model.name.clone(), Ok(found(revision, 100)));
    }
    if endpoint.deleting {
        seen.sources.clear();
    }
    if seen.sync_report.is_err() || !matches!(seen.sync.function, Ok(Remote::Ready(_))) {
        seen.sync_report = Ok(None);
    }
    if seen.stored.is_err() || !matches!(seen.sync.function, Ok(Remote::Ready(_))) {
        seen.stored = Ok(None);
    }
    if seen.versions.is_err() {
        seen.versions = Ok(Vec::new());
    }
    if seen.alias.is_err() {
        seen.alias = Ok(None);
    }
    if seen.url.is_err() {
        seen.url = Ok(None);
    }
    if seen.permissions.is_err() {
        seen.permissions = Ok(BTreeMap::new());
    }
    hold_together(seen);
}

pub(crate) fn any_pair() -> impl Strategy<Value = (Endpoint, Observed)> {
    endpoint().prop_flat_map(|endpoint| {
        let observed = observed(&endpoint);
        (Just(endpoint), observed)
    })
}

pub(crate) fn mended_pair() -> impl Strategy<Value = (Endpoint, Observed)> {
    any_pair().prop_map(|(mut endpoint, mut seen)| {
        mend(&mut endpoint, &mut seen);
        (endpoint, seen)
    })
}

/// A mended pair whose endpoint is not being deleted.
pub(crate) fn living_pair() -> impl Strategy<Value = (Endpoint, Observed)> {
    any_pair().prop_map(|(mut endpoint, mut seen)| {
        endpoint.deleting = false;
        mend(&mut endpoint, &mut seen);
        (endpoint, seen)
    })
}
