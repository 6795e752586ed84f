//! What the user is told: conditions, columns and details, from what was seen and what is planned.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use larder_crds::status::{DriftStatus, InferenceEndpointStatus, Summary};

use self::conditions::{WAY_OUT, area_condition, dated, draft, kept, summarise};
pub(crate) use self::details::signed;
pub use self::progress::{is_progress, is_progress_alone, progress_in_words};
pub use self::storage::size;
use crate::desired::Desired;
use crate::drift::{self, Difference};
use crate::endpoint::{Endpoint, Management, Refused};
use crate::observed::Observed;
use crate::plan::{Area, Plan, Plans, Reason};
use crate::retry::{Class, Problem};
use crate::tenants::{RoleNotAllowed, StillOwned};

mod conditions;
mod details;
mod progress;
mod rollout;
mod storage;

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
    let models = details::models(endpoint, observed, previous, now);
    let serving = details::serving(observed);
    let provisioned = details::provisioned(&desired, observed);
    let storage = storage::storage(endpoint, observed, previous);
    let drift = drift_of(endpoint, &desired, observed, plans, failures, previous, now);
    let mut conditions = vec![draft("Accepted", true, Reason::Accepted, "the spec is valid".to_owned())];
    for area in Area::ALL {
        conditions.push(area_condition(area, plans.get(area), failures.get(&area)));
    }
    summarise(endpoint, plans, failures, serving, observed, &mut conditions);
    conditions.extend(drift::in_words(&drift).map(|words| draft("Drifted", true, Reason::Drifted, words)));
    let low = storage::low_credits(endpoint, storage.as_ref(), &models);
    let low = low.map(|words| draft("BurstCreditsLow", true, Reason::BurstCreditsLow, words));
    conditions.extend(low);
    let converged = drift::converged(endpoint, &desired, observed, plans, failures, previous);
    InferenceEndpointStatus {
        observed_generation: Some(endpoint.generation),
        url: match &observed.url {
            Ok(url) => url.as_ref().map(|u| u.url.clone()),
            Err(_) => previous.url.clone(),
        },
        summary: Summary {
            models: format!(
                "{}/{}",
                models.iter().filter(|m| details::is_serving_the_wanted(m)).count(),
                endpoint.models.len()
            ),
            capacity: endpoint.provisioned.map_or_else(
                || "-".to_owned(),
                |wanted| format!("{}/{wanted}", provisioned.as_ref().map_or(0, |p| p.available)),
            ),
            sync: progress::column(&models),
            storage: storage::in_words(storage.as_ref()),
            last_sync: models.iter().filter_map(|m| m.last_sync_time.clone()).max(),
            canary: rollout::canary(&desired, observed),
        },
        conditions: dated(conditions, endpoint.generation, &previous.conditions, now),
        models,
        storage,
        function: details::function(endpoint, observed, serving),
        capacity: provisioned,
        events: details::events(endpoint, &desired, plans),
        rollout: rollout::rollout(&desired, observed, previous.rollout.as_ref()),
        traffic: details::traffic(observed),
        history: details::history(observed),
        drift,
        converged,
        plan: plans.steps().map(|(_, step)| format!("{} {step}", step.effect().mark())).collect(),
    }
}

