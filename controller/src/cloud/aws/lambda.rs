//! Functions, versions, the alias, the URL and its permissions.

use std::collections::BTreeMap;

use aws_sdk_lambda::operation::get_function::GetFunctionOutput;
use aws_sdk_lambda::types::{AliasRoutingConfiguration, Cors};
use jiff::Timestamp;
use larder_core::Class;
use larder_core::names::{ALIAS, OWNER_TAG, Owner};
use larder_core::observed::{Alias, Function, FunctionUrl, Provisioned, ProvisionedStatus, Remote};
use larder_core::step::Permission;

use serde_json::Value;

use super::budget::Rate;
use super::clients::Clients;
use super::error::Call;
use super::{function, owned};
use crate::cloud::{Page, Result};

/// The beginning of the ids of our policy statements.
const STATEMENT_PREFIX: &str = "larder-";

/// The resource of a call about a function.
pub(super) fn named(function: &str) -> String {
    format!("function {function}")
}

impl Clients {
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html>
    pub(super) async fn function(&self, name: &str, owner: &Owner) -> Result<Remote<Function>> {
        let call = Call::new("GetFunction", named(name));
        self.budget.draw(Rate::GetFunction, &call).await?;
        let request = self.lambda.get_function().function_name(name);
        let Some(answer) = call.found(request.send().await)? else {
            return Ok(Remote::Absent);
        };
        // Without its tags it would look like someone else's.
        if let Some(error) = &answer.tags_error {
            let message = format!("its tags cannot be read (lambda:ListTags): {}", error.message);
            return Err(call.failed(Class::Denied, &error.error_code, &message));
        }
        let tag = owner_tag(&answer);
        let remote = function::read(answer).ok_or_else(|| call.lacks("configuration"))?;
        let arn = remote.ours().map(|it| it.arn.clone()).unwrap_or_default();
        Ok(owned(remote, owner, tag.as_deref(), &arn))
    }

    /// As [`Self::function`]. Tags are the function's alone, so a version without one is its function's.
    pub(super) async fn version(&self, name: &str, number: u64, owner: &Owner) -> Result<Remote<Function>> {
        let call = Call::new("GetFunction", format!("version {number} of function {name}"));
        self.budget.draw(Rate::GetFunction, &call).await?;
        let request = self.lambda.get_function().function_name(name).qualifier(number.to_string());
        let Some(answer) = call.found(request.send().await)? else {
            return Ok(Remote::Absent);
        };
        let tag = owner_tag(&answer);
        let remote = function::read(answer).ok_or_else(|| call.lacks("configuration"))?;
        Ok(match tag {
            Some(tag) => owned(remote, owner, Some(&tag), ""),
            None => remote,
        })
    }

