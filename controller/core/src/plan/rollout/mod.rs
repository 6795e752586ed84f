//! Which version is to serve, and how it takes over from the one that does.
//!
//! - `goal`: the version that the spec asks for, unless it was taken back or rejected.
//! - `record`: what is remembered of a rollout, in the alias's description.
//! - [`health`]: whether a version is fit.
//!
//! The alias points at the version that serves; one that is on its way is its second, with a share of the requests.
//! All that a rollout waits for is asked for by [`questions`], so that nothing is asked without need.

use std::time::Duration;

use jiff::Timestamp;
use larder_crds::status::RolloutStatus;

use super::{Plan, Reason, capacity, function, target};
use crate::desired::{Desired, Want};
use crate::endpoint::AbortOn;
use crate::observed::{Alias, Health, Observed, Remote, Version};
use crate::retry::Class;
use crate::step::Step;

pub mod health;
mod record;

pub use record::Record;

/// How often a version that takes a share of the requests is looked at.
const LOOK: Duration = Duration::from_secs(15);

/// The version that is to take all requests in the end.
#[derive(Debug, Clone)]
pub(super) struct Goal<'a> {
    pub(super) version: &'a Version,
    pub(super) way: Way,
}

/// How it takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// As the spec's rollout says.
    Rollout,
    /// At once, as a person says.
    Promotion,
    /// At once, since the version that the spec asks for takes no requests; here is why.
    Retreat { reason: Reason, message: String },
}

/// Why there is no goal.
#[derive(Debug, Clone)]
pub(super) enum NoGoal {
    /// The version that the spec asks for is not there yet.
    Unready,
    /// Nothing can serve, or AWS does not say what is there.
    Blocked(Plan),
}

/// The version that is to serve.
pub(super) fn goal<'a>(desired: &Desired, observed: &'a Observed) -> Result<Goal<'a>, NoGoal> {
    let alias = observed.alias.as_ref().map_err(|problem| NoGoal::Blocked(problem.into()))?;
    let target = target(desired, observed);
    let (reason, message) = if let Ok(version) = &target {
        if desired.controls.promoted == Some(version.number) {
            return Ok(Goal { version, way: Way::Promotion });
        }
        match refusal(desired, alias.as_ref(), version.number) {
            None => return Ok(Goal { version, way: Way::Rollout }),
            Some(refusal) => refusal,
        }
    } else {
        // What serves and must not is left behind, whatever else is at work.
        let serving = alias.as_ref().map(|alias| alias.version);
        serving.and_then(|number| rejection(desired, number)).ok_or(NoGoal::Unready)?
    };
    // Without it nobody knows who could stand in.
    observed.access_point.as_ref().map_err(|problem| NoGoal::Blocked(problem.into()))?;
    match stand_in(desired, observed, alias.as_ref()) {
        Some(version) => {
            let message = format!("{message}; version {} serves", version.number);
            Ok(Goal { version, way: Way::Retreat { reason, message } })
        }
        None => Err(NoGoal::Blocked(Plan::blocked(
            reason,
            Class::Invalid,
            format!("{message}; no other version is there that could serve"),
        ))),
    }
}

/// Which version is to serve, where that is known: the one that the spec asks for, whatever its number, or else the
/// number of the one in its place.
pub(crate) fn to_serve(desired: &Desired, observed: &Observed) -> Option<String> {
    let goal = goal(desired, observed).ok()?;
    Some(match goal.way {
        Way::Rollout | Way::Promotion => "of the spec".to_owned(),
        Way::Retreat { .. } => goal.version.number.to_string(),
    })
}

/// The version that is to serve, where that is known.
pub(crate) fn version_to_serve<'a>(desired: &Desired, observed: &'a Observed) -> Option<&'a Version> {
    goal(desired, observed).ok().map(|goal| goal.version)
}

/// Why a version must take no requests, if that is so.
fn refusal(desired: &Desired, alias: Option<&Alias>, number: u64) -> Option<(Reason, String)> {
    rejection(desired, number).or_else(|| match record(alias)? {
        Record::Aborted { version, at, why }
            if version == number && desired.controls.retry_at.is_none_or(|retry| retry <= at) =>
        {
            Some((
                Reason::RolloutAborted,
                format!(
                    "version {number} was taken back at {at:.0}: {why}; change the spec, or try again with larder retry, or let it serve with larder promote"
                ),
            ))
        }
        Record::Aborted { .. } | Record::Step { .. } | Record::Done { .. } => None,
    })
}

