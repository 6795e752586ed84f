//! The function: events of the Lambda runtime, answered by the [`Handler`].

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use larder_contract::sync::SyncEvent;
use larder_contract::{ModelSource, layout};
use larder_sources::Sources;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::anywhere::Opener;
use crate::handler::{Answer, EventError, Handler, time_to_copy};
use crate::s3;
use crate::source::Source;
use crate::transfer::Settings;

/// Environment variable that Lambda sets: where the events come from.
pub const ENV_RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// Answers events for as long as Lambda sends them.
///
/// # Errors
/// When the runtime's API is gone.
pub async fn run() -> Result<(), Error> {
    let root =
        std::env::var_os(layout::ENV_ROOT).map_or_else(|| PathBuf::from(layout::MOUNT_PATH), PathBuf::from);
    let hosts = std::env::var(layout::ENV_SOURCE_HOSTS).unwrap_or_default();
    let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned);
    let authorities = std::env::var(layout::ENV_SOURCE_CA).ok().filter(|text| !text.is_empty());
    let sources = Sources::new(hosts.collect(), authorities.as_deref())?;
    let opener = Opener::new(s3::config(None, None).await, sources);
    let open = |source: &ModelSource| opener.open(source, None);
    let owner = std::env::var(layout::ENV_OWNER).ok().filter(|owner| !owner.is_empty());
    let handler = Handler { open, settings: Settings::default(), owner };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SyncEvent>| {
        answer(&handler, event, &root).await.map_err(Error::from)
    }))
    .await
}

async fn answer<F, S>(
    handler: &Handler<F>,
    event: LambdaEvent<SyncEvent>,
    root: &std::path::Path,
) -> Result<Answer, EventError>
where
    F: Fn(&ModelSource) -> S,
    S: Source,
{
    let until = event.context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
    let stop = CancellationToken::new();
    let at_deadline = stop.clone();
    let _timer = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::time::sleep(time_to_copy(until)).await;
        at_deadline.cancel();
    }));
    handler.handle(event.payload, root, &stop).await
}
