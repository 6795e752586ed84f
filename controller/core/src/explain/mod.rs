//! Why an endpoint is ready or not, as a tree: a branch for each condition, a leaf for each model that is
//! not there and each mount target that is not available. Each line names the calls behind it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use larder_crds::status::{InferenceEndpointStatus, ModelStatus};
use serde::Serialize;

use crate::plan::{Area, Plans};
use crate::status::{is_progress, progress_in_words, size};

mod special;

/// How one part of an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    /// As wanted.
    Ready,
    /// On its way, by itself.
    Progressing,
    /// Not on its way: the message says what is wrong.
    Failing,
}

/// A line of the tree, and those under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    /// The condition's type, the model's name or the mount target's id.
    pub name: String,
    /// How it is.
    pub state: State,
    /// The condition's reason, the model's state or the mount target's.
    pub reason: String,
    /// What is there, or what is missing and what to do.
    pub message: String,
    /// The operations of AWS's API that tell so, or that come next, or that failed.
    pub calls: Vec<String>,
    /// What it is made of, where that is worth a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Branch>,
}

/// The tree of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// It serves what this generation of the spec asks for.
    pub ready: bool,
    /// The conditions, in the order in which a create goes through them.
    pub conditions: Vec<Branch>,
    /// What the reader must know of the rest: how it was found out, and what may be old about it.
    pub notes: Vec<String>,
}

/// A look at AWS.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// What is to be done by it.
    pub plans: &'a Plans,
    /// The status that the controller wrote last: it alone knows which of the planned steps failed.
    pub written: &'a InferenceEndpointStatus,
    /// The model-sync function's name.
    pub sync_function: &'a str,
}

/// Explains an object of this `generation` from a `status`: the one that a look at AWS came to, or else its own.
#[must_use]
pub fn explain(
    (namespace, name): (&str, &str),
    generation: i64,
    status: &InferenceEndpointStatus,
    looked: Option<Look<'_>>,
) -> Explanation {
    let written = looked.map(|look| look.written);
    let sync = match (looked, &status.function) {
        (Some(look), _) => format!("Invoke {}", look.sync_function),
        (None, Some(function)) => format!("Invoke {}-sync", function.name),
        (None, None) => "Invoke of the model-sync function".to_owned(),
    };
    let mut conditions = special::obstacles(written.unwrap_or(status));
    conditions.extend(special::drifted(status));
    conditions.extend(special::slow(written.unwrap_or(status)));
    for area in Area::ALL {
        let Some(condition) = condition(status, area.condition()) else { continue };
        let failed = written
            .filter(|_| condition.reason == "InProgress")
            .and_then(|written| self::condition(written, area.condition()))
            .filter(|c| c.status == "False" && !is_progress(&c.reason));
        let steps = looked.map_or(&[][..], |look| look.plans.get(area).steps());
        let steps = steps.iter().map(|step| step.operation().to_owned()).collect();
        conditions.push(branch(area, failed.unwrap_or(condition), status, &sync, steps));
    }
    let is_current = status.observed_generation == Some(generation);
    let ready = condition(status, "Ready")
        .is_some_and(|c| c.status == "True" && c.observed_generation.is_none_or(|of| of == generation));
    Explanation {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ready: ready
            && is_current
            && !conditions.iter().any(|it| it.state == State::Failing && !is_apart(it)),
        notes: notes(generation, status, looked.is_some()),
        conditions,
    }
}

fn condition<'a>(status: &'a InferenceEndpointStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == type_)
}

/// `Ready` does not wait for it.
fn is_apart(branch: &Branch) -> bool {
    Area::ALL.iter().any(|area| area.condition() == branch.name && !area.is_part_of_ready())
}

