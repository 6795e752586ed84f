//! Tells the user: the status, only when it says something new, and an Event for each change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use larder_core::status::{is_progress, is_same, size};
use larder_crds::status::{DriftStatus, ModelStatus};
use larder_crds::{InferenceEndpoint, InferenceEndpointStatus};
use serde_json::json;

use crate::context::{Context, MANAGER};

/// Writes the status by server-side apply, so that the conditions of others stay.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn publish(
    context: &Context,
    object: &InferenceEndpoint,
    before: &InferenceEndpointStatus,
    status: &InferenceEndpointStatus,
) -> Result<(), kube::Error> {
    if object.status.as_ref().is_some_and(|written| is_same(written, status)) {
        return Ok(());
    }
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<InferenceEndpoint> = Api::namespaced(context.kube.clone(), &namespace);
    let patch = json!({
        "apiVersion": InferenceEndpoint::api_version(&()),
        "kind": InferenceEndpoint::kind(&()),
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": status,
    });
    api.patch_status(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await?;
    let news = events(&before.conditions, &status.conditions).into_iter();
    for event in news.chain(copies(before, status)).chain(upkeep(before, status)).chain(drift(before, status))
    {
        // An Event that is lost costs nobody a model.
        if let Err(error) = context.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!(%error, "an Event could not be written");
        }
    }
    Ok(())
}

/// An Event for what a collection freed, and one for each model that was read again and found right.
#[must_use]
pub fn upkeep(before: &InferenceEndpointStatus, after: &InferenceEndpointStatus) -> Vec<Event> {
    let event = |reason: &str, note: String| Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(note),
        action: "StorageMaintained".to_owned(),
        secondary: None,
    };
    let bytes = |status: &InferenceEndpointStatus| {
        let storage = status.storage.as_ref()?;
        Some((storage.freed_bytes?, storage.used_bytes?))
    };
    let freed = match (bytes(before), bytes(after)) {
        (Some((before, _)), Some((after, used))) if after > before => {
            let note = format!("{} are freed; the models take {} now", size(after - before), size(used));
            Some(event("Collected", note))
        }
        _ => None,
    };
    let verified = after.models.iter().filter(|model| model.last_verified_time.is_some()).filter(|model| {
        let was = before.models.iter().find(|it| it.name == model.name);
        was.is_some_and(|was| was.last_verified_time != model.last_verified_time)
    });
    let verified = verified.map(|model| {
        event("Verified", format!("model {}: its bytes are those that were copied", model.name))
    });
    freed.into_iter().chain(verified).collect()
}

/// An Event for each field that somebody else has changed.
#[must_use]
pub fn drift(before: &InferenceEndpointStatus, after: &InferenceEndpointStatus) -> Vec<Event> {
    let is_new = |it: &&DriftStatus| {
        let mut known = before.drift.iter();
        !known.any(|was| (&was.resource, &was.field, &was.since) == (&it.resource, &it.field, &it.since))
    };
    let event = |it: &DriftStatus| Event {
        type_: EventType::Warning,
        reason: "Drifted".to_owned(),
        note: Some(
            format!("{}: {} is {}, not {}", it.resource, it.field, it.have, it.want)
                .chars()
                .take(1000)
                .collect(),
        ),
        action: "Drifted".to_owned(),
        secondary: None,
    };
    after.drift.iter().filter(is_new).map(event).collect()
}

/// An Event for each condition whose status or reason changed.
#[must_use]
pub fn events(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    // `Reconciling` and `Stalled` repeat what `Ready` says, and drift has Events of its own.
    after
        .iter()
        .filter(|c| !matches!(c.type_.as_str(), "Reconciling" | "Stalled" | "Drifted"))
        .filter(|c| {
            !before.iter().any(|b| b.type_ == c.type_ && b.status == c.status && b.reason == c.reason)
        })
        .filter(|c| c.type_ != "Accepted" || c.status == "False")
        .map(|c| Event {
            type_: if is_warning(c) { EventType::Warning } else { EventType::Normal },
            reason: c.reason.clone(),
            note: Some(format!("{}: {}", c.type_, c.message).chars().take(1000).collect()),
            action: c.type_.clone(),
            secondary: None,
        })
        .collect()
}

