//! A place that is opened once, by one caller at a time.

use std::time::Duration;

use larder_core::{Class, Problem};
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tokio::time::Instant;

use crate::cloud::{CloudError, Result};

/// How long opening may take.
const OPENS_WITHIN: Duration = Duration::from_secs(10);

/// How long a failure stands for those who come next.
const STANDS_FOR: Duration = Duration::from_secs(3);

/// A place that is opened at most once, and what came of the last attempt.
#[derive(Debug)]
pub(super) struct Door<T> {
    opened: OnceCell<T>,
    failed: Mutex<Option<(Instant, Problem)>>,
    opens_within: Duration,
    stands_for: Duration,
}

impl<T> Default for Door<T> {
    fn default() -> Self {
        Self {
            opened: OnceCell::new(),
            failed: Mutex::new(None),
            opens_within: OPENS_WITHIN,
            stands_for: STANDS_FOR,
        }
    }
}

impl<T: Clone> Door<T> {
    /// What is behind it, opened with one of `permits` if it is not; none when another caller is at it, or no permit
    /// is left.
    pub(super) async fn pass<F>(&self, permits: &Semaphore, open: impl FnOnce() -> F) -> Option<Result<T>>
    where
        F: Future<Output = Result<T>>,
    {
        if let Some(opened) = self.opened.get() {
            return Some(Ok(opened.clone()));
        }
        let mut failed = self.failed.try_lock().ok()?;
        if let Some(opened) = self.opened.get() {
            return Some(Ok(opened.clone()));
        }
        if let Some((at, problem)) = failed.as_ref().filter(|(at, _)| at.elapsed() < self.stands_for) {
            tracing::debug!(ago = ?at.elapsed(), "an attempt to connect has just failed");
            return Some(Err(CloudError { problem: problem.clone(), source: None }));
        }
        let _permit = permits.try_acquire().ok()?;
        let opened = tokio::time::timeout(self.opens_within, Box::pin(open())).await.unwrap_or_else(|_| {
            let waited = format!("no answer within {} s", self.opens_within.as_secs());
            Err(CloudError::new("AssumeRole", "the endpoint's role", Class::Transient, "", &waited))
        });
        match &opened {
            Ok(cloud) => {
                let _ = self.opened.set(cloud.clone());
            }
            Err(error) => *failed = Some((Instant::now(), error.problem.clone())),
        }
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;

    use super::*;

    fn denied() -> Result<u8> {
        Err(CloudError::new("AssumeRole", "role x", Class::Denied, "AccessDenied", "no"))
    }

    fn quick() -> Door<u8> {
        let moment = Duration::from_millis(300);
        Door { opens_within: moment, stands_for: moment, ..Door::default() }
    }

    #[tokio::test]
    async fn one_that_hangs_keeps_nobody_waiting_and_gives_up() {
        let (permits, hung, sound) = (Arc::new(Semaphore::new(2)), Arc::new(quick()), quick());
        let first = {
            let (permits, hung) = (Arc::clone(&permits), Arc::clone(&hung));
            tokio::spawn(async move { hung.pass(&permits, pending::<Result<u8>>).await })
        };
        tokio::task::yield_now().await;
        for _ in 0..100 {
            assert!(hung.pass(&permits, || ready(Ok(1))).await.is_none(), "another is at it");
        }
        assert_eq!(sound.pass(&permits, || ready(Ok(2))).await.unwrap().unwrap(), 2);
        assert!(!first.is_finished());
        let error = first.await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.problem.class, Class::Transient);
        assert_eq!(permits.available_permits(), 2);
    }

    #[tokio::test]
    async fn many_that_hang_leave_room_and_an_open_one_needs_none() {
        let (permits, open) = (Semaphore::new(1), quick());
        assert_eq!(open.pass(&permits, || ready(Ok(1))).await.unwrap().unwrap(), 1);
        let _all = permits.acquire().await.unwrap();
        assert_eq!(open.pass(&permits, || ready(denied())).await.unwrap().unwrap(), 1);
        assert!(quick().pass(&permits, || ready(Ok(1))).await.is_none());
    }

    #[tokio::test]
    async fn a_failure_stands_for_a_moment_and_is_then_tried_again() {
        let (permits, door) = (Semaphore::new(1), quick());
        for open in [denied(), Ok(1)] {
            let error = door.pass(&permits, || ready(open)).await.unwrap().unwrap_err();
            assert_eq!((error.problem.class, error.problem.operation), (Class::Denied, "AssumeRole"));
        }
        tokio::time::sleep(door.stands_for).await;
        assert_eq!(door.pass(&permits, || ready(Ok(1))).await.unwrap().unwrap(), 1);
    }
}
