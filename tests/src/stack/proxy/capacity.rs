//! Provisioned concurrency, which the emulator only pretends: READY at once, on anything.
//!
//! Here it is as ready as the sandboxes that the function host starts for it, and refused where AWS
//! refuses it. The proxy alone keeps it; the emulator is never told.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Shared;
use super::fault::error;
use super::invoke::{Alias, alias_of};
use super::lambda::{Target, answered, configuration};
use super::upstream::Scope;
use crate::stack::http::{self, Body, BoxError};
use crate::stack::locked;

/// One configuration.
#[derive(Debug)]
pub(super) struct Capacity {
    requested: u64,
    not_before: Instant,
    modified: String,
    /// How the sandboxes' start ended; the reason when it failed.
    started: Arc<OnceLock<Result<(), String>>>,
}

impl Capacity {
    fn describe(&self) -> Value {
        let outcome = self.started.get().filter(|_| Instant::now() >= self.not_before);
        let (status, available) = match outcome {
            None => ("IN_PROGRESS", 0),
            Some(Ok(())) => ("READY", self.requested),
            Some(Err(_)) => ("FAILED", 0),
        };
        let mut answer = json!({
            "RequestedProvisionedConcurrentExecutions": self.requested,
            "AvailableProvisionedConcurrentExecutions": available,
            "AllocatedProvisionedConcurrentExecutions": available,
            "Status": status,
            "LastModified": self.modified,
        });
        if let Some(Err(reason)) = outcome {
            answer["StatusReason"] = json!(reason);
        }
        answer
    }
}

/// The version that a request for provisioned concurrency means, or why there is none.
async fn version(
    shared: &Shared,
    parts: &Parts,
) -> Result<Result<(String, String), Response<Body>>, BoxError> {
    let invalid =
        |message: &str| Ok(Err(error("lambda", 400, "InvalidParameterValueException", message, &[])));
    let Target { name, qualifier } = Target::of(parts);
    match qualifier.as_deref() {
        None | Some("$LATEST") => {
            invalid("Provisioned Concurrency Configs cannot be applied to unpublished function version.")
        }
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Ok((name, number.to_owned()))),
        Some(alias) => match alias_of(shared, &Scope::of(parts), &name, alias).await? {
            Err(refusal) => Ok(Err(refusal)),
            Ok(Alias { weights, .. }) if !weights.is_empty() => {
                invalid("Alias with weights can not be used with Provisioned Concurrency")
            }
            Ok(Alias { version, .. }) => Ok(Ok((name, version))),
        },
    }
}

pub(super) async fn put(shared: &Shared, parts: &Parts, body: &Bytes) -> Result<Response<Body>, BoxError> {
    let (name, version) = match version(shared, parts).await? {
        Ok(found) => found,
        Err(refusal) => return Ok(refusal),
    };
    let wish: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let requested = wish["ProvisionedConcurrentExecutions"].as_u64().unwrap_or(0);
    let scope = Scope::of(parts);
    let (status, config) = configuration(shared, &scope, &name, &version).await?;
    if !status.is_success() {
        return Ok(answered(status, &config));
    }
    if requested == 0 {
        let message = "ProvisionedConcurrentExecutions must be at least 1";
        return Ok(error("lambda", 400, "InvalidParameterValueException", message, &[]));
    }
    if shared.lambda.busy(&name, &version).is_some() {
        let message =
            format!("The function version {name}:{version} is currently in the following state: Pending");
        return Ok(error("lambda", 409, "ResourceConflictException", &message, &[]));
    }
    let target = format!("/2019-09-30/functions/{name}/concurrency");
    let (_, reserved) = shared.upstream.ask(&scope, hyper::Method::GET, &target, None).await?;
    if reserved["ReservedConcurrentExecutions"].as_u64().is_some_and(|reserved| requested > reserved) {
        let message = "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function";
        return Ok(error("lambda", 400, "InvalidParameterValueException", message, &[]));
    }
    let started = Arc::new(OnceLock::new());
    match &shared.host {
        None => drop(started.set(Ok(()))),
        Some(host) => {
            let (host, outcome) = (Arc::clone(host), Arc::clone(&started));
            tokio::spawn(async move { drop(outcome.set(host.warm(&config, requested).await)) });
        }
    }
    let capacity = Capacity {
        requested,
        not_before: Instant::now() + shared.lambda.timings.capacity,
        modified: jiff::Timestamp::now().to_string(),
        started,
    };
    let answer = capacity.describe();
    locked(&shared.lambda.state).capacities.insert((name, version), capacity);
    Ok(http::json(StatusCode::ACCEPTED, &answer))
}

pub(super) async fn get(shared: &Shared, parts: &Parts) -> Result<Response<Body>, BoxError> {
    Ok(match version(shared, parts).await? {
        Err(refusal) => refusal,
        Ok(key) => match locked(&shared.lambda.state).capacities.get(&key) {
            Some(capacity) => http::json(StatusCode::OK, &capacity.describe()),
            None => error(
                "lambda",
                404,
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
                &[],
            ),
        },
    })
}

pub(super) async fn delete(shared: &Shared, parts: &Parts) -> Result<Response<Body>, BoxError> {
    Ok(match version(shared, parts).await? {
        Err(refusal) => refusal,
        Ok(key) => {
            // AWS says 204 whether or not there was one.
            locked(&shared.lambda.state).capacities.remove(&key);
            http::empty(StatusCode::NO_CONTENT)
        }
    })
}

pub(super) fn list(shared: &Shared, parts: &Parts) -> Response<Body> {
    let name = Target::of(parts).name;
    let state = locked(&shared.lambda.state);
    let configs: Vec<Value> = state
        .capacities
        .iter()
        .filter(|((function, _), _)| *function == name)
        .map(|((function, version), capacity)| {
            let mut config = capacity.describe();
            let (region, account) = (crate::stack::REGION, crate::stack::ACCOUNT);
            config["FunctionArn"] =
                json!(format!("arn:aws:lambda:{region}:{account}:function:{function}:{version}"));
            config
        })
        .collect();
    http::json(StatusCode::OK, &json!({"ProvisionedConcurrencyConfigs": configs}))
}
