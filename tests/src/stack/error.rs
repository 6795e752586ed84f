//! What can go wrong while the stack runs.

use std::path::PathBuf;

/// Why the stack could not do what a test asked for.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A program that the stack needs is not on this machine.
    #[error(
        "{0} is missing: run `make tools` (tests/tools/setup.sh), which makes everything that the tests need"
    )]
    Missing(String),
    /// A program could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// The program's name.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ended although it should serve.
    #[error("{program} ended ({how}); the end of its log {log}:\n{tail}")]
    Ended {
        /// The program's name.
        program: String,
        /// Its exit status.
        how: String,
        /// Where its whole log is.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A program runs but does not answer.
    #[error("{program} was not ready after {seconds} s; the end of its log {log}:\n{tail}")]
    NotReady {
        /// The program's name.
        program: String,
        /// How long it was waited for.
        seconds: u64,
        /// Where its whole log is.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A file, folder or socket.
    #[error("cannot {what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificates and keys of the API server.
    #[error("cannot make the API server's certificates")]
    Certificates(#[from] rcgen::Error),
    /// The client for the API server.
    #[error("cannot make a Kubernetes client from {path}")]
    Kubeconfig {
        /// The kubeconfig file.
        path: PathBuf,
        /// What the client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An AWS call of the stack's own.
    #[error("{operation} failed: {message}")]
    Aws {
        /// The operation's name.
        operation: &'static str,
        /// Every cause, joined.
        message: String,
    },
}

impl StackError {
    /// For `map_err`: names the operation on a file, folder or socket.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: keeps what an SDK said, with its causes.
    pub(crate) fn aws<E: std::error::Error>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |error| {
            let mut message = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                message = format!("{message}: {inner}");
                cause = inner.source();
            }
            Self::Aws { operation, message }
        }
    }
}
