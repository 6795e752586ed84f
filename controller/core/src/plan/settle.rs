//! Whether an upload may be under way: a model is copied and served only once its source has not changed for
//! a while. A source with a marker has its own word for that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use larder_contract::ModelSource;

use super::{Plan, Reason};
use crate::desired::Desired;
use crate::endpoint::Model;
use crate::observed::{Observed, Source};

/// When a source that `changed` last then is taken as it is, unless it changes again.
#[must_use]
pub fn settles_at(changed: Timestamp, settle_seconds: u32) -> Timestamp {
    changed.checked_add(SignedDuration::from_secs(settle_seconds.into())).unwrap_or(Timestamp::MAX)
}

/// The wait for the source that settles last; none when all of them have. A pinned model has its content
/// named, and a marked one its marker.
pub(super) fn settling(desired: &Desired, observed: &Observed) -> Option<Plan> {
    let (at, changed, Model { name, source, .. }) = desired
        .models
        .iter()
        .filter_map(|model| unsettled(model, desired, observed))
        .max_by_key(|(at, ..)| *at)?;
    let on = format!(
        "model {name} to settle: {source} changed at {}, and is taken at {} if it does not change for \
         {} s (refresh.settleSeconds)",
        whole_seconds(changed),
        whole_seconds(at),
        desired.settle_seconds,
    );
    // The look after it lists anew; a moment later, so that it is not a moment too early.
    let left = Duration::try_from(at.duration_since(observed.at)).unwrap_or_default();
    Some(Plan::Wait { reason: Reason::Settling, on, after: left + Duration::from_millis(10) })
}

/// When a source settles and when it changed last, while it has not settled.
fn unsettled<'a>(
    model: &'a Model,
    desired: &Desired,
    observed: &Observed,
) -> Option<(Timestamp, Timestamp, &'a Model)> {
    let Some(Ok(Source::Found { changed, listed, .. })) = observed.sources.get(&model.name) else {
        return None;
    };
    let at = settles_at(*changed, desired.settle_seconds);
    // Files elsewhere change all at once: a tag or a branch moves.
    let is_uploaded = matches!(model.source, ModelSource::S3(_));
    let has_a_word = model.pin.is_some() || model.marker.is_some();
    (is_uploaded && !has_a_word && *listed < at).then_some((at, *changed, model))
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
