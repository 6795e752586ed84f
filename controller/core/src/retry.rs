//! What went wrong with a call, and when to try again.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

/// The kinds of failure that differ in what is done about them. Decided where the answer of AWS is
/// read, and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What was named is not there.
    NotFound,
    /// The resource is busy or has changed since it was read: look again.
    Conflict,
    /// Too many calls.
    Throttled,
    /// A failure of the network or of AWS. The call may have taken effect: look again.
    Transient,
    /// Not allowed.
    Denied,
    /// AWS will never accept this as it is.
    Invalid,
    /// A limit of the account is reached.
    Quota,
    /// AWS allows this change again, but only after hours (`UpdateFileSystem`: once in 24 hours).
    Cooldown,
}

impl Class {
    /// Whether only a change by a person mends it.
    #[must_use]
    pub const fn is_stalling(self) -> bool {
        matches!(self, Self::NotFound | Self::Denied | Self::Invalid | Self::Quota)
    }
}

/// A failure, as data: what was called, on what, and what AWS said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The API operation, such as `CreateFileSystem`.
    pub operation: &'static str,
    /// The resource, such as `bucket acme-models` or a function's name.
    pub resource: String,
    /// What kind of failure it is.
    pub class: Class,
    /// The error code of AWS, empty when there was no answer.
    pub code: String,
    /// What AWS said.
    pub message: String,
    /// The request id, for AWS support.
    pub request_id: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed", self.operation, self.resource)?;
        match (self.code.is_empty(), self.message.is_empty()) {
            (true, true) => {}
            (true, false) => write!(f, ": {}", self.message)?,
            (false, true) => write!(f, ": {}", self.code)?,
            (false, false) => write!(f, ": {}: {}", self.code, self.message)?,
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request id {id})")?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        // Of Lambda, when it invokes: <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
        if ["EFSMountConnectivity", "EFSMountTimeout"].iter().any(|code| self.code.starts_with(code)) {
            return "let TCP 2049 through from the functions' security groups to those of the mount targets; Larder tries again by itself";
        }
        match self.class {
            // Of a registry, a hub or a web server: no policy of AWS says who may.
            Class::Denied if self.operation == "GET" => {
                "name a secret in secretArn whose user may read it; Larder tries again by itself"
            }
            Class::NotFound => "create it or correct the name; Larder tries again by itself",
            Class::Conflict => "Larder looks again and goes on",
            Class::Throttled => "Larder slows down and goes on",
            Class::Transient => "Larder tries again by itself",
            Class::Denied => "allow this action in the role's policy; Larder tries again by itself",
            Class::Invalid => "correct the spec; Larder tries again when it changes, and now and then",
            Class::Quota => "raise the quota or free some of it; Larder tries again by itself",
            Class::Cooldown => "AWS allows this change once in 24 hours; Larder makes it when it may",
        }
    }
}

/// The longest wait between two attempts. A thing that was mended is noticed within it.
pub const MAX_DELAY: Duration = Duration::from_mins(1);

/// How long to wait for a change that AWS allows only after hours.
pub const COOLDOWN: Duration = Duration::from_mins(15);

/// How long to wait before attempt `attempts + 1`, where `attempts` ≥ 1 have failed.
///
/// Doubles from the class's first delay up to [`MAX_DELAY`] (always [`COOLDOWN`] for that class), times `jitter`: a number in 0..=1 that
/// stretches the delay by up to a quarter, so that endpoints that failed together do not come back so.
#[must_use]
pub fn delay(class: Class, attempts: u32, jitter: f64) -> Duration {
    let first = match class {
        Class::Conflict => 1.0,
        Class::Transient => 2.0,
        Class::Throttled | Class::NotFound | Class::Denied => 4.0,
        Class::Invalid | Class::Quota => 8.0,
        Class::Cooldown => return COOLDOWN.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0),
    };
    let doubled = first * 2f64.powi(i32::try_from(attempts.saturating_sub(1).min(16)).unwrap_or(16));
    let capped = doubled.min(MAX_DELAY.as_secs_f64() / 1.25);
    Duration::from_secs_f64(capped * (1.0 + jitter.clamp(0.0, 1.0) / 4.0))
}

/// The attempts that failed, by key, and when the next may be made. `now` is any clock that only goes
/// forward, as a duration since its start.
#[derive(Debug)]
pub struct Attempts<K> {
    by_key: HashMap<K, Attempt>,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    count: u32,
    not_before: Duration,
}

impl<K> Default for Attempts<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new() }
    }
}

