//! The registry: the models of one manifest, in memory or not.
//!
//! - [`source`] tells which models there are, `model` is one of them.
//! - `residency` loads and unloads them, as `policy` says (pure); `memory` measures.
//! - `preparing`: what ONNX Runtime makes of the models at each start, made once.
//! - `failure`: why a model cannot be had. `inside`: no file of a model lies outside of its folder.
//!
//! A model that is to be preloaded is loaded at the start and stays, if all that are have room together. Any other is loaded by its first
//! request, and unloaded when others need its room: least recently used first, never while it is in use.
//! Deliberately absent: copying models, and choosing which there are.

mod failure;
mod inside;
pub mod memory;
mod model;
mod policy;
mod preparing;
mod residency;
pub mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use larder_contract::{Digest, Task};

use crate::error::ApiError;
use crate::onnx::Engine;
use crate::request;
use crate::tasks::TaskError;
use crate::tasks::files::FilesError;
use crate::telemetry::Telemetry;
pub use failure::Failure;
use failure::Unavailable;
pub use inside::OutsideError;
pub use model::Model;
use model::{Opened, Recipe};
pub use preparing::{ModelOutcome, Which};
use residency::Residency;
pub use residency::{Counts, Limits};
use source::Source;

/// Why models cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A model that was to be preloaded cannot be loaded.
    #[error("model {model:?} cannot be loaded: {reason}")]
    Load {
        /// Its name.
        model: String,
        /// The reason.
        reason: String,
    },
}

/// Why one model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its folder is missing or is not a model.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Its folder has links that leave it.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// A file that cannot be used.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The loading thread ended early.
    #[error("loading was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Where a model is between its files and memory.
#[derive(Debug, Clone)]
pub enum State {
    /// Not in memory; its next request loads it.
    Unloaded,
    /// Being loaded.
    Loading,
    /// In memory.
    Ready,
    /// Not in memory, for its last load failed. A request tries again, after a while.
    Failed(Failure),
    /// On its way out of memory.
    Unloading,
}

impl State {
    /// All of them, in the words of `GET /models` and of the metrics.
    pub const WORDS: [&'static str; 5] = ["unloaded", "loading", "ready", "failed", "unloading"];

    /// Its word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let [unloaded, loading, ready, failed, unloading] = Self::WORDS;
        match self {
            Self::Unloaded => unloaded,
            Self::Loading => loading,
            Self::Ready => ready,
            Self::Failed(_) => failed,
            Self::Unloading => unloading,
        }
    }
}

/// A line of the repository index.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The model's name.
    pub name: String,
    /// Its version: the short form of its revision.
    pub version: String,
    /// Where it is.
    pub state: State,
    /// It was to be preloaded, and had no room beside the others.
    pub crowded_out: bool,
}

/// What the models take, and what was done about it.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Bytes that the models in memory are reckoned to take.
    pub used: u64,
    /// Bytes that there are for models.
    pub budget: u64,
    /// What happened since the start.
    pub counts: Counts,
}

/// The models that are served.
#[derive(Debug)]
pub struct Registry {
    manifest: Digest,
    models: BTreeMap<String, Arc<Model>>,
    residency: Arc<Residency<Opened>>,
}

impl Registry {
    /// Looks into every model's folder. Nothing is loaded yet, and a folder that is no model is that
    /// model's failure alone.
    pub async fn open(engine: Arc<Engine>, source: Source, limits: Limits, telemetry: Telemetry) -> Self {
        let residency = Arc::new(Residency::new(limits, telemetry));
        let order: Vec<String> = source.manifest.models.iter().map(|entry| entry.name.clone()).collect();
        let looks = source.manifest.models.into_iter().map(|entry| {
            let recipe = Recipe {
                engine: Arc::clone(&engine),
                root: source.root.clone(),
                revision: entry.revision,
                folder: source.folders[&entry.name].clone(),
                task: entry.task,
                files: OnceLock::new(),
                ports: OnceLock::new(),
            };
            let residency = Arc::clone(&residency);
            // Listing a folder of a network file system takes its time, so all at once.
            tokio::task::spawn_blocking(move || {
                let looked = recipe.look().map(drop);
                let model = Model::new(entry, recipe, &residency);
                if let Err(error) = looked {
                    residency.failed(model.key, &error, &request::id());
                }
                Arc::new(model)
            })
        });
        let found = futures::future::join_all(looks).await;
        let models = found.into_iter().flatten().map(|model| (model.name.clone(), model)).collect();
        let registry = Self { manifest: source.digest, models, residency };
        registry.pin_what_fits(&order);
        registry
    }

