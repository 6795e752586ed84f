//! How requests reach the routes: from AWS Lambda ([`lambda`], in [`event`]s) or over a socket ([`serve`]).

pub mod event;
pub mod lambda;
pub mod serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls;

use crate::link::{LinkFetcher, LinkLimits};
use crate::models::source::{Source, SourceError};
use crate::models::{Limits, ModelsError, Registry, Which};
use crate::onnx::{Engine, OnnxError};
use crate::prepared::{PrepareError, Preparer};
use crate::routes::Served;
use crate::telemetry::Telemetry;

/// Environment variable: hosts that links may lead to whatever their addresses, with commas between
/// them, each as `host` or `host:port`.
pub const ENV_ALLOW_LINK_HOSTS: &str = "ALLOW_LINK_HOSTS";

/// The most time that preparing models may take of a start.
const MOST_PREPARING: Duration = Duration::from_mins(5);

/// Why the program cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[error("environment variable {name} is missing: {remedy}")]
    Missing { name: &'static str, remedy: &'static str },
    #[error("environment variable {name} is {value:?}: {remedy}")]
    Invalid { name: &'static str, value: String, remedy: &'static str },
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Models(#[from] ModelsError),
    #[error("a model cannot be prepared")]
    Prepare(#[from] PrepareError),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("address {address} cannot be listened on")]
    Listen { address: String, source: std::io::Error },
    #[error("serving failed")]
    Serve { source: std::io::Error },
    #[error("the Lambda runtime failed")]
    Lambda { source: lambda_runtime::Error },
}

/// What both ways of running need.
#[derive(Debug)]
pub struct Startup {
    /// The ONNX Runtime library.
    pub library: PathBuf,
    /// Threads for ONNX Runtime.
    pub threads: usize,
    /// Hosts that links may lead to whatever their addresses.
    pub allowed_hosts: Vec<String>,
    /// `AWS_LAMBDA_FUNCTION_VERSION`.
    pub version: Option<String>,
    /// Whether metrics are written as lines for CloudWatch.
    pub emf: bool,
    /// Whether there is a page to try the models.
    pub page: bool,
    /// The most time for one request, its body included.
    pub time: Duration,
    /// Bounds of what the models may take.
    pub limits: Limits,
    /// How long the first request may be kept waiting for the models that are to be preloaded.
    pub preload: Duration,
    /// With what models that are to be preloaded are prepared before, if they are.
    pub prepare: Option<Preparer>,
    /// Whether a preload that fails is the end.
    pub strict: bool,
}

/// Starts ONNX Runtime and loads the models.
///
/// # Errors
/// [`StartError`]; then the process should end, so that whoever started it keeps what served before.
pub async fn prepared(startup: Startup, source: Source) -> Result<Served, StartError> {
    let engine = Engine::start(&startup.library, startup.threads)?;
    tracing::info!(library = %startup.library.display(), threads = startup.threads, "ONNX Runtime is ready");
    let mut telemetry = Telemetry::default();
    if startup.emf {
        telemetry = telemetry.with_lines(startup.version.as_deref());
    }
    let models = Registry::open(Arc::new(engine), source, startup.limits, telemetry.clone()).await;
    let opened = Instant::now();
    if let Some(preparer) = &startup.prepare {
        models.prepare(preparer, Which::Preloaded, MOST_PREPARING.min(startup.preload / 2)).await;
    }
    if let Err(failed) = models.preload(startup.preload.saturating_sub(opened.elapsed())).await
        && startup.strict
        && let Some(first) = failed.into_iter().next()
    {
        return Err(first.into());
    }
    let limits = LinkLimits { allowed_hosts: startup.allowed_hosts, ..LinkLimits::default() };
    let links = LinkFetcher::new(limits)?;
    Ok(Served {
        version: startup.version,
        page: startup.page,
        time: startup.time,
        telemetry,
        ..Served::new(models, links)
    })
}

/// Whether something that is on by default is on: unless the variable `name` is `off`.
///
/// # Errors
/// [`StartError::Invalid`] when it is neither.
pub fn switched_on(
    variable: impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<bool, StartError> {
    match variable(name).as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(value) => {
            Err(StartError::Invalid { name, value: value.to_owned(), remedy: "it must be on or off" })
        }
    }
}

/// The hosts in a list with commas.
#[must_use]
pub fn hosts(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|h| !h.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_on_or_off() {
        let check = |value: Option<&str>| switched_on(|_| value.map(str::to_owned), "TRY_IT_PAGE");
        assert!(matches!(
            (check(None), check(Some("on")), check(Some("off"))),
            (Ok(true), Ok(true), Ok(false))
        ));
        let refusal = check(Some("no")).unwrap_err().to_string();
        assert!(refusal.contains("TRY_IT_PAGE") && refusal.contains("\"no\""), "{refusal}");
    }

    #[test]
    fn host_lists() {
        assert_eq!(hosts(""), Vec::<String>::new());
        assert_eq!(hosts(" a , b:80,, "), ["a", "b:80"]);
    }
}
