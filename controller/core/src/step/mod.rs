//! A step is one write to AWS, with everything that it needs and a token of its own where the API
//! takes one. Tokens come from the object's UID and the content, never from the clock.

use larder_contract::sync::SyncRequest;
use larder_contract::upkeep::{CollectRequest, VerifyRequest};

use crate::endpoint::{AccessPointSpec, Architecture};
use crate::names::Owner;
use crate::observed::{Code, FunctionConfig};

mod operation;
mod words;

pub use words::Effect;

/// One write to AWS. Each is named after its API operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `TagResource`: the owner tag, of what is taken over.
    TagResource {
        /// What it is.
        tagged: Tagged,
        /// What its tags are set by: an ARN, or an id of EFS.
        id: String,
        /// What it is called, for people.
        resource: String,
        /// The owner tag that it has; empty for none.
        from: String,
        /// Owner tag.
        owner: Owner,
    },
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
        /// What differs, for people; empty when the last update is made again, since it failed.
        changes: Vec<Change>,
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
    /// An `Invoke` of the model-sync function.
    Collect {
        /// The function.
        function: String,
        /// What to mark and delete.
        request: CollectRequest,
    },
    /// An asynchronous `Invoke` of the model-sync function.
    Verify {
        /// The function.
        function: String,
        /// What to read again.
        request: VerifyRequest,
    },
    /// An asynchronous `Invoke` of a version of the inference function, with [`Operation::Prepare`].
    ///
    /// [`Operation::Prepare`]: larder_contract::operation::Operation::Prepare
    PrepareModels {
        /// The function.
        function: String,
        /// The version.
        version: u64,
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
        /// What is remembered of the rollout.
        description: String,
    },
    /// `UpdateAlias`
    UpdateAlias {
        /// The function.
        function: String,
        /// The version that it points at now.
        from: u64,
        /// The version.
        version: u64,
        /// Another version with a share of the requests, in percent.
        second: Option<(u64, u8)>,
        /// What is remembered of the rollout.
        description: String,
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
    /// `CreateQueue`
    CreateQueue {
        /// Its name.
        name: String,
        /// Owner tag.
        owner: Owner,
    },
    /// `SetQueueAttributes`: the policy that lets Larder's rules send.
    SetQueuePolicy {
        /// Its URL.
        url: String,
        /// Its ARN.
        arn: String,
    },
    /// `DeleteQueue`
    DeleteQueue {
        /// Its URL.
        url: String,
    },
    /// `PutRule`
    PutRule {
        /// Its name.
        name: String,
        /// Owner tag.
        owner: Owner,
        /// What it matches, as JSON.
        pattern: String,
        /// There is none yet: tags are taken only then.
        is_new: bool,
    },
    /// `PutTargets`
    PutTarget {
        /// The rule.
        rule: String,
        /// Where it sends.
        queue_arn: String,
    },
    /// `RemoveTargets`
    RemoveTargets {
        /// The rule.
        rule: String,
        /// Their ids.
        targets: Vec<String>,
    },
    /// `DeleteRule`
    DeleteRule {
        /// Its name.
        name: String,
    },
    /// `PutBucketNotificationConfiguration`: what is there, and events to Amazon `EventBridge`.
    EnableBucketEvents {
        /// The bucket.
        bucket: String,
    },
}

/// What can be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagged {
    /// A file system of EFS, by id.
    FileSystem,
    /// An access point of EFS, by id.
    AccessPoint,
    /// A function, by ARN.
    Function,
    /// A log group, by ARN.
    LogGroup,
    /// A rule, by ARN.
    Rule,
}

/// One field of a resource that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The field, such as `memory`.
    pub field: String,
    /// What it is; empty when it is not there.
    pub have: String,
    /// What is wanted; empty when it is not to be there.
    pub want: String,
    /// The unit of both, with its space.
    pub unit: &'static str,
}

impl Change {
    /// What is shown of a value that may be a secret.
    pub(crate) const ANOTHER: &'static str = "another value";

    /// The change of a field, if it is one.
    pub(crate) fn between(field: &str, have: String, want: String) -> Option<Self> {
        (have != want).then(|| Self { field: field.to_owned(), have, want, unit: "" })
    }
}

impl std::fmt::Display for Change {
    /// `memory 1024 → 2048 MiB`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { field, have, want, unit } = self;
        match (have.as_str(), want.as_str()) {
            ("", _) => write!(f, "{field} added"),
            (_, "") => write!(f, "{field} removed"),
            (Self::ANOTHER, _) => write!(f, "{field} changed"),
            (have, want) => write!(f, "{field} {have} → {want}{unit}"),
        }
    }
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
    /// All that there are.
    pub const ALL: [Self; 4] = [
        Self { action: PermissionAction::InvokeFunctionUrl, public: true },
        Self { action: PermissionAction::InvokeFunctionUrl, public: false },
        Self { action: PermissionAction::InvokeFunction, public: true },
        Self { action: PermissionAction::InvokeFunction, public: false },
    ];

    /// The one that a statement's id names.
    #[must_use]
    pub fn named(statement: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.statement() == statement)
    }

    /// What it allows, as policies write it.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self.action {
            PermissionAction::InvokeFunctionUrl => "lambda:InvokeFunctionUrl",
            PermissionAction::InvokeFunction => "lambda:InvokeFunction",
        }
    }

    /// The one condition on which it does so: operator, key and value. Without it everyone might invoke the function by
    /// other ways than its URL.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html>
    #[must_use]
    pub const fn condition(self) -> (&'static str, &'static str, &'static str) {
        match (self.action, self.public) {
            (PermissionAction::InvokeFunctionUrl, true) => {
                ("StringEquals", "lambda:FunctionUrlAuthType", "NONE")
            }
            (PermissionAction::InvokeFunctionUrl, false) => {
                ("StringEquals", "lambda:FunctionUrlAuthType", "AWS_IAM")
            }
            (PermissionAction::InvokeFunction, _) => ("Bool", "lambda:InvokedViaFunctionUrl", "true"),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html>
    #[test]
    fn a_url_needs_two_permissions_each_on_its_condition() {
        let all = Permission::ALL.map(|it| (it.statement(), it.action(), it.condition()));
        let auth = |type_| ("StringEquals", "lambda:FunctionUrlAuthType", type_);
        let by_url = ("Bool", "lambda:InvokedViaFunctionUrl", "true");
        let want = [
            ("larder-url-public", "lambda:InvokeFunctionUrl", auth("NONE")),
            ("larder-url-account", "lambda:InvokeFunctionUrl", auth("AWS_IAM")),
            ("larder-invoke-public", "lambda:InvokeFunction", by_url),
            ("larder-invoke-account", "lambda:InvokeFunction", by_url),
        ];
        assert_eq!(all, want);
        assert!(Permission::ALL.iter().all(|it| Permission::named(it.statement()) == Some(*it)));
        assert_eq!(Permission::named("larder-invoke"), None);
    }
}
