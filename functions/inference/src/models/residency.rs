//! Loads models, keeps them while they are used, and unloads them as the policy says.
//!
//! Everything that changes goes through one lock that is never held across a wait; whoever waits looks
//! again whenever something has changed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::failure::{Failure, Unavailable};
use super::memory;
use super::policy::{Decision, Key, Place, Policy};
use super::{LoadError, State};
use crate::request;
use crate::request::id::RequestId;
use crate::telemetry::Telemetry;

/// Bounds of what the models may take and how long anyone waits for them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes for all models together. Those that are preloaded are loaded whatever it says.
    pub memory: u64,
    /// Models that are loaded at the same time.
    pub loads: usize,
    /// The longest that a request waits until other models are out of the way.
    pub room: Duration,
    /// The longest that a request waits for a model that is being loaded. The load goes on without it.
    pub loading: Duration,
}

impl Limits {
    /// As much memory as there is, whatever that is.
    const UNLIMITED: u64 = u64::MAX / 4;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Self::UNLIMITED,
            loads: 4,
            room: Duration::from_secs(5),
            loading: Duration::from_secs(20),
        }
    }
}

/// Makes a model's value from its files. Called on a thread of its own, again after each unload.
pub(crate) type Loader<T> = Arc<dyn Fn() -> Result<T, LoadError> + Send + Sync>;

/// What the registry has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Loads that ended well.
    pub loads: u64,
    /// Loads that failed.
    pub failures: u64,
    /// Models that were unloaded.
    pub unloads: u64,
    /// Requests that were turned away because a model could not be had in time.
    pub turned_away: u64,
}

struct Slot<T> {
    name: String,
    loader: Loader<T>,
    value: Option<Arc<T>>,
    failure: Option<Failure>,
    /// What the last load and the first run after it took, each once it was measured.
    measured: [Option<u64>; 2],
    has_run: bool,
}

struct Inner<T> {
    policy: Policy,
    slots: Vec<Slot<T>>,
    counts: Counts,
    /// Goes up with every change of what is in memory; see [`Window`].
    tick: u64,
}

/// The models of one process, in memory or not.
pub(crate) struct Residency<T> {
    limits: Limits,
    telemetry: Telemetry,
    /// What the process took before any model.
    baseline: u64,
    runtime: Handle,
    inner: Mutex<Inner<T>>,
    changes: watch::Sender<()>,
    /// Held by the one caller that room is being made for, so that they get it in the order they came.
    next_for_room: AsyncMutex<()>,
    loads: Semaphore,
}

/// A span of time over which the growth of memory is one model's, if nothing else came or went meanwhile.
#[derive(Debug, Clone, Copy)]
struct Window {
    tick: u64,
    anonymous: u64,
}

