//! Publishing a version, with the conditions that the emulator ignores.

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::Value;

use super::Shared;
use super::fault::error;
use super::lambda::{FUNCTIONS, Target, age_all, answered, conflict, resend};
use super::upstream::Scope;
use crate::stack::http::{self, Body, BoxError};

/// `PublishVersion`: refused on another revision or code, and nothing new when nothing has changed.
pub(super) async fn publish(shared: &Shared, parts: &Parts, body: Bytes) -> Result<Response<Body>, BoxError> {
    let name = Target::of(parts).name;
    if let Some(refusal) = conflict(shared, &name) {
        return Ok(refusal);
    }
    let scope = Scope::of(parts);
    let wish: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let listed = format!("{FUNCTIONS}/{name}/versions?MaxItems=100000");
    let (_, mut answer) = shared.upstream.ask(&scope, Method::GET, &listed, None).await?;
    age_all(shared, &mut answer);
    let versions = answer["Versions"].as_array().map_or(&[][..], Vec::as_slice);
    let (latest, published) = (versions.first(), versions.get(1..).and_then(<[Value]>::last));
    if let Some(latest) = latest {
        if wish["RevisionId"].is_string() && wish["RevisionId"] != latest["RevisionId"] {
            let message = "The RevisionId provided does not match the latest RevisionId for the Lambda function or alias. Call the GetFunction or the GetAlias API to retrieve the latest RevisionId for your resource.";
            return Ok(error("lambda", 412, "PreconditionFailedException", message, &[]));
        }
        if wish["CodeSha256"].is_string() && wish["CodeSha256"] != latest["CodeSha256"] {
            let message = format!(
                "CodeSHA256 ({}) is different from current CodeSHA256 in $LATEST ({}). Please try again with the CodeSHA256 in $LATEST.",
                wish["CodeSha256"].as_str().unwrap_or_default(),
                latest["CodeSha256"].as_str().unwrap_or_default()
            );
            return Ok(error("lambda", 400, "InvalidParameterValueException", &message, &[]));
        }
        if let Some(published) = published.filter(|published| same_content(latest, published)) {
            return Ok(http::json(StatusCode::CREATED, published));
        }
    }
    let (status, mut answer) = resend(shared, parts, body).await?;
    if status.is_success() {
        shared.lambda.note("PublishVersion", &answer);
        age_all(shared, &mut answer);
    }
    Ok(answered(status, &answer))
}

/// Whether nothing that Lambda publishes differs.
fn same_content(a: &Value, b: &Value) -> bool {
    let content = |config: &Value| {
        let mut fields = config.as_object().cloned().unwrap_or_default();
        for field in ["Version", "FunctionArn", "RevisionId", "LastModified", "Description"] {
            fields.remove(field);
        }
        fields.retain(|name, _| !name.starts_with("State") && !name.starts_with("LastUpdate"));
        fields
    };
    content(a) == content(b)
}
