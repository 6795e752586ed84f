//! The one straight line, the same for create, update, drift, rollout and delete.

use std::time::Duration;

use jiff::Timestamp;
use larder_core::endpoint::{Controls, Management};
use larder_core::observed::{Observed, Read, Remote, Source};
use larder_core::plan::{Plan, Plans};
use larder_core::status::status;
use larder_core::step::Effect;
use larder_core::{Area, Desired, Endpoint, Step, drift, plan};
use larder_crds::InferenceEndpointStatus;

use crate::act::{Backoff, Outcome, act};
use crate::cloud::Cloud;
use crate::known::Known;
use crate::observe::{Listings, observe_beyond, sources};
use crate::pace::Pace;
use crate::sources::Sources;

/// One pass over one endpoint.
pub async fn pass<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    previous: &InferenceEndpointStatus,
    memory: &mut Memory,
    now: Now,
) -> Pass {
    let mut previous = previous.clone();
    if memory.notice(endpoint) {
        drift::forgive(&mut previous);
    }
    if endpoint.deleting || endpoint.management != Management::Apply {
        memory.known.forget();
    }
    let listings = memory.sources.fresh(endpoint, now);
    let (observed, plans) =
        Box::pin(look(cloud, endpoint, listings, &previous, &mut memory.known, now)).await;
    let outcome = match endpoint.management {
        Management::Apply => Box::pin(act(cloud, &plans, &mut memory.backoff, now)).await,
        Management::Plan | Management::Suspend => Outcome::default(),
    };
    memory.learn(endpoint, &observed, &plans, &outcome, now);
    let status = status(endpoint, &observed, &plans, &outcome.failures, &previous, now.timestamp);
    let is_gone = endpoint.deleting && plans.is_converged() && outcome.failures.is_empty();
    Pass {
        is_deleted: memory.has_been_gone(is_gone, now),
        again: again(endpoint, &plans, &outcome, memory, now, is_gone),
        queue: observed
            .events
            .queue
            .map(|queue| queue.ready().filter(|queue| queue.takes_events).map(|queue| queue.url.clone())),
        plans,
        status,
    }
}

/// Observes and plans. What is final rests on nothing that is not from just now.
async fn look<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    mut listings: Listings,
    previous: &InferenceEndpointStatus,
    known: &mut Known,
    now: Now,
) -> (Observed, Plans) {
    let desired = Desired::of(endpoint);
    known.age(now.since_start);
    loop {
        let observed =
            Box::pin(observe_beyond(known, cloud, endpoint, &listings, previous, now.timestamp)).await;
        known.learn(&observed, now.since_start);
        let plans = drift::held(plan(&desired, &observed), endpoint, &desired, &observed, previous);
        // Twice at most: what was read in this pass is not doubted.
        if !is_final(&plans) || !known.doubt(now.since_start) {
            return (observed, plans);
        }
        listings = observed.sources;
    }
}

/// Nothing is under way any more, or something is to be deleted or to take requests.
fn is_final(plans: &Plans) -> bool {
    let is_grave = |step: &Step| {
        step.effect() == Effect::Deletes
            || matches!(step, Step::CreateAlias { .. } | Step::UpdateAlias { .. })
    };
    !is_under_way(plans) || plans.steps().any(|(_, step)| is_grave(step))
}

fn is_under_way(plans: &Plans) -> bool {
    Area::ALL.iter().any(|area| match plans.get(*area) {
        Plan::Do(_) | Plan::Retry { .. } | Plan::Wait { .. } => area.is_part_of_ready(),
        Plan::Converged | Plan::Blocked { .. } => false,
    })
}