    /// <https://docs.aws.amazon.com/lambda/latest/api/API_ListVersionsByFunction.html>
    pub(super) async fn version_numbers(&self, name: &str, page: Option<String>) -> Result<Page<u64>> {
        let call = Call::new("ListVersionsByFunction", named(name));
        self.budget.draw(Rate::Control, &call).await?;
        let request = self.lambda.list_versions_by_function().function_name(name).set_marker(page);
        let Some(answer) = call.found(request.send().await)? else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let versions = answer.versions.unwrap_or_default().into_iter();
        let items = versions.filter_map(|it| it.version?.parse().ok()).collect(); // not `$LATEST`
        Ok(Page { items, next: answer.next_marker.filter(|marker| !marker.is_empty()) })
    }

    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetProvisionedConcurrencyConfig.html>
    pub(super) async fn provisioned(&self, name: &str, number: u64) -> Result<Option<Provisioned>> {
        let call =
            Call::new("GetProvisionedConcurrencyConfig", format!("version {number} of function {name}"));
        self.budget.draw(Rate::Control, &call).await?;
        let request = self.lambda.get_provisioned_concurrency_config().function_name(name);
        let answer = call.found(request.qualifier(number.to_string()).send().await)?;
        Ok(answer.map(|found| Provisioned {
            requested: found.requested_provisioned_concurrent_executions.unwrap_or_default(),
            available: found.available_provisioned_concurrent_executions.unwrap_or_default(),
            status: match found.status.as_ref().map_or("", |status| status.as_str()) {
                "READY" => ProvisionedStatus::Ready,
                "FAILED" => ProvisionedStatus::Failed(found.status_reason.unwrap_or_default()),
                _ => ProvisionedStatus::InProgress,
            },
            changed: found.last_modified.as_deref().and_then(time),
        }))
    }

    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetAlias.html>
    pub(super) async fn alias(&self, name: &str) -> Result<Option<Alias>> {
        let call = Call::new("GetAlias", format!("alias {ALIAS} of function {name}"));
        self.budget.draw(Rate::Control, &call).await?;
        let answer = call.found(self.lambda.get_alias().function_name(name).name(ALIAS).send().await)?;
        Ok(answer.map(|found| Alias {
            // Someone may have pointed it at `$LATEST`: 0 is no version that we could want.
            version: found.function_version.and_then(|it| it.parse().ok()).unwrap_or_default(),
            second: found.routing_config.as_ref().and_then(second),
            description: found.description.unwrap_or_default(),
            revision_id: found.revision_id.unwrap_or_default(),
        }))
    }

    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html>
    pub(super) async fn serving(&self, name: &str) -> Result<Option<u64>> {
        let call = Call::new("GetFunction", format!("alias {ALIAS} of function {name}"));
        self.budget.draw(Rate::GetFunction, &call).await?;
        let request = self.lambda.get_function().function_name(name).qualifier(ALIAS);
        let Some(answer) = call.found(request.send().await)? else { return Ok(None) };
        let found = answer.configuration.ok_or_else(|| call.lacks("configuration"))?;
        Ok(Some(found.version.and_then(|it| it.parse().ok()).unwrap_or_default()))
    }

    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionUrlConfig.html>
    pub(super) async fn function_url(&self, name: &str) -> Result<Option<FunctionUrl>> {
        let call = Call::new("GetFunctionUrlConfig", format!("function URL of {name}"));
        self.budget.draw(Rate::Control, &call).await?;
        let request = self.lambda.get_function_url_config().function_name(name).qualifier(ALIAS);
        let answer = call.found(request.send().await)?;
        Ok(answer.map(|found| FunctionUrl {
            url: found.function_url,
            auth_type: found.auth_type.as_str().to_owned(),
            invoke_mode: found.invoke_mode.as_ref().map_or("BUFFERED", |mode| mode.as_str()).to_owned(),
            has_cors: found.cors.is_some_and(|cors| cors != Cors::builder().build()),
        }))
    }

    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetPolicy.html>
    pub(super) async fn permissions(&self, name: &str) -> Result<BTreeMap<String, bool>> {
        let call = Call::new("GetPolicy", format!("policy of alias {ALIAS} of function {name}"));
        self.budget.draw(Rate::GetPolicy, &call).await?;
        let request = self.lambda.get_policy().function_name(name).qualifier(ALIAS);
        match call.found(request.send().await)?.and_then(|answer| answer.policy) {
            Some(policy) => statements(&policy, &self.account).ok_or_else(|| call.lacks("statements")),
            None => Ok(BTreeMap::new()),
        }
    }
}

/// A time as Lambda writes it: `2026-01-31T12:00:00.000+0000`, or with a colon.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    text.parse().or_else(|_| Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text)).ok()
}

fn owner_tag(answer: &GetFunctionOutput) -> Option<String> {
    answer.tags.as_ref()?.get(OWNER_TAG).cloned()
}

/// The other version of an alias and its percentage, from its fraction of the requests.
fn second(routing: &AliasRoutingConfiguration) -> Option<(u64, u8)> {
    let (version, weight) = routing.additional_version_weights.as_ref()?.iter().next()?;
    // Through its decimal digits: a fraction as 0.07 is no exact number of percent.
    let percent = format!("{:.0}", weight * 100.0).parse().ok()?;
    Some((version.parse().ok()?, percent))
}

/// The ids of our statements in a policy's JSON, and whether each allows what its id says.
fn statements(policy: &str, account: &str) -> Option<BTreeMap<String, bool>> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let statements = policy.get("Statement")?.as_array()?.iter().filter_map(|it| {
        let id = it.get("Sid")?.as_str().filter(|id| id.starts_with(STATEMENT_PREFIX))?;
        Some((id.to_owned(), allows_as_named(it, id, account)))
    });
    Some(statements.collect())
}

fn allows_as_named(statement: &Value, id: &str, account: &str) -> bool {
    let Some(permission) = Permission::named(id) else { return false };
    // AWS writes an account as the ARN of its root, and everyone bare or by type.
    let principal = statement.get("Principal").map(|it| it.get("AWS").unwrap_or(it)).and_then(Value::as_str);
    let is_named = |principal: &str| {
        if permission.public {
            principal == "*"
        } else {
            principal == account || principal.ends_with(&format!("::{account}:root"))
        }
    };
    statement.get("Effect").and_then(Value::as_str) == Some("Allow")
        && statement.get("Action").and_then(Value::as_str) == Some(permission.action())
        && principal.is_some_and(is_named)
        && is_on_condition(statement, permission)
}

