//! The registry: the models of one manifest, loaded once and run one request at a time each.
//!
//! [`source`] tells which models there are.

pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use larder_contract::{Digest, Parameters, Task};
use tokio::sync::{Mutex, OnceCell, Semaphore};

use crate::error::ApiError;
use crate::onnx::Engine;
use crate::request::{self, aside};
use crate::tasks::files::{FilesError, ModelFiles};
use crate::tasks::picture::Picture;
use crate::tasks::tensor::Ports;
use crate::tasks::{Answer, Input, Loaded, TaskError, Work};
use source::Source;

/// Requests that may wait for one model. AWS Lambda sends one at a time; a plain server may get more.
const MOST_WAITING: usize = 64;

/// Why models cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A model's folder is missing or is not a model.
    #[error("model {model:?} cannot be served")]
    Files {
        /// Its name.
        model: String,
        /// The reason.
        source: FilesError,
    },
    /// A model cannot be loaded.
    #[error("model {model:?} cannot be loaded")]
    Load {
        /// Its name.
        model: String,
        /// The reason.
        source: LoadError,
    },
}

/// Why one model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
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
    /// In memory.
    Ready,
}

/// The models that are served.
#[derive(Debug)]
pub struct Registry {
    manifest: Digest,
    models: BTreeMap<String, Arc<Model>>,
}

impl Registry {
    /// Looks into every model's folder and loads those that are to be preloaded, all at once.
    ///
    /// # Errors
    /// The first [`ModelsError`]; then nothing should be served.
    pub async fn load(engine: Arc<Engine>, source: Source) -> Result<Self, ModelsError> {
        let mut models = BTreeMap::new();
        let mut preloaded = Vec::new();
        for entry in source.manifest.models {
            let folder = &source.folders[&entry.name];
            let files = ModelFiles::find(folder, entry.task)
                .map_err(|source| ModelsError::Files { model: entry.name.clone(), source })?;
            let model = Arc::new(Model {
                name: entry.name,
                revision: entry.revision,
                files,
                parameters: entry.parameters,
                engine: Arc::clone(&engine),
                opened: OnceCell::new(),
                places: Semaphore::new(MOST_WAITING),
            });
            if entry.preload {
                preloaded.push(Arc::clone(&model));
            }
            models.insert(model.name.clone(), model);
        }
        let loads = preloaded.iter().map(async |model| {
            let started = std::time::Instant::now();
            let opened = model.opened().await;
            opened.map_err(|source| ModelsError::Load { model: model.name.clone(), source })?;
            let (task, milliseconds) = (model.task().as_str(), started.elapsed().as_millis());
            tracing::info!(
                model = model.name,
                task,
                revision = model.version(),
                milliseconds,
                "model loaded"
            );
            Ok::<(), ModelsError>(())
        });
        futures::future::try_join_all(loads).await?;
        Ok(Self { manifest: source.digest, models })
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
}

/// One model: what it is from the start, its sessions once loaded.
#[derive(Debug)]
pub struct Model {
    name: String,
    revision: Digest,
    files: ModelFiles,
    parameters: Parameters,
    engine: Arc<Engine>,
    opened: OnceCell<Opened>,
    places: Semaphore,
}

/// A model that is loaded. What it takes is known without waiting for its turn.
#[derive(Debug)]
struct Opened {
    ports: Option<Ports>,
    loaded: Arc<Mutex<Loaded>>,
}

impl Model {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does.
    #[must_use]
    pub fn task(&self) -> Task {
        self.files.task()
    }

    /// Its version for clients: the short form of its revision.
    #[must_use]
    pub fn version(&self) -> String {
        self.revision.short()
    }

    /// Its revision.
    #[must_use]
    pub fn revision(&self) -> Digest {
        self.revision
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        if self.opened.initialized() { State::Ready } else { State::Unloaded }
    }

    /// Loads it if nothing has yet. A failed load is tried anew by the next caller.
    async fn opened(&self) -> Result<&Opened, LoadError> {
        self.opened
            .get_or_try_init(async || {
                let (engine, files) = (Arc::clone(&self.engine), self.files.clone());
                let loaded = tokio::task::spawn_blocking(move || Loaded::open(&engine, &files)).await??;
                let ports = loaded.ports();
                Ok(Opened { ports, loaded: Arc::new(Mutex::new(loaded)) })
            })
            .await
    }

    /// What it takes and gives as a tensor model; `None` for other tasks. Loads it if nothing has yet.
    ///
    /// # Errors
    /// 500 when it cannot be loaded.
    pub async fn ports(&self) -> Result<Option<&Ports>, ApiError> {
        let opened = self.opened().await;
        Ok(opened.map_err(|e| ApiError::internal("loading", &self.name, &e))?.ports.as_ref())
    }

    /// Answers a request, on a thread of its own so that no request holds up another's I/O. One at a
    /// time: the model's sessions use all processors by themselves.
    ///
    /// # Errors
    /// 400, 413 or 415 for what the client sent, 503 when too many wait already, 500 when loading or the
    /// model fails.
    pub async fn answer(&self, input: Input, asked: Parameters) -> Result<Answer, ApiError> {
        request::concerns(&self.name, self.task());
        let _place = self.places.try_acquire().map_err(|_| {
            let message =
                format!("{MOST_WAITING} requests wait for model {:?} already; try again later", self.name);
            ApiError::busy(message, 1)
        })?;
        let failed = |operation: &str, reason: &(dyn std::error::Error + 'static)| {
            ApiError::internal(operation, &self.name, reason)
        };
        let work = aside("decoding", move || decoded(input)).await?;
        request::stage("loading");
        let opened = self.opened().await.map_err(|e| failed("loading", &e))?;
        request::stage("waiting for other requests");
        let mut turn = Arc::clone(&opened.loaded).lock_owned().await;
        let parameters = asked.or(&self.parameters);
        request::stage("inference");
        let done = tokio::task::spawn_blocking(move || turn.answer(work, &parameters)).await;
        match done.map_err(|e| failed("inference", &e))? {
            Ok(answer) => Ok(answer),
            Err(TaskError::Refused(message)) => {
                Err(ApiError::bad_request(format!("model {:?}: {message}", self.name)))
            }
            Err(error) => Err(failed("inference", &error)),
        }
    }
}

fn decoded(input: Input) -> Result<Work, ApiError> {
    Ok(match input {
        Input::Texts(texts) => Work::Texts(texts),
        Input::Tensors(tensors) => Work::Tensors(tensors),
        Input::Pictures(pictures) => {
            Work::Pictures(pictures.iter().map(|p| Picture::decode(p)).collect::<Result<_, _>>()?)
        }
    })
}
