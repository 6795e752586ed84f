//! Everything in the status but its conditions.

use jiff::Timestamp;
use larder_contract::sync::{ModelReport, ModelState};
use larder_contract::{Digest, layout};
use larder_crds::status::{
    CapacityStatus, EventsStatus, FunctionStatus, InferenceEndpointStatus, ModelStatus, TrafficStatus,
    VersionStatus,
};

use super::progress::progress;
use crate::desired::{Desired, Want, copy_of, sync_request};
use crate::endpoint::Endpoint;
use crate::names::ALIAS;
use crate::observed::{Observed, ProvisionedStatus, Read, Source, Version};
use crate::plan::rollout::version_to_serve;
use crate::plan::{Area, Plan, Plans};

/// The version that the alias points at.
pub(super) fn serving(observed: &Observed) -> Option<u64> {
    observed.alias.as_ref().ok()?.as_ref().map(|alias| alias.version)
}

fn versions(observed: &Observed) -> &[Version] {
    observed.versions.as_ref().map_or(&[], Vec::as_slice)
}

/// Whether a model's wanted content takes requests.
pub(super) fn is_serving_the_wanted(model: &ModelStatus) -> bool {
    model.state == "Ready" && model.desired_digest.is_some() && model.active_digest == model.desired_digest
}

pub(super) fn models(
    endpoint: &Endpoint,
    observed: &Observed,
    previous: &InferenceEndpointStatus,
    now: Timestamp,
) -> Vec<ModelStatus> {
    let report = observed.sync_report.as_ref().ok().and_then(Option::as_ref);
    let is_active = is_wanted_manifest_active(endpoint, observed);
    endpoint
        .models
        .iter()
        .map(|model| {
            let before = previous.models.iter().find(|m| m.name == model.name);
            let source = observed.sources.get(&model.name);
            let found = match source {
                Some(Ok(Source::Found { revision, bytes, files, .. })) => Some((*revision, *bytes, *files)),
                Some(Ok(Source::Empty | Source::Unusable(_) | Source::Unmarked(_)) | Err(_)) | None => None,
            };
            let wanted = model.pin.or(found.map(|(revision, ..)| revision));
            let copy = wanted.map(|content| copy_of(&content, observed.inventory()));
            let seen = report.and_then(|r| r.models.iter().find(|m| m.model == model.name));
            let seen = seen.filter(|m| Some(m.revision) == copy);
            let wanted = wanted.map(|d| d.to_string());
            let active =
                if is_active { wanted.clone() } else { before.and_then(|b| b.active_digest.clone()) };
            let state = model_state(seen, source);
            let (bytes, files) = match (found, seen) {
                // What came of it: of an image, its files and not its layers.
                (_, Some(seen)) if state == "Ready" && seen.files > 0 => (seen.bytes_total, seen.files),
                (Some((_, bytes, files)), _) => (bytes, files),
                (None, Some(seen)) => (seen.bytes_total, seen.files),
                (None, None) => (0, 0),
            };
            let progress = progress(wanted.as_deref(), seen, bytes, before, now);
            let was_ready = before.is_some_and(|b| b.state == "Ready" && b.desired_digest == wanted);
            ModelStatus {
                name: model.name.clone(),
                task: model.task.map(|t| t.as_str().to_owned()),
                last_sync_time: match (state, was_ready) {
                    ("Ready", false) => Some(now.to_string()),
                    _ => before.and_then(|b| b.last_sync_time.clone()),
                },
                last_verified_time: last_verified(copy, observed, before),
                desired_digest: wanted,
                active_digest: active,
                state: state.to_owned(),
                bytes: signed(bytes),
                bytes_done: signed(seen.map_or(0, |m| m.bytes_done)),
                files: signed(files),
                files_done: signed(seen.map_or(0, |m| m.files_done)),
                bytes_per_second: progress.bytes_per_second,
                remaining_seconds: progress.remaining_seconds,
                progress_time: progress.time,
                changed_time: match source {
                    Some(Ok(Source::Found { changed, .. })) => Some(changed.to_string()),
                    Some(_) | None => None,
                },
                message: model_message(seen, source),
            }
        })
        .collect()
}

/// When all bytes of a revision were last read again and found right.
fn last_verified(
    revision: Option<Digest>,
    observed: &Observed,
    before: Option<&ModelStatus>,
) -> Option<String> {
    let Some(stored) = observed.inventory() else { return before?.last_verified_time.clone() };
    let stored = stored.revisions.iter().find(|it| Some(it.revision) == revision)?;
    let look = stored.verified.as_ref().filter(|look| look.damage.is_empty())?;
    super::storage::time(look.at)
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn model_state(seen: Option<&ModelReport>, source: Option<&Read<Source>>) -> &'static str {
    match (seen.map(|m| m.state), source) {
        (Some(ModelState::Ready), _) => "Ready",
        (Some(ModelState::Syncing), _) => "Syncing",
        (Some(ModelState::Failed), _) | (_, Some(Err(_) | Ok(Source::Empty | Source::Unusable(_)))) => {
            "Failed"
        }
        (
            Some(ModelState::Pending | ModelState::SourceChanged) | None,
            Some(Ok(Source::Found { .. } | Source::Unmarked(_))) | None,
        ) => "Pending",
    }
}

