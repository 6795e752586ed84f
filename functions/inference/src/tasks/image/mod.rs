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
mod resample;

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
    /// [`TaskError::Refused`] for parameters that no classifier can follow, [`TaskError::Onnx`] when the
    /// graph fails.
    pub fn answer(
        &mut self,
        pictures: &[Picture],
        parameters: &Parameters,
    ) -> Result<Vec<Vec<Label>>, TaskError> {
        labels::checked(parameters)?;
        let mut answers = Vec::with_capacity(pictures.len());
        let labels = &self.labels;
        for batch in pictures.chunks(self.graph.rows().unwrap_or(MOST_ROWS)) {
            let prepared: Vec<Picture> = batch.iter().map(|p| self.processor.prepared(p)).collect();
            // Without resizing, pictures keep sizes of their own, and only equal ones make a tensor.
            for alike in prepared.chunk_by(|a, b| (a.width, a.height) == (b.width, b.height)) {
                self.graph.run(alike, &self.processor, |outputs| {
                    answers.push(labels.ranked(outputs, parameters));
                })?;
            }
        }
        Ok(answers)
    }
}
