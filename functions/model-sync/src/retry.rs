//! How often and when again.
//!
//! A copy has one budget for all its retries, so that a store that fails everywhere is left alone soon,
//! while one that fails now and then never ends a long copy.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The retries of one copy.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU32,
    used: AtomicU32,
    attempts: u32,
    first_wait: Duration,
}

const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Budget {
    /// At most `attempts` for one call, and `retries` in all. The wait before the first retry is up to
    /// `first_wait`, and the limit doubles with each.
    #[must_use]
    pub const fn new(attempts: u32, retries: u32, first_wait: Duration) -> Self {
        Self { left: AtomicU32::new(retries), used: AtomicU32::new(0), attempts, first_wait }
    }

    /// The retries so far.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// How long to wait after this many failed attempts of one call; none when that was the last.
    ///
    /// The wait is random between nothing and the limit, so that parts that failed together do not come
    /// back together.
    fn wait_after(&self, failed: u32, random: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
        self.used.fetch_add(1, Ordering::Relaxed);
        let limit = self.first_wait.saturating_mul(1 << failed.min(16)).min(LONGEST_WAIT);
        Some(limit.mul_f64(random))
    }
}

/// Calls until it succeeds, fails for good, or the budget is used up; then the last error.
///
/// # Errors
/// The call's own.
pub async fn retrying<T, E, F: Future<Output = Result<T, E>>>(
    budget: &Budget,
    is_passing: impl Fn(&E) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, E> {
    let mut failed = 0;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failed += 1;
        if !is_passing(&error) {
            return Err(error);
        }
        let Some(wait) = budget.wait_after(failed, fastrand::f64()) else { return Err(error) };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_the_budget_ends() {
        let budget = Budget::new(20, 12, Duration::from_millis(100));
        let waits: Vec<_> = (1..=13).map(|failed| budget.wait_after(failed, 1.0)).collect();
        assert_eq!(waits[0], Some(Duration::from_millis(200)));
        assert_eq!(waits[1], Some(Duration::from_millis(400)));
        assert_eq!(waits[11], Some(LONGEST_WAIT));
        assert_eq!((waits[12], budget.used()), (None, 12));
        assert_eq!(Budget::new(3, 9, Duration::ZERO).wait_after(3, 0.5), None);
    }

    #[tokio::test]
    async fn only_passing_errors_are_retried() {
        let check = async |passing: bool, attempts: u32| {
            let budget = Budget::new(attempts, 100, Duration::ZERO);
            let mut calls = 0;
            let result: Result<(), u32> = retrying(
                &budget,
                |_| passing,
                || {
                    calls += 1;
                    std::future::ready(Err(calls))
                },
            )
            .await;
            result.unwrap_err()
        };
        assert_eq!(check(true, 4).await, 4);
        assert_eq!(check(false, 4).await, 1);
    }
}
