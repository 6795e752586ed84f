//! An answer: JSON, then the binary data of those outputs that are sent so.

use std::io::{self, Write};

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
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

#[derive(Serialize)]
struct Body<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    shape: &'a [i64],
    datatype: Datatype,
    #[serde(flatten)]
    form: Form<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Form<'a> {
    Parameters { binary_data_size: usize },
    Data(List<'a>),
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
    let sizes: usize =
        outputs.iter().filter(|(_, binary)| *binary).map(|(t, _)| binary::size(&t.elements)).sum();
    let body = Body {
        model_name,
        model_version,
        id: id.as_deref(),
        outputs: outputs.iter().map(|(tensor, is_binary)| output(tensor, *is_binary)).collect(),
    };
    let Some(most) = MAX_BODY.checked_sub(sizes) else { return Err(too_large(&format!("{sizes} bytes"))) };
    // The lists of JSON are longer than this; a vector that doubles is no worse than counting them.
    let mut text = Limited { bytes: Vec::with_capacity(1024), most };
    if let Err(error) = serde_json::to_writer(&mut text, &body) {
        return Err(if error.is_io() {
            too_large(&format!("more than {MAX_BODY} bytes"))
        } else {
            ApiError::bad_request(format!("an output cannot be answered: {error}"))
        });
    }
    let mut body = text.bytes;
    let json_length = outputs.iter().any(|(_, is_binary)| *is_binary).then_some(body.len());
    body.reserve_exact(sizes);
    for (tensor, _) in outputs.iter().filter(|(_, is_binary)| *is_binary) {
        binary::write(&tensor.elements, &mut body);
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

fn too_large(size: &str) -> ApiError {
    let message = format!(
        "the outputs take {size}, the most is {MAX_BODY}; ask for fewer \"outputs\", for binary data, or send a smaller batch"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
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
