//! The one straight line, the same for create, update, drift, rollout and delete.

use std::time::Duration;

use jiff::Timestamp;
use larder_core::endpoint::Management;
use larder_core::observed::Read;
use larder_core::plan::{Plan, Plans};
use larder_core::status::status;
use larder_core::{Area, Desired, Endpoint, Step, plan};
use larder_crds::InferenceEndpointStatus;

use crate::act::{Backoff, Outcome, act};
use crate::cloud::Cloud;
use crate::observe::observe;
use crate::sources::Sources;

/// One pass over one endpoint.
pub async fn pass<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    previous: &InferenceEndpointStatus,
    memory: &mut Memory,
    now: Now,
) -> Pass {
    memory.notice(endpoint);
    let known = memory.sources.fresh(endpoint, now);
    let observed = Box::pin(observe(cloud, endpoint, &known, previous, now.timestamp)).await;
    let desired = Desired::of(endpoint);
    let plans = plan(&desired, &observed);
    let outcome = match endpoint.management {
        Management::Apply => Box::pin(act(cloud, &plans, &mut memory.backoff, now)).await,
        Management::Plan | Management::Suspend => Outcome::default(),
    };
    memory.sources.learn(endpoint, &observed, now);
    let status = status(endpoint, &observed, &plans, &outcome.failures, previous, now.timestamp);
    let is_gone = endpoint.deleting && plans.is_converged() && outcome.failures.is_empty();
    let listing = memory.sources.due_in(endpoint, now);
    Pass {
        is_deleted: memory.has_been_gone(is_gone, now),
        again: again(endpoint, &plans, &outcome, now, listing, is_gone),
        queue: observed
            .events
            .queue
            .map(|queue| queue.ready().filter(|queue| queue.takes_events).map(|queue| queue.url.clone())),
        plans,
        status,
    }
}

/// The time, and chance, of a pass: arguments, so that tests can move them.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// A clock that only goes forward.
    pub since_start: Duration,
    /// The time of day.
    pub timestamp: Timestamp,
    /// A random number in 0..=1, so that endpoints do not move in step.
    pub jitter: f64,
}

/// What came of a pass.
#[derive(Debug)]
pub struct Pass {
    /// What to tell the user.
    pub status: InferenceEndpointStatus,
    /// What was to be done.
    pub plans: Plans,
    /// When to look again.
    pub again: Duration,
    /// The URL of the queue of S3's events, once it takes them.
    pub queue: Read<Option<String>>,
    /// Nothing of a deleted endpoint is left, seen twice: the finalizer can go.
    pub is_deleted: bool,
}

/// What a process remembers of an endpoint between passes. Lost in a crash, to no harm.
#[derive(Debug, Default)]
pub struct Memory {
    backoff: Backoff,
    sources: Sources,
    seen: Option<(i64, Option<String>, bool)>,
    gone_since: Option<Duration>,
}

impl Memory {
    /// Whether the last pass was about this spec, asked for by the same annotation.
    #[must_use]
    pub fn is_about(&self, endpoint: &Endpoint) -> bool {
        self.seen.as_ref().is_some_and(|(generation, asked_at, deleting)| {
            (*generation, asked_at, *deleting) == (endpoint.generation, &endpoint.asked_at, endpoint.deleting)
        })
    }

    /// A source has changed, as S3 tells: what was listed is no longer true.
    pub fn wake(&mut self) {
        self.sources.forget();
    }

    /// A new spec, a deletion or a new reconcile-at annotation: whatever was waited for may be mended.
    fn notice(&mut self, endpoint: &Endpoint) {
        if !self.is_about(endpoint) {
            self.backoff.reset();
            self.sources.forget();
            self.seen = Some((endpoint.generation, endpoint.asked_at.clone(), endpoint.deleting));
        }
    }

    /// AWS's lists may be behind what was just written, so gone is what was seen gone twice.
    fn has_been_gone(&mut self, is_gone: bool, now: Now) -> bool {
        if !is_gone {
            self.gone_since = None;
            return false;
        }
        let since = *self.gone_since.get_or_insert(now.since_start);
        now.since_start.saturating_sub(since) >= SETTLE
    }
}

/// How long nothing must be seen before it is believed.
const SETTLE: Duration = Duration::from_secs(2);

/// The longest time between two looks for drift.
const RESYNC: Duration = Duration::from_mins(10);

/// The soonest that any area asks for.
fn again(
    endpoint: &Endpoint,
    plans: &Plans,
    outcome: &Outcome,
    now: Now,
    listing: Duration,
    is_gone: bool,
) -> Duration {
    let converged = listing.min(RESYNC).mul_f64(1.0 + now.jitter.clamp(0.0, 1.0) / 10.0);
    if is_gone {
        return SETTLE;
    }
    if endpoint.management != Management::Apply {
        return converged;
    }
    let of_area = |area: &Area| match (outcome.waits.get(area), plans.get(*area)) {
        (Some(wait), _) => (*wait).max(Duration::from_millis(100)),
        // An asynchronous invoke takes a moment until its work shows; looked for too soon, it is made again.
        (None, plan)
            if plan.steps().iter().any(|s| matches!(s, Step::StartSync { .. } | Step::Verify { .. })) =>
        {
            Duration::from_secs(2)
        }
        (None, Plan::Do(_) | Plan::Retry { .. }) => Duration::from_millis(500),
        (None, Plan::Wait { after, .. }) => *after,
        (None, Plan::Converged | Plan::Blocked { .. }) => converged,
    };
    Area::ALL.iter().map(of_area).min().unwrap_or(converged).min(converged)
}
