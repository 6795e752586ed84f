//! `POST …/infer`: from a request's bytes to an answer's.

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use larder_contract::Parameters;

use super::answer::{Answer, JSON_LENGTH, write};
use super::request::{Request, Wanted, fitted, parse};
use super::{ModelPath, classification, forms, json, ports};
use crate::error::ApiError;
use crate::models::Model;
use crate::request::work_on;
use crate::routes::{Served, aside, body};
use crate::tasks::tensor::{NamedTensor, Port};
use crate::tasks::{Input, TensorInput};

/// `POST /v2/models/{model}[/versions/{version}]/infer`
///
/// # Errors
/// 400 that names the tensor, with what it is and what it should be; 404; 413 when the request is beyond a
/// limit or the answer would be larger than a Lambda function may answer; 415 for a body that is
/// compressed; 500 when the model fails; 503 when it is busy.
pub async fn infer(
    State(served): State<Served>,
    path: ModelPath,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let model = path.find(&served)?;
    let bytes = body(bytes)?;
    let json_length = json_length(&headers)?;
    let ports = ports(model).await?;
    let task = model.task();
    let length = bytes.len();
    let understand = move || {
        let Request { id, parameters, inputs, outputs, is_binary } = parse(&bytes, json_length)?;
        let wanted = wanted(outputs, is_binary, &ports.outputs)?;
        let input = if forms::ports(task).is_some() {
            forms::input(task, &inputs)?
        } else {
            let names = wanted.iter().map(|output| output.name.clone()).collect();
            Input::Tensors(TensorInput { tensors: fitted(inputs, &ports.inputs)?, wanted: names })
        };
        Ok(Asked { id, input, parameters, wanted })
    };
    let asked = work_on(length, "parsing", understand).await?;
    answered(model, asked).await
}

/// A request that is understood and fits the model.
struct Asked {
    id: Option<String>,
    input: Input,
    parameters: Parameters,
    wanted: Vec<Wanted>,
}

async fn answered(model: &Model, asked: Asked) -> Result<Response, ApiError> {
    let Asked { id, input, parameters, wanted } = asked;
    let answer = model.answer(input, parameters).await?;
    let (model_name, model_version) = (model.name().to_owned(), model.version());
    let written = aside("answering", move || {
        let outputs = chosen(forms::outputs(answer)?, wanted)?;
        write(&Answer { model_name, model_version, id, outputs })
    });
    Ok(written.await?.into_response())
}

/// What `Inference-Header-Content-Length` says, once the body is known to be readable.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    if let Some(coding) = headers.get(CONTENT_ENCODING)
        && coding != "identity"
    {
        let message = format!("content encoding {coding:?} is not taken; send the body uncompressed");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        let message = format!("header Inference-Header-Content-Length is {value:?}, which is no length");
        ApiError::bad_request(message)
    })
}

/// The outputs that are asked for, all of them when none is.
fn wanted(asked: Vec<Wanted>, is_binary: bool, outputs: &[Port]) -> Result<Vec<Wanted>, ApiError> {
    let refused = |message| Err(ApiError::bad_request(message));
    let all = || outputs.iter().map(|port| Wanted { name: port.name.clone(), is_binary, classes: None });
    let wanted: Vec<Wanted> = if asked.is_empty() { all().collect() } else { asked };
    for (at, output) in wanted.iter().enumerate() {
        let Wanted { name, is_binary, classes } = output;
        let Some(port) = outputs.iter().find(|port| port.name == *name) else {
            let names: Vec<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
            return refused(format!("output {name:?} is not the model's; it has: {}", names.join(", ")));
        };
        if wanted[..at].iter().any(|other| other.name == *name) {
            return refused(format!("output {name:?} is asked for twice"));
        }
        // Known before the run, so said before it.
        if let Some(datatype) = port.datatype
            && !(*is_binary || classes.is_some() || json::has_form(datatype))
        {
            return refused(format!(
                "output {name:?} is {datatype}, which has no form in JSON; ask for it with the parameter \"binary_data\": true"
            ));
        }
    }
    Ok(wanted)
}

/// Of the tensors that there are, those that are wanted, as they are wanted.
fn chosen(mut tensors: Vec<NamedTensor>, wanted: Vec<Wanted>) -> Result<Vec<(NamedTensor, bool)>, ApiError> {
    let mut outputs = Vec::with_capacity(wanted.len());
    for Wanted { name, is_binary, classes } in wanted {
        let Some(at) = tensors.iter().position(|tensor| tensor.name == name) else { continue };
        let mut tensor = tensors.swap_remove(at);
        if let Some(classes) = classes {
            tensor = classification::greatest(tensor, classes)?;
        }
        outputs.push((tensor, is_binary));
    }
    Ok(outputs)
}
