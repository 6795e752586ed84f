//! What the user is told: conditions, columns and details, from what was seen and what is planned.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use larder_contract::layout;
use larder_contract::sync::{ModelReport, ModelState};
use larder_crds::status::{
    CapacityStatus, FunctionStatus, InferenceEndpointStatus, ModelStatus, MountTargetStatus, StorageStatus,
    Summary, TrafficStatus, VersionStatus,
};

use crate::desired::{Desired, sync_request};
use crate::endpoint::{Endpoint, Management, Refused};
use crate::names::ALIAS;
use crate::observed::{Observed, ProvisionedStatus, Read, Remote, Source, Version};
use crate::plan::{Area, Plan, Plans, Reason, target};
use crate::retry::{Class, Problem};

/// The steps that failed in this pass, by area.
pub type Failures = BTreeMap<Area, Problem>;

/// The status of an endpoint after a pass.
#[must_use]
pub fn status(
    endpoint: &Endpoint,
    observed: &Observed,
    plans: &Plans,
    failures: &Failures,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let desired = Desired::of(endpoint);
    let models = models(endpoint, observed, previous, now);
    let serving = serving(observed);
    let provisioned = newest_provisioned(&desired, observed);
    let mut conditions = vec![draft("Accepted", true, Reason::Accepted, "the spec is valid".to_owned())];
    for area in Area::ALL {
        conditions.push(area_condition(area, plans.get(area), failures.get(&area)));
    }
    summarise(endpoint, plans, failures, serving, &mut conditions);
    InferenceEndpointStatus {
        observed_generation: Some(endpoint.generation),
        url: match &observed.url {
            Ok(url) => url.as_ref().map(|u| u.url.clone()),
            Err(_) => previous.url.clone(),
        },
        summary: Summary {
            models: format!(
                "{}/{}",
                models.iter().filter(|m| is_serving_the_wanted(m)).count(),
                endpoint.models.len()
            ),
            capacity: endpoint.provisioned.map_or_else(
                || "-".to_owned(),
                |wanted| format!("{}/{wanted}", provisioned.as_ref().map_or(0, |p| p.available)),
            ),
            last_sync: models.iter().filter_map(|m| m.last_sync_time.clone()).max(),
        },
        conditions: dated(conditions, endpoint.generation, &previous.conditions, now),
        models,
        storage: storage(observed),
        function: function(endpoint, observed, serving),
        capacity: provisioned,
        traffic: traffic(observed),
        history: history(observed),
        plan: plans.steps().map(|(_, step)| format!("{} {step}", step.effect().mark())).collect(),
    }
}

/// The status of an object that cannot be worked on: the rest of it stays as it was.
#[must_use]
pub fn refused(
    refused: &Refused,
    generation: i64,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let message = refused.to_string();
    let mut conditions = vec![
        draft("Accepted", false, Reason::InvalidSpec, message.clone()),
        draft("Ready", false, Reason::InvalidSpec, message.clone()),
        draft("Stalled", true, Reason::InvalidSpec, message),
    ];
    conditions.extend(kept(&conditions, &previous.conditions));
    InferenceEndpointStatus {
        observed_generation: Some(generation),
        conditions: dated(conditions, generation, &previous.conditions, now),
        ..previous.clone()
    }
}

/// The status of an object whose AWS account cannot be reached: the rest of it stays as it was.
#[must_use]
pub fn unreachable(
    problem: &Problem,
    generation: i64,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let reason = problem.class.into();
    let mut conditions = vec![
        draft("Accepted", true, Reason::Accepted, "the spec is valid".to_owned()),
        draft("Ready", false, reason, problem.to_string()),
    ];
    let progress = if problem.class.is_stalling() { "Stalled" } else { "Reconciling" };
    conditions.push(draft(progress, true, reason, problem.to_string()));
    conditions.extend(kept(&conditions, &previous.conditions));
    InferenceEndpointStatus {
        observed_generation: Some(generation),
        conditions: dated(conditions, generation, &previous.conditions, now),
        ..previous.clone()
    }
}

/// The status of an object that is not to be worked on: the rest of it stays as it was.
#[must_use]
pub fn suspended(
    generation: i64,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let message = "spec.management is Suspend: AWS is neither read nor changed".to_owned();
    let mut conditions = vec![
        draft("Suspended", true, Reason::Suspended, message.clone()),
        draft("Ready", false, Reason::Suspended, message),
    ];
    conditions.extend(kept(&conditions, &previous.conditions));
    InferenceEndpointStatus {
        observed_generation: Some(generation),
        conditions: dated(conditions, generation, &previous.conditions, now),
        ..previous.clone()
    }
}

