//! Listings of sources, kept for a while: a rollout takes many passes, and each listing costs money.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_core::Endpoint;
use larder_core::observed::{Observed, Source};
use larder_core::plan::settles_at;

use crate::observe::{Listings, has_changed_source};
use crate::reconcile::Now;

/// The listings of one endpoint's sources, by the models' names.
#[derive(Debug, Default)]
pub struct Sources {
    listed: BTreeMap<String, Listed>,
}

#[derive(Debug)]
struct Listed {
    source: Source,
    /// When it was listed.
    at: Duration,
    /// Since when every listing has shown the same.
    since: Duration,
}

/// A source that has been the same for an hour is listed every 7.5 minutes, if the spec's bounds allow.
const PATIENCE: u32 = 8;

impl Listed {
    /// How long from `now` this listing is still taken for true: an interval that grows while nothing
    /// changes, but not beyond the moment at which an upload must be found settled.
    fn lasts(&self, endpoint: &Endpoint, now: Now) -> Duration {
        let least = Duration::from_secs(endpoint.refresh_seconds.into());
        let most = Duration::from_secs(endpoint.max_refresh_seconds.into()).max(least);
        let interval = (self.at.saturating_sub(self.since) / PATIENCE).clamp(least, most);
        let left = (self.at + interval).saturating_sub(now.since_start);
        let Source::Found { changed, listed, .. } = &self.source else { return left };
        let settles = settles_at(*changed, endpoint.settle_seconds);
        if *listed >= settles {
            return left;
        }
        left.min(settles.duration_since(now.timestamp).try_into().unwrap_or_default())
    }
}

impl Sources {
    /// The listings that are still taken for true.
    #[must_use]
    pub fn fresh(&self, endpoint: &Endpoint, now: Now) -> Listings {
        self.listed
            .iter()
            .filter(|(_, listed)| !listed.lasts(endpoint, now).is_zero())
            .map(|(model, listed)| (model.clone(), Ok(listed.source.clone())))
            .collect()
    }

    /// How long until a source is listed again.
    #[must_use]
    pub fn due_in(&self, endpoint: &Endpoint, now: Now) -> Duration {
        let soonest = self.listed.values().map(|listed| listed.lasts(endpoint, now)).min();
        soonest.unwrap_or(Duration::from_secs(endpoint.refresh_seconds.into()))
    }

    /// Keeps what was listed and found. What was missing or denied is looked at again in every pass, so
    /// that mending it shows soon; what changed during a copy is no longer true.
    pub fn learn(&mut self, endpoint: &Endpoint, observed: &Observed, now: Now) {
        if has_changed_source(&observed.sync_report) {
            self.forget();
            return;
        }
        self.learn_listed(endpoint, &observed.sources, now);
    }

    /// As [`Self::learn`], where nothing is copied.
    pub fn learn_listed(&mut self, endpoint: &Endpoint, sources: &Listings, now: Now) {
        let mut known = std::mem::take(&mut self.listed);
        for model in &endpoint.models {
            let Some(Ok(source @ Source::Found { revision, listed, .. })) = sources.get(&model.name) else {
                continue;
            };
            let fresh = |since| Listed { source: source.clone(), at: now.since_start, since };
            let kept = match known.remove(&model.name) {
                Some(before) => match &before.source {
                    Source::Found { listed: then, .. } if then == listed => before,
                    Source::Found { revision: was, .. } if was == revision => fresh(before.since),
                    Source::Found { .. } | Source::Empty | Source::Unusable(_) | Source::Unmarked(_) => {
                        fresh(now.since_start)
                    }
                },
                None => fresh(now.since_start),
            };
            self.listed.insert(model.name.clone(), kept);
        }
    }

    /// Forgets every listing.
    pub fn forget(&mut self) {
        self.listed.clear();
    }
}