fn branch(
    area: Area,
    condition: &Condition,
    status: &InferenceEndpointStatus,
    sync: &str,
    steps: Vec<String>,
) -> Branch {
    let is_ready = condition.status == "True";
    let state = if is_ready {
        State::Ready
    } else if is_progress(&condition.reason) {
        State::Progressing
    } else {
        State::Failing
    };
    let failed = (state == State::Failing).then(|| call_of(&condition.message)).flatten();
    let calls = match failed {
        Some(call) => vec![call],
        None if !steps.is_empty() => steps,
        None => reads(area, status, sync),
    };
    let message = if is_ready { held(area, status) } else { None };
    let parts = match area {
        Area::Storage => mount_targets(status),
        Area::Models => models(status, sync),
        Area::Function
        | Area::Capacity
        | Area::Traffic
        | Area::Exposure
        | Area::Events
        | Area::History
        | Area::Upkeep => Vec::new(),
    };
    Branch {
        name: condition.type_.clone(),
        state,
        reason: condition.reason.clone(),
        message: message.unwrap_or_else(|| condition.message.clone()),
        calls,
        parts,
    }
}

/// The operation that a message about a failure begins with: `CreateAlias of function … failed: …`, perhaps
/// after `model …: `.
fn call_of(message: &str) -> Option<String> {
    let (before, _) = message.split_once(" failed")?;
    let (operation, _) = before.split_once(" of ")?;
    let operation = operation.rsplit(' ').next()?;
    let is_one = operation.starts_with(|c: char| c.is_ascii_uppercase())
        && operation.chars().all(|c| c.is_ascii_alphanumeric());
    is_one.then(|| operation.to_owned())
}

/// The calls that tell how an area is.
fn reads(area: Area, status: &InferenceEndpointStatus, sync: &str) -> Vec<String> {
    let calls: &[&str] = match area {
        Area::Storage => &["DescribeFileSystems", "DescribeMountTargets", "DescribeAccessPoints"],
        Area::Models => return vec!["ListObjectsV2".to_owned(), sync.to_owned()],
        Area::Function => &["GetFunction", "ListVersionsByFunction"],
        Area::Capacity => &["GetProvisionedConcurrencyConfig"],
        // What a version that takes a share has done is asked only while it does.
        Area::Traffic if status.traffic.len() > 1 => &["GetAlias", "GetMetricData", "DescribeAlarms"],
        Area::Traffic => &["GetAlias"],
        Area::Exposure => &["GetFunctionUrlConfig", "GetPolicy"],
        Area::Events => match &status.events {
            Some(_) => &["GetQueueAttributes", "DescribeRule", "GetBucketNotificationConfiguration"],
            None => &[],
        },
        Area::History => &["ListVersionsByFunction", "GetProvisionedConcurrencyConfig"],
        Area::Upkeep => return vec![sync.to_owned()],
    };
    calls.iter().map(|&call| call.to_owned()).collect()
}

/// What an area that is as wanted holds.
fn held(area: Area, status: &InferenceEndpointStatus) -> Option<String> {
    match area {
        Area::Storage => {
            let storage = status.storage.as_ref()?;
            let available = storage.mount_targets.iter().filter(|mt| mt.state == "available").count();
            let all = storage.mount_targets.len();
            Some(format!(
                "{}: {available} of {all} mount targets available",
                storage.file_system_id.as_ref()?
            ))
        }
        Area::Models => {
            let bytes = status.models.iter().map(|m| m.bytes).fold(0, i64::saturating_add);
            let files = status.models.iter().map(|m| m.files).fold(0, i64::saturating_add);
            let ready = status.models.iter().filter(|m| m.state == "Ready").count();
            Some(format!("{ready} of {} models, {} in {files} files", status.models.len(), size(bytes)))
        }
        Area::Function => {
            let function = status.function.as_ref()?;
            let newest = status.history.first().map(|it| format!(", newest version {}", it.version));
            Some(format!("{}{}", function.name, newest.unwrap_or_default()))
        }
        Area::Capacity => Some(match &status.capacity {
            Some(it) => format!("{} of {} sandboxes are warm", it.available, it.requested),
            None => "no sandboxes are to be kept warm".to_owned(),
        }),
        Area::Traffic => {
            let share = |it: &larder_crds::status::TrafficStatus| {
                format!("version {} takes {} %", it.version, it.percent)
            };
            let shares: Vec<String> = status.traffic.iter().map(share).collect();
            (!shares.is_empty()).then(|| shares.join(", "))
        }
        Area::Exposure => Some(status.url.clone().unwrap_or_else(|| "no URL is asked for".to_owned())),
        Area::Events => Some(match &status.events {
            Some(events) => format!("rule {} sends to queue {}", events.rule, events.queue),
            None => "not asked for".to_owned(),
        }),
        Area::History => {
            let others = status.history.len().saturating_sub(status.traffic.len());
            Some(match others {
                1 => "1 older version is kept".to_owned(),
                others => format!("{others} older versions are kept"),
            })
        }
        Area::Upkeep => None,
    }
}

