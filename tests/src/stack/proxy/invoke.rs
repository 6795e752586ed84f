//! Invocations, by API and by function URL, on their way to the function host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::fault::error;
use super::lambda::{FUNCTIONS, Target, answered, configuration, resend};
use super::upstream::Scope;
use super::{Shared, pass};
use crate::stack::host::{Outcome, event};
use crate::stack::http::{self, Body, BoxError};
use crate::stack::locked;

/// The most that a synchronous invocation takes.
const SYNC_LIMIT: usize = 6 * 1024 * 1024;
/// The most that an asynchronous invocation takes.
const ASYNC_LIMIT: usize = 1024 * 1024;
/// How often Lambda tries an asynchronous invocation again when the function fails.
const ASYNC_RETRIES: u32 = 2;
/// Lambda waits a minute before it tries again; a test need not.
const ASYNC_PAUSE: Duration = Duration::from_millis(500);

/// A function URL that was made through the proxy.
#[derive(Debug, Clone)]
pub(super) struct Url {
    pub(super) function: String,
    pub(super) qualifier: Option<String>,
    signed: bool,
    scope: Scope,
}

/// Where an alias leads.
#[derive(Debug)]
pub(super) struct Alias {
    pub(super) version: String,
    pub(super) weights: BTreeMap<String, f64>,
}

/// Asks the emulator for an alias; the inner error is its answer when there is none.
pub(super) async fn alias_of(
    shared: &Shared,
    scope: &Scope,
    name: &str,
    alias: &str,
) -> Result<Result<Alias, Response<Body>>, BoxError> {
    let target = format!("{FUNCTIONS}/{name}/aliases/{alias}");
    let (status, answer) = shared.upstream.ask(scope, Method::GET, &target, None).await?;
    if !status.is_success() {
        return Ok(Err(answered(status, &answer)));
    }
    let weights = answer.pointer("/RoutingConfig/AdditionalVersionWeights").and_then(Value::as_object);
    Ok(Ok(Alias {
        version: answer["FunctionVersion"].as_str().unwrap_or_default().to_owned(),
        weights: weights
            .into_iter()
            .flatten()
            .filter_map(|(version, weight)| Some((version.clone(), weight.as_f64()?)))
            .collect(),
    }))
}

/// The configuration that an invocation with `qualifier` runs. Asked anew each time, so that the request
/// after an `UpdateAlias` goes to the new version.
async fn resolve(
    shared: &Shared,
    scope: &Scope,
    name: &str,
    qualifier: Option<&str>,
) -> Result<Result<Value, Response<Body>>, BoxError> {
    let version = match qualifier {
        None | Some("$LATEST") => "$LATEST".to_owned(),
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => number.to_owned(),
        Some(alias) => match alias_of(shared, scope, name, alias).await? {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(alias) => choose(shared, alias),
        },
    };
    let (status, config) = configuration(shared, scope, name, &version).await?;
    if !status.is_success() {
        return Ok(Err(answered(status, &config)));
    }
    if let Some(state) = shared.lambda.busy(name, &version) {
        let message = format!(
            "The operation cannot be performed at this time. The function is currently in the following state: {state}"
        );
        return Ok(Err(error("lambda", 409, "ResourceConflictException", &message, &[])));
    }
    Ok(Ok(config))
}

/// Spreads calls over an alias's versions: a low-discrepancy sequence, so that 10 % of 100 calls are ten,
/// give or take one, and the same in every run.
fn choose(shared: &Shared, alias: Alias) -> String {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    if alias.weights.is_empty() {
        return alias.version;
    }
    let turn = {
        let mut state = locked(&shared.lambda.state);
        state.turns += 1;
        state.turns
    };
    let turn = f64::from(u32::try_from(turn % u64::from(u32::MAX)).unwrap_or(0));
    let mut point = (turn * GOLDEN).fract();
    for (version, weight) in alias.weights {
        if point < weight {
            return version;
        }
        point -= weight;
    }
    alias.version
}

