//! The real thing on one machine.
//!
//! - [`kubernetes`]: etcd and kube-apiserver.
//! - [`ministack`]: AWS on the wire.
//! - [`proxy`]: in front of it: counts calls, injects faults, and does what AWS does and the emulator
//!   does not.
//! - [`host`]: runs the real function binaries, one set of sandboxes per published version.
//! - [`leftovers`]: what a delete has left behind.
//! - [`cloud`]: those put together, and what a [`Stack`] says of AWS.
//! - [`process`], [`ports`], [`tools`], [`aws`], [`http`]: what those need.
//!
//! Everything listens on loopback, lies in one temporary folder, and ends with the [`Stack`], also when
//! the test panics or is killed. When a test panics, the folder stays and its path is printed.
//!
//! ```no_run
//! # async fn example() -> Result<(), larder_tests::stack::StackError> {
//! use larder_tests::stack::{Fault, Options, Rule, Stack, When};
//!
//! let stack = Stack::start(Options::default()).await?;
//! stack.inject(Rule::new("efs", "CreateFileSystem", When::Nth(1), Fault::ResetAfter));
//! let nodes = stack.kubectl(&["get", "nodes"]).await?;
//! # drop(nodes);
//! stack.stop().await;
//! # Ok(())
//! # }
//! ```

mod aws;
mod cloud;
mod error;
mod host;
pub(crate) mod http;
mod kubernetes;
mod leftovers;
mod ministack;
pub(crate) mod ports;
pub(crate) mod process;
mod proxy;
pub(crate) mod tools;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::error::StackError;
pub use self::host::FunctionProgram;
pub use self::leftovers::Leftover;
pub use self::proxy::fault::{Fault, Rule, When};
pub use self::proxy::{Calls, Timings};
pub use self::tools::Tools;

use self::cloud::Cloud;
use self::kubernetes::Kubernetes;

/// The region of everything in the stack.
pub const REGION: &str = "eu-west-1";
/// The account of everything in the stack.
pub const ACCOUNT: &str = "000000000000";
/// The access key that the stack's clients sign with.
pub const ACCESS_KEY: &str = "test";
/// The secret key that the stack's clients sign with.
pub const SECRET_KEY: &str = "test";

/// How long one run of kubectl may take.
const KUBECTL_WITHIN: Duration = Duration::from_mins(1);

/// Which parts to start, and how they behave.
#[derive(Debug, Clone)]
pub struct Options {
    /// etcd and kube-apiserver.
    pub kubernetes: bool,
    /// `MiniStack` and the proxy in front of it.
    pub aws: bool,
    /// What the function host runs. Without any, invocations go to `MiniStack`.
    pub programs: Vec<FunctionProgram>,
    /// How long AWS takes for things.
    pub timings: Timings,
}

impl Default for Options {
    fn default() -> Self {
        Self { kubernetes: true, aws: true, programs: Vec::new(), timings: Timings::default() }
    }
}

impl Options {
    /// No Kubernetes.
    #[must_use]
    pub fn aws() -> Self {
        Self { kubernetes: false, ..Self::default() }
    }

    /// No AWS.
    #[must_use]
    pub fn kubernetes() -> Self {
        Self { aws: false, ..Self::default() }
    }

    /// Also runs functions with this program.
    #[must_use]
    pub fn program(mut self, program: FunctionProgram) -> Self {
        self.programs.push(program);
        self
    }
}

/// A running stack. Dropping it ends everything at once; [`Stack::stop`] does so in order.
#[derive(Debug)]
pub struct Stack {
    kubernetes: Option<Kubernetes>,
    cloud: Option<Cloud>,
    tools: Tools,
    // Last: the others write into it.
    dir: tempfile::TempDir,
}

