//! Network, function, capacity, rollout and URL.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("(self.strategy == 'Canary') == (has(self.steps) && size(self.steps) > 0)").message("rollout.steps belong to strategy Canary, which needs at least one: write strategy: Canary with steps, or neither"),
    validation = Rule::new("!has(self.abortOn) || self.strategy == 'Canary'").message("rollout.abortOn needs strategy Canary: with AllAtOnce a new version takes all requests in one moment and is never watched with a share of them; write strategy: Canary with steps, or leave abortOn out"),
    validation = Rule::new("!has(self.steps) || (self.steps.map(s, s.weightPercent).isSorted() && self.steps.all(s, self.steps.exists_one(t, t.weightPercent == s.weightPercent)))").message("rollout.steps must rise: write each weightPercent greater than the one before"),
    validation = Rule::new("!has(self.steps) || self.steps.map(s, s.holdSeconds).sum() < self.progressDeadlineSeconds").message("rollout.progressDeadlineSeconds must be longer than all rollout.steps[].holdSeconds together: a rollout that takes longer is taken back"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// The strategy.
    #[serde(default)]
    pub strategy: Strategy,
    /// The shares of the requests that a new version takes one after the other before it takes all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[schemars(length(max = 20))]
    pub steps: Vec<RolloutStep>,
    /// A request that a new version must answer before it takes any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke_test: Option<SmokeTest>,
    /// Whether a new version prepares its models, so that its later starts are faster: before its first request it is
    /// invoked with `{"op": "prepare"}`, which nothing waits for. For code that is Larder's inference function; where
    /// capacity.provisioned is set, its warm-ups do it, and it is not invoked.
    #[serde(default)]
    pub prepare_models: bool,
    /// When a new version that takes a share of the requests is taken back. With strategy Canary only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_on: Option<AbortOn>,
    /// A rollout that takes longer is taken back, or where no request has reached the new version, said to be stuck.
    #[serde(default = "hour")]
    #[schemars(range(min = 60, max = 604_800))]
    pub progress_deadline_seconds: i64,
    /// Published versions that are kept beside the one that serves.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub history_limit: i32,
}

const fn three() -> i32 {
    3
}

const fn hour() -> i64 {
    3600
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            steps: Vec::new(),
            smoke_test: None,
            prepare_models: false,
            abort_on: None,
            progress_deadline_seconds: hour(),
            history_limit: three(),
        }
    }
}

/// How traffic moves to a new version.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// All of it at once, when the new version is warm.
    #[default]
    AllAtOnce,
    /// Step by step.
    Canary,
}

/// A share of the requests, and for how long.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutStep {
    /// The share of the new version, in percent.
    #[schemars(range(min = 1, max = 99))]
    pub weight_percent: i32,
    /// For how long it is watched at this share. CloudWatch's metrics are a minute or two late.
    #[schemars(range(min = 0, max = 86_400))]
    pub hold_seconds: i64,
}

/// A request that a new version must answer before it takes any other: with either inputs or inputsFrom.
// A rule cannot say so: what has no schema is not there for CEL.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SmokeTest {
    /// The model that is asked.
    #[schemars(length(min = 1, max = 63))]
    pub model: String,
    /// What it is asked: `inputs` of a plain invocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub inputs: Option<serde_json::Value>,
    /// An object whose bytes are the inputs, such as a picture, up to 4 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_from: Option<InputsFrom>,
    /// `parameters` of a plain invocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub parameters: Option<serde_json::Value>,
    /// What the answer must hold: fields of objects that are named here, and lists and values as they are. Any
    /// answer that is no error will do when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub expect: Option<serde_json::Value>,
}

/// Any JSON.
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Where inputs are.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputsFrom {
    /// An object in S3.
    pub s3: S3Key,
}

/// One object in S3, as it is now.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Key {
    /// The bucket.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The key.
    #[schemars(length(min = 1, max = 1024))]
    pub key: String,
}

/// When a new version that takes a share of the requests is taken back.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.errorRatePercent) || has(self.p99Milliseconds) || (has(self.alarms) && size(self.alarms) > 0)").message("rollout.abortOn is empty: write errorRatePercent, p99Milliseconds or alarms, or leave it out")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AbortOn {
    /// More of its invocations fail than this, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub error_rate_percent: Option<i32>,
    /// One in a hundred of its invocations takes longer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 900_000))]
    pub p99_milliseconds: Option<i64>,
    /// Invocations of it in the present step before errorRatePercent and p99Milliseconds are judged. A version that is
    /// beyond them with fewer is held where it is.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_invocations: i64,
    /// One of these CloudWatch alarms is in state ALARM, whatever it is about. While one is before the first share moves,
    /// no share does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 20), inner(length(min = 1, max = 255)))]
    pub alarms: Vec<String>,
}

const fn twenty() -> i64 {
    20
}

impl Default for AbortOn {
    fn default() -> Self {
        Self {
            error_rate_percent: None,
            p99_milliseconds: None,
            min_invocations: twenty(),
            alarms: Vec::new(),
        }
    }
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
