//! A request's parameters: those that tasks know are taken, the others are for other servers.

use std::collections::BTreeMap;

use larder_contract::Parameters;
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde_json::value::RawValue;

use crate::error::ApiError;

/// What tasks know, with every way to write it.
const OF_TASKS: [&str; 15] = [
    "topK",
    "top_k",
    "functionToApply",
    "function_to_apply",
    "maxTokens",
    "max_length",
    "truncate",
    "pooling",
    "normalize",
    "promptName",
    "prompt_name",
    "languages",
    "leastConfidencePercent",
    "least_confidence_percent",
    "orientation",
];

/// One parameter, if it is there.
///
/// # Errors
/// 400 that names it.
pub(super) fn one<T: DeserializeOwned>(
    given: &BTreeMap<String, &RawValue>,
    name: &str,
) -> Result<Option<T>, ApiError> {
    let value = given.get(name).map(|value| serde_json::from_str(value.get()));
    value.transpose().map_err(|error| ApiError::bad_request(format!("parameter {name:?}: {error}")))
}

/// Those that tasks know.
///
/// # Errors
/// 400 that names the one that is wrong.
pub(super) fn of_task(given: &BTreeMap<String, &RawValue>) -> Result<Parameters, ApiError> {
    let known = OF_TASKS.iter().filter_map(|name| Some((*name, *given.get(*name)?)));
    let known = MapDeserializer::<_, serde_json::Error>::new(known);
    serde_path_to_error::deserialize(known).map_err(|error| {
        let name = error.path().to_string();
        ApiError::bad_request(format!("parameter {name:?}: {}", error.into_inner()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parameters, String> {
        of_task(&serde_json::from_str(text).unwrap()).map_err(|e| e.message)
    }

    #[test]
    fn every_name_is_known_to_the_tasks() {
        let full = r#"{"topK": 1, "functionToApply": "sigmoid", "maxTokens": 2, "truncate": true,
            "pooling": "cls", "normalize": true, "promptName": "query", "languages": ["en"], "leastConfidencePercent": 3,
            "orientation": false}"#;
        let written = serde_json::to_value(parse(full).unwrap()).unwrap();
        for (name, value) in written.as_object().unwrap() {
            assert!(OF_TASKS.contains(&name.as_str()) && !value.is_null(), "{name}");
        }
        let all = Parameters::default();
        let Parameters {
            top_k: _,
            function_to_apply: _,
            max_tokens: _,
            truncate: _,
            pooling: _,
            normalize: _,
            prompt_name: _,
            languages: _,
            least_confidence_percent: _,
            orientation: _,
        } = all;
        assert_eq!(written.as_object().unwrap().len(), 10);
        for name in OF_TASKS {
            let text = format!(r#"{{"{name}": {{"not": "this"}}}}"#);
            let refusal = parse(&text).unwrap_err();
            assert!(refusal.contains(name) && !refusal.contains("unknown field"), "{refusal}");
        }
    }

    #[test]
    fn what_is_for_other_servers_is_passed_over() {
        let given = r#"{"priority": 2, "timeout": 5, "sequence_id": "a", "x": [1], "top_k": 3}"#;
        assert_eq!(parse(given), Ok(Parameters { top_k: Some(3), ..Parameters::default() }));
        assert!(parse(r#"{"top_k": "three"}"#).unwrap_err().contains("\"top_k\""));
    }
}
