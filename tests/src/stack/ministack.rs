//! `MiniStack`: AWS on the wire.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::error::StackError;
use super::process::{Launch, Program};
use super::tools::Tools;
use super::{ACCOUNT, REGION, http, ports};

const READY_WITHIN: Duration = Duration::from_mins(1);
const ATTEMPTS: usize = 3;

/// An emulator that answers.
#[derive(Debug)]
pub(crate) struct MiniStack {
    pub(crate) address: SocketAddr,
    program: Program,
}

impl MiniStack {
    /// Starts it in `dir`, empty.
    pub(crate) async fn start(tools: &Tools, dir: &Path, logs: &Path) -> Result<Self, StackError> {
        std::fs::create_dir_all(dir).map_err(StackError::io(format!("make {}", dir.display())))?;
        let mut attempt = 1;
        loop {
            match Self::attempt(tools, dir, logs).await {
                Err(StackError::Ended { .. }) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn attempt(tools: &Tools, dir: &Path, logs: &Path) -> Result<Self, StackError> {
        let port = ports::free()?;
        let mut program = Launch::new("MiniStack", &tools.python, dir, logs.join("ministack.log"))
            .args(["-m", "ministack"])
            .env([
                ("GATEWAY_PORT", port.to_string().as_str()),
                ("BIND_HOST", "127.0.0.1"),
                ("MINISTACK_HOST", "127.0.0.1"),
                ("MINISTACK_REGION", REGION),
                ("MINISTACK_ACCOUNT_ID", ACCOUNT),
                ("SFTP_ENABLED", "0"),
                ("IOT_MTLS_ENABLED", "0"),
                // No container of a test may be found and reaped by another's emulator.
                ("DOCKER_HOST", "unix:///nonexistent/docker.sock"),
                ("LAMBDA_EXECUTOR", "local"),
            ])
            .start()
            .await?;
        let ready = format!("http://127.0.0.1:{port}/_ministack/ready");
        program.ready(READY_WITHIN, || http::answers(&ready)).await?;
        Ok(Self { address: SocketAddr::from(([127, 0, 0, 1], port)), program })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.program.id()
    }

    pub(crate) async fn stop(self) {
        self.program.stop().await;
    }
}
