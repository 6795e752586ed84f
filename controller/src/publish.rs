//! Tells the user: the status, only when it says something new, and an Event for each change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use larder_core::status::{is_same, size};
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
    for event in events(&before.conditions, &status.conditions).into_iter().chain(upkeep(before, status)) {
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

/// An Event for each condition whose status or reason changed.
#[must_use]
pub fn events(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    // `Reconciling` and `Stalled` repeat what `Ready` says.
    after
        .iter()
        .filter(|c| !matches!(c.type_.as_str(), "Reconciling" | "Stalled"))
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
    let is_progress = condition.reason.starts_with("Waiting")
        || matches!(
            condition.reason.as_str(),
            "InProgress"
                | "CoolingDown"
                | "Syncing"
                | "SourceChanged"
                | "Deleting"
                | "PlanOnly"
                | "Suspended"
                | "Conflict"
        );
    condition.status == "False" && !is_progress
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
}
