//! AWS Lambda: events of function URLs and API Gateway become HTTP requests to the routes.
//!
//! Any other event is answered by the runtime with an error that says it is not an HTTP event.

use std::path::PathBuf;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use lambda_http::request::RequestContext;
use larder_contract::{Digest, layout};

use super::StartError;
use crate::models::source::Source;
use crate::routes::{Served, router};

/// Set by AWS Lambda in every function that brings its own runtime.
pub const ENV_RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// Set by AWS Lambda: the function's memory in MiB.
pub const ENV_FUNCTION_MEMORY: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
/// Set by AWS Lambda: the function's published version.
pub const ENV_FUNCTION_VERSION: &str = "AWS_LAMBDA_FUNCTION_VERSION";
/// Environment variable: `off` to write no metrics for CloudWatch.
pub const ENV_EMF: &str = "LARDER_EMF";

/// The models that the environment names.
///
/// # Errors
/// [`StartError`] that names the variable, or the file that is missing under the mount.
pub fn source(variable: impl Fn(&str) -> Option<String>) -> Result<Source, StartError> {
    let root = PathBuf::from(variable(layout::ENV_ROOT).unwrap_or_else(|| layout::MOUNT_PATH.to_owned()));
    let name = layout::ENV_MANIFEST;
    let value = variable(name).ok_or(StartError::Missing {
        name,
        remedy: "set it to the digest of the manifest to serve; Larder's controller does",
    })?;
    let digest: Digest = value.parse().map_err(|_| StartError::Invalid {
        name,
        value,
        remedy: "it must be sha256: and 64 lower-case hex digits",
    })?;
    Ok(Source::of_manifest(&layout::manifest_path(&root, &digest), &root, Some(digest))?)
}

/// The function's memory in MiB, as the controller or Lambda says; 0 when neither does.
///
/// # Errors
/// [`StartError::Invalid`] when it is not a number.
pub fn memory_mib(variable: impl Fn(&str) -> Option<String>) -> Result<u32, StartError> {
    for name in [layout::ENV_MEMORY, ENV_FUNCTION_MEMORY] {
        if let Some(value) = variable(name) {
            let remedy = "it must be a whole number of MiB";
            return value.parse().map_err(|_| StartError::Invalid { name, value, remedy });
        }
    }
    Ok(0)
}

/// Whether each request's metrics are written as a line for CloudWatch: unless [`ENV_EMF`] is `off`.
///
/// # Errors
/// [`StartError::Invalid`] when it is neither.
pub fn emf(variable: impl Fn(&str) -> Option<String>) -> Result<bool, StartError> {
    match variable(ENV_EMF).as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(value) => Err(StartError::Invalid {
            name: ENV_EMF,
            value: value.to_owned(),
            remedy: "it must be on or off",
        }),
    }
}

/// Serves invocations for as long as Lambda sends them.
///
/// # Errors
/// [`StartError::Lambda`] when the Runtime API cannot be reached.
pub async fn run(served: Served) -> Result<(), StartError> {
    let router: Router = router(served);
    let service = tower::ServiceExt::map_request(router, |request: lambda_http::Request| {
        without_stage(request.map(axum::body::Body::new))
    });
    lambda_http::run(service).await.map_err(|source| StartError::Lambda { source })
}

/// Takes API Gateway's stage off the path, where it is part of it.
fn without_stage(mut request: Request) -> Request {
    let stage = match request.extensions().get::<RequestContext>() {
        Some(RequestContext::ApiGatewayV1(context)) => context.stage.as_deref(),
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.as_deref(),
        _ => None,
    };
    if let Some(uri) = stage.and_then(|stage| stripped(request.uri(), stage)) {
        *request.uri_mut() = uri;
    }
    request
}

fn stripped(uri: &Uri, stage: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix('/')?.strip_prefix(stage)?;
    let rest = rest.starts_with('/').then_some(rest)?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_come_off() {
        let check = |uri: &str, stage: &str, expected: Option<&str>| {
            let found = stripped(&uri.parse().unwrap(), stage).map(|u| u.to_string());
            assert_eq!(found.as_deref(), expected, "{uri} {stage}");
        };
        check("https://h/prod/ocr?model=a", "prod", Some("https://h/ocr?model=a"));
        check("https://h/ocr", "$default", None);
        check("https://h/production/ocr", "prod", None);
        check("/prod/v2/models/m", "prod", Some("/v2/models/m"));
    }

    #[test]
    fn the_environment_is_checked_by_name() {
        let refused = |variables: &[(&str, &str)], parts: &[&str]| {
            let get = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
            let refusal = source(get).map(drop).unwrap_err().to_string();
            for part in parts {
                assert!(refusal.contains(part), "{refusal}");
            }
        };
        let digest = Digest::of(b"x").to_string();
        refused(&[], &["LARDER_MANIFEST", "missing"]);
        refused(&[("LARDER_MANIFEST", "abc")], &["LARDER_MANIFEST", "abc", "hex"]);
        refused(&[("LARDER_MANIFEST", &digest)], &["/mnt/larder/manifests/"]);
        refused(&[("LARDER_MANIFEST", &digest), ("LARDER_ROOT", "/r")], &["/r/manifests/"]);
    }

    #[test]
    fn memory_is_the_controllers_word_before_lambdas() {
        let both = |name: &str| match name {
            "LARDER_MEMORY_MIB" => Some("4096".to_owned()),
            _ => Some("128".to_owned()),
        };
        assert_eq!(memory_mib(both).ok(), Some(4096));
        assert_eq!(memory_mib(|_| None).ok(), Some(0));
        assert!(memory_mib(|_| Some("much".to_owned())).is_err());
    }
}
