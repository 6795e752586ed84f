//! The call that a step is, and the rate that it counts against.

use super::{Step, Tagged};

impl Step {
    /// The operation of AWS's API that it calls, such as `CreateFileSystem`.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::TagResource { .. } => "TagResource",
            Self::CreateFileSystem { .. } => "CreateFileSystem",
            Self::UpdateFileSystem { .. } => "UpdateFileSystem",
            Self::DeleteFileSystem { .. } => "DeleteFileSystem",
            Self::CreateMountTarget { .. } => "CreateMountTarget",
            Self::SetMountTargetSecurityGroups { .. } => "ModifyMountTargetSecurityGroups",
            Self::DeleteMountTarget { .. } => "DeleteMountTarget",
            Self::CreateAccessPoint { .. } => "CreateAccessPoint",
            Self::DeleteAccessPoint { .. } => "DeleteAccessPoint",
            Self::CreateLogGroup { .. } => "CreateLogGroup",
            Self::PutRetentionPolicy { .. } => "PutRetentionPolicy",
            Self::DeleteLogGroup { .. } => "DeleteLogGroup",
            Self::CreateFunction { .. } => "CreateFunction",
            Self::UpdateFunctionCode { .. } => "UpdateFunctionCode",
            Self::UpdateFunctionConfiguration { .. } => "UpdateFunctionConfiguration",
            Self::DeleteFunction { .. } | Self::DeleteVersion { .. } => "DeleteFunction",
            Self::PutFunctionConcurrency { .. } => "PutFunctionConcurrency",
            Self::DeleteFunctionConcurrency { .. } => "DeleteFunctionConcurrency",
            Self::StartSync { .. }
            | Self::Collect { .. }
            | Self::Verify { .. }
            | Self::PrepareModels { .. } => "Invoke",
            Self::PublishVersion { .. } => "PublishVersion",
            Self::PutProvisionedConcurrency { .. } => "PutProvisionedConcurrencyConfig",
            Self::DeleteProvisionedConcurrency { .. } => "DeleteProvisionedConcurrencyConfig",
            Self::CreateAlias { .. } => "CreateAlias",
            Self::UpdateAlias { .. } => "UpdateAlias",
            Self::DeleteAlias { .. } => "DeleteAlias",
            Self::CreateFunctionUrl { .. } => "CreateFunctionUrlConfig",
            Self::UpdateFunctionUrl { .. } => "UpdateFunctionUrlConfig",
            Self::DeleteFunctionUrl { .. } => "DeleteFunctionUrlConfig",
            Self::AddPermission { .. } => "AddPermission",
            Self::RemovePermission { .. } => "RemovePermission",
            Self::CreateQueue { .. } => "CreateQueue",
            Self::SetQueuePolicy { .. } => "SetQueueAttributes",
            Self::DeleteQueue { .. } => "DeleteQueue",
            Self::PutRule { .. } => "PutRule",
            Self::PutTarget { .. } => "PutTargets",
            Self::RemoveTargets { .. } => "RemoveTargets",
            Self::DeleteRule { .. } => "DeleteRule",
            Self::EnableBucketEvents { .. } => "PutBucketNotificationConfiguration",
        }
    }

    /// Whether it counts against the rate of Lambda's control plane. Invocations do not.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
    #[must_use]
    pub const fn is_of_control_plane(&self) -> bool {
        match self {
            Self::CreateFunction { .. }
            | Self::UpdateFunctionCode { .. }
            | Self::UpdateFunctionConfiguration { .. }
            | Self::DeleteFunction { .. }
            | Self::PutFunctionConcurrency { .. }
            | Self::DeleteFunctionConcurrency { .. }
            | Self::PublishVersion { .. }
            | Self::DeleteVersion { .. }
            | Self::PutProvisionedConcurrency { .. }
            | Self::DeleteProvisionedConcurrency { .. }
            | Self::CreateAlias { .. }
            | Self::UpdateAlias { .. }
            | Self::DeleteAlias { .. }
            | Self::CreateFunctionUrl { .. }
            | Self::UpdateFunctionUrl { .. }
            | Self::DeleteFunctionUrl { .. }
            | Self::AddPermission { .. }
            | Self::RemovePermission { .. }
            | Self::TagResource { tagged: Tagged::Function, .. } => true,
            Self::StartSync { .. }
            | Self::Collect { .. }
            | Self::Verify { .. }
            | Self::PrepareModels { .. }
            | Self::TagResource { .. }
            | Self::CreateFileSystem { .. }
            | Self::UpdateFileSystem { .. }
            | Self::DeleteFileSystem { .. }
            | Self::CreateMountTarget { .. }
            | Self::SetMountTargetSecurityGroups { .. }
            | Self::DeleteMountTarget { .. }
            | Self::CreateAccessPoint { .. }
            | Self::DeleteAccessPoint { .. }
            | Self::CreateLogGroup { .. }
            | Self::PutRetentionPolicy { .. }
            | Self::DeleteLogGroup { .. }
            | Self::CreateQueue { .. }
            | Self::SetQueuePolicy { .. }
            | Self::DeleteQueue { .. }
            | Self::PutRule { .. }
            | Self::PutTarget { .. }
            | Self::RemoveTargets { .. }
            | Self::DeleteRule { .. }
            | Self::EnableBucketEvents { .. } => false,
        }
    }
}
