//! Texts: from strings to a transformer's outputs, and what is made of them.
//!
//! - [`limits`]: how much of it. [`tokens`]: strings to token ids. [`batches`]: which texts run together.
//! - [`graph`]: the ONNX graph, fed by the names and types of its own inputs.
//! - [`classify`] makes labels of its outputs, [`embed`] vectors, by [`pooling`].
//!
//! Deliberately absent: windows over long texts. A text is cut or refused.

mod batches;
mod classify;
mod embed;
mod graph;
mod limits;
mod pooling;
mod sentence;
mod tokens;

pub use classify::TextClassifier;
pub use embed::Embedder;
pub use limits::{MAX_TEXT_BYTES, MAX_TEXTS, MAX_TOKENS};

use larder_contract::Parameters;
use tokenizers::Encoding;

use super::export::ModelConfig;
use super::files::ExportFiles;
use super::{TaskError, Text};
use crate::onnx::{Engine, Session};
use graph::{Rows, TextGraph};
use tokens::Tokens;

/// A tokenizer and the graph that it was made for.
#[derive(Debug)]
struct Encoder {
    tokens: Tokens,
    graph: TextGraph,
}

impl Encoder {
    /// `usual` is the length that a sentence-transformers export asks for.
    fn open(
        engine: &Engine,
        files: &ExportFiles,
        config: &ModelConfig,
        usual: Option<usize>,
    ) -> Result<Self, TaskError> {
        let graph = TextGraph::new(engine.open(&files.onnx)?)?;
        let tokens = Tokens::open(files, config, graph.length(), usual)?;
        Ok(Self { tokens, graph })
    }

    fn session(&self) -> &Session {
        self.graph.session()
    }

    /// Runs all texts and hands each batch of the graph's `output` to `read`, with the places that its
    /// rows' texts have in `texts`.
    fn run(
        &mut self,
        texts: &[Text],
        parameters: &Parameters,
        output: &str,
        mut read: impl FnMut(&[usize], &Rows<'_>) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        let encodings: Vec<Encoding> = self.tokens.encoded(texts, parameters)?;
        let lengths: Vec<usize> = encodings.iter().map(Encoding::len).collect();
        for batch in batches::planned(&lengths, self.graph.rows()) {
            let rows: Vec<&Encoding> = batch.iter().map(|&place| &encodings[place]).collect();
            self.graph.run(&rows, self.tokens.padding(), output, |rows| read(&batch, rows))?;
        }
        Ok(())
    }
}
