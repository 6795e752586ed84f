//! What a user writes.
//!
//! - `models`: what is served, and when it is looked at again
//! - `storage`: the file system and its access point
//! - `function`: network, function, capacity, rollout and URL

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::InferenceEndpointStatus;

mod function;
mod models;
mod storage;

pub use function::*;
pub use models::*;
pub use storage::*;

/// Serves machine-learning models from AWS Lambda and Amazon EFS, at a URL.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "larder.dev",
    version = "v1alpha1",
    kind = "InferenceEndpoint",
    plural = "inferenceendpoints",
    shortname = "iep",
    category = "larder",
    namespaced,
    status = "InferenceEndpointStatus",
    derive = "PartialEq",
    doc = "Serves machine-learning models from AWS Lambda and Amazon EFS, at a URL.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Models", type_ = "string", json_path = ".status.summary.models"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.summary.capacity"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.function.version"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "FileSystem", type_ = "string", json_path = ".status.storage.fileSystemId", priority = 1),
    printcolumn(name = "Function", type_ = "string", json_path = ".status.function.name", priority = 1),
    printcolumn(name = "Canary", type_ = "string", json_path = ".status.summary.canary", priority = 1),
    printcolumn(name = "Storage", type_ = "string", json_path = ".status.summary.storage", priority = 1),
    printcolumn(name = "Sync", type_ = "string", json_path = ".status.summary.sync", priority = 1),
    printcolumn(name = "LastSync", type_ = "string", json_path = ".status.summary.lastSync", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name is longer than 63 characters; it names AWS resources: write a shorter one")
)]
#[x_kube(
    validation = Rule::new("(has(self.aws) && has(self.aws.region) ? self.aws.region : '') == (has(oldSelf.aws) && has(oldSelf.aws.region) ? oldSelf.aws.region : '')").message("aws.region is immutable: make a new InferenceEndpoint in the other region and delete this one"),
    validation = Rule::new("!has(self.refresh) || self.refresh.policy != 'Pinned' || self.models.all(m, has(m.digest))").message("refresh.policy Pinned needs a digest for every model: write models[].digest, as status.models[].desiredDigest shows it"),
    validation = Rule::new("!has(self.rollout) || !has(self.rollout.prepareModels) || !self.rollout.prepareModels || !has(self.capacity) || !has(self.capacity.reserved) || self.capacity.reserved > 1").message("rollout.prepareModels needs one of capacity.reserved beside those that answer requests: write at least 2 there, or leave it out"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InferenceEndpointSpec {
    /// Where in AWS; defaults come from the controller's flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Aws>,
    /// The models that this endpoint serves.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(min = 1, max = 64))]
    pub models: Vec<Model>,
    /// When the models are looked at again.
    #[serde(default)]
    pub refresh: Refresh,
    /// Where the models lie while they are served.
    pub storage: Storage,
    /// The network that the functions and the file system meet in.
    pub network: Network,
    /// The Lambda function that answers requests.
    pub function: Function,
    /// How much of it is kept warm, and how much it may take.
    #[serde(default)]
    pub capacity: Capacity,
    /// How a new version takes over.
    #[serde(default)]
    pub rollout: Rollout,
    /// How clients reach it. Nothing is exposed when absent; the alias can still be invoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,
    /// What the controller may do.
    #[serde(default)]
    pub management: Management,
    /// Whether AWS resources that bear this endpoint's names and no tag of another owner are taken over.
    #[serde(default)]
    pub adoption: Adoption,
    /// What is done when somebody else changes the AWS resources.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// What happens to the AWS resources when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Where in AWS.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Aws {
    /// The region, such as eu-west-1. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]{2}(-[a-z]+)+-[0-9]$"))]
    pub region: Option<String>,
    /// The role that the controller assumes for everything it does for this endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"))]
    pub role_arn: Option<String>,
    /// The external id that the role's trust policy asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    pub external_id: Option<String>,
}

/// For `serde(default)`.
pub(super) const fn yes() -> bool {
    true
}

/// What the controller may do.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Management {
    /// Converge.
    #[default]
    Apply,
    /// Say in status.plan what would be done, and change nothing.
    Plan,
    /// Do nothing at all, not even look.
    Suspend,
}

/// Whether AWS resources that bear this endpoint's names and no tag of another owner are taken over.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adoption {
    /// They are left alone, and the condition says so.
    #[default]
    Never,
    /// They are tagged and taken over; so is what an earlier object of this cluster id, namespace and name has made.
    Adopt,
}

/// What is done when somebody else changes the AWS resources.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriftPolicy {
    /// Put back what was changed, unless something changes it time and again.
    #[default]
    Correct,
    /// Say in status.drift what was changed, and put nothing back. Changes of the spec and of models are made.
    Report,
}

/// What happens to the AWS resources when the object is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// Everything that the controller made is deleted.
    #[default]
    Delete,
    /// Everything but a managed file system and its mount targets.
    RetainData,
    /// Nothing is deleted.
    Retain,
}
