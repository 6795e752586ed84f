//! What a step tells of what differs.

use std::fmt;

use crate::observed::{Function, Observed, Remote};
use crate::step::Step;

/// A field of a resource that is not as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The resource, such as `function larder-vision-signs-…`.
    pub resource: String,
    /// The field, such as `memory`; `existence` of what is gone, or too much.
    pub field: String,
    /// What is wanted.
    pub want: String,
    /// What is there.
    pub have: String,
    /// The API operation with which somebody has changed it.
    pub operation: &'static str,
}

impl Difference {
    pub(super) fn is_about_the_same(&self, other: &Self) -> bool {
        self.resource == other.resource && self.field == other.field
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} is {}, not {}", self.resource, self.field, self.have, self.want)
    }
}

fn gone(resource: String, operation: &'static str) -> Vec<Difference> {
    let (want, have) = ("there".to_owned(), "gone".to_owned());
    vec![Difference { resource, field: "existence".to_owned(), want, have, operation }]
}

fn surplus(resource: String, operation: &'static str) -> Vec<Difference> {
    let (want, have) = ("none".to_owned(), "there".to_owned());
    vec![Difference { resource, field: "existence".to_owned(), want, have, operation }]
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers and texts alike read best without their references"
)]
fn field(
    resource: &str,
    field: &str,
    want: impl ToString,
    have: Option<impl ToString>,
    operation: &'static str,
) -> Option<Difference> {
    let (want, have) = (want.to_string(), have.map_or_else(|| "not set".to_owned(), |have| have.to_string()));
    let (resource, field) = (resource.to_owned(), field.to_owned());
    (want != have).then_some(Difference { resource, field, want, have, operation })
}