impl Stack {
    /// Starts what `options` name and waits until it answers.
    ///
    /// # Errors
    /// [`StackError`] says which program did not come up, with the end of its log.
    pub async fn start(options: Options) -> Result<Self, StackError> {
        let tools = Tools::find()?;
        let dir = tempfile::Builder::new()
            .prefix("larder-stack-")
            .tempdir()
            .map_err(StackError::io("make a temporary folder"))?;
        let logs = dir.path().join("logs");
        std::fs::create_dir_all(&logs).map_err(StackError::io("make the folder of the logs"))?;
        let kubernetes = async {
            if options.kubernetes {
                Kubernetes::start(&tools, &dir.path().join("kubernetes"), &logs).await.map(Some)
            } else {
                Ok(None)
            }
        };
        let cloud = async {
            if options.aws {
                Cloud::start(&tools, dir.path(), &logs, &options).await.map(Some)
            } else {
                Ok(None)
            }
        };
        let (kubernetes, cloud) = tokio::try_join!(kubernetes, cloud)?;
        Ok(Self { kubernetes, cloud, tools, dir })
    }

    /// Ends everything in order: functions, API server, etcd, emulator.
    pub async fn stop(mut self) {
        if let Some(Cloud { proxy, host, ministack, .. }) = self.cloud.take() {
            drop(proxy);
            if let Some(host) = host {
                host.close();
            }
            ministack.stop().await;
        }
        if let Some(kubernetes) = self.kubernetes.take() {
            kubernetes.stop().await;
        }
    }

    /// Ends the cluster, with everything that is in it, and starts another one, which is empty. AWS stays.
    ///
    /// # Errors
    /// [`StackError`] says which program did not come up, with the end of its log.
    pub async fn new_cluster(&mut self) -> Result<(), StackError> {
        let dir = self.dir.path().join("kubernetes");
        if let Some(kubernetes) = self.kubernetes.take() {
            kubernetes.stop().await;
        }
        std::fs::remove_dir_all(&dir).map_err(StackError::io(format!("remove {}", dir.display())))?;
        self.kubernetes = Some(Kubernetes::start(&self.tools, &dir, &self.logs_dir()).await?);
        Ok(())
    }

    /// The folder that everything lies in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of every program's log.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// The programs that the stack was started with.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Process ids of everything that was started, sandboxes in use left out.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = self.kubernetes.as_ref().map(Kubernetes::pids).unwrap_or_default();
        if let Some(cloud) = &self.cloud {
            pids.extend(cloud.ministack.pid());
            pids.extend(cloud.host.iter().flat_map(|host| host.pids()));
        }
        pids
    }

    /// The kubeconfig file of a cluster administrator.
    ///
    /// # Panics
    /// When Kubernetes was left out.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &started(self.kubernetes.as_ref(), "Kubernetes").kubeconfig
    }

    /// A client of the API server, as a cluster administrator.
    ///
    /// # Panics
    /// When Kubernetes was left out.
    #[must_use]
    pub fn kube(&self) -> kube::Client {
        started(self.kubernetes.as_ref(), "Kubernetes").client.clone()
    }

    /// Runs kubectl against the cluster.
    ///
    /// # Errors
    /// When it cannot be run or takes too long. Its own failure is in the output's status.
    ///
    /// # Panics
    /// When Kubernetes was left out.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Output, StackError> {
        self.kubectl_with(args, "").await
    }

    /// [`Stack::kubectl`] with an input, for `apply -f -`.
    ///
    /// # Errors
    /// When it cannot be run or takes too long. Its own failure is in the output's status.
    ///
    /// # Panics
    /// When Kubernetes was left out.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> Result<Output, StackError> {
        let failed = StackError::io(format!("run kubectl {}", args.join(" ")));
        let env = [("HOME", self.dir()), ("KUBECONFIG", self.kubeconfig())];
        let program = self.tools.assets.join("kubectl");
        process::fed(&program, args, &env, input, KUBECTL_WITHIN).await.map_err(failed)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(host) = self.cloud.as_ref().and_then(|cloud| cloud.host.as_ref()) {
            host.close();
        }
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the logs of the stack are in {}", self.logs_dir().display());
        }
    }
}

#[expect(clippy::panic, reason = "a test that asks for what it left out is wrong, and must fail at once")]
fn started<'a, T>(part: Option<&'a T>, name: &str) -> &'a T {
    match part {
        Some(part) => part,
        None => panic!("{name} was left out of this stack's options"),
    }
}

/// Locks a mutex whose data cannot be left half changed by a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
