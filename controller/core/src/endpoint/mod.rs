//! An `InferenceEndpoint`, parsed. Strings become checked values in [`parse`]; after that, planning is
//! total.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use larder_contract::{Digest, ModelSource, Parameters, Task};

use crate::names::{self, Identity, Names};

mod parse;
mod rollout;
mod source;

pub use self::rollout::{AbortOn, Controls, Rollout, SmokeTest, WeightStep};
pub use larder_crds::spec::{Adoption, AuthType, DeletionPolicy, DriftPolicy, Management, ThroughputMode};

/// What the controller's flags say where the object is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// This cluster's id in owner tags.
    pub cluster: String,
    /// Which of the cluster's endpoints the controller works on, in words; none where that is all of them, or where no
    /// controller asks.
    pub scope: Option<String>,
    /// The region of objects that name none.
    pub region: Option<String>,
    /// The code of the model-sync function, for each processor.
    pub sync_code: CodeRef,
    /// Hosts of sources that may have any address.
    pub source_hosts: Vec<String>,
    /// Certificate authorities of sources, in PEM, beside the public ones.
    pub source_ca: Option<String>,
    /// Bytes that one invocation of model-sync is taken to copy in a second.
    pub sync_bytes_per_second: u64,
}

/// Why an object cannot be worked on: the field, its value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {remedy}")]
pub struct Refused {
    /// The field's path.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

/// Where in AWS, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The region.
    pub region: String,
    /// The role to assume.
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    pub external_id: Option<String>,
}

/// A model as the user wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name that clients use.
    pub name: String,
    /// What it does.
    pub task: Option<Task>,
    /// How it does it.
    pub parameters: Parameters,
    /// Where its files are.
    pub source: ModelSource,
    /// The object at the source without which it is not whole.
    pub marker: Option<String>,
    /// S3 is to tell of changes at the source.
    pub has_events: bool,
    /// The only content that is accepted.
    pub pin: Option<Digest>,
    /// Loaded before traffic.
    pub preload: bool,
}

/// Code before it is resolved to a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CodeRef {
    /// A container image.
    Image(ImageRef),
    /// A zip archive in S3.
    Zip {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The object's version.
        version_id: Option<String>,
    },
}

/// A container image in ECR.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    /// The registry's account.
    pub account: String,
    /// The registry's region.
    pub region: String,
    /// The registry's host.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// `:tag` or `@sha256:…`.
    pub reference: ImageReference,
}

/// What picks an image in its repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageReference {
    /// A tag, which may move.
    Tag(String),
    /// A digest, with its `sha256:`.
    Digest(String),
}

impl ImageRef {
    /// Reads `<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>` or `…@sha256:<digest>`.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let (registry, rest) = uri.split_once('/')?;
        let mut parts = registry.split('.');
        let account = parts.next()?.to_owned();
        if parts.next()? != "dkr" || parts.next()? != "ecr" {
            return None;
        }
        let region = parts.next()?.to_owned();
        let (repository, reference) = if let Some((repository, digest)) = rest.split_once('@') {
            (repository, ImageReference::Digest(digest.to_owned()))
        } else {
            let (repository, tag) = rest.rsplit_once(':')?;
            (repository, ImageReference::Tag(tag.to_owned()))
        };
        (!repository.is_empty()).then(|| Self {
            account,
            region,
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            reference,
        })
    }

    /// The image's URI by digest.
    #[must_use]
    pub fn with_digest(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reference {
            ImageReference::Tag(tag) => write!(f, "{}/{}:{tag}", self.registry, self.repository),
            ImageReference::Digest(digest) => write!(f, "{}", self.with_digest(digest)),
        }
    }
}

impl std::fmt::Display for CodeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(image) => write!(f, "image {image}"),
            Self::Zip { bucket, key, .. } => write!(f, "zip s3://{bucket}/{key}"),
        }
    }
}

/// Where the models lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystemRef {
    /// One that we make.
    Managed {
        /// Its throughput mode.
        mode: ThroughputMode,
        /// Encrypted at rest.
        encrypted: bool,
        /// The key, when not the account's own.
        kms_key_id: Option<String>,
    },
    /// One that exists and is not ours.
    Existing(String),
}

/// The folder on the file system and who the functions are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPointSpec {
    /// An absolute path that is not `/`.
    pub path: String,
    /// POSIX user.
    pub uid: i64,
    /// POSIX group.
    pub gid: i64,
    /// Octal permissions of the folder.
    pub permissions: String,
}

/// The processor, as Lambda writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Architecture {
    /// `arm64`
    Arm64,
    /// `x86_64`
    X86_64,
}

impl Architecture {
    /// Lambda's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }
}

