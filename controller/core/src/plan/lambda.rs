//! Brings one Lambda function to what is wanted, or takes it away. Both functions go through here.

use std::collections::BTreeSet;

use super::adopt::foreign;
use super::rollout::elapsed;
use super::{Plan, Reason};
use crate::desired::{Desired, FunctionWant};
use crate::endpoint::CodeRef;
use crate::names::Names;
use crate::observed::{
    Code, Function, FunctionConfig, LastUpdate, LogGroup, Observed, ObservedFunction, Read, Remote, Start,
};
use crate::retry::Class;
use crate::step::{Change, Step, Tagged};

/// The settings of a wanted function.
pub(super) fn config(want: &FunctionWant, network: &Desired, access_point: &str) -> FunctionConfig {
    FunctionConfig {
        role: want.role_arn.clone(),
        memory_mib: want.memory_mib,
        timeout_seconds: want.timeout_seconds,
        ephemeral_mib: want.ephemeral_mib,
        env: want.env.clone(),
        subnets: network.subnets.clone(),
        security_groups: network.security_groups.clone(),
        mount: Some((access_point.to_owned(), larder_contract::layout::MOUNT_PATH.to_owned())),
        start: match want.code {
            CodeRef::Image(_) => Start::default(),
            CodeRef::Zip { .. } => Start::archive(),
        },
    }
}

/// The function, once its code and settings are as wanted and it is idle; until then what is to be done.
pub(super) fn converge<'a>(
    want: &FunctionWant,
    config: FunctionConfig,
    seen: &'a ObservedFunction,
    (desired, observed): (&Desired, &Observed),
) -> Result<&'a Function, Plan> {
    let code = seen.code.as_ref().map_err(|problem| match problem.class {
        Class::NotFound => Plan::blocked(Reason::CodeNotFound, problem.class, problem.to_string()),
        Class::Conflict
        | Class::Throttled
        | Class::Transient
        | Class::Denied
        | Class::Invalid
        | Class::Quota
        | Class::Cooldown => Plan::from(problem),
    })?;
    let name = &want.name;
    let function = match seen.function.as_ref().map_err(Plan::from)? {
        Remote::Ready(it) => it,
        Remote::Absent => {
            return Err(Plan::Do(vec![Step::CreateFunction {
                name: name.clone(),
                owner: desired.names.owner.clone(),
                code: code.clone(),
                architecture: want.architecture,
                config,
            }]));
        }
        Remote::Pending(it) => {
            return Err(awaited(desired, observed, it, format!("function {name} to be active")));
        }
        Remote::Deleting(_) => {
            return Err(Plan::wait(
                Reason::Waiting,
                format!("function {name} to be gone before it is made again"),
            ));
        }
        // A function whose creation failed cannot be updated: it is made again.
        Remote::Failed { reason, .. } => {
            return Err(Plan::Retry {
                steps: vec![Step::DeleteFunction { name: name.clone() }],
                reason: Reason::FunctionFailed,
                message: format!("function {name} failed: {reason}; it is deleted and made again"),
            });
        }
        Remote::Foreign { owner, id } => {
            let resource = format!("function {name}");
            return Err(foreign(desired, observed, Tagged::Function, &resource, (owner, id)));
        }
    };
    if function.last_update == LastUpdate::InProgress {
        return Err(awaited(desired, observed, function, format!("the update of function {name}")));
    }
    update(want, &config, code, function)?;
    Ok(function)
}

/// A wait for what AWS is at with a function or a version since it was last changed, which is said to be stuck when it
/// takes longer than a rollout may.
pub(super) fn awaited(desired: &Desired, observed: &Observed, function: &Function, on: String) -> Plan {
    let deadline = desired.rollout.progress_deadline;
    if function.modified.is_none_or(|since| elapsed(since, observed.at) <= deadline) {
        return Plan::wait(Reason::Waiting, on);
    }
    Plan::blocked(
        Reason::ProgressDeadlineExceeded,
        Class::Transient,
        format!(
            "waiting for {on} since {}, longer than progressDeadlineSeconds, {} s; traffic stays where it was; see State, StateReason and LastUpdateStatusReason in aws lambda get-function-configuration, and the role, subnets and security groups",
            function.last_modified,
            deadline.as_secs()
        ),
    )
}

/// The log group, which comes before the function: Lambda would make one without our tag at the first invoke.
pub(super) fn log_group(
    want: &FunctionWant,
    seen: &Read<Remote<LogGroup>>,
    (desired, observed): (&Desired, &Observed),
) -> Result<(), Plan> {
    let name = Names::log_group(&want.name);
    match seen.as_ref().map_err(Plan::from)? {
        Remote::Absent => {
            let owner = desired.names.owner.clone();
            let days = want.log_retention_days;
            let create = Step::CreateLogGroup { name: name.clone(), owner };
            Err(Plan::Do(vec![create, Step::PutRetentionPolicy { name, days }]))
        }
        Remote::Foreign { owner, id } => {
            let resource = format!("log group {name}");
            Err(foreign(desired, observed, Tagged::LogGroup, &resource, (owner, id)))
        }
        Remote::Ready(it) | Remote::Pending(it) | Remote::Deleting(it) | Remote::Failed { it, .. } => {
            if it.retention_days == Some(want.log_retention_days) {
                return Ok(());
            }
            Err(Plan::Do(vec![Step::PutRetentionPolicy { name, days: want.log_retention_days }]))
        }
    }
}

