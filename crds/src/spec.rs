//! What a user writes.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::InferenceEndpointStatus;

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
    printcolumn(name = "LastSync", type_ = "string", json_path = ".status.summary.lastSync", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name is longer than 63 characters; it names AWS resources: write a shorter one")
)]
#[x_kube(
    validation = Rule::new("(has(self.aws) && has(self.aws.region) ? self.aws.region : '') == (has(oldSelf.aws) && has(oldSelf.aws.region) ? oldSelf.aws.region : '')").message("aws.region is immutable: make a new InferenceEndpoint in the other region and delete this one"),
    validation = Rule::new("!has(self.refresh) || self.refresh.policy != 'Pinned' || self.models.all(m, has(m.digest))").message("refresh.policy Pinned needs a digest for every model: write models[].digest, as status.models[].desiredDigest shows it"),
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
    /// Where its files are.
    pub source: Source,
    /// The only content that is accepted, as `sha256:` and 64 hex digits. Any other is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// Loaded before a sandbox takes traffic; otherwise at first use.
    #[serde(default = "yes")]
    pub preload: bool,
}

const fn yes() -> bool {
    true
}

/// What a model does.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Reads the text in pictures.
    Ocr,
    /// Any ONNX graph, tensors in and out.
    Tensor,
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

/// Where the models lie while they are served.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// An Amazon EFS file system.
    pub efs: Efs,
}

/// An Amazon EFS file system, made for this endpoint or brought along.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.managed) != has(self.fileSystemId)").message("storage.efs takes either managed or fileSystemId: write managed: {} to have a file system made, or the id of one that exists"),
    validation = Rule::new("has(self.managed) == has(oldSelf.managed) && (has(self.fileSystemId) ? self.fileSystemId : '') == (has(oldSelf.fileSystemId) ? oldSelf.fileSystemId : '')").message("storage.efs cannot move to another file system: make a new InferenceEndpoint and delete this one"),
    validation = Rule::new("has(self.accessPoint) == has(oldSelf.accessPoint) && (!has(self.accessPoint) || self.accessPoint == oldSelf.accessPoint)").message("storage.efs.accessPoint is immutable in EFS: make a new InferenceEndpoint and delete this one"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Efs {
    /// A file system that the controller makes and owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedFileSystem>,
    /// A file system that exists. It needs a mount target in every zone of the subnets, and is never
    /// changed nor deleted; only an access point is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^fs-[0-9a-f]{8,40}$"))]
    pub file_system_id: Option<String>,
    /// The folder on the file system that the functions see, and who they are in it. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_point: Option<AccessPoint>,
}

/// A file system that the controller makes and owns.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.encrypted == oldSelf.encrypted && (has(self.kmsKeyId) ? self.kmsKeyId : '') == (has(oldSelf.kmsKeyId) ? oldSelf.kmsKeyId : '')").message("storage.efs.managed.encrypted and kmsKeyId are immutable in EFS: make a new InferenceEndpoint and delete this one"),
    validation = Rule::new("!has(self.kmsKeyId) || self.encrypted").message("storage.efs.managed.kmsKeyId needs encrypted: true: write it, or take kmsKeyId out"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedFileSystem {
    /// How fast the file system is.
    #[serde(default)]
    pub throughput: Throughput,
    /// Whether data at rest is encrypted. Immutable.
    #[serde(default = "yes")]
    pub encrypted: bool,
    /// The KMS key; the account's EFS key when absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

/// How fast the file system is.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Throughput {
    /// AWS lets it change once in 24 hours.
    #[serde(default)]
    pub mode: ThroughputMode,
}

/// An EFS throughput mode.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThroughputMode {
    /// Grows and shrinks with use, and is paid by use.
    #[default]
    Elastic,
    /// Grows with the bytes stored, with credits for bursts.
    Bursting,
}

/// The folder that the functions see.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPoint {
    /// The folder on the file system.
    #[x_kube(
        validation = Rule::new("self.startsWith('/') && self != '/'").message("storage.efs.accessPoint.path must be absolute and not / itself: write a folder such as /larder/vision/signs"),
        validation = Rule::new("!self.split('/').exists(s, s == '..' || s == '.') && !self.contains('//') && !self.endsWith('/')").message("storage.efs.accessPoint.path must not have empty, . or .. parts: write a plain folder such as /larder/vision/signs"),
    )]
    #[schemars(length(min = 1, max = 100))]
    pub path: String,
    /// The POSIX user id of everything that is read and written.
    #[serde(default = "thousand")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub uid: i64,
    /// The POSIX group id.
    #[serde(default = "thousand")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub gid: i64,
    /// The octal permissions of the folder when it is made.
    #[serde(default = "permissions")]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub permissions: String,
}

const fn thousand() -> i64 {
    1000
}

fn permissions() -> String {
    "0750".to_owned()
}

