//! Drift: AWS differs from what it was converged to, and nobody asked for that.
//!
//! The status keeps what was wanted of each area when it was last as wanted ([`converged`]). While the same is wanted of an
//! area, any step that would be taken in it tells of a change by somebody else; otherwise it tells of a new spec, a new
//! model or a new version, whatever the other areas are at.
//!
//! - `wanted`: what is wanted of each area, and of which of them it is what it was
//! - [`found`]: what differs, field by field; `difference`: what a step tells of it
//! - [`held`]: the steps that are not to be taken: none under `driftPolicy: Report`, and not the fourth within an hour
//! - [`foresee_held`]: the plan to its end without them
//! - [`entries`]: what the status remembers of it

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use larder_crds::status::{DriftStatus, InferenceEndpointStatus};

use self::wanted::{is_as_wanted, unchanged};
use crate::desired::Desired;
use crate::endpoint::{DriftPolicy, Endpoint};
use crate::foresee::{Foreseen, foresee_by};
use crate::observed::Observed;
use crate::plan::{Area, Plan, Plans, Reason, plan};
use crate::retry::Class;
use crate::step::Step;

mod difference;
mod wanted;

pub use wanted::converged;

pub use difference::{Difference, differences};

/// A field is corrected so often within [`WHILE`]; what changes it once more is left to people.
const MOST_CORRECTIONS: usize = 3;

/// How long drift is remembered once it is gone.
const WHILE: SignedDuration = SignedDuration::from_hours(1);

/// The shortest time between two corrections of one field: a list that lags must not look like another writer.
const BETWEEN: SignedDuration = SignedDuration::from_secs(10);

/// So many differences are kept in the status.
const MOST_ENTRIES: usize = 50;

/// What others have changed, each with the area that mends it. `plans` are those of now.
#[must_use]
pub fn found(
    endpoint: &Endpoint,
    desired: &Desired,
    observed: &Observed,
    plans: &Plans,
    previous: &InferenceEndpointStatus,
) -> Vec<(Area, Difference)> {
    let unchanged_now = unchanged(endpoint, desired, observed, previous);
    if unchanged_now.iter().all(|area| is_as_wanted(*area, plans.get(*area))) {
        return Vec::new();
    }
    // Of each moment that is played: what is wanted may change on the way, as when models have been copied.
    let mut steps: Vec<(Area, Step)> = Vec::new();
    foresee_by(desired, observed, |observed| {
        let plans = plan(desired, observed);
        let unchanged = unchanged(endpoint, desired, observed, previous);
        let of_others = plans.steps().filter(|(area, _)| unchanged.contains(area));
        steps.extend(of_others.map(|(area, step)| (area, step.clone())));
        plans
    });
    let mut found: Vec<(Area, Difference)> = Vec::new();
    for (area, step) in steps {
        for difference in differences(&step, observed) {
            if !found.iter().any(|(_, it)| it.is_about_the_same(&difference)) {
                found.push((area, difference));
            }
        }
    }
    found
}

/// The plans, without the corrections that are not to be made.
#[must_use]
pub fn held(
    plans: Plans,
    endpoint: &Endpoint,
    desired: &Desired,
    observed: &Observed,
    previous: &InferenceEndpointStatus,
) -> Plans {
    if !plans.0.values().any(|plan| matches!(plan, Plan::Do(_))) {
        return plans;
    }
    let unchanged = unchanged(endpoint, desired, observed, previous);
    let hold = |(area, plan): (Area, Plan)| match plan {
        Plan::Do(steps) if unchanged.contains(&area) => {
            let differs: Vec<Difference> =
                steps.iter().flat_map(|step| differences(step, observed)).collect();
            let plan = match endpoint.drift_policy {
                DriftPolicy::Report => Some(reported(&steps, &differs)),
                DriftPolicy::Correct => differs.iter().find_map(|it| contested(it, observed, previous)),
            };
            (area, plan.unwrap_or(Plan::Do(steps)))
        }
        plan @ (Plan::Do(_)
        | Plan::Converged
        | Plan::Retry { .. }
        | Plan::Wait { .. }
        | Plan::Blocked { .. }) => (area, plan),
    };
    Plans(plans.0.into_iter().map(hold).collect())
}

/// The plan played to its end, without the corrections that are not to be made: what the controller will do.
#[must_use]
pub fn foresee_held(
    endpoint: &Endpoint,
    desired: &Desired,
    observed: &Observed,
    previous: &InferenceEndpointStatus,
) -> Foreseen {
    foresee_by(desired, observed, |observed| {
        held(plan(desired, observed), endpoint, desired, observed, previous)
    })
}

