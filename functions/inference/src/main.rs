//! `larder-inference`: in AWS Lambda the runtime of the inference function, else a plain HTTP server.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use larder_contract::layout;
use larder_inference::error::chain;
use larder_inference::models::source::Source;
use larder_inference::models::{Limits, memory};
use larder_inference::onnx::{self, Engine};
use larder_inference::page;
use larder_inference::prepared;
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
    /// Makes once what ONNX Runtime makes of models at each start, and keeps it where it is faster.
    Prepare(Prepare),
}

#[derive(Debug, clap::Args)]
struct Prepare {
    /// A manifest; its models are in ROOT/revisions.
    #[arg(long, required_unless_present = "models", conflicts_with = "models")]
    manifest: Option<PathBuf>,
    /// A folder with one folder for each model.
    #[arg(long)]
    models: Option<PathBuf>,
    /// Only this model. May be given several times.
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Where prepared models go, to ROOT/prepared.
    #[arg(long, env = layout::ENV_ROOT, default_value = layout::MOUNT_PATH)]
    root: PathBuf,
    /// The request that it is done for: its log lines have this id.
    #[arg(long, value_name = "ID", hide = true)]
    request_id: Option<String>,
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
    /// Where a manifest's models are, and prepared ones.
    #[arg(long, env = layout::ENV_ROOT, default_value = layout::MOUNT_PATH)]
    root: PathBuf,
    /// A host that links may lead to though it is not on the public Internet, as host or host:port.
    #[arg(long, value_name = "HOST")]
    allow_link_host: Vec<String>,
    /// Load models at their first request, not before. A manifest says it for each model.
    #[arg(long, conflicts_with = "manifest")]
    lazy: bool,
    /// The most seconds for one request, its body included; then it is answered with what took the time.
    #[arg(long, env = "LARDER_REQUEST_TIMEOUT", value_name = "SECONDS", default_value_t = 120,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    request_timeout: u64,
}

/// The longest that a server keeps its first request waiting for its models.
const MOST_PRELOADING: Duration = Duration::from_mins(15);

fn main() -> ExitCode {
    let started = Instant::now();
    larder_native::share_one_heap();
    larder_native::flush_subnormals();
    // AWS Lambda sends one request at a time: handing it between threads would only take time.
    let in_lambda = variable(lambda::ENV_RUNTIME_API).is_some();
    let mut builder = if in_lambda {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            start_logging(LogFormat::Human);
            tracing::error!(%error, "threads cannot be started");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(started, in_lambda))
}

async fn run(started: Instant, in_lambda: bool) -> ExitCode {
    let arguments = Arguments::parse();
    // CloudWatch Logs reads JSON; a person at a terminal does not.
    start_logging(if in_lambda { LogFormat::Json } else { arguments.log_format });
    let outcome = match arguments.command {
        _ if in_lambda => run_lambda(started).await,
        Some(Command::Serve(serve)) => run_server(serve).await,
        Some(Command::Prepare(prepare)) => run_prepare(&prepare),
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

async fn run_lambda(started: Instant) -> Result<(), StartError> {
    let memory = lambda::memory_mib(variable)?;
    let emf = runtime::switched_on(variable, lambda::ENV_EMF)?;
    let initialization = variable(lambda::ENV_INITIALIZATION_TYPE);
    let initialization = initialization.as_deref();
    let source = lambda::source(variable)?;
    let preparer = lambda::preparer(variable, &source)?;
    let startup = Startup {
        emf,
        preload: lambda::preload_time(initialization, started.elapsed()),
        prepare: preparer.clone().filter(|_| lambda::is_provisioned(initialization)),
        // The version that serves now is better than one that lacks a model.
        strict: true,
        ..startup(onnx::threads(memory), memory, Vec::new())?
    };
    let served = runtime::prepared(startup, source).await?;
    lambda::run(served, variable(lambda::ENV_BASE_PATH), preparer).await
}

async fn run_server(serve: Serve) -> Result<(), StartError> {
    let source = source(serve.manifest.as_deref(), serve.models.as_deref(), &serve.root)?;
    let source = if serve.lazy { source.lazy() } else { source };
    // Outside Lambda, all processors and all memory are ours unless memory is said.
    let (threads, memory) = match lambda::memory_mib(variable)? {
        0 => (all_threads(), memory::machine_mib().unwrap_or(u32::MAX)),
        memory => (onnx::threads(memory), memory),
    };
    let listener = serve::bound(&serve.listen).await?;
    let time = Duration::from_secs(serve.request_timeout);
    let startup = Startup { time, ..startup(threads, memory, serve.allow_link_host)? };
    let served = runtime::prepared(startup, source).await?;
    serve::serve(listener, served, serve::stop_signal()).await
}

fn source(manifest: Option<&Path>, models: Option<&Path>, root: &Path) -> Result<Source, StartError> {
    match (manifest, models) {
        (Some(manifest), _) => Ok(Source::of_manifest(manifest, root, None)?),
        (None, Some(models)) => Ok(Source::of_folder(models)?.prepared_in(root)),
        (None, None) => {
            Err(StartError::Missing { name: "--manifest", remedy: "give --manifest FILE or --models DIR" })
        }
    }
}

fn run_prepare(prepare: &Prepare) -> Result<(), StartError> {
    let _entered = prepare.request_id.as_ref().map(|id| tracing::info_span!("operation", %id).entered());
    let source = source(prepare.manifest.as_deref(), prepare.models.as_deref(), &prepare.root)?;
    // As many threads as the models will be served with, for that is what is measured.
    let threads = match lambda::memory_mib(variable)? {
        0 => all_threads(),
        memory => onnx::threads(memory),
    };
    let Startup { library, .. } = startup(threads, 0, Vec::new())?;
    let engine = Engine::start(&library, threads)?;
    let wanted = |name: &str| prepare.model.is_empty() || prepare.model.iter().any(|model| model == name);
    for (model, revision, folder) in source.models().filter(|(name, ..)| wanted(name)) {
        let prepared = prepared::prepare(&engine, &prepare.root, revision, folder)?;
        tracing::info!(model, folder = %prepared.display(), "model prepared");
    }
    prepared::collect(&prepare.root);
    Ok(())
}

fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn startup(threads: usize, memory_mib: u32, mut allowed_hosts: Vec<String>) -> Result<Startup, StartError> {
    allowed_hosts.extend(runtime::hosts(&variable(runtime::ENV_ALLOW_LINK_HOSTS).unwrap_or_default()));
    let configured = variable(onnx::ENV_LIBRARY).map(PathBuf::from);
    let program = std::env::current_exe().ok();
    Ok(Startup {
        library: onnx::library_path(configured.as_deref(), program.as_deref()),
        threads,
        allowed_hosts,
        version: variable(lambda::ENV_FUNCTION_VERSION),
        emf: false,
        page: runtime::switched_on(variable, page::ENV_PAGE)?,
        time: DEFAULT_TIME,
        limits: Limits { memory: memory::budget(memory_mib), loads: threads.max(2), ..Limits::default() },
        preload: MOST_PRELOADING,
        prepare: None,
        strict: false,
    })
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