    /// Of the models that are to be preloaded, in the manifest's order, those that have room together are.
    fn pin_what_fits(&self, order: &[String]) {
        let wanted = order.iter().filter_map(|name| self.models.get(name)).filter(|model| model.preload);
        let wanted: Vec<&Arc<Model>> = wanted.collect();
        let keys: Vec<_> = wanted.iter().map(|model| model.key).collect();
        let (_, budget) = self.residency.memory();
        for (key, bytes) in self.residency.pin_what_fits(&keys) {
            let model = wanted.iter().find(|model| model.key == key).map(|model| model.name.as_str());
            tracing::warn!(
                model,
                mib = bytes >> 20,
                budget_mib = budget >> 20,
                "a model is not preloaded, for the models that are to be take more memory together than there is; \
                 its first request loads it: give the function more memory, or set preload to false"
            );
        }
    }

    /// Loads the models that are to be preloaded, all at once, for `wait` at most: what is not loaded by
    /// then goes on behind the first requests.
    ///
    /// # Errors
    /// Every model that could not be loaded, once all have ended. The others are loaded all the same.
    pub async fn preload(&self, wait: Duration) -> Result<(), Vec<ModelsError>> {
        let loads = self.models.values().filter(|model| model.is_pinned()).map(async |model| {
            match self.residency.acquire_within(model.key, wait).await {
                Ok(_) => None,
                Err(Unavailable::Failed { failure, .. }) => {
                    Some(ModelsError::Load { model: model.name.clone(), reason: failure.reason })
                }
                Err(late) => {
                    tracing::warn!(model = model.name, "{}", late.told(&model.name).message);
                    None
                }
            }
        });
        let failed: Vec<_> = futures::future::join_all(loads).await.into_iter().flatten().collect();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// Opens and preloads with the default limits, and takes no failure.
    ///
    /// # Errors
    /// The first [`ModelsError`].
    pub async fn load(engine: Arc<Engine>, source: Source) -> Result<Self, ModelsError> {
        let registry = Self::open(engine, source, Limits::default(), Telemetry::default()).await;
        match registry.preload(Duration::from_hours(1)).await {
            Ok(()) => Ok(registry),
            Err(failed) => failed.into_iter().next().map_or(Ok(registry), Err),
        }
    }

    /// The digest of the manifest that is served.
    #[must_use]
    pub fn manifest(&self) -> Digest {
        self.manifest
    }

    /// The model of this name.
    ///
    /// # Errors
    /// 404 that lists the names there are.
    pub fn model(&self, name: &str) -> Result<&Arc<Model>, ApiError> {
        self.models.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
            let message = format!("there is no model {name:?}; there are: {}", names.join(", "));
            ApiError::new(StatusCode::NOT_FOUND, message)
        })
    }

    /// The models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// The models of a task.
    pub fn of_task(&self, task: Task) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values().filter(move |m| m.task() == task)
    }

    /// Every model and where it is, by name.
    #[must_use]
    pub fn index(&self) -> Vec<Listed> {
        let listed = |m: &Arc<Model>| Listed {
            name: m.name.clone(),
            version: m.version(),
            state: m.state(),
            crowded_out: m.is_crowded_out(),
        };
        self.models.values().map(listed).collect()
    }

    /// Loads a model as its first request would, though it failed a short while ago.
    ///
    /// # Errors
    /// 404; 500 when it cannot be loaded; 503 when it cannot be had in time.
    pub async fn load_model(&self, name: &str) -> Result<(), ApiError> {
        let model = self.model(name)?;
        self.residency.forget_failure(model.key);
        request::concerns(name, model.task());
        request::stage(request::LOADING);
        self.residency.acquire(model.key).await.map(drop).map_err(|reason| reason.told(name))
    }

    /// Unloads a model, a preloaded one too, once nobody uses it. Its next request loads it again.
    ///
    /// # Errors
    /// 404; 503 when it stays in use.
    pub async fn unload_model(&self, name: &str) -> Result<(), ApiError> {
        let model = self.model(name)?;
        self.residency.unload(model.key).await.map_err(|reason| reason.told(name))
    }

    /// Of the models that are to be preloaded, those that cannot answer at once: being loaded, or failed. One that
    /// was unloaded by hand is not waited for, as in Triton.
    #[must_use]
    pub fn not_ready(&self) -> Vec<&str> {
        let waited_for = |model: &&Arc<Model>| {
            model.is_pinned() && matches!(model.state(), State::Loading | State::Failed(_))
        };
        self.models.values().filter(waited_for).map(|model| model.name()).collect()
    }

    /// What the models take, and what was done about it.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (used, budget) = self.residency.memory();
        Figures { used, budget, counts: self.residency.counts() }
    }
}
