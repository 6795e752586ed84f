//! From a classifier's raw outputs to labels with scores, for texts and pictures alike.

use std::collections::BTreeMap;

use larder_contract::{Parameters, ScoreFunction};

use super::export::{ModelConfig, ProblemType};
use super::{Label, TaskError};

/// What a model's files say of its labels.
#[derive(Debug)]
pub(crate) struct Labels {
    names: BTreeMap<usize, String>,
    problem: Option<ProblemType>,
    function: Option<ScoreFunction>,
}

impl Labels {
    pub(crate) fn of(config: ModelConfig) -> Self {
        Self {
            names: config.id2label.unwrap_or_default(),
            problem: config.problem_type,
            function: config.function_to_apply,
        }
    }

    /// The labels of one text or picture, the best first; of equal ones the first in the model.
    pub(crate) fn ranked(&self, outputs: &[f32], parameters: &Parameters) -> Vec<Label> {
        let function = parameters.function_to_apply.unwrap_or_else(|| self.function(outputs.len()));
        let mut labels: Vec<Label> = scores(function, outputs)
            .into_iter()
            .enumerate()
            .map(|(id, score)| Label { label: self.name(id), score })
            .collect();
        labels.sort_by(|a, b| b.score.total_cmp(&a.score));
        if let Some(most) = parameters.top_k {
            labels.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        labels
    }

    fn name(&self, id: usize) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("LABEL_{id}"))
    }

    /// As the pipelines of transformers choose it, except that what the file says goes first.
    fn function(&self, labels: usize) -> ScoreFunction {
        match (self.function, self.problem) {
            (Some(said), _) => said,
            (None, Some(ProblemType::Regression)) => ScoreFunction::None,
            (None, Some(ProblemType::MultiLabel)) => ScoreFunction::Sigmoid,
            (None, Some(ProblemType::SingleLabel) | None) if labels == 1 => ScoreFunction::Sigmoid,
            (None, Some(ProblemType::SingleLabel) | None) => ScoreFunction::Softmax,
        }
    }
}

/// Refuses parameters that no classifier can follow.
pub(crate) fn checked(parameters: &Parameters) -> Result<(), TaskError> {
    match parameters.top_k {
        Some(0) => Err(TaskError::Refused("topK is 0; ask for 1 label or more".to_owned())),
        Some(_) | None => Ok(()),
    }
}

fn scores(function: ScoreFunction, outputs: &[f32]) -> Vec<f32> {
    match function {
        ScoreFunction::None => outputs.to_vec(),
        ScoreFunction::Sigmoid => outputs.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
        ScoreFunction::Softmax => {
            let greatest = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let raised: Vec<f32> = outputs.iter().map(|v| (v - greatest).exp()).collect();
            let sum: f32 = raised.iter().sum();
            raised.iter().map(|v| v / sum).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, parameters: &str, outputs: &[f32], expected: &[(&str, f32)]) {
        let labels = Labels::of(serde_json::from_str(config).unwrap());
        let ranked = labels.ranked(outputs, &serde_json::from_str(parameters).unwrap());
        let names: Vec<&str> = ranked.iter().map(|l| l.label.as_str()).collect();
        assert_eq!(names, expected.iter().map(|e| e.0).collect::<Vec<_>>(), "{config} {parameters}");
        for (label, (name, score)) in ranked.iter().zip(expected) {
            assert!((label.score - score).abs() < 1e-6, "{name}: {label:?}, not {score}");
        }
    }

    #[test]
    fn scores_follow_config_then_parameters() {
        let two = [0.0, 3.0_f32.ln()];
        let soft = [("LABEL_1", 0.75), ("LABEL_0", 0.25)];
        let sigmoid = [("LABEL_1", 0.75), ("LABEL_0", 0.5)];
        check("{}", "{}", &two, &soft);
        check(r#"{"problem_type": "single_label_classification"}"#, "{}", &two, &soft);
        check(r#"{"problem_type": "multi_label_classification"}"#, "{}", &two, &sigmoid);
        check("{}", r#"{"functionToApply": "Sigmoid"}"#, &two, &sigmoid);
        check(
            r#"{"problem_type": "multi_label_classification"}"#,
            r#"{"functionToApply": "Softmax"}"#,
            &two,
            &soft,
        );
        check(r#"{"problem_type": "regression"}"#, "{}", &[2.5], &[("LABEL_0", 2.5)]);
        check(r#"{"function_to_apply": "none"}"#, "{}", &[0.9, 0.1], &[("LABEL_0", 0.9), ("LABEL_1", 0.1)]);
        check("{}", "{}", &[0.0], &[("LABEL_0", 0.5)]);
        check(r#"{"id2label": {"1": "good"}}"#, r#"{"topK": 1}"#, &two, &[("good", 0.75)]);
        check("{}", r#"{"topK": 9}"#, &[1.0, 1.0], &[("LABEL_0", 0.5), ("LABEL_1", 0.5)]);
        check("{}", "{}", &[1000.0, 0.0], &[("LABEL_0", 1.0), ("LABEL_1", 0.0)]);
        check("{}", "{}", &[], &[]);
    }

    #[test]
    fn no_labels_at_all_cannot_be_asked_for() {
        let none = Parameters { top_k: Some(0), ..Parameters::default() };
        assert!(checked(&none).unwrap_err().to_string().contains("topK is 0"));
    }
}
