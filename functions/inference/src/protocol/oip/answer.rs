//! An answer: JSON, then the binary data of those outputs that are sent so.

use std::io::{self, Write};

use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde::ser::Serializer;

use super::{binary, json};
use crate::error::ApiError;
use crate::routes::MAX_BODY;
use crate::tasks::tensor::{Datatype, Elements, NamedTensor};

/// Says how long the JSON of a body is that has binary data after it.
pub const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// The model's name.
    pub model_name: String,
    /// Its version.
    pub model_version: String,
    /// The request's id.
    pub id: Option<String>,
    /// The outputs, and whether each is binary.
    pub outputs: Vec<(NamedTensor, bool)>,
}

/// An answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The bytes.
    pub body: Vec<u8>,
    /// How many of them are JSON, when others follow.
    pub json_length: Option<usize>,
}

/// The JSON of an answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InferAnswer")]
pub(crate) struct Body<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InferAnswerOutput")]
struct Output<'a> {
    name: &'a str,
    shape: &'a [i64],
    datatype: Datatype,
    #[serde(flatten)]
    form: Form<'a>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Form<'a> {
    Parameters { binary_data_size: usize },
    Data(#[schemars(with = "Vec<serde_json::Value>")] List<'a>),
}

struct List<'a>(&'a Elements);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json::write(self.0, serializer)
    }
}

/// Writes an answer.
///
/// # Errors
/// 400 for an output that has no form in JSON and is not asked for in binary form; 413 when the answer
/// would be larger than [`MAX_BODY`].
pub fn write(answer: &Answer) -> Result<Written, ApiError> {
    let Answer { model_name, model_version, id, outputs } = answer;
    let binary = || outputs.iter().filter(|(_, is_binary)| *is_binary).map(|(tensor, _)| &tensor.elements);
    let too_large = || {
        let message = format!(
            "the outputs take more than {MAX_BODY} bytes; ask for fewer \"outputs\", or send a smaller batch"
        );
        ApiError::too_large(message)
    };
    let sizes: usize = binary().map(binary::size).sum();
    let body = Body {
        model_name,
        model_version,
        id: id.as_deref(),
        outputs: outputs.iter().map(|(tensor, is_binary)| output(tensor, *is_binary)).collect(),
    };
    let most = MAX_BODY.checked_sub(sizes).ok_or_else(too_large)?;
    let mut text = Limited { bytes: Vec::with_capacity(1024 + sizes), most };
    serde_json::to_writer(&mut text, &body).map_err(|error| {
        if error.is_io() {
            return too_large();
        }
        ApiError::bad_request(format!("an output cannot be answered: {error}"))
    })?;
    let mut body = text.bytes;
    let json_length = binary().next().map(|_| body.len());
    for elements in binary() {
        binary::write(elements, &mut body);
    }
    Ok(Written { body, json_length })
}

fn output(tensor: &NamedTensor, is_binary: bool) -> Output<'_> {
    let NamedTensor { name, shape, elements } = tensor;
    let form = if is_binary {
        Form::Parameters { binary_data_size: binary::size(elements) }
    } else {
        Form::Data(List(elements))
    };
    Output { name, shape, datatype: elements.datatype(), form }
}

/// Bytes up to a limit.
struct Limited {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Limited {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if text.len() > self.most - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        match self.json_length {
            None => ([(CONTENT_TYPE, "application/json")], self.body).into_response(),
            Some(length) => {
                let content_type = [(CONTENT_TYPE, "application/octet-stream")];
                (content_type, [(JSON_LENGTH, length.to_string())], self.body).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(elements: Elements, is_binary: bool) -> Result<Written, String> {
        let shape = vec![i64::try_from(elements.len()).unwrap()];
        let tensor = NamedTensor { name: "y".to_owned(), shape, elements };
        let (model_name, model_version) = ("m".to_owned(), "1".to_owned());
        let outputs = vec![(tensor, is_binary)];
        write(&Answer { model_name, model_version, id: Some("7".to_owned()), outputs })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn answers_are_json_or_json_and_bytes() {
        let Written { body, json_length } = written(Elements::Uint8(vec![7, 9]), false).unwrap();
        let json = br#"{"model_name":"m","model_version":"1","id":"7","outputs":[{"name":"y","shape":[2],"datatype":"UINT8","data":[7,9]}]}"#;
        assert_eq!((&body[..], json_length), (&json[..], None));
        let Written { body, json_length } = written(Elements::Uint8(vec![7, 9]), true).unwrap();
        let json = br#"{"model_name":"m","model_version":"1","id":"7","outputs":[{"name":"y","shape":[2],"datatype":"UINT8","parameters":{"binary_data_size":2}}]}"#;
        assert_eq!((&body[..], json_length), (&[&json[..], &[7, 9]].concat()[..], Some(json.len())));
    }

    #[test]
    fn answers_have_a_limit_in_either_form() {
        let check = |count, is_binary, refused: bool| {
            let answer = written(Elements::Uint8(vec![0; count]), is_binary).map(drop);
            assert_eq!(answer.is_err_and(|e| e.contains("413")), refused, "{count} {is_binary}");
        };
        // In JSON each takes two bytes: itself and a comma.
        check(MAX_BODY / 2 - 200, false, false);
        check(MAX_BODY / 2, false, true);
        check(MAX_BODY - 200, true, false);
        check(MAX_BODY, true, true);
        check(MAX_BODY + 1, true, true);
    }
}
