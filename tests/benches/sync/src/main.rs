//! Copies the same objects with several programs, in one run, and compares.
//!
//! - [`objects`]: the cases: what is copied. Nothing of it is stored: the bytes are slices of one block.
//! - [`server`]: an S3 server that costs as little as it can, because it shares the machine with the others. A
//!   process of its own.
//! - [`raw`]: what server and disk can do, each alone.
//! - [`tools`]: the programs, each set up as its makers advise for speed.
//! - [`measure`]: one run: time until all is on disk, processor time, peak memory.
//! - [`report`]: ratios, as JSON and as a picture.

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

mod measure;
mod objects;
mod raw;
mod report;
mod server;
mod tools;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use objects::{Case, Objects};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// An eighth of the bytes and a tenth of the files.
    #[arg(long)]
    quick: bool,
    /// How often each program copies each case.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Only these cases, by name.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Only these programs, by name.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// Only larder-model-sync, with each of these settings, as `MIBxPARTS`: the length of parts in MiB, and how many
    /// are fetched at once.
    #[arg(long, value_delimiter = ',')]
    variants: Vec<String>,
    /// Each program on one processor of its own, which is what an invocation of Lambda has with 1,769 MB.
    #[arg(long)]
    one_processor: bool,
    /// AWS's S3 transfer manager, to compare with it, too: see tests/benches/transfer-manager.
    #[arg(long, env = "LARDER_BENCH_TRANSFER_MANAGER")]
    transfer_manager: Option<PathBuf>,
    /// The folder to copy to: on the disk that is measured.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// larder-model-sync.
    #[arg(long, env = "LARDER_MODEL_SYNC")]
    ours: PathBuf,
    /// A Python with boto3 and awscrt.
    #[arg(long, env = "LARDER_BENCH_PYTHON")]
    python: PathBuf,
    /// Where the picture goes; nowhere when unset.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the objects of a case until the standard input ends; prints the URL.
    Serve {
        /// The case.
        case: String,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let cases = Case::all(cli.quick);
    if let Some(Command::Serve { case }) = &cli.command {
        let case = cases.into_iter().find(|c| c.name == case).context("no such case")?;
        return server::serve(Objects::new(&case));
    }
    std::fs::create_dir_all(&cli.dir)?;
    let is_wanted = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let tools: Vec<_> = if cli.variants.is_empty() {
        let tools = tools::all(&cli.ours, &cli.python, cli.transfer_manager.as_deref(), &cli.dir)?;
        tools.into_iter().filter(|tool| is_wanted(&cli.tools, tool.name)).collect()
    } else {
        let variant = |written: &String| tools::variant(&cli.ours, written, &cli.dir);
        cli.variants.iter().map(variant).collect::<Result<_>>()?
    };
    let mut results = Vec::new();
    for case in cases.into_iter().filter(|case| is_wanted(&cli.cases, case.name)) {
        println!("{}: {} files of {} bytes", case.name, case.files, case.size);
        let server = server::Process::start(&case, cli.quick)?;
        let objects = Objects::new(&case);
        let limit = raw::Limit::measure(&server.address, &objects, &cli.dir)?;
        println!("  raw: server {:.0} MB/s, disk {:.0} MB/s", limit.server / 1e6, limit.disk / 1e6);
        let mut runs = Vec::new();
        let mut folders = Vec::new();
        for round in 0..cli.rounds {
            for turn in 0..tools.len() {
                // Each round begins with another program.
                let tool = &tools[(round + turn) % tools.len()];
                let to = cli.dir.join(format!("copied-{}", folders.len()));
                let run = measure::run(tool, &server.url(), &to, cli.one_processor)?;
                if round == 0 {
                    objects
                        .check(&tool.files_in(&to)?)
                        .with_context(|| format!("what {} copied", tool.name))?;
                }
                // ext4 does not reuse the number of a file that was removed seconds ago, and who makes files next
                // looks for free ones the longer, the more there were. So small files stay until the end.
                if case.size < 1 << 20 {
                    folders.push(to);
                } else {
                    std::fs::remove_dir_all(&to)?;
                }
                println!(
                    "  {:<12} {:>7.2} s {:>7.0} MB/s {:>7.2} s of processor {:>6.0} MiB",
                    tool.name,
                    run.seconds,
                    case.bytes() / run.seconds / 1e6,
                    run.cpu_seconds,
                    run.rss_mib
                );
                runs.push((round, tool.name, run));
            }
        }
        folders.iter().try_for_each(std::fs::remove_dir_all)?;
        results.push(report::CaseResult::new(&case, &limit, &runs));
    }
    report::write(&cli.dir.join("sync.json"), cli.svg.as_deref(), cli.quick, &results)
}