/// The step conditions of `previous` that `drafts` does not replace. Those that are there only while
/// True go.
fn kept(drafts: &[Condition], previous: &[Condition]) -> Vec<Condition> {
    let steps = Area::ALL.map(Area::condition);
    previous
        .iter()
        .filter(|c| steps.contains(&c.type_.as_str()) || c.type_ == "Accepted")
        .filter(|c| !drafts.iter().any(|d| d.type_ == c.type_))
        .cloned()
        .collect()
}

/// The condition types that are Larder's. Others are somebody else's, and are kept.
const OWN: [&str; 11] = [
    "Accepted",
    "StorageReady",
    "ModelsSynced",
    "FunctionReady",
    "CapacityReady",
    "TrafficReady",
    "Exposed",
    "Ready",
    "Reconciling",
    "Stalled",
    "Suspended",
];

/// Whether two statuses tell a user the same. Times alone are no difference, nor are the conditions of
/// others.
#[must_use]
pub fn is_same(a: &InferenceEndpointStatus, b: &InferenceEndpointStatus) -> bool {
    let timeless = |status: &InferenceEndpointStatus| {
        let mut status = status.clone();
        status.conditions.retain(|c| OWN.contains(&c.type_.as_str()));
        for condition in &mut status.conditions {
            condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
        }
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    timeless(a) == timeless(b)
}

fn draft(type_: &str, is_true: bool, reason: Reason, message: String) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if is_true { "True" } else { "False" }.to_owned(),
        reason: reason.to_string(),
        message: cut(message),
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

/// `Condition.message` may have 32,768 characters; people read far fewer.
fn cut(mut message: String) -> String {
    const LONGEST: usize = 2000;
    if let Some((at, _)) = message.char_indices().nth(LONGEST) {
        message.truncate(at);
        message.push('…');
    }
    message
}

/// Gives each condition its generation, and the time of its last change.
fn dated(drafts: Vec<Condition>, generation: i64, previous: &[Condition], now: Timestamp) -> Vec<Condition> {
    drafts
        .into_iter()
        .map(|draft| {
            let before = previous.iter().find(|c| c.type_ == draft.type_ && c.status == draft.status);
            Condition {
                observed_generation: Some(generation),
                last_transition_time: before.map_or(Time(now), |c| c.last_transition_time.clone()),
                ..draft
            }
        })
        .collect()
}

fn area_condition(area: Area, plan: &Plan, failure: Option<&Problem>) -> Condition {
    let (is_true, reason, message) = match (failure, plan) {
        (Some(problem), _) => (false, problem.class.into(), problem.to_string()),
        (None, Plan::Converged) => (true, Reason::Converged, "AWS holds what is wanted".to_owned()),
        (None, Plan::Do(steps)) => (false, Reason::InProgress, steps_in_words(steps)),
        (None, Plan::Wait { reason, on, .. }) => (false, *reason, format!("waiting for {on}")),
        (None, Plan::Retry { reason, message, .. } | Plan::Blocked { reason, message, .. }) => {
            (false, *reason, message.clone())
        }
    };
    draft(area.condition(), is_true, reason, message)
}

fn steps_in_words(steps: &[crate::step::Step]) -> String {
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Whether a person must act before an area can go on.
fn is_stalled(plan: &Plan, failure: Option<&Problem>) -> bool {
    match (failure, plan) {
        (Some(problem), _) => problem.class.is_stalling(),
        (None, Plan::Blocked { class, .. }) => class.is_stalling(),
        (None, Plan::Converged | Plan::Do(_) | Plan::Wait { .. } | Plan::Retry { .. }) => false,
    }
}

/// Adds `Ready`, and `Reconciling`, `Stalled` or `Suspended` where they hold.
fn summarise(
    endpoint: &Endpoint,
    plans: &Plans,
    failures: &Failures,
    serving: Option<u64>,
    conditions: &mut Vec<Condition>,
) {
    // The area that tells the most: one that failed or is blocked, else the first that is not there yet.
    let unready: Vec<&Condition> = Area::ALL
        .iter()
        .filter_map(|area| conditions.iter().find(|c| c.type_ == area.condition() && c.status == "False"))
        .collect();
    let stalled = Area::ALL.into_iter().find(|area| is_stalled(plans.get(*area), failures.get(area)));
    let failed = Area::ALL.into_iter().find(|area| {
        failures.contains_key(area) || matches!(plans.get(*area), Plan::Retry { .. } | Plan::Blocked { .. })
    });
    let telling = stalled
        .or(failed)
        .and_then(|area| unready.iter().find(|c| c.type_ == area.condition()))
        .or(unready.first())
        .map(|c| (c.reason.clone(), format!("{}: {}", c.type_, c.message)));
    let mut summary = match (telling, endpoint.deleting) {
        (None, false) => {
            let version = serving.map_or_else(String::new, |v| format!("version {v} "));
            vec![draft("Ready", true, Reason::Converged, format!("{version}serves what the spec asks for"))]
        }
        (None, true) => vec![draft("Ready", false, Reason::Deleting, "everything is deleted".to_owned())],
        (Some((reason, message)), _) => {
            let mut ready = draft("Ready", false, Reason::InProgress, message.clone());
            if endpoint.deleting && stalled.is_none() {
                ready.reason = Reason::Deleting.to_string();
            } else if endpoint.management == Management::Plan {
                ready.reason = Reason::PlanOnly.to_string();
            } else {
                ready.reason = reason;
            }
            let progress = if stalled.is_some() { "Stalled" } else { "Reconciling" };
            let also = Condition { type_: progress.to_owned(), status: "True".to_owned(), ..ready.clone() };
            vec![ready, also]
        }
    };
    conditions.append(&mut summary);
}

/// The version that the alias points at.
fn serving(observed: &Observed) -> Option<u64> {
    observed.alias.as_ref().ok()?.as_ref().map(|alias| alias.version)
}

fn versions(observed: &Observed) -> &[Version] {
    observed.versions.as_ref().map_or(&[], Vec::as_slice)
}

/// Whether a model's wanted content takes requests.
fn is_serving_the_wanted(model: &ModelStatus) -> bool {
    model.state == "Ready" && model.desired_digest.is_some() && model.active_digest == model.desired_digest
}

fn models(
    endpoint: &Endpoint,
    observed: &Observed,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> Vec<ModelStatus> {
    let report = observed.sync_report.as_ref().ok().and_then(Option::as_ref);
    let is_active = is_wanted_manifest_active(endpoint, observed);
    endpoint
        .models
        .iter()
        .map(|model| {
            let before = previous.models.iter().find(|m| m.name == model.name);
            let source = observed.sources.get(&model.name);
            let found = match source {
                Some(Ok(Source::Found { revision, bytes, files })) => Some((*revision, *bytes, *files)),
                Some(Ok(Source::Empty | Source::Unusable(_)) | Err(_)) | None => None,
            };
            let wanted = model.pin.or(found.map(|(revision, ..)| revision)).map(|d| d.to_string());
            let seen = report.and_then(|r| r.models.iter().find(|m| m.model == model.name));
            let seen = seen.filter(|m| Some(m.revision.to_string()) == wanted);
            let active =
                if is_active { wanted.clone() } else { before.and_then(|b| b.active_digest.clone()) };
            let state = model_state(seen, source);
            let (bytes, files) = match (found, seen) {
                (Some((_, bytes, files)), _) => (bytes, files),
                (None, Some(seen)) => (seen.bytes_total, seen.files),
                (None, None) => (0, 0),
            };
            let was_ready = before.is_some_and(|b| b.state == "Ready" && b.desired_digest == wanted);
            ModelStatus {
                name: model.name.clone(),
                task: model.task.map(|t| t.as_str().to_owned()),
                last_sync_time: match (state, was_ready) {
                    ("Ready", false) => Some(now.to_string()),
                    _ => before.and_then(|b| b.last_sync_time.clone()),
                },
                desired_digest: wanted,
                active_digest: active,
                state: state.to_owned(),
                bytes: signed(bytes),
                bytes_done: signed(seen.map_or(0, |m| m.bytes_done)),
                files: signed(files),
                message: model_message(seen, source),
            }
        })
        .collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn model_state(seen: Option<&ModelReport>, source: Option<&Read<Source>>) -> &'static str {
    match (seen.map(|m| m.state), source) {
        (Some(ModelState::Ready), _) => "Ready",
        (Some(ModelState::Syncing), _) => "Syncing",
        (Some(ModelState::Failed), _) | (_, Some(Err(_) | Ok(Source::Empty | Source::Unusable(_)))) => {
            "Failed"
        }
        (
            Some(ModelState::Pending | ModelState::SourceChanged) | None,
            Some(Ok(Source::Found { .. })) | None,
        ) => "Pending",
    }
}

fn model_message(seen: Option<&ModelReport>, source: Option<&Read<Source>>) -> String {
    match (seen, source) {
        (_, Some(Err(problem))) => problem.to_string(),
        (_, Some(Ok(Source::Empty))) => "there is no object under the prefix".to_owned(),
        (_, Some(Ok(Source::Unusable(why)))) => why.clone(),
        (Some(report), _) => report.message.clone(),
        (None, _) => String::new(),
    }
}

/// The version that takes all requests serves the wanted manifest.
fn is_wanted_manifest_active(endpoint: &Endpoint, observed: &Observed) -> bool {
    let wanted = sync_request(&endpoint.models, &observed.sources).map(|r| r.manifest.digest().to_string());
    let serving = serving(observed).and_then(|n| versions(observed).iter().find(|v| v.number == n));
    let active =
        serving.and_then(|v| v.function.ours()).and_then(|f| f.config.env.get(layout::ENV_MANIFEST)).cloned();
    wanted.is_some() && wanted == active
}

fn storage(observed: &Observed) -> Option<StorageStatus> {
    let file_system = observed.file_system.as_ref().ok()?.ours()?;
    let mut mount_targets: Vec<MountTargetStatus> = observed
        .mount_targets
        .as_ref()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|mt| MountTargetStatus { zone: mt.zone.clone(), id: mt.id.clone(), state: mt.state.clone() })
        .collect();
    // The list is a map by zone. EFS has one mount target a zone, but one may go while another comes.
    mount_targets.sort_by(|a, b| a.zone.cmp(&b.zone).then(a.state.cmp(&b.state)));
    mount_targets.dedup_by(|a, b| a.zone == b.zone);
    let access_point = observed.access_point.as_ref().ok().and_then(Remote::ours);
    Some(StorageStatus {
        file_system_id: Some(file_system.id.clone()),
        access_point_arn: access_point.map(|ap| ap.arn.clone()),
        throughput_mode: Some(file_system.throughput_mode.clone()),
        mount_targets,
    })
}

fn function(endpoint: &Endpoint, observed: &Observed, serving: Option<u64>) -> Option<FunctionStatus> {
    let function = observed.inference.function.as_ref().ok()?.ours()?;
    let code = serving
        .and_then(|n| versions(observed).iter().find(|v| v.number == n))
        .and_then(|v| v.function.ours())
        .unwrap_or(function);
    Some(FunctionStatus {
        name: endpoint.names.function.clone(),
        arn: Some(function.arn.clone()),
        code_digest: Some(code.code_digest.clone()),
        version: serving.map(|v| v.to_string()),
        alias: serving.map(|_| ALIAS.to_owned()),
    })
}

/// The provisioned concurrency of the wanted version, or while that is not there, of the one that serves.
fn newest_provisioned(desired: &Desired, observed: &Observed) -> Option<CapacityStatus> {
    let version = target(desired, observed).ok().or_else(|| {
        let serving = serving(observed)?;
        versions(observed).iter().find(|v| v.number == serving)
    })?;
    let provisioned = version.provisioned.as_ref()?;
    Some(CapacityStatus {
        requested: provisioned.requested,
        available: provisioned.available,
        status: Some(
            match provisioned.status {
                ProvisionedStatus::InProgress => "IN_PROGRESS",
                ProvisionedStatus::Ready => "READY",
                ProvisionedStatus::Failed(_) => "FAILED",
            }
            .to_owned(),
        ),
    })
}

fn traffic(observed: &Observed) -> Vec<TrafficStatus> {
    let Ok(Some(alias)) = &observed.alias else { return Vec::new() };
    let share =
        |version: u64, percent: u8| TrafficStatus { version: version.to_string(), percent: percent.into() };
    match alias.second {
        None => vec![share(alias.version, 100)],
        Some((second, percent)) => {
            vec![share(alias.version, 100u8.saturating_sub(percent)), share(second, percent)]
        }
    }
}

fn history(observed: &Observed) -> Vec<VersionStatus> {
    versions(observed)
        .iter()
        .rev()
        .map(|version| {
            let function = version.function.ours();
            VersionStatus {
                version: version.number.to_string(),
                manifest: function.and_then(|f| f.config.env.get(layout::ENV_MANIFEST).cloned()),
                code_digest: function.map(|f| f.code_digest.clone()),
                published: function.map(|f| f.last_modified.clone()),
            }
        })
        .collect()
}

/// The class that says how soon to look again at an area that could not go on.
#[must_use]
pub fn failure_class(plan: &Plan, failure: Option<&Problem>) -> Option<Class> {
    match (failure, plan) {
        (Some(problem), _) => Some(problem.class),
        (None, Plan::Blocked { class, .. }) => Some(*class),
        (None, Plan::Retry { .. }) => Some(Class::Transient),
        (None, Plan::Converged | Plan::Do(_) | Plan::Wait { .. }) => None,
    }
}
