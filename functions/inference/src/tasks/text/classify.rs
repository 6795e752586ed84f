//! Texts to labels.

use larder_contract::Parameters;

use super::Encoder;
use crate::onnx::Engine;
use crate::tasks::export::{self, ModelConfig};
use crate::tasks::files::ExportFiles;
use crate::tasks::labels::{self, Labels};
use crate::tasks::outputs;
use crate::tasks::{Label, TaskError, Text};

/// A text classifier, open.
#[derive(Debug)]
pub struct TextClassifier {
    encoder: Encoder,
    labels: Labels,
    output: String,
}

impl TextClassifier {
    /// Opens a classifier's files.
    ///
    /// # Errors
    /// [`TaskError`] when a file is broken or the graph is no text classifier.
    pub fn open(engine: &Engine, files: &ExportFiles) -> Result<Self, TaskError> {
        let config: ModelConfig = export::json(files.config.as_deref())?;
        let encoder = Encoder::open(engine, files, &config, None)?;
        let output = outputs::of_scores(encoder.session())?;
        Ok(Self { encoder, labels: Labels::of(config), output })
    }

    /// Each text's labels, the best first. No texts, no answers.
    ///
    /// # Errors
    /// [`TaskError::Refused`] for texts and parameters that are beyond the limits.
    pub fn answer(&mut self, texts: &[Text], parameters: &Parameters) -> Result<Vec<Vec<Label>>, TaskError> {
        labels::checked(parameters)?;
        let mut answers = vec![Vec::new(); texts.len()];
        let known = &self.labels;
        self.encoder.run(texts, parameters, &self.output, |places, rows| {
            let labels = rows.values.len() / usize::try_from(rows.shape[0]).unwrap_or(1).max(1);
            for (&place, outputs) in places.iter().zip(rows.values.chunks_exact(labels.max(1))) {
                answers[place] = known.ranked(outputs, parameters);
            }
            Ok(())
        })?;
        Ok(answers)
    }
}
