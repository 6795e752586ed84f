//! Texts to vectors.

use larder_contract::{Parameters, Pooling};
use ort::value::ValueType;

use super::graph::Rows;
use super::sentence::Sentence;
use super::{Encoder, pooling};
use crate::onnx::{Engine, OnnxError, Session};
use crate::tasks::export::{self, ExportError, ModelConfig};
use crate::tasks::files::ExportFiles;
use crate::tasks::{Embedding, TaskError, Text};

/// The most values of an answer: 64 MB. Only vectors for each token come near it.
const MOST_VALUES: usize = 16 * 1024 * 1024;

/// Outputs with a vector for each token.
const OF_TOKENS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// An embedding model, open.
#[derive(Debug)]
pub struct Embedder {
    encoder: Encoder,
    sentence: Sentence,
    outputs: Outputs,
}

/// Which of the graph's outputs have what.
#[derive(Debug)]
struct Outputs {
    /// A vector for each token.
    tokens: Option<String>,
    /// A vector for each text, and whether it is the export's own answer.
    text: Option<(String, bool)>,
}

/// What a request's vectors are made of.
enum Plan<'a> {
    Text(&'a str),
    Tokens(&'a str, Pooling),
}

impl Embedder {
    /// Opens an embedding model's files.
    ///
    /// # Errors
    /// [`TaskError`] when a file is broken or the graph gives no vectors.
    pub fn open(engine: &Engine, files: &ExportFiles) -> Result<Self, TaskError> {
        let config: ModelConfig = export::json(files.config.as_deref())?;
        let sentence = Sentence::open(files)?;
        let encoder = Encoder::open(engine, files, &config, sentence.length)?;
        let outputs = Outputs::of(encoder.session())?;
        let whole = outputs.text.as_ref().is_some_and(|(_, own)| *own);
        if let (false, [step, ..], Some(modules)) = (whole, &sentence.unknown[..], &files.modules) {
            let problem = format!(
                "its step {step} is not in the graph: export the whole model, so that the graph has the output sentence_embedding"
            );
            return Err(ExportError::content(modules, &problem).into());
        }
        Ok(Self { encoder, sentence, outputs })
    }

    /// Each text's vector, or its tokens' vectors without pooling. No texts, no answers.
    ///
    /// # Errors
    /// [`TaskError::Refused`] for texts and parameters that are beyond the limits, or pooling that the
    /// graph's outputs do not allow.
    pub fn answer(&mut self, texts: &[Text], parameters: &Parameters) -> Result<Vec<Embedding>, TaskError> {
        let plan = self.outputs.plan(&self.sentence, parameters)?;
        let normalize = parameters.normalize.unwrap_or(self.sentence.normalize);
        let mut answers: Vec<Option<Embedding>> = vec![None; texts.len()];
        let mut values_in_all = 0;
        let prompt = self.sentence.prompt(parameters.prompt_name.as_deref())?;
        let made: Vec<Text>;
        let texts = if prompt.is_some() || self.sentence.lower {
            let prompt = prompt.unwrap_or_default();
            made = texts.iter().map(|text| self.sentence.made(prompt, text)).collect();
            &made
        } else {
            texts
        };
        let (Plan::Text(output) | Plan::Tokens(output, _)) = plan;
        self.encoder.run(texts, parameters, output, |places, rows| {
            for (row, &place) in places.iter().enumerate() {
                let (mut values, width) = vectors(&plan, rows, row);
                values_in_all += values.len();
                if values_in_all > MOST_VALUES {
                    return Err(TaskError::TooLarge(format!(
                        "the answer has more than {MOST_VALUES} values: send fewer texts, or ask for pooling"
                    )));
                }
                if normalize {
                    pooling::normalise(&mut values, width);
                }
                answers[place] = Some(Embedding { values, width, tokens: rows.tokens[row].len() });
            }
            Ok(())
        })?;
        Ok(answers.into_iter().flatten().collect())
    }
}

/// One row's values, and the width of a vector.
fn vectors(plan: &Plan<'_>, rows: &Rows<'_>, row: usize) -> (Vec<f32>, usize) {
    let size = |place: usize| rows.shape.get(place).and_then(|&n| usize::try_from(n).ok()).unwrap_or(0);
    let width = size(rows.shape.len() - 1);
    let of_row = rows.values.len() / size(0).max(1);
    let values = &rows.values[row * of_row..][..of_row];
    match plan {
        Plan::Text(_) => (values.to_vec(), width),
        Plan::Tokens(_, pooling) => {
            let own = &rows.tokens[row];
            (pooling::pooled(*pooling, &values[own.start * width..own.end * width], width), width)
        }
    }
}

impl Outputs {
    fn of(session: &Session) -> Result<Self, OnnxError> {
        let with_dimensions = |wanted: usize| {
            session.ort().outputs().iter().filter_map(move |outlet| match outlet.dtype() {
                ValueType::Tensor { shape, .. } if shape.len() == wanted => Some(outlet.name()),
                ValueType::Tensor { .. }
                | ValueType::Sequence(_)
                | ValueType::Map { .. }
                | ValueType::Optional(_) => None,
            })
        };
        let of_tokens = || with_dimensions(3);
        let tokens = of_tokens().find(|name| OF_TOKENS.contains(name)).or_else(|| of_tokens().next());
        let mut of_texts = with_dimensions(2);
        let text = match of_texts.clone().find(|&name| name == "sentence_embedding") {
            Some(own) => Some((own.to_owned(), true)),
            None => of_texts.next().map(|name| (name.to_owned(), false)),
        };
        if tokens.is_none() && text.is_none() {
            return Err(session.unfit(
                "has no output with a vector for each token (last_hidden_state) or each text (sentence_embedding); \
                 export it for feature-extraction, or give it the task tensor"
                    .to_owned(),
            ));
        }
        Ok(Self { tokens: tokens.map(str::to_owned), text })
    }

    /// A pooling that is asked for needs the tokens. Else the export's own answer goes first, then its
    /// pooling, then whatever vector there is.
    fn plan(&self, sentence: &Sentence, parameters: &Parameters) -> Result<Plan<'_>, TaskError> {
        match (parameters.pooling, &self.tokens, &self.text) {
            (Some(pooling), Some(tokens), _) => Ok(Plan::Tokens(tokens, pooling)),
            (Some(_), None, _) => Err(TaskError::Refused(
                "pooling cannot be chosen: the graph gives no vectors of tokens, only of texts".to_owned(),
            )),
            (None, _, Some((text, true))) | (None, None, Some((text, false))) => Ok(Plan::Text(text)),
            (None, Some(tokens), _) => match &sentence.pooling {
                Ok(pooling) => Ok(Plan::Tokens(tokens, *pooling)),
                Err(unknown) => Err(TaskError::Refused(format!(
                    "the model's own pooling {unknown:?} is not known here: ask for Mean, MeanSqrtLength, WeightedMean, Cls, Max, LastToken or None"
                ))),
            },
            (None, None, None) => Err(TaskError::Refused("the graph gives no vectors".to_owned())),
        }
    }
}