/// Looks for the signs of a change at an endpoint of which `status` says that all is as wanted: at what the alias
/// points at, and at the function's `RevisionId`. Two calls that Lambda has a rate of their own for, and the sources
/// when it is their time. When to look again.
///
/// It writes nothing and tells nothing, so it may trust the status: a change that it misses waits for the next pass.
///
/// # Errors
/// What is not as it was told, or could not be read.
pub async fn glance<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    status: &InferenceEndpointStatus,
    memory: &mut Memory,
    now: Now,
) -> Result<Duration, &'static str> {
    let seen = status.function.as_ref().ok_or("no function was told of")?;
    let (name, owner) = (&endpoint.names.function, &endpoint.names.owner);
    let listings = memory.sources.fresh(endpoint, now);
    let (function, serving, sources) = tokio::join!(
        Box::pin(cloud.function(name, owner)),
        Box::pin(cloud.serving(name)),
        Box::pin(sources(cloud, endpoint, &listings, status, now.timestamp)),
    );
    let (Ok(Remote::Ready(function)), Ok(Some(serving))) = (function, serving) else {
        return Err("the function or its alias");
    };
    let is_listed = endpoint.models.iter().all(|model| {
        let told = status.models.iter().find(|it| it.name == model.name);
        match (sources.get(&model.name), told) {
            (Some(Ok(Source::Found { revision, .. })), Some(told)) => {
                told.desired_digest.as_deref() == Some(revision.to_string().as_str())
            }
            _ => false,
        }
    });
    let is_as_told = |is: bool, what| if is { Ok(()) } else { Err(what) };
    is_as_told(seen.revision_id.as_ref() == Some(&function.revision_id), "the function's RevisionId")?;
    is_as_told(seen.version.as_deref() == Some(serving.to_string().as_str()), "the version that serves")?;
    is_as_told(function.reserved == endpoint.reserved, "reserved concurrency")?;
    is_as_told(is_listed, "a model's source")?;
    memory.notice(endpoint);
    memory.sources.learn_listed(endpoint, &sources, now);
    Ok(converged(endpoint, memory, now))
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
    known: Known,
    pace: Pace,
    /// When everything was last looked at.
    looked: Option<Duration>,
    seen: Option<Asked>,
    gone_since: Option<Duration>,
}

/// What a person asks for: anything new of it is worked on at once.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    generation: i64,
    at: Option<String>,
    controls: Controls,
    deleting: bool,
}

impl Asked {
    fn by(endpoint: &Endpoint) -> Self {
        Self {
            generation: endpoint.generation,
            at: endpoint.asked_at.clone(),
            controls: endpoint.controls.clone(),
            deleting: endpoint.deleting,
        }
    }
}

impl Memory {
    /// Whether the last pass was about this spec, asked for by the same annotations.
    #[must_use]
    pub fn is_about(&self, endpoint: &Endpoint) -> bool {
        self.seen.as_ref() == Some(&Asked::by(endpoint))
    }

    /// Whether there was a pass before.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.seen.is_none()
    }

    /// Whether it is a day since everything was looked at. What a glance does not see is seen then.
    #[must_use]
    pub fn is_stale(&self, now: Now) -> bool {
        now.since_start.saturating_sub(self.looked.unwrap_or_default()) >= STALE
    }

    /// A source has changed, as S3 tells: what was listed is no longer true.
    pub fn wake(&mut self) {
        self.sources.forget();
    }

    /// A new spec, a deletion or a new reconcile-at annotation: whatever was waited for may be mended.
    /// Answers whether there is such while this process looks on; what it finds when it starts is nothing new.
    fn notice(&mut self, endpoint: &Endpoint) -> bool {
        if self.is_about(endpoint) {
            return false;
        }
        self.backoff.reset();
        self.sources.forget();
        self.known.forget();
        self.seen.replace(Asked::by(endpoint)).is_some()
    }

    /// Keeps what the next pass can go on from.
    fn learn(
        &mut self,
        endpoint: &Endpoint,
        observed: &Observed,
        plans: &Plans,
        outcome: &Outcome,
        now: Now,
    ) {
        self.sources.learn(endpoint, observed, now);
        self.looked = Some(now.since_start);
        for step in &outcome.written {
            self.known.wrote(step, &endpoint.names);
        }
        self.known.settle();
        // A failure may tell that what is known is not so.
        if !is_under_way(plans) || !outcome.failures.is_empty() {
            self.known.forget();
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

/// The longest time for which glances do for looks.
const STALE: Duration = Duration::from_hours(24);

/// When an endpoint is looked at again at which nothing is to be done.
fn converged(endpoint: &Endpoint, memory: &Memory, now: Now) -> Duration {
    memory.sources.due_in(endpoint, now).min(RESYNC).mul_f64(1.0 + now.jitter.clamp(0.0, 1.0) / 10.0)
}

/// The soonest that any area asks for.
fn again(
    endpoint: &Endpoint,
    plans: &Plans,
    outcome: &Outcome,
    memory: &mut Memory,
    now: Now,
    is_gone: bool,
) -> Duration {
    let converged = converged(endpoint, memory, now);
    if is_gone {
        return SETTLE;
    }
    if endpoint.management != Management::Apply {
        return converged;
    }
    let of_area = |area: &Area| {
        let wait = memory.pace.wait(*area, plans.get(*area), now.since_start);
        match outcome.waits.get(area) {
            Some(wait) => Some((*wait).max(Duration::from_millis(100))),
            None => wait,
        }
    };
    Area::ALL.iter().filter_map(of_area).min().unwrap_or(converged).min(converged)
}
