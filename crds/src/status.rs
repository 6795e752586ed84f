//! What a user sees.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user sees.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceEndpointStatus {
    /// The generation of the spec that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the endpoint answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The columns of `kubectl get`.
    #[serde(default)]
    pub summary: Summary,
    /// `Ready` sums the step conditions up. `Reconciling` and `Stalled` are there only while True.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The models, by name.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub models: Vec<ModelStatus>,
    /// The file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// The inference function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionStatus>,
    /// Provisioned concurrency of the newest version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacityStatus>,
    /// How S3 tells of changes, while it is to, and until what that takes is gone again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsStatus>,
    /// The rollout that is under way, or how the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Which versions take requests.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub traffic: Vec<TrafficStatus>,
    /// Published versions, newest first.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub history: Vec<VersionStatus>,
    /// What somebody else has changed in AWS: what differs now, and what did within the last hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub drift: Vec<DriftStatus>,
    /// What was wanted of each area when it was last as wanted. While it is, any difference in it is drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converged: Option<ConvergedStatus>,
    /// The next steps in words; always filled while `management` is Plan.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub plan: Vec<String>,
}

impl InferenceEndpointStatus {
    /// Whether everything was once as wanted at the same time.
    #[must_use]
    pub fn was_converged(&self) -> bool {
        self.converged.as_ref().is_some_and(|it| it.everything)
    }
}

/// The columns of `kubectl get`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Models that serve the wanted content, of all: `1/1`.
    #[serde(default)]
    pub models: String,
    /// Warm sandboxes, of those wanted: `2/2`.
    #[serde(default)]
    pub capacity: String,
    /// What of the models that are being copied is there, and how fast more comes: `412.0 MiB/1.2 GiB 96.0 MiB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<String>,
    /// What the models take on the file system: `1.2 GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// When a model last became ready, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<String>,
    /// A rollout under way: `version 7: 10 %, step 1/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
}

/// One model.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The content at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_digest: Option<String>,
    /// The content that takes requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_digest: Option<String>,
    /// Pending, Syncing, Ready or Failed.
    pub state: String,
    /// Bytes in all.
    #[serde(default)]
    pub bytes: i64,
    /// Bytes that are on the file system.
    #[serde(default)]
    pub bytes_done: i64,
    /// Files in all.
    #[serde(default)]
    pub files: i64,
    /// Files that are on the file system, verified.
    #[serde(default)]
    pub files_done: i64,
    /// How fast it is being copied, over about the last ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<i64>,
    /// How long the copy takes still, at that speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<i64>,
    /// When its copy was last looked at, RFC 3339; while it is being copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_time: Option<String>,
    /// When it became Ready, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<String>,
    /// When the content at the source last changed, as far as was seen, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_time: Option<String>,
    /// When its bytes on the file system were last read again and found right, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified_time: Option<String>,
    /// What went wrong, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How S3 tells of changes.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsStatus {
    /// The rule on the account's default event bus.
    pub rule: String,
    /// The queue that it sends to, which is of the controller that works on the endpoint.
    pub queue: String,
}

/// The file system.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system_id: Option<String>,
    /// The access point that the functions mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_point_arn: Option<String>,
    /// Its throughput mode, as AWS says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_mode: Option<String>,
    /// Bytes of burst credits that it has left (`BurstCreditBalance`), while its mode is bursting and CloudWatch may be
    /// asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_credit_balance: Option<i64>,
    /// Its mount targets.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["zone".into()]))]
    pub mount_targets: Vec<MountTargetStatus>,
    /// Bytes in the access point's folder, each file counted once, as of the last copy or collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
    /// Bytes that collections have freed, in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_bytes: Option<i64>,
    /// Revisions that nothing needs, marked to be deleted; the first twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub collectable: Vec<CollectableStatus>,
}

/// A revision that nothing needs.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectableStatus {
    /// Its digest.
    pub digest: String,
    /// Its bytes, also those that it shares with others.
    pub bytes: i64,
    /// Since when it is marked, RFC 3339. It is deleted when the mark is `storage.collectAfterSeconds` old.
    pub since: String,
}

/// A mount target.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountTargetStatus {
    /// The availability zone.
    pub zone: String,
    /// Its id.
    pub id: String,
    /// Its lifecycle state, as AWS says it.
    pub state: String,
}

/// The inference function.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionStatus {
    /// Its name.
    pub name: String,
    /// Its ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The digest of its code: the image's, or the archive's SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_digest: Option<String>,
    /// The version that takes requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The alias that clients reach it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The `RevisionId` of its `$LATEST`: with another one, it was changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_id: Option<String>,
}

/// Provisioned concurrency.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityStatus {
    /// Sandboxes asked for.
    pub requested: i32,
    /// Sandboxes that are warm.
    pub available: i32,
    /// `IN_PROGRESS`, `READY` or `FAILED`, as AWS says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// A rollout.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The version that takes over.
    pub version: String,
    /// Progressing, Paused, Complete, Aborted or `RolledBack`.
    pub state: String,
    /// Its step, from 1, while it takes a share of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// All its steps.
    #[serde(default)]
    pub steps: i32,
    /// Since when it is so, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why it was taken back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One version's share of the requests.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficStatus {
    /// The published version.
    pub version: String,
    /// Its share, in percent.
    pub percent: i32,
}

/// One published version.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Its number.
    pub version: String,
    /// The digest of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The digest of its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_digest: Option<String>,
    /// When it was published, as AWS says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
}

/// A field of an AWS resource that somebody else has changed.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// The resource.
    pub resource: String,
    /// The field; `existence` of what is gone, or too much.
    pub field: String,
    /// What is wanted.
    pub want: String,
    /// What was found.
    pub have: String,
    /// When it was first seen, RFC 3339.
    pub since: String,
    /// When it was first seen to be as wanted again, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// When it was corrected within the last hour, RFC 3339. After three times the controller leaves it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corrections: Vec<String>,
}

/// What was wanted of each area when it was last as wanted.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConvergedStatus {
    /// Everything was once as wanted at the same time.
    #[serde(default)]
    pub everything: bool,
    /// The areas, by their conditions.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["condition".into()]))]
    pub areas: Vec<ConvergedArea>,
}

/// What was wanted of an area when it was last as wanted, as digests.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConvergedArea {
    /// The type of its condition, such as `FunctionReady`.
    pub condition: String,
    /// Of the spec, as far as it is about this area.
    pub spec: String,
    /// Of the models, as far as they are on the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Of the function's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The version that was to serve: the spec's, or the number of one in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}
