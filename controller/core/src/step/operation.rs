//! The call that a step is.

use super::Step;

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
            Self::StartSync { .. } | Self::Collect { .. } | Self::Verify { .. } => "Invoke",
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
}
