//! What a sentence-transformers export says of its steps after the graph.

use larder_contract::Pooling;
use serde::Deserialize;

use crate::tasks::export::{self, ExportError};
use crate::tasks::files::ExportFiles;

/// The steps, and how texts are prepared.
#[derive(Debug)]
pub(super) struct Sentence {
    /// How tokens are pooled; when it is not a way that is known here, its name.
    pub(super) pooling: Result<Pooling, String>,
    /// Vectors are brought to length 1.
    pub(super) normalize: bool,
    /// Tokens that the model was trained for.
    pub(super) length: Option<usize>,
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

/// Older exports have a flag for each way of pooling, newer ones its name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, clippy::struct_field_names, reason = "the file's own fields")]
struct PoolingConfig {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Sentence {
    /// Without such files: the mean and no normalisation, which is what sentence-transformers makes of a
    /// plain transformer.
    pub(super) fn open(files: &ExportFiles) -> Result<Self, ExportError> {
        let modules: Vec<Module> = export::json(files.modules.as_deref())?;
        let config: SentenceConfig = export::json(files.sentence_config.as_deref())?;
        let pooling: Option<PoolingConfig> = export::json(files.pooling.as_deref())?;
        let kinds = modules.iter().map(|module| module.kind.rsplit('.').next().unwrap_or_default());
        let unknown = kinds.clone().filter(|kind| !["Transformer", "Pooling", "Normalize"].contains(kind));
        Ok(Self {
            pooling: pooling.map_or(Ok(Pooling::Mean), |pooling| pooling.said()),
            normalize: kinds.clone().any(|kind| kind == "Normalize"),
            length: config.max_seq_length.filter(|&n| n > 0),
            lower: config.do_lower_case,
            unknown: unknown.map(str::to_owned).collect(),
        })
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
        check(r#"{"pooling_mode": "weightedmean"}"#, Err("weightedmean"));
        check(r#"{"pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}"#, Err("cls and max"));
    }
}
