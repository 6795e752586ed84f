//! The file system and its access point.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the models lie while they are served.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// An Amazon EFS file system.
    pub efs: Efs,
    /// For each model, so many revisions that no function version names are kept, the newest: going back to one of
    /// them copies nothing.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 100))]
    pub retain_revisions: i32,
    /// Seconds for which a revision is not needed, by any function version or by retainRevisions, before it is
    /// deleted. No invocation runs longer than the least of them.
    #[serde(default = "hour")]
    #[schemars(range(min = 900, max = 31_536_000))]
    pub collect_after_seconds: i64,
    /// Seconds after which the models that function versions name are read again and compared with what was copied.
    /// Never when absent: EFS charges for what is read. A damaged model is copied again and rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3600, max = 31_536_000))]
    pub verify_every_seconds: Option<i64>,
}

const fn two() -> i32 {
    2
}

const fn hour() -> i64 {
    3600
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
    #[serde(default = "super::yes")]
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
