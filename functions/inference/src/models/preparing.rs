//! Prepares models that are served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Registry;
use super::model::Model;
use crate::error::chain;
use crate::prepared::{Candidate, Outcome, Preparer};
use crate::request::carried;

/// Which models are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are loaded before the first request.
    Preloaded,
    /// All.
    All,
}

/// What came of preparing one of the models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelOutcome {
    /// Its name.
    pub model: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Registry {
    /// Prepares models, one after the other: each has the processors for itself while it is measured, and
    /// no more memory than is free is taken. What is loaded already stays as it is until it is loaded again.
    /// Ends within `time`.
    pub async fn prepare(&self, preparer: &Preparer, which: Which, time: Duration) -> Vec<ModelOutcome> {
        let until = Instant::now() + time;
        let mut outcomes = Vec::new();
        let wanted = || self.models.values().filter(|model| which == Which::All || model.preload);
        let missing = wanted().any(|model| preparer.found(&model.revision).is_none());
        let unwritable = if missing { preparer.unwritable() } else { None };
        if let Some(reason) = &unwritable {
            tracing::info!(reason, "models are not prepared");
        }
        for model in wanted() {
            let left = until.saturating_duration_since(Instant::now());
            let outcome = match (preparer.found(&model.revision), &unwritable) {
                (Some(files), _) => Outcome::Found { files },
                (None, Some(reason)) => Outcome::Skipped { reason: reason.clone() },
                (None, None) => self.prepare_one(preparer, model, left).await,
            };
            let model = &model.name;
            match &outcome {
                Outcome::Skipped { reason } if unwritable.is_none() => {
                    tracing::info!(model, reason, "model not prepared");
                }
                // Its own process logs what it has prepared.
                Outcome::Prepared { .. } | Outcome::Found { .. } | Outcome::Skipped { .. } => {}
                Outcome::Failed { reason } => tracing::warn!(model, reason, "model cannot be prepared"),
            }
            outcomes.push(ModelOutcome { model: model.clone(), outcome });
        }
        let collector = preparer.clone();
        // A file system that is slow.
        let _ = tokio::task::spawn_blocking(carried(move || collector.collect())).await;
        outcomes
    }

    async fn prepare_one(&self, preparer: &Preparer, model: &Arc<Model>, time: Duration) -> Outcome {
        let recipe = Arc::clone(&model.recipe);
        // A file system that is slow, and a folder that may not be a model.
        let looked = tokio::task::spawn_blocking(move || match recipe.look() {
            Ok(_) => Ok(recipe.estimate().iter().sum()),
            Err(error) => Err(chain(&error)),
        });
        let need = match looked.await {
            Ok(Ok(need)) => need,
            Ok(Err(reason)) => return Outcome::Skipped { reason },
            Err(error) => return Outcome::Failed { reason: chain(&error) },
        };
        let figures = self.figures();
        let candidate = Candidate { name: model.name.clone(), revision: model.revision, need };
        preparer.prepare(&candidate, figures.budget.saturating_sub(figures.used), time).await
    }
}