/// The mount targets that are not available.
fn mount_targets(status: &InferenceEndpointStatus) -> Vec<Branch> {
    let all = status.storage.iter().flat_map(|storage| &storage.mount_targets);
    let part = |mt: &larder_crds::status::MountTargetStatus| Branch {
        name: mt.id.clone(),
        state: if mt.state == "error" { State::Failing } else { State::Progressing },
        reason: mt.state.clone(),
        message: format!("in {}", mt.zone),
        calls: vec!["DescribeMountTargets".to_owned()],
        parts: Vec::new(),
    };
    all.filter(|mt| mt.state != "available").map(part).collect()
}

/// The models that are not ready.
fn models(status: &InferenceEndpointStatus, sync: &str) -> Vec<Branch> {
    let part = |model: &ModelStatus| {
        let (state, calls) = match model.state.as_str() {
            "Failed" => {
                let call = call_of(&model.message);
                (State::Failing, call.map_or_else(|| reads(Area::Models, status, sync), |call| vec![call]))
            }
            "Pending" => (State::Progressing, vec!["ListObjectsV2".to_owned()]),
            _ => (State::Progressing, reads(Area::Models, status, sync).split_off(1)),
        };
        let words = progress_in_words(model);
        Branch {
            name: model.name.clone(),
            state,
            reason: model.state.clone(),
            message: if model.message.is_empty() { words } else { model.message.clone() },
            calls,
            parts: Vec::new(),
        }
    };
    status.models.iter().filter(|model| model.state != "Ready").map(part).collect()
}

