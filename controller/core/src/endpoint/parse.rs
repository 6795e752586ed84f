//! From an object that the API server has accepted to an [`Endpoint`].

use larder_contract::layout;
use larder_crds::{InferenceEndpoint, spec};

use super::{
    AccessPointSpec, Architecture, CodeRef, Defaults, Endpoint, FileSystemRef, FunctionSpec, ImageRef, Model,
    Place, Refused, rollout, source,
};
use crate::names::{self, Identity, Names};

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
        let annotation = |name| meta.annotations.as_ref().and_then(|all| all.get(name)).cloned();
        let adopt_from = annotation(larder_crds::ADOPT_FROM);
        let mut names = Names::of(&identity, &named_after(&identity, adopt_from.as_deref())?);
        same_names(object, &names)?;
        if let Some(queue) = queue(object, defaults) {
            names.event_queue = queue;
        }
        let mut folder = format!("/larder/{}/{}", names.place.namespace, names.place.name);
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
            deleting_since: meta.deletion_timestamp.as_ref().map(|time| time.0),
            place: Place { region, role_arn: aws.role_arn, external_id: aws.external_id },
            models,
            pinned: spec.refresh.policy == spec::RefreshPolicy::Pinned,
            refresh_seconds: u32::try_from(spec.refresh.interval_seconds).unwrap_or(300),
            max_refresh_seconds: u32::try_from(spec.refresh.max_interval_seconds).unwrap_or(1200),
            settle_seconds: u32::try_from(spec.refresh.settle_seconds).unwrap_or(30),
            asked_at: annotation(larder_crds::RECONCILE_AT),
            retain_revisions: usize::try_from(spec.storage.retain_revisions).unwrap_or_default(),
            collect_after_seconds: u64::try_from(spec.storage.collect_after_seconds).unwrap_or(3600),
            verify_every_seconds: spec
                .storage
                .verify_every_seconds
                .and_then(|every| u64::try_from(every).ok()),
            file_system: file_system(&spec.storage.efs)?,
            access_point: access_point(spec.storage.efs.access_point.as_ref(), folder)?,
            subnets: spec.network.subnet_ids.iter().cloned().collect(),
            security_groups: spec.network.security_group_ids.iter().cloned().collect(),
            function: function(&spec.function)?,
            sync_code: defaults.sync_code.clone(),
            source_hosts: defaults.source_hosts.clone(),
            source_ca: defaults.source_ca.clone(),
            sync_bytes_per_second: defaults.sync_bytes_per_second,
            provisioned: spec.capacity.provisioned,
            reserved: spec.capacity.reserved,
            rollout: rollout::rollout(&spec.rollout)?,
            controls: rollout::controls(object)?,
            url: spec.expose.as_ref().map(|e| e.function_url.auth_type),
            management: spec.management,
            deletion: spec.deletion_policy,
            adoption: spec.adoption,
            adopt_from,
            drift_policy: spec.drift_policy,
            recreate_file_system: annotation(larder_crds::RECREATE_FILE_SYSTEM),
        })
    }
}

/// Where the names come from: the annotation says it of what was made elsewhere.
fn named_after(identity: &Identity, adopt_from: Option<&str>) -> Result<names::Place, Refused> {
    let Some(from) = adopt_from else { return Ok(identity.place()) };
    names::Place::parse(from).ok_or_else(|| Refused {
        field: format!("metadata.annotations[{}]", larder_crds::ADOPT_FROM),
        value: from.to_owned(),
        remedy: "write the owner tag of what is to be taken over, <cluster id>/<namespace>/<name>/<UID>"
            .to_owned(),
    })
}

/// That the resources are called as before: under other names all of them would be made anew, and the old ones left.
fn same_names(object: &InferenceEndpoint, names: &Names) -> Result<(), Refused> {
    let before = object.status.as_ref().and_then(|status| status.function.as_ref());
    match before {
        Some(function) if function.name != names.function => Err(Refused {
            field: "status.function.name".to_owned(),
            value: function.name.clone(),
            remedy: format!(
                "the cluster's id or annotation {} was another when that was made, and now its name would be {}: start the controller with the --cluster-id, or set the annotation, that it was made with",
                larder_crds::ADOPT_FROM,
                names.function
            ),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The queue of S3's events, where it is not the one of a controller that works on everything. Who knows of no scope
/// goes by the status: it may be a shard that works on the object.
fn queue(object: &InferenceEndpoint, defaults: &Defaults) -> Option<String> {
    if let Some(scope) = &defaults.scope {
        return Some(names::event_queue(&defaults.cluster, Some(scope)));
    }
    let told = object.status.as_ref()?.events.as_ref()?.queue.clone();
    told.starts_with(names::EVENT_QUEUES).then_some(told)
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
        task: model.task,
        parameters: model.parameters.clone(),
        source: source::parse(&model.name, &model.source)?,
        marker: model.source.s3.as_ref().and_then(|s3| s3.marker.clone()),
        has_events: model.source.s3.as_ref().is_some_and(|s3| s3.events == spec::SourceEvents::EventBridge),
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

/// Admission refuses these paths as well; but what collects old models behind `/` would do so on the whole file system,
/// and that must not hang on the version of a CRD.
fn access_point(written: Option<&spec::AccessPoint>, folder: String) -> Result<AccessPointSpec, Refused> {
    let Some(ap) = written else {
        return Ok(AccessPointSpec { path: folder, uid: 1000, gid: 1000, permissions: "0750".to_owned() });
    };
    let mut parts = ap.path.strip_prefix('/').unwrap_or_default().split('/');
    if parts.any(|part| matches!(part, "" | "." | "..")) {
        return Err(Refused {
            field: "spec.storage.efs.accessPoint.path".to_owned(),
            value: ap.path.clone(),
            remedy: "write a plain folder that is not / itself, such as /larder/vision/signs".to_owned(),
        });
    }
    Ok(AccessPointSpec {
        path: ap.path.clone(),
        uid: ap.uid,
        gid: ap.gid,
        permissions: ap.permissions.clone(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_file_system_is_no_folder_of_ours() {
        let path = |path: &str| {
            let permissions = "0750".to_owned();
            let written = spec::AccessPoint { path: path.to_owned(), uid: 1, gid: 2, permissions };
            access_point(Some(&written), String::new()).map(|it| it.path)
        };
        for good in ["/a", "/larder/vision/signs", "/..a/b."] {
            assert_eq!(path(good).unwrap(), good);
        }
        for bad in ["", "/", "//", "a", "a/b", "/a/", "/a//b", "/a/../..", "/."] {
            let refused = path(bad).unwrap_err();
            assert_eq!(
                (refused.value.as_str(), refused.field.as_str()),
                (bad, "spec.storage.efs.accessPoint.path")
            );
        }
        assert_eq!(access_point(None, "/larder/ns/n".to_owned()).unwrap().path, "/larder/ns/n");
    }
}