/// Code first, then configuration, never both: each blocks the other until it is through. The function is idle.
fn update(
    want: &FunctionWant,
    config: &FunctionConfig,
    code: &Code,
    function: &Function,
) -> Result<(), Plan> {
    let name = want.name.clone();
    let revision_id = function.revision_id.clone();
    let is_code_current = function.code_digest == code.digest && function.architecture == want.architecture;
    let changes = changes(&function.config, config);
    let step = if !is_code_current {
        Step::UpdateFunctionCode { name, code: code.clone(), architecture: want.architecture, revision_id }
    } else if !changes.is_empty() {
        Step::UpdateFunctionConfiguration { name, config: config.clone(), changes, revision_id }
    } else if matches!(function.last_update, LastUpdate::Failed(_)) {
        let changes = Vec::new();
        Step::UpdateFunctionConfiguration { name, config: config.clone(), changes, revision_id }
    } else {
        return Ok(());
    };
    Err(match &function.last_update {
        LastUpdate::Failed(why) => Plan::Retry {
            steps: vec![step],
            reason: Reason::FunctionFailed,
            message: format!("the last update of function {} failed: {why}", want.name),
        },
        LastUpdate::Successful | LastUpdate::InProgress => Plan::Do(vec![step]),
    })
}

/// What differs. Empty exactly when `have == want`.
pub(super) fn changes(have: &FunctionConfig, want: &FunctionConfig) -> Vec<Change> {
    let number = |field: &str, have: i32, want: i32, unit: &'static str| {
        Change::between(field, have.to_string(), want.to_string()).map(|change| Change { unit, ..change })
    };
    let text = |field: &str, have: &str, want: &str| Change::between(field, have.to_owned(), want.to_owned());
    let ids = |field: &str, have: &BTreeSet<String>, want: &BTreeSet<String>| {
        let joined = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        Change::between(field, joined(have), joined(want))
    };
    let list = |field: &str, have: &[String], want: &[String]| {
        Change::between(field, have.join(","), want.join(","))
    };
    let mounted = |mount: &Option<(String, String)>| {
        mount.as_ref().map_or_else(String::new, |(arn, path)| format!("{arn} at {path}"))
    };
    let changes = [
        number("memory", have.memory_mib, want.memory_mib, " MiB"),
        number("timeout", have.timeout_seconds, want.timeout_seconds, " s"),
        number("ephemeral storage", have.ephemeral_mib, want.ephemeral_mib, " MiB"),
        text("role", &have.role, &want.role),
        ids("subnets", &have.subnets, &want.subnets),
        ids("security groups", &have.security_groups, &want.security_groups),
        text("mount", &mounted(&have.mount), &mounted(&want.mount)),
        text("runtime", &have.start.runtime, &want.start.runtime),
        text("handler", &have.start.handler, &want.start.handler),
        list("layers", &have.start.layers, &want.start.layers),
        list("image overrides", &have.start.overrides, &want.start.overrides),
    ];
    let names: BTreeSet<&String> = have.env.keys().chain(want.env.keys()).collect();
    let variables =
        names.into_iter().filter_map(|name| variable(name, have.env.get(name), want.env.get(name)));
    changes.into_iter().flatten().chain(variables).collect()
}

/// Values may be secrets: the controller's own are shown, the user's are not.
fn variable(name: &str, have: Option<&String>, want: Option<&String>) -> Option<Change> {
    if have == want {
        return None;
    }
    if let (Some(have), Some(want)) = (have, want)
        && name == larder_contract::layout::ENV_MANIFEST
    {
        return Change::between("manifest", short(have).to_owned(), short(want).to_owned());
    }
    let shown = |value: Option<&String>, there: &str| value.map_or_else(String::new, |_| there.to_owned());
    let (have, want) = (shown(have, Change::ANOTHER), shown(want, "as wanted"));
    Some(Change { field: format!("environment variable {name}"), have, want, unit: "" })
}

fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

/// What brings the reserved concurrency of a function to what is wanted.
pub(super) fn reserve(name: &str, wanted: Option<i32>, function: &Function) -> Option<Step> {
    let name = name.to_owned();
    match (wanted, function.reserved) {
        (want, have) if want == have => None,
        (Some(reserved), _) => Some(Step::PutFunctionConcurrency { name, reserved }),
        (None, _) => Some(Step::DeleteFunctionConcurrency { name }),
    }
}

/// Takes the function away, then its log group.
pub(super) fn remove(name: &str, seen: &ObservedFunction) -> Plan {
    match &seen.function {
        Err(problem) => return problem.into(),
        Ok(Remote::Ready(_) | Remote::Pending(_) | Remote::Failed { .. }) => {
            return Plan::Do(vec![Step::DeleteFunction { name: name.to_owned() }]);
        }
        Ok(Remote::Deleting(_)) => {
            return Plan::wait(Reason::WaitingForDeletion, format!("function {name} to be gone"));
        }
        Ok(Remote::Absent | Remote::Foreign { .. }) => {}
    }
    match &seen.log_group {
        Err(problem) => problem.into(),
        Ok(Remote::Absent | Remote::Foreign { .. }) => Plan::Converged,
        Ok(Remote::Ready(_) | Remote::Pending(_) | Remote::Deleting(_) | Remote::Failed { .. }) => {
            Plan::Do(vec![Step::DeleteLogGroup { name: Names::log_group(name) }])
        }
    }
}
