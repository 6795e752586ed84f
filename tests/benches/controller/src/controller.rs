//! The controller's process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use larder_tests::stack::Stack;
use tokio::process::{Child, Command};

/// Clock ticks a second in `/proc` (proc(5)); the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// A running controller. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Controller {
    child: Child,
    pid: u32,
}

impl Controller {
    /// Starts it, and waits until it is ready. Without `calls_per_second` it keeps to its own part of AWS's rates.
    pub(crate) async fn start(
        program: &Path,
        stack: &Stack,
        aws: SocketAddr,
        dir: &Path,
        calls_per_second: Option<u32>,
    ) -> Result<Self> {
        let log = dir.join("controller.log");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let health = format!("127.0.0.1:{port}");
        let child = Command::new(program)
            .args(["run", "--listen", &health, "--no-leader-election", "--cluster-id", "bench"])
            .args(calls_per_second.map(|calls| format!("--calls-per-second={calls}")))
            .env_clear()
            .envs([
                ("KUBECONFIG", stack.kubeconfig().display().to_string()),
                ("AWS_ENDPOINT_URL", format!("http://{aws}")),
                ("AWS_ACCESS_KEY_ID", "bench".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "bench".to_owned()),
                ("AWS_REGION", "eu-west-1".to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
                (
                    "LARDER_SYNC_CODE",
                    "111122223333.dkr.ecr.eu-west-1.amazonaws.com/larder-model-sync:1".to_owned(),
                ),
                ("RUST_LOG", "warn".to_owned()),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let pid = child.id().context("the controller has ended")?;
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(&health).await.is_err() {
            ensure!(begun.elapsed() < Duration::from_secs(20), "not ready: {}", fs::read_to_string(&log)?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The watch begins a moment after.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Self { child, pid })
    }

    pub(crate) async fn stop(mut self) {
        // It has nothing to finish that anybody would miss.
        let _ended = self.child.kill().await;
    }

    pub(crate) fn is_alive(&self) -> bool {
        Path::new(&format!("/proc/{}/fd", self.pid)).exists()
    }

    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (_, fields) = text.rsplit_once(") ").context("/proc/<pid>/stat")?;
        // `utime` and `stime`, the 14th and 15th, where the 3rd is the first after the name.
        let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
        Ok(ticks.iter().sum::<f64>() / TICKS)
    }

    /// A field of its memory, MiB.
    pub(crate) fn rss_mib(&self, field: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).context("/proc/<pid>/status")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}
