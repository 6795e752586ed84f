//! Leader election with a `coordination.k8s.io` Lease, as client-go does it: a lease is free when its
//! record has not changed for its whole duration *by our own clock*, so clocks that differ do no harm,
//! and every write names the record that it replaces.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// The name of the Lease of a process that works on everything.
pub const NAME: &str = "larder-controller";

/// One process's part in the election.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    seconds: i32,
    /// The record that was last seen, and when it was first seen so.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Election {
    /// Takes part in the election for the Lease `name` in `namespace` as `identity`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: String, identity: String, seconds: i32) -> Self {
        Self { api: Api::namespaced(client, namespace), name, identity, seconds, seen: None }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds.unsigned_abs()))
    }

    /// Waits until this process leads, or `stop`. Whether it leads.
    pub async fn win(&mut self, stop: &CancellationToken) -> bool {
        let mut is_told = false;
        loop {
            match self.try_once().await {
                Ok(true) => {
                    tracing::info!(identity = self.identity, "leads");
                    return true;
                }
                Ok(false) if !is_told => {
                    tracing::info!(identity = self.identity, "stands by: another process leads");
                    is_told = true;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the Lease cannot be read");
                }
            }
            let pause = self.duration() / 5;
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Renews for as long as it can, and returns when the lease is lost.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.duration() / 5).await;
            let left = (self.duration() * 2 / 3).saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.try_once()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the Lease cannot be renewed");
                }
                Err(_) => {}
            }
            // Stop working well before another may begin.
            if renewed.elapsed() >= self.duration() * 2 / 3 {
                return;
            }
        }
    }

    /// Gives the lease back, so that another need not wait for its end.
    pub async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = None;
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the Lease could not be released");
        }
    }

    /// Takes or renews the lease. Whether this process holds it.
    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.record(None)),
            };
            return lost_race(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|h| !h.is_empty());
        if holder.as_deref().is_some_and(|h| h != self.identity) && !self.is_over(&spec) {
            return Ok(false);
        }
        lease.spec = Some(self.record(Some(&spec)));
        lost_race(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Whether a record has stayed as it is for its whole duration.
    fn is_over(&mut self, spec: &LeaseSpec) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == spec => {
                let seconds = spec.lease_duration_seconds.unwrap_or(self.seconds).unsigned_abs();
                since.elapsed() >= Duration::from_secs(seconds.into())
            }
            Some(_) | None => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn record(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_ours = before.is_some_and(|b| b.holder_identity.as_deref() == Some(&self.identity));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.seconds),
            acquire_time: if is_ours {
                before.and_then(|b| b.acquire_time.clone())
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(
                before.and_then(|b| b.lease_transitions).unwrap_or(0)
                    + i32::from(!is_ours && before.is_some()),
            ),
            ..LeaseSpec::default()
        }
    }
}

/// A write that another was faster with is no error.
fn lost_race(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
