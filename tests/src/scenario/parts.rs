//! What a scenario starts and what it is answered.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hyper::StatusCode;

use crate::stack::process::Program;

/// A running `larder run`.
#[derive(Debug)]
pub struct Controller {
    pub(super) program: Program,
    /// Where `/healthz` and `/readyz` answer.
    pub health: SocketAddr,
    /// Its log.
    pub log: PathBuf,
}

impl Controller {
    /// Kills it, as a crash would.
    pub fn kill(self) {
        drop(self.program);
    }

    /// Asks it to end and waits for that.
    pub async fn stop(self) {
        self.program.stop().await;
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.program.id()
    }
}

/// What an HTTP request was answered with.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The Lambda version that answered, as the function says.
    pub version: String,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// A server of files on loopback.
#[derive(Debug)]
pub struct FileServer {
    /// Where, with a slash at its end.
    pub url: String,
    pub(super) _program: Program,
}
