//! One model file, open: as it is, or as what was prepared of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ort::session::{InMemorySession, RunOptions, Session as OrtSession, SessionOutputs};
use ort::value::{DynValue, Tensor, ValueType};
use self_cell::self_cell;

use super::interrupt::Interrupt;
use super::{Engine, OnnxError};
use crate::error::chain;

self_cell!(
    /// A session whose weights are a file's bytes. It can neither be taken out nor outlive them.
    pub(super) struct InBytes {
        owner: Vec<u8>,
        #[covariant]
        dependent: InMemorySession,
    }
);

/// Where a session's weights are.
pub(super) enum Opened {
    /// In memory of its own.
    Original(OrtSession),
    /// The bytes of a prepared file.
    Prepared(InBytes),
}

impl Opened {
    fn ort(&self) -> &OrtSession {
        match self {
            Self::Original(session) => session,
            Self::Prepared(bytes) => bytes.borrow_dependent(),
        }
    }

    fn run<'r>(
        &'r mut self,
        inputs: &Inputs,
        options: &'r RunOptions,
    ) -> Result<SessionOutputs<'r>, ort::Error> {
        // The values stay: a run that fails is tried again with the original.
        let inputs: Vec<_> = inputs.iter().map(|(name, value)| (name.as_str(), value)).collect();
        match self {
            Self::Original(session) => session.run_with_options(inputs, options),
            Self::Prepared(bytes) => {
                bytes.with_dependent_mut(|_, session| session.run_with_options(inputs, options))
            }
        }
    }
}

/// A run's inputs, by name.
pub(crate) type Inputs = [(String, DynValue)];

/// A tensor as ONNX Runtime shows it: its shape and its values, row by row.
pub(crate) type View<'a> = (&'a [i64], &'a [f32]);

/// One model file, open.
pub struct Session {
    opened: Opened,
    path: PathBuf,
    interrupt: Interrupt,
    /// What opens the original, as long as what was prepared of it has not run.
    untried: Option<Engine>,
}

impl Session {
    pub(super) fn new(opened: Opened, path: &Path, engine: &Engine) -> Self {
        Self { opened, path: path.to_owned(), interrupt: engine.interrupt.clone(), untried: None }
    }

    /// The same, opened in place of an original, which `engine` opens if this does not run.
    pub(super) fn in_place_of(self, original: &Path, engine: &Engine) -> Self {
        Self { path: original.to_owned(), untried: Some(engine.clone()), ..self }
    }

    /// The file it was opened from, or in whose place.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn ort(&self) -> &OrtSession {
        self.opened.ort()
    }

    /// Text that the model's author put into its metadata.
    pub(crate) fn custom_metadata(&self, key: &str) -> Option<String> {
        self.ort().metadata().ok()?.custom(key)
    }

    /// The last dimension of the first output, if it is fixed.
    pub(crate) fn classes(&self) -> Option<usize> {
        let ValueType::Tensor { shape, .. } = self.ort().outputs().first()?.dtype() else { return None };
        usize::try_from(*shape.last()?).ok()
    }

    /// Refuses a model that does not have exactly one input and at least one output.
    pub(crate) fn takes_one_picture(&self) -> Result<(), OnnxError> {
        match (self.ort().inputs().len(), self.ort().outputs().len()) {
            (1, 1..) => Ok(()),
            (inputs, outputs) => Err(self.unfit(format!(
                "has {inputs} inputs and {outputs} outputs, but a model of an ocr task has one of each"
            ))),
        }
    }

    /// Runs the graph and hands its outputs to `read`. A prepared file whose first run fails is given up for
    /// the original: weights that were laid out for another processor open without complaint.
    pub(crate) fn run<R>(
        &mut self,
        inputs: &Inputs,
        read: impl FnOnce(&mut SessionOutputs<'_>) -> R,
    ) -> Result<R, ort::Error> {
        let options = Arc::new(RunOptions::new()?);
        let _running = self.interrupt.running(&options);
        let started = Instant::now();
        if self.untried.is_some() {
            let error = match self.opened.run(inputs, &options) {
                Ok(mut outputs) => {
                    self.untried = None;
                    return Ok(read(&mut outputs));
                }
                Err(error) => error,
            };
            if self.interrupt.is_ended() {
                return Err(error);
            }
            self.give_up_prepared(&error)?;
        }
        let mut outputs = self.opened.run(inputs, &options)?;
        tracing::debug!(model = %self.path.display(), microseconds = started.elapsed().as_micros(), "run");
        Ok(read(&mut outputs))
    }

    /// Opens the original, which stays open however its own run ends: requests that no graph takes would
    /// open it again and again.
    fn give_up_prepared(&mut self, reason: &ort::Error) -> Result<(), ort::Error> {
        let Some(engine) = self.untried.take() else { return Ok(()) };
        let model = self.path.display();
        tracing::warn!(%model, %reason, "what was prepared does not run; the original is opened in its place");
        let original = engine.open_original(&self.path);
        let original = original.map_err(|error| ort::Error::new(chain(&error)))?;
        self.opened = original.opened;
        Ok(())
    }

    /// Runs a model of one input and hands its first output to `read`.
    pub(crate) fn run_one<R>(
        &mut self,
        shape: [usize; 4],
        values: Vec<f32>,
        read: impl FnOnce(View<'_>) -> R,
    ) -> Result<R, OnnxError> {
        let path = self.path.clone();
        let failed = |source| OnnxError::Run { path: path.clone(), source };
        let input = Tensor::from_array((shape, values)).map_err(failed)?.into_dyn();
        let name = self.ort().inputs()[0].name().to_owned();
        let read = |outputs: &mut SessionOutputs<'_>| {
            outputs[0].try_extract_tensor::<f32>().map(|(shape, values)| read((shape, values)))
        };
        self.run(&[(name, input)], read).flatten().map_err(failed)
    }

    pub(crate) fn unfit(&self, problem: String) -> OnnxError {
        OnnxError::Unfit { path: self.path.clone(), problem }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("path", &self.path).finish_non_exhaustive()
    }
}