/// What the differences are for which `step` would be taken, at what was `seen`. Empty for a step that mends none.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one arm for each step; a table reads best in one piece")]
pub fn differences(step: &Step, seen: &Observed) -> Vec<Difference> {
    match step {
        Step::TagResource { resource, from, owner, .. } => {
            let have = Some(from).filter(|from| !from.is_empty());
            field(resource, "owner tag", owner, have, "UntagResource").into_iter().collect()
        }
        Step::CreateFileSystem { token, .. } => gone(format!("file system {token}"), "DeleteFileSystem"),
        Step::UpdateFileSystem { id, throughput_mode } => {
            let have = seen.file_system.as_ref().ok().and_then(Remote::ours).map(|it| &it.throughput_mode);
            let resource = format!("file system {id}");
            field(&resource, "throughput mode", throughput_mode, have, "UpdateFileSystem")
                .into_iter()
                .collect()
        }
        Step::DeleteFileSystem { id } => surplus(format!("file system {id}"), "CreateFileSystem"),
        Step::CreateMountTarget { file_system, zone, .. } => {
            gone(format!("mount target of {file_system} in {zone}"), "DeleteMountTarget")
        }
        Step::SetMountTargetSecurityGroups { id, security_groups } => {
            let have = seen.mount_targets.iter().flatten().find(|mt| mt.id == *id);
            let have = have.map(|mt| mt.security_groups.iter().cloned().collect::<Vec<_>>().join(","));
            let (resource, want) = (format!("mount target {id}"), security_groups.join(","));
            field(&resource, "security groups", want, have, "ModifyMountTargetSecurityGroups")
                .into_iter()
                .collect()
        }
        Step::DeleteMountTarget { id } => surplus(format!("mount target {id}"), "CreateMountTarget"),
        Step::CreateAccessPoint { token, .. } => gone(format!("access point {token}"), "DeleteAccessPoint"),
        Step::DeleteAccessPoint { id } => surplus(format!("access point {id}"), "CreateAccessPoint"),
        Step::CreateLogGroup { name, .. } => gone(format!("log group {name}"), "DeleteLogGroup"),
        Step::PutRetentionPolicy { name, days } => {
            let of = if name.ends_with("-sync") { &seen.sync } else { &seen.inference };
            // One that is to be made anew says so itself.
            let Some(group) = of.log_group.as_ref().ok().and_then(Remote::ours) else { return Vec::new() };
            let (resource, have) = (format!("log group {name}"), group.retention_days);
            field(&resource, "retention in days", days, have, "PutRetentionPolicy").into_iter().collect()
        }
        Step::DeleteLogGroup { name } => surplus(format!("log group {name}"), "CreateLogGroup"),
        Step::CreateFunction { name, .. } => gone(format!("function {name}"), "DeleteFunction"),
        Step::UpdateFunctionCode { name, code, architecture, .. } => {
            let (resource, have) = (format!("function {name}"), function(seen, name));
            let code =
                field(&resource, "code", &code.digest, have.map(|it| &it.code_digest), "UpdateFunctionCode");
            let have = have.map(|it| it.architecture.as_str());
            let processor =
                field(&resource, "architecture", architecture.as_str(), have, "UpdateFunctionCode");
            code.into_iter().chain(processor).collect()
        }
        Step::UpdateFunctionConfiguration { name, changes, .. } => changes
            .iter()
            .map(|change| {
                let shown = |value: &str| {
                    if value.is_empty() { "not set".to_owned() } else { format!("{value}{}", change.unit) }
                };
                Difference {
                    resource: format!("function {name}"),
                    field: change.field.clone(),
                    want: shown(&change.want),
                    have: shown(&change.have),
                    operation: "UpdateFunctionConfiguration",
                }
            })
            .collect(),
        Step::DeleteFunction { name } => surplus(format!("function {name}"), "CreateFunction"),
        Step::PutFunctionConcurrency { name, reserved } => {
            let have = function(seen, name).and_then(|it| it.reserved);
            let resource = format!("function {name}");
            field(&resource, "reserved concurrency", reserved, have, "PutFunctionConcurrency")
                .into_iter()
                .collect()
        }
        Step::DeleteFunctionConcurrency { name } => {
            let have = function(seen, name).and_then(|it| it.reserved);
            let resource = format!("function {name}");
            field(&resource, "reserved concurrency", "not set", have, "PutFunctionConcurrency")
                .into_iter()
                .collect()
        }
        Step::StartSync { request, .. } => {
            gone(format!("models of manifest {}", request.manifest.digest().short()), "ClientWrite of EFS")
        }
        Step::Collect { .. } | Step::Verify { .. } | Step::PrepareModels { .. } => Vec::new(),
        Step::PublishVersion { name, .. } => {
            gone(format!("wanted version of function {name}"), "DeleteFunction")
        }
        Step::DeleteVersion { name, version } => {
            surplus(format!("version {version} of function {name}"), "PublishVersion")
        }
        Step::PutProvisionedConcurrency { name, version, count } => {
            let have = provisioned(seen, *version);
            let resource = format!("version {version} of function {name}");
            field(&resource, "provisioned concurrency", count, have, "PutProvisionedConcurrencyConfig")
                .into_iter()
                .collect()
        }
        Step::DeleteProvisionedConcurrency { name, version } => {
            let have = provisioned(seen, *version);
            let resource = format!("version {version} of function {name}");
            field(&resource, "provisioned concurrency", "not set", have, "PutProvisionedConcurrencyConfig")
                .into_iter()
                .collect()
        }
        Step::CreateAlias { function, .. } => gone(format!("alias of function {function}"), "DeleteAlias"),
        Step::UpdateAlias { function, version, second, .. } => {
            let resource = format!("alias of function {function}");
            let alias = seen.alias.as_ref().ok().and_then(Option::as_ref);
            let target =
                field(&resource, "version", version, alias.map(|alias| alias.version), "UpdateAlias");
            let shown = |(other, percent): (u64, u8)| format!("{percent} % to version {other}");
            let want = second.map_or_else(|| "not set".to_owned(), shown);
            let have = alias.and_then(|alias| alias.second).map(shown);
            let weights = field(&resource, "weights", want, have, "UpdateAlias");
            target.into_iter().chain(weights).collect()
        }
        Step::DeleteAlias { function } => surplus(format!("alias of function {function}"), "CreateAlias"),
        Step::CreateFunctionUrl { function, .. } => {
            gone(format!("URL of function {function}"), "DeleteFunctionUrlConfig")
        }
        Step::UpdateFunctionUrl { function, auth_type } => {
            let resource = format!("URL of function {function}");
            let url = seen.url.as_ref().ok().and_then(Option::as_ref);
            let cors = url.map(|url| if url.has_cors { "set" } else { "not set" });
            let operation = "UpdateFunctionUrlConfig";
            let fields = [
                field(&resource, "authorisation", auth_type, url.map(|url| &url.auth_type), operation),
                field(
                    &resource,
                    "invoke mode",
                    crate::plan::BUFFERED,
                    url.map(|url| &url.invoke_mode),
                    operation,
                ),
                field(&resource, "CORS", "not set", cors, operation),
            ];
            fields.into_iter().flatten().collect()
        }
        Step::DeleteFunctionUrl { function } => {
            surplus(format!("URL of function {function}"), "CreateFunctionUrlConfig")
        }
        Step::AddPermission { function, permission } => {
            gone(format!("permission {} of function {function}", permission.statement()), "RemovePermission")
        }
        Step::RemovePermission { function, statement } => {
            surplus(format!("permission {statement} of function {function}, as it is"), "AddPermission")
        }
        Step::CreateQueue { name, .. } => gone(format!("queue {name}"), "DeleteQueue"),
        Step::SetQueuePolicy { arn, .. } => gone(format!("policy of queue {arn}"), "SetQueueAttributes"),
        Step::DeleteQueue { url } => surplus(format!("queue {url}"), "CreateQueue"),
        Step::PutRule { name, is_new: true, .. } => gone(format!("rule {name}"), "DeleteRule"),
        Step::PutRule { name, pattern, .. } => {
            let rule = seen.events.rule.as_ref().ok().and_then(Remote::ours);
            let state = rule.map(|rule| if rule.is_enabled { "enabled" } else { "disabled" });
            let resource = format!("rule {name}");
            let pattern = field(&resource, "pattern", pattern, rule.map(|rule| &rule.pattern), "PutRule");
            let state = field(&resource, "state", "enabled", state, "DisableRule");
            // Patterns are compared as JSON: what differs in its text only is no difference.
            state.into_iter().chain(pattern).take(1).collect()
        }
        Step::PutTarget { rule, queue_arn } => {
            let seen = seen.events.rule.as_ref().ok().and_then(Remote::ours);
            let have = seen.and_then(|it| it.targets.get(crate::plan::TARGET));
            field(&format!("rule {rule}"), "target", queue_arn, have, "PutTargets").into_iter().collect()
        }
        Step::RemoveTargets { rule, .. } => surplus(format!("targets of rule {rule}"), "PutTargets"),
        Step::DeleteRule { name } => surplus(format!("rule {name}"), "PutRule"),
        Step::EnableBucketEvents { bucket } => {
            gone(format!("events of bucket {bucket}"), "PutBucketNotificationConfiguration")
        }
    }
}

fn function<'a>(seen: &'a Observed, name: &str) -> Option<&'a Function> {
    let functions = [&seen.sync, &seen.inference].into_iter();
    functions.filter_map(|of| of.function.as_ref().ok()?.ours()).find(|it| it.name == name)
}

fn provisioned(seen: &Observed, version: u64) -> Option<i32> {
    let mut versions = seen.versions.iter().flatten();
    Some(versions.find(|it| it.number == version)?.provisioned.as_ref()?.requested)
}