/// The inference function's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSpec {
    /// Its code.
    pub code: CodeRef,
    /// Its processor.
    pub architecture: Architecture,
    /// Memory, MiB.
    pub memory_mib: i32,
    /// Longest request, seconds.
    pub timeout_seconds: i32,
    /// `/tmp`, MiB.
    pub ephemeral_mib: i32,
    /// Execution role, of both functions.
    pub role_arn: String,
    /// The user's environment.
    pub env: BTreeMap<String, String>,
    /// Days that logs are kept.
    pub log_retention_days: i32,
}

/// An `InferenceEndpoint`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Which object it is.
    pub identity: Identity,
    /// What its resources are called.
    pub names: Names,
    /// The generation of the spec.
    pub generation: i64,
    /// The object is being deleted.
    pub deleting: bool,
    /// Since when.
    pub deleting_since: Option<Timestamp>,
    /// Where in AWS.
    pub place: Place,
    /// Its models, by name.
    pub models: Vec<Model>,
    /// A change at a source is not followed.
    pub pinned: bool,
    /// Seconds between two listings of the sources.
    pub refresh_seconds: u32,
    /// What those grow to while a source does not change.
    pub max_refresh_seconds: u32,
    /// Seconds for which a source must not have changed before it is copied.
    pub settle_seconds: u32,
    /// The value of the reconcile-at annotation.
    pub asked_at: Option<String>,
    /// For each model, so many revisions that no version names are kept.
    pub retain_revisions: usize,
    /// How long something is not needed before it is deleted.
    pub collect_after_seconds: u64,
    /// How often what is needed is read again, if ever.
    pub verify_every_seconds: Option<u64>,
    /// The file system.
    pub file_system: FileSystemRef,
    /// The access point.
    pub access_point: AccessPointSpec,
    /// The functions' subnets.
    pub subnets: BTreeSet<String>,
    /// The functions' and mount targets' security groups.
    pub security_groups: BTreeSet<String>,
    /// The inference function.
    pub function: FunctionSpec,
    /// The model-sync function's code.
    pub sync_code: CodeRef,
    /// Hosts of sources that may have any address.
    pub source_hosts: Vec<String>,
    /// Certificate authorities of sources, in PEM, beside the public ones.
    pub source_ca: Option<String>,
    /// Bytes that one invocation of model-sync is taken to copy in a second.
    pub sync_bytes_per_second: u64,
    /// Warm sandboxes.
    pub provisioned: Option<i32>,
    /// The most at once.
    pub reserved: Option<i32>,
    /// How a new version takes over.
    pub rollout: Rollout,
    /// What a person says about that.
    pub controls: Controls,
    /// The function URL, if any.
    pub url: Option<AuthType>,
    /// What may be done.
    pub management: Management,
    /// What a delete leaves.
    pub deletion: DeletionPolicy,
    /// Whether what bears no tag is taken over.
    pub adoption: Adoption,
    /// The owner tag of what is taken over from elsewhere; with or without its UID.
    pub adopt_from: Option<String>,
    /// What is done about drift.
    pub drift_policy: DriftPolicy,
    /// The file system that is gone and may be made anew, empty.
    pub recreate_file_system: Option<String>,
}

impl Endpoint {
    /// The endpoint of this cluster whose resources are to be taken over, where that is another one. While there is
    /// such an object, they are its own.
    #[must_use]
    pub fn predecessor(&self) -> Option<&names::Place> {
        let place = &self.names.place;
        let is_elsewhere = self.adopt_from.is_some() && *place != self.identity.place();
        (is_elsewhere && place.cluster == self.identity.cluster).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_one_of_amazon_ecr_and_says_where_it_is() {
        const AT: &str = "111122223333.dkr.ecr.eu-west-1.amazonaws.com";
        for (reference, read) in [
            ("inference:1", ImageReference::Tag("1".to_owned())),
            ("inference@sha256:00", ImageReference::Digest("sha256:00".to_owned())),
        ] {
            let uri = format!("{AT}/team/{reference}");
            let image = ImageRef::parse(&uri).unwrap();
            assert_eq!((image.account.as_str(), image.region.as_str()), ("111122223333", "eu-west-1"));
            assert_eq!((image.registry.as_str(), image.repository.as_str()), (AT, "team/inference"));
            assert_eq!((&image.reference, image.to_string()), (&read, uri));
            assert_eq!(image.with_digest("sha256:11"), format!("{AT}/team/inference@sha256:11"));
        }
        for uri in [
            "busybox:1",
            "docker.io/busybox:1",
            "111122223333.oci.ecr.eu-west-1.amazonaws.com/inference:1",
            "111122223333.dkr.gar.eu-west-1.amazonaws.com/inference:1",
            "111122223333.dkr.ecr.eu-west-1.amazonaws.com/inference",
            "111122223333.dkr.ecr.eu-west-1.amazonaws.com/:1",
        ] {
            assert_eq!(ImageRef::parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn processors_have_the_names_that_lambda_gives_them() {
        assert_eq!((Architecture::Arm64.as_str(), Architecture::X86_64.as_str()), ("arm64", "x86_64"));
    }
}
