//! The calls that an account may make of Lambda in a region, whatever they are about: AWS allows 15 control-plane calls
//! a second, and beside them 100 `GetFunction` and 15 `GetPolicy`; invocations are not counted.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
//!
//! Others share the account, so each rate adapts: it is halved when AWS throttles, and grows back slowly.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_core::Class;
use tokio::time::Instant;

use super::error::Call;
use crate::cloud::{CloudError, Result};

/// How long a call waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// How long a call of a look for drift lets all others go first, before it waits for its turn as they do.
const YIELDS: Duration = Duration::from_secs(15);

tokio::task_local! {
    /// Set while calls are made for a look for drift.
    static IS_LOOK: ();
}

/// Does `work`, whose calls leave half of what may be made at once to others.
pub(super) async fn yielding<F: Future>(work: F) -> F::Output {
    IS_LOOK.scope((), work).await
}

/// Those of Lambda's rates to one another.
const GET_FUNCTION: f64 = 100.0 / 15.0;

/// The share of the control plane's calls that looks for drift may take.
const LOOKS: f64 = 0.2;

/// Control-plane calls of a look at everything, about: the alias, the URL, the versions and what is warm.
const LOOK: f64 = 5.0;

/// Which rate a call is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    /// All of Lambda's but the others.
    Control,
    /// `GetFunction`.
    GetFunction,
    /// `GetPolicy`.
    GetPolicy,
    /// Writes to other services. They name no rates, so it is as many as of Lambda's control plane.
    Writes,
}

/// A rate's tokens, and those who let others go first, one after the other.
#[derive(Debug)]
struct Lane {
    bucket: Mutex<Bucket>,
    yielding: tokio::sync::Mutex<()>,
}

impl Lane {
    fn new(rate: f64) -> Self {
        Self { bucket: Mutex::new(Bucket::new(rate, rate)), yielding: tokio::sync::Mutex::default() }
    }
}

/// The budget of one account in one region.
#[derive(Debug)]
pub(super) struct Budget {
    begun: Instant,
    control: Lane,
    get_function: Lane,
    get_policy: Lane,
    writes: Lane,
    looks: Mutex<Bucket>,
    max_wait: Duration,
    yields: Duration,
}

impl Budget {
    /// At most `calls` of the control plane in a second, and of the others in proportion.
    pub(super) fn per_second(calls: u32) -> Self {
        let calls = f64::from(calls.max(1));
        Self {
            begun: Instant::now(),
            control: Lane::new(calls),
            get_function: Lane::new(calls * GET_FUNCTION),
            get_policy: Lane::new(calls),
            writes: Lane::new(calls),
            // A minute's looks at once, so that a few endpoints are always looked at whole.
            looks: Mutex::new(Bucket::new(calls * LOOKS, calls * LOOKS * 60.0)),
            max_wait: MAX_WAIT,
            yields: YIELDS,
        }
    }

    const fn lane(&self, rate: Rate) -> &Lane {
        match rate {
            Rate::Control => &self.control,
            Rate::GetFunction => &self.get_function,
            Rate::GetPolicy => &self.get_policy,
            Rate::Writes => &self.writes,
        }
    }

    fn bucket(&self, rate: Rate) -> MutexGuard<'_, Bucket> {
        self.lane(rate).bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of `call`. Who asks first goes first, but those who look for drift let others pass.
    pub(super) async fn draw(&self, rate: Rate, call: &Call) -> Result<()> {
        if IS_LOOK.try_with(|()| ()).is_ok()
            && tokio::time::timeout(self.yields, self.draw_spare(rate)).await.is_ok()
        {
            return Ok(());
        }
        let turn = self.bucket(rate).take(self.begun.elapsed(), self.max_wait);
        match turn {
            Some(wait) if wait.is_zero() => Ok(()),
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => {
                let waited = format!("no turn within {} s: too many calls wait", self.max_wait.as_secs());
                Err(call.failed(Class::Throttled, "", &waited))
            }
        }
    }

    /// Waits until half of what may be made at once is left without this call.
    async fn draw_spare(&self, rate: Rate) {
        let _turn = self.lane(rate).yielding.lock().await;
        loop {
            let Some(wait) = self.bucket(rate).take_spare(self.begun.elapsed()) else { return };
            tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
        }
    }

