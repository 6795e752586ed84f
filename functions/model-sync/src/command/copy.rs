//! `copy`: one model into a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use larder_contract::{Digest, ModelSource, Worker, layout};
use larder_sources::{Credentials, Sources};
use serde::Serialize;

use super::{CommandError, address, print, show, stop_by_signal};
use crate::anywhere::{Anywhere, Opener};
use crate::copy::{CopyError, Ending, budget, copy};
use crate::listing::list;
use crate::s3;
use crate::source::Source as _;
use crate::store::{self, Failure};
use crate::transfer::{Progress, Settings};

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    #[arg(value_name = "ADDRESS", value_parser = address::parse, help = address::FORMS)]
    from: ModelSource,
    /// The folder to copy to.
    dir: PathBuf,
    /// A server other than AWS, or a hub other than huggingface.co.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Of a hub, only files that match; * stands for anything. May be given more than once.
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Who asks a registry, hub or server: {"username": …, "password": …} or {"token": …}.
    #[arg(long, env = "LARDER_CREDENTIALS", value_name = "JSON", hide_env_values = true)]
    credentials: Option<Credentials>,
    /// The same, as a secret in AWS Secrets Manager.
    #[arg(long, value_name = "ARN", conflicts_with = "credentials")]
    secret: Option<String>,
    /// A host that may have a private address, beside those of the address; for redirects.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// The bucket's region [default: by the environment, else us-east-1].
    #[arg(long)]
    region: Option<String>,
    /// The length of the parts that are fetched at once.
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=4096))]
    part_mib: u64,
    /// How many parts are fetched at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    parts: u16,
    /// The memory that the copy may take; settings that may take more are refused.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    memory_mib: u64,
    /// The revision that must be there: anything else is refused, and nothing copied.
    #[arg(long, value_name = "sha256:…")]
    digest: Option<Digest>,
    /// Certificate authorities in PEM that the server may have its certificate from, beside the public ones.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How long the server may be silent before a request is tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    stall_seconds: u64,
    /// Which of several processes this is that copy together, counted from 0, and of how many. On one machine or on
    /// several with the same network file system; the last to finish makes the revision complete.
    #[arg(long, value_name = "INDEX/OF")]
    worker: Option<Worker>,
    /// Neither bar nor indentation: one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What a copy came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    revision: Digest,
    directory: PathBuf,
    /// The revision was complete before.
    already_present: bool,
    /// The revision is complete now. Not so when other workers are still at their shares.
    is_complete: bool,
    files: u64,
    bytes: u64,
    seconds: f64,
    /// Of what was fetched now, not of what was there.
    bytes_per_second: u64,
    parts_fetched: u64,
    parts_already_present: u64,
    /// Hard links to files of other revisions in the folder.
    files_linked: u64,
    bytes_linked: u64,
    retries: u64,
}

async fn open(args: &CopyArgs) -> Result<Anywhere, CommandError> {
    let endpoint = args.endpoint_url.as_deref();
    let from = address::with(args.from.clone(), endpoint, args.secret.as_deref(), &args.include);
    let hosts = [address::hosts(&from), args.allow_host.clone()].concat();
    let authorities = match &args.ca_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|e| CommandError::CaFile(path.clone(), e))?),
        None => None,
    };
    let sources = Sources::new(hosts, authorities.as_deref())?;
    // A hub's endpoint is no endpoint of AWS.
    let endpoint = endpoint.filter(|_| matches!(from, ModelSource::S3(_)));
    let config = s3::config(endpoint, args.region.clone()).await;
    Ok(Opener::new(config, sources).open(&from, args.credentials.clone()))
}

pub(super) async fn run(args: CopyArgs) -> Result<(), CommandError> {
    let started = Instant::now();
    let settings = Settings {
        part_bytes: args.part_mib << 20,
        parts_in_flight: args.parts.into(),
        stall: Duration::from_secs(args.stall_seconds),
        worker: args.worker,
        ..Settings::default()
    };
    let (parts, most) = (args.parts, args.memory_mib);
    let may_take = settings.memory().div_ceil(1 << 20);
    if may_take > most {
        return Err(CommandError::Memory { parts, may_take, most });
    }
    let stop = stop_by_signal()?;
    let progress = Arc::new(Progress::default());
    let bar = (!args.json).then(|| show(&progress));
    let source = Arc::new(open(&args).await?);

    let budget = budget(&settings, 1);
    let listed = stop.run_until_cancelled(list(&*source, &budget, settings.stall)).await;
    let listing = listed.ok_or(CommandError::Stopped)?.map_err(CopyError::from)?;
    if let Some(wanted) = args.digest.filter(|wanted| *wanted != listing.revision) {
        return Err(CopyError::OtherRevision { place: source.place(), wanted, is: listing.revision }.into());
    }
    let copied = copy(source, &args.dir, &listing, &settings, &progress, &stop).await;
    drop(bar);
    let ending = copied.inspect_err(|error| {
        let failure = Failure { state: error.state(), message: error.to_string() };
        if let Err(error) = store::keep_failure(&args.dir, &listing.revision, &failure) {
            tracing::debug!(%error, "the failure cannot be kept for status");
        }
    })?;
    match ending {
        Ending::Copied | Ending::Present | Ending::Shared => {}
        Ending::Running => return Err(CommandError::Running(args.dir)),
        Ending::Stopped => return Err(CommandError::Stopped),
    }
    let seconds = started.elapsed().as_secs_f64();
    let summary = Summary {
        revision: listing.revision,
        directory: layout::revision_dir(&args.dir, &listing.revision),
        already_present: ending == Ending::Present,
        is_complete: ending != Ending::Shared,
        files: listing.objects.len() as u64,
        bytes: listing.bytes(),
        seconds,
        bytes_per_second: rate(progress.bytes_fetched.load(Ordering::Relaxed), seconds),
        parts_fetched: progress.parts_fetched.load(Ordering::Relaxed),
        parts_already_present: progress.parts_found.load(Ordering::Relaxed),
        files_linked: progress.files_linked.load(Ordering::Relaxed),
        bytes_linked: progress.bytes_linked.load(Ordering::Relaxed),
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
