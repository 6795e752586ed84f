//! What an endpoint wants AWS to hold.

use std::collections::{BTreeMap, BTreeSet};

use larder_contract::revision::{MAX_COPIES, copy_name};
use larder_contract::sync::{SyncRequest, SyncSource};
use larder_contract::upkeep::{Inventory, StoredRevision};
use larder_contract::{Digest, Manifest, ManifestModel, ModelSource, layout};
use serde_json::json;

use crate::endpoint::{
    AccessPointSpec, Adoption, Architecture, AuthType, CodeRef, Controls, DeletionPolicy, Endpoint,
    FileSystemRef, Model, Rollout,
};
use crate::names::Names;
use crate::observed::{Observed, Source};

/// What is wanted of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want<T> {
    /// Like this.
    Present(T),
    /// Gone, where it is ours.
    Absent,
    /// As it is.
    Leave,
}

impl<T> Want<T> {
    fn unless_deleting(value: T, deletion: Option<DeletionPolicy>, is_data: bool) -> Self {
        match deletion {
            None => Self::Present(value),
            Some(DeletionPolicy::Retain) => Self::Leave,
            Some(DeletionPolicy::RetainData) if is_data => Self::Leave,
            Some(DeletionPolicy::RetainData | DeletionPolicy::Delete) => Self::Absent,
        }
    }
}

/// What an endpoint wants AWS to hold. A deletion wants nothing, through the same planner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// What everything is called.
    pub names: Names,
    /// The file system and its mount targets.
    pub file_system: Want<FileSystemRef>,
    /// What of others may be taken over.
    pub adopts: Adopts,
    /// The file system that is gone and may be made anew, empty.
    pub recreate_file_system: Option<String>,
    /// Our access point.
    pub access_point: Want<AccessPointSpec>,
    /// The network of functions and mount targets.
    pub subnets: BTreeSet<String>,
    /// Their security groups.
    pub security_groups: BTreeSet<String>,
    /// The model-sync function.
    pub sync: Want<FunctionWant>,
    /// Bytes that one invocation of it is taken to copy in a second.
    pub sync_bytes_per_second: u64,
    /// The models.
    pub models: Vec<Model>,
    /// Seconds for which a source must not have changed before it is copied.
    pub settle_seconds: u32,
    /// For each model, so many revisions that no version names are kept.
    pub retain_revisions: usize,
    /// How long something is not needed before it is deleted.
    pub collect_after_seconds: u64,
    /// How often what is needed is read again, if ever.
    pub verify_every_seconds: Option<u64>,
    /// The inference function, without its manifest.
    pub inference: Want<FunctionWant>,
    /// Warm sandboxes.
    pub provisioned: Option<i32>,
    /// How a new version takes over.
    pub rollout: Rollout,
    /// What a person says about that.
    pub controls: Controls,
    /// The function URL.
    pub url: Want<AuthType>,
    /// S3's events.
    pub events: Want<EventsWant>,
}

/// What of others may be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopts {
    /// Whether what bears no tag is, and what this object's predecessor made.
    pub policy: Adoption,
    /// The owner tag of what comes from elsewhere; with or without its UID.
    pub from: Option<String>,
}

/// S3's events as they are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsWant {
    /// The buckets that tell of changes.
    pub buckets: BTreeSet<String>,
    /// The event pattern of the rule, as JSON.
    pub pattern: String,
}

/// `PutRule` takes patterns of up to 4,096 characters.
const MAX_PATTERN: usize = 4096;

impl EventsWant {
    /// What the sources of these models call for; none when none is to tell of changes.
    fn of(models: &[Model]) -> Option<Self> {
        let places = || {
            models.iter().filter(|model| model.has_events).filter_map(|model| match &model.source {
                ModelSource::S3(place) => Some(place),
                ModelSource::Oci(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => None,
            })
        };
        let buckets: BTreeSet<String> = places().map(|place| place.bucket.clone()).collect();
        let prefixes: BTreeSet<&str> = places().map(|place| place.prefix.as_str()).collect();
        if buckets.is_empty() {
            return None;
        }
        let mut pattern = json!({
            "source": ["aws.s3"],
            "detail-type": ["Object Created", "Object Deleted"],
            "detail": {
                "bucket": {"name": buckets},
                "object": {"key": prefixes.iter().map(|prefix| json!({"prefix": prefix})).collect::<Vec<_>>()},
            },
        });
        // Too long: events of the whole buckets, of which those of other keys wake nobody.
        if pattern.to_string().len() > MAX_PATTERN {
            pattern["detail"] = json!({"bucket": {"name": buckets}});
        }
        Some(Self { buckets, pattern: pattern.to_string() })
    }
}

/// A function as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionWant {
    /// Its name.
    pub name: String,
    /// Its code, by the name that the spec gives it.
    pub code: CodeRef,
    /// Its processor.
    pub architecture: Architecture,
    /// Memory, MiB.
    pub memory_mib: i32,
    /// Longest invoke, seconds.
    pub timeout_seconds: i32,
    /// `/tmp`, MiB.
    pub ephemeral_mib: i32,
    /// Execution role.
    pub role_arn: String,
    /// Environment, without the manifest.
    pub env: BTreeMap<String, String>,
    /// Reserved concurrency.
    pub reserved: Option<i32>,
    /// Days that its logs are kept.
    pub log_retention_days: i32,
}

/// Memory of the model-sync function, MiB: enough for its buffers and for a vCPU's network share.
const SYNC_MEMORY_MIB: i32 = 1769;

/// Longest invoke of the model-sync function, seconds: the most that Lambda allows.
const SYNC_TIMEOUT_SECONDS: i32 = 900;