impl<K: Hash + Eq> Attempts<K> {
    /// How long until `key` may be tried again; zero when it may now.
    #[must_use]
    pub fn wait(&self, key: &K, now: Duration) -> Duration {
        self.by_key.get(key).map_or(Duration::ZERO, |a| a.not_before.saturating_sub(now))
    }

    /// Notes a failure and answers how long to wait.
    pub fn failed(&mut self, key: K, class: Class, now: Duration, jitter: f64) -> Duration {
        let attempt = self.by_key.entry(key).or_insert(Attempt { count: 0, not_before: now });
        attempt.count = attempt.count.saturating_add(1);
        let wait = delay(class, attempt.count, jitter);
        attempt.not_before = now + wait;
        wait
    }

    /// Forgets the failures of `key`.
    pub fn succeeded(&mut self, key: &K) {
        self.by_key.remove(key);
    }

    /// Forgets every key that `keep` does not hold to.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.by_key.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Class; 8] = [
        Class::NotFound,
        Class::Conflict,
        Class::Throttled,
        Class::Transient,
        Class::Denied,
        Class::Invalid,
        Class::Quota,
        Class::Cooldown,
    ];

    proptest! {
        #[test]
        fn delays_are_positive_bounded_and_never_shrink(class in 0usize..8, attempts in 1u32..100_000, jitter in 0f64..=1.0) {
            let class = ALL[class];
            let now = delay(class, attempts, jitter);
            let longest = if class == Class::Cooldown { COOLDOWN.mul_f64(1.25) } else { MAX_DELAY };
            prop_assert!(now >= Duration::from_secs(1) && now <= longest);
            prop_assert!(delay(class, attempts.saturating_add(1), jitter) >= now);
        }
    }

    #[test]
    fn a_mount_that_does_not_connect_has_its_own_advice() {
        let problem = |code: &str| Problem {
            operation: "Invoke",
            resource: "function larder-x-sync".to_owned(),
            class: Class::Transient,
            code: code.to_owned(),
            message: String::new(),
            request_id: None,
        };
        for code in ["EFSMountConnectivityException", "EFSMountTimeoutException"] {
            assert!(problem(code).to_string().contains("let TCP 2049 through"), "{code}");
        }
        assert!(!problem("EFSMountFailureException").to_string().contains("2049"));
    }

    #[test]
    fn attempts_wait_and_are_forgotten() {
        let mut attempts = Attempts::default();
        let at = Duration::from_secs;
        assert_eq!(attempts.wait(&"a", at(0)), Duration::ZERO);
        assert_eq!(attempts.failed("a", Class::Transient, at(10), 0.0), at(2));
        assert_eq!(attempts.wait(&"a", at(11)), at(1));
        assert_eq!(attempts.wait(&"b", at(11)), Duration::ZERO);
        assert_eq!(attempts.failed("a", Class::Transient, at(12), 0.0), at(4));
        attempts.succeeded(&"a");
        assert_eq!(attempts.wait(&"a", at(12)), Duration::ZERO);
    }

    #[test]
    fn delays_double_and_jitter_stretches_them() {
        let seconds = |class, attempts, jitter| delay(class, attempts, jitter).as_secs_f64();
        for (class, attempts, jitter, want) in [
            (Class::Conflict, 1, 0.0, 1.0),
            (Class::Conflict, 3, 0.0, 4.0),
            (Class::Transient, 2, 1.0, 5.0),
            (Class::Throttled, 1, 0.5, 4.5),
            (Class::Quota, 4, 0.0, 48.0),
            (Class::Quota, 4, 1.0, 60.0),
            (Class::Cooldown, 7, 0.0, 900.0),
        ] {
            let have = seconds(class, attempts, jitter);
            assert!((have - want).abs() < 1e-9, "{class:?} {attempts} {jitter}: {have}");
        }
    }

    #[test]
    fn only_attempts_that_are_kept_are_remembered() {
        let mut attempts = Attempts::default();
        let at = Duration::from_secs;
        attempts.failed("a", Class::Transient, at(0), 0.0);
        attempts.failed("b", Class::Transient, at(0), 0.0);
        attempts.retain(|key| *key == "b");
        assert_eq!((attempts.wait(&"a", at(0)), attempts.wait(&"b", at(0))), (at(0), at(2)));
    }

    #[test]
    fn a_source_that_denies_needs_a_secret_and_aws_a_policy() {
        let remedy = |operation| {
            let (resource, code, message) = (String::new(), String::new(), String::new());
            Problem { operation, resource, class: Class::Denied, code, message, request_id: None }.remedy()
        };
        assert!(remedy("GET").contains("secretArn"));
        assert!(remedy("ListObjectsV2").contains("the role's policy"));
    }
}
