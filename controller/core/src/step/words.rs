//! Steps in words, as plans, conditions and logs show them.

use std::fmt;

use larder_contract::Digest;
use larder_contract::upkeep::CollectRequest;

use super::Step;
use crate::observed::{Code, Package};

/// What a step does to its resource, as a diff marks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `+`
    Creates,
    /// `~`
    Changes,
    /// `-`
    Deletes,
    /// `>`
    Runs,
}

impl Effect {
    /// The mark in front of the step in a plan.
    #[must_use]
    pub const fn mark(self) -> char {
        match self {
            Self::Creates => '+',
            Self::Changes => '~',
            Self::Deletes => '-',
            Self::Runs => '>',
        }
    }
}

impl Step {
    /// What it does to its resource.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        match self {
            Self::CreateFileSystem { .. }
            | Self::CreateMountTarget { .. }
            | Self::CreateAccessPoint { .. }
            | Self::CreateLogGroup { .. }
            | Self::CreateFunction { .. }
            | Self::PublishVersion { .. }
            | Self::CreateAlias { .. }
            | Self::CreateFunctionUrl { .. }
            | Self::AddPermission { .. }
            | Self::CreateQueue { .. }
            | Self::PutTarget { .. }
            | Self::PutRule { is_new: true, .. } => Effect::Creates,
            Self::UpdateFileSystem { .. }
            | Self::SetMountTargetSecurityGroups { .. }
            | Self::PutRetentionPolicy { .. }
            | Self::UpdateFunctionCode { .. }
            | Self::UpdateFunctionConfiguration { .. }
            | Self::PutFunctionConcurrency { .. }
            | Self::PutProvisionedConcurrency { .. }
            | Self::UpdateAlias { .. }
            | Self::UpdateFunctionUrl { .. }
            | Self::SetQueuePolicy { .. }
            | Self::EnableBucketEvents { .. }
            | Self::TagResource { .. }
            | Self::PutRule { is_new: false, .. } => Effect::Changes,
            Self::DeleteFileSystem { .. }
            | Self::DeleteMountTarget { .. }
            | Self::DeleteAccessPoint { .. }
            | Self::DeleteLogGroup { .. }
            | Self::DeleteFunction { .. }
            | Self::DeleteFunctionConcurrency { .. }
            | Self::DeleteVersion { .. }
            | Self::DeleteProvisionedConcurrency { .. }
            | Self::DeleteAlias { .. }
            | Self::DeleteFunctionUrl { .. }
            | Self::RemovePermission { .. }
            | Self::DeleteQueue { .. }
            | Self::RemoveTargets { .. }
            | Self::DeleteRule { .. } => Effect::Deletes,
            Self::StartSync { .. }
            | Self::Collect { .. }
            | Self::Verify { .. }
            | Self::PrepareModels { .. } => Effect::Runs,
        }
    }
}