    /// Whether a look for drift may be at everything. It is counted with the answer.
    ///
    /// There are calls for the whole of it, so that a change that comes meanwhile never waits behind more than one.
    pub(super) fn has_room(&self) -> bool {
        let now = self.begun.elapsed();
        let is_idle = self.bucket(Rate::Control).has_at_hand(now, LOOK);
        is_idle && self.looks.lock().unwrap_or_else(PoisonError::into_inner).spend(now, LOOK)
    }

    /// AWS has said that a call of this rate was one too many, if `answer` says so.
    pub(super) fn heed<T>(&self, rate: Rate, answer: Result<T>) -> Result<T> {
        if let Err(CloudError { problem, .. }) = &answer
            && problem.class == Class::Throttled
            && !problem.code.is_empty()
        {
            let mut bucket = self.bucket(rate);
            bucket.halve(self.begun.elapsed());
            tracing::warn!(?rate, calls_per_second = bucket.rate, "AWS throttles: goes slower");
        }
        answer
    }
}

/// A token bucket whose rate is halved at once and grows back by a hundredth of its most each second: additive
/// increase, multiplicative decrease. Time is told to it.
#[derive(Debug)]
struct Bucket {
    /// Tokens a second, now and at most.
    rate: f64,
    most: f64,
    /// Below zero when some wait for theirs.
    tokens: f64,
    size: f64,
    at: Duration,
    halved_at: Option<Duration>,
}

/// Throttled calls that were under way together are one sign.
const ONE_SIGN: Duration = Duration::from_secs(1);

impl Bucket {
    const fn new(rate: f64, size: f64) -> Self {
        Self { rate, most: rate, tokens: size, size, at: Duration::ZERO, halved_at: None }
    }

