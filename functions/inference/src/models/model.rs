//! One model: what it is from the start, and its sessions while they are in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use larder_contract::{Digest, Parameters, Task};
use tokio::sync::{Mutex, Semaphore};

use super::policy::Key;
use super::residency::{InUse, Residency};
use super::{LoadError, State, inside};
use crate::error::ApiError;
use crate::onnx::{Engine, Interrupt};
use crate::prepared::Prepared;
use crate::request::{self, aside};
use crate::tasks::files::ModelFiles;
use crate::tasks::picture::{MAX_PIXELS, Picture, Transparency};
use crate::tasks::tensor::Ports;
use crate::tasks::{Answer, Input, Loaded, TaskError, Work};

/// Requests that may wait for one model. AWS Lambda sends one at a time; a plain server may get more.
const MOST_WAITING: usize = 64;

/// What a first run takes besides the model itself, until it is measured.
const ACTIVATIONS: u64 = 16 << 20;

/// A model that is in memory. One request at a time: its sessions use all processors by themselves.
#[derive(Debug)]
pub(super) struct Opened {
    loaded: Arc<Mutex<Loaded>>,
    /// Ends what a request runs when nobody waits for it any more.
    interrupt: Interrupt,
}

/// What a model is made from.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) engine: Arc<Engine>,
    pub(super) root: Option<PathBuf>,
    pub(super) revision: Digest,
    pub(super) folder: PathBuf,
    pub(super) task: Option<Task>,
    /// Found at the start, or by the first load that finds them.
    pub(super) files: OnceLock<ModelFiles>,
    /// Known once it was loaded, and the same after each load: a revision does not change.
    pub(super) ports: OnceLock<Option<Ports>>,
}

impl Recipe {
    /// Which files there are.
    pub(super) fn look(&self) -> Result<&ModelFiles, LoadError> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        inside::check(&self.folder)?;
        let found = ModelFiles::find(&self.folder, self.task)?;
        Ok(self.files.get_or_init(|| found))
    }

    pub(super) fn open(&self) -> Result<Opened, LoadError> {
        let files = self.look()?;
        let prepared = self.root.as_deref();
        let prepared = prepared.and_then(|root| Prepared::find(root, &self.revision, &self.folder));
        let engine = self.engine.for_model(prepared);
        let loaded = Loaded::open(&engine, files)?;
        self.ports.get_or_init(|| loaded.ports());
        Ok(Opened { loaded: Arc::new(Mutex::new(loaded)), interrupt: engine.interrupt().clone() })
    }

    /// What the model will take, in bytes, from the size of its files; and what loading it takes besides:
    /// the files' content as it is read and as it is in the graph, before it is laid out for the processor.
    pub(super) fn estimate(&self) -> [u64; 2] {
        let files = weights(&self.folder, 3);
        [files / 10 * 13 + ACTIVATIONS, files * 2]
    }
}

/// The bytes of a folder's ONNX files and of the weights that lie beside them.
fn weights(folder: &Path, levels: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| {
        let path = entry.path();
        // Of what a link leads to, too.
        let Ok(about) = std::fs::metadata(&path) else { return 0 };
        if about.is_dir() {
            return if levels > 1 { weights(&path, levels - 1) } else { 0 };
        }
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let counts = ["onnx", "onnx_data", "data", "weights", "weight"].contains(&extension.as_str());
        if counts { about.len() } else { 0 }
    };
    entries.flatten().map(size).sum()
}

/// One model of the manifest.
#[derive(Debug)]
pub struct Model {
    pub(super) name: String,
    pub(super) revision: Digest,
    pub(super) parameters: Parameters,
    pub(super) preload: bool,
    pub(super) recipe: Arc<Recipe>,
    pub(super) residency: Arc<Residency<Opened>>,
    pub(super) key: Key,
    places: Semaphore,
}