fn model_message(seen: Option<&ModelReport>, source: Option<&Read<Source>>) -> String {
    match (seen, source) {
        (_, Some(Err(problem))) => problem.to_string(),
        (_, Some(Ok(Source::Empty))) => "there is no file at the source".to_owned(),
        (_, Some(Ok(Source::Unusable(why) | Source::Unmarked(why)))) => why.clone(),
        (Some(report), _) => report.message.clone(),
        (None, _) => String::new(),
    }
}

/// The version that takes all requests serves the wanted manifest.
fn is_wanted_manifest_active(endpoint: &Endpoint, observed: &Observed) -> bool {
    let wanted = sync_request(&endpoint.models, &observed.sources, observed.inventory())
        .map(|r| r.manifest.digest().to_string());
    let serving = serving(observed).and_then(|n| versions(observed).iter().find(|v| v.number == n));
    let active =
        serving.and_then(|v| v.function.ours()).and_then(|f| f.config.env.get(layout::ENV_MANIFEST)).cloned();
    wanted.is_some() && wanted == active
}

pub(super) fn function(
    endpoint: &Endpoint,
    observed: &Observed,
    serving: Option<u64>,
) -> Option<FunctionStatus> {
    let function = observed.inference.function.as_ref().ok()?.ours()?;
    let code = serving
        .and_then(|n| versions(observed).iter().find(|v| v.number == n))
        .and_then(|v| v.function.ours())
        .unwrap_or(function);
    Some(FunctionStatus {
        name: endpoint.names.function.clone(),
        arn: Some(function.arn.clone()),
        code_digest: Some(code.code_digest.clone()),
        version: serving.map(|v| v.to_string()),
        alias: serving.map(|_| ALIAS.to_owned()),
        revision_id: Some(function.revision_id.clone()),
    })
}

/// The provisioned concurrency of the version that is to serve, or while that is not there, of the one that does.
pub(super) fn provisioned(desired: &Desired, observed: &Observed) -> Option<CapacityStatus> {
    let version = version_to_serve(desired, observed).or_else(|| {
        let serving = serving(observed)?;
        versions(observed).iter().find(|v| v.number == serving)
    })?;
    let provisioned = version.provisioned.as_ref()?;
    Some(CapacityStatus {
        requested: provisioned.requested,
        available: provisioned.available,
        status: Some(
            match provisioned.status {
                ProvisionedStatus::InProgress => "IN_PROGRESS",
                ProvisionedStatus::Ready => "READY",
                ProvisionedStatus::Failed(_) => "FAILED",
            }
            .to_owned(),
        ),
    })
}

/// Named from before anything is made until nothing of it is left.
pub(super) fn events(endpoint: &Endpoint, desired: &Desired, plans: &Plans) -> Option<EventsStatus> {
    let is_done = match &desired.events {
        Want::Present(_) => false,
        Want::Absent | Want::Leave => *plans.get(Area::Events) == Plan::Converged,
    };
    (!is_done).then(|| EventsStatus {
        rule: endpoint.names.event_rule.clone(),
        queue: endpoint.names.event_queue.clone(),
    })
}

pub(super) fn traffic(observed: &Observed) -> Vec<TrafficStatus> {
    let Ok(Some(alias)) = &observed.alias else { return Vec::new() };
    let share =
        |version: u64, percent: u8| TrafficStatus { version: version.to_string(), percent: percent.into() };
    match alias.second {
        None => vec![share(alias.version, 100)],
        Some((second, percent)) => {
            vec![share(alias.version, 100u8.saturating_sub(percent)), share(second, percent)]
        }
    }
}

pub(super) fn history(observed: &Observed) -> Vec<VersionStatus> {
    versions(observed)
        .iter()
        .rev()
        .map(|version| {
            let function = version.function.ours();
            VersionStatus {
                version: version.number.to_string(),
                manifest: function.and_then(|f| f.config.env.get(layout::ENV_MANIFEST).cloned()),
                code_digest: function.map(|f| f.code_digest.clone()),
                published: function.map(|f| f.last_modified.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_serves_the_wanted_only_with_its_very_content() {
        let model = |state: &str, wanted: Option<&str>, active: Option<&str>| ModelStatus {
            state: state.to_owned(),
            desired_digest: wanted.map(str::to_owned),
            active_digest: active.map(str::to_owned),
            ..ModelStatus::default()
        };
        assert!(is_serving_the_wanted(&model("Ready", Some("a"), Some("a"))));
        for other in [
            model("Syncing", Some("a"), Some("a")),
            model("Ready", None, None),
            model("Ready", Some("a"), Some("b")),
            model("Ready", Some("a"), None),
        ] {
            assert!(!is_serving_the_wanted(&other), "{other:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_source_is_told_before_what_a_copy_says() {
        let report = ModelReport {
            model: "ocr".to_owned(),
            revision: Digest::of(b"a"),
            state: ModelState::Failed,
            bytes_done: 0,
            bytes_total: 0,
            files: 0,
            files_done: 0,
            bytes_per_second: None,
            remaining_seconds: None,
            message: "the disk is full".to_owned(),
            workers: Vec::new(),
        };
        let unusable = Ok(Source::Unusable("a key ends in a slash".to_owned()));
        for (seen, source, want) in [
            (None, None, ""),
            (Some(&report), None, "the disk is full"),
            (Some(&report), Some(&Ok(Source::Empty)), "there is no file at the source"),
            (Some(&report), Some(&unusable), "a key ends in a slash"),
        ] {
            assert_eq!(model_message(seen, source), want);
        }
    }
}
