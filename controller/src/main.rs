//! The `larder` binary: reads the command line, wires things up, and stops them in order.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use larder::args::{Cli, Command, LogFormat, Run};
use larder::cloud::aws::Connector;
use larder::cluster::client;
use larder::context::Context;
use larder::explain::{self, explain};
use larder::lease::Election;
use larder::metrics::Metrics;
use larder::plan_command::{Verdict, plan};
use larder::rollout_command::{Word, say};
use larder::run::run;
use larder::server::{Readiness, bind, serve};
use larder::tenants::Tenants;
use larder_core::Defaults;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(dispatch(Cli::parse())).await {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("larder: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the binary's edge")]
fn complain(text: &str) {
    eprintln!("{text}");
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Crd => {
            let yaml = serde_yaml::to_string(&larder_crds::crd_json()?)?;
            std::io::Write::write_all(&mut std::io::stdout(), yaml.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Plan(args) => {
            log(LogFormat::Text, "error");
            Ok(match Box::pin(plan(&args, &mut std::io::stdout())).await? {
                Verdict::NothingToDo => ExitCode::SUCCESS,
                Verdict::SomethingToDo => ExitCode::from(2),
                Verdict::Unknown => ExitCode::FAILURE,
            })
        }
        Command::Explain(args) => {
            log(LogFormat::Text, "error");
            Ok(match Box::pin(explain(&args, &mut std::io::stdout())).await? {
                explain::Verdict::Ready => ExitCode::SUCCESS,
                explain::Verdict::NotReady => ExitCode::from(2),
                explain::Verdict::Unknown => ExitCode::FAILURE,
            })
        }
        Command::Promote(target) => word(Word::Promote(target)).await,
        Command::Rollback(rollback) => word(Word::Rollback(rollback)).await,
        Command::Retry(target) => word(Word::Retry(target)).await,
        Command::Pause(target) => word(Word::Pause(target)).await,
        Command::Resume(target) => word(Word::Resume(target)).await,
        Command::Run(args) => {
            // kube's own span would repeat the object's name in every line.
            log(args.log_format, "info,kube_runtime=warn");
            Box::pin(control(args)).await
        }
    }
}

/// Says something about a rollout.
async fn word(word: Word) -> anyhow::Result<ExitCode> {
    log(LogFormat::Text, "error");
    let told = Box::pin(say(&word)).await?;
    std::io::Write::write_all(&mut std::io::stdout(), format!("{told}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn log(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Runs the controller: health first, then the election, then the watch. Losing the lease ends the
/// process, so that nothing of it goes on beside the next leader.
async fn control(args: Run) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    let readiness = Readiness::default();
    let listener = bind(args.listen).await.with_context(|| {
        format!("health and metrics cannot be served at {}: choose another --listen", args.listen)
    })?;
    let metrics = Arc::new(Metrics::default());
    let health = tokio::spawn(serve(listener, readiness.clone(), Arc::clone(&metrics), stop.clone()));
    let kube = client(&args.cluster).await?;
    let cluster = args.shared.cluster(&kube).await?;
    let settings = args.shared.settings();
    let aws = Connector::new(settings).await.context("AWS cannot be reached")?;
    let identity = args.identity.clone().unwrap_or_else(|| format!("larder-{:08x}", fastrand::u32(..)));
    let scope = args.scope();
    let defaults = Defaults { scope: scope.words(), ..args.shared.defaults(cluster) };
    let mut context =
        Context::new(kube.clone(), aws, defaults, identity.clone(), args.concurrency).with_metrics(metrics);
    let policy = args.role_policy.into();
    context.tenants = Tenants::new(policy, &kube, scope.only(), &context.wakes, &stop).await?;
    let context = Arc::new(context);
    readiness.set(true);

    let mut election =
        Election::new(kube, &args.lease_namespace, scope.lease_name(), identity, args.lease_seconds);
    if !args.no_leader_election && !election.win(&stop).await {
        return Ok(ExitCode::SUCCESS);
    }
    let work = run(context, &scope, args.concurrency, stop.clone());
    tokio::pin!(work);
    let result = if args.no_leader_election {
        work.await
    } else {
        // The lease is held until the last pass that is under way has ended.
        tokio::select! {
            result = &mut work => result,
            () = election.hold() => {
                tracing::error!("the lease is lost: stops, so that the next leader works alone");
                return Ok(ExitCode::FAILURE);
            }
        }
    };
    result
        .context("InferenceEndpoints cannot be watched: apply the CRD (larder crd | kubectl apply -f -), or correct --selector")?;
    if !args.no_leader_election {
        election.release().await;
    }
    stop.cancel();
    health.await?.context("health could not be served to the end")?;
    Ok(ExitCode::SUCCESS)
}

/// A future that ends with the first SIGTERM or SIGINT.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stops: finishes what is under way");
        stop.cancel();
    })
}
