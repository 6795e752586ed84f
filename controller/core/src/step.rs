//! A step is one write to AWS, with everything that it needs and a token of its own where the API
//! takes one. Tokens come from the object's UID and the content, never from the clock.

use std::fmt;

use larder_contract::sync::SyncRequest;

use crate::endpoint::{AccessPointSpec, Architecture};
use crate::names::Owner;
use crate::observed::{Code, FunctionConfig, Package};

/// One write to AWS. Each is named after its API operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `CreateFileSystem`
    CreateFileSystem {
        /// `CreationToken` and `Name` tag.
        token: String,
        /// Owner tag.
        owner: Owner,
        /// `elastic` or `bursting`.
        throughput_mode: &'static str,
        /// Encrypted at rest.
        encrypted: bool,
        /// KMS key.
        kms_key_id: Option<String>,
    },
    /// `UpdateFileSystem`
    UpdateFileSystem {
        /// Its id.
        id: String,
        /// `elastic` or `bursting`.
        throughput_mode: &'static str,
    },
    /// `DeleteFileSystem`
    DeleteFileSystem {
        /// Its id.
        id: String,
    },
    /// `CreateMountTarget`
    CreateMountTarget {
        /// The file system.
        file_system: String,
        /// The subnet.
        subnet: String,
        /// Its zone, for people.
        zone: String,
        /// Security groups.
        security_groups: Vec<String>,
    },
    /// `ModifyMountTargetSecurityGroups`
    SetMountTargetSecurityGroups {
        /// The mount target.
        id: String,
        /// Security groups.
        security_groups: Vec<String>,
    },
    /// `DeleteMountTarget`
    DeleteMountTarget {
        /// Its id.
        id: String,
    },
    /// `CreateAccessPoint`
    CreateAccessPoint {
        /// `ClientToken`.
        token: String,
        /// Owner tag.
        owner: Owner,
        /// The file system.
        file_system: String,
        /// Root and POSIX user.
        spec: AccessPointSpec,
    },
    /// `DeleteAccessPoint`
    DeleteAccessPoint {
        /// Its id.
        id: String,
    },
    /// `CreateLogGroup`
    CreateLogGroup {
        /// Its name.
        name: String,
        /// Owner tag.
        owner: Owner,
    },
    /// `PutRetentionPolicy`
    PutRetentionPolicy {
        /// The log group.
        name: String,
        /// Days.
        days: i32,
    },
    /// `DeleteLogGroup`
    DeleteLogGroup {
        /// Its name.
        name: String,
    },
    /// `CreateFunction`
    CreateFunction {
        /// Its name.
        name: String,
        /// Owner tag.
        owner: Owner,
        /// Code.
        code: Code,
        /// Processor.
        architecture: Architecture,
        /// Settings.
        config: FunctionConfig,
    },
    /// `UpdateFunctionCode`
    UpdateFunctionCode {
        /// Its name.
        name: String,
        /// Code.
        code: Code,
        /// Processor.
        architecture: Architecture,
        /// Precondition.
        revision_id: String,
    },
    /// `UpdateFunctionConfiguration`
    UpdateFunctionConfiguration {
        /// Its name.
        name: String,
        /// Settings.
        config: FunctionConfig,
        /// What differs, for people: `memory 1024 → 2048 MiB`.
        changes: Vec<String>,
        /// Precondition.
        revision_id: String,
    },
    /// `DeleteFunction`, with all its versions.
    DeleteFunction {
        /// Its name.
        name: String,
    },
    /// `PutFunctionConcurrency`
    PutFunctionConcurrency {
        /// The function.
        name: String,
        /// The most at once.
        reserved: i32,
    },
    /// `DeleteFunctionConcurrency`
    DeleteFunctionConcurrency {
        /// The function.
        name: String,
    },
    /// An asynchronous `Invoke` of the model-sync function.
    StartSync {
        /// The function.
        function: String,
        /// What to make present.
        request: SyncRequest,
    },
    /// `PublishVersion`
    PublishVersion {
        /// The function.
        name: String,
        /// Precondition, where Lambda says one.
        code_sha256: String,
        /// Precondition.
        revision_id: String,
    },
    /// `DeleteFunction` with a qualifier.
    DeleteVersion {
        /// The function.
        name: String,
        /// The version.
        version: u64,
    },
    /// `PutProvisionedConcurrencyConfig`
    PutProvisionedConcurrency {
        /// The function.
        name: String,
        /// The version.
        version: u64,
        /// Warm sandboxes.
        count: i32,
    },
    /// `DeleteProvisionedConcurrencyConfig`
    DeleteProvisionedConcurrency {
        /// The function.
        name: String,
        /// The version.
        version: u64,
    },
    /// `CreateAlias`
    CreateAlias {
        /// The function.
        function: String,
        /// The version.
        version: u64,
    },
    /// `UpdateAlias`
    UpdateAlias {
        /// The function.
        function: String,
        /// The version that it points at now.
        from: u64,
        /// The version.
        version: u64,
        /// Precondition.
        revision_id: String,
    },
    /// `DeleteAlias`
    DeleteAlias {
        /// The function.
        function: String,
    },
    /// `CreateFunctionUrlConfig`
    CreateFunctionUrl {
        /// The function.
        function: String,
        /// `AWS_IAM` or `NONE`.
        auth_type: &'static str,
    },
    /// `UpdateFunctionUrlConfig`
    UpdateFunctionUrl {
        /// The function.
        function: String,
        /// `AWS_IAM` or `NONE`.
        auth_type: &'static str,
    },
    /// `DeleteFunctionUrlConfig`
    DeleteFunctionUrl {
        /// The function.
        function: String,
    },
    /// `AddPermission`
    AddPermission {
        /// The function.
        function: String,
        /// What is allowed to whom.
        permission: Permission,
    },
    /// `RemovePermission`
    RemovePermission {
        /// The function.
        function: String,
        /// The statement's id.
        statement: String,
    },
}

