//! Which models are in memory: a budget, and the least recently used go first.
//!
//! Pure: what happens goes in, what is to be done comes out. `residency` does it.

/// A model, by its place in the manifest.
pub(crate) type Key = usize;

/// Where a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not in memory.
    Out,
    /// Being loaded.
    Coming,
    /// In memory.
    In,
    /// Being unloaded.
    Going,
}

/// What a caller that wants a model is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Use it, or wait for the load that is under way. The caller is its user until [`Policy::release`].
    Use,
    /// Load it now. The caller is its user until [`Policy::release`].
    Load,
    /// Unload these, and ask again when anything has changed.
    Wait {
        /// The models that make room.
        evict: Vec<Key>,
    },
    /// It does not fit, whatever is unloaded.
    TooLarge {
        /// What it takes, in bytes.
        need: u64,
        /// What there is for it, in bytes.
        room: u64,
    },
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: u64,
    /// What loading takes besides, until it has ended.
    loading: u64,
    pinned: bool,
    place: Place,
    users: usize,
    last_used: u64,
}

impl Entry {
    fn taken(&self) -> u64 {
        match self.place {
            Place::Out => 0,
            Place::Coming => self.bytes + self.loading,
            Place::In | Place::Going => self.bytes,
        }
    }

    fn can_go(&self) -> bool {
        self.place == Place::In && self.users == 0 && !self.pinned
    }
}

/// The models of one process.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    budget: u64,
    entries: Vec<Entry>,
    uses: u64,
}

impl Policy {
    /// No models yet, and room for `budget` bytes of them.
    pub(crate) fn new(budget: u64) -> Self {
        Self { budget, entries: Vec::new(), uses: 0 }
    }

    /// One more model, thought to take `bytes`, and `loading` besides until it is loaded. A pinned one is
    /// loaded whatever the budget, and stays.
    pub(crate) fn add(&mut self, bytes: u64, loading: u64, pinned: bool) -> Key {
        self.entries.push(Entry { bytes, loading, pinned, place: Place::Out, users: 0, last_used: 0 });
        self.entries.len() - 1
    }

    /// When the pinned models of `order` do not fit together, those stay pinned, in that order, beside which
    /// any other one of them still fits. The rest are loaded when they are wanted, one after the other's going;
    /// they are returned. A model that is alone stays, whatever it takes.
    pub(crate) fn pin_what_fits(&mut self, order: &[Key]) -> Vec<Key> {
        let bytes = |key: Key| self.entries[key].bytes;
        if order.len() == 1 || order.iter().map(|&key| bytes(key)).sum::<u64>() <= self.budget {
            return Vec::new();
        }
        let (mut taken, mut rest) = (0, order.to_vec());
        for &key in order {
            let others = rest.iter().filter(|&&other| other != key);
            let largest = others.map(|&other| bytes(other)).max().unwrap_or(0);
            if taken + bytes(key) + largest <= self.budget {
                taken += bytes(key);
                rest.retain(|&other| other != key);
            }
        }
        for &key in &rest {
            self.entries[key].pinned = false;
        }
        rest
    }

