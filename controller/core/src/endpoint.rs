//! An `InferenceEndpoint`, parsed. Strings become checked values here; after this, planning is total.

use std::collections::{BTreeMap, BTreeSet};

use larder_contract::{Digest, Task, layout};
use larder_crds::InferenceEndpoint;
use larder_crds::spec;

use crate::names::{Identity, Names};

pub use larder_crds::spec::{AuthType, DeletionPolicy, Management, ThroughputMode};

/// What the controller's flags say where the object is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// This cluster's id in owner tags.
    pub cluster: String,
    /// The region of objects that name none.
    pub region: Option<String>,
    /// The code of the model-sync function, for each processor.
    pub sync_code: CodeRef,
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
    /// The bucket of its source.
    pub bucket: String,
    /// The key prefix of its source.
    pub prefix: String,
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
    /// Where in AWS.
    pub place: Place,
    /// Its models, by name.
    pub models: Vec<Model>,
    /// A change at a source is not followed.
    pub pinned: bool,
    /// Seconds between two listings of the sources.
    pub refresh_seconds: u32,
    /// The value of the reconcile-at annotation.
    pub asked_at: Option<String>,
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
    /// Warm sandboxes.
    pub provisioned: Option<i32>,
    /// The most at once.
    pub reserved: Option<i32>,
    /// Versions kept beside the one that serves.
    pub history_limit: usize,
    /// The function URL, if any.
    pub url: Option<AuthType>,
    /// What may be done.
    pub management: Management,
    /// What a delete leaves.
    pub deletion: DeletionPolicy,
}

impl Endpoint {
    /// Reads an object that the API server has accepted.
    ///
    /// # Errors
    /// [`Refused`] for what admission cannot see: a region that neither object nor flags name, or an
    /// object that did not pass the schema.
    pub fn parse(object: &InferenceEndpoint, defaults: &Defaults) -> Result<Self, Refused> {
        let meta = &object.metadata;
        let spec = &object.spec;
        let identity = Identity {
            cluster: defaults.cluster.clone(),
            namespace: required(meta.namespace.as_deref(), "metadata.namespace")?,
            name: required(meta.name.as_deref(), "metadata.name")?,
            uid: required(meta.uid.as_deref(), "metadata.uid")?,
        };
        let aws = spec.aws.clone().unwrap_or_default();
        let region = aws.region.or_else(|| defaults.region.clone()).ok_or_else(|| Refused {
            field: "spec.aws.region".to_owned(),
            value: "not set".to_owned(),
            remedy: "write the region, or start the controller with --region".to_owned(),
        })?;
        let names = Names::of(&identity);
        let mut folder = format!("/larder/{}/{}", identity.namespace, identity.name);
        if folder.len() > 100 {
            folder = format!("/larder/{}", names.function); // `RootDirectory.Path`: at most 100 characters
        }
        let mut models = spec.models.iter().map(model).collect::<Result<Vec<_>, _>>()?;
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            names,
            identity,
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            place: Place { region, role_arn: aws.role_arn, external_id: aws.external_id },
            models,
            pinned: spec.refresh.policy == spec::RefreshPolicy::Pinned,
            refresh_seconds: u32::try_from(spec.refresh.interval_seconds).unwrap_or(300),
            asked_at: meta.annotations.as_ref().and_then(|a| a.get(larder_crds::RECONCILE_AT)).cloned(),
            file_system: file_system(&spec.storage.efs)?,
            access_point: access_point(spec.storage.efs.access_point.as_ref(), folder),
            subnets: spec.network.subnet_ids.iter().cloned().collect(),
            security_groups: spec.network.security_group_ids.iter().cloned().collect(),
            function: function(&spec.function)?,
            sync_code: defaults.sync_code.clone(),
            provisioned: spec.capacity.provisioned,
            reserved: spec.capacity.reserved,
            history_limit: usize::try_from(spec.rollout.history_limit).unwrap_or_default(),
            url: spec.expose.as_ref().map(|e| e.function_url.auth_type),
            management: spec.management,
            deletion: spec.deletion_policy,
        })
    }
}

