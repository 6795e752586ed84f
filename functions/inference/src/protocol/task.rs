//! `POST /models/{model}`: a task in the shape that Hugging Face's inference clients speak.
//!
//! A body is JSON with `inputs` (and `parameters`), or a picture's bytes. The answer is the task's: labels
//! with scores, vectors, or the lines of a picture. A tensor model takes and gives what its route of the
//! Open Inference Protocol does.

mod input;

pub(super) use input::few;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use larder_contract::Task;
use serde::{Deserialize, Serialize};

use super::embedding::{nested, shortened};
use super::{oip, seed};
use crate::error::ApiError;
use crate::models::{self, Model};
use crate::request::body::body;
use crate::routes::Served;
use crate::tasks::{Answer, Label};
use input::Asked;

/// A model in a path, and the task that a client expects of it.
#[derive(Debug, Deserialize)]
pub struct TaskPath {
    model: String,
    task: Option<String>,
}

/// `GET /models`
#[derive(Debug, Serialize)]
pub struct ListedModel {
    /// The name that clients use.
    name: String,
    /// What it does.
    task: Task,
    /// Whether it is loaded.
    state: &'static str,
    /// Its content.
    revision: String,
}

/// `GET /models`: the models that are served.
pub async fn list(State(served): State<Served>) -> Json<Vec<ListedModel>> {
    let listed = served.models.models().map(|model| ListedModel {
        name: model.name().to_owned(),
        task: model.task(),
        state: match model.state() {
            models::State::Unloaded => "unloaded",
            models::State::Loading => "loading",
            models::State::Ready => "ready",
            models::State::Failed(_) => "failed",
            models::State::Unloading => "unloading",
        },
        revision: model.revision().to_string(),
    });
    Json(listed.collect())
}

/// `POST /models/{model}[/pipeline/{task}]`
///
/// # Errors
/// 400 that names the field, 404 for unknown models, 415 for other content types, and those of the model.
pub async fn run(
    State(served): State<Served>,
    Path(path): Path<TaskPath>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let model = served.models.model(&path.model)?;
    if let Some(expected) = path.task.filter(|task| *task != model.task().as_str()) {
        let (name, task) = (model.name(), model.task().as_str());
        return Err(ApiError::bad_request(format!("model {name:?} does {task}, not {expected:?}")));
    }
    if model.task() == Task::Tensor {
        return oip::infer(State(served.clone()), oip::ModelPath::of(path.model), headers, bytes).await;
    }
    let asked = input::asked(&served, model, &headers, body(bytes)?).await?;
    answer(model, asked).await
}

async fn answer(model: &Model, asked: Asked) -> Result<Response, ApiError> {
    let Asked { input, parameters, dimensions, similarity } = asked;
    Ok(match model.answer(input, parameters).await? {
        Answer::Lines(mut pictures) if pictures.len() == 1 => {
            Json(seed::OcrAnswer::of(model, pictures.pop().unwrap_or_default())).into_response()
        }
        Answer::Lines(pictures) => {
            let answers = pictures.into_iter().map(|lines| seed::OcrAnswer::of(model, lines));
            Json(answers.collect::<Vec<_>>()).into_response()
        }
        Answer::Labels(labels) => labelled(model.task(), labels),
        Answer::Embeddings(embeddings) if similarity => {
            Json(super::embedding::similarities(&embeddings)).into_response()
        }
        Answer::Embeddings(embeddings) => {
            let rows = embeddings.into_iter().map(|embedding| shortened(embedding, dimensions));
            Json(rows.map(|row| row.map(nested)).collect::<Result<Vec<_>, _>>()?).into_response()
        }
        Answer::Tensors(_) => {
            let message = "a tensor model answers to the Open Inference Protocol: /v2/models/{model}/infer";
            return Err(ApiError::bad_request(message));
        }
    })
}

/// A text's labels are always in a list of lists; those of one picture are not.
fn labelled(task: Task, mut labels: Vec<Vec<Label>>) -> Response {
    if task == Task::ImageClassification && labels.len() == 1 {
        return Json(labels.pop().unwrap_or_default()).into_response();
    }
    Json(labels).into_response()
}
