//! How soon to look again while something is under way: at once after a write, then ever more seldom for as long as
//! nothing changes, so that what takes seconds is noticed within a second and what takes minutes costs few calls.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_core::Step;
use larder_core::plan::{Area, Plan, Reason};

/// The shortest wait.
const SOONEST: Duration = Duration::from_millis(500);

/// The longest wait for what AWS is at.
const LATEST: Duration = Duration::from_secs(10);

/// Since when each area's plan has been what it is.
#[derive(Debug, Default)]
pub struct Pace {
    since: BTreeMap<Area, (Plan, Duration)>,
}

impl Pace {
    /// How long until the next look that `plan` asks for at `now`; none when it asks for none.
    pub fn wait(&mut self, area: Area, plan: &Plan, now: Duration) -> Option<Duration> {
        let known = self.since.get(&area).filter(|(was, _)| is_same(was, plan)).map(|(_, since)| *since);
        let is_new = known.is_none();
        let since = known.unwrap_or(now);
        if is_new {
            self.since.insert(area, (plan.clone(), now));
        }
        let growing = (now.saturating_sub(since) / 3).clamp(SOONEST, LATEST);
        match plan {
            Plan::Converged | Plan::Blocked { .. } => {
                self.since.remove(&area);
                None
            }
            // What was invoked asynchronously takes a moment until it shows.
            Plan::Do(steps) | Plan::Retry { steps, .. } if is_new && !steps.iter().any(goes_on) => {
                Some(Duration::ZERO)
            }
            // It says exactly when, or that there is no hurry.
            Plan::Wait { reason, after, .. } if is_timed(*reason) || *after > LATEST => Some(*after),
            Plan::Wait { reason, .. } if is_of_another_area(*reason) => Some(LATEST),
            Plan::Do(_) | Plan::Retry { .. } | Plan::Wait { .. } => Some(growing),
        }
    }
}

/// What is waited for is over at a time that is known, or is a person's to end.
const fn is_timed(reason: Reason) -> bool {
    matches!(reason, Reason::Settling | Reason::Progressing | Reason::Draining | Reason::Paused)
}

/// What is waited for has its own area, whose plan says when to look.
const fn is_of_another_area(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::WaitingForStorage
            | Reason::WaitingForModels
            | Reason::WaitingForFunction
            | Reason::WaitingForCapacity
            | Reason::WaitingForTraffic
    )
}

/// A step whose work goes on after the call.
pub(crate) fn goes_on(step: &Step) -> bool {
    matches!(step, Step::StartSync { .. } | Step::Verify { .. })
}

/// Whether the same is done or waited for. Progress is no change.
fn is_same(was: &Plan, plan: &Plan) -> bool {
    match (was, plan) {
        (Plan::Wait { reason: was, .. }, Plan::Wait { reason, .. }) => was == reason,
        (was, plan) => was == plan,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_while_nothing_changes() {
        let s = Duration::from_secs;
        let waiting = |on: &str| Plan::Wait { reason: Reason::Waiting, on: on.to_owned(), after: s(2) };
        let write = Plan::Do(vec![Step::DeleteFileSystem { id: "fs-1".to_owned() }]);
        let mut pace = Pace::default();
        let mut wait = |plan: &Plan, at| pace.wait(Area::Storage, plan, at);
        assert_eq!(wait(&write, s(0)), Some(Duration::ZERO));
        // It was made, and does not show yet.
        assert_eq!(wait(&write, s(0)), Some(SOONEST));
        assert_eq!(wait(&waiting("1 of 2"), s(1)), Some(SOONEST));
        assert_eq!(wait(&waiting("2 of 2"), s(10)), Some(s(3)));
        assert_eq!(wait(&waiting("2 of 2"), s(500)), Some(LATEST));
        assert_eq!(wait(&Plan::Converged, s(501)), None);
        assert_eq!(wait(&waiting("2 of 2"), s(502)), Some(SOONEST));
        let settling = Plan::Wait { reason: Reason::Settling, on: String::new(), after: s(7) };
        assert_eq!(wait(&settling, s(503)), Some(s(7)));
    }
}
