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

/// Where a model's files are: exactly one of these.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("[has(self.s3), has(self.oci), has(self.https), has(self.huggingFace)].filter(it, it).size() == 1").message("models[].source takes exactly one of s3, oci, https and huggingFace: write one, or make two models of it"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// A prefix in an S3 bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Prefix>,
    /// An artifact or image in an OCI registry, such as Amazon ECR. Of an artifact, each layer is a file; of an
    /// image, a folder is the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciArtifact>,
    /// Files that have a URL and a digest each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<HttpsFiles>,
    /// A repository of a Hugging Face hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugging_face: Option<HuggingFace>,
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
    /// An object under the prefix that is uploaded last, such as `_SUCCESS` or `larder.json`: the model is
    /// copied only while it is there and nothing is newer. If it is named `*.json` and lists `files`, each
    /// with `path` and `size`, they must be there too. Replaces refresh.settleSeconds for this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("!self.startsWith('/') && !self.endsWith('/')").message("source.s3.marker is the key of an object, relative to the prefix: write a name such as _SUCCESS")
    )]
    #[schemars(length(min = 1, max = 512))]
    pub marker: Option<String>,
    /// Whether S3 tells of changes, so that one is noticed within seconds: `EventBridge` has Larder turn on the
    /// bucket's events for Amazon `EventBridge`, and make a rule and a queue. Listings go on beside it.
    #[serde(default)]
    pub events: SourceEvents,
}

/// Whether S3 tells of changes.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceEvents {
    /// Changes are found by listing; the bucket is only read.
    #[default]
    None,
    /// By Amazon `EventBridge` and a queue that Larder reads.
    EventBridge,
}

/// An artifact or image in an OCI registry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciArtifact {
    /// REGISTRY/REPOSITORY:TAG, which is looked at again and again, or REGISTRY/REPOSITORY@sha256:DIGEST.
    #[x_kube(
        validation = Rule::new("self.contains('/') && (self.contains('@sha256:') || self.substring(self.lastIndexOf('/')).contains(':'))").message("source.oci.reference needs a registry and a tag or digest: write REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST")
    )]
    #[schemars(length(min = 3, max = 512))]
    pub reference: String,
    /// The folder of an image that is the model, from the image's root; `models` when absent. Artifacts have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//') && !('/' + self + '/').contains('/./') && !('/' + self + '/').contains('/../')").message("source.oci.path is a folder from the image's root: write it as models/ocr, without a slash at either end")
    )]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
    /// A secret in AWS Secrets Manager: {"username": …, "password": …} or {"token": …}. Amazon ECR needs none: the
    /// function's role is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$"))]
    pub secret_arn: Option<String>,
}

/// Files that have a URL and a digest each.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpsFiles {
    /// The files of the model.
    #[schemars(length(min = 1, max = 64))]
    pub files: Vec<HttpsFile>,
    /// A secret in AWS Secrets Manager: {"username": …, "password": …} or {"token": …}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$"))]
    pub secret_arn: Option<String>,
}

/// A file that has a URL.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpsFile {
    /// Where it is.
    #[x_kube(
        validation = Rule::new("self.startsWith('https://') || self.startsWith('http://localhost:') || self.startsWith('http://127.0.0.1:')").message("source.https.files[].url must begin with https://: write https://HOST/FILE")
    )]
    #[schemars(length(min = 10, max = 2048))]
    pub url: String,
    /// What it is: 64 lower-case hex digits, as `sha256sum` prints them. Anything else is refused.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Where it goes in the model's folder; the URL's last segment when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
}

/// A repository of a Hugging Face hub.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HuggingFace {
    /// OWNER/NAME.
    #[schemars(length(max = 200), regex(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$"))]
    pub repository: String,
    /// A branch or tag, which is looked at again and again, or a commit.
    #[serde(default = "main_branch")]
    #[schemars(length(min = 1, max = 255))]
    pub revision: String,
    /// Only files that match one of these patterns, where * stands for anything; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub include: Vec<String>,
    /// The hub; <https://huggingface.co> when absent.
    #[x_kube(
        validation = Rule::new("self.startsWith('https://') || self.startsWith('http://localhost:') || self.startsWith('http://127.0.0.1:')").message("source.huggingFace.endpoint must begin with https://: write https://HOST")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 255))]
    pub endpoint: Option<String>,
    /// A secret in AWS Secrets Manager: {"token": …}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$"))]
    pub secret_arn: Option<String>,
}

fn main_branch() -> String {
    "main".to_owned()
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
    /// What the time between two listings grows to while a source does not change, at least
    /// intervalSeconds. A change is followed at intervalSeconds again.
    #[serde(default = "twenty_minutes")]
    #[schemars(range(min = 5, max = 86400))]
    pub max_interval_seconds: i32,
    /// Seconds for which a source must not have changed before it is copied, so that an upload under way is
    /// not served. A source that is older when it is first seen is copied at once.
    #[serde(default = "half_a_minute")]
    #[schemars(range(min = 0, max = 86400))]
    pub settle_seconds: i32,
}

const fn five_minutes() -> i32 {
    300
}

const fn twenty_minutes() -> i32 {
    1200
}

const fn half_a_minute() -> i32 {
    30
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            policy: RefreshPolicy::default(),
            interval_seconds: five_minutes(),
            max_interval_seconds: twenty_minutes(),
            settle_seconds: half_a_minute(),
        }
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