impl<T: Send + Sync + 'static> Residency<T> {
    /// Measures what the process takes now; everything on top of it will be models.
    pub(crate) fn new(limits: Limits, telemetry: Telemetry) -> Self {
        telemetry.budget(limits.memory);
        let inner = Inner {
            policy: Policy::new(limits.memory),
            slots: Vec::new(),
            counts: Counts::default(),
            tick: 0,
        };
        Self {
            limits,
            telemetry,
            baseline: memory::anonymous().unwrap_or(0),
            runtime: Handle::current(),
            inner: Mutex::new(inner),
            changes: watch::channel(()).0,
            next_for_room: AsyncMutex::new(()),
            loads: Semaphore::new(limits.loads.max(1)),
        }
    }

    /// One more model, thought to take `bytes`, and `loading` besides until it is loaded.
    pub(crate) fn add(&self, name: &str, [bytes, loading]: [u64; 2], pinned: bool, loader: Loader<T>) -> Key {
        let mut inner = self.lock();
        inner.slots.push(Slot {
            name: name.to_owned(),
            loader,
            value: None,
            failure: None,
            measured: [None; 2],
            has_run: false,
        });
        inner.policy.add(bytes, loading, pinned)
    }

    /// Of the pinned models, in this order, those that fit together stay so. Returns the others, with the bytes
    /// that they are thought to take.
    pub(crate) fn pin_what_fits(&self, order: &[Key]) -> Vec<(Key, u64)> {
        let mut inner = self.lock();
        let rest = inner.policy.pin_what_fits(order);
        let bytes = |key| (key, inner.policy.bytes(key));
        rest.into_iter().map(bytes).collect()
    }

    /// Whether a model is loaded at the start and stays.
    pub(crate) fn is_pinned(&self, key: Key) -> bool {
        self.lock().policy.is_pinned(key)
    }

    /// The model, loaded, and kept until what is returned is dropped.
    ///
    /// # Errors
    /// [`Unavailable`]: within the limits' times at the latest.
    pub(crate) async fn acquire(self: &Arc<Self>, key: Key) -> Result<InUse<T>, Unavailable> {
        let acquired = self.acquire_within(key, self.limits.loading).await;
        if acquired.is_err() {
            self.lock().counts.turned_away += 1;
        }
        acquired
    }

    /// As [`Residency::acquire`], with another time for loading.
    pub(crate) async fn acquire_within(
        self: &Arc<Self>,
        key: Key,
        loading: Duration,
    ) -> Result<InUse<T>, Unavailable> {
        let found = matches!(self.lock().policy.place(key), Place::Coming | Place::In);
        let ticket = if found { self.take(key)? } else { None };
        let ticket = match ticket {
            Some(ticket) => ticket,
            None => self.with_room(key).await?,
        };
        let ready = timeout(loading, self.ready(&ticket));
        let value = ready.await.unwrap_or(Err(Unavailable::Loading { waited: loading }))?;
        Ok(InUse { value, ticket })
    }

    /// Asks the policy once, and begins what it says. `None`: there is no room yet.
    fn take(self: &Arc<Self>, key: Key) -> Result<Option<Ticket<T>>, Unavailable> {
        let mut inner = self.lock();
        let place = inner.policy.place(key);
        if place == Place::Out
            && let Some(failure) = &inner.slots[key].failure
            && let Some(wait) = failure.still_waits(Instant::now())
        {
            return Err(Unavailable::Failed { failure: failure.clone(), wait: Some(wait) });
        }
        let resident = if place == Place::Out { self.resident() } else { 0 };
        let decision = inner.policy.want(key, resident);
        drop(inner);
        let ticket = || Ticket { residency: Arc::clone(self), key };
        match decision {
            Decision::Use => Ok(Some(ticket())),
            Decision::Load => {
                let ticket = ticket();
                let load = Arc::clone(self).load(key, request::current().map(|context| context.id().clone()));
                self.runtime.spawn(load.in_current_span());
                Ok(Some(ticket))
            }
            Decision::Wait { evict } => {
                self.evict(evict);
                Ok(None)
            }
            Decision::TooLarge { need, room } => Err(Unavailable::TooLarge { need, room }),
        }
    }

    /// Waits for room, behind those who waited before.
    async fn with_room(self: &Arc<Self>, key: Key) -> Result<Ticket<T>, Unavailable> {
        let waiting = async {
            let _turn = self.next_for_room.lock().await;
            let mut changes = self.changes.subscribe();
            loop {
                if let Some(ticket) = self.take(key)? {
                    return Ok(ticket);
                }
                // The sender lives as long as `self`.
                let _ = changes.changed().await;
            }
        };
        timeout(self.limits.room, waiting)
            .await
            .unwrap_or(Err(Unavailable::NoRoom { waited: self.limits.room }))
    }

    /// Waits until the load that a ticket is for has ended.
    async fn ready(&self, ticket: &Ticket<T>) -> Result<Arc<T>, Unavailable> {
        let mut changes = self.changes.subscribe();
        loop {
            {
                let inner = self.lock();
                let slot = &inner.slots[ticket.key];
                match (inner.policy.place(ticket.key), &slot.value, &slot.failure) {
                    (Place::In, Some(value), _) => return Ok(Arc::clone(value)),
                    (Place::Out, _, Some(failure)) => {
                        return Err(Unavailable::Failed { failure: failure.clone(), wait: None });
                    }
                    _ => {}
                }
            }
            let _ = changes.changed().await;
        }
    }

    /// Loads a model that the policy has room for. Nobody's going away ends it. `id`: of the request that
    /// began it, though others may wait for it too.
    async fn load(self: Arc<Self>, key: Key, id: Option<RequestId>) {
        let _permit = self.loads.acquire().await;
        let (name, make) = {
            let slot = &self.lock().slots[key];
            (slot.name.clone(), Arc::clone(&slot.loader))
        };
        let started = Instant::now();
        let window = self.begin();
        let load = move || {
            let loaded = make();
            // What parsing took: kept by the allocator otherwise.
            larder_native::give_back_free_memory();
            loaded
        };
        let loaded = tokio::task::spawn_blocking(request::carried(load)).await;
        let loaded = loaded.map_err(LoadError::from).flatten();
        let grown = self.end(window);
        let time = started.elapsed();
        let milliseconds = time.as_millis();
        let mut inner = self.lock();
        match loaded {
            Ok(value) => {
                inner.policy.came(key, true);
                inner.counts.loads += 1;
                let slot = &mut inner.slots[key];
                slot.value = Some(Arc::new(value));
                slot.failure = None;
                slot.has_run = false;
                slot.measured[0] = grown.or(slot.measured[0]);
                let bytes = inner.policy.bytes(key);
                drop(inner);
                self.telemetry.loaded(&name, time, id.as_ref().map(RequestId::as_str));
                self.telemetry.resident(&name, bytes);
                tracing::info!(model = name, milliseconds, grown, "model loaded");
            }
            Err(reason) => {
                drop(inner);
                self.failed(key, &reason, &id.unwrap_or_else(RequestId::random));
            }
        }
        self.changes.send_replace(());
    }

    /// A model cannot be loaded: its next request is told so, or tries again after a while. The log has the
    /// reason under `id`.
    pub(crate) fn failed(&self, key: Key, reason: &LoadError, id: &RequestId) {
        let mut inner = self.lock();
        inner.policy.came(key, false);
        inner.counts.failures += 1;
        let slot = &mut inner.slots[key];
        let now = (SystemTime::now(), Instant::now());
        let failure = Failure::next(slot.failure.as_ref(), reason, id.clone(), now);
        let (reason, model) = (failure.reason.clone(), slot.name.clone());
        slot.failure = Some(failure);
        drop(inner);
        self.telemetry.load_failed(&model, id.as_str());
        tracing::error!(%id, model, reason, "model cannot be loaded");
    }

    /// Unloads models to make room.
    fn evict(self: &Arc<Self>, keys: Vec<Key>) {
        let request = request::current();
        for key in &keys {
            let request = request.as_ref().map(|context| context.id().as_str());
            self.telemetry.evicted(&self.lock().slots[*key].name, request);
        }
        self.unload_all(keys);
    }

    fn unload_all(self: &Arc<Self>, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        let values: Vec<_> = {
            let mut inner = self.lock();
            keys.iter().map(|key| (inner.slots[*key].name.clone(), inner.slots[*key].value.take())).collect()
        };
        let residency = Arc::clone(self);
        let unload = move || {
            let window = residency.begin();
            let names: Vec<String> = values.into_iter().map(|(name, _value)| name).collect();
            larder_native::give_back_free_memory();
            residency.end(window);
            let mut inner = residency.lock();
            for key in &keys {
                inner.policy.gone(*key);
                inner.counts.unloads += 1;
            }
            drop(inner);
            for name in &names {
                residency.telemetry.resident(name, 0);
            }
            tracing::info!(models = names.join(", "), "models unloaded");
            residency.changes.send_replace(());
        };
        self.runtime.spawn_blocking(request::carried(unload));
    }

    /// Unloads a model once nobody uses it. The next request loads it again.
    ///
    /// # Errors
    /// [`Unavailable::Busy`] when it is in use for longer than the limits' time for room.
    pub(crate) async fn unload(self: &Arc<Self>, key: Key) -> Result<(), Unavailable> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                let place = {
                    let mut inner = self.lock();
                    let place = inner.policy.place(key);
                    if inner.policy.unload(key) {
                        drop(inner);
                        self.unload_all(vec![key]);
                    }
                    place
                };
                if place == Place::Out {
                    return;
                }
                let _ = changes.changed().await;
            }
        };
        timeout(self.limits.room, waiting).await.map_err(|_| Unavailable::Busy { waited: self.limits.room })
    }

    /// Lets the next request try a load that failed, however short ago.
    pub(crate) fn forget_failure(&self, key: Key) {
        self.lock().slots[key].failure = None;
    }

    /// Where a model is.
    pub(crate) fn state(&self, key: Key) -> State {
        let inner = self.lock();
        match (inner.policy.place(key), &inner.slots[key].failure) {
            (Place::Coming, _) => State::Loading,
            (Place::In, _) => State::Ready,
            (Place::Going, _) => State::Unloading,
            (Place::Out, None) => State::Unloaded,
            (Place::Out, Some(failure)) => State::Failed(failure.clone()),
        }
    }

    /// What a model takes, in bytes: measured, or estimated until then.
    pub(crate) fn bytes(&self, key: Key) -> u64 {
        self.lock().policy.bytes(key)
    }

    /// What the models in memory are reckoned to take, and the budget, in bytes.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.policy.used(), inner.policy.budget())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn release(self: &Arc<Self>, key: Key) {
        let evict = {
            let mut inner = self.lock();
            inner.policy.release(key);
            // With room to spare, the system need not be asked.
            if inner.policy.budget() >= Limits::UNLIMITED {
                Vec::new()
            } else {
                inner.policy.excess(self.resident())
            }
        };
        self.evict(evict);
        self.changes.send_replace(());
    }

    /// Begins to measure, if the model has not run since it was loaded.
    fn first_run(&self, key: Key) -> Option<Window> {
        let has_run = std::mem::replace(&mut self.lock().slots[key].has_run, true);
        (!has_run).then(|| self.begin())
    }

    /// A first run has ended: with the load before it, it tells what the model takes.
    fn learn(&self, key: Key, window: Window) {
        let grown = self.end(window);
        let mut inner = self.lock();
        let slot = &mut inner.slots[key];
        slot.measured[1] = grown.or(slot.measured[1]);
        if let [Some(load), Some(run)] = slot.measured {
            inner.policy.learn(key, load + run);
            self.telemetry.resident(&inner.slots[key].name, load + run);
        }
    }

    fn resident(&self) -> u64 {
        memory::anonymous().unwrap_or(0).saturating_sub(self.baseline)
    }

    fn begin(&self) -> Window {
        let mut inner = self.lock();
        inner.tick += 1;
        Window { tick: inner.tick, anonymous: memory::anonymous().unwrap_or(0) }
    }

    /// How much memory has grown since, if nothing else began or ended meanwhile.
    fn end(&self, window: Window) -> Option<u64> {
        let now = memory::anonymous()?;
        let mut inner = self.lock();
        let alone = inner.tick == window.tick;
        inner.tick += 1;
        alone.then(|| now.saturating_sub(window.anonymous))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> std::fmt::Debug for Residency<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Residency").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The right to find a model where it is.
struct Ticket<T: Send + Sync + 'static> {
    residency: Arc<Residency<T>>,
    key: Key,
}

