//! Why a model cannot be had, and when it is tried again.

use std::time::{Duration, Instant, SystemTime};

use super::LoadError;
use crate::error::{ApiError, chain};
use crate::request::id::RequestId;

/// How long after its first failure a model is not tried again. Doubled by each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest that a model is not tried again.
const MOST_WAIT: Duration = Duration::from_mins(1);

/// How a load ended badly.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// Under which the log has the reason: of the request that began the load, or a new one where none did.
    pub id: RequestId,
    /// The reason, for operators.
    pub reason: String,
    /// When the first of the failures was that no success has followed.
    pub since: SystemTime,
    tries: u32,
    at: Instant,
}

impl Failure {
    /// The failure after `before`.
    pub(super) fn next(
        before: Option<&Self>,
        reason: &LoadError,
        id: RequestId,
        now: (SystemTime, Instant),
    ) -> Self {
        Self {
            id,
            reason: chain(reason),
            since: before.map_or(now.0, |b| b.since),
            tries: before.map_or(1, |b| b.tries.saturating_add(1)),
            at: now.1,
        }
    }

    /// How long the model is not tried again, if not by now.
    pub(super) fn still_waits(&self, now: Instant) -> Option<Duration> {
        let wait = FIRST_WAIT.saturating_mul(1 << (self.tries - 1).min(16)).min(MOST_WAIT);
        (self.at + wait).checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

/// Why a request cannot have a model.
#[derive(Debug, Clone)]
pub(crate) enum Unavailable {
    /// It cannot be loaded. `wait`: it failed before, and is not tried again yet.
    Failed { failure: Failure, wait: Option<Duration> },
    /// Others are in use, and there is no room beside them.
    NoRoom { waited: Duration },
    /// It is being loaded, for longer than a request should wait.
    Loading { waited: Duration },
    /// It is in use, and can't be unloaded.
    Busy { waited: Duration },
    /// It takes more than there is.
    TooLarge { need: u64, room: u64 },
}

impl Unavailable {
    /// What a client is told.
    pub(crate) fn told(&self, model: &str) -> ApiError {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        // Whole seconds by the header's rule.
        let seconds = |wait: Duration| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let busy = |wait, message| ApiError::busy(message, wait);
        match self {
            // Under its own id, though the load may be another's.
            Self::Failed { failure, wait: None } => ApiError::internal("loading", model, failure),
            Self::Failed { failure, wait: Some(wait) } => busy(
                seconds(*wait),
                format!(
                    "model {model:?} cannot be loaded; the log has the reason under id {}; it is tried again at the first request after Retry-After",
                    failure.id
                ),
            ),
            Self::NoRoom { waited } => ApiError::soon(format!(
                "there was no room for model {model:?} beside others in use within {waited:?}; try again later"
            )),
            Self::Loading { waited } => ApiError::soon(format!(
                "model {model:?} is being loaded, for longer than {waited:?} by now; try again later"
            )),
            Self::Busy { waited } => {
                ApiError::soon(format!("model {model:?} has been in use for {waited:?}; try again later"))
            }
            Self::TooLarge { need, room } => busy(
                seconds(MOST_WAIT),
                format!(
                    "model {model:?} takes about {} MiB, and there are {} MiB for models that are not preloaded; give the function more memory",
                    mib(*need),
                    mib(*room)
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::files::FilesError;

    #[test]
    fn each_failure_is_followed_by_a_longer_wait() {
        let reason = LoadError::Files(FilesError::Unrecognised {
            folder: "/x".into(),
            wanted: "model".to_owned(),
            names: Vec::new(),
        });
        let start = Instant::now();
        let (mut now, mut last, mut waits) = (start, None, Vec::new());
        for _ in 0..8 {
            let first = SystemTime::UNIX_EPOCH + (now - start);
            let failure = Failure::next(last.as_ref(), &reason, RequestId::random(), (first, now));
            let wait = failure.still_waits(now).unwrap();
            now += wait;
            assert_eq!(failure.still_waits(now), None);
            waits.push(wait.as_secs());
            last = Some(failure);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(last.unwrap().since, SystemTime::UNIX_EPOCH);
    }
}
