//! What a [`Step`] does to the account.

use larder_core::names::Owner;
use larder_core::step::Tagged;
use larder_core::{Class, Step};

use super::account::{Account, Refusal, refuse};
use super::events::queue_at;

/// What a step writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Makes something new with an owner tag of its own.
    New,
    /// A file system, by id.
    FileSystem(&'a str),
    /// A mount target, by id.
    MountTarget(&'a str),
    /// An access point, by id.
    AccessPoint(&'a str),
    /// A log group, by name.
    LogGroup(&'a str),
    /// A function, by name, or what hangs on it.
    Function(&'a str),
    /// A queue, by name.
    Queue(&'a str),
    /// A rule, by name, or what hangs on it.
    Rule(&'a str),
    /// A bucket, which is never the endpoint's.
    Bucket(&'a str),
}

/// What a step writes to.
#[must_use]
pub fn target(step: &Step) -> Target<'_> {
    match step {
        Step::TagResource { tagged, id, .. } => match tagged {
            Tagged::FileSystem => Target::FileSystem(id),
            Tagged::AccessPoint => Target::AccessPoint(id),
            Tagged::Function => Target::Function(id),
            Tagged::LogGroup => Target::LogGroup(id),
            Tagged::Rule => Target::Rule(id),
        },
        // An access point may be added to a file system that is not ours.
        Step::CreateFileSystem { .. }
        | Step::CreateAccessPoint { .. }
        | Step::CreateLogGroup { .. }
        | Step::CreateFunction { .. } => Target::New,
        Step::UpdateFileSystem { id, .. } | Step::DeleteFileSystem { id } => Target::FileSystem(id),
        Step::CreateMountTarget { file_system, .. } => Target::FileSystem(file_system),
        Step::SetMountTargetSecurityGroups { id, .. } | Step::DeleteMountTarget { id } => {
            Target::MountTarget(id)
        }
        Step::DeleteAccessPoint { id } => Target::AccessPoint(id),
        Step::PutRetentionPolicy { name, .. } | Step::DeleteLogGroup { name } => Target::LogGroup(name),
        Step::UpdateFunctionCode { name, .. }
        | Step::UpdateFunctionConfiguration { name, .. }
        | Step::DeleteFunction { name }
        | Step::PutFunctionConcurrency { name, .. }
        | Step::DeleteFunctionConcurrency { name }
        | Step::PublishVersion { name, .. }
        | Step::DeleteVersion { name, .. }
        | Step::PutProvisionedConcurrency { name, .. }
        | Step::DeleteProvisionedConcurrency { name, .. }
        | Step::StartSync { function: name, .. }
        | Step::Collect { function: name, .. }
        | Step::Verify { function: name, .. }
        | Step::PrepareModels { function: name, .. }
        | Step::CreateAlias { function: name, .. }
        | Step::UpdateAlias { function: name, .. }
        | Step::DeleteAlias { function: name }
        | Step::CreateFunctionUrl { function: name, .. }
        | Step::UpdateFunctionUrl { function: name, .. }
        | Step::DeleteFunctionUrl { function: name }
        | Step::AddPermission { function: name, .. }
        | Step::RemovePermission { function: name, .. } => Target::Function(name),
        // A queue that is there already is taken for made.
        Step::CreateQueue { name, .. } => Target::Queue(name),
        Step::SetQueuePolicy { url, .. } | Step::DeleteQueue { url } => Target::Queue(queue_at(url)),
        Step::PutRule { name, .. }
        | Step::PutTarget { rule: name, .. }
        | Step::RemoveTargets { rule: name, .. }
        | Step::DeleteRule { name } => Target::Rule(name),
        Step::EnableBucketEvents { bucket } => Target::Bucket(bucket),
    }
}

impl Account {
    /// Performs a step.
    pub(super) fn apply(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::TagResource { tagged, id, owner, .. } => self.tag(*tagged, id, owner),
            Step::CreateFileSystem { token, owner, throughput_mode, encrypted, kms_key_id } => {
                self.create_file_system(token, owner, throughput_mode, *encrypted, kms_key_id.as_deref())
            }
            Step::UpdateFileSystem { id, throughput_mode } => self.update_file_system(id, throughput_mode),
            Step::DeleteFileSystem { id } => self.delete_file_system(id),
            Step::CreateMountTarget { file_system, subnet, security_groups, .. } => {
                self.create_mount_target(file_system, subnet, security_groups)
            }
            Step::SetMountTargetSecurityGroups { id, security_groups } => {
                self.set_mount_target_security_groups(id, security_groups)
            }
            Step::DeleteMountTarget { id } => {
                self.delete_mount_target(id);
                Ok(())
            }
            Step::CreateAccessPoint { token, owner, file_system, spec } => {
                self.create_access_point(token, owner, file_system, spec)
            }
            Step::DeleteAccessPoint { id } => {
                self.delete_access_point(id);
                Ok(())
            }
            Step::CreateLogGroup { name, owner } => self.create_log_group(name, owner),
            Step::PutRetentionPolicy { name, days } => self.put_retention(name, *days),
            Step::DeleteLogGroup { name } => {
                self.log_groups.remove(name);
                Ok(())
            }
            Step::StartSync { function, request } => self.start_sync(function, request),
            Step::Collect { function, request } => self.collect(function, request),
            Step::Verify { function, request } => self.start_verify(function, request),
            Step::PrepareModels { function, version } => self.prepare_models(function, *version),
            Step::CreateQueue { name, owner } => self.create_queue(name, owner),
            Step::SetQueuePolicy { url, .. } => self.set_queue_policy(url),
            Step::DeleteQueue { url } => {
                self.delete_queue(url);
                Ok(())
            }
            Step::PutRule { name, owner, pattern, is_new } => {
                self.put_rule(name, owner, pattern, *is_new);
                Ok(())
            }
            Step::PutTarget { rule, queue_arn } => self.put_target(rule, queue_arn),
            Step::RemoveTargets { rule, targets } => self.remove_targets(rule, targets),
            Step::DeleteRule { name } => self.delete_rule(name),
            Step::EnableBucketEvents { bucket } => self.enable_bucket_events(bucket),
            Step::CreateFunction { .. }
            | Step::UpdateFunctionCode { .. }
            | Step::UpdateFunctionConfiguration { .. }
            | Step::DeleteFunction { .. }
            | Step::PutFunctionConcurrency { .. }
            | Step::DeleteFunctionConcurrency { .. }
            | Step::PublishVersion { .. }
            | Step::DeleteVersion { .. }
            | Step::PutProvisionedConcurrency { .. }
            | Step::DeleteProvisionedConcurrency { .. }
            | Step::CreateAlias { .. }
            | Step::UpdateAlias { .. }
            | Step::DeleteAlias { .. }
            | Step::CreateFunctionUrl { .. }
            | Step::UpdateFunctionUrl { .. }
            | Step::DeleteFunctionUrl { .. }
            | Step::AddPermission { .. }
            | Step::RemovePermission { .. } => self.apply_to_function(step),
        }
    }

    fn tag(&mut self, tagged: Tagged, id: &str, owner: &Owner) -> Result<(), Refusal> {
        let tag = match tagged {
            Tagged::FileSystem => self.file_systems.get_mut(id).map(|it| &mut it.owner),
            Tagged::AccessPoint => self.access_points.get_mut(id).map(|it| &mut it.owner),
            Tagged::Function => self.functions.get_mut(id).map(|it| &mut it.owner),
            Tagged::LogGroup => self.log_groups.get_mut(id).map(|it| &mut it.owner),
            Tagged::Rule => self.rules.get_mut(id).map(|it| &mut it.owner),
        };
        let Some(tag) = tag else {
            return refuse(Class::NotFound, "ResourceNotFoundException", format!("{id} does not exist"));
        };
        *tag = Some(owner.0.clone());
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`apply` names every step and sends only these here")]
    fn apply_to_function(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::CreateFunction { name, owner, code, architecture, config } => {
                self.create_function(name, owner, code, *architecture, config)
            }
            Step::UpdateFunctionCode { name, code, architecture, revision_id } => {
                self.update_code(name, code, *architecture, revision_id)
            }
            Step::UpdateFunctionConfiguration { name, config, revision_id, .. } => {
                self.update_configuration(name, config, revision_id)
            }
            Step::DeleteFunction { name } => {
                self.delete_function(name);
                Ok(())
            }
            Step::PutFunctionConcurrency { name, reserved } => self.set_reserved(name, Some(*reserved)),
            Step::DeleteFunctionConcurrency { name } => self.set_reserved(name, None),
            Step::PublishVersion { name, code_sha256, revision_id } => {
                self.publish(name, code_sha256, revision_id)
            }
            Step::DeleteVersion { name, version } => self.delete_version(name, *version),
            Step::PutProvisionedConcurrency { name, version, count } => {
                self.put_provisioned(name, *version, *count)
            }
            Step::DeleteProvisionedConcurrency { name, version } => {
                self.delete_provisioned(name, *version);
                Ok(())
            }
            Step::CreateAlias { function, version, description } => {
                self.create_alias(function, *version, description)
            }
            Step::UpdateAlias { function, version, second, description, revision_id, .. } => {
                self.update_alias(function, *version, *second, description, revision_id)
            }
            Step::DeleteAlias { function } => self.delete_alias(function),
            Step::CreateFunctionUrl { function, auth_type } => self.create_url(function, auth_type),
            Step::UpdateFunctionUrl { function, auth_type } => self.update_url(function, auth_type),
            Step::DeleteFunctionUrl { function } => {
                self.delete_url(function);
                Ok(())
            }
            Step::AddPermission { function, permission } => self.add_permission(function, *permission),
            Step::RemovePermission { function, statement } => {
                self.remove_permission(function, statement);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
