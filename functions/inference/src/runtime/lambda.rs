//! AWS Lambda: its environment, and the loop that takes its [`event`](super::event)s.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lambda_runtime::{LambdaEvent, LambdaInvocation, Service};
use larder_contract::{Digest, layout};
use tokio::task::futures::TaskLocalFuture;
use tower::layer::layer_fn;
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

use super::StartError;
use super::event::{Events, Operations};
use crate::models::source::Source;
use crate::prepared::Preparer;
use crate::request::answered::Invocation;
use crate::request::id::RequestId;
use crate::routes::{Served, router};

/// Set by AWS Lambda in every function that brings its own runtime.
pub const ENV_RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// Set by AWS Lambda: the function's memory in MiB.
pub const ENV_FUNCTION_MEMORY: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
/// Set by AWS Lambda: the function's published version.
pub const ENV_FUNCTION_VERSION: &str = "AWS_LAMBDA_FUNCTION_VERSION";
/// Environment variable: `off` to write no metrics for CloudWatch.
pub const ENV_EMF: &str = "LARDER_EMF";
/// Environment variable: what a load balancer's rule or a resource's path puts before the routes' paths.
pub const ENV_BASE_PATH: &str = "LARDER_BASE_PATH";
/// Environment variable: `off` to prepare no models.
pub const ENV_PREPARE: &str = "PREPARE_MODELS";
/// Set by AWS Lambda: `on-demand`, `provisioned-concurrency` or another.
pub const ENV_INITIALIZATION_TYPE: &str = "AWS_LAMBDA_INITIALIZATION_TYPE";

/// The models that the environment names.
///
/// # Errors
/// [`StartError`] that names the variable, or the file that is missing under the mount.
pub fn source(variable: impl Fn(&str) -> Option<String>) -> Result<Source, StartError> {
    let root = root(&variable);
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

/// How long the models may keep the first request waiting, `started` ago included. AWS Lambda gives
/// initialisation 10 s on demand, then starts it anew within the first request; with provisioned
/// concurrency it gives 15 minutes, and no request comes before all is ready (AWS Lambda Developer Guide,
/// "Understanding the Lambda execution environment lifecycle").
#[must_use]
pub fn preload_time(initialization: Option<&str>, started: Duration) -> Duration {
    const ON_DEMAND: Duration = Duration::from_secs(8);
    const PROVISIONED: Duration = Duration::from_mins(14);
    let all = if is_provisioned(initialization) { PROVISIONED } else { ON_DEMAND };
    all.saturating_sub(started)
}

/// Whether this is the initialisation of provisioned concurrency, which nobody waits for.
#[must_use]
pub fn is_provisioned(initialization: Option<&str>) -> bool {
    initialization == Some("provisioned-concurrency")
}

/// What prepares the manifest's models, unless [`ENV_PREPARE`] says no.
///
/// # Errors
/// [`StartError::Invalid`] when the variable is neither on nor off.
pub fn preparer(
    variable: impl Fn(&str) -> Option<String>,
    source: &Source,
) -> Result<Option<Preparer>, StartError> {
    let on = super::switched_on(&variable, ENV_PREPARE)?;
    let program = std::env::current_exe().ok().filter(|_| on);
    Ok(program.map(|program| Preparer::new(program, root(variable), &source.digest())))
}

fn root(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    PathBuf::from(variable(layout::ENV_ROOT).unwrap_or_else(|| layout::MOUNT_PATH.to_owned()))
}

/// Serves invocations for as long as Lambda sends them.
///
/// # Errors
/// [`StartError::Lambda`] when the Runtime API cannot be reached.
pub async fn run(served: Served, base: Option<String>, preparer: Option<Preparer>) -> Result<(), StartError> {
    let mut models = served.models.models().map(|model| model.name().to_owned());
    let only_model = models.next().filter(|_| models.next().is_none());
    drop(models);
    let preparing = preparer.map(|preparer| (Arc::clone(&served.models), preparer));
    let operations = Operations { preparing };
    let events = Events { router: router(served), base, only_model, operations };
    let handler = lambda_runtime::service_fn(|event: LambdaEvent<()>| {
        let (events, payload) = (events.clone(), EVENT.get());
        async move {
            let context = event.context;
            let id = RequestId::parse(&context.request_id).unwrap_or_else(RequestId::random);
            let time = answer_time(context.deadline().duration_since(SystemTime::now()).unwrap_or_default());
            events.answer(payload, Invocation { id, time }, context.xray_trace_id.as_deref()).await
        }
    });
    let runtime = lambda_runtime::Runtime::new(handler).layer(layer_fn(|inner| Beside { inner }));
    runtime.run().await.map_err(|source| StartError::Lambda { source })
}

/// How long an answer may take when the function ends after `remaining`: there must be time to send it.
fn answer_time(remaining: Duration) -> Duration {
    remaining.saturating_sub((remaining / 20).clamp(LEAST_MARGIN, MOST_MARGIN).min(remaining / 2))
}

const LEAST_MARGIN: Duration = Duration::from_millis(100);
const MOST_MARGIN: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The event of the invocation under way, as it came.
    static EVENT: Bytes;
}

/// Takes the event out of the invocation before the runtime parses it, so that its megabytes are neither
/// copied nor read twice; and gives the log the invocation's id.
struct Beside<S> {
    inner: S,
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for Beside<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = TaskLocalFuture<Bytes, Instrumented<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> Self::Future {
        let event = std::mem::replace(&mut invocation.body, Bytes::from_static(b"null"));
        let inner = &mut self.inner;
        // What is logged beside the requests, by the runtime too.
        let span = tracing::info_span!("invocation", id = invocation.context.request_id);
        let answering = span.in_scope(|| EVENT.sync_scope(event.clone(), || inner.call(invocation)));
        EVENT.scope(event, answering.instrument(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leaves_time_to_send_it() {
        let check = |remaining, expected| {
            assert_eq!(answer_time(Duration::from_millis(remaining)), Duration::from_millis(expected));
        };
        check(60_000, 59_000);
        check(10_000, 9_500);
        check(1_000, 900);
        check(100, 50);
        check(0, 0);
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
    fn preloading_ends_before_lambda_loses_patience() {
        let (on_demand, provisioned) = (Some("on-demand"), Some("provisioned-concurrency"));
        for (initialization, started, expected) in
            [(on_demand, 1, 7), (None, 0, 8), (on_demand, 9, 0), (provisioned, 40, 800)]
        {
            let time = preload_time(initialization, Duration::from_secs(started));
            assert_eq!(time.as_secs(), expected, "{initialization:?} {started}");
        }
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