/// Whether a statement has the condition of a permission, and no other.
fn is_on_condition(statement: &Value, permission: Permission) -> bool {
    fn only<'a>(it: &'a Value, key: &str) -> Option<&'a Value> {
        it.as_object().filter(|it| it.len() == 1)?.get(key)
    }
    let (operator, key, wanted) = permission.condition();
    let value = statement.get("Condition").and_then(|it| only(it, operator)).and_then(|it| only(it, key));
    // A policy may write a truth as a text or as JSON does.
    value.is_some_and(|it| it.as_str() == Some(wanted) || (it == &Value::Bool(true) && wanted == "true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_become_percent() {
        for (weight, percent) in [(0.07, 7), (0.29, 29), (0.1, 10), (1.0, 100), (0.0, 0)] {
            let routing =
                AliasRoutingConfiguration::builder().additional_version_weights("12", weight).build();
            assert_eq!(second(&routing), Some((12, percent)));
        }
        assert_eq!(second(&AliasRoutingConfiguration::builder().build()), None);
    }

    #[test]
    fn times_are_read_as_lambda_writes_them() {
        let at = Timestamp::from_second(1_800_000_000).ok();
        for text in ["2027-01-15T08:00:00+0000", "2027-01-15T08:00:00.000+0000", "2027-01-15T08:00:00+00:00"]
        {
            assert_eq!(time(text), at, "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn only_our_statements_are_read() {
        let when = |id: &str, principal: &str, action: &str, condition: &str| {
            format!(
                r#"{{"Sid":"{id}","Effect":"Allow","Principal":{principal},"Action":"lambda:{action}"{condition}}}"#
            )
        };
        let (iam, none, via) = (
            r#","Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"AWS_IAM"}}"#,
            r#","Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}"#,
            r#","Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}"#,
        );
        let ours = |id: &str, principal: &str, action: &str| {
            let condition = match id {
                "larder-url-public" => none,
                "larder-url-account" => iam,
                _ => via,
            };
            when(id, principal, action, condition)
        };
        let of = |statement: String| format!(r#"{{"Statement":[{statement},{{"Sid":"other"}},{{}}]}}"#);
        let (url, account) = ("InvokeFunctionUrl", r#"{"AWS":"arn:aws:iam::1:root"}"#);
        let invoke = "InvokeFunction";
        for (policy, read) in [
            (of(ours("larder-url-public", r#""*""#, url)), Some(vec![("larder-url-public", true)])),
            (of(ours("larder-url-account", account, url)), Some(vec![("larder-url-account", true)])),
            (
                of(ours("larder-url-account", r#"{"AWS":"*"}"#, url)),
                Some(vec![("larder-url-account", false)]),
            ),
            (of(ours("larder-invoke-account", account, "*")), Some(vec![("larder-invoke-account", false)])),
            (of(ours("larder-else", account, url)), Some(vec![("larder-else", false)])),
            (of(ours("larder-invoke-public", r#""*""#, invoke)), Some(vec![("larder-invoke-public", true)])),
            (
                of(when("larder-invoke-public", r#""*""#, invoke, &via.replace(r#""true""#, "true"))),
                Some(vec![("larder-invoke-public", true)]),
            ),
            (
                of(when("larder-invoke-public", r#""*""#, invoke, "")),
                Some(vec![("larder-invoke-public", false)]),
            ),
            (
                of(when("larder-invoke-public", r#""*""#, invoke, &via.replace("true", "false"))),
                Some(vec![("larder-invoke-public", false)]),
            ),
            (
                of(when("larder-invoke-public", r#""*""#, invoke, none)),
                Some(vec![("larder-invoke-public", false)]),
            ),
            (of(when("larder-url-account", account, url, none)), Some(vec![("larder-url-account", false)])),
            (
                of(when("larder-url-account", account, url, &iam.replace("}}", r#","aws:x":"y"}}"#))),
                Some(vec![("larder-url-account", false)]),
            ),
            (r#"{"Statement":[]}"#.to_owned(), Some(vec![])),
            (r#"{"Version":"2012-10-17"}"#.to_owned(), None),
            ("<html>".to_owned(), None),
        ] {
            let read = read.map(|all| all.into_iter().map(|(id, is)| (id.to_owned(), is)).collect());
            assert_eq!(statements(&policy, "1"), read, "{policy}");
        }
    }
}