/// What somebody else has changed. A correction is counted when its step was taken and AWS did not refuse it.
fn drift_of(
    endpoint: &Endpoint,
    desired: &Desired,
    observed: &Observed,
    plans: &Plans,
    failures: &Failures,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> Vec<DriftStatus> {
    let found = drift::found(endpoint, desired, observed, plans, previous);
    let is_corrected = |area: &Area, it: &Difference| {
        let Plan::Do(steps) = plans.get(*area) else { return false };
        endpoint.management == Management::Apply
            && !failures.contains_key(area)
            && steps.iter().any(|step| drift::differences(step, observed).contains(it))
    };
    drift::entries(&found, is_corrected, &previous.drift, now)
}

/// The status of an object that cannot be worked on: the rest of it stays as it was.
#[must_use]
pub fn refused(
    refused: &Refused,
    generation: i64,
    is_deleting: bool,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    not_accepted(Reason::InvalidSpec, refused, generation, is_deleting, previous, now)
}

/// The status of an object whose namespace may not use its role: the rest of it stays as it was.
#[must_use]
pub fn role_not_allowed(
    why: &RoleNotAllowed,
    generation: i64,
    is_deleting: bool,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    not_accepted(Reason::RoleNotAllowed, why, generation, is_deleting, previous, now)
}

/// The status of an object that asks for what another has: the rest of it stays as it was.
#[must_use]
pub fn still_owned(
    why: &StillOwned,
    generation: i64,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    not_accepted(Reason::StillOwned, why, generation, false, previous, now)
}

fn not_accepted(
    reason: Reason,
    why: &impl std::fmt::Display,
    generation: i64,
    is_deleting: bool,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let message = format!("{why}{}", if is_deleting { WAY_OUT } else { "" });
    let conditions = vec![
        draft("Accepted", false, reason, message.clone()),
        draft("Ready", false, reason, message.clone()),
        draft("Stalled", true, reason, message),
    ];
    frozen(conditions, generation, previous, now)
}

/// The status of an object whose AWS account cannot be reached: the rest of it stays as it was.
#[must_use]
pub fn unreachable(
    problem: &Problem,
    generation: i64,
    is_deleting: bool,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let reason = problem.class.into();
    let message = format!("{problem}{}", if is_deleting { WAY_OUT } else { "" });
    let mut conditions = vec![
        draft("Accepted", true, Reason::Accepted, "the spec is valid".to_owned()),
        draft("Ready", false, reason, message.clone()),
    ];
    let progress = if problem.class.is_stalling() { "Stalled" } else { "Reconciling" };
    conditions.push(draft(progress, true, reason, message));
    frozen(conditions, generation, previous, now)
}

/// The status of an object that is not to be worked on: the rest of it stays as it was.
#[must_use]
pub fn suspended(
    generation: i64,
    is_deleting: bool,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let stays = if is_deleting { ", and the object stays until it is Apply" } else { "" };
    let message = format!("spec.management is Suspend: AWS is neither read nor changed{stays}");
    let conditions = vec![
        draft("Suspended", true, Reason::Suspended, message.clone()),
        draft("Ready", false, Reason::Suspended, message),
    ];
    frozen(conditions, generation, previous, now)
}

/// A status in which only these conditions are new. The others are still about the generation, and of the
/// time, that they were made for.
fn frozen(
    drafts: Vec<Condition>,
    generation: i64,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> InferenceEndpointStatus {
    let others = kept(&drafts, &previous.conditions);
    let mut conditions = dated(drafts, generation, &previous.conditions, now);
    conditions.extend(others);
    InferenceEndpointStatus { observed_generation: Some(generation), conditions, ..previous.clone() }
}

/// The condition types that are Larder's. Others are somebody else's, and are kept.
const OWN: [&str; 16] = [
    "Accepted",
    "StorageReady",
    "ModelsSynced",
    "FunctionReady",
    "CapacityReady",
    "TrafficReady",
    "Exposed",
    "HistoryPruned",
    "StorageMaintained",
    "EventsReady",
    "Ready",
    "Reconciling",
    "Stalled",
    "Suspended",
    "Drifted",
    "BurstCreditsLow",
];

/// Whether two statuses tell a user the same. Times alone are no difference, nor are the conditions of
/// others.
#[must_use]
pub fn is_same(a: &InferenceEndpointStatus, b: &InferenceEndpointStatus) -> bool {
    let timeless = |status: &InferenceEndpointStatus| {
        let mut status = status.clone();
        for model in &mut status.models {
            model.progress_time = None;
        }
        status.conditions.retain(|c| OWN.contains(&c.type_.as_str()));
        for condition in &mut status.conditions {
            condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
        }
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    timeless(a) == timeless(b)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Place;

    fn condition(status: &InferenceEndpointStatus, type_: &str) -> Condition {
        status.conditions.iter().find(|c| c.type_ == type_).unwrap().clone()
    }

    #[test]
    fn a_frozen_status_does_not_speak_for_a_generation_that_was_not_looked_at() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let drafts = vec![draft("StorageReady", true, Reason::Converged, String::new())];
        let before = InferenceEndpointStatus {
            observed_generation: Some(1),
            url: Some("https://x/".to_owned()),
            conditions: dated(drafts, 1, &[], at(10)),
            ..InferenceEndpointStatus::default()
        };
        let status = suspended(2, false, &before, at(20));
        assert_eq!(status.observed_generation, Some(2));
        assert_eq!(status.url, before.url);
        assert_eq!(condition(&status, "StorageReady"), before.conditions[0]);
        assert_eq!(condition(&status, "Suspended").observed_generation, Some(2));

        // It goes when work goes on, and says the same while it lasts.
        assert!(is_same(&suspended(2, false, &status, at(30)), &status));
        let field = || "spec.aws.region".to_owned();
        let why = Refused { field: field(), value: "not set".to_owned(), remedy: "write it".to_owned() };
        let status = refused(&why, 3, false, &status, at(40));
        assert!(!status.conditions.iter().any(|c| c.type_ == "Suspended"));
        assert_eq!(condition(&status, "Accepted").message, "spec.aws.region is not set: write it");
    }

    #[test]
    fn what_cannot_be_worked_on_says_why_and_keeps_what_it_told() {
        let at = Timestamp::from_second(10).unwrap();
        let before = InferenceEndpointStatus {
            observed_generation: Some(1),
            url: Some("https://x/".to_owned()),
            ..InferenceEndpointStatus::default()
        };
        let role = RoleNotAllowed {
            field: "spec.aws.roleArn",
            role: "arn:aws:iam::444455556666:role/theirs".to_owned(),
            namespace: "vision".to_owned(),
            allowed: None,
        };
        let problem = |class| Problem {
            operation: "AssumeRole",
            resource: "role larder".to_owned(),
            class,
            code: String::new(),
            message: "no answer".to_owned(),
            request_id: None,
        };
        let of = |class, is_deleting| unreachable(&problem(class), 2, is_deleting, &before, at);
        let place =
            Place { cluster: "c".to_owned(), namespace: "vision".to_owned(), name: "signs".to_owned() };
        let owned = |is_seen| still_owned(&StillOwned { place: place.clone(), is_seen }, 2, &before, at);
        for (status, type_, ready, part) in [
            (owned(true), "Stalled", "StillOwned", "spec.deletionPolicy: Retain"),
            (owned(false), "Stalled", "StillOwned", "list inferenceendpoints in namespace vision"),
            (role_not_allowed(&role, 2, false, &before, at), "Stalled", "RoleNotAllowed", "role/theirs"),
            (
                role_not_allowed(&role, 2, true, &before, at),
                "Stalled",
                "RoleNotAllowed",
                "spec.deletionPolicy: Retain",
            ),
            (
                of(Class::Denied, false),
                "Stalled",
                "AccessDenied",
                "AssumeRole of role larder failed: no answer",
            ),
            (of(Class::Transient, false), "Reconciling", "Unavailable", "no answer"),
            (of(Class::Transient, true), "Reconciling", "Unavailable", "spec.deletionPolicy: Retain"),
        ] {
            assert_eq!((status.observed_generation, &status.url), (Some(2), &before.url));
            for type_ in ["Ready", type_] {
                let told = condition(&status, type_);
                assert_eq!((told.reason.as_str(), told.observed_generation), (ready, Some(2)), "{type_}");
                assert!(told.message.contains(part), "{}", told.message);
            }
            assert_eq!(
                (condition(&status, "Ready").status.as_str(), condition(&status, type_).status.as_str()),
                ("False", "True")
            );
            assert_eq!(status.conditions.len(), 3, "Accepted, Ready and why: {:?}", status.conditions);
        }
    }

    #[test]
    fn a_condition_is_of_the_time_at_which_it_became_what_it_is() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let is = |type_: &str, is_true| draft(type_, is_true, Reason::Converged, String::new());
        let times = |conditions: &[Condition]| -> Vec<i64> {
            conditions.iter().map(|it| it.last_transition_time.0.as_second()).collect()
        };
        let first = dated(vec![is("StorageReady", true), is("Exposed", true)], 1, &[], at(10));
        let second = dated(vec![is("StorageReady", false), is("Exposed", true)], 2, &first, at(20));
        assert_eq!((times(&first), times(&second)), (vec![10, 10], vec![20, 10]));
        let third =
            dated(vec![is("StorageReady", true), is("Exposed", true), is("Ready", true)], 3, &second, at(30));
        assert_eq!(times(&third), [30, 10, 30]);
    }
}