/// The network that the functions and the file system meet in.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// The subnets of the functions. A managed file system gets one mount target in each of their zones.
    #[schemars(length(min = 1, max = 16), inner(regex(pattern = r"^subnet-[0-9a-f]{8,40}$")))]
    pub subnet_ids: Vec<String>,
    /// The security groups of the functions and mount targets. They must let TCP 2049 through.
    #[schemars(length(min = 1, max = 5), inner(regex(pattern = r"^sg-[0-9a-f]{8,40}$")))]
    pub security_group_ids: Vec<String>,
}

/// The Lambda function that answers requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.image) != has(self.zip)").message("function takes either image or zip: write the container image's URI, or zip.s3 with the bucket and key of an archive"),
    validation = Rule::new("has(self.image) == has(oldSelf.image)").message("function cannot change between image and zip, since Lambda cannot: make a new InferenceEndpoint and delete this one"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Function {
    /// A container image in Amazon ECR. A tag is resolved to a digest, and followed when it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(
            pattern = r"^[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$"
        )
    )]
    pub image: Option<String>,
    /// A zip archive with a `bootstrap`, run on provided.al2023.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zip: Option<Zip>,
    /// The processor.
    #[serde(default)]
    pub architecture: Architecture,
    /// Memory in MiB; 1,769 of it come with each vCPU.
    #[serde(default = "memory")]
    #[schemars(range(min = 128, max = 10240))]
    #[serde(rename = "memoryMiB")]
    pub memory_mib: i32,
    /// The longest that one request may take.
    #[serde(default = "timeout")]
    #[schemars(range(min = 1, max = 900))]
    pub timeout_seconds: i32,
    /// The size of /tmp in MiB.
    #[serde(default = "ephemeral")]
    #[schemars(range(min = 512, max = 10240))]
    #[serde(rename = "ephemeralStorageMiB")]
    pub ephemeral_storage_mib: i32,
    /// The execution role of the inference and model-sync functions.
    #[schemars(regex(pattern = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"))]
    pub role_arn: String,
    /// Environment variables of your own.
    #[x_kube(
        validation = Rule::new("self.all(k, !k.startsWith('LARDER_'))").message("function.env must not set LARDER_* variables, which are the controller's: choose another name"),
        validation = Rule::new("self.all(k, k.matches('^[A-Za-z][A-Za-z0-9_]+$'))").message("function.env has a name that Lambda refuses: begin with a letter and go on with letters, digits and _"),
    )]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub env: BTreeMap<String, EnvValue>,
    /// Days that the functions' logs are kept.
    #[serde(default = "thirty")]
    #[x_kube(
        validation = Rule::new("self in [1,3,5,7,14,30,60,90,120,150,180,365,400,545,731,1096,1827,2192,2557,2922,3288,3653]").message("function.logRetentionDays must be one that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653")
    )]
    pub log_retention_days: i32,
}

/// The value of an environment variable.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvValue(#[schemars(length(max = 4096))] pub String);

const fn memory() -> i32 {
    2048
}

const fn timeout() -> i32 {
    30
}

const fn ephemeral() -> i32 {
    512
}

const fn thirty() -> i32 {
    30
}

/// A zip archive of code.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Zip {
    /// Where the archive is.
    pub s3: S3Object,
}

/// One object in S3.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Object {
    /// The bucket.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The key.
    #[schemars(length(min = 1, max = 1024))]
    pub key: String,
    /// The object's version, in a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub version_id: Option<String>,
}

/// The processor.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// AWS Graviton.
    #[default]
    #[serde(rename = "arm64")]
    Arm64,
    /// Intel or AMD.
    #[serde(rename = "x86_64")]
    X86_64,
}

/// How much is kept warm, and how much may be taken.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.provisioned) || !has(self.reserved) || 2 * self.provisioned <= self.reserved").message("capacity.reserved must be at least twice capacity.provisioned: a new version is warmed while the old one still serves, and both count")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Sandboxes that are kept warm (provisioned concurrency on the published version).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub provisioned: Option<i32>,
    /// The most that may run at once (reserved concurrency of the function).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub reserved: Option<i32>,
}

/// How a new version takes over.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// The strategy.
    #[serde(default)]
    pub strategy: Strategy,
    /// Published versions that are kept beside the one that serves.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub history_limit: i32,
}

const fn three() -> i32 {
    3
}

impl Default for Rollout {
    fn default() -> Self {
        Self { strategy: Strategy::default(), history_limit: three() }
    }
}

/// How traffic moves to a new version.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// All of it at once, when the new version is warm.
    #[default]
    AllAtOnce,
}

/// How clients reach the endpoint.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expose {
    /// A Lambda function URL.
    pub function_url: FunctionUrl,
}

/// A Lambda function URL on the alias.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionUrl {
    /// Who may call it. NONE makes it public, and must be written out.
    pub auth_type: AuthType,
}

/// Who may call a function URL.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthType {
    /// IAM principals of this account, with signed requests.
    #[serde(rename = "AWS_IAM")]
    AwsIam,
    /// Everyone.
    #[serde(rename = "NONE")]
    None,
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