impl fmt::Display for Step {
    /// The step in words, without its mark: `create file system larder-…: elastic, encrypted`.
    #[expect(clippy::too_many_lines, reason = "one arm for each step; a table reads best in one piece")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TagResource { resource, from, .. } => {
                let from = if from.is_empty() { "nobody" } else { from };
                write!(f, "take over {resource} from {from}")
            }
            Self::CreateFileSystem { token, throughput_mode, encrypted, kms_key_id, .. } => {
                let at_rest = if *encrypted { "encrypted" } else { "not encrypted" };
                write!(f, "create file system {token}: {throughput_mode} throughput, {at_rest}")?;
                kms_key_id.as_ref().map_or(Ok(()), |key| write!(f, " with {key}"))
            }
            Self::UpdateFileSystem { id, throughput_mode } => {
                write!(f, "set the throughput mode of file system {id} to {throughput_mode}")
            }
            Self::DeleteFileSystem { id } => write!(f, "delete file system {id} with all its data"),
            Self::CreateMountTarget { file_system, subnet, zone, .. } => {
                write!(f, "create mount target of {file_system} in {subnet} ({zone})")
            }
            Self::SetMountTargetSecurityGroups { id, security_groups } => {
                write!(f, "set the security groups of mount target {id} to {}", security_groups.join(", "))
            }
            Self::DeleteMountTarget { id } => write!(f, "delete mount target {id}"),
            Self::CreateAccessPoint { file_system, spec, .. } => write!(
                f,
                "create access point of {file_system} at {} as {}:{}, {}",
                spec.path, spec.uid, spec.gid, spec.permissions
            ),
            Self::DeleteAccessPoint { id } => write!(f, "delete access point {id}"),
            Self::CreateLogGroup { name, .. } => write!(f, "create log group {name}"),
            Self::PutRetentionPolicy { name, days } => write!(f, "keep the logs of {name} for {days} days"),
            Self::DeleteLogGroup { name } => write!(f, "delete log group {name}"),
            Self::CreateFunction { name, code, architecture, config, .. } => write!(
                f,
                "create function {name}: {code}, {}, {} MiB, {} s",
                architecture.as_str(),
                config.memory_mib,
                config.timeout_seconds
            ),
            Self::UpdateFunctionCode { name, code, architecture, .. } => {
                write!(f, "update the code of function {name} to {code}, {}", architecture.as_str())
            }
            Self::UpdateFunctionConfiguration { name, changes, .. } => {
                let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
                let words =
                    if words.is_empty() { "again, since it failed".to_owned() } else { words.join("; ") };
                write!(f, "update the configuration of function {name}: {words}")
            }
            Self::DeleteFunction { name } => write!(f, "delete function {name} with all its versions"),
            Self::PutFunctionConcurrency { name, reserved } => {
                write!(f, "reserve a concurrency of {reserved} for function {name}")
            }
            Self::DeleteFunctionConcurrency { name } => {
                write!(f, "take the reserved concurrency from function {name}")
            }
            Self::StartSync { function, request } => {
                if let Some(worker) = request.worker {
                    write!(f, "worker {} of {}: ", worker.index() + 1, worker.of())?;
                }
                write!(f, "sync the models of manifest {}", request.manifest.digest().short())?;
                write!(f, " with function {function}:")?;
                request
                    .manifest
                    .models
                    .iter()
                    .try_for_each(|m| write!(f, " {}@{}", m.name, m.revision.short()))
            }
            Self::Collect { function, request } => collection(f, function, request),
            Self::Verify { function, request } => {
                write!(f, "read again with function {function}:")?;
                request.revisions.iter().try_for_each(|revision| write!(f, " {}", revision.short()))
            }
            Self::PrepareModels { function, version } => {
                write!(f, "have version {version} of function {function} prepare its models")
            }
            Self::PublishVersion { name, .. } => write!(f, "publish a version of function {name}"),
            Self::DeleteVersion { name, version } => write!(f, "delete version {version} of function {name}"),
            Self::PutProvisionedConcurrency { name, version, count } => {
                write!(f, "keep {count} sandboxes of version {version} of function {name} warm")
            }
            Self::DeleteProvisionedConcurrency { name, version } => {
                write!(f, "stop keeping version {version} of function {name} warm")
            }
            Self::CreateAlias { function, version, .. } => {
                write!(f, "create alias {} of function {function} at version {version}", crate::names::ALIAS)
            }
            Self::UpdateAlias { function, from, version, second, .. } => {
                write!(f, "alias {} of function {function}: ", crate::names::ALIAS)?;
                match second {
                    Some((second, percent)) => {
                        write!(
                            f,
                            "send {percent} % of the requests to version {second}, the others to {version}"
                        )
                    }
                    None if from == version => write!(f, "send all requests to version {version}"),
                    None => write!(f, "send all requests to version {version}, and none to {from}"),
                }
            }
            Self::DeleteAlias { function } => {
                write!(f, "delete alias {} of function {function}", crate::names::ALIAS)
            }
            Self::CreateFunctionUrl { function, auth_type } => {
                write!(f, "create function URL of {function} with authorisation {auth_type}")
            }
            Self::UpdateFunctionUrl { function, auth_type } => {
                write!(
                    f,
                    "set the function URL of {function} to authorisation {auth_type}, BUFFERED, without CORS"
                )
            }
            Self::DeleteFunctionUrl { function } => write!(f, "delete the function URL of {function}"),
            Self::AddPermission { function, permission } => {
                write!(f, "add permission {} to function {function}", permission.statement())
            }
            Self::RemovePermission { function, statement } => {
                write!(f, "remove permission {statement} from function {function}")
            }
            Self::CreateQueue { name, .. } => write!(f, "create queue {name} for events of S3"),
            Self::SetQueuePolicy { arn, .. } => write!(f, "let Larder's rules send to queue {arn}"),
            Self::DeleteQueue { url } => write!(f, "delete queue {url}"),
            Self::PutRule { name, is_new: true, .. } => write!(f, "create rule {name} for events of S3"),
            Self::PutRule { name, .. } => write!(f, "set the event pattern of rule {name}"),
            Self::PutTarget { rule, queue_arn } => write!(f, "send the events of rule {rule} to {queue_arn}"),
            Self::RemoveTargets { rule, .. } => write!(f, "send the events of rule {rule} nowhere"),
            Self::DeleteRule { name } => write!(f, "delete rule {name}"),
            Self::EnableBucketEvents { bucket } => {
                write!(f, "have bucket {bucket} send its events to Amazon EventBridge too")
            }
        }
    }
}

