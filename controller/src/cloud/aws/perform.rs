//! Writes: every step is one call, made once.

use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::error::operation::BuildError;
use larder_core::step::Effect;
use larder_core::{Class, Step};

use super::budget::Rate;
use super::clients::Clients;
use super::error::{Call, some};
use crate::cloud::Result;

impl Clients {
    pub(super) async fn perform(&self, step: &Step) -> Result<()> {
        let done = match rate(step) {
            Some(rate) => {
                self.budget.draw(rate, &Call::new(step.operation(), step.to_string())).await?;
                self.budget.heed(rate, self.write(step).await)
            }
            None => self.write(step).await,
        };
        match step.effect() {
            Effect::Deletes => some(done).map(|_| ()), // what is gone is deleted
            Effect::Creates | Effect::Changes | Effect::Runs => done,
        }
    }

    async fn write(&self, step: &Step) -> Result<()> {
        match step {
            Step::TagResource { tagged, id, resource, from: _, owner } => {
                self.tag(*tagged, id, resource, owner).await
            }
            Step::CreateFileSystem { token, owner, throughput_mode, encrypted, kms_key_id } => {
                let key = kms_key_id.as_deref();
                self.create_file_system(token, owner, throughput_mode, *encrypted, key).await
            }
            Step::UpdateFileSystem { id, throughput_mode } => {
                self.update_file_system(id, throughput_mode).await
            }
            Step::DeleteFileSystem { id } => self.delete_file_system(id).await,
            Step::CreateMountTarget { file_system, subnet, zone: _, security_groups } => {
                self.create_mount_target(file_system, subnet, security_groups).await
            }
            Step::SetMountTargetSecurityGroups { id, security_groups } => {
                self.set_security_groups(id, security_groups).await
            }
            Step::DeleteMountTarget { id } => self.delete_mount_target(id).await,
            Step::CreateAccessPoint { token, owner, file_system, spec } => {
                self.create_access_point(token, owner, file_system, spec).await
            }
            Step::DeleteAccessPoint { id } => self.delete_access_point(id).await,
            Step::CreateLogGroup { name, owner } => self.create_log_group(name, owner).await,
            Step::PutRetentionPolicy { name, days } => self.put_retention_policy(name, *days).await,
            Step::DeleteLogGroup { name } => self.delete_log_group(name).await,
            Step::CreateFunction { name, owner, code, architecture, config } => {
                self.create_function(name, owner, code, *architecture, config).await
            }
            Step::UpdateFunctionCode { name, code, architecture, revision_id } => {
                self.update_function_code(name, code, *architecture, revision_id).await
            }
            Step::UpdateFunctionConfiguration { name, config, changes: _, revision_id } => {
                self.update_function_configuration(name, config, revision_id).await
            }
            Step::DeleteFunction { name } => self.delete_function(name, None).await,
            Step::PutFunctionConcurrency { name, reserved } => self.put_concurrency(name, *reserved).await,
            Step::DeleteFunctionConcurrency { name } => self.delete_concurrency(name).await,
            Step::StartSync { function, request } => self.start_sync(function, request).await,
            Step::Collect { function, request } => self.collect(function, request).await,
            Step::Verify { function, request } => self.start_verify(function, request).await,
            Step::PrepareModels { function, version } => self.prepare_models(function, *version).await,
            Step::PublishVersion { name, code_sha256, revision_id } => {
                self.publish_version(name, code_sha256, revision_id).await
            }
            Step::DeleteVersion { name, version } => self.delete_function(name, Some(*version)).await,
            Step::PutProvisionedConcurrency { name, version, count } => {
                self.put_provisioned(name, *version, *count).await
            }
            Step::DeleteProvisionedConcurrency { name, version } => {
                self.delete_provisioned(name, *version).await
            }
            Step::CreateAlias { function, version, description } => {
                self.create_alias(function, *version, description).await
            }
            Step::UpdateAlias { function, from: _, version, second, description, revision_id } => {
                self.update_alias(function, *version, *second, description, revision_id).await
            }
            Step::DeleteAlias { function } => self.delete_alias(function).await,
            Step::CreateFunctionUrl { function, auth_type } => self.create_url(function, auth_type).await,
            Step::UpdateFunctionUrl { function, auth_type } => self.update_url(function, auth_type).await,
            Step::DeleteFunctionUrl { function } => self.delete_url(function).await,
            Step::AddPermission { function, permission } => self.add_permission(function, *permission).await,
            Step::RemovePermission { function, statement } => {
                self.remove_permission(function, statement).await
            }
            Step::CreateQueue { name, owner } => self.create_queue(name, owner).await,
            Step::SetQueuePolicy { url, arn } => self.set_queue_policy(url, arn).await,
            Step::DeleteQueue { url } => self.delete_queue(url).await,
            Step::PutRule { name, owner, pattern, is_new } => {
                self.put_rule(name, owner, pattern, *is_new).await
            }
            Step::PutTarget { rule, queue_arn } => self.put_target(rule, queue_arn).await,
            Step::RemoveTargets { rule, targets } => self.remove_targets(rule, targets).await,
            Step::DeleteRule { name } => self.delete_rule(name).await,
            Step::EnableBucketEvents { bucket } => self.enable_bucket_events(bucket).await,
        }
    }
}

/// The rate that a step's call counts against. Invocations count against none.
fn rate(step: &Step) -> Option<Rate> {
    match step.effect() {
        Effect::Runs => None,
        Effect::Creates | Effect::Changes | Effect::Deletes => {
            Some(if step.is_of_control_plane() { Rate::Control } else { Rate::Writes })
        }
    }
}

impl Call {
    /// That it was done: what was made is read by the next pass, not from the answer.
    pub(super) fn done<T, E>(&self, answer: std::result::Result<T, SdkError<E>>) -> Result<()>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.answer(answer).map(drop)
    }

    /// What a builder of the SDK made; it fails only when a required part is missing.
    pub(super) fn built<T>(&self, made: std::result::Result<T, BuildError>) -> Result<T> {
        made.map_err(|error| self.failed(Class::Invalid, "", &error.to_string()))
    }
}
