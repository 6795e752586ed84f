//! Performs the planned steps. Each area goes on its own: a failure stops its area's later steps and
//! nobody else's.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_core::plan::{Area, Plan, Plans};
use larder_core::retry::Attempts;
use larder_core::status::{Failures, failure_class};
use larder_core::{Problem, Step};

use crate::cloud::Cloud;
use crate::pace::goes_on;
use crate::reconcile::Now;

/// What an endpoint's earlier passes failed at. Lost in a crash, to no harm: it only slows retries down.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: Attempts<Area>,
    failures: BTreeMap<Area, Problem>,
    /// What was started and goes on by itself, and when.
    started: Vec<(Duration, Step)>,
}

/// An asynchronous invoke takes a moment until its work shows; until then it is not made again.
const SHOWS_WITHIN: Duration = Duration::from_secs(2);

impl Backoff {
    /// Forgets everything: the user has changed something, so that waiting would be wrong.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What became of the steps.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The last failure of each area whose steps could not be performed.
    pub failures: Failures,
    /// The areas that could not go on, and how long until they may be tried again.
    pub waits: BTreeMap<Area, Duration>,
    /// The steps that were made, or tried.
    pub written: Vec<Step>,
}

/// Performs the steps of `plans`, where their area may be tried again.
pub async fn act<C: Cloud>(cloud: &C, plans: &Plans, backoff: &mut Backoff, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    backoff.started.retain(|(at, _)| now.since_start.saturating_sub(*at) < SHOWS_WITHIN);
    for area in Area::ALL {
        let plan = plans.get(area);
        let wait = backoff.attempts.wait(&area, now.since_start);
        if plan.steps().is_empty() {
            backoff.failures.remove(&area);
        } else if wait.is_zero() {
            backoff.failures.remove(&area);
            for step in plan.steps() {
                if backoff.started.iter().any(|(_, started)| started == step) {
                    continue;
                }
                outcome.written.push(step.clone());
                tracing::info!(area = ?area, "{} {step}", step.effect().mark());
                if let Err(error) = Box::pin(cloud.perform(step)).await {
                    tracing::warn!(area = ?area, error = &error as &dyn std::error::Error, "a step failed");
                    backoff.failures.insert(area, error.problem);
                    break;
                }
                if goes_on(step) {
                    backoff.started.push((now.since_start, step.clone()));
                }
            }
        }
        let failure = backoff.failures.get(&area);
        settle(area, plan, failure, wait, &mut backoff.attempts, &mut outcome, now);
    }
    outcome.failures = backoff.failures.clone();
    outcome
}

/// Counts the area's failure, or forgets its earlier ones.
fn settle(
    area: Area,
    plan: &Plan,
    failure: Option<&Problem>,
    wait: Duration,
    attempts: &mut Attempts<Area>,
    outcome: &mut Outcome,
    now: Now,
) {
    match failure_class(plan, failure) {
        Some(_) if !wait.is_zero() => {
            outcome.waits.insert(area, wait);
        }
        Some(class) => {
            outcome.waits.insert(area, attempts.failed(area, class, now.since_start, now.jitter));
        }
        // A copy at work may fail like the one before it: only its success forgets.
        None if matches!(plan, Plan::Wait { .. }) => {}
        None => attempts.succeeded(&area),
    }
}