fn rejection(desired: &Desired, number: u64) -> Option<(Reason, String)> {
    let is_promoted = desired.controls.promoted == Some(number);
    (desired.controls.rejected.contains(&number) && !is_promoted).then(|| {
        let key = larder_crds::REJECTED_VERSIONS;
        let what = format!(
            "version {number} is rejected by annotation {key}: change the spec, or take it out of there with larder promote"
        );
        (Reason::RolledBack, what)
    })
}

/// The version that serves in place of one that must not: the one that does, else the newest that can. What has lost
/// its files gives way to what has them.
fn stand_in<'a>(desired: &Desired, observed: &'a Observed, alias: Option<&Alias>) -> Option<&'a Version> {
    let versions = observed.versions.as_ref().ok()?;
    let is_fit = |version: &&Version| {
        matches!(version.function, Remote::Ready(_))
            && !is_lost(version, observed)
            && refusal(desired, alias, version.number).is_none()
            && !super::names_damage(version, observed.inventory())
    };
    let serving = alias.and_then(|alias| versions.iter().find(|version| version.number == alias.version));
    let serving = serving.filter(|version| refusal(desired, alias, version.number).is_none());
    serving
        .filter(|version| !is_lost(version, observed))
        .or_else(|| versions.iter().rev().find(is_fit))
        .or(serving)
}

/// Whether a version is known to have lost its files: it mounts an access point that somebody deleted, and every
/// request to it fails. A published version never mounts another (`PublishVersion`).
fn is_lost(version: &Version, observed: &Observed) -> bool {
    let is_there = |function| function::mounts_what_is_there(function, observed);
    observed.access_point.is_ok() && version.function.ours().is_some_and(|function| !is_there(function))
}

/// What is remembered of the rollout.
pub(super) fn record(alias: Option<&Alias>) -> Option<Record> {
    Record::parse(&alias?.description)
}

/// What the planner wants to know of a new version before it goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Questions {
    /// How this version answers the smoke test.
    pub smoke: Option<u64>,
    /// How this version has done since that time.
    pub health: Option<(u64, Timestamp)>,
    /// Whether an alarm is on before this version takes its first share. The smoke test is asked only when none is.
    pub alarms: Option<u64>,
}

/// What the planner wants to know of a new version.
#[must_use]
pub fn questions(desired: &Desired, observed: &Observed) -> Questions {
    if !matches!(desired.inference, Want::Present(_)) {
        return Questions::default();
    }
    let Ok(alias) = &observed.alias else { return Questions::default() };
    let health = alias.as_ref().and_then(|alias| {
        let (version, _) = alias.second.filter(|_| !desired.rollout.abort_on.is_empty())?;
        let since = match record(Some(alias)) {
            Some(Record::Step { since, .. }) => since,
            Some(Record::Done { .. } | Record::Aborted { .. }) | None => observed.at,
        };
        Some((version, since))
    });
    let begins = goal(desired, observed).ok().filter(|goal| {
        goal.way == Way::Rollout
            && !desired.controls.is_paused
            && !alias.as_ref().is_some_and(|alias| alias.serves(goal.version.number))
            && capacity::warm(desired, observed.at, goal.version).is_ok()
    });
    let begins = begins.map(|goal| goal.version.number);
    Questions {
        smoke: begins.filter(|_| desired.rollout.smoke_test.is_some()),
        health,
        alarms: begins.filter(|_| {
            let takes_a_share =
                alias.as_ref().is_some_and(|it| it.second.is_none() && !has_lost_its_files(it, observed));
            takes_a_share && heeds_alarms(desired)
        }),
    }
}

/// Whether no share moves while an alarm is on.
const fn heeds_alarms(desired: &Desired) -> bool {
    !desired.rollout.steps.is_empty() && !desired.rollout.abort_on.alarms.is_empty()
}

/// Whether the version that serves has.
fn has_lost_its_files(alias: &Alias, observed: &Observed) -> bool {
    let versions = observed.versions.as_deref().unwrap_or_default();
    versions.iter().any(|it| it.number == alias.version && is_lost(it, observed))
}

/// The step that takes back a version that must not go on with its share of the requests.
pub(super) fn take_back(desired: &Desired, observed: &Observed, alias: &Alias) -> Option<Step> {
    let (number, _) = alias.second?;
    if desired.controls.promoted == Some(number) {
        return None;
    }
    let is_rejected = rejection(desired, number).is_some();
    let why = is_rejected.then(|| "it is rejected by an annotation".to_owned());
    let why = why.or_else(|| {
        let health = observed.trial.health.as_ref().ok()?.as_ref()?;
        (health.version == number).then(|| health::fault(&desired.rollout.abort_on, health))?
    });
    let why = why.or_else(|| {
        let Record::Step { version, begun, paused, .. } = record(Some(alias))? else { return None };
        let deadline = desired.rollout.progress_deadline;
        let is_held = desired.controls.is_paused || paused.is_some();
        let is_late = elapsed(begun, observed.at) > deadline && !is_held;
        (version == number && is_late)
            .then(|| format!("it took longer than progressDeadlineSeconds, {} s", deadline.as_secs()))
    })?;
    let aborted = Record::Aborted { version: number, at: observed.at, why };
    Some(move_alias(desired, alias, alias.version, None, &aborted))
}

