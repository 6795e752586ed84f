//! Whose turn it is. A look at an endpoint that should be as it was waits for a turn of its own, so that ten thousand
//! of them, due at once, never stand before one whose spec has changed; and an endpoint that is changed all the time
//! waits for its own sake alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Between two looks for drift: twenty a second.
const GAP: Duration = Duration::from_millis(50);

/// How many changes of one endpoint are acted on at once before the next ones wait.
const CHANGES: u32 = 10;

/// How long it takes until one more is.
const ONE_MORE: Duration = Duration::from_secs(6);

/// Turns of looks for drift.
#[derive(Debug)]
pub struct Turns {
    next: Mutex<Duration>,
    looks: Arc<Semaphore>,
}

impl Turns {
    /// At most so many looks at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { next: Mutex::default(), looks: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// The time of the next free turn, which is taken with it.
    #[must_use]
    pub fn take(&self, now: Duration) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = now.max(*next);
        *next = turn + GAP;
        turn
    }

    /// The right to look now, until it is dropped; none while enough others do.
    #[must_use]
    pub fn look(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.looks).try_acquire_owned().ok()
    }
}

/// The changes of one endpoint.
#[derive(Debug, Default)]
pub struct Changes {
    /// When all that was acted on is forgotten.
    forgotten_at: Duration,
}

impl Changes {
    /// Notes a change at `now`; how long it must wait when there were too many, and then nothing is noted.
    pub fn note(&mut self, now: Duration) -> Option<Duration> {
        let forgotten_at = self.forgotten_at.max(now) + ONE_MORE;
        let wait = forgotten_at.saturating_sub(now + ONE_MORE * CHANGES);
        if wait.is_zero() {
            self.forgotten_at = forgotten_at;
            return None;
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_due_at_once_come_one_after_the_other() {
        let (turns, now) = (Turns::new(1), Duration::from_secs(5));
        let all: Vec<Duration> = (0..3).map(|_| turns.take(now)).collect();
        assert_eq!(all, [now, now + GAP, now + 2 * GAP]);
        // Nobody waits for turns that nobody took.
        let later = Duration::from_mins(1);
        assert_eq!(turns.take(later), later);
    }

    #[test]
    fn only_some_look_at_once() {
        let turns = Turns::new(2);
        let (first, second) = (turns.look(), turns.look());
        assert!(first.is_some() && second.is_some() && turns.look().is_none());
        drop(first);
        assert!(turns.look().is_some());
    }

    #[test]
    fn who_changes_all_the_time_waits() {
        let (mut changes, now) = (Changes::default(), Duration::from_secs(100));
        assert!((0..CHANGES).all(|_| changes.note(now).is_none()));
        assert_eq!(changes.note(now), Some(ONE_MORE));
        assert_eq!(changes.note(now), Some(ONE_MORE));
        assert_eq!(changes.note(now + ONE_MORE), None);
        let much_later = now + Duration::from_mins(10);
        assert!((0..CHANGES).all(|_| changes.note(much_later).is_none()));
    }
}
