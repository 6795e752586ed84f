//! Listings of sources, kept for the endpoint's refresh interval: a rollout takes many passes, and each
//! listing costs money.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_contract::ModelSource;
use larder_core::Endpoint;
use larder_core::observed::{Observed, Source};

use crate::observe::{Listings, has_changed_source};
use crate::reconcile::Now;

/// The listings of one endpoint's sources, and when each was made.
#[derive(Debug, Default)]
pub struct Sources {
    listed: BTreeMap<ModelSource, (Source, Duration)>,
}

impl Sources {
    /// The listings that are younger than the refresh interval.
    #[must_use]
    pub fn fresh(&self, endpoint: &Endpoint, now: Now) -> Listings {
        let interval = Duration::from_secs(endpoint.refresh_seconds.into());
        self.listed
            .iter()
            .filter(|(_, (_, at))| now.since_start.saturating_sub(*at) < interval)
            .map(|(place, (source, _))| (place.clone(), Ok(source.clone())))
            .collect()
    }

    /// Keeps what was listed and found. What was missing or denied is looked at again in every pass, so
    /// that mending it shows soon; what changed during a copy is no longer true.
    pub fn learn(&mut self, endpoint: &Endpoint, observed: &Observed, now: Now) {
        if has_changed_source(&observed.sync_report) {
            self.forget();
            return;
        }
        let known = self.fresh(endpoint, now);
        self.listed = endpoint
            .models
            .iter()
            .filter_map(|model| {
                let place = &model.source;
                let Some(Ok(source @ Source::Found { .. })) = observed.sources.get(&model.name) else {
                    return None;
                };
                let at = match (known.contains_key(place), self.listed.get(place)) {
                    (true, Some((_, at))) => *at,
                    _ => now.since_start,
                };
                Some((place.clone(), (source.clone(), at)))
            })
            .collect();
    }

    /// Forgets every listing.
    pub fn forget(&mut self) {
        self.listed.clear();
    }
}
