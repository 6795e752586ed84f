//! What every reconcile shares: clients, defaults, and what the process remembers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use larder_core::retry::Attempts;
use larder_core::{Class, Defaults};
use larder_crds::InferenceEndpointStatus;

use crate::cloud::aws::Connector;
use crate::metrics::Metrics;
use crate::reconcile::{Memory, Now};
use crate::tenants::Tenants;
use crate::turns::{Changes, Turns};
use crate::wake::Wakes;

/// The name that status fields, finalizers and Events are written under.
pub const MANAGER: &str = "larder";

/// What every reconcile shares.
pub struct Context {
    /// Kubernetes.
    pub kube: Client,
    /// AWS.
    pub aws: Connector,
    /// What objects leave to the controller.
    pub defaults: Defaults,
    /// Writes Events.
    pub recorder: Recorder,
    /// S3's events.
    pub wakes: Arc<Wakes>,
    /// Which namespaces may use which roles.
    pub tenants: Tenants,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Turns of looks for drift.
    pub turns: Turns,
    started: Instant,
    remembered: Mutex<HashMap<String, Remembered>>,
    attempts: Mutex<Attempts<String>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("defaults", &self.defaults).finish_non_exhaustive()
    }
}

/// What is remembered of one object.
#[derive(Debug, Default)]
pub struct Remembered {
    /// For the pass.
    pub memory: Memory,
    /// The status that was last written: the watch may not have brought it yet.
    pub status: Option<InferenceEndpointStatus>,
    /// When that was, as a time since the process started.
    pub told: Option<Duration>,
    /// When the next pass is due, as a time since the process started.
    pub due: Duration,
    /// When the next pass that an event asks for may be made.
    pub next_wake: Duration,
    /// The turn of the next look for drift.
    pub turn: Option<Duration>,
    /// What users have asked for.
    pub changes: Changes,
}

impl Context {
    /// A context for a process that works on so many endpoints at once, and looks for drift at half as many.
    #[must_use]
    pub fn new(kube: Client, aws: Connector, defaults: Defaults, identity: String, concurrency: u16) -> Self {
        let reporter = Reporter { controller: "larder.dev/controller".to_owned(), instance: Some(identity) };
        Self {
            recorder: Recorder::new(kube.clone(), reporter),
            kube,
            aws,
            defaults,
            wakes: Arc::default(),
            tenants: Tenants::default(),
            metrics: Arc::default(),
            turns: Turns::new(usize::from(concurrency) / 2),
            started: Instant::now(),
            remembered: Mutex::default(),
            attempts: Mutex::default(),
        }
    }

    /// Counts in `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// The time, and chance.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { since_start: self.started.elapsed(), timestamp: Timestamp::now(), jitter: fastrand::f64() }
    }

    /// Takes out what is remembered of the object with this UID. One object is worked on once at a time.
    #[must_use]
    pub fn take(&self, uid: &str) -> Remembered {
        lock(&self.remembered).remove(uid).unwrap_or_default()
    }

    /// Puts it back.
    pub fn put(&self, uid: &str, remembered: Remembered) {
        lock(&self.remembered).insert(uid.to_owned(), remembered);
    }

    /// Forgets an object.
    pub fn forget(&self, uid: &str) {
        lock(&self.remembered).remove(uid);
        self.wakes.forget(uid);
        self.metrics.forget(uid);
        lock(&self.attempts).succeeded(&uid.to_owned());
    }

    /// Notes a failure of the controller's own calls for an object, and answers how long to wait.
    pub fn failed(&self, uid: &str, class: Class) -> Duration {
        let now = self.now();
        lock(&self.attempts).failed(uid.to_owned(), class, now.since_start, now.jitter)
    }

    /// Forgets such failures.
    pub fn succeeded(&self, uid: &str) {
        lock(&self.attempts).succeeded(&uid.to_owned());
    }
}

/// What a panicking holder left is still sound: every change under these locks is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
