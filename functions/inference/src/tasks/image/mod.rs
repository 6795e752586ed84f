//! Pictures to labels.
//!
//! - [`processor`]: the steps of `preprocessor_config.json`. [`resample`]: scaling, in Pillow's arithmetic.
//!   [`crop`]: the middle of a picture.
//! - [`graph`]: the ONNX graph, fed in the order of dimensions that it asks for.
//!
//! Deliberately absent: processors that pad, align or tile; their files are refused by name.

mod crop;
mod graph;
mod processor;
pub(super) mod resample;

use larder_contract::Parameters;

use super::export::{self, ModelConfig};
use super::files::ExportFiles;
use super::labels::{self, Labels};
use super::picture::Picture;
use super::{Label, TaskError};
use crate::onnx::Engine;
use graph::PictureGraph;
use processor::Processor;

/// The most pictures of one run: it bounds the memory of a run.
const MOST_ROWS: usize = 8;

/// A picture classifier, open.
#[derive(Debug)]
pub struct ImageClassifier {
    processor: Processor,
    graph: PictureGraph,
    labels: Labels,
}

impl ImageClassifier {
    /// Opens a classifier's files.
    ///
    /// # Errors
    /// [`TaskError`] when a file is broken, the graph is no picture classifier, or the two do not fit.
    pub fn open(engine: &Engine, files: &ExportFiles) -> Result<Self, TaskError> {
        let config: ModelConfig = export::json(files.config.as_deref())?;
        let graph = PictureGraph::new(engine.open(&files.onnx)?)?;
        let processor = Processor::open(files.preprocessor.as_deref(), graph.size())?;
        Ok(Self { processor, graph, labels: Labels::of(config) })
    }

    /// Each picture's labels, the best first. No pictures, no answers.
    ///
    /// # Errors
    /// [`TaskError::Refused`] for parameters that no classifier can follow and pictures that are so narrow
    /// that scaling makes them too large, [`TaskError::Onnx`] when the
    /// graph fails.
    pub fn answer(
        &mut self,
        pictures: &[Picture],
        parameters: &Parameters,
    ) -> Result<Vec<Vec<Label>>, TaskError> {
        labels::checked(parameters)?;
        let mut answers = Vec::with_capacity(pictures.len());
        let labels = &self.labels;
        // Pictures that keep sizes of their own make no tensor together.
        let rows = if self.processor.makes_one_size() { self.graph.rows().unwrap_or(MOST_ROWS) } else { 1 };
        for batch in pictures.chunks(rows) {
            let prepared = batch.iter().map(|picture| self.processor.prepared(picture));
            let prepared: Vec<Picture> = prepared.collect::<Result<_, _>>()?;
            self.graph.run(&prepared, &self.processor, |outputs| {
                answers.push(labels.ranked(outputs, parameters));
            })?;
        }
        Ok(answers)
    }
}
