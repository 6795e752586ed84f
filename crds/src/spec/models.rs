//! What is served, and when it is looked at again.

use kube::KubeSchema;
pub use larder_contract::{Parameters, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One model.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// The name that clients use.
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// What the model does; read from its files when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// How the task is done, where the model's files are to be overridden.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// Where its files are.
    pub source: Source,
    /// The only content that is accepted, as `sha256:` and 64 hex digits. Any other is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// Loaded before a sandbox takes traffic; otherwise at first use.
    #[serde(default = "super::yes")]
    pub preload: bool,
}

/// Where a model's files are.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// A prefix in an S3 bucket.
    pub s3: S3Prefix,
}

/// Every object under a prefix.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Prefix {
    /// The bucket.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The key prefix, with the slash at its end; what follows it is the path in the model's folder.
    #[x_kube(
        validation = Rule::new("self.endsWith('/') && !self.startsWith('/')").message("source.s3.prefix must end in / and not begin with one, so that ocr/v1/ does not also take ocr/v10/: write it as folder/")
    )]
    #[schemars(length(min = 2, max = 900))]
    pub prefix: String,
}

/// When the models are looked at again.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refresh {
    /// OnChange rolls a changed model out as a new version; Pinned serves the digests and nothing else.
    #[serde(default)]
    pub policy: RefreshPolicy,
    /// Seconds between two listings of the sources.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 5, max = 86400))]
    pub interval_seconds: i32,
}

const fn five_minutes() -> i32 {
    300
}

impl Default for Refresh {
    fn default() -> Self {
        Self { policy: RefreshPolicy::default(), interval_seconds: five_minutes() }
    }
}

/// Whether a change at the source is rolled out.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefreshPolicy {
    /// A changed model becomes a new version.
    #[default]
    OnChange,
    /// Only the written digests are served; a change at the source is reported and not followed.
    Pinned,
}
