//! The controller's requests, answered.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use larder_contract::sync::{ModelState, SyncEvent, SyncReport, SyncRequest};
use larder_contract::upkeep::{CollectRequest, Inventory, VerifyRequest};
use larder_contract::{ManifestModel, ModelSource};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::collect::{CollectError, collect, note_usage};
use crate::copy::{CopyError, Ending, budget, copy};
use crate::inventory::{inventory, seconds};
use crate::listing::list;
use crate::reverify::reverify;
use crate::source::Source;
use crate::store::{self, Failure};
use crate::transfer::{Progress, Settings, TransferError};
use crate::{status, transfer};

/// What a request is carried out with.
#[derive(Debug)]
pub struct Handler<F> {
    /// Opens the source of a model.
    pub open: F,
    /// How to copy.
    pub settings: Settings,
    /// The endpoint that the files are for.
    pub owner: Option<String>,
}

/// What an event is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To a copy and to a question for its status.
    Report(SyncReport),
    /// What lies on the file system: also what a collection has come to.
    Inventory(Inventory),
    /// It is done, as far as time allowed.
    Done,
}

/// An event that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// A collection.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// A look at revisions.
    #[error(transparent)]
    Verify(#[from] TransferError),
}

/// How long a collection deletes: its caller waits for it.
const DELETING: Duration = Duration::from_secs(10);

/// How long before its deadline a copy stops: time to sync what is finished and to answer.
///
/// A quarter of short times, so that a function with a short time-out gets something done.
#[must_use]
pub fn time_to_copy(until_deadline: Duration) -> Duration {
    until_deadline.saturating_sub((until_deadline / 4).min(Duration::from_secs(15)))
}

/// Why one model is not there, next to what the file system shows.
struct Trouble {
    model: String,
    state: ModelState,
    message: String,
}

impl<F, S> Handler<F>
where
    F: Fn(&ModelSource) -> S,
    S: Source,
{
    /// Answers one event. What goes wrong with a model is in its report; the other models go on.
    ///
    /// # Errors
    /// When a collection or a look at revisions fails; that of a copy is in its report.
    pub async fn handle(
        &self,
        event: SyncEvent,
        root: &Path,
        stop: &CancellationToken,
    ) -> Result<Answer, EventError> {
        let owner = self.owner.as_deref();
        match event {
            SyncEvent::Status(request) => {
                let now = SystemTime::now();
                let report = status::report(root, &request, owner, now);
                Ok(Answer::Report(SyncReport { inventory: Some(inventory(root, owner, now)), ..report }))
            }
            SyncEvent::Copy(request) => Ok(Answer::Report(self.copy_all(&request, root, stop).await)),
            SyncEvent::Inventory => Ok(Answer::Inventory(inventory(root, owner, SystemTime::now()))),
            SyncEvent::Collect(request) => self.collect(request, root, stop).await,
            SyncEvent::Verify(VerifyRequest { revisions }) => {
                for revision in revisions {
                    reverify(root, &revision, stop).await?;
                }
                Ok(Answer::Done)
            }
        }
    }

    async fn collect(
        &self,
        request: CollectRequest,
        root: &Path,
        stop: &CancellationToken,
    ) -> Result<Answer, EventError> {
        let (owner, folder, stop) = (self.owner.clone(), root.to_owned(), stop.clone());
        let work = move || {
            let began = Instant::now();
            let is_over = || stop.is_cancelled() || began.elapsed() > DELETING;
            let now = seconds(SystemTime::now());
            collect(&folder, owner.as_deref(), &request, now, &is_over)?;
            Ok::<_, CollectError>(Answer::Inventory(inventory(&folder, owner.as_deref(), SystemTime::now())))
        };
        Ok(tokio::task::spawn_blocking(work).await.map_err(TransferError::from)??)
    }

    async fn copy_all(&self, request: &SyncRequest, root: &Path, stop: &CancellationToken) -> SyncReport {
        let mut troubles = Vec::new();
        let mut has_copied = false;
        for model in &request.manifest.models {
            if stop.is_cancelled() {
                break;
            }
            match self.copy_one(request, model, root, stop).await {
                Ok(ending) => {
                    has_copied |= ending == Ending::Copied;
                    tracing::info!(model = %model.name, revision = %model.revision, ?ending, "copy");
                }
                Err(failure) => {
                    tracing::warn!(model = %model.name, revision = %model.revision, "{}", failure.message);
                    if let Err(error) = store::keep_failure(root, &model.revision, &failure) {
                        tracing::warn!(%error, "the failure cannot be kept for status");
                    }
                    let Failure { state, message } = failure;
                    troubles.push(Trouble { model: model.name.clone(), state, message });
                }
            }
        }
        let owner = self.owner.as_deref();
        let manifest = store::write_manifest(root, &request.manifest, owner);
        if has_copied && let Err(error) = note_usage(root, 0, &|| stop.is_cancelled()) {
            tracing::warn!(%error, "what the files take is not known");
        }
        let mut report = status::report(root, request, owner, SystemTime::now());
        // Where nothing can be written, only a guess of the report says what went wrong.
        for trouble in troubles {
            for model in report.models.iter_mut().filter(|report| report.model == trouble.model) {
                model.state = trouble.state;
                model.message.clone_from(&trouble.message);
            }
        }
        if let Err(error) = manifest {
            tracing::warn!(%error, "every model is present, the manifest is not");
        }
        report
    }

    async fn copy_one(
        &self,
        request: &SyncRequest,
        model: &ManifestModel,
        root: &Path,
        stop: &CancellationToken,
    ) -> Result<Ending, Failure> {
        if store::is_present(root, &model.revision) {
            return Ok(Ending::Present);
        }
        let Some(from) = request.sources.iter().find(|source| source.model == model.name) else {
            let message =
                format!("the request names no source for model {:?}; name one for each", model.name);
            return Err(Failure { state: ModelState::Failed, message });
        };
        let settings = Settings { worker: request.worker, ..self.settings.clone() };
        self.copy_from(Arc::new((self.open)(&from.source)), model, &settings, root, stop)
            .await
            .map_err(|error| Failure { state: error.state(), message: error.to_string() })
    }

    async fn copy_from(
        &self,
        source: Arc<S>,
        model: &ManifestModel,
        settings: &Settings,
        root: &Path,
        stop: &CancellationToken,
    ) -> Result<Ending, CopyError> {
        let listed = {
            let budget = budget(settings, 1);
            stop.run_until_cancelled(list(&*source, &budget, settings.stall)).await
        };
        let Some(listed) = listed else { return Ok(Ending::Stopped) };
        let mut listing = listed?;
        if listing.revision != model.content() {
            return Err(CopyError::OtherRevision {
                place: source.place(),
                wanted: model.content(),
                is: listing.revision,
            });
        }
        listing.revision = model.revision;
        let progress: Arc<Progress> = Arc::new(transfer::Progress::default());
        copy(source, root, &listing, settings, &progress, stop).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stops_some_time_before_its_deadline() {
        for (until, copies) in [(900, 885), (60, 45), (20, 15), (4, 3), (0, 0)] {
            assert_eq!(time_to_copy(Duration::from_secs(until)), Duration::from_secs(copies));
        }
    }
}
