//! Writes to what leads requests to a version: alias, function URL and its permissions.

use aws_sdk_lambda::operation::add_permission::builders::AddPermissionFluentBuilder;
use aws_sdk_lambda::types::{AliasRoutingConfiguration, Cors, FunctionUrlAuthType, InvokeMode};
use larder_core::names::ALIAS;
use larder_core::step::{Permission, PermissionAction};

use super::clients::Clients;
use super::error::Call;
use crate::cloud::Result;

impl Clients {
    pub(super) async fn create_alias(&self, function: &str, version: u64, description: &str) -> Result<()> {
        let call = Call::new("CreateAlias", alias(function));
        let request = self.lambda.create_alias().function_name(function).name(ALIAS).description(description);
        call.done(request.function_version(version.to_string()).send().await)
    }

    /// What `second` does not take goes to `version`: another version's weight, whoever set it, is taken away.
    pub(super) async fn update_alias(
        &self,
        function: &str,
        version: u64,
        second: Option<(u64, u8)>,
        description: &str,
        revision_id: &str,
    ) -> Result<()> {
        let call = Call::new("UpdateAlias", alias(function));
        let weights = second.map(|(second, percent)| (second.to_string(), f64::from(percent) / 100.0));
        let routing = AliasRoutingConfiguration::builder()
            .set_additional_version_weights(Some(weights.into_iter().collect()));
        let request = self
            .lambda
            .update_alias()
            .function_name(function)
            .name(ALIAS)
            .function_version(version.to_string())
            .description(description)
            .routing_config(routing.build())
            .revision_id(revision_id);
        call.done(request.send().await)
    }

    pub(super) async fn delete_alias(&self, function: &str) -> Result<()> {
        let call = Call::new("DeleteAlias", alias(function));
        call.done(self.lambda.delete_alias().function_name(function).name(ALIAS).send().await)
    }

    pub(super) async fn create_url(&self, function: &str, auth_type: &str) -> Result<()> {
        let call = Call::new("CreateFunctionUrlConfig", url(function));
        let request = self.lambda.create_function_url_config().function_name(function).qualifier(ALIAS);
        call.done(request.auth_type(FunctionUrlAuthType::from(auth_type)).send().await)
    }

    pub(super) async fn update_url(&self, function: &str, auth_type: &str) -> Result<()> {
        let call = Call::new("UpdateFunctionUrlConfig", url(function));
        let request = self.lambda.update_function_url_config().function_name(function).qualifier(ALIAS);
        // An empty CORS takes away what is there; none would leave it.
        let request = request.invoke_mode(InvokeMode::Buffered).cors(Cors::builder().build());
        call.done(request.auth_type(FunctionUrlAuthType::from(auth_type)).send().await)
    }

    pub(super) async fn delete_url(&self, function: &str) -> Result<()> {
        let call = Call::new("DeleteFunctionUrlConfig", url(function));
        let request = self.lambda.delete_function_url_config().function_name(function);
        call.done(request.qualifier(ALIAS).send().await)
    }

    /// <https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html>
    pub(super) async fn add_permission(&self, function: &str, permission: Permission) -> Result<()> {
        let call = Call::new("AddPermission", statement(function, permission.statement()));
        let request = self.lambda.add_permission().function_name(function).qualifier(ALIAS);
        call.done(allow(request, permission, &self.account).send().await)
    }

    pub(super) async fn remove_permission(&self, function: &str, id: &str) -> Result<()> {
        let call = Call::new("RemovePermission", statement(function, id));
        let request = self.lambda.remove_permission().function_name(function).qualifier(ALIAS);
        call.done(request.statement_id(id).send().await)
    }
}

/// Writes what a permission allows, to whom and on which condition.
fn allow(
    request: AddPermissionFluentBuilder,
    permission: Permission,
    account: &str,
) -> AddPermissionFluentBuilder {
    let request = request.statement_id(permission.statement()).action(permission.action());
    let request = request.principal(if permission.public { "*" } else { account });
    match (permission.action, permission.condition()) {
        (PermissionAction::InvokeFunctionUrl, (_, _, auth_type)) => {
            request.function_url_auth_type(FunctionUrlAuthType::from(auth_type))
        }
        (PermissionAction::InvokeFunction, _) => request.invoked_via_function_url(true),
    }
}

fn alias(function: &str) -> String {
    format!("alias {ALIAS} of function {function}")
}

fn url(function: &str) -> String {
    format!("function URL of {function}")
}

fn statement(function: &str, id: &str) -> String {
    format!("permission {id} of function {function}")
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::config::BehaviorVersion;

    use super::*;

    #[test]
    fn every_permission_is_given_on_its_condition() {
        let config = aws_sdk_lambda::Config::builder().behavior_version(BehaviorVersion::latest()).build();
        let lambda = aws_sdk_lambda::Client::from_conf(config);
        for permission in Permission::ALL {
            let request = allow(lambda.add_permission(), permission, "111122223333");
            let auth_type = request.get_function_url_auth_type().as_ref().map(|it| it.as_str().to_owned());
            let is_by_url = request.get_invoked_via_function_url().as_ref().map(ToString::to_string);
            let (_, key, value) = permission.condition();
            let (wanted_auth, wanted_url) = match key {
                "lambda:FunctionUrlAuthType" => (Some(value.to_owned()), None),
                _ => (None, Some(value.to_owned())),
            };
            assert_eq!((auth_type, is_by_url), (wanted_auth, wanted_url), "{permission:?}");
            let principal = if permission.public { "*" } else { "111122223333" };
            assert_eq!(request.get_principal().as_deref(), Some(principal));
            assert_eq!(request.get_action().as_deref(), Some(permission.action()));
        }
    }
}