fn collection(f: &mut fmt::Formatter<'_>, function: &str, request: &CollectRequest) -> fmt::Result {
    let deleted: Vec<Digest> = request.delete.iter().map(|marked| marked.digest).collect();
    let parts = [
        ("delete what is not needed", &deleted),
        ("mark as not needed", &request.mark),
        ("keep what is needed again", &request.spare),
    ];
    let parts = parts.into_iter().filter(|(_, digests)| !digests.is_empty());
    let words: Vec<String> = parts
        .map(|(what, digests)| {
            let digests: Vec<String> = digests.iter().map(Digest::short).collect();
            format!("{what}: {}", digests.join(" "))
        })
        .collect();
    let words = if words.is_empty() { "delete what was taken out".to_owned() } else { words.join("; ") };
    write!(f, "{words}, with function {function}")
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.package {
            Package::Image { uri } => write!(f, "image {uri}"),
            Package::Zip { bucket, key, .. } => {
                let short = self.digest.get(..19).unwrap_or(&self.digest);
                write!(f, "zip s3://{bucket}/{key} ({short}…)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_contract::upkeep::Marked;

    use super::*;

    #[test]
    fn each_effect_has_its_mark() {
        let marks = [Effect::Creates, Effect::Changes, Effect::Deletes, Effect::Runs].map(Effect::mark);
        assert_eq!(marks, ['+', '~', '-', '>']);
    }

    #[test]
    fn an_alias_says_who_gets_what() {
        let words = |from, second| {
            let (function, revision_id, description) = ("f".to_owned(), String::new(), String::new());
            Step::UpdateAlias { function, from, version: 2, second, description, revision_id }.to_string()
        };
        for (from, second, end) in [
            (1, Some((3, 10)), "send 10 % of the requests to version 3, the others to 2"),
            (2, None, "send all requests to version 2"),
            (1, None, "send all requests to version 2, and none to 1"),
        ] {
            assert!(words(from, second).ends_with(end), "{}", words(from, second));
        }
    }

    #[test]
    fn a_collection_says_what_it_does_and_nothing_else() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let words = |mark: &[&str], spare: &[&str], delete: &[&str]| {
            let all = |texts: &[&str]| texts.iter().map(|text| digest(text)).collect::<Vec<_>>();
            let delete = all(delete).into_iter().map(|digest| Marked { digest, since: 1 }).collect();
            let request = CollectRequest { mark: all(mark), spare: all(spare), delete };
            Step::Collect { function: "f".to_owned(), request }.to_string()
        };
        let [a, b] = ["a", "b"].map(|text| digest(text).short());
        for (have, want) in [
            (words(&["a", "b"], &[], &[]), format!("mark as not needed: {a} {b}")),
            (
                words(&[], &["a"], &["b"]),
                format!("delete what is not needed: {b}; keep what is needed again: {a}"),
            ),
            (words(&[], &[], &[]), "delete what was taken out".to_owned()),
        ] {
            assert_eq!(have, format!("{want}, with function f"));
        }
    }

    #[test]
    fn code_is_an_image_or_an_archive() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = Package::Image { uri: "r/i@sha256:00".to_owned() };
        let zip = Package::Zip { bucket: "b".to_owned(), key: "k.zip".to_owned(), version_id: None };
        let words = |package| Code { package, digest: digest.clone() }.to_string();
        assert_eq!(words(image), "image r/i@sha256:00");
        assert_eq!(words(zip), "zip s3://b/k.zip (sha256:000000000000…)");
    }
}