/// Progress is no warning.
fn is_warning(condition: &Condition) -> bool {
    condition.type_ == "BurstCreditsLow" || (condition.status == "False" && !is_progress(&condition.reason))
}

/// An Event for each copy that began, and for each that came to its end.
#[must_use]
pub fn copies(before: &InferenceEndpointStatus, after: &InferenceEndpointStatus) -> Vec<Event> {
    let event = |model: &ModelStatus| {
        let was = before.models.iter().find(|it| it.name == model.name);
        let was = was.filter(|it| it.desired_digest == model.desired_digest);
        let is_news = was.is_none_or(|was| was.state != model.state);
        let all = format!("{} in {} files", size(model.bytes), model.files);
        let (reason, note) = match model.state.as_str() {
            "Syncing" if is_news => ("CopyStarted", format!("model {}: {all} are copied", model.name)),
            // What was there before it was wanted was not copied.
            "Ready" if is_news && was.is_some() => {
                ("Copied", format!("model {}: {all} are on the file system, verified", model.name))
            }
            _ => return None,
        };
        Some(Event {
            type_: EventType::Normal,
            reason: reason.to_owned(),
            note: Some(note),
            action: "ModelsSynced".to_owned(),
            secondary: None,
        })
    };
    after.models.iter().filter_map(event).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: "m".into(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn only_changes_make_events_and_only_failures_warn() {
        let before = [condition("ModelsSynced", "False", "Syncing"), condition("Ready", "False", "Syncing")];
        assert!(events(&before, &before).is_empty());
        let after =
            [condition("ModelsSynced", "False", "SourceEmpty"), condition("Ready", "False", "Syncing")];
        let got = events(&before, &after);
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].reason.as_str(), got[0].action.as_str()), ("SourceEmpty", "ModelsSynced"));
        assert!(matches!(got[0].type_, EventType::Warning));
        let got = events(&after, &[condition("ModelsSynced", "True", "Converged")]);
        assert!(matches!(got[0].type_, EventType::Normal));
    }

    #[test]
    fn waiting_for_an_upload_is_no_warning() {
        for (reason, warns) in [
            ("Settling", false),
            ("WaitingForMarker", false),
            ("Syncing", false),
            ("SyncFailed", true),
            ("AccessDenied", true),
        ] {
            let got = events(&[], &[condition("ModelsSynced", "False", reason)]);
            assert_eq!(matches!(got[0].type_, EventType::Warning), warns, "{reason}");
        }
    }

    #[test]
    fn a_copy_is_told_when_it_begins_and_when_it_ends() {
        let model = |state: &str, digest: &str| InferenceEndpointStatus {
            models: vec![ModelStatus {
                name: "ocr".to_owned(),
                state: state.to_owned(),
                desired_digest: Some(digest.to_owned()),
                bytes: 1536,
                files: 2,
                ..ModelStatus::default()
            }],
            ..InferenceEndpointStatus::default()
        };
        for (before, after, told) in [
            (None, ("Pending", "1"), None),
            (Some(("Pending", "1")), ("Syncing", "1"), Some("CopyStarted")),
            (Some(("Syncing", "1")), ("Syncing", "1"), None),
            (Some(("Syncing", "1")), ("Ready", "1"), Some("Copied")),
            (Some(("Pending", "1")), ("Ready", "1"), Some("Copied")),
            (Some(("Ready", "1")), ("Ready", "1"), None),
            (Some(("Ready", "1")), ("Syncing", "2"), Some("CopyStarted")),
            (Some(("Ready", "1")), ("Ready", "2"), None),
            (None, ("Ready", "1"), None),
        ] {
            let before =
                before.map_or_else(InferenceEndpointStatus::default, |(state, digest)| model(state, digest));
            let after = model(after.0, after.1);
            let got = copies(&before, &after);
            assert_eq!(
                got.iter().map(|e| e.reason.as_str()).collect::<Vec<_>>(),
                told.into_iter().collect::<Vec<_>>(),
                "{before:?} {after:?}"
            );
        }
    }
}