fn reported(steps: &[Step], differs: &[Difference]) -> Plan {
    let mut words: Vec<String> = differs.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        words = steps.iter().map(|step| format!("it would take: {step}")).collect();
    }
    Plan::Blocked {
        reason: Reason::Drifted,
        class: Class::Invalid,
        message: format!(
            "{}; nothing is corrected, since spec.driftPolicy is Report: change it back, change the spec, or set spec.driftPolicy: Correct",
            words.join("; ")
        ),
    }
}

/// Why a difference is not corrected now, if it is not.
fn contested(it: &Difference, observed: &Observed, previous: &InferenceEndpointStatus) -> Option<Plan> {
    let entry = previous.drift.iter().find(|entry| is_about(entry, it))?;
    let corrections = recent(entry, it, observed.at);
    let last = corrections.last()?;
    if corrections.len() < MOST_CORRECTIONS {
        let since = observed.at.duration_since(*last);
        let after = Duration::try_from(BETWEEN.checked_sub(since)?).ok().filter(|after| !after.is_zero())?;
        let on = format!("{it}, which was corrected a moment ago");
        return Some(Plan::Wait { reason: Reason::Drifted, on, after });
    }
    let again = corrections.first()?.checked_add(WHILE).ok()?;
    let modified = [&observed.inference, &observed.sync]
        .into_iter()
        .filter_map(|seen| seen.function.as_ref().ok()?.ours())
        .find(|function| it.resource.ends_with(&function.name))
        .map(|function| format!(" (the function was last modified at {})", function.last_modified))
        .unwrap_or_default();
    Some(Plan::Blocked {
        reason: Reason::Contested,
        class: Class::Invalid,
        message: format!(
            "{it} again{modified}, after {} corrections within an hour, so that something else rewrites it: CloudTrail shows who, in an event whose name begins with {}; stop that, or change the spec, or set spec.driftPolicy: Report, and set annotation {} to any new value; without that Larder corrects it again at {again}",
            corrections.len(),
            it.operation,
            larder_crds::RECONCILE_AT,
        ),
    })
}

fn is_about(entry: &DriftStatus, it: &Difference) -> bool {
    entry.resource == it.resource && entry.field == it.field
}

/// The corrections of the last hour, the oldest first; none while something else is wanted now.
fn recent(entry: &DriftStatus, it: &Difference, now: Timestamp) -> Vec<Timestamp> {
    if entry.want != it.want {
        return Vec::new();
    }
    let times = entry.corrections.iter().filter_map(|at| at.parse::<Timestamp>().ok());
    times.filter(|at| now.duration_since(*at) < WHILE).collect()
}

/// What the status says of drift: what is there, and what was within the last hour. `is_corrected` tells of a
/// difference whether its correction was made in this pass.
#[must_use]
pub fn entries(
    found: &[(Area, Difference)],
    is_corrected: impl Fn(&Area, &Difference) -> bool,
    previous: &[DriftStatus],
    now: Timestamp,
) -> Vec<DriftStatus> {
    let there = found.iter().map(|(area, it)| {
        let before = previous.iter().find(|entry| is_about(entry, it));
        let mut corrections = before.map(|entry| recent(entry, it, now)).unwrap_or_default();
        if is_corrected(area, it) {
            corrections.push(now);
        }
        let lasts = before.filter(|entry| entry.ended.is_none() && entry.want == it.want);
        DriftStatus {
            resource: it.resource.clone(),
            field: it.field.clone(),
            want: it.want.clone(),
            have: it.have.clone(),
            since: lasts.map_or_else(|| now.to_string(), |entry| entry.since.clone()),
            ended: None,
            corrections: corrections.iter().map(ToString::to_string).collect(),
        }
    });
    let gone = previous.iter().filter(|entry| !found.iter().any(|(_, it)| is_about(entry, it)));
    let gone = gone.filter_map(|entry| {
        let ended = entry.ended.as_ref().map_or(Some(now), |at| at.parse().ok())?;
        (now.duration_since(ended) < WHILE)
            .then(|| DriftStatus { ended: Some(ended.to_string()), ..entry.clone() })
    });
    there.chain(gone).take(MOST_ENTRIES).collect()
}

/// Forgets how often what was corrected: somebody says that it is worth another try.
pub fn forgive(status: &mut InferenceEndpointStatus) {
    status.drift.iter_mut().for_each(|entry| entry.corrections.clear());
}

