//! `larder-inference`: in AWS Lambda the runtime of the inference function, else a plain HTTP server.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use larder_contract::layout;
use larder_inference::error::chain;
use larder_inference::models::source::Source;
use larder_inference::onnx;
use larder_inference::routes::DEFAULT_TIME;
use larder_inference::runtime::{self, StartError, Startup, lambda, serve};
use tracing_subscriber::EnvFilter;

/// Serves ML models. Without a command it is the runtime of an AWS Lambda function.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How log lines are written.
    #[arg(long, global = true, env = "LARDER_LOG_FORMAT", value_enum, default_value = "human")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves over HTTP until SIGTERM or SIGINT.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The address; port 0 takes a free one and logs it.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// A manifest; its models are in ROOT/revisions.
    #[arg(long, required_unless_present = "models", conflicts_with = "models")]
    manifest: Option<PathBuf>,
    /// A folder with one folder for each model.
    #[arg(long)]
    models: Option<PathBuf>,
    /// Where a manifest's models are.
    #[arg(long, env = layout::ENV_ROOT, default_value = layout::MOUNT_PATH)]
    root: PathBuf,
    /// A host that links may lead to though it is not on the public Internet, as host or host:port.
    #[arg(long, value_name = "HOST")]
    allow_link_host: Vec<String>,
    /// The most seconds for one request, its body included; then it is answered with what took the time.
    #[arg(long, env = "LARDER_REQUEST_TIMEOUT", value_name = "SECONDS", default_value_t = 120,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    request_timeout: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let in_lambda = variable(lambda::ENV_RUNTIME_API).is_some();
    // CloudWatch Logs reads JSON; a person at a terminal does not.
    start_logging(if in_lambda { LogFormat::Json } else { arguments.log_format });
    let outcome = match arguments.command {
        _ if in_lambda => run_lambda().await,
        Some(Command::Serve(serve)) => run_server(serve).await,
        None => {
            tracing::error!("nothing to do: outside AWS Lambda give the command serve; --help tells more");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = %chain(&error), "larder-inference ends");
            ExitCode::FAILURE
        }
    }
}

async fn run_lambda() -> Result<(), StartError> {
    let memory = lambda::memory_mib(variable)?;
    let emf = lambda::emf(variable)?;
    let startup = Startup { emf, ..startup(onnx::threads(memory), Vec::new()) };
    let served = runtime::prepared(startup, lambda::source(variable)?).await?;
    lambda::run(served, variable(lambda::ENV_BASE_PATH)).await
}

async fn run_server(serve: Serve) -> Result<(), StartError> {
    let source = match (&serve.manifest, &serve.models) {
        (Some(manifest), _) => Source::of_manifest(manifest, &serve.root, None)?,
        (None, Some(models)) => Source::of_folder(models)?,
        (None, None) => {
            return Err(StartError::Missing {
                name: "--manifest",
                remedy: "give --manifest FILE or --models DIR",
            });
        }
    };
    // Outside Lambda, all processors are ours unless memory is said.
    let threads = match lambda::memory_mib(variable)? {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        memory => onnx::threads(memory),
    };
    let listener = serve::bound(&serve.listen).await?;
    let time = Duration::from_secs(serve.request_timeout);
    let startup = Startup { time, ..startup(threads, serve.allow_link_host) };
    let served = runtime::prepared(startup, source).await?;
    serve::serve(listener, served, serve::stop_signal()).await
}

fn startup(threads: usize, mut allowed_hosts: Vec<String>) -> Startup {
    allowed_hosts.extend(runtime::hosts(&variable(runtime::ENV_ALLOW_LINK_HOSTS).unwrap_or_default()));
    let configured = variable(onnx::ENV_LIBRARY).map(PathBuf::from);
    let program = std::env::current_exe().ok();
    Startup {
        library: onnx::library_path(configured.as_deref(), program.as_deref()),
        threads,
        allowed_hosts,
        version: variable(lambda::ENV_FUNCTION_VERSION),
        emf: false,
        time: DEFAULT_TIME,
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Json => logs.json().with_span_list(false).init(),
        LogFormat::Human => logs.init(),
    }
}
