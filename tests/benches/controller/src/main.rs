//! What the controller costs from 1 to 10,000 endpoints: the real program, a real API server, and AWS in memory on
//! the wire.
//!
//! - [`aws`], [`region`]: AWS, in this process, so that the controller's process is the controller alone.
//! - [`controller`]: the controller's process, and what it takes of processor and memory.
//! - [`endpoints`]: the objects, made, changed and waited for.
//! - [`report`]: the figures, as JSON and as a picture.

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

mod aws;
mod controller;
mod endpoints;
mod region;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use larder_tests::stack::{Options, Stack};

use aws::{Aws, since};
use controller::Controller;
use endpoints::Endpoints;
use region::Waits;
use report::{Report, Size};

#[derive(Debug, Parser)]
struct Cli {
    /// 1, 10 and 100 endpoints only.
    #[arg(long)]
    quick: bool,
    /// Numbers of endpoints, rising.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Seconds for which converged endpoints are watched; at the last size, and a tenth of it before.
    #[arg(long, default_value_t = 660)]
    window: u64,
    /// Where the results go.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// The controller.
    #[arg(long, env = "LARDER")]
    larder: PathBuf,
    /// Where the picture goes; `controller.svg` beside the results when unset.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let sizes = match (&cli.sizes[..], cli.quick) {
        ([], true) => vec![1, 10, 100],
        ([], false) => vec![1, 10, 100, 1_000, 10_000],
        (sizes, _) => sizes.to_vec(),
    };
    std::fs::create_dir_all(&cli.dir)?;
    let json = cli.dir.join("controller.json");
    let svg = cli.svg.clone().unwrap_or_else(|| cli.dir.join("controller.svg"));
    let mut report = Report { quick: cli.quick, ..Report::default() };
    let stack = Stack::start(Options::kubernetes()).await?;
    let aws = Aws::start(Waits::default()).await?;
    let endpoints = Endpoints::new(&stack).await?;
    let last = sizes.last().copied().unwrap_or_default();
    for size in sizes {
        let share = if size == last { 1 } else { 10 };
        let window = Duration::from_secs((cli.window / share).max(10));
        let measured = measure(size, window, &cli, (&stack, &aws, &endpoints)).await;
        let measured = measured.with_context(|| format!("{size} endpoints"))?;
        measured.print();
        report.sizes.push(measured);
        report.write(&json, &svg)?;
    }
    stack.stop().await;
    report.slow = Some(slow(&cli).await.context("one endpoint where AWS takes its time")?);
    report.write(&json, &svg)?;
    report.print();
    println!("{} and {}", json.display(), svg.display());
    Ok(())
}

/// One endpoint, in an AWS that takes as long as AWS does.
async fn slow(cli: &Cli) -> Result<(f64, u64)> {
    let stack = Stack::start(Options::kubernetes()).await?;
    let aws = Aws::start(Waits::as_in_aws()).await?;
    let endpoints = Endpoints::new(&stack).await?;
    let controller = Controller::start(&cli.larder, &stack, aws.address, &cli.dir, None).await?;
    let begun = Instant::now();
    endpoints.create(0..1).await?;
    endpoints.ready(1, Duration::from_mins(10)).await?;
    let calls = aws.calls().values().sum();
    let seconds = begun.elapsed().as_secs_f64();
    println!("AWS takes its time: {seconds:.1} s, {calls} calls");
    controller.stop().await;
    stack.stop().await;
    Ok((seconds, calls))
}

async fn measure(
    size: usize,
    window: Duration,
    cli: &Cli,
    (stack, aws, endpoints): (&Stack, &Aws, &Endpoints),
) -> Result<Size> {
    let before = aws.functions().len() / 2;
    let made = size.checked_sub(before).context("the sizes must rise")?;
    // How many calls, and how long without a wait: ten thousand endpoints at AWS's rates would take a night.
    aws.set_rates(false);
    let controller = Controller::start(&cli.larder, stack, aws.address, &cli.dir, Some(1000)).await?;
    let (calls, cpu, begun) = (aws.calls(), controller.cpu_seconds()?, Instant::now());
    let within = Duration::from_mins(5) + Duration::from_millis(500) * u32::try_from(made)?;
    endpoints.create(before..size).await?;
    endpoints.ready(size, within).await?;
    let converge_seconds = begun.elapsed().as_secs_f64();
    let converge_cpu_seconds = controller.cpu_seconds()? - cpu;
    let fresh = since(&calls, &aws.calls());
    let rss_peak_mib = controller.rss_mib("VmHWM:")?;
    controller.stop().await;

    // From here on AWS has its rates, and the controller, started anew, keeps to its part of them.
    aws.set_rates(true);
    let controller = Controller::start(&cli.larder, stack, aws.address, &cli.dir, None).await?;
    // Each endpoint is looked at once in the beginning, twenty a second.
    tokio::time::sleep(Duration::from_secs(5) + Duration::from_millis(50) * u32::try_from(size)?).await;
    let act = endpoints.acts(aws, size).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    endpoints.ready(size, Duration::from_mins(5)).await?;
    let (calls, cpu, throttled, begun) =
        (aws.calls(), controller.cpu_seconds()?, aws.throttled(), Instant::now());
    let (drifted, drift) = endpoints.drift(aws, size, window).await?;
    tokio::time::sleep(window.saturating_sub(begun.elapsed())).await;
    let over = begun.elapsed();
    let steady = since(&calls, &aws.calls());
    ensure!(controller.is_alive(), "the controller has ended: see its log");
    let measured = Size {
        endpoints: size,
        made,
        converge_seconds,
        converge_cpu_seconds,
        fresh,
        rss_mib: controller.rss_mib("VmRSS:")?,
        rss_peak_mib,
        act_seconds: act,
        drift_seconds: drift,
        drifted,
        window_seconds: over.as_secs_f64(),
        steady_rates: aws::rates(&steady, over),
        steady,
        steady_cpu: (controller.cpu_seconds()? - cpu) / over.as_secs_f64(),
        throttled: aws.throttled() - throttled,
    };
    controller.stop().await;
    Ok(measured)
}