/// Brings the alias a step nearer to the goal; `Converged` when it is there.
pub(super) fn advance(
    desired: &Desired,
    observed: &Observed,
    alias: Option<&Alias>,
    goal: &Goal<'_>,
) -> Result<Plan, Plan> {
    let (number, at) = (goal.version.number, observed.at);
    let done = |version| match (record(alias), &goal.way) {
        // Why the version that the spec asks for takes no requests stays known.
        (Some(aborted @ Record::Aborted { .. }), Way::Retreat { .. }) => aborted,
        _ => Record::Done { version, since: at },
    };
    let Some(alias) = alias else {
        fit(desired, observed, None, goal)?;
        let create = Step::CreateAlias {
            function: desired.names.function.clone(),
            version: number,
            description: done(number).to_string(),
        };
        return Ok(Plan::Do(preparing(desired, goal).into_iter().chain([create]).collect()));
    };
    let moved = |version, second, record: &Record| Ok(moved(desired, alias, version, second, record));
    // No requests stay with a version that answers none.
    let is_lost = has_lost_its_files(alias, observed);
    let steps = if goal.way == Way::Rollout && !is_lost { desired.rollout.steps.as_slice() } else { &[] };
    match alias.second {
        None if alias.version == number => Ok(Plan::Converged),
        // The spec has come back to what serves.
        Some(_) if alias.version == number => moved(number, None, &done(number)),
        // The spec has changed in the middle of a rollout.
        Some((second, _)) if second != number => moved(alias.version, None, &done(alias.version)),
        Some((_, percent)) if !steps.is_empty() => go_on(desired, observed, alias, number, percent),
        Some(_) | None => {
            let share = alias.second.filter(|(second, _)| *second == number);
            if desired.controls.is_paused && goal.way == Way::Rollout {
                let share = share.map_or_else(|| "none".to_owned(), |(_, percent)| format!("{percent} %"));
                return Err(held(number, &share));
            }
            if share.is_none() {
                if !steps.is_empty() && capacity::warm(desired, at, goal.version).is_ok() {
                    quiet(desired, observed, goal.version)?;
                }
                fit(desired, observed, Some(alias), goal)?;
            }
            let step = match steps.first() {
                Some(step) => {
                    let record = first(number, 0, step.percent, at);
                    move_alias(desired, alias, alias.version, Some((number, step.percent)), &record)
                }
                None => move_alias(desired, alias, number, None, &done(number)),
            };
            let preparing = preparing(desired, goal).filter(|_| share.is_none());
            Ok(Plan::Do(preparing.into_iter().chain([step]).collect()))
        }
    }
}

/// The next step of a version that takes `percent` of the requests, when its time has come.
fn go_on(
    desired: &Desired,
    observed: &Observed,
    alias: &Alias,
    number: u64,
    percent: u8,
) -> Result<Plan, Plan> {
    let (steps, at) = (&desired.rollout.steps, observed.at);
    let moved = |version, second, record: &Record| Ok(moved(desired, alias, version, second, record));
    let stays = |record: &Record| moved(alias.version, Some((number, percent)), record);
    let Some(Record::Step { version, step, since, begun, paused, .. }) =
        record(Some(alias)).filter(|record| is_true(record, number, percent, desired, at))
    else {
        // The steps were changed, or somebody else moved the alias: the hold begins again, at the share that was given.
        let given = given(alias, number).unwrap_or(percent);
        let step = steps.iter().rposition(|it| it.percent <= given).unwrap_or_default();
        let share = steps.get(step).map_or(given, |it| it.percent);
        return moved(alias.version, Some((number, share)), &first(number, step, share, at));
    };
    match (desired.controls.is_paused, paused) {
        (true, Some(_)) => return Err(held(number, &format!("{percent} %"))),
        (true, None) => {
            return stays(&Record::Step { version, step, percent, since, begun, paused: Some(at) });
        }
        // The time that it was held counts for nothing.
        (false, Some(from)) => {
            let (since, begun) = (later(since, elapsed(from, at)), later(begun, elapsed(from, at)));
            return stays(&Record::Step { version, step, percent, since, begun, paused: None });
        }
        (false, None) => {}
    }
    let hold = steps.get(step).map_or(Duration::ZERO, |it| it.hold);
    let rest = hold.saturating_sub(elapsed(since, at));
    if !rest.is_zero() {
        return Err(Plan::Wait {
            reason: Reason::Progressing,
            on: format!(
                "version {number}, which takes {percent} % of the requests (step {} of {}) until {:.0}",
                step + 1,
                steps.len(),
                later(since, hold)
            ),
            after: rest.min(LOOK),
        });
    }
    if !desired.rollout.abort_on.is_empty() {
        match &observed.trial.health {
            Ok(Some(health)) if health.version == number => judged(&desired.rollout.abort_on, health)?,
            Ok(_) => return Err(Plan::wait(Reason::Progressing, format!("what version {number} has done"))),
            Err(problem) => return Err(problem.into()),
        }
    }
    match steps.get(step + 1) {
        Some(next) => {
            let (step, percent) = (step + 1, next.percent);
            let record = Record::Step { version, step, percent, since: at, begun, paused: None };
            moved(alias.version, Some((number, percent)), &record)
        }
        None => moved(number, None, &Record::Done { version, since: at }),
    }
}

