//! What a model does, and how.

use serde::{Deserialize, Serialize};

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Reads the text in pictures.
    Ocr,
    /// Says which labels a text has, such as its sentiment.
    TextClassification,
    /// Says which labels a picture has.
    ImageClassification,
    /// Turns texts into vectors that are near each other when the texts mean the same.
    FeatureExtraction,
    /// Any ONNX graph, tensors in and out.
    Tensor,
}

impl Task {
    /// The task's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ocr => "ocr",
            Self::TextClassification => "text-classification",
            Self::ImageClassification => "image-classification",
            Self::FeatureExtraction => "feature-extraction",
            Self::Tensor => "tensor",
        }
    }
}

/// How a task is done. What is absent is read from the model's files, else has the task's default.
/// A request may say the same fields for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parameters {
    /// Classification: how many labels are answered, the best first. All when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "top_k")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100_000)))]
    pub top_k: Option<u32>,
    /// Classification: what makes scores of the model's raw outputs.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "function_to_apply")]
    pub function_to_apply: Option<ScoreFunction>,
    /// Texts: the most tokens of one. The model's own limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_length")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 131_072)))]
    pub max_tokens: Option<u32>,
    /// Texts: a longer one is cut (default) or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// Embeddings: how a text's tokens become one vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Embeddings: vectors are brought to length 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// Embeddings: which of the prompts that the model's files name is put before each text. The files' own
    /// default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "prompt_name")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 100)))]
    pub prompt_name: Option<String>,
    /// OCR: the languages that are read, as codes such as `en` and `ch_sim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 100)))]
    pub languages: Option<Vec<String>>,
    /// OCR: lines that the model is less sure of are left out, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "least_confidence_percent")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub least_confidence_percent: Option<u8>,
    /// OCR: lines that are upside down are turned first, if the model has a file for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<bool>,
}

impl Parameters {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and where they say nothing, what `others` say.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            top_k: self.top_k.or(others.top_k),
            function_to_apply: self.function_to_apply.or(others.function_to_apply),
            max_tokens: self.max_tokens.or(others.max_tokens),
            truncate: self.truncate.or(others.truncate),
            pooling: self.pooling.or(others.pooling),
            normalize: self.normalize.or(others.normalize),
            prompt_name: self.prompt_name.or_else(|| others.prompt_name.clone()),
            languages: self.languages.or_else(|| others.languages.clone()),
            least_confidence_percent: self.least_confidence_percent.or(others.least_confidence_percent),
            orientation: self.orientation.or(others.orientation),
        }
    }
}

/// What makes scores of a classifier's raw outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ScoreFunction {
    /// One label is right: scores add up to 1.
    #[serde(alias = "softmax")]
    Softmax,
    /// Any number of labels may be right: each has a score of its own.
    #[serde(alias = "sigmoid")]
    Sigmoid,
    /// The outputs are the scores.
    #[serde(alias = "none")]
    None,
}

/// How a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Pooling {
    /// The mean of all tokens.
    #[serde(alias = "mean")]
    Mean,
    /// The sum of all tokens, by the root of their number.
    #[serde(alias = "mean_sqrt_len_tokens")]
    MeanSqrtLength,
    /// The mean of all tokens, later ones counting more: the second twice as much as the first, and so on.
    #[serde(alias = "weightedmean")]
    WeightedMean,
    /// The first token.
    #[serde(alias = "cls")]
    Cls,
    /// The greatest value of all tokens.
    #[serde(alias = "max")]
    Max,
    /// The last token.
    #[serde(alias = "lastToken", alias = "last_token")]
    LastToken,
    /// None: a vector for each token.
    #[serde(alias = "none")]
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_says_goes_first() {
        let parse = |text: &str| serde_json::from_str::<Parameters>(text).unwrap();
        let request = parse(r#"{"top_k": 3, "pooling": "cls"}"#);
        let endpoint = parse(r#"{"topK": 5, "normalize": true}"#);
        let expected = parse(r#"{"topK": 3, "pooling": "Cls", "normalize": true}"#);
        assert_eq!(request.or(&endpoint), expected);
        assert!(Parameters::default().is_empty() && !endpoint.is_empty());
        assert!(
            serde_json::from_str::<Parameters>(r#"{"topq": 5}"#).unwrap_err().to_string().contains("topq")
        );
    }
}
