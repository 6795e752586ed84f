//! Lambda as AWS does it.
//!
//! The emulator shows new states early or late, takes updates while one is in progress, ignores what
//! publishing is conditioned on, and knows no digest of an image. This does those as the API reference
//! says, and leaves the rest to the emulator.

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::fault::error;
use super::invoke;
use super::operation::{percent_decode, query_value};
use super::upstream::Scope;
use super::{Shared, pass};
use crate::stack::http::{self, Body, BoxError};
use crate::stack::locked;

pub(super) const FUNCTIONS: &str = "/2015-03-31/functions";

/// The function that a path names, and the qualifier of path or query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) qualifier: Option<String>,
}

impl Target {
    /// Reads `/<version>/functions/<name, name:qualifier or ARN>/…?Qualifier=…`.
    pub(super) fn of(parts: &Parts) -> Self {
        let raw = percent_decode(parts.uri.path().split('/').nth(3).unwrap_or_default());
        let short = raw.rsplit_once(":function:").map_or(raw.as_str(), |(_, short)| short);
        let (name, inline) =
            short.split_once(':').map_or((short, None), |(name, tag)| (name, Some(tag.to_owned())));
        let query = query_value(parts.uri.query().unwrap_or_default(), "Qualifier").map(percent_decode);
        Self { name: name.to_owned(), qualifier: inline.or(query) }
    }
}

/// Performs a call to Lambda.
pub(super) async fn perform(
    shared: &Shared,
    operation: &str,
    parts: &Parts,
    body: Bytes,
) -> Result<Response<Body>, BoxError> {
    match operation {
        "Invoke" => invoke::by_call(shared, parts, body).await,
        "CreateFunction" | "UpdateFunctionCode" | "UpdateFunctionConfiguration" => {
            change(shared, operation, parts, body).await
        }
        "PublishVersion" => super::publish::publish(shared, parts, body).await,
        "GetFunction" | "GetFunctionConfiguration" | "ListFunctions" | "ListVersionsByFunction" => {
            let (status, mut answer) = resend(shared, parts, body).await?;
            age_all(shared, &mut answer);
            Ok(answered(status, &answer))
        }
        "CreateAlias" | "UpdateAlias" => alias(shared, parts, body).await,
        "DeleteFunction" => delete(shared, parts, body).await,
        "CreateFunctionUrlConfig"
        | "GetFunctionUrlConfig"
        | "UpdateFunctionUrlConfig"
        | "DeleteFunctionUrlConfig"
        | "ListFunctionUrlConfigs" => invoke::url_config(shared, operation, parts, body).await,
        "PutProvisionedConcurrencyConfig" => super::capacity::put(shared, parts, &body).await,
        "GetProvisionedConcurrencyConfig" => super::capacity::get(shared, parts).await,
        "DeleteProvisionedConcurrencyConfig" => super::capacity::delete(shared, parts).await,
        "ListProvisionedConcurrencyConfigs" => Ok(super::capacity::list(shared, parts)),
        _ => pass(shared, parts, body).await,
    }
}

pub(super) fn age_all(shared: &Shared, answer: &mut Value) {
    for list in ["Functions", "Versions"] {
        for config in answer[list].as_array_mut().into_iter().flatten() {
            shared.lambda.age(config);
        }
    }
    if answer["Configuration"].is_object() {
        shared.lambda.age(&mut answer["Configuration"]);
    }
    if answer["FunctionName"].is_string() {
        shared.lambda.age(answer);
    }
    // Indexing has left nulls where a list was not.
    if let Some(fields) = answer.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

async fn change(
    shared: &Shared,
    operation: &str,
    parts: &Parts,
    body: Bytes,
) -> Result<Response<Body>, BoxError> {
    let mut wish: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if operation != "CreateFunction" {
        let target = Target::of(parts);
        if let Some(refusal) = conflict(shared, &target.name) {
            return Ok(refusal);
        }
        if wish["DryRun"] == json!(true) {
            let (status, mut answer) =
                configuration(shared, &Scope::of(parts), &target.name, "$LATEST").await?;
            age_all(shared, &mut answer);
            return Ok(answered(status, &answer));
        }
    }
    let place = if operation == "CreateFunction" {
        wish.pointer_mut("/Code/ImageUri")
    } else {
        wish.pointer_mut("/ImageUri")
    };
    if let Some(Value::String(image)) = place
        && !image.contains("@sha256:")
    {
        // Lambda resolves a tag once and never follows it; the emulator would follow it for ever.
        let Some(digest) = digest(shared, &Scope::of(parts), image).await? else {
            let message = format!("Source image {image} does not exist. Provide a valid source image.");
            return Ok(error("lambda", 400, "InvalidParameterValueException", &message, &[]));
        };
        *image = digest;
    }
    let (status, mut answer) = resend(shared, parts, wish.to_string().into()).await?;
    if status.is_success() {
        shared.lambda.note(operation, &answer);
        age_all(shared, &mut answer);
    }
    Ok(answered(status, &answer))
}

/// The image by digest, from the registry.
async fn digest(shared: &Shared, scope: &Scope, image: &str) -> Result<Option<String>, BoxError> {
    let Some((_, path)) = image.split_once('/') else { return Ok(None) };
    let (repository, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
    let question = json!({"repositoryName": repository, "imageIds": [{"imageTag": tag}]});
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.DescribeImages"),
    ];
    let scope = scope.to("lambda", "ecr");
    let (_, answer) = shared.upstream.ask_with(&scope, Method::POST, "/", Some(&question), &headers).await?;
    let found = answer.pointer("/imageDetails/0/imageDigest").and_then(Value::as_str);
    let name = image.strip_suffix(&format!(":{tag}")).unwrap_or(image);
    Ok(found.map(|digest| format!("{name}@{digest}")))
}

pub(super) fn conflict(shared: &Shared, name: &str) -> Option<Response<Body>> {
    let message = if shared.lambda.busy(name, "$LATEST").is_some() {
        format!(
            "The operation cannot be performed at this time. The function is currently in the following state: Pending ({name})"
        )
    } else if shared.lambda.updating(name) {
        format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {name}"
        )
    } else {
        return None;
    };
    Some(error("lambda", 409, "ResourceConflictException", &message, &[]))
}

