//! What befalls an endpoint in its life, as a value: made from a seed up front, told in words, played against a
//! world, and shrunk when it fails.
//!
//! - [`disturbance`]: what a user, AWS or fate does; [`hand`]: what people change in AWS by hand.
//! - `words`: a schedule, told.
//! - [`play`]: a schedule against a world.
//! - [`shrink`]: the smallest schedule that fails as a large one does.

use larder_crds::spec::Rollout;

use super::faults::{Fault, Trouble};

pub mod disturbance;
pub mod hand;
pub mod play;
pub mod shrink;
mod words;

use disturbance::{Disturbance, rollout};

/// A life of an endpoint, from its creation to its end.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What it was made from. It also orders the calls of controllers, and gives their waits jitter.
    pub seed: u64,
    /// What the endpoint and its surroundings are like.
    pub settings: Settings,
    /// What goes wrong with calls.
    pub faults: Faults,
    /// Seconds from its creation to the first disturbance.
    pub begins: u64,
    /// What happens, and the seconds after it, which may be none.
    pub events: Vec<(Disturbance, u64)>,
    /// Faults stop and it must come to rest before it is deleted.
    pub settles: bool,
    /// Seconds of faults after its deletion.
    pub ends: u64,
}

/// What the endpoint and its surroundings are like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Controllers at once.
    pub controllers: usize,
    /// Items of a page of a list.
    pub page_size: usize,
    /// The file system is brought along.
    pub is_brought: bool,
    /// `deletionPolicy: RetainData`, not `Delete`.
    pub keeps_data: bool,
    /// `collectAfterSeconds`.
    pub collect_after: i64,
    /// `retainRevisions`.
    pub retain: i32,
    /// `verifyEverySeconds`.
    pub verify_every: Option<i64>,
    /// How a new version takes over.
    pub rollout: Rollout,
}

/// What goes wrong with calls.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Chance's seed.
    pub seed: u64,
    /// Calls in a thousand that go wrong.
    pub per_mille: u32,
    /// How they go wrong.
    pub kinds: Vec<Trouble>,
    /// Calls that go wrong for certain.
    pub planned: Vec<Fault>,
}

impl Schedule {
    /// The schedule of a seed: the same one each time.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let settings = Settings::random(rng);
        let faults = Faults {
            seed: rng.u64(..),
            per_mille: rng.choice([2, 10, 30, 100]).unwrap_or_default(),
            kinds: Trouble::ALL.into_iter().filter(|_| rng.bool()).collect(),
            planned: Vec::new(),
        };
        let begins = rng.u64(1..80);
        // One in four happens in the same moment as the next.
        let pause = |rng: &mut fastrand::Rng| if rng.u32(0..4) == 0 { 0 } else { rng.u64(1..40) };
        let events: Vec<_> = (0..rng.u32(1..6)).map(|_| (Disturbance::random(rng), pause(rng))).collect();
        // A delete leaves what is not taken over by then: consent, and the takeover, come first.
        let is_taken_over = |it: &Disturbance| it.needs_consent() || matches!(it, Disturbance::Moved);
        let settles = rng.u32(0..4) > 0 || events.iter().any(|(it, _)| is_taken_over(it));
        Self { seed, settings, faults, begins, events, settles, ends: rng.u64(1..40) }
    }
}

impl Settings {
    /// Times are short, so that a schedule lives to see what comes of them.
    fn random(rng: &mut fastrand::Rng) -> Self {
        Self {
            controllers: if rng.u32(0..4) == 0 { 2 } else { 1 },
            page_size: rng.usize(1..3),
            is_brought: rng.u32(0..5) == 0,
            keeps_data: rng.bool(),
            collect_after: rng.i64(5..60),
            retain: rng.i32(0..2),
            verify_every: rng.bool().then(|| rng.i64(100..180)),
            rollout: Rollout { history_limit: rng.i32(0..4), ..rollout(rng) },
        }
    }

    /// All at once, and nothing watched.
    fn plain_rollout(history_limit: i32) -> Rollout {
        Rollout { history_limit, ..Rollout::default() }
    }
}
