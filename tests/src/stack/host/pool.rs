//! The sandboxes of one function version.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::Outcome;
use super::sandbox::{InitFailure, Sandbox, Spec};
use crate::stack::locked;

/// How long a call waits for a sandbox before it is told that there are too many.
const WAIT: Duration = Duration::from_secs(30);

/// Sandboxes that are alike: each takes any event, one at a time.
#[derive(Debug)]
pub(super) struct Pool {
    spec: Spec,
    /// One for each call that may run at a time; closed when the version is gone.
    permits: Semaphore,
    idle: Mutex<Vec<Sandbox>>,
    serial: AtomicU64,
    /// Calls that had to wait for a sandbox to start, of all versions.
    cold: Arc<AtomicU64>,
}

impl Pool {
    pub(super) fn new(spec: Spec, cold: Arc<AtomicU64>) -> Self {
        let permits = Semaphore::new(spec.sandboxes);
        Self { spec, permits, idle: Mutex::default(), serial: AtomicU64::new(0), cold }
    }

    pub(super) async fn invoke(&self, payload: Bytes) -> Outcome {
        let Ok(Ok(_permit)) = tokio::time::timeout(WAIT, self.permits.acquire()).await else {
            return Outcome::Busy;
        };
        let mut sandbox = if let Some(sandbox) = self.take() {
            sandbox
        } else {
            self.cold.fetch_add(1, Ordering::Relaxed);
            match self.start("on-demand").await {
                Ok(sandbox) => sandbox,
                Err(failure) => return Outcome::FunctionError(failure.payload()),
            }
        };
        let (outcome, healthy) = sandbox.invoke(payload).await;
        if healthy {
            self.put(sandbox);
        }
        outcome
    }

    pub(super) async fn warm(&self, count: usize) -> Result<(), String> {
        let wanted = count.min(self.spec.sandboxes);
        let missing = wanted.saturating_sub(locked(&self.idle).len());
        let mut failures = Vec::new();
        // One after the other: sandboxes that start at once would share the processor and all be late.
        for _ in 0..missing {
            match self.start("provisioned-concurrency").await {
                Ok(sandbox) => self.put(sandbox),
                Err(failure) => {
                    failures.push(failure);
                    break;
                }
            }
        }
        failures.first().map_or(Ok(()), |failure| Err(failure.status_reason()))
    }

    /// No call starts any more, and idle sandboxes end. Calls in flight go on.
    pub(super) fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *locked(&self.idle));
        drop(idle);
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        locked(&self.idle).iter().filter_map(Sandbox::pid).collect()
    }

    fn take(&self) -> Option<Sandbox> {
        let mut idle = locked(&self.idle);
        while let Some(mut sandbox) = idle.pop() {
            if sandbox.is_alive() {
                return Some(sandbox);
            }
        }
        None
    }

    fn put(&self, sandbox: Sandbox) {
        if !self.permits.is_closed() {
            locked(&self.idle).push(sandbox);
        }
    }

    async fn start(&self, kind: &str) -> Result<Sandbox, InitFailure> {
        Sandbox::start(&self.spec, self.serial.fetch_add(1, Ordering::Relaxed), kind).await
    }
}
