//! The command line: copies one model, verifies what was copied, or shows what a folder holds.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage; 3 a revision is damaged; 4 stopped by a signal; 5 another process
//! is copying the same.

mod address;
mod copy;
mod status;
mod verify;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use larder_contract::Digest;
use larder_sources::AuthorityError;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::copy::CopyError;
use crate::store::StoreError;
use crate::transfer::Progress;

/// Copies models to a folder: verified, resumable, atomic.
#[derive(Debug, Parser)]
#[command(name = "larder-model-sync", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a revision is damaged, 4 stopped by a signal, \
                        5 another process is copying the same"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copies a model into DIR/revisions/<sha256>. Run it again to go on where it stopped.
    Copy(Box<copy::CopyArgs>),
    /// Reads the revisions in DIR and compares them with what was recorded when they were copied.
    Verify(verify::VerifyArgs),
    /// Shows the revisions in DIR and how far they are, as JSON.
    Status {
        /// The folder that `copy` wrote to.
        dir: PathBuf,
    },
}

/// A command that failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "--parts {parts} may take {may_take} MiB, more than --memory-mib {most}: give fewer parts or more memory"
    )]
    Memory { parts: u16, may_take: u64, most: u64 },
    #[error("stopped; run the same command again to go on")]
    Stopped,
    #[error("another process is copying this revision to {0}; run the command again when it is done")]
    Running(PathBuf),
    #[error("{0} of {1} revisions are damaged; copy them again to another folder, and serve from there")]
    Damaged(usize, usize),
    #[error("{0} of {1} revisions have no record to be compared with; copy them again")]
    Unrecorded(usize, usize),
    #[error("{0} holds no revisions; name the folder that `copy` wrote to")]
    NoRevisions(PathBuf),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("a worker died: {0}; this is a fault of the program")]
    Worker(#[from] tokio::task::JoinError),
    #[error("cannot write to the standard output: {0}")]
    Output(io::Error),
    #[error("cannot read {path}: {1}", path = .0.display())]
    CaFile(PathBuf, io::Error),
    #[error(transparent)]
    Authorities(#[from] AuthorityError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

impl CommandError {
    fn code(&self) -> ExitCode {
        match self {
            Self::Memory { .. } => 2.into(),
            Self::Damaged(..) => 3.into(),
            Self::Stopped => 4.into(),
            Self::Running(_) => 5.into(),
            Self::Copy(_)
            | Self::Store(_)
            | Self::Unrecorded(..)
            | Self::NoRevisions(_)
            | Self::Read { .. }
            | Self::Worker(_)
            | Self::Output(_)
            | Self::CaFile(..)
            | Self::Authorities(_)
            | Self::Signals(_) => ExitCode::FAILURE,
        }
    }
}

/// Does what was asked. (Exit code 2, for wrong usage, is [`Parser::parse`]'s.)
pub async fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Copy(args) => copy::run(*args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Status { dir } => status::run(&dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when this cannot be written.
            let _ = writeln!(io::stderr(), "larder-model-sync: {error}");
            error.code()
        }
    }
}

/// A token that the first SIGINT or SIGTERM cancels.
fn stop_by_signal() -> Result<CancellationToken, CommandError> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).map_err(CommandError::Signals)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}

/// A bar on standard error that follows `progress` until it is dropped; none where that is no terminal.
fn show(progress: &Arc<Progress>) -> AbortOnDropHandle<()> {
    const TEMPLATE: &str = "{bar:30} {bytes}/{total_bytes}{msg}, {binary_bytes_per_sec}, {eta} left";
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    let progress = Arc::clone(progress);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let files = progress.files_total.load(Ordering::Relaxed);
            if files > 0 {
                bar.set_message(format!(", {}/{files} files", progress.files.load(Ordering::Relaxed)));
            }
            bar.set_length(progress.bytes_total.load(Ordering::Relaxed));
            bar.set_position(progress.bytes.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }))
}

fn folders_named_by_digest(dir: &Path) -> Result<Vec<Digest>, CommandError> {
    let failed = |source| CommandError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound && dir.parent().is_some_and(Path::is_dir) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        found.extend(entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()));
    }
    Ok(found)
}

fn print(value: &impl Serialize, one_line: bool) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    let text = if one_line || !out.is_terminal() {
        serde_json::to_string(value)
    } else {
        serde_json::to_string_pretty(value)
    };
    let text = text.map_err(|e| CommandError::Output(e.into()))?;
    writeln!(out, "{text}").map_err(CommandError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::Settings;

    /// What the command line lets through without `--memory-mib` holds the default's promise.
    #[test]
    fn as_many_parts_as_fit_are_let_through() {
        let of = |parts_in_flight| Settings { parts_in_flight, ..Settings::default() }.memory() >> 20;
        assert_eq!((of(16), of(32), of(33), of(256)), (160, 256, 262, 1_600));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
