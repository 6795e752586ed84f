//! ONNX Runtime: finding the library, one environment with one thread pool, and `session`s, whose files come
//! by [`reading`] and whose runs an `interrupt` ends. Prepared files are [`sealed`]. `log`: what ONNX Runtime writes.

mod interrupt;
mod log;
pub mod reading;
pub mod sealed;
mod session;

use std::path::{Path, PathBuf};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep;
use ort::session::Session as OrtSession;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::error::chain;
use crate::prepared::Prepared;
pub(crate) use interrupt::Interrupt;
pub use session::Session;
use session::{InBytes, Opened};

/// Environment variable: the path of the ONNX Runtime library.
pub const ENV_LIBRARY: &str = "ORT_DYLIB_PATH";

/// Memory that comes with one whole processor (AWS Lambda, "Configure Lambda function memory").
const MIB_PER_PROCESSOR: u32 = 1769;

/// What went wrong with ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The shared library cannot be used.
    #[error(
        "ONNX Runtime cannot be loaded from {}: version 1.{minimum} or later is needed; set {ENV_LIBRARY} to a libonnxruntime.so, or put one beside this program or into /opt/lib",
        path.display(),
        minimum = ort::MINOR_VERSION
    )]
    Library {
        /// Where it was looked for last.
        path: PathBuf,
        /// The loader's reason.
        source: ort::LoadDynamicError,
    },
    /// The environment cannot be made.
    #[error("ONNX Runtime cannot be initialised")]
    Environment {
        /// ONNX Runtime's reason.
        source: ort::Error,
    },
    /// A model file cannot be opened as a session.
    #[error("ONNX Runtime cannot open the model {}", path.display())]
    Open {
        /// The model file.
        path: PathBuf,
        /// ONNX Runtime's reason.
        source: ort::Error,
    },
    /// A prepared file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A prepared file is not as it was written.
    #[error("{} is damaged: its checksum is another; remove it, and it is made again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A prepared file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A run failed.
    #[error("ONNX Runtime failed to run the model {}", path.display())]
    Run {
        /// The model file.
        path: PathBuf,
        /// ONNX Runtime's reason.
        source: ort::Error,
    },
    /// A model's inputs or outputs are not what its task needs.
    #[error("the model {} {problem}", path.display())]
    Unfit {
        /// The model file.
        path: PathBuf,
        /// What is wrong, as a verb phrase.
        problem: String,
    },
}

/// ONNX Runtime, initialised. One for each process.
#[derive(Debug, Clone)]
pub struct Engine {
    environment: Environment,
    prepared: Option<Prepared>,
    interrupt: Interrupt,
}

/// How far a graph is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// In ways that are the same on each processor.
    Extended,
    /// With weights laid out for this processor, too.
    All,
}

impl From<Level> for GraphOptimizationLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Extended => Self::Level2,
            Level::All => Self::All,
        }
    }
}

impl Engine {
    /// Loads the library and makes the environment: one pool of `threads` for all sessions. They spin
    /// between the pieces of a run, of which there are thousands a second, and sleep between runs, where they
    /// would take the processor from everything else.
    ///
    /// # Errors
    /// [`OnnxError::Library`] or [`OnnxError::Environment`], also when called twice in a process.
    pub fn start(library: &Path, threads: usize) -> Result<Self, OnnxError> {
        let builder = ort::init_from(library)
            .map_err(|source| OnnxError::Library { path: library.to_owned(), source })?;
        let build = || {
            let pool = GlobalThreadPoolOptions::default()
                .with_intra_threads(threads)?
                .with_inter_threads(1)?
                .with_spin_control(true)?
                // The threads that call sessions do the same: see `larder_native::flush_subnormals`.
                .with_flush_to_zero()?;
            let builder = builder.with_name("larder").with_telemetry(false).with_logger(log::logger());
            builder.with_global_thread_pool(pool).build()
        };
        let environment = build().map_err(|source| OnnxError::Environment { source })?;
        environment.set_log_level(log::LEAST);
        Ok(Self { environment, prepared: None, interrupt: Interrupt::default() })
    }

    /// The same, for one model: it has these prepared files, and all its sessions' runs are ended together.
    #[must_use]
    pub fn for_model(&self, prepared: Option<Prepared>) -> Self {
        Self { prepared, interrupt: Interrupt::default(), environment: self.environment.clone() }
    }

    /// What ends the runs of the sessions that this opens.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Opens an ONNX file, by what was prepared of it if that can be opened.
    ///
    /// # Errors
    /// [`OnnxError::Open`] of the original.
    pub fn open(&self, path: &Path) -> Result<Session, OnnxError> {
        if let Some(artefact) = self.prepared.as_ref().and_then(|prepared| prepared.of(path)) {
            match self.open_prepared(&artefact) {
                Ok(session) => {
                    tracing::info!(file = %artefact.display(), "opened as it was prepared");
                    return Ok(session.in_place_of(path, self));
                }
                Err(error) => {
                    tracing::warn!(reason = %chain(&error), "the original is opened in place of what was prepared");
                }
            }
        }
        self.open_original(path)
    }

