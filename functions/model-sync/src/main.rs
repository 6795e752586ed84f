//! `larder-model-sync`: a Lambda function where Lambda says so, else a command line.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use larder_model_sync::{command, lambda};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
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
