//! `larder-model-sync`: a Lambda function where Lambda says so, else a command line.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;

use clap::Parser as _;
use larder_model_sync::{command, lambda};
use tokio::runtime;
use tracing_subscriber::EnvFilter;

/// Threads of the runtime for each processor. What they do is short, but for thousands of files a second, and a
/// thread that the machine takes off its processor takes its whole queue along: `docs/sync-speed.md`.
const THREADS_FOR_ONE: usize = 2;

fn main() -> ExitCode {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(processors * THREADS_FOR_ONE)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => {
            writeln!(io::stderr(), "larder-model-sync: no threads: {error}; raise the limit of processes")
                .unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

async fn run() -> ExitCode {
    let in_lambda = std::env::var_os(lambda::ENV_RUNTIME_API).is_some();
    let filter = EnvFilter::try_from_env("LARDER_LOG")
        .unwrap_or_else(|_| EnvFilter::new(if in_lambda { "info" } else { "error" }));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if !in_lambda {
        log.init();
        return command::run(command::Cli::parse()).await;
    }
    log.json().init();
    match Box::pin(lambda::run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the Lambda runtime is gone");
            ExitCode::FAILURE
        }
    }
}