fn required(value: Option<&str>, field: &str) -> Result<String, Refused> {
    value.map(str::to_owned).ok_or_else(|| Refused {
        field: field.to_owned(),
        value: "not set".to_owned(),
        remedy: "write it".to_owned(),
    })
}

fn model(model: &spec::Model) -> Result<Model, Refused> {
    let pin = model.digest.as_deref().map(str::parse).transpose().map_err(|_| Refused {
        field: format!("spec.models[{}].digest", model.name),
        value: model.digest.clone().unwrap_or_default(),
        remedy: "write sha256: and 64 lower-case hex digits".to_owned(),
    })?;
    Ok(Model {
        name: model.name.clone(),
        task: model.task.map(|task| match task {
            spec::Task::Ocr => Task::Ocr,
            spec::Task::Tensor => Task::Tensor,
        }),
        bucket: model.source.s3.bucket.clone(),
        prefix: model.source.s3.prefix.clone(),
        pin,
        preload: model.preload,
    })
}

fn file_system(efs: &spec::Efs) -> Result<FileSystemRef, Refused> {
    match (&efs.managed, &efs.file_system_id) {
        (Some(managed), None) => Ok(FileSystemRef::Managed {
            mode: managed.throughput.mode,
            encrypted: managed.encrypted,
            kms_key_id: managed.kms_key_id.clone(),
        }),
        (None, Some(id)) => Ok(FileSystemRef::Existing(id.clone())),
        (Some(_), Some(_)) | (None, None) => Err(Refused {
            field: "spec.storage.efs".to_owned(),
            value: "not one of managed and fileSystemId".to_owned(),
            remedy: "write exactly one of them".to_owned(),
        }),
    }
}

fn access_point(written: Option<&spec::AccessPoint>, folder: String) -> AccessPointSpec {
    written.map_or_else(
        || AccessPointSpec { path: folder, uid: 1000, gid: 1000, permissions: "0750".to_owned() },
        |ap| AccessPointSpec {
            path: ap.path.clone(),
            uid: ap.uid,
            gid: ap.gid,
            permissions: ap.permissions.clone(),
        },
    )
}

fn function(function: &spec::Function) -> Result<FunctionSpec, Refused> {
    let code = match (&function.image, &function.zip) {
        (Some(uri), None) => CodeRef::Image(ImageRef::parse(uri).ok_or_else(|| Refused {
            field: "spec.function.image".to_owned(),
            value: uri.clone(),
            remedy: "write <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>".to_owned(),
        })?),
        (None, Some(zip)) => CodeRef::Zip {
            bucket: zip.s3.bucket.clone(),
            key: zip.s3.key.clone(),
            version_id: zip.s3.version_id.clone(),
        },
        (Some(_), Some(_)) | (None, None) => {
            return Err(Refused {
                field: "spec.function".to_owned(),
                value: "not one of image and zip".to_owned(),
                remedy: "write exactly one of them".to_owned(),
            });
        }
    };
    if let Some(name) = function.env.keys().find(|name| name.starts_with(layout::ENV_RESERVED_PREFIX)) {
        return Err(Refused {
            field: "spec.function.env".to_owned(),
            value: name.clone(),
            remedy: "LARDER_* variables are the controller's: choose another name".to_owned(),
        });
    }
    Ok(FunctionSpec {
        code,
        architecture: match function.architecture {
            spec::Architecture::Arm64 => Architecture::Arm64,
            spec::Architecture::X86_64 => Architecture::X86_64,
        },
        memory_mib: function.memory_mib,
        timeout_seconds: function.timeout_seconds,
        ephemeral_mib: function.ephemeral_storage_mib,
        role_arn: function.role_arn.clone(),
        env: function.env.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect(),
        log_retention_days: function.log_retention_days,
    })
}