impl Desired {
    /// What `endpoint` wants.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        let deletion = endpoint.deleting.then_some(endpoint.deletion);
        let spec = &endpoint.function;
        let mut env = spec.env.clone();
        env.insert(layout::ENV_MEMORY.to_owned(), spec.memory_mib.to_string());
        let inference = FunctionWant {
            name: endpoint.names.function.clone(),
            code: spec.code.clone(),
            architecture: spec.architecture,
            memory_mib: spec.memory_mib,
            timeout_seconds: spec.timeout_seconds,
            ephemeral_mib: spec.ephemeral_mib,
            role_arn: spec.role_arn.clone(),
            env,
            reserved: endpoint.reserved,
            log_retention_days: spec.log_retention_days,
        };
        let sync = FunctionWant {
            name: endpoint.names.sync_function.clone(),
            code: endpoint.sync_code.clone(),
            memory_mib: SYNC_MEMORY_MIB,
            timeout_seconds: SYNC_TIMEOUT_SECONDS,
            ephemeral_mib: 512,
            env: sync_env(endpoint),
            reserved: None,
            ..inference.clone()
        };
        Self {
            names: endpoint.names.clone(),
            file_system: match (&endpoint.file_system, deletion) {
                // What was brought along is never ours to delete.
                (FileSystemRef::Existing(_), Some(_)) => Want::Leave,
                (wanted, deletion) => Want::unless_deleting(wanted.clone(), deletion, true),
            },
            adopts: Adopts { policy: endpoint.adoption, from: endpoint.adopt_from.clone() },
            recreate_file_system: endpoint.recreate_file_system.clone(),
            access_point: Want::unless_deleting(endpoint.access_point.clone(), deletion, false),
            subnets: endpoint.subnets.clone(),
            security_groups: endpoint.security_groups.clone(),
            sync: Want::unless_deleting(sync, deletion, false),
            sync_bytes_per_second: endpoint.sync_bytes_per_second,
            models: endpoint.models.clone(),
            settle_seconds: endpoint.settle_seconds,
            retain_revisions: endpoint.retain_revisions,
            collect_after_seconds: endpoint.collect_after_seconds,
            verify_every_seconds: endpoint.verify_every_seconds,
            inference: Want::unless_deleting(inference, deletion, false),
            provisioned: endpoint.provisioned,
            rollout: endpoint.rollout.clone(),
            controls: endpoint.controls.clone(),
            url: match (endpoint.url, deletion) {
                (Some(auth), deletion) => Want::unless_deleting(auth, deletion, false),
                (None, Some(DeletionPolicy::Retain)) => Want::Leave,
                (None, _) => Want::Absent,
            },
            events: match (EventsWant::of(&endpoint.models), deletion) {
                (Some(events), deletion) => Want::unless_deleting(events, deletion, false),
                (None, Some(DeletionPolicy::Retain)) => Want::Leave,
                (None, _) => Want::Absent,
            },
        }
    }
}

fn sync_env(endpoint: &Endpoint) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([(layout::ENV_OWNER.to_owned(), endpoint.names.place.to_string())]);
    if let Some(authorities) = &endpoint.source_ca {
        env.insert(layout::ENV_SOURCE_CA.to_owned(), authorities.clone());
    }
    if !endpoint.source_hosts.is_empty() {
        env.insert(layout::ENV_SOURCE_HOSTS.to_owned(), endpoint.source_hosts.join(","));
    }
    env
}

/// What must be synced for these models: none while a source is unknown or its content is refused.
///
/// A pinned model is wanted by its pin, whatever the source holds now: what was once synced stays. What was found
/// damaged is wanted as another copy.
#[must_use]
pub fn sync_request(
    models: &[Model],
    sources: &BTreeMap<String, crate::observed::Read<Source>>,
    stored: Option<&Inventory>,
) -> Option<SyncRequest> {
    let wanted = models
        .iter()
        .map(|model| {
            let found = match sources.get(&model.name) {
                Some(Ok(Source::Found { revision, .. })) => Some(*revision),
                Some(Ok(Source::Empty | Source::Unusable(_) | Source::Unmarked(_)) | Err(_)) | None => None,
            };
            let content = model.pin.or(found)?;
            let revision = copy_of(&content, stored);
            Some(ManifestModel {
                name: model.name.clone(),
                task: model.task,
                revision,
                copy_of: (revision != content).then_some(content),
                parameters: model.parameters.clone(),
                preload: model.preload,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(SyncRequest {
        manifest: Manifest::new(wanted),
        sources: models
            .iter()
            .map(|model| SyncSource { model: model.name.clone(), source: model.source.clone() })
            .collect(),
        worker: None,
    })
}

/// The name of the copy of `content` that is to be served: the first that lies there whole and was not found
/// damaged; else the first that was not.
#[must_use]
pub fn copy_of(content: &Digest, stored: Option<&Inventory>) -> Digest {
    let seen = |name: &Digest| stored.and_then(|all| all.revisions.iter().find(|it| it.revision == *name));
    let names = || (0..MAX_COPIES).map(|nth| copy_name(content, nth));
    names()
        .find(|name| seen(name).is_some_and(|it| it.is_complete && !is_damaged(it)))
        .or_else(|| names().find(|name| !seen(name).is_some_and(is_damaged)))
        .unwrap_or(*content)
}

/// Whether a revision's bytes were found to be others than those that were copied.
#[must_use]
pub fn is_damaged(revision: &StoredRevision) -> bool {
    revision.verified.as_ref().is_some_and(|look| !look.damage.is_empty())
}

/// Whether everything that is wanted for these models lies on the file system.
#[must_use]
pub fn is_synced(observed: &Observed) -> bool {
    matches!(&observed.sync_report, Ok(Some(report)) if report.manifest_present)
}
