//! The command line: copies one prefix, or shows what a folder holds.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use larder_contract::sync::ModelState;
use larder_contract::{Digest, layout};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::copy::{CopyError, Ending, budget, copy};
use crate::listing::list;
use crate::s3::{self, S3};
use crate::source::Place;
use crate::status;
use crate::store::{self, Failure};
use crate::transfer::{Progress, Settings};

/// Copies models from S3 to a folder: verified, resumable, atomic.
#[derive(Debug, Parser)]
#[command(name = "larder-model-sync", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copies a prefix into DIR/revisions/<sha256>. Run it again to go on where it stopped.
    Copy(CopyArgs),
    /// Shows the revisions in DIR and how far they are, as JSON.
    Status {
        /// The folder that `copy` wrote to.
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct CopyArgs {
    /// The prefix, as `s3://BUCKET/PREFIX/`; a last / is added when there is none.
    #[arg(value_name = "S3_URL", value_parser = place)]
    from: Place,
    /// The folder to copy to.
    dir: PathBuf,
    /// A server other than AWS.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The bucket's region [default: by the environment, else us-east-1].
    #[arg(long)]
    region: Option<String>,
    /// The length of the parts that are fetched at once.
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=4096))]
    part_mib: u64,
    /// How many parts are fetched at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    parts: u16,
    /// Neither bar nor indentation: one line of JSON.
    #[arg(long)]
    json: bool,
}

fn place(url: &str) -> Result<Place, String> {
    let rest = url.strip_prefix("s3://").ok_or("an address starts with s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("the bucket's name is missing after s3://".to_owned());
    }
    let mut prefix = prefix.to_owned();
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    Ok(Place { bucket: bucket.to_owned(), prefix })
}

/// What a copy came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    revision: Digest,
    directory: PathBuf,
    /// The revision was complete before.
    already_present: bool,
    files: u64,
    bytes: u64,
    seconds: f64,
    /// Of what was fetched now, not of what was there.
    bytes_per_second: u64,
    parts_fetched: u64,
    parts_already_present: u64,
    retries: u64,
}

/// A command that failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("stopped; run the same command again to go on")]
    Stopped,
    #[error("another process is copying this revision to {0}; run the command again when it is done")]
    Running(PathBuf),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write to the standard output: {0}")]
    Output(io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// Does what was asked; 0 when it worked, 1 when not. (2, for wrong usage, is [`Parser::parse`]'s.)
pub async fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Copy(args) => run_copy(args).await,
        Command::Status { dir } => run_status(&dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when this cannot be written.
            let _ = writeln!(io::stderr(), "larder-model-sync: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run_copy(args: CopyArgs) -> Result<(), CommandError> {
    let started = Instant::now();
    let settings = Settings {
        part_bytes: args.part_mib << 20,
        parts_in_flight: args.parts.into(),
        ..Settings::default()
    };
    let stop = stop_by_signal()?;
    let progress = Arc::new(Progress::default());
    let bar = (!args.json).then(|| show(&progress));
    let client = s3::client(args.endpoint_url.as_deref(), args.region.clone()).await;
    let source = Arc::new(S3::new(client, args.from.clone()));

    let budget = budget(&settings, 1);
    let listed = stop.run_until_cancelled(list(&*source, &budget, settings.stall)).await;
    let listing = listed.ok_or(CommandError::Stopped)?.map_err(CopyError::from)?;
    let copied = copy(source, &args.dir, &listing, &settings, &progress, &stop).await;
    drop(bar);
    let ending = copied.inspect_err(|error| {
        let failure = Failure { state: error.state(), message: error.to_string() };
        if let Err(error) = store::keep_failure(&args.dir, &listing.revision, &failure) {
            tracing::debug!(%error, "the failure cannot be kept for status");
        }
    })?;
    let already_present = match ending {
        Ending::Copied => false,
        Ending::Present => true,
        Ending::Running => return Err(CommandError::Running(args.dir)),
        Ending::Stopped => return Err(CommandError::Stopped),
    };
    let seconds = started.elapsed().as_secs_f64();
    let summary = Summary {
        revision: listing.revision,
        directory: layout::revision_dir(&args.dir, &listing.revision),
        already_present,
        files: listing.objects.len() as u64,
        bytes: listing.bytes(),
        seconds,
        bytes_per_second: rate(progress.bytes_fetched.load(Ordering::Relaxed), seconds),
        parts_fetched: progress.parts_fetched.load(Ordering::Relaxed),
        parts_already_present: progress.parts_found.load(Ordering::Relaxed),
        retries: progress.retries.load(Ordering::Relaxed),
    };
    print(&summary, args.json)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people: no more exact than the clock"
)]
fn rate(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds.max(0.001)) as u64
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
    const TEMPLATE: &str = "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    let progress = Arc::clone(progress);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            bar.set_length(progress.bytes_total.load(Ordering::Relaxed));
            bar.set_position(progress.bytes.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }))
}

/// One revision in the answer to `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RevisionStatus {
    revision: Digest,
    state: ModelState,
    running: bool,
    bytes_done: u64,
    bytes_total: u64,
    files: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

fn run_status(dir: &Path) -> Result<(), CommandError> {
    let mut revisions: Vec<Digest> = Vec::new();
    for part in ["revisions", "staging"] {
        revisions.extend(folders_named_by_digest(&dir.join(part))?);
    }
    revisions.sort();
    revisions.dedup();
    let now = SystemTime::now();
    let shown = revisions.into_iter().map(|revision| {
        let found = status::look(dir, &revision, now);
        RevisionStatus {
            revision,
            state: found.state,
            running: store::is_running(dir, &revision, now),
            bytes_done: found.bytes_done,
            bytes_total: found.bytes_total,
            files: found.files,
            message: found.message,
        }
    });
    print(&shown.collect::<Vec<_>>(), false)
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

    #[test]
    fn addresses_are_buckets_and_folders() {
        let check = |url: &str| place(url).map(|p| (p.bucket, p.prefix));
        let ok = |bucket: &str, prefix: &str| Ok((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(check("s3://b/p/q/"), ok("b", "p/q/"));
        assert_eq!(check("s3://b/p"), ok("b", "p/"));
        assert_eq!(check("s3://b"), ok("b", ""));
        assert_eq!(check("s3:///p"), Err("the bucket's name is missing after s3://".to_owned()));
        assert_eq!(check("/p"), Err("an address starts with s3://".to_owned()));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