/// A statement of the alias's resource policy. Both are needed before a function URL answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// `lambda:InvokeFunctionUrl`, or `lambda:InvokeFunction` on condition of a function URL.
    pub action: PermissionAction,
    /// Everyone, or the function's own account.
    pub public: bool,
}

/// The actions that a function URL needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionAction {
    /// `lambda:InvokeFunctionUrl`
    InvokeFunctionUrl,
    /// `lambda:InvokeFunction` with `InvokedViaFunctionUrl`
    InvokeFunction,
}

impl Permission {
    /// The statement's id. It tells the statement's whole content, so a differing one has another id.
    #[must_use]
    pub const fn statement(self) -> &'static str {
        match (self.action, self.public) {
            (PermissionAction::InvokeFunctionUrl, true) => "larder-url-public",
            (PermissionAction::InvokeFunctionUrl, false) => "larder-url-account",
            (PermissionAction::InvokeFunction, true) => "larder-invoke-public",
            (PermissionAction::InvokeFunction, false) => "larder-invoke-account",
        }
    }
}

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
            | Self::AddPermission { .. } => Effect::Creates,
            Self::UpdateFileSystem { .. }
            | Self::SetMountTargetSecurityGroups { .. }
            | Self::PutRetentionPolicy { .. }
            | Self::UpdateFunctionCode { .. }
            | Self::UpdateFunctionConfiguration { .. }
            | Self::PutFunctionConcurrency { .. }
            | Self::PutProvisionedConcurrency { .. }
            | Self::UpdateAlias { .. }
            | Self::UpdateFunctionUrl { .. } => Effect::Changes,
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
            | Self::RemovePermission { .. } => Effect::Deletes,
            Self::StartSync { .. } => Effect::Runs,
        }
    }
}

impl fmt::Display for Step {
    /// The step in words, without its mark: `create file system larder-…: elastic, encrypted`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
                write!(f, "update the configuration of function {name}: {}", changes.join("; "))
            }
            Self::DeleteFunction { name } => write!(f, "delete function {name} with all its versions"),
            Self::PutFunctionConcurrency { name, reserved } => {
                write!(f, "reserve a concurrency of {reserved} for function {name}")
            }
            Self::DeleteFunctionConcurrency { name } => {
                write!(f, "take the reserved concurrency from function {name}")
            }
            Self::StartSync { function, request } => {
                write!(f, "sync the models of manifest {}", request.manifest.digest().short())?;
                write!(f, " with function {function}:")?;
                request
                    .manifest
                    .models
                    .iter()
                    .try_for_each(|m| write!(f, " {}@{}", m.name, m.revision.short()))
            }
            Self::PublishVersion { name, .. } => write!(f, "publish a version of function {name}"),
            Self::DeleteVersion { name, version } => write!(f, "delete version {version} of function {name}"),
            Self::PutProvisionedConcurrency { name, version, count } => {
                write!(f, "keep {count} sandboxes of version {version} of function {name} warm")
            }
            Self::DeleteProvisionedConcurrency { name, version } => {
                write!(f, "stop keeping version {version} of function {name} warm")
            }
            Self::CreateAlias { function, version } => {
                write!(f, "create alias {} of function {function} at version {version}", crate::names::ALIAS)
            }
            Self::UpdateAlias { function, from, version, .. } => write!(
                f,
                "move alias {} of function {function} from version {from} to {version}",
                crate::names::ALIAS
            ),
            Self::DeleteAlias { function } => {
                write!(f, "delete alias {} of function {function}", crate::names::ALIAS)
            }
            Self::CreateFunctionUrl { function, auth_type } => {
                write!(f, "create function URL of {function} with authorisation {auth_type}")
            }
            Self::UpdateFunctionUrl { function, auth_type } => {
                write!(f, "set the authorisation of the function URL of {function} to {auth_type}")
            }
            Self::DeleteFunctionUrl { function } => write!(f, "delete the function URL of {function}"),
            Self::AddPermission { function, permission } => {
                write!(f, "add permission {} to function {function}", permission.statement())
            }
            Self::RemovePermission { function, statement } => {
                write!(f, "remove permission {statement} from function {function}")
            }
        }
    }
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