    /// Opens an ONNX file as it is.
    ///
    /// # Errors
    /// [`OnnxError::Open`].
    pub fn open_original(&self, path: &Path) -> Result<Session, OnnxError> {
        // ONNX Runtime tells better what is wrong with a file that cannot be read.
        let _ = reading::ahead(path);
        for weights in weights_beside(path) {
            let _ = reading::ahead(&weights);
        }
        let open = || self.builder(GraphOptimizationLevel::All)?.commit_from_file(path);
        let inner = open().map_err(|source| OnnxError::Open { path: path.to_owned(), source })?;
        Ok(Session::new(Opened::Original(inner), path, self))
    }

    /// Opens a file that [`Engine::optimise`] has written. It is read into one buffer, whose bytes are the
    /// session's weights.
    ///
    /// # Errors
    /// [`OnnxError::Read`], [`OnnxError::Damaged`] or [`OnnxError::Open`].
    pub fn open_prepared(&self, path: &Path) -> Result<Session, OnnxError> {
        let bytes =
            reading::whole(path).map_err(|source| OnnxError::Read { path: path.to_owned(), source })?;
        let bytes = sealed::content(bytes).ok_or_else(|| OnnxError::Damaged { path: path.to_owned() })?;
        let opened = InBytes::try_new(bytes, |bytes| {
            self.builder(GraphOptimizationLevel::All)?.commit_from_memory_directly(bytes)
        });
        let opened = opened.map_err(|source| OnnxError::Open { path: path.to_owned(), source })?;
        Ok(Session::new(Opened::Prepared(opened), path, self))
    }

    /// Writes what ONNX Runtime makes of an ONNX file at this level, in its own format, sealed.
    ///
    /// # Errors
    /// [`OnnxError::Open`] when it cannot be opened or written, [`OnnxError::Write`] when it cannot be sealed.
    pub fn optimise(&self, original: &Path, target: &Path, level: Level) -> Result<(), OnnxError> {
        let open = || {
            self.builder(level.into())?
                .with_config_entry("session.save_model_format", "ORT")?
                .with_optimized_model_path(target)?
                .commit_from_file(original)
        };
        open().map_err(|source| OnnxError::Open { path: original.to_owned(), source })?;
        sealed::seal(target).map_err(|source| OnnxError::Write { path: target.to_owned(), source })
    }

    fn builder(&self, level: GraphOptimizationLevel) -> Result<SessionBuilder, ort::Error> {
        Ok(OrtSession::builder(&self.environment)?
            .with_optimization_level(level)?
            // A plan of one block for each shape that ever came would be kept: pictures have many.
            .with_memory_pattern(false)?
            // Else the first session of a process turns it off on the thread that opens it.
            .with_flush_to_zero()?
            .with_config_entry("session.force_spinning_stop", "1")?
            .with_execution_providers([ep::CPU::default().with_arena_allocator(true).build()])?)
    }
}

/// The files beside an ONNX file that, by their names, have its weights: `model.onnx_data`, `model.onnx.data` and
/// what follows on them.
fn weights_beside(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let is_of_it = |entry: &Path| {
        let rest = entry.file_name().and_then(|entry| entry.to_str()?.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|entry| is_of_it(entry)).collect()
}

/// The number of threads that a sandbox with this much memory can keep busy.
#[must_use]
pub fn threads(memory_mib: u32) -> usize {
    usize::try_from(memory_mib / MIB_PER_PROCESSOR).unwrap_or(1).max(1)
}

/// Where the library is: the configured path, else beside the program, else `/opt/lib` (a Lambda layer),
/// else wherever the system's loader finds it.
#[must_use]
pub fn library_path(configured: Option<&Path>, program: Option<&Path>) -> PathBuf {
    if let Some(path) = configured {
        return path.to_owned();
    }
    let beside = program.and_then(Path::parent);
    beside
        .into_iter()
        .chain([Path::new("/opt/lib")])
        .find_map(library_in)
        .unwrap_or_else(|| PathBuf::from("libonnxruntime.so"))
}

/// `libonnxruntime.so` or the first `libonnxruntime.so.<version>` of a folder.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().and_then(|n| n.to_str()).is_some_and(|n| {
                n.strip_prefix("libonnxruntime.so")
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_memory() {
        for (memory, expected) in [(128, 1), (1769, 1), (3537, 1), (3538, 2), (10_240, 5)] {
            assert_eq!(threads(memory), expected, "{memory}");
        }
    }

    #[test]
    fn weights_are_beside_their_graph() {
        let folder = tempfile::tempdir().unwrap();
        let names = |graph: &str| {
            let found = weights_beside(&folder.path().join(graph));
            let mut names: Vec<_> =
                found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        for name in
            ["model.onnx", "model.onnx_data", "model.onnx_data_1", "model.json", "a.onnx", "a.onnx.data"]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names("model.onnx"), ["model.onnx_data", "model.onnx_data_1"]);
        assert_eq!(names("a.onnx"), ["a.onnx.data"]);
        assert!(names("model.json").is_empty());
    }

    #[test]
    fn the_library_is_looked_for_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("larder-inference");
        let find = |configured: Option<&str>| library_path(configured.map(Path::new), Some(&program));
        assert_eq!(find(Some("/x/lib.so")), Path::new("/x/lib.so"));
        std::fs::write(folder.path().join("libonnxruntime_providers_shared.so"), "").unwrap();
        let versioned = folder.path().join("libonnxruntime.so.1.32.0");
        std::fs::write(&versioned, "").unwrap();
        assert_eq!(find(None), versioned);
        let plain = folder.path().join("libonnxruntime.so");
        std::fs::write(&plain, "").unwrap();
        assert_eq!(find(None), plain);
    }
}