    fn go_on(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + seconds * self.rate).min(self.size);
        self.rate = (self.rate + seconds * self.most / 100.0).min(self.most);
    }

    fn has(&mut self, now: Duration, tokens: f64) -> bool {
        self.go_on(now);
        self.tokens >= tokens
    }

    /// As [`Self::has`], or full where that is fewer.
    fn has_at_hand(&mut self, now: Duration, tokens: f64) -> bool {
        self.has(now, tokens.min(self.size))
    }

    fn spend(&mut self, now: Duration, tokens: f64) -> bool {
        let has_them = self.has(now, tokens);
        if has_them {
            self.tokens -= tokens;
        }
        has_them
    }

    /// Takes a token; how long until it is there. None when that is longer than `max_wait`: then none is taken.
    fn take(&mut self, now: Duration, max_wait: Duration) -> Option<Duration> {
        self.go_on(now);
        let wait = Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.rate);
        (wait <= max_wait).then(|| {
            self.tokens -= 1.0;
            wait
        })
    }

    /// Takes a token when half of all are left without it, as far as there are so many; else how long until then.
    fn take_spare(&mut self, now: Duration) -> Option<Duration> {
        let enough = (1.0 + self.size / 2.0).min(self.size);
        if self.has(now, enough) {
            self.tokens -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((enough - self.tokens) / self.rate))
    }

    fn halve(&mut self, now: Duration) {
        self.go_on(now);
        if self.halved_at.is_some_and(|at| now.saturating_sub(at) < ONE_SIGN) {
            return;
        }
        self.halved_at = Some(now);
        self.rate = (self.rate / 2.0).max(self.most / 50.0);
        self.tokens = self.tokens.min(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[tokio::test]
    async fn a_wait_for_a_turn_ends() {
        let budget = Budget { max_wait: Duration::ZERO, ..Budget::per_second(1) };
        let call = Call::new("CreateAlias", "function larder-x");
        budget.draw(Rate::Control, &call).await.unwrap();
        let error = budget.draw(Rate::Control, &call).await.unwrap_err();
        assert_eq!(error.problem.class, Class::Throttled);
        budget.draw(Rate::GetPolicy, &call).await.unwrap();
        Budget::per_second(0).draw(Rate::Control, &call).await.unwrap();
    }

    #[test]
    fn who_asks_first_goes_first_and_nobody_goes_too_soon() {
        let mut bucket = Bucket::new(10.0, 10.0);
        let waits: Vec<u128> =
            (0..13).filter_map(|_| bucket.take(S(1), S(20))).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..], [100, 200, 300]);
        assert_eq!(bucket.take(S(1), Duration::from_millis(399)), None);
        assert_eq!(bucket.take(S(2), S(20)), Some(Duration::ZERO));
    }

    #[test]
    fn who_yields_leaves_half_to_others() {
        let mut bucket = Bucket::new(10.0, 10.0);
        assert_eq!((0..10).filter(|_| bucket.take_spare(S(1)).is_none()).count(), 5);
        assert_eq!(bucket.take_spare(S(1)), Some(Duration::from_millis(100)));
        assert!((0..5).all(|_| bucket.take(S(1), S(20)) == Some(Duration::ZERO)));
        assert_eq!(bucket.take_spare(S(1)), Some(Duration::from_millis(600)));
        assert_eq!(Bucket::new(1.0, 1.0).take_spare(S(1)), None, "one a second is not too few");
    }

    #[tokio::test]
    async fn looks_yield_for_a_while_and_wait_for_their_turn_then() {
        let call = Call::new("GetAlias", "function larder-x");
        let budget = Budget::per_second(10);
        (0..10).for_each(|_| assert!(budget.bucket(Rate::Control).take(S(0), S(0)).is_some()));
        yielding(budget.draw(Rate::Control, &call)).await.unwrap();
        let tokens = budget.bucket(Rate::Control).tokens;
        assert!(tokens >= 5.0, "half of them are there for others: {tokens}");
        budget.draw(Rate::Control, &call).await.unwrap();

        let none = Duration::ZERO;
        let budget = Budget { max_wait: none, yields: none, ..Budget::per_second(10) };
        (0..10).for_each(|_| assert!(budget.bucket(Rate::Control).take(S(0), S(0)).is_some()));
        let error = yielding(budget.draw(Rate::Control, &call)).await.unwrap_err();
        assert_eq!(error.problem.class, Class::Throttled);
    }

    #[test]
    fn a_rate_is_halved_once_and_grows_back_slowly() {
        let mut bucket = Bucket::new(10.0, 10.0);
        bucket.halve(S(1));
        bucket.halve(S(1));
        assert!((bucket.rate - 5.0).abs() < 1e-9, "{}", bucket.rate);
        assert_eq!(bucket.take(S(1), S(20)), Some(Duration::from_millis(200)));
        bucket.halve(S(11));
        assert!((bucket.rate - 3.0).abs() < 1e-9, "grown by 1 and halved: {}", bucket.rate);
        bucket.go_on(S(200));
        assert!((bucket.rate - 10.0).abs() < 1e-9, "{}", bucket.rate);
        (0..100).for_each(|nth| bucket.halve(S(200 + nth)));
        assert!(bucket.rate > 0.1, "never to nothing: {}", bucket.rate);
    }

    #[test]
    fn looks_take_a_fifth_and_none_while_others_wait() {
        let budget = Budget::per_second(10);
        let looks = (0..100).filter(|_| budget.has_room()).count();
        assert_eq!(looks, 24, "a minute's worth, for {LOOK} calls each");
        // Six of ten calls are made, and a look is about five.
        let budget = Budget::per_second(10);
        (0..6).for_each(|_| assert!(budget.bucket(Rate::Control).take(S(0), S(0)).is_some()));
        assert!(!budget.has_room());
        assert!(
            Budget::per_second(1).has_room(),
            "fewer calls a second than a look is are no reason for none"
        );
    }

    #[test]
    fn only_aws_itself_slows_a_rate_down() {
        let budget = Budget::per_second(10);
        let answer =
            |code| -> Result<()> { Err(CloudError::new("GetAlias", "x", Class::Throttled, code, "")) };
        budget.heed(Rate::Control, answer("")).unwrap_err();
        assert!((budget.bucket(Rate::Control).rate - 10.0).abs() < 0.1);
        budget.heed(Rate::Control, answer("TooManyRequestsException")).unwrap_err();
        assert!(budget.bucket(Rate::Control).rate < 5.1);
    }
}