    pub(crate) fn is_pinned(&self, key: Key) -> bool {
        self.entries[key].pinned
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    pub(crate) fn place(&self, key: Key) -> Place {
        self.entries[key].place
    }

    #[cfg(test)]
    pub(crate) fn users(&self, key: Key) -> usize {
        self.entries[key].users
    }

    /// What a model takes, as far as is known.
    pub(crate) fn bytes(&self, key: Key) -> u64 {
        self.entries[key].bytes
    }

    /// What the models in memory take, with those on their way in or out.
    pub(crate) fn used(&self) -> u64 {
        self.entries.iter().map(Entry::taken).sum()
    }

    /// A caller wants a model. `resident` is what the system says that all models take: what is more than
    /// [`Policy::used`] is room that is not there.
    pub(crate) fn want(&mut self, key: Key, resident: u64) -> Decision {
        let decision = match self.entries[key].place {
            Place::Coming | Place::In => Decision::Use,
            Place::Going => Decision::Wait { evict: Vec::new() },
            Place::Out => self.room_for(key, self.used().max(resident)),
        };
        match decision {
            Decision::Load => self.entries[key].place = Place::Coming,
            Decision::Use => {}
            Decision::Wait { .. } | Decision::TooLarge { .. } => return decision,
        }
        self.uses += 1;
        let entry = &mut self.entries[key];
        entry.users += 1;
        entry.last_used = self.uses;
        decision
    }

    fn room_for(&mut self, key: Key, taken: u64) -> Decision {
        let Entry { bytes, loading, pinned, .. } = self.entries[key];
        let need = bytes + loading;
        if pinned || taken + need <= self.budget {
            return Decision::Load;
        }
        let room = self.budget.saturating_sub(self.sum(|e| e.pinned));
        if bytes > room {
            return Decision::TooLarge { need: bytes, room };
        }
        let going = self.sum(|e| e.place == Place::Going);
        let evict = self.evict((taken + need).saturating_sub(going + self.budget));
        let nothing_can_go = self.entries.iter().all(|e| e.place == Place::Out || e.pinned);
        if nothing_can_go {
            // Loading takes more than there is, or the system counts memory that is no model's. Waiting
            // would not change that.
            return Decision::Load;
        }
        Decision::Wait { evict }
    }

    /// Models that nobody uses are on their way out until `excess` bytes are, or there is no more.
    fn evict(&mut self, excess: u64) -> Vec<Key> {
        let mut idle: Vec<Key> = (0..self.entries.len()).filter(|k| self.entries[*k].can_go()).collect();
        idle.sort_by_key(|k| self.entries[*k].last_used);
        let (mut evict, mut freed) = (Vec::new(), 0);
        for key in idle {
            if freed >= excess {
                break;
            }
            freed += self.entries[key].bytes;
            self.entries[key].place = Place::Going;
            evict.push(key);
        }
        evict
    }

    /// More is taken than there should be: these are to be unloaded.
    pub(crate) fn excess(&mut self, resident: u64) -> Vec<Key> {
        let going = self.sum(|e| e.place == Place::Going);
        let taken = self.used().max(resident);
        self.evict(taken.saturating_sub(going + self.budget))
    }

    /// A model is to be unloaded because someone says so. Whether it is now on its way.
    pub(crate) fn unload(&mut self, key: Key) -> bool {
        let entry = &mut self.entries[key];
        let goes = entry.place == Place::In && entry.users == 0;
        if goes {
            entry.place = Place::Going;
        }
        goes
    }

    /// A load has ended.
    pub(crate) fn came(&mut self, key: Key, loaded: bool) {
        self.entries[key].place = if loaded { Place::In } else { Place::Out };
    }

    /// An unload has ended.
    pub(crate) fn gone(&mut self, key: Key) {
        self.entries[key].place = Place::Out;
    }

    /// A user has ended.
    pub(crate) fn release(&mut self, key: Key) {
        let entry = &mut self.entries[key];
        entry.users = entry.users.saturating_sub(1);
    }

    /// What a model takes was measured.
    pub(crate) fn learn(&mut self, key: Key, bytes: u64) {
        self.entries[key].bytes = bytes;
    }

    fn sum(&self, which: impl Fn(&Entry) -> bool) -> u64 {
        self.entries.iter().filter(|e| which(e)).map(|e| e.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn policy(budget: u64, models: &[(u64, bool)]) -> Policy {
        let mut policy = Policy::new(budget);
        for (bytes, pinned) in models {
            policy.add(*bytes, 0, *pinned);
        }
        policy
    }

    fn load(policy: &mut Policy, key: Key) {
        assert_eq!(policy.want(key, 0), Decision::Load);
        policy.came(key, true);
        policy.release(key);
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut policy = policy(3, &[(1, false); 5]);
        (0..3).for_each(|key| load(&mut policy, key));
        assert_eq!(policy.want(0, 0), Decision::Use);
        assert_eq!(policy.want(3, 0), Decision::Wait { evict: vec![1] });
        assert_eq!(policy.want(3, 0), Decision::Wait { evict: vec![] }, "one is enough");
        assert_eq!(policy.want(1, 0), Decision::Wait { evict: vec![] }, "what is going has to be gone first");
        policy.gone(1);
        assert_eq!(policy.want(3, 0), Decision::Load);
        assert_eq!(policy.want(3, 0), Decision::Use, "one load for all who want it");
        policy.came(3, true);
        assert_eq!(policy.want(4, 0), Decision::Wait { evict: vec![2] }, "0 and 3 are in use");
        policy.gone(2);
        assert_eq!(policy.want(4, 0), Decision::Load);
        assert_eq!(policy.want(1, 0), Decision::Wait { evict: vec![] }, "everything is in use");
        policy.release(0);
        assert_eq!(policy.want(1, 0), Decision::Wait { evict: vec![0] });
    }

    #[test]
    fn pinned_models_come_whatever_the_budget_and_stay() {
        let mut policy = policy(4, &[(3, true), (3, true), (1, false)]);
        load(&mut policy, 0);
        load(&mut policy, 1);
        assert_eq!(policy.want(2, 0), Decision::TooLarge { need: 1, room: 0 });
        assert_eq!(policy.excess(100), Vec::<Key>::new());
        assert!(policy.unload(0), "but for someone who says so");
    }

    #[test]
    fn what_fits_is_pinned_in_order_and_leaves_room_for_the_rest() {
        let check = |budget, bytes: &[u64], rest: &[Key]| {
            let models: Vec<_> = bytes.iter().map(|bytes| (*bytes, true)).collect();
            let mut policy = policy(budget, &models);
            let order: Vec<Key> = (0..bytes.len()).collect();
            assert_eq!(policy.pin_what_fits(&order), rest, "{budget} {bytes:?}");
            for key in order {
                assert_eq!(policy.is_pinned(key), !rest.contains(&key));
                let decision = policy.want(key, 0);
                assert!(!matches!(decision, Decision::TooLarge { .. }), "{key}: {decision:?}");
                if decision == Decision::Load {
                    policy.came(key, true);
                    policy.release(key);
                }
            }
        };
        check(6, &[2, 2, 2], &[]);
        check(5, &[2, 2, 2], &[1, 2]);
        check(6, &[2, 2, 2, 2], &[2, 3]);
        check(10, &[6, 2, 2, 4], &[1, 2, 3]);
        check(9, &[6, 2, 2, 4], &[0, 2, 3]);
        check(3, &[2, 3, 2], &[0, 1, 2]);
        check(1, &[7], &[]);
        check(5, &[], &[]);
    }

    #[test]
    fn memory_that_is_no_models_is_room_that_is_not_there() {
        let mut policy = policy(10, &[(4, false), (4, false), (11, false)]);
        load(&mut policy, 0);
        assert_eq!(policy.want(1, 7), Decision::Wait { evict: vec![0] });
        policy.gone(0);
        assert_eq!(policy.want(1, 7), Decision::Load, "waiting would not make more room");
        policy.came(1, true);
        assert_eq!(policy.excess(11), Vec::<Key>::new(), "it is in use");
        policy.release(1);
        assert_eq!(policy.excess(11), vec![1]);
        assert_eq!(policy.want(2, 0), Decision::TooLarge { need: 11, room: 10 });
    }

    /// What may happen next in a simulated process.
    #[derive(Debug, Clone)]
    enum Event {
        Want(Key),
        Came(Key, bool),
        Gone(Key),
        Release(Key),
        Learn(Key, u64),
        Excess(u64),
    }

    fn events(models: usize) -> impl Strategy<Value = Vec<Event>> {
        let key = 0..models;
        let event = prop_oneof![
            6 => key.clone().prop_map(Event::Want),
            4 => (key.clone(), prop::bool::weighted(0.9)).prop_map(|(k, ok)| Event::Came(k, ok)),
            4 => key.clone().prop_map(Event::Gone),
            4 => key.clone().prop_map(Event::Release),
            1 => (key, 1..60 * MIB).prop_map(|(k, bytes)| Event::Learn(k, bytes)),
            1 => (0..400 * MIB).prop_map(Event::Excess),
        ];
        prop::collection::vec(event, 1..200)
    }

    fn play(policy: &mut Policy, event: &Event) -> Result<(), TestCaseError> {
        let before = policy.clone();
        let evicted = match *event {
            Event::Want(key) => match policy.want(key, 0) {
                Decision::Load => {
                    prop_assert_eq!(before.place(key), Place::Out);
                    let pinned = before.entries[key].pinned;
                    let alone = before.entries.iter().all(|e| e.place == Place::Out || e.pinned);
                    prop_assert!(pinned || alone || policy.used() <= policy.budget(), "over the budget");
                    Vec::new()
                }
                Decision::Use => {
                    prop_assert!(matches!(before.place(key), Place::In | Place::Coming));
                    Vec::new()
                }
                Decision::Wait { evict } => evict,
                Decision::TooLarge { need, room } => {
                    prop_assert!(need > room);
                    Vec::new()
                }
            },
            Event::Excess(resident) => policy.excess(resident),
            Event::Came(key, loaded) if before.place(key) == Place::Coming => {
                policy.came(key, loaded);
                Vec::new()
            }
            Event::Gone(key) if before.place(key) == Place::Going => {
                policy.gone(key);
                Vec::new()
            }
            Event::Release(key) if before.users(key) > 0 => {
                policy.release(key);
                Vec::new()
            }
            Event::Learn(key, bytes) => {
                policy.learn(key, bytes);
                Vec::new()
            }
            Event::Came(..) | Event::Gone(_) | Event::Release(_) => Vec::new(),
        };
        for key in &evicted {
            let entry = &before.entries[*key];
            prop_assert!(entry.can_go(), "{key} was evicted, and is {entry:?}");
            let older =
                |k: &Key| before.entries[*k].can_go() && before.entries[*k].last_used < entry.last_used;
            let stay = (0..before.entries.len()).filter(older).find(|k| !evicted.contains(k));
            prop_assert_eq!(stay, None, "an older one stays");
        }
        Ok(())
    }

    proptest! {
        /// Whatever happens: nobody's model is evicted, the oldest go first, loads stay within the budget.
        /// And nobody waits for ever: once uses, loads and unloads end, whoever asks again gets an answer.
        #[test]
        fn the_budget_holds_and_everyone_is_served(
            models in prop::collection::vec((1..60 * MIB, 0..40 * MIB, prop::bool::weighted(0.2)), 1..12),
            budget in 60 * MIB..300 * MIB,
            events in events(12),
        ) {
            let mut policy = Policy::new(budget);
            for (bytes, loading, pinned) in &models {
                policy.add(*bytes, *loading, *pinned);
            }
            for event in events {
                let key = match event {
                    Event::Want(k) | Event::Came(k, _) | Event::Gone(k) | Event::Release(k) | Event::Learn(k, _) => k,
                    Event::Excess(_) => 0,
                };
                if key < models.len() {
                    play(&mut policy, &event)?;
                }
            }
            let settle = |policy: &mut Policy| {
                for key in 0..models.len() {
                    match policy.place(key) {
                        Place::Coming => policy.came(key, true),
                        Place::Going => policy.gone(key),
                        Place::In | Place::Out => {}
                    }
                    while policy.users(key) > 0 {
                        policy.release(key);
                    }
                }
            };
            for key in 0..models.len() {
                settle(&mut policy);
                let asked = (0..3).map(|_| {
                    let decision = policy.want(key, 0);
                    settle(&mut policy);
                    decision
                });
                let served = asked.into_iter().any(|decision| match decision {
                    Decision::Use | Decision::Load | Decision::TooLarge { .. } => true,
                    Decision::Wait { .. } => false,
                });
                prop_assert!(served, "{} waits for ever: {:?}", key, policy);
            }
        }
    }
}