/// The drift in words, for the condition; none when there is none.
#[must_use]
pub fn in_words(drift: &[DriftStatus]) -> Option<String> {
    const SHOWN: usize = 5;
    if drift.is_empty() {
        return None;
    }
    let words = |it: &DriftStatus| {
        let DriftStatus { resource, field, want, have, .. } = it;
        match &it.ended {
            None => format!("{resource}: {field} is {have}, not {want}"),
            Some(at) => format!("{resource}: {field} was {have}, not {want}, until {at}"),
        }
    };
    let mut shown: Vec<String> = drift.iter().take(SHOWN).map(words).collect();
    if drift.len() > SHOWN {
        shown.push(format!("and {} more in status.drift", drift.len() - SHOWN));
    }
    Some(shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_differences_are_told_in_words_and_the_number_of_the_others() {
        let entry = |n: usize| DriftStatus {
            resource: "function f".to_owned(),
            field: format!("field {n}"),
            want: "1".to_owned(),
            have: "2".to_owned(),
            ended: (n == 1).then(|| "2027-01-15T08:00:00Z".to_owned()),
            ..DriftStatus::default()
        };
        let told = |most: usize| in_words(&(0..most).map(entry).collect::<Vec<_>>());
        assert_eq!(told(0), None);
        let two =
            "function f: field 0 is 2, not 1; function f: field 1 was 2, not 1, until 2027-01-15T08:00:00Z";
        assert_eq!(told(2).as_deref(), Some(two));
        assert!(told(5).unwrap().ends_with("field 4 is 2, not 1"));
        assert!(told(8).unwrap().ends_with("field 4 is 2, not 1; and 3 more in status.drift"));
    }

    fn at(seconds: i64) -> Timestamp {
        "2027-01-15T08:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
    }

    /// A difference of function `f`: memory is wanted to be this, and is another.
    fn memory(want: &str) -> Difference {
        Difference {
            resource: "function f".to_owned(),
            field: "memory".to_owned(),
            want: want.to_owned(),
            have: "1".to_owned(),
            operation: "UpdateFunctionConfiguration",
        }
    }

    #[test]
    fn each_field_of_each_resource_has_an_entry_of_its_own() {
        let timeout = Difference { field: "timeout".to_owned(), ..memory("2") };
        let other = Difference { resource: "function g".to_owned(), ..memory("2") };
        let first = entries(&[(Area::Function, memory("2"))], |_, _| true, &[], at(0));
        for it in [timeout, other] {
            let found = [(Area::Function, memory("2")), (Area::Function, it.clone())];
            let both = entries(&found, |_, _| false, &first, at(60));
            // The first goes on, and the second begins.
            assert_eq!((&both[0].since, both[0].corrections.len()), (&at(0).to_string(), 1));
            assert_eq!((&both[1].since, both[1].corrections.len()), (&at(60).to_string(), 0), "{it}");
            assert!(is_about(&both[1], &it) && !is_about(&both[0], &it));
        }
    }

    #[test]
    fn corrections_count_for_an_hour_and_for_what_is_wanted() {
        let found = |want| [(Area::Function, memory(want))];
        let mut status = entries(&found("2"), |_, _| true, &[], at(0));
        status = entries(&found("2"), |_, _| true, &status, at(60));
        assert_eq!(status[0].corrections, [at(0).to_string(), at(60).to_string()]);
        // The first is an hour ago, the second a second less.
        assert_eq!(recent(&status[0], &memory("2"), at(3_600)), [at(60)]);
        assert_eq!(recent(&status[0], &memory("2"), at(3_599)), [at(0), at(60)]);
        assert_eq!(recent(&status[0], &memory("3"), at(61)), []);
        // What is wanted now is another: the drift is a new one.
        let other = entries(&found("3"), |_, _| false, &status, at(61));
        assert_eq!((&other[0].since, other[0].corrections.len()), (&at(61).to_string(), 0));
    }

    #[test]
    fn what_is_gone_is_remembered_for_an_hour() {
        let there = entries(&[(Area::Function, memory("2"))], |_, _| true, &[], at(0));
        let gone = entries(&[], |_, _| false, &there, at(10));
        assert_eq!((gone.len(), gone[0].ended.clone()), (1, Some(at(10).to_string())));
        let later = entries(&[], |_, _| false, &gone, at(10 + 3_599));
        assert_eq!((later.len(), later[0].ended.clone()), (1, Some(at(10).to_string())));
        assert_eq!(entries(&[], |_, _| false, &gone, at(10 + 3_600)), []);
        // Another difference leaves it alone; the same one takes its place, as a new one.
        let other = Difference { field: "timeout".to_owned(), ..memory("2") };
        assert_eq!(entries(&[(Area::Function, other)], |_, _| false, &gone, at(20)).len(), 2);
        let again = entries(&[(Area::Function, memory("2"))], |_, _| false, &gone, at(20));
        assert_eq!((again.len(), &again[0].since, &again[0].ended), (1, &at(20).to_string(), &None));
        assert_eq!(again[0].corrections, [at(0).to_string()]);
    }
}