impl Model {
    pub(super) fn new(
        entry: larder_contract::ManifestModel,
        recipe: Recipe,
        residency: &Arc<Residency<Opened>>,
    ) -> Self {
        let recipe = Arc::new(recipe);
        let loader = Arc::clone(&recipe);
        let key =
            residency.add(&entry.name, recipe.estimate(), entry.preload, Arc::new(move || loader.open()));
        Self {
            name: entry.name,
            revision: entry.revision,
            parameters: entry.parameters,
            preload: entry.preload,
            recipe,
            residency: Arc::clone(residency),
            key,
            places: Semaphore::new(MOST_WAITING),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does. Of a model whose files make no sense, what the manifest says; else `tensor`.
    #[must_use]
    pub fn task(&self) -> Task {
        let found = self.recipe.files.get().map(ModelFiles::task);
        found.or(self.recipe.task).unwrap_or(Task::Tensor)
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

    /// Whether it is loaded before the first request, and never evicted.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.residency.is_pinned(self.key)
    }

    /// Whether it was to be preloaded, and is not: there is no room for it beside the others.
    #[must_use]
    pub fn is_crowded_out(&self) -> bool {
        self.preload && !self.is_pinned()
    }

    /// Where it is between its files and memory.
    #[must_use]
    pub fn state(&self) -> State {
        self.residency.state(self.key)
    }

    /// What it takes in memory, in bytes: measured by its last first run, estimated until then.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.residency.bytes(self.key)
    }

    async fn acquired(&self) -> Result<InUse<Opened>, ApiError> {
        request::concerns(&self.name, self.task());
        request::stage(request::LOADING);
        self.residency.acquire(self.key).await.map_err(|reason| reason.told(&self.name))
    }

    /// What it takes and gives as a tensor model; `None` for other tasks. Loads it if that is not known.
    ///
    /// # Errors
    /// 500 when it cannot be loaded; 503 when it cannot be had in time.
    pub async fn ports(&self) -> Result<Option<&Ports>, ApiError> {
        if self.recipe.ports.get().is_none() {
            self.acquired().await?;
        }
        Ok(self.recipe.ports.get().and_then(Option::as_ref))
    }

    /// Answers a request, on a thread of its own so that no request holds up another's I/O. Loads the
    /// model if it is not in memory.
    ///
    /// # Errors
    /// 400, 413 or 415 for what the client sent; 503 when too many wait already or the model cannot be had
    /// in time; 500 when loading or the model fails.
    pub async fn answer(&self, input: Input, asked: Parameters) -> Result<Answer, ApiError> {
        request::concerns(&self.name, self.task());
        let _place = self.places.try_acquire().map_err(|_| {
            let message =
                format!("{MOST_WAITING} requests wait for model {:?} already; try again later", self.name);
            ApiError::busy(message, 1)
        })?;
        let (first, rest) = match input {
            Input::Pictures(pictures) if pictures.len() > 1 => {
                aside("decoding", move || parts(pictures)).await?
            }
            Input::Pictures(_) | Input::Texts(_) | Input::Tensors(_) => (input, Vec::new()),
        };
        let mut answer = self.answer_part(first, &asked).await?;
        for part in rest {
            answer.append(self.answer_part(part, &asked).await?);
        }
        Ok(answer)
    }

    async fn answer_part(&self, input: Input, asked: &Parameters) -> Result<Answer, ApiError> {
        let task = self.task();
        let work = match input {
            Input::Texts(texts) => Work::Texts(texts),
            Input::Tensors(tensors) => Work::Tensors(tensors),
            Input::Pictures(pictures) => aside("decoding", move || decoded(&pictures, task)).await?,
        };
        let in_use = self.acquired().await?;
        request::stage("waiting for other requests");
        let mut turn = Arc::clone(&in_use.value().loaded).lock_owned().await;
        let interrupt = in_use.value().interrupt.clone();
        // Dropped with this future, when the time is over or the client is gone.
        let _end_on_drop = interrupt.begin();
        let parameters = asked.clone().or(&self.parameters);
        request::stage("inference");
        // In use until the run has ended, also when nobody waits for it any more.
        let run = move || {
            let answer = in_use.run(|| turn.answer(work, &parameters));
            if interrupt.is_ended() {
                tracing::info!("a run was ended: nobody waits for its answer");
            }
            drop(turn);
            answer
        };
        let failed =
            |reason: &(dyn std::error::Error + 'static)| ApiError::internal("inference", &self.name, reason);
        match tokio::task::spawn_blocking(request::carried(run)).await.map_err(|e| failed(&e))? {
            Ok(answer) => Ok(answer),
            Err(TaskError::Refused(message)) => {
                Err(ApiError::bad_request(format!("model {:?}: {message}", self.name)))
            }
            Err(TaskError::TooLarge(message)) => {
                Err(ApiError::too_large(format!("model {:?}: {message}", self.name)))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Pictures in parts that are answered one after the other, so that what is decoded at a time takes no more
/// memory than one picture may.
fn parts(pictures: Vec<Bytes>) -> Result<(Input, Vec<Input>), ApiError> {
    let (mut parts, mut part, mut pixels) = (Vec::new(), Vec::new(), 0);
    for picture in pictures {
        let more = Picture::pixels_of(&picture)?;
        if pixels + more > MAX_PIXELS && !part.is_empty() {
            parts.push(Input::Pictures(std::mem::take(&mut part)));
            pixels = 0;
        }
        pixels += more;
        part.push(picture);
    }
    parts.push(Input::Pictures(part));
    Ok((parts.remove(0), parts))
}

fn decoded(pictures: &[Bytes], task: Task) -> Result<Work, ApiError> {
    let transparency = match task {
        Task::ImageClassification => Transparency::Ignored,
        Task::Ocr | Task::TextClassification | Task::FeatureExtraction | Task::Tensor => {
            Transparency::Blended
        }
    };
    let decode = |picture: &Bytes| Picture::decode_with(picture, transparency);
    Ok(Work::Pictures(pictures.iter().map(decode).collect::<Result<_, _>>()?))
}