impl<T: Send + Sync + 'static> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.residency.release(self.key);
    }
}

/// A model that is loaded, and stays so until this is dropped.
pub(crate) struct InUse<T: Send + Sync + 'static> {
    value: Arc<T>,
    // Dropped last: from then on the value may be anyone's to drop.
    ticket: Ticket<T>,
}

impl<T: Send + Sync + 'static> InUse<T> {
    /// The model.
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// Runs the model, and learns from the first whole run after a load what it takes.
    pub(crate) fn run<R, E>(&self, run: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        let Ticket { residency, key } = &self.ticket;
        let window = residency.first_run(*key);
        let answer = run();
        match window {
            Some(window) if answer.is_ok() => residency.learn(*key, window),
            // Refused or ended before it had taken what a whole one takes.
            Some(_) => residency.lock().slots[*key].has_run = false,
            None => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::tasks::files::FilesError;

    const MIB: u64 = 1 << 20;

    fn refusal() -> LoadError {
        LoadError::Files(FilesError::Unrecognised {
            folder: "/models/a".into(),
            wanted: "model".to_owned(),
            names: Vec::new(),
        })
    }

    fn limits(memory: u64) -> Limits {
        Limits {
            memory,
            room: Duration::from_millis(50),
            loading: Duration::from_secs(20),
            ..Limits::default()
        }
    }

    fn unavailable<T>(result: Result<T, Unavailable>) -> Unavailable {
        result.map(drop).unwrap_err()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_callers_make_one_load_that_outlives_them() {
        let residency = Arc::new(Residency::new(limits(Limits::UNLIMITED), Telemetry::default()));
        let (loads, (go, gate)) = (Arc::new(AtomicUsize::new(0)), std::sync::mpsc::channel::<()>());
        let (counted, gate) = (Arc::clone(&loads), Mutex::new(gate));
        let loader = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            gate.lock().unwrap().recv().unwrap();
            Ok(7)
        };
        let key = residency.add("a", [1, 0], false, Arc::new(loader));
        let gone = residency.acquire_within(key, Duration::from_millis(1)).await;
        assert!(matches!(unavailable(gone), Unavailable::Loading { .. }));
        assert!(matches!(residency.state(key), State::Loading));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let residency = Arc::clone(&residency);
                tokio::spawn(async move { residency.acquire(key).await.map(|m| *m.value().as_ref()).ok() })
            })
            .collect();
        go.send(()).unwrap();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Some(7));
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failed_load_is_told_and_tried_again_after_a_while() {
        let residency = Arc::new(Residency::new(limits(Limits::UNLIMITED), Telemetry::default()));
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let loader = move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(refusal()),
            1 => std::panic::resume_unwind(Box::new("a loader that panics")),
            _ => Ok(()),
        };
        let key = residency.add("a", [1, 0], true, Arc::new(loader));
        let context = || {
            let trace = request::trace::Trace::of(&axum::http::HeaderMap::new());
            Arc::new(request::Context::new(RequestId::random(), trace))
        };
        // The log has the reason under the id of the request that began the load, and of each that is told.
        let (began, other) = (context(), context());
        let asked = async { unavailable(residency.acquire(key).await) };
        let first = request::scope(Arc::clone(&began), asked).await;
        let Unavailable::Failed { failure, wait: None } = &first else { panic!("{first:?}") };
        assert!(failure.reason.contains("/models/a") && failure.id == *began.id(), "{failure:?}");
        for context in [began, other] {
            let id = context.id().to_string();
            let told = request::scope(context, async { first.told("a") }).await;
            assert_eq!(told.status.as_u16(), 500);
            assert!(told.message.contains(&id) && !told.message.contains("/models"), "{told}");
        }

        let again = unavailable(residency.acquire(key).await);
        assert!(matches!(again, Unavailable::Failed { wait: Some(_), .. }), "{again:?}");
        assert_eq!((again.told("a").status.as_u16(), tries.load(Ordering::SeqCst)), (503, 1));
        residency.forget_failure(key);
        assert!(matches!(unavailable(residency.acquire(key).await), Unavailable::Failed { wait: None, .. }));
        assert!(matches!(residency.state(key), State::Failed(_)));
        residency.forget_failure(key);
        assert!(residency.acquire(key).await.is_ok());
        assert!(matches!(residency.state(key), State::Ready));
        let Counts { loads, failures, turned_away, .. } = residency.counts();
        assert_eq!((loads, failures, turned_away), (1, 2, 3));
    }

    #[tokio::test]
    async fn a_model_in_use_is_not_evicted_and_nobody_waits_for_ever() {
        let residency = Arc::new(Residency::new(limits(3 * MIB), Telemetry::default()));
        let keys: Vec<_> = (0..3)
            .map(|n| residency.add(&n.to_string(), [2 * MIB, 0], false, Arc::new(move || Ok(n))))
            .collect();
        let large = residency.add("large", [4 * MIB, 0], false, Arc::new(|| Ok(9)));
        let used = residency.acquire(keys[0]).await.unwrap();
        assert!(matches!(unavailable(residency.acquire(keys[1]).await), Unavailable::NoRoom { .. }));
        assert!(matches!(unavailable(residency.unload(keys[0]).await), Unavailable::Busy { .. }));
        assert_eq!(*used.value().as_ref(), 0);
        drop(used);
        for key in [keys[1], keys[2], keys[0]] {
            assert!(residency.acquire(key).await.is_ok());
            assert!(matches!(residency.state(key), State::Ready));
        }
        assert!(matches!(residency.state(keys[1]), State::Unloaded));
        residency.unload(keys[0]).await.unwrap();
        assert!(matches!(residency.state(keys[0]), State::Unloaded));
        let refused = unavailable(residency.acquire(large).await);
        assert!(refused.told("large").message.contains("takes about 4 MiB, and there are 3 MiB"));
    }

    #[tokio::test]
    async fn loads_evictions_and_memory_are_counted() {
        let (telemetry, estimate) = (Telemetry::default(), 2 * MIB);
        let residency = Arc::new(Residency::new(limits(3 * MIB), telemetry.clone()));
        let add = |name| residency.add(name, [estimate, 0], false, Arc::new(|| Ok(())));
        let (evicted, unloaded) = (add("evicted"), add("unloaded"));
        for key in [evicted, unloaded] {
            drop(residency.acquire(key).await.unwrap());
        }
        residency.unload(unloaded).await.unwrap();
        let check = |present: &[&str], absent: &str| {
            let text = telemetry.text().unwrap();
            for line in present {
                assert!(text.lines().any(|l| l == *line), "no {line:?} in\n{text}");
            }
            assert!(!text.contains(absent), "{absent:?} in\n{text}");
        };
        let counted = [
            r#"larder_model_loads_total{model="evicted",outcome="loaded"} 1"#,
            r#"larder_model_load_seconds_count{model="unloaded"} 1"#,
            r#"larder_model_evictions_total{model="evicted"} 1"#,
            r#"larder_model_resident_bytes{model="evicted"} 0"#,
            r#"larder_model_resident_bytes{model="unloaded"} 0"#,
        ];
        // Unloaded because somebody asked for it, not to make room.
        check(&counted, r#"larder_model_evictions_total{model="unloaded"}"#);

        let roomy = Arc::new(Residency::new(limits(Limits::UNLIMITED), telemetry.clone()));
        let key = roomy.add("measured", [estimate, 0], false, Arc::new(|| Ok(vec![1_u8; 8 << 20])));
        let in_use = roomy.acquire(key).await.unwrap();
        in_use.run(|| Ok::<_, ()>(())).unwrap();
        let measured = roomy.bytes(key);
        assert_ne!(measured, estimate, "nothing was learnt from the run");
        check(&[&format!(r#"larder_model_resident_bytes{{model="measured"}} {measured}"#)], "no such line");
    }
}
