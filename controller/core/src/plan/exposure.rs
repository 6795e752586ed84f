//! The function URL on the alias, and the two permissions without which it answers 403.

use std::collections::BTreeMap;

use super::{Plan, Reason, either};
use crate::desired::{Desired, Want};
use crate::endpoint::AuthType;
use crate::observed::Observed;
use crate::step::{Permission, PermissionAction, Step};

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    match &desired.url {
        Want::Leave => Plan::Converged,
        Want::Present(auth) => either(present(desired, *auth, observed)),
        Want::Absent => either(absent(desired, observed)),
    }
}

/// Lambda's word for an authorisation type.
const fn auth_name(auth: AuthType) -> &'static str {
    match auth {
        AuthType::AwsIam => "AWS_IAM",
        AuthType::None => "NONE",
    }
}

fn present(desired: &Desired, auth: AuthType, observed: &Observed) -> Result<Plan, Plan> {
    let function = &desired.names.function;
    if observed.alias.as_ref().map_err(Plan::from)?.is_none() {
        return Err(Plan::wait(Reason::WaitingForTraffic, "the alias"));
    }
    let there = observed.permissions.as_ref().map_err(Plan::from)?;
    let public = auth == AuthType::None;
    let wanted = [PermissionAction::InvokeFunctionUrl, PermissionAction::InvokeFunction]
        .map(|action| Permission { action, public });
    // What allows more than is wanted goes before anything else happens.
    let mut steps = surplus(function, there, &wanted);
    let auth_type = auth_name(auth);
    match observed.url.as_ref().map_err(Plan::from)? {
        None => steps.push(Step::CreateFunctionUrl { function: function.clone(), auth_type }),
        Some(url) if url.auth_type != auth_type || url.invoke_mode != BUFFERED || url.has_cors => {
            steps.push(Step::UpdateFunctionUrl { function: function.clone(), auth_type });
        }
        Some(_) => {}
    }
    steps.extend(
        wanted
            .into_iter()
            .filter(|permission| there.get(permission.statement()) != Some(&true))
            .map(|permission| Step::AddPermission { function: function.clone(), permission }),
    );
    Ok(Plan::of(steps))
}

/// The invoke mode in which the inference function answers.
pub(crate) const BUFFERED: &str = "BUFFERED";

/// What allows anything else than is wanted. An id tells the whole statement, so one that was changed is none of ours.
fn surplus(function: &str, there: &BTreeMap<String, bool>, wanted: &[Permission]) -> Vec<Step> {
    there
        .iter()
        .filter(|(id, is_as_named)| !**is_as_named || !wanted.iter().any(|p| p.statement() == *id))
        .map(|(statement, _)| Step::RemovePermission {
            function: function.to_owned(),
            statement: statement.clone(),
        })
        .collect()
}

fn absent(desired: &Desired, observed: &Observed) -> Result<Plan, Plan> {
    let function = &desired.names.function;
    let there = observed.permissions.as_ref().map_err(Plan::from)?;
    let mut steps = surplus(function, there, &[]);
    if observed.url.as_ref().map_err(Plan::from)?.is_some() {
        steps.push(Step::DeleteFunctionUrl { function: function.clone() });
    }
    Ok(Plan::of(steps))
}
