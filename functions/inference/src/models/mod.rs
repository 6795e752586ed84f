//! The registry: the models of one manifest, loaded once and run one request at a time each.
//!
//! [`source`] tells which models there are.

pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use larder_contract::{Digest, Task};
use tokio::sync::{Mutex, OnceCell, Semaphore};

use crate::error::ApiError;
use crate::onnx::{Engine, OnnxError};
use crate::tasks::files::{FilesError, ModelFiles};
use crate::tasks::ocr::{OcrError, OcrModel};
use crate::tasks::tensor::{Port, TensorModel};
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
    /// An ocr model.
    #[error(transparent)]
    Ocr(#[from] OcrError),
    /// A tensor model.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The loading thread ended early.
    #[error("loading was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
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
    engine: Arc<Engine>,
    opened: OnceCell<Opened>,
    places: Semaphore,
}

/// What a tensor model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
}

/// A model that is loaded. What it takes is known without waiting for its turn.
#[derive(Debug)]
struct Opened {
    ports: Option<Ports>,
    loaded: Arc<Mutex<Loaded>>,
}

/// A model's sessions.
#[derive(Debug)]
pub enum Loaded {
    /// Text in pictures.
    Ocr(Box<OcrModel>),
    /// Any ONNX graph.
    Tensor(TensorModel),
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

    /// Loads it if nothing has yet. A failed load is tried anew by the next caller.
    async fn opened(&self) -> Result<&Opened, LoadError> {
        self.opened
            .get_or_try_init(async || {
                let (engine, files) = (Arc::clone(&self.engine), self.files.clone());
                let loaded = tokio::task::spawn_blocking(move || open(&engine, &files)).await??;
                let ports = match &loaded {
                    Loaded::Ocr(_) => None,
                    Loaded::Tensor(tensor) => {
                        Some(Ports { inputs: tensor.inputs(), outputs: tensor.outputs() })
                    }
                };
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

    /// Runs `work` on the loaded model, on a thread of its own so that no request holds up another's I/O.
    /// One at a time: the model's sessions use all processors by themselves.
    ///
    /// # Errors
    /// 503 when too many wait already, 500 when loading or `work` fails.
    pub async fn with<R, E>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Loaded) -> Result<R, E> + Send + 'static,
    ) -> Result<R, ApiError>
    where
        R: Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let _place = self.places.try_acquire().map_err(|_| {
            let message =
                format!("{MOST_WAITING} requests wait for model {:?} already; try again later", self.name);
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        let failed =
            |reason: &(dyn std::error::Error + 'static)| ApiError::internal(operation, &self.name, reason);
        let opened = self.opened().await.map_err(|e| failed(&e))?;
        let mut turn = Arc::clone(&opened.loaded).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || work(&mut turn)).await;
        done.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }
}

fn open(engine: &Engine, files: &ModelFiles) -> Result<Loaded, LoadError> {
    Ok(match files {
        ModelFiles::Ocr(files) => Loaded::Ocr(Box::new(OcrModel::open(engine, files)?)),
        ModelFiles::Tensor { onnx } => Loaded::Tensor(TensorModel::new(engine.open(onnx)?)),
    })
}
