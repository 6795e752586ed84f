//! What goes wrong with a call: chosen by name and number, or by chance from a seed.

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Too many calls.
    Throttled,
    /// A 5xx answer, nothing done.
    ServerError,
    /// No answer, nothing done.
    TimedOutBefore,
    /// No answer, and the call took effect.
    TimedOutAfter,
    /// Not allowed.
    Denied,
    /// A read answers as of before the last write.
    Stale,
    /// The controller dies before the call.
    KilledBefore,
    /// The controller dies once the call took effect.
    KilledAfter,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Throttled,
        Self::ServerError,
        Self::TimedOutBefore,
        Self::TimedOutAfter,
        Self::Denied,
        Self::Stale,
        Self::KilledBefore,
        Self::KilledAfter,
    ];
}

/// Which call a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The nth call of an operation from the world's beginning, from 1.
    Operation(&'static str, u64),
    /// The nth write from the world's beginning, from 1.
    Write(u64),
}

/// A fault that is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which call.
    pub on: On,
    /// What happens to it.
    pub trouble: Trouble,
}

/// Faults by chance. The same seed gives the same faults for the same calls.
#[derive(Debug, Clone)]
pub struct Chance {
    rng: fastrand::Rng,
    per_mille: u32,
    troubles: Vec<Trouble>,
}

impl Chance {
    /// Troubles of these kinds, for so many calls in a thousand.
    #[must_use]
    pub fn new(seed: u64, per_mille: u32, troubles: &[Trouble]) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), per_mille, troubles: troubles.to_vec() }
    }

    /// What happens to the next call.
    pub(super) fn next(&mut self) -> Option<Trouble> {
        if self.rng.u32(0..1000) >= self.per_mille {
            return None;
        }
        self.rng.choice(self.troubles.iter().copied())
    }
}
