//! Runs function binaries as Lambda does, over the Lambda Runtime API.
//!
//! - [`sandbox`]: one process and the Runtime API that it talks to.
//! - [`pool`]: the sandboxes of one published version.
//! - [`event`]: HTTP requests to function URLs as events, and answers back.
//!
//! A version's sandboxes share nothing with another version's, so that an alias switch is exact: calls
//! in flight end where they began. An access point is a folder; the function's `LARDER_ROOT` leads there,
//! which stands in for the mount.
//!
//! Deliberately absent: memory and CPU limits, read-only file systems, networks, permissions.

pub(crate) mod event;
mod pool;
mod sandbox;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use self::pool::Pool;
use super::{ACCESS_KEY, REGION, SECRET_KEY, locked};

/// A program that the host may run, and for which functions.
#[derive(Debug, Clone)]
pub struct FunctionProgram {
    /// Run for functions whose name or image URI holds this text; the first program that fits is taken.
    pub matches: String,
    /// The program: a Lambda runtime client, as the image's entry point would be.
    pub program: PathBuf,
    /// The most sandboxes of one version at a time; further calls wait for one.
    pub sandboxes: usize,
    /// More environment, say where a library lies that the image would hold.
    pub env: BTreeMap<String, String>,
    /// How long it may take until it asks for its first event. Lambda gives 10 s on demand.
    pub init_timeout: Duration,
}

impl FunctionProgram {
    /// Up to four sandboxes, no more environment, two minutes to start.
    #[must_use]
    pub fn new(matches: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            matches: matches.to_owned(),
            program: program.into(),
            sandboxes: 4,
            env: BTreeMap::new(),
            init_timeout: Duration::from_mins(2),
        }
    }
}

/// How an invocation ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The function's answer.
    Answer(Bytes),
    /// The function failed; the error as JSON.
    FunctionError(Bytes),
    /// No sandbox came free in time.
    Busy,
    /// No program was given for this function.
    NoProgram(String),
}

/// What identifies a set of sandboxes: function, version and, since `$LATEST` changes, its revision.
type Key = (String, String, String);

/// The running host. Its processes end when it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    programs: Vec<FunctionProgram>,
    endpoint: String,
    dir: PathBuf,
    logs: PathBuf,
    pools: Mutex<HashMap<Key, Arc<Pool>>>,
    serial: AtomicU64,
    /// Calls that had to wait for a sandbox to start, by function.
    cold: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
}

impl Host {
    /// Functions call AWS at `endpoint`; access points are folders in `dir`; every sandbox logs in `logs`.
    pub(crate) fn new(programs: Vec<FunctionProgram>, endpoint: String, dir: &Path, logs: &Path) -> Self {
        Self {
            programs,
            endpoint,
            dir: dir.to_owned(),
            logs: logs.to_owned(),
            pools: Mutex::default(),
            serial: AtomicU64::new(0),
            cold: Mutex::default(),
        }
    }

    /// How many calls of a function had to wait for a sandbox to start.
    pub(crate) fn cold_starts(&self, function: &str) -> u64 {
        locked(&self.cold).get(function).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The folder that stands for an access point.
    pub(crate) fn access_point(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Runs one event through the function version with this configuration.
    pub(crate) async fn invoke(&self, config: &Value, payload: Bytes) -> Outcome {
        match self.pool(config) {
            Ok(pool) => pool.invoke(payload).await,
            Err(reason) => Outcome::NoProgram(reason),
        }
    }

    /// Starts `count` sandboxes ahead (at most as many as the program may have) and waits until all ask
    /// for events.
    ///
    /// # Errors
    /// The reason as provisioned concurrency gives it.
    pub(crate) async fn warm(&self, config: &Value, count: u64) -> Result<(), String> {
        self.pool(config)?.warm(usize::try_from(count).unwrap_or(usize::MAX)).await
    }

    /// Ends the sandboxes of a version, or of every version.
    pub(crate) fn forget(&self, function: &str, version: Option<&str>) {
        let gone: Vec<Arc<Pool>> = {
            let mut pools = locked(&self.pools);
            let keys: Vec<Key> = pools
                .keys()
                .filter(|(name, number, _)| {
                    name == function && version.is_none_or(|version| version == number)
                })
                .cloned()
                .collect();
            keys.iter().filter_map(|key| pools.remove(key)).collect()
        };
        for pool in gone {
            pool.close();
        }
    }

    /// Ends everything; calls in flight fail.
    pub(crate) fn close(&self) {
        let all: Vec<Arc<Pool>> = locked(&self.pools).drain().map(|(_, pool)| pool).collect();
        for pool in all {
            pool.close();
        }
    }

    /// Process ids of all sandboxes that wait for events.
    pub(crate) fn pids(&self) -> Vec<u32> {
        locked(&self.pools).values().flat_map(|pool| pool.pids()).collect()
    }

    fn pool(&self, config: &Value) -> Result<Arc<Pool>, String> {
        let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let key = (text("FunctionName"), text("Version"), text("RevisionId"));
        let mut pools = locked(&self.pools);
        if let Some(pool) = pools.get(&key) {
            return Ok(Arc::clone(pool));
        }
        // An older `$LATEST` takes no more calls; those in flight keep their pool alive until they end.
        pools.retain(|(name, version, _), _| *name != key.0 || *version != key.1);
        let image = text("ImageUri");
        let program = self
            .programs
            .iter()
            .find(|program| image.contains(&program.matches) || key.0.contains(&program.matches))
            .ok_or_else(|| {
                format!("the function host was given no program for function {} (image {image:?})", key.0)
            })?;
        let cold = Arc::clone(locked(&self.cold).entry(key.0.clone()).or_default());
        let pool = Arc::new(Pool::new(self.spec(config, program), cold));
        pools.insert(key, Arc::clone(&pool));
        Ok(pool)
    }

    fn spec(&self, config: &Value, program: &FunctionProgram) -> sandbox::Spec {
        let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let (name, version) = (text("FunctionName"), text("Version"));
        let mut env: BTreeMap<String, String> = [
            ("AWS_LAMBDA_FUNCTION_NAME", name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", version.clone()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", config["MemorySize"].as_u64().unwrap_or(128).to_string()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
            ("AWS_LAMBDA_LOG_STREAM_NAME", format!("[{version}]")),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("_HANDLER", "bootstrap".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        env.extend(program.env.clone());
        for (key, value) in
            config.pointer("/Environment/Variables").and_then(Value::as_object).into_iter().flatten()
        {
            env.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        let mounted = config.pointer("/FileSystemConfigs/0/Arn").and_then(Value::as_str);
        let root = mounted.and_then(|arn| arn.rsplit('/').next()).map(|id| self.access_point(id));
        if let Some(root) = &root {
            env.insert("LARDER_ROOT".to_owned(), root.display().to_string());
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        sandbox::Spec {
            arn: text("FunctionArn"),
            log: self.logs.join(format!("{}-{}-{serial}", name, version.trim_start_matches('$'))),
            name,
            program: program.program.clone(),
            env,
            root,
            sandboxes: program.sandboxes.max(1),
            init_timeout: program.init_timeout,
            timeout: Duration::from_secs(config["Timeout"].as_u64().unwrap_or(3)),
        }
    }
}