/// `Invoke`.
pub(super) async fn by_call(shared: &Shared, parts: &Parts, body: Bytes) -> Result<Response<Body>, BoxError> {
    let Some(host) = &shared.host else { return pass(shared, parts, body).await };
    let kind =
        parts.headers.get("x-amz-invocation-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let limit = if kind == "Event" { ASYNC_LIMIT } else { SYNC_LIMIT };
    if body.len() > limit {
        let message = format!(
            "{} byte payload is too large for the {kind} invocation type (limit {limit} bytes)",
            body.len()
        );
        return Ok(error("lambda", 413, "RequestTooLargeException", &message, &[]));
    }
    let Target { name, qualifier } = Target::of(parts);
    let config = match resolve(shared, &Scope::of(parts), &name, qualifier.as_deref()).await? {
        Ok(config) => config,
        Err(refusal) => return Ok(refusal),
    };
    let version = config["Version"].as_str().unwrap_or_default().to_owned();
    let mut response = match kind {
        "DryRun" => http::empty(StatusCode::NO_CONTENT),
        "Event" => {
            let host = Arc::clone(host);
            tokio::spawn(async move {
                for attempt in 0..=ASYNC_RETRIES {
                    tokio::time::sleep(ASYNC_PAUSE * attempt).await;
                    if let Outcome::Answer(_) = host.invoke(&config, body.clone()).await {
                        break;
                    }
                }
            });
            http::empty(StatusCode::ACCEPTED)
        }
        _ => {
            let begun = Instant::now();
            let outcome = host.invoke(&config, body).await;
            note(shared, (&name, qualifier.as_deref()), &config, begun, &outcome, None);
            answer_of(outcome)
        }
    };
    if let Ok(version) = HeaderValue::from_str(&version) {
        response.headers_mut().insert(HeaderName::from_static("x-amz-executed-version"), version);
    }
    Ok(response)
}

fn answer_of(outcome: Outcome) -> Response<Body> {
    match outcome {
        Outcome::Answer(answer) => Response::new(http::whole(answer)),
        Outcome::FunctionError(answer) => {
            let mut response = Response::new(http::whole(answer));
            response.headers_mut().insert(
                HeaderName::from_static("x-amz-function-error"),
                HeaderValue::from_static("Unhandled"),
            );
            response
        }
        Outcome::Busy => error("lambda", 429, "TooManyRequestsException", "Rate Exceeded.", &[]),
        Outcome::NoProgram(message) => error("lambda", 400, "InvalidParameterValueException", &message, &[]),
    }
}

/// Counts an invocation for CloudWatch; by function URL with the status of its answer.
fn note(
    shared: &Shared,
    (function, qualifier): (&str, Option<&str>),
    config: &Value,
    begun: Instant,
    outcome: &Outcome,
    status: Option<StatusCode>,
) {
    let version = config["Version"].as_str().unwrap_or_default();
    let is_error = !matches!(outcome, Outcome::Answer(_));
    let of = (function, qualifier.unwrap_or_default(), version);
    shared.metrics.note(of, begun.elapsed(), is_error, status.map(|status| status.as_u16()));
}

/// The function URL that a request is for: by host as in AWS, or by path for clients without DNS.
pub(super) fn url_id(parts: &Parts) -> Option<String> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if let Some((id, _)) = host.split_once(".lambda-url.") {
        return Some(id.to_owned());
    }
    parts.uri.path().strip_prefix("/_aws/lambda-url/")?.split('/').next().map(str::to_owned)
}

/// A request to a function URL.
pub(super) async fn by_url(
    shared: &Shared,
    id: &str,
    parts: &Parts,
    body: Incoming,
) -> Result<Response<Body>, BoxError> {
    let body = http::collect(body).await?;
    let refuse = |status, message: &str| Ok(http::json(status, &json!({"Message": message})));
    let url = locked(&shared.lambda.state).urls.get(id).cloned();
    let (Some(url), Some(host)) = (url, &shared.host) else {
        return refuse(StatusCode::NOT_FOUND, "Not Found");
    };
    if url.signed && !is_signed(parts) {
        return refuse(StatusCode::FORBIDDEN, "Forbidden");
    }
    if body.len() > SYNC_LIMIT {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "Request Too Large");
    }
    let Ok(config) = resolve(shared, &url.scope, &url.function, url.qualifier.as_deref()).await? else {
        return refuse(StatusCode::BAD_GATEWAY, "Internal Server Error");
    };
    let event = event::from_request(id, parts, &body, !url.signed);
    let begun = Instant::now();
    let outcome = host.invoke(&config, event.to_string().into()).await;
    let response = match &outcome {
        Outcome::Answer(answer) => event::to_response(answer),
        Outcome::Busy => http::json(StatusCode::TOO_MANY_REQUESTS, &json!({"Message": "Rate Exceeded."})),
        Outcome::FunctionError(_) | Outcome::NoProgram(_) => {
            http::json(StatusCode::BAD_GATEWAY, &json!({"Message": "Internal Server Error"}))
        }
    };
    let of = (url.function.as_str(), url.qualifier.as_deref());
    note(shared, of, &config, begun, &outcome, Some(response.status()));
    Ok(response)
}

fn is_signed(parts: &Parts) -> bool {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.starts_with("AWS4-HMAC-SHA256")
        || parts.uri.query().unwrap_or_default().contains("X-Amz-Signature=")
}

/// The configuration calls of function URLs: keeps what requests need, and qualifies the function's ARN,
/// which the emulator forgets.
pub(super) async fn url_config(
    shared: &Shared,
    operation: &str,
    parts: &Parts,
    body: Bytes,
) -> Result<Response<Body>, BoxError> {
    let Target { name, qualifier } = Target::of(parts);
    let (status, mut answer) = resend(shared, parts, body).await?;
    let mut state = locked(&shared.lambda.state);
    if operation == "DeleteFunctionUrlConfig" && status.is_success() {
        state.urls.retain(|_, url| url.function != name || url.qualifier != qualifier);
    } else if operation == "ListFunctionUrlConfigs" {
        for config in answer["FunctionUrlConfigs"].as_array_mut().into_iter().flatten() {
            let known = state.urls.get(&id_of(config)).and_then(|url| url.qualifier.clone());
            qualify(config, known.as_deref());
        }
    } else if status.is_success() {
        let url = Url {
            function: name,
            qualifier: qualifier.clone(),
            signed: answer["AuthType"] == "AWS_IAM",
            scope: Scope::of(parts),
        };
        state.urls.insert(id_of(&answer), url);
        qualify(&mut answer, qualifier.as_deref());
    }
    Ok(answered(status, &answer))
}

fn id_of(config: &Value) -> String {
    let url = config["FunctionUrl"].as_str().unwrap_or_default();
    url.trim_start_matches("https://").split('.').next().unwrap_or_default().to_owned()
}

fn qualify(config: &mut Value, qualifier: Option<&str>) {
    if let (Some(arn), Some(qualifier)) = (config["FunctionArn"].as_str(), qualifier) {
        config["FunctionArn"] = json!(format!("{arn}:{qualifier}"));
    }
}
