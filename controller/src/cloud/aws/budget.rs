//! The control plane's budget: AWS lets an account make about 15 Lambda calls a second that neither get
//! nor invoke, whatever they are about.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use larder_core::Class;

use super::error::Call;
use crate::cloud::Result;

/// How long a call waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The token bucket of one account in one region.
#[derive(Debug)]
pub(super) struct Budget {
    bucket: DefaultDirectRateLimiter,
    max_wait: Duration,
}

impl Budget {
    /// At most `calls` in a second; none counts as one.
    pub(super) fn per_second(calls: u32) -> Self {
        let calls = NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN);
        Self { bucket: RateLimiter::direct(Quota::per_second(calls)), max_wait: MAX_WAIT }
    }

    /// Waits for the turn of `call`.
    pub(super) async fn draw(&self, call: &Call) -> Result<()> {
        tokio::time::timeout(self.max_wait, self.bucket.until_ready()).await.map_err(|_| {
            let waited = format!("no turn within {} s: too many calls are waiting", self.max_wait.as_secs());
            call.failed(Class::Throttled, "", &waited)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_for_a_turn_ends() {
        let budget = Budget { max_wait: Duration::ZERO, ..Budget::per_second(1) };
        let call = Call::new("CreateAlias", "function larder-x");
        budget.draw(&call).await.unwrap();
        let error = budget.draw(&call).await.unwrap_err();
        assert_eq!(error.problem.class, Class::Throttled);
        Budget::per_second(0).draw(&call).await.unwrap();
    }
}