/// A version takes a share as of now.
const fn first(version: u64, step: usize, percent: u8, at: Timestamp) -> Record {
    Record::Step { version, step, percent, since: at, begun: at, paused: None }
}

/// The share that a version was given, as the alias's description has it.
fn given(alias: &Alias, number: u64) -> Option<u8> {
    match record(Some(alias))? {
        Record::Step { version, percent, .. } => (version == number).then_some(percent),
        Record::Done { .. } | Record::Aborted { .. } => None,
    }
}

/// Whether somebody else has moved the alias while the version that is to serve took its first shares: what the alias
/// does is not what its description says, or that is gone together with the share that `told`, the last status, knew.
pub(crate) fn is_disturbed(desired: &Desired, observed: &Observed, told: Option<&RolloutStatus>) -> bool {
    let Ok(Some(alias)) = &observed.alias else { return false };
    let is_taking = |number: u64| {
        told.is_some_and(|told| told.step.is_some() && told.version == number.to_string())
            && alias.second.is_none()
    };
    let Some(goal) = goal(desired, observed).ok().filter(|goal| goal.way == Way::Rollout) else {
        return false;
    };
    let number = goal.version.number;
    let is_moved = match given(alias, number) {
        Some(percent) => alias.second != Some((number, percent)),
        None => record(Some(alias)).is_none() && is_taking(number),
    };
    // What is unfit is taken back, whoever moved it.
    is_moved && alias.version != number && take_back(desired, observed, alias).is_none()
}

/// What was not judged is not let through: a version that is suspected waits for the invocations that decide.
fn judged(on: &AbortOn, health: &Health) -> Result<(), Plan> {
    let Some(why) = health::suspicion(on, health) else { return Ok(()) };
    Err(Plan::Wait {
        reason: Reason::Progressing,
        on: format!(
            "version {} to have {} invocations in this step, to be judged by: {why}",
            health.version, on.min_invocations
        ),
        after: LOOK,
    })
}

/// Whether a record tells how `number` came to its share of the requests.
fn is_true(record: &Record, number: u64, percent: u8, desired: &Desired, at: Timestamp) -> bool {
    match record {
        Record::Step { version, step, percent: given, since, .. } => {
            let step = desired.rollout.steps.get(*step);
            *version == number
                && *given == percent
                && *since <= at
                && step.is_some_and(|it| it.percent == percent)
        }
        Record::Done { .. } | Record::Aborted { .. } => false,
    }
}

fn held(number: u64, share: &str) -> Plan {
    let key = larder_crds::ROLLOUT_PAUSED;
    Plan::Wait {
        reason: Reason::Paused,
        on: format!("annotation {key} to go (larder resume): version {number} takes {share} of the requests"),
        after: LOOK,
    }
}