/// An alias may only lead to versions that exist.
async fn alias(shared: &Shared, parts: &Parts, body: Bytes) -> Result<Response<Body>, BoxError> {
    let wish: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let weighted = wish.pointer("/RoutingConfig/AdditionalVersionWeights").and_then(Value::as_object);
    let versions = wish["FunctionVersion"].as_str().into_iter();
    let name = Target::of(parts).name;
    for version in versions.chain(weighted.into_iter().flat_map(|map| map.keys().map(String::as_str))) {
        let (status, answer) = configuration(shared, &Scope::of(parts), &name, version).await?;
        if !status.is_success() {
            return Ok(answered(status, &answer));
        }
    }
    pass(shared, parts, body).await
}

async fn delete(shared: &Shared, parts: &Parts, body: Bytes) -> Result<Response<Body>, BoxError> {
    let Target { name, qualifier } = Target::of(parts);
    let response = pass(shared, parts, body).await?;
    if !response.status().is_success() {
        return Ok(response);
    }
    if let Some(host) = &shared.host {
        host.forget(&name, qualifier.as_deref());
    }
    let urls = {
        let mut state = locked(&shared.lambda.state);
        state.capacities.retain(|(function, version), _| {
            *function != name || qualifier.as_ref().is_some_and(|gone| gone != version)
        });
        if qualifier.is_some() {
            Vec::new()
        } else {
            state.functions.remove(&name);
            let gone: Vec<String> =
                state.urls.iter().filter(|(_, url)| url.function == name).map(|(id, _)| id.clone()).collect();
            gone.iter().filter_map(|id| state.urls.remove(id)).collect()
        }
    };
    // A function's URLs go with it; the emulator would keep them for the next one of that name.
    for url in urls {
        let qualifier = url.qualifier.map(|qualifier| format!("?Qualifier={qualifier}")).unwrap_or_default();
        let target = format!("/2021-10-31/functions/{name}/url{qualifier}");
        shared.upstream.ask(&Scope::of(parts), Method::DELETE, &target, None).await?;
    }
    Ok(response)
}

/// A function's configuration as the emulator has it.
pub(super) async fn configuration(
    shared: &Shared,
    scope: &Scope,
    name: &str,
    version: &str,
) -> Result<(StatusCode, Value), BoxError> {
    let qualifier = if version == "$LATEST" { String::new() } else { format!("?Qualifier={version}") };
    let target = format!("{FUNCTIONS}/{name}/configuration{qualifier}");
    shared.upstream.ask(scope, Method::GET, &target, None).await
}

/// Sends a call on with this body and reads the answer.
pub(super) async fn resend(
    shared: &Shared,
    parts: &Parts,
    body: Bytes,
) -> Result<(StatusCode, Value), BoxError> {
    let mut parts = parts.clone();
    // The body may be another now.
    parts.headers.remove(hyper::header::CONTENT_LENGTH);
    let response = shared.upstream.forward(&parts, http::whole(body)).await?;
    let status = response.status();
    let body = http::collect(response.into_body()).await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// What the emulator said, again; an error gets back the header that names it.
pub(super) fn answered(status: StatusCode, answer: &Value) -> Response<Body> {
    if status.is_success() {
        return if answer.is_null() { http::empty(status) } else { http::json(status, answer) };
    }
    let text = |name: &str| answer[name].as_str();
    let code = text("__type").or_else(|| text("Type")).unwrap_or("ServiceException");
    let message = text("message").or_else(|| text("Message")).unwrap_or_default();
    error("lambda", status.as_u16(), code.rsplit('#').next().unwrap_or(code), message, &[])
}
