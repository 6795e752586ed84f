//! `copy`: one prefix into a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use larder_contract::source::S3Prefix;
use larder_contract::{Digest, layout};
use serde::Serialize;

use super::{CommandError, print, show, stop_by_signal};
use crate::copy::{CopyError, Ending, budget, copy};
use crate::listing::list;
use crate::s3::{self, S3};
use crate::store::{self, Failure};
use crate::transfer::{Progress, Settings};

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// The prefix, as `s3://BUCKET/PREFIX/`; a last / is added when there is none.
    #[arg(value_name = "S3_URL", value_parser = place)]
    from: S3Prefix,
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
    /// How long the server may be silent before a request is tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    stall_seconds: u64,
    /// Neither bar nor indentation: one line of JSON.
    #[arg(long)]
    json: bool,
}

fn place(url: &str) -> Result<S3Prefix, String> {
    let rest = url.strip_prefix("s3://").ok_or("an address starts with s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("the bucket's name is missing after s3://".to_owned());
    }
    let mut prefix = prefix.to_owned();
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    Ok(S3Prefix { bucket: bucket.to_owned(), prefix })
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
    /// Hard links to files of other revisions in the folder.
    files_linked: u64,
    bytes_linked: u64,
    retries: u64,
}

pub(super) async fn run(args: CopyArgs) -> Result<(), CommandError> {
    let started = Instant::now();
    let settings = Settings {
        part_bytes: args.part_mib << 20,
        parts_in_flight: args.parts.into(),
        stall: Duration::from_secs(args.stall_seconds),
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
}
