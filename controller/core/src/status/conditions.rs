//! Conditions: one for each area, and what they come to.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Failures;
use crate::endpoint::{Endpoint, Management};
use crate::observed::Observed;
use crate::plan::{Area, Plan, Plans, Reason};
use crate::retry::Problem;

/// The step conditions of `previous` that `drafts` does not replace. Those that are there only while
/// True go.
pub(super) fn kept(drafts: &[Condition], previous: &[Condition]) -> Vec<Condition> {
    let steps = Area::ALL.map(Area::condition);
    previous
        .iter()
        .filter(|c| steps.contains(&c.type_.as_str()) || c.type_ == "Accepted")
        .filter(|c| !drafts.iter().any(|d| d.type_ == c.type_))
        .cloned()
        .collect()
}

pub(super) fn draft(type_: &str, is_true: bool, reason: Reason, message: String) -> Condition {
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
pub(super) fn dated(
    drafts: Vec<Condition>,
    generation: i64,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
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

pub(super) fn area_condition(area: Area, plan: &Plan, failure: Option<&Problem>) -> Condition {
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

/// How to be rid of an object whose resources cannot be deleted.
pub(super) const WAY_OUT: &str =
    "; to leave in AWS what is still there, set spec.deletionPolicy: Retain, and the object goes";

/// How long a deletion has lasted, as of what was seen; nothing in its first minute.
fn lasting(endpoint: &Endpoint, observed: &Observed) -> String {
    let minutes = endpoint.deleting_since.map(|since| observed.at.duration_since(since).as_mins());
    minutes.filter(|minutes| *minutes > 0).map_or_else(String::new, |minutes| format!(", {minutes} min"))
}

/// The network interfaces that nobody has to wait for but whoever deletes the role or the security groups.
fn left_behind(observed: &Observed) -> String {
    match observed.interfaces.as_deref() {
        Ok([]) | Err(_) => String::new(),
        Ok(ids) => format!(
            "; AWS still has {} network interfaces of the functions ({}), and removes them within an hour: keep the role and the security groups until then",
            ids.len(),
            ids.join(", ")
        ),
    }
}

/// Adds `Ready`, and `Reconciling`, `Stalled` or `Suspended` where they hold.
pub(super) fn summarise(
    endpoint: &Endpoint,
    plans: &Plans,
    failures: &Failures,
    serving: Option<u64>,
    observed: &Observed,
    conditions: &mut Vec<Condition>,
) {
    // The area that tells the most: one that failed or is blocked, else the first that is not there yet.
    let unready: Vec<&Condition> = Area::ALL
        .iter()
        .filter(|area| area.is_part_of_ready())
        .filter_map(|area| conditions.iter().find(|c| c.type_ == area.condition() && c.status == "False"))
        .collect();
    let mut areas = Area::ALL.into_iter().filter(|area| area.is_part_of_ready());
    let mut stalled = areas.clone().filter(|area| is_stalled(plans.get(*area), failures.get(area)));
    // What others change is news beside a version that was taken back.
    let is_drift = |area: &Area| {
        matches!(plans.get(*area), Plan::Blocked { reason: Reason::Contested | Reason::Drifted, .. })
    };
    let stalled = stalled.clone().find(is_drift).or_else(|| stalled.next());
    let failed = areas.find(|area| {
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
        (None, true) => {
            let message = format!("everything is deleted{}", left_behind(observed));
            vec![draft("Ready", false, Reason::Deleting, message)]
        }
        (Some((reason, mut message)), _) => {
            if endpoint.deleting {
                message += &lasting(endpoint, observed);
                message += &left_behind(observed);
                message += if endpoint.management == Management::Plan {
                    "; nothing is deleted while spec.management is Plan"
                } else if stalled.is_some() {
                    WAY_OUT
                } else {
                    ""
                };
            }
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
