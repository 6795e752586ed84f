//! The objects.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use larder_crds::InferenceEndpoint;
use larder_tests::scenario::repository;
use larder_tests::stack::Stack;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::aws::Aws;

/// Requests to the API server at once.
const AT_ONCE: usize = 16;

/// How often a change and a drift are tried at each size.
const TRIES: usize = 5;

#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    api: Api<InferenceEndpoint>,
}

fn name(nth: usize) -> String {
    format!("e-{nth:05}")
}

/// The beginning of the name of its function.
fn function(nth: usize) -> String {
    format!("larder-default-{}-", name(nth))
}

fn object(nth: usize) -> Result<InferenceEndpoint> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": name(nth), "namespace": "default"},
        "spec": {
            "models": [{"name": "m", "task": "tensor",
                "source": {"s3": {"bucket": "models", "prefix": format!("{}/", name(nth))}}}],
            "storage": {"efs": {"managed": {}}},
            "network": {"subnetIds": ["subnet-0000000a", "subnet-0000000b"],
                "securityGroupIds": ["sg-0000000a"]},
            "function": {
                "image": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/larder-inference:1",
                "roleArn": "arn:aws:iam::111122223333:role/larder"
            },
            "capacity": {"provisioned": 2, "reserved": 10},
            "expose": {"functionUrl": {"authType": "AWS_IAM"}},
        },
    }))?)
}

fn is_ready(it: &InferenceEndpoint) -> bool {
    let Some(status) = &it.status else { return false };
    status.conditions.iter().any(|condition| {
        condition.type_ == "Ready"
            && condition.status == "True"
            && condition.observed_generation == it.metadata.generation
    })
}

impl Endpoints {
    /// Teaches the cluster what an endpoint is.
    pub(crate) async fn new(stack: &Stack) -> Result<Self> {
        let crd = repository().join("crds/inferenceendpoints.larder.dev.yaml").display().to_string();
        for args in [
            &["apply", "--server-side", "-f", &crd][..],
            &["wait", "--for=condition=Established", "--timeout=20s", "crd/inferenceendpoints.larder.dev"],
        ] {
            let output = stack.kubectl(args).await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        // Watches of a new kind say nothing in the API server's first seconds with it.
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(Self { api: Api::namespaced(stack.kube(), "default") })
    }

    /// Makes those with these numbers.
    pub(crate) async fn create(&self, numbers: Range<usize>) -> Result<()> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut work = JoinSet::new();
        for nth in numbers {
            let (api, object) = (self.api.clone(), object(nth)?);
            let place = Arc::clone(&places).acquire_owned().await?;
            work.spawn(async move {
                let made = api.create(&PostParams::default(), &object).await;
                drop(place);
                made.map(drop)
            });
        }
        while let Some(made) = work.join_next().await {
            made??;
        }
        Ok(())
    }

    /// Waits until so many are ready, as a watch tells: to list all of them again and again would be the API server's
    /// main work.
    pub(crate) async fn ready(&self, count: usize, within: Duration) -> Result<()> {
        let mut ready = HashSet::new();
        let mut changes =
            watcher(self.api.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
        let all = async {
            while ready.len() < count {
                let object = changes.try_next().await?.context("the watch has ended")?;
                let is_ready = is_ready(&object);
                let name = object.metadata.name.unwrap_or_default();
                let _was = if is_ready { ready.insert(name) } else { ready.remove(&name) };
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(within, all).await {
            Ok(done) => done,
            Err(_) => bail!("{} of {count} are ready after {} s", ready.len(), within.as_secs()),
        }
    }

    /// Waits until one is ready again: the next change is to be one among those that are as wanted.
    async fn is_through(&self, nth: usize, within: Duration) -> Result<()> {
        let begun = Instant::now();
        while !is_ready(&self.api.get(&name(nth)).await?) {
            ensure!(begun.elapsed() < within, "{} is not ready again", name(nth));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Changes the memory of some endpoints, one after the other; the longest time until AWS is told.
    pub(crate) async fn acts(&self, aws: &Aws, size: usize) -> Result<f64> {
        // Another at each size, and at most 10,240.
        let patch = json!({"spec": {"function": {"memoryMiB": 4096 + size / 2}}});
        let mut longest = 0f64;
        for nth in some(size) {
            let begun = Instant::now();
            self.api.patch(&name(nth), &PatchParams::default(), &Patch::Merge(&patch)).await?;
            let write = "lambda.UpdateFunctionConfiguration";
            let took = told(aws, write, &function(nth), begun, Duration::from_mins(2)).await;
            longest = longest.max(took.context("a changed spec was not acted on within 2 minutes")?);
            self.is_through(nth, Duration::from_mins(5)).await?;
        }
        Ok(longest)
    }

    /// Points the aliases of some endpoints elsewhere; of how many, and the times until each is put back, of those that
    /// were within `window`.
    pub(crate) async fn drift(&self, aws: &Aws, size: usize, window: Duration) -> Result<(usize, Vec<f64>)> {
        let mut waits = JoinSet::new();
        let some = some(size);
        let count = some.len();
        for nth in some {
            let (aws, function) = (aws.clone(), function(nth));
            let whole =
                aws.functions().into_iter().find(|it| it.starts_with(&function) && !it.ends_with("-sync"));
            aws.spoil_alias(&whole.context("the function of an endpoint")?);
            let begun = Instant::now();
            waits.spawn(async move { told(&aws, "lambda.UpdateAlias", &function, begun, window).await });
        }
        let mut seconds = Vec::new();
        while let Some(took) = waits.join_next().await {
            seconds.extend(took?);
        }
        seconds.sort_by(f64::total_cmp);
        Ok((count, seconds))
    }
}

/// Numbers of a few endpoints, over the whole range.
fn some(size: usize) -> Vec<usize> {
    let mut some: Vec<usize> = (0..TRIES).map(|i| i * size / TRIES).collect();
    some.dedup();
    some
}

/// Seconds until an operation is called about a function; none when it is not within `within`.
async fn told(aws: &Aws, operation: &str, function: &str, begun: Instant, within: Duration) -> Option<f64> {
    while begun.elapsed() < within {
        if let Some(at) = aws.last(operation, function).filter(|at| *at > begun) {
            return Some((at - begun).as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}