/// No share moves while an alarm is on: whatever it is about, that is no time to try something new.
fn quiet(desired: &Desired, observed: &Observed, version: &Version) -> Result<(), Plan> {
    let number = version.number;
    if !heeds_alarms(desired) {
        return Ok(());
    }
    let seen = observed.trial.health.as_ref().map_err(Plan::from)?.as_ref().filter(|it| it.version == number);
    let Some(seen) = seen else {
        return Err(Plan::wait(
            Reason::Progressing,
            format!("the alarms to be looked at for version {number}"),
        ));
    };
    let Some(alarm) = health::alarm(&desired.rollout.abort_on, seen) else { return Ok(()) };
    let on = format!(
        "alarm {alarm}, which is on, to be over before version {number} takes its first share of the requests; larder promote does not wait for it"
    );
    let deadline = desired.rollout.progress_deadline;
    if begun(desired, observed, version).is_some_and(|since| elapsed(since, observed.at) > deadline) {
        let message =
            format!("waiting for {on}; longer than progressDeadlineSeconds, {} s", deadline.as_secs());
        return Err(Plan::blocked(Reason::ProgressDeadlineExceeded, Class::Transient, message));
    }
    Err(Plan::Wait { reason: Reason::WaitingForAlarm, on, after: LOOK })
}

/// When the rollout of a version that has taken no requests yet began, as far as AWS and the person who asked for it
/// tell: the last time that something was done for it.
fn begun(desired: &Desired, observed: &Observed, version: &Version) -> Option<Timestamp> {
    let latest = observed.inference.function.as_ref().ok().and_then(Remote::ours);
    let changed = [latest, version.function.ours()].map(|function| function.and_then(|it| it.modified));
    let warmed = version.provisioned.as_ref().and_then(|it| it.changed);
    changed.into_iter().chain([warmed, desired.controls.retry_at]).flatten().max()
}

/// Whether a version may take its first request; until then what is to be done.
fn fit(desired: &Desired, observed: &Observed, alias: Option<&Alias>, goal: &Goal<'_>) -> Result<(), Plan> {
    let number = goal.version.number;
    let function = &desired.names.function;
    capacity::warm(desired, observed.at, goal.version).map_err(|_| {
        Plan::wait(Reason::WaitingForCapacity, format!("version {number} of {function} to be warm"))
    })?;
    if desired.rollout.smoke_test.is_none() || goal.way != Way::Rollout {
        return Ok(());
    }
    let smoke = observed.trial.smoke.as_ref().map_err(Plan::from)?.as_ref().filter(|it| it.version == number);
    let Some(smoke) = smoke else {
        return Err(Plan::wait(Reason::Progressing, format!("version {number} to answer the smoke test")));
    };
    let Some(why) = &smoke.fault else { return Ok(()) };
    let why = format!("it failed the smoke test: {why}");
    Err(match alias {
        Some(alias) => {
            let aborted = Record::Aborted { version: number, at: observed.at, why };
            moved(desired, alias, alias.version, None, &aborted)
        }
        None => Plan::Retry {
            steps: Vec::new(),
            reason: Reason::SmokeTestFailed,
            message: format!("version {number} of function {function} takes no requests: {why}"),
        },
    })
}

/// What has a version prepare its models, together with its first share of the requests: then it has begun before them,
/// and once it has them, it is not asked again. The warm-ups of provisioned concurrency prepare models unasked, and no
/// warm sandbox is taken from the requests for it.
fn preparing(desired: &Desired, goal: &Goal<'_>) -> Option<Step> {
    let is_asked =
        desired.rollout.prepares_models && desired.provisioned.is_none() && goal.way == Way::Rollout;
    let function = desired.names.function.clone();
    is_asked.then_some(Step::PrepareModels { function, version: goal.version.number })
}

fn moved(desired: &Desired, alias: &Alias, version: u64, second: Option<(u64, u8)>, record: &Record) -> Plan {
    Plan::Do(vec![move_alias(desired, alias, version, second, record)])
}

fn move_alias(
    desired: &Desired,
    alias: &Alias,
    version: u64,
    second: Option<(u64, u8)>,
    record: &Record,
) -> Step {
    Step::UpdateAlias {
        function: desired.names.function.clone(),
        from: alias.version,
        version,
        second,
        description: record.to_string(),
        revision_id: alias.revision_id.clone(),
    }
}

/// The time between two moments; none when the clock was set back.
pub(super) fn elapsed(since: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(since)).unwrap_or_default()
}

fn later(moment: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| moment.saturating_add(by).ok()).unwrap_or(moment)
}

/// When what the rollout waits for is over, as far as time alone decides.
#[must_use]
pub fn waits_until(desired: &Desired, observed: &Observed) -> Option<Timestamp> {
    let alias = observed.alias.as_ref().ok()?.as_ref()?;
    let (since, wait) = match record(Some(alias))? {
        Record::Step { step, since, .. } => (since, desired.rollout.steps.get(step)?.hold),
        Record::Done { since, .. } => (since, super::history::DRAIN),
        Record::Aborted { .. } => return None,
    };
    Some(later(since, wait))
}