fn notes(generation: i64, status: &InferenceEndpointStatus, has_looked: bool) -> Vec<String> {
    if has_looked {
        return vec!["AWS was looked at just now; what failed is as the controller last said.".to_owned()];
    }
    let mut notes = vec!["From the object's status alone; AWS was not asked.".to_owned()];
    match status.observed_generation {
        None => notes.push("The controller has written no status: check that it runs and watches this namespace.".to_owned()),
        Some(of) if of != generation => notes.push(format!(
            "The status is about generation {of}, and the object is at {generation}: the controller has not come to it yet."
        )),
        Some(_) => {}
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_failed_is_read_from_the_message() {
        for (message, call) in [
            (
                "UpdateFunctionCode of function larder-x failed: AccessDenied: no; allow",
                Some("UpdateFunctionCode"),
            ),
            ("model ocr: ListObjectsV2 of bucket b failed: x", Some("ListObjectsV2")),
            ("the copy of the models failed", None),
            ("waiting for mount targets", None),
            ("", None),
        ] {
            assert_eq!(call_of(message).as_deref(), call, "{message}");
        }
    }

    #[test]
    fn an_object_that_no_controller_has_seen_is_not_ready_and_says_so() {
        let explained = explain(("vision", "signs"), 1, &InferenceEndpointStatus::default(), None);
        assert!(!explained.ready && explained.conditions.is_empty());
        assert!(explained.notes.iter().any(|note| note.contains("no status")), "{:?}", explained.notes);
    }

    #[test]
    fn each_area_says_what_it_holds_and_which_calls_tell() {
        use larder_crds::status::{
            CapacityStatus, MountTargetStatus, StorageStatus, TrafficStatus, VersionStatus,
        };
        let areas =
            ["StorageReady", "ModelsSynced", "CapacityReady", "TrafficReady", "EventsReady", "HistoryPruned"];
        let mount_target = |id: &str, state: &str| MountTargetStatus {
            zone: "eu-west-1a".to_owned(),
            id: id.to_owned(),
            state: state.to_owned(),
        };
        let model = |state: &str, message: &str| ModelStatus {
            name: state.to_lowercase(),
            state: state.to_owned(),
            message: message.to_owned(),
            bytes: 1 << 20,
            files: 2,
            ..ModelStatus::default()
        };
        let takes = |version: &str, percent| TrafficStatus { version: version.to_owned(), percent };
        let kept = |version: &str| VersionStatus { version: version.to_owned(), ..VersionStatus::default() };
        let status = |is: &str, traffic: Vec<TrafficStatus>| InferenceEndpointStatus {
            storage: Some(StorageStatus {
                file_system_id: Some("fs-1".to_owned()),
                mount_targets: vec![
                    mount_target("fsmt-1", "available"),
                    mount_target("fsmt-2", "error"),
                    mount_target("fsmt-3", "creating"),
                ],
                ..StorageStatus::default()
            }),
            models: vec![
                model("Ready", ""),
                model("Failed", "ListObjectsV2 of bucket b failed: no"),
                model("Failed", "its marker is missing"),
                model("Pending", ""),
                model("Syncing", ""),
            ],
            capacity: Some(CapacityStatus { requested: 3, available: 2, status: None }),
            traffic,
            history: vec![kept("3"), kept("2"), kept("1")],
            ..told(&areas.map(|area| (area, is, "Waiting", "")))
        };
        let explained = |status: &InferenceEndpointStatus| explain(("n", "x"), 1, status, None).conditions;
        let tree = explained(&status("True", vec![takes("2", 90), takes("3", 10)]));
        let holds: Vec<_> = tree.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(
            holds,
            [
                "fs-1: 1 of 3 mount targets available",
                "1 of 5 models, 5.0 MiB in 10 files",
                "2 of 3 sandboxes are warm",
                "version 2 takes 90 %, version 3 takes 10 %",
                "not asked for",
                "1 older version is kept",
            ]
        );
        let parts =
            |of: usize| tree[of].parts.iter().map(|it| (it.name.as_str(), it.state, it.calls.join(" ")));
        let sync = "Invoke of the model-sync function";
        assert_eq!(
            parts(0).collect::<Vec<_>>(),
            [
                ("fsmt-2", State::Failing, "DescribeMountTargets".to_owned()),
                ("fsmt-3", State::Progressing, "DescribeMountTargets".to_owned()),
            ]
        );
        assert_eq!(
            parts(1).collect::<Vec<_>>(),
            [
                ("failed", State::Failing, "ListObjectsV2".to_owned()),
                ("failed", State::Failing, format!("ListObjectsV2 {sync}")),
                ("pending", State::Progressing, "ListObjectsV2".to_owned()),
                ("syncing", State::Progressing, sync.to_owned()),
            ]
        );
        // What a version that takes a share has done is asked only while it does.
        for (traffic, calls) in [
            (vec![takes("2", 90), takes("3", 10)], "GetAlias GetMetricData DescribeAlarms"),
            (vec![takes("3", 100)], "GetAlias"),
            (Vec::new(), "GetAlias"),
        ] {
            assert_eq!(explained(&status("False", traffic))[3].calls.join(" "), calls);
        }
    }

    #[test]
    fn what_keeps_all_areas_from_being_worked_on_comes_first() {
        for (special, state) in [
            (("Accepted", "False", "InvalidSpec", "spec.models: none"), State::Failing),
            (("Suspended", "True", "Suspended", "spec.management is Suspend"), State::Progressing),
        ] {
            let explained =
                explain(("n", "x"), 1, &told(&[("StorageReady", "True", "Converged", ""), special]), None);
            let [first, storage] = &explained.conditions[..] else { panic!("{explained:?}") };
            assert_eq!(
                (first.name.as_str(), first.state, first.message.as_str()),
                (special.0, state, special.3)
            );
            assert_eq!((storage.name.as_str(), storage.state), ("StorageReady", State::Ready));
        }
        let well = told(&[("Accepted", "True", "Accepted", "the spec is valid")]);
        assert!(explain(("n", "x"), 1, &well, None).conditions.is_empty());
    }

    /// A status of generation 1 with these conditions: type, status, reason, message.
    fn told(conditions: &[(&str, &str, &str, &str)]) -> InferenceEndpointStatus {
        let condition = |&(type_, status, reason, message): &(&str, &str, &str, &str)| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            ),
        };
        InferenceEndpointStatus {
            observed_generation: Some(1),
            conditions: conditions.iter().map(condition).collect(),
            ..InferenceEndpointStatus::default()
        }
    }

    #[test]
    fn it_is_ready_when_all_that_ready_waits_for_is_and_of_this_generation() {
        let ready = ("Ready", "True", "Converged", "");
        for (conditions, generation, is_ready) in [
            (&[ready][..], 1, true),
            (&[ready], 2, false),
            (&[("Ready", "False", "InProgress", "")], 1, false),
            (&[ready, ("TrafficReady", "True", "Converged", "")], 1, true),
            (&[ready, ("TrafficReady", "False", "Progressing", "")], 1, true),
            (&[ready, ("TrafficReady", "False", "AccessDenied", "")], 1, false),
            // For these two Ready does not wait.
            (&[ready, ("HistoryPruned", "False", "AccessDenied", "")], 1, true),
            (&[ready, ("StorageMaintained", "False", "Damaged", "")], 1, true),
            (
                &[
                    ready,
                    ("HistoryPruned", "False", "AccessDenied", ""),
                    ("Exposed", "False", "AccessDenied", ""),
                ],
                1,
                false,
            ),
        ] {
            let explained = explain(("n", "x"), generation, &told(conditions), None);
            assert_eq!(explained.ready, is_ready, "{conditions:?} of {generation}");
        }
        // The condition is of this generation, and the rest of the status is not; or the other way round.
        let mut status = told(&[ready]);
        status.observed_generation = Some(2);
        for generation in [1, 2] {
            assert!(!explain(("n", "x"), generation, &status, None).ready, "{generation}");
        }
    }

    #[test]
    fn a_planned_step_that_failed_is_told_as_the_controller_told_it() {
        let with = |reason: &str, message: &str| told(&[("TrafficReady", "False", reason, message)]);
        let well = |type_: &str| told(&[(type_, "True", "Converged", "")]);
        let seen = with("InProgress", "delete alias");
        let step = crate::Step::DeleteAlias { function: "f".to_owned() };
        let plans = Plans([(Area::Traffic, crate::Plan::Do(vec![step]))].into());
        for (written, state, calls) in [
            (with("AccessDenied", "UpdateAlias of alias live failed: no"), State::Failing, "UpdateAlias"),
            (with("Syncing", "waiting"), State::Progressing, "DeleteAlias"),
            // What is told to be well is no failure, though there is something to be done by now.
            (well("TrafficReady"), State::Progressing, "DeleteAlias"),
            (InferenceEndpointStatus::default(), State::Progressing, "DeleteAlias"),
        ] {
            let explained = explain(
                ("n", "x"),
                1,
                &seen,
                Some(Look { plans: &plans, written: &written, sync_function: "f-sync" }),
            );
            let [branch] = &explained.conditions[..] else { panic!("{explained:?}") };
            assert_eq!((branch.state, branch.calls.join(",").as_str()), (state, calls));
            assert!(!explained.ready);
        }
    }

    #[test]
    fn a_status_of_another_generation_is_told() {
        let noted = |of| {
            let status =
                InferenceEndpointStatus { observed_generation: of, ..InferenceEndpointStatus::default() };
            notes(2, &status, false).join(" ")
        };
        assert!(noted(Some(1)).contains("about generation 1, and the object is at 2"));
        assert!(!noted(Some(2)).contains("generation"));
        assert!(noted(None).contains("no status"));
    }
}
