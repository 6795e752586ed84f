//! Strings to token ids, by the export's own tokenizer; padding and truncation are set here.

use std::path::Path;

use larder_contract::Parameters;
use serde::Deserialize;
use tokenizers::{
    EncodeInput, Encoding, PostProcessor as _, Tokenizer, TruncationDirection, TruncationParams,
};

use super::graph::Padding;
use super::limits;
use crate::tasks::export::{self, ExportError, ModelConfig};
use crate::tasks::files::ExportFiles;
use crate::tasks::{TaskError, Text};

/// A length that is longer than any model's is how some exports say "none".
const LONGEST: usize = 131_072;

/// The length of a text when nothing in the export says one.
const USUAL: usize = 512;

/// Models whose positions begin after the padding token's id, so that they have fewer than they say.
const POSITIONS_AFTER_PADDING: [&str; 8] = [
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
    "longformer",
    "data2vec-text",
    "roberta-prelayernorm",
];

/// The tokenizer, and how long a text may be.
#[derive(Debug)]
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    direction: TruncationDirection,
    padding: Padding,
    usual: usize,
    most: usize,
}

/// What is read of `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    padding_side: Option<Side>,
    truncation_side: Option<Side>,
    pad_token: Option<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Left,
    Right,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Plain(String),
    Added { content: String },
}

impl Tokens {
    /// `graph` is the length that the graph insists on, `trained` the one that the export asks for.
    pub(super) fn open(
        files: &ExportFiles,
        config: &ModelConfig,
        graph: Option<usize>,
        trained: Option<usize>,
    ) -> Result<Self, ExportError> {
        let said: TokenizerConfig = export::json(files.tokenizer_config.as_deref())?;
        let path = files.tokenizer.as_deref().unwrap_or(Path::new("tokenizer.json"));
        let mut tokenizer =
            Tokenizer::from_bytes(export::bytes(path)?).map_err(|e| ExportError::content(path, &e))?;
        let padding = Padding {
            id: padding_id(&tokenizer, config, said.pad_token.as_ref()),
            left: said.padding_side == Some(Side::Left),
        };
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| ExportError::content(path, &e))?;
        let told = said.model_max_length.and_then(length);
        let most = [positions(config, padding.id), graph].into_iter().flatten().min();
        let most = most.or(told).or(trained).unwrap_or(USUAL);
        Ok(Self {
            direction: match said.truncation_side {
                Some(Side::Left) => TruncationDirection::Left,
                Some(Side::Right) | None => TruncationDirection::Right,
            },
            padding,
            usual: trained.or(told).unwrap_or(most).min(most),
            most,
            tokenizer,
        })
    }

    pub(super) fn padding(&self) -> Padding {
        self.padding
    }

    /// Each text's tokens, special ones included.
    pub(super) fn encoded(
        &mut self,
        texts: &[Text],
        parameters: &Parameters,
    ) -> Result<Vec<Encoding>, TaskError> {
        limits::checked(texts)?;
        let most = self.most_tokens(texts, parameters)?;
        let cut = parameters.truncate.unwrap_or(true);
        let truncation =
            TruncationParams { max_length: most, direction: self.direction, ..TruncationParams::default() };
        let failed = |e: tokenizers::Error| TaskError::Refused(format!("the texts cannot be tokenized: {e}"));
        self.tokenizer.with_truncation(cut.then_some(truncation)).map_err(failed)?;
        let inputs: Vec<EncodeInput<'_>> = texts.iter().map(input).collect();
        // One text is not worth waking other threads for.
        let encodings = match <[EncodeInput<'_>; 1]>::try_from(inputs) {
            Ok([only]) => vec![self.tokenizer.encode_fast(only, true).map_err(failed)?],
            Err(inputs) => self.tokenizer.encode_batch_fast(inputs, true).map_err(failed)?,
        };
        if let Some((place, longer)) = encodings.iter().enumerate().find(|(_, e)| e.len() > most) {
            return Err(TaskError::TooLarge(format!(
                "text {place} has {} tokens, the most is {most}: shorten it, or let it be cut with truncate: true",
                longer.len()
            )));
        }
        limits::checked_tokens(encodings.iter().map(Encoding::len))?;
        Ok(encodings)
    }

    /// How many tokens a text of this request may have.
    fn most_tokens(&self, texts: &[Text], parameters: &Parameters) -> Result<usize, TaskError> {
        let asked = match parameters.max_tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX)) {
            Some(asked) if asked > self.most => {
                return Err(TaskError::Refused(format!(
                    "maxTokens is {asked}, but this model takes {} at the most",
                    self.most
                )));
            }
            asked => asked.unwrap_or(self.usual),
        };
        let pairs = texts.iter().any(|text| pair(text).is_some());
        let special = self.tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(pairs));
        if asked <= special {
            return Err(TaskError::Refused(format!(
                "maxTokens is {asked}, but {special} go to the model's special tokens: ask for more"
            )));
        }
        Ok(asked)
    }
}

/// The second text; an empty one is none, as for transformers.
fn pair(text: &Text) -> Option<&str> {
    text.pair.as_deref().filter(|pair| !pair.is_empty())
}

fn input(text: &Text) -> EncodeInput<'_> {
    match pair(text) {
        Some(pair) => (text.text.as_str(), pair).into(),
        None => text.text.as_str().into(),
    }
}

fn padding_id(tokenizer: &Tokenizer, config: &ModelConfig, said: Option<&Token>) -> u32 {
    let named = said.and_then(|token| match token {
        Token::Plain(content) | Token::Added { content } => tokenizer.token_to_id(content),
    });
    let configured = || config.pad_token_id.and_then(|id| u32::try_from(id).ok());
    let of_file = || tokenizer.get_padding().map(|padding| padding.pad_id);
    named.or_else(configured).or_else(of_file).unwrap_or(0)
}

/// A length that somebody meant.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1..=LONGEST")]
#[expect(clippy::cast_precision_loss, reason = "LONGEST is below 2^52")]
fn length(said: f64) -> Option<usize> {
    (1.0..=LONGEST as f64).contains(&said).then_some(said as usize)
}

/// How many tokens the model has positions for.
fn positions(config: &ModelConfig, padding: u32) -> Option<usize> {
    let all = usize::try_from(config.max_position_embeddings?).ok().filter(|&n| n > 0)?;
    let model = config.model_type.as_deref().unwrap_or_default();
    let before =
        if POSITIONS_AFTER_PADDING.contains(&model) { usize::try_from(padding).ok()? + 1 } else { 0 };
    all.checked_sub(before).filter(|&n| n > 0).map(|n| n.min(LONGEST))
}
