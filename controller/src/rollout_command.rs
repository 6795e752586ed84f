//! `larder promote`, `rollback`, `retry`, `pause` and `resume`: what a person says about a rollout. Each writes
//! annotations of the object, which `kubectl annotate` can write as well; the controller does the rest.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use larder_crds::{
    InferenceEndpoint, InferenceEndpointStatus, PROMOTE, REJECTED_VERSIONS, RETRY_AT, ROLLOUT_PAUSED,
};
use serde_json::{Value, json};

use crate::args::{Rollback, RolloutTarget};
use crate::cluster::client;

/// What a person says.
#[derive(Debug, Clone)]
pub enum Word {
    /// The newest version takes all requests now.
    Promote(RolloutTarget),
    /// An older version takes all requests.
    Rollback(Rollback),
    /// What was taken back is tried again.
    Retry(RolloutTarget),
    /// The rollout holds where it is.
    Pause(RolloutTarget),
    /// It goes on.
    Resume(RolloutTarget),
}

/// Writes the annotations, and answers what will come of it.
///
/// # Errors
/// When the cluster cannot be reached, or has nothing that this could be said of.
pub async fn say(word: &Word) -> anyhow::Result<String> {
    let target = match word {
        Word::Promote(target) | Word::Retry(target) | Word::Pause(target) | Word::Resume(target) => target,
        Word::Rollback(rollback) => &rollback.target,
    };
    let kube = client(&target.cluster).await?;
    let namespace = target.namespace.clone().unwrap_or_else(|| kube.default_namespace().to_owned());
    let api: Api<InferenceEndpoint> = Api::namespaced(kube, &namespace);
    let object = api
        .get(&target.name)
        .await
        .with_context(|| format!("InferenceEndpoint {namespace}/{} cannot be read", target.name))?;
    let (annotations, told) = annotations(word, &object, jiff::Timestamp::now())?;
    let patch = json!({"metadata": {"annotations": annotations}});
    api.patch(&target.name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .with_context(|| format!("InferenceEndpoint {namespace}/{} cannot be annotated", target.name))?;
    Ok(format!("InferenceEndpoint {namespace}/{}: {told}", target.name))
}

/// The annotations to write, where null takes one away, and what will come of them.
fn annotations(
    word: &Word,
    object: &InferenceEndpoint,
    now: jiff::Timestamp,
) -> anyhow::Result<(Value, String)> {
    let status = object.status.clone().unwrap_or_default();
    let kept: Vec<u64> = status.history.iter().filter_map(|it| it.version.parse().ok()).collect();
    let serving: Option<u64> = status.function.as_ref().and_then(|it| it.version.as_ref()?.parse().ok());
    Ok(match word {
        Word::Pause(_) => (json!({ROLLOUT_PAUSED: "true"}), "its rollouts hold where they are".to_owned()),
        Word::Resume(_) => (json!({ROLLOUT_PAUSED: null}), "its rollouts go on".to_owned()),
        Word::Retry(_) => (
            json!({RETRY_AT: format!("{now:.0}"), REJECTED_VERSIONS: null}),
            "what was taken back or rejected is rolled out again".to_owned(),
        ),
        Word::Promote(_) => {
            let Some(newest) = kept.iter().max() else { bail!("it has no published version yet") };
            (
                json!({PROMOTE: newest.to_string(), REJECTED_VERSIONS: null, ROLLOUT_PAUSED: null}),
                format!(
                    "version {newest} takes all requests as soon as it is warm, if the spec still asks for it"
                ),
            )
        }
        Word::Rollback(rollback) => {
            let Some(serving) = serving else { bail!("no version of it serves yet") };
            let to = match rollback.to {
                Some(to) => to,
                // What is on its way is turned round first; what serves is left only when nothing is.
                None if is_on_its_way(object, &status, &kept, serving) => serving,
                None => match kept.iter().filter(|version| **version < serving).max() {
                    Some(to) => *to,
                    None => bail!("no version older than {serving} is kept; see rollout.historyLimit"),
                },
            };
            if !kept.contains(&to) {
                let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
                bail!("version {to} is not kept; there are {}", kept.join(", "));
            }
            let newer: BTreeSet<u64> = kept.iter().copied().filter(|version| *version > to).collect();
            if newer.is_empty() {
                bail!("version {to} is the newest; larder promote lets it serve");
            }
            let rejected: Vec<String> = newer.iter().map(ToString::to_string).collect();
            let takes =
                if to == serving { "takes all requests" } else { "takes all requests as soon as it is warm" };
            let are = if rejected.len() == 1 {
                format!("version {} is", rejected[0])
            } else {
                format!("versions {} are", rejected.join(", "))
            };
            (
                json!({REJECTED_VERSIONS: rejected.join(","), PROMOTE: null}),
                format!(
                    "version {to} {takes}; {are} rejected until larder retry, larder promote or a new spec"
                ),
            )
        }
    })
}

/// Whether a newer version than the one that serves is about to take over from it: with a share of the requests, or
/// before its first.
fn is_on_its_way(
    object: &InferenceEndpoint,
    status: &InferenceEndpointStatus,
    kept: &[u64],
    serving: u64,
) -> bool {
    let is_settled = status.conditions.iter().any(|it| it.type_ == "TrafficReady" && it.status == "True");
    let rejected = object.annotations().get(REJECTED_VERSIONS).cloned().unwrap_or_default();
    let rejected: Vec<u64> = rejected.split(',').filter_map(|it| it.trim().parse().ok()).collect();
    let ended = status.rollout.as_ref().filter(|it| matches!(it.state.as_str(), "Aborted" | "RolledBack"));
    let ended: Option<u64> = ended.and_then(|it| it.version.parse().ok());
    let is_refused = |version: &u64| rejected.contains(version) || ended == Some(*version);
    !is_settled && kept.iter().any(|version| *version > serving && !is_refused(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cluster;

    fn object(versions: &[u64], serving: Option<u64>) -> InferenceEndpoint {
        serde_json::from_value(json!({
            "apiVersion": "larder.dev/v1alpha1",
            "kind": "InferenceEndpoint",
            "metadata": {"name": "signs", "namespace": "vision"},
            "spec": {
                "models": [{"name": "ocr", "source": {"s3": {"bucket": "acme-models", "prefix": "ocr/"}}}],
                "storage": {"efs": {"managed": {}}},
                "network": {"subnetIds": ["subnet-0000000a"], "securityGroupIds": ["sg-0000000a"]},
                "function": {"roleArn": "arn:aws:iam::111122223333:role/larder"},
            },
            "status": {
                "history": versions.iter().map(|it| json!({"version": it.to_string()})).collect::<Vec<_>>(),
                "function": {"name": "f", "version": serving.map(|it| it.to_string())},
            },
        }))
        .unwrap()
    }

    fn back(to: Option<u64>) -> Word {
        let target = RolloutTarget { name: "signs".to_owned(), namespace: None, cluster: Cluster::default() };
        Word::Rollback(Rollback { target, to })
    }

    #[test]
    fn rolling_back_rejects_all_that_is_newer() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let object = object(&[7, 6, 4], Some(7));
        for (to, rejected) in [(None, "7"), (Some(6), "7"), (Some(4), "6,7")] {
            let (annotations, _) = annotations(&back(to), &object, now).unwrap();
            assert_eq!(annotations[REJECTED_VERSIONS], rejected);
            assert!(annotations[PROMOTE].is_null());
        }
        for (to, why) in [(Some(5), "version 5 is not kept; there are 7, 6, 4"), (Some(7), "is the newest")] {
            let error = annotations(&back(to), &object, now).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_rollout_under_way_is_turned_round_before_what_serves_is_left() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let is_at =
            |state: &str, version: u64| json!({"version": version.to_string(), "state": state, "steps": 2});
        for (kept, serving, is_settled, rollout, before, to, rejected) in [
            // In the first canary, in a later one, and before its first request.
            (&[2, 1][..], 1, false, is_at("Progressing", 2), "", 1, "2"),
            (&[3, 2, 1], 2, false, is_at("Progressing", 3), "", 2, "3"),
            (&[3, 2, 1], 2, false, is_at("Complete", 2), "", 2, "3"),
            // It has ended already: the next step back.
            (&[3, 2, 1], 2, false, is_at("Aborted", 3), "", 1, "2,3"),
            (&[3, 2, 1], 2, false, is_at("Complete", 2), "3", 1, "2,3"),
            // The spec went back to an older version by itself.
            (&[3, 2, 1], 2, true, is_at("Complete", 2), "", 1, "2,3"),
        ] {
            let mut object = object(kept, Some(serving));
            let status = object.status.as_mut().unwrap();
            status.rollout = Some(serde_json::from_value(rollout).unwrap());
            status.conditions = vec![
                serde_json::from_value(json!({
                    "type": "TrafficReady", "status": if is_settled { "True" } else { "False" },
                    "reason": "Progressing", "message": "", "lastTransitionTime": "2027-01-15T08:00:00Z",
                }))
                .unwrap(),
            ];
            object.annotations_mut().insert(REJECTED_VERSIONS.to_owned(), before.to_owned());
            let (annotations, told) = annotations(&back(None), &object, now).unwrap();
            assert_eq!(annotations[REJECTED_VERSIONS], rejected, "{told}");
            let is_warm = to == serving;
            assert!(
                told.starts_with(&format!(
                    "version {to} takes all requests{}",
                    if is_warm { ";" } else { " as soon" }
                )),
                "{told}"
            );
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for (object, why) in [
            (object(&[], None), "no version of it serves yet"),
            (object(&[1], Some(1)), "no version older than 1 is kept"),
        ] {
            let error = annotations(&back(None), &object, now).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
