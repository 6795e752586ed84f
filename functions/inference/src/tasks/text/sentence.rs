//! What a sentence-transformers export says of its steps after the graph.

use std::collections::BTreeMap;

use larder_contract::Pooling;
use serde::Deserialize;

use crate::tasks::export::{self, ExportError};
use crate::tasks::files::ExportFiles;
use crate::tasks::{TaskError, Text};

/// The steps, and how texts are prepared.
#[derive(Debug)]
pub(super) struct Sentence {
    /// How tokens are pooled; when it is not a way that is known here, its name.
    pub(super) pooling: Result<Pooling, String>,
    /// Vectors are brought to length 1.
    pub(super) normalize: bool,
    /// Tokens that the model was trained for.
    pub(super) length: Option<usize>,
    /// What may be put before texts, by name.
    pub(super) prompts: BTreeMap<String, String>,
    /// The prompt of a request that names none.
    pub(super) prompt: Option<String>,
    /// Prompts are pooled like the text.
    pub(super) pools_prompts: bool,
    /// Texts are made lower case first.
    pub(super) lower: bool,
    /// Steps that a graph of the transformer alone does not do, and nor do we.
    pub(super) unknown: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptsConfig {
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

/// Older exports have a flag for each way of pooling, newer ones its name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own fields")]
struct PoolingConfig {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
    include_prompt: Option<bool>,
}

impl Sentence {
    /// Without such files: the mean and no normalisation, which is what sentence-transformers makes of a
    /// plain transformer.
    pub(super) fn open(files: &ExportFiles) -> Result<Self, ExportError> {
        let modules: Vec<Module> = export::json(files.modules.as_deref())?;
        let config: SentenceConfig = export::json(files.sentence_config.as_deref())?;
        let pooling: Option<PoolingConfig> = export::json(files.pooling.as_deref())?;
        let PromptsConfig { prompts, default_prompt_name } = export::json(files.prompts.as_deref())?;
        let kinds = modules.iter().map(|module| module.kind.rsplit('.').next().unwrap_or_default());
        let unknown = kinds.clone().filter(|kind| !["Transformer", "Pooling", "Normalize"].contains(kind));
        Ok(Self {
            prompts,
            prompt: default_prompt_name,
            pools_prompts: pooling.as_ref().and_then(|pooling| pooling.include_prompt).unwrap_or(true),
            pooling: pooling.map_or(Ok(Pooling::Mean), |pooling| pooling.said()),
            normalize: kinds.clone().any(|kind| kind == "Normalize"),
            length: config.max_seq_length.filter(|&n| n > 0),
            lower: config.do_lower_case,
            unknown: unknown.map(str::to_owned).collect(),
        })
    }
}

impl Sentence {
    /// The prompt of this name; the export's own default when none is asked for.
    pub(super) fn prompt(&self, asked: Option<&str>) -> Result<Option<&str>, TaskError> {
        let Some(name) = asked.or(self.prompt.as_deref()) else { return Ok(None) };
        let refused = |message| Err(TaskError::Refused(message));
        match self.prompts.get(name) {
            None => {
                let names: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                refused(format!("parameter \"promptName\" is {name:?}; the model's prompts are: {known}"))
            }
            Some(prompt) if prompt.is_empty() => Ok(None),
            Some(_) if !self.pools_prompts => refused(format!(
                "the prompt {name:?} cannot be used: the model leaves prompts out of its pooling, which is not done here"
            )),
            Some(prompt) => Ok(Some(prompt)),
        }
    }

    /// A text as the model was trained to see it.
    pub(super) fn made(&self, prompt: &str, text: &Text) -> Text {
        let cased = |text: String| if self.lower { text.to_lowercase() } else { text };
        Text { text: cased(format!("{prompt}{}", text.text)), pair: text.pair.clone().map(cased) }
    }
}

impl PoolingConfig {
    fn said(&self) -> Result<Pooling, String> {
        let flags = [
            (self.pooling_mode_cls_token, "cls"),
            (self.pooling_mode_mean_tokens, "mean"),
            (self.pooling_mode_max_tokens, "max"),
            (self.pooling_mode_mean_sqrt_len_tokens, "mean_sqrt_len_tokens"),
            (self.pooling_mode_weightedmean_tokens, "weightedmean"),
            (self.pooling_mode_lasttoken, "lasttoken"),
        ];
        let flagged: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        let name = self.pooling_mode.clone().unwrap_or_else(|| flagged.join(" and "));
        match name.as_str() {
            "cls" => Ok(Pooling::Cls),
            "mean" => Ok(Pooling::Mean),
            "mean_sqrt_len_tokens" => Ok(Pooling::MeanSqrtLength),
            "weightedmean" => Ok(Pooling::WeightedMean),
            "max" => Ok(Pooling::Max),
            "lasttoken" => Ok(Pooling::LastToken),
            _ => Err(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_is_read_old_and_new() {
        let check = |file: &str, expected: Result<Pooling, &str>| {
            let config: PoolingConfig = serde_json::from_str(file).unwrap();
            assert_eq!(config.said(), expected.map_err(str::to_owned), "{file}");
        };
        check(r#"{"word_embedding_dimension": 4, "pooling_mode_mean_tokens": true}"#, Ok(Pooling::Mean));
        check(r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#, Ok(Pooling::Cls));
        check(r#"{"pooling_mode_max_tokens": true}"#, Ok(Pooling::Max));
        check(r#"{"pooling_mode_lasttoken": true}"#, Ok(Pooling::LastToken));
        check(r#"{"embedding_dimension": 4, "pooling_mode": "cls"}"#, Ok(Pooling::Cls));
        check(r#"{"pooling_mode": "weightedmean"}"#, Ok(Pooling::WeightedMean));
        check(r#"{"pooling_mode_mean_sqrt_len_tokens": true}"#, Ok(Pooling::MeanSqrtLength));
        check(r#"{"pooling_mode": "attention"}"#, Err("attention"));
        check(r#"{"pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}"#, Err("cls and max"));
    }
}
