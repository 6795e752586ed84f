//! `POST /models/{model}`: a task in the shape that Hugging Face's inference clients speak.
//!
//! A body is JSON with `inputs` (and `parameters`), or a picture's bytes. The answer is the task's: labels
//! with scores, vectors, or the lines of a picture. A tensor model takes and gives what its route of the
//! Open Inference Protocol does.

mod input;

pub(crate) use input::TaskBody;
pub(super) use input::few;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use larder_contract::Task;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::embedding::{Vectors, nested, shortened};
use super::{embedding, oip, seed};
use crate::error::ApiError;
use crate::models::Model;
use crate::request::aside;
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
#[derive(Debug, Serialize, JsonSchema)]
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
        state: model.state().word(),
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
    let as_text = model.task() == Task::Ocr && path.task.as_deref() == Some(IMAGE_TO_TEXT);
    if let Some(expected) = path.task.filter(|task| !as_text && *task != model.task().as_str()) {
        let (name, task) = (model.name(), model.task().as_str());
        return Err(ApiError::bad_request(format!("model {name:?} does {task}, not {expected:?}")));
    }
    if model.task() == Task::Tensor {
        return oip::infer(State(served.clone()), oip::ModelPath::of(path.model), headers, bytes).await;
    }
    let asked = input::asked(&served, model, &headers, body(bytes)?).await?;
    let answer = answer(model, asked, as_text).await?;
    // A body of megabytes takes a while to write.
    aside("answering", move || Ok(Json(answer).into_response())).await
}

/// What a task's route gives, by the model's task.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum TaskAnswer {
    /// ocr, of one picture.
    Picture(seed::OcrAnswer),
    /// ocr, of several.
    Pictures(Vec<seed::OcrAnswer>),
    /// image-classification, of one picture.
    Labels(Vec<Label>),
    /// text-classification; image-classification, of several pictures.
    LabelsOfEach(Vec<Vec<Label>>),
    /// feature-extraction: for each text a vector, or one for each of its tokens.
    Vectors(Vec<Vectors>),
    /// feature-extraction, of a `source_sentence`: how near each of the others is.
    Similarities(Vec<f32>),
    /// ocr, asked as image-to-text: what each picture says.
    Texts(Vec<Generated>),
}

/// What a picture says, in the shape of Hugging Face's image-to-text.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Generated {
    generated_text: String,
}

/// What Hugging Face's clients call ocr.
const IMAGE_TO_TEXT: &str = "image-to-text";

async fn answer(model: &Model, asked: Asked, as_text: bool) -> Result<TaskAnswer, ApiError> {
    let Asked { input, parameters, dimensions, similarity } = asked;
    Ok(match model.answer(input, parameters).await? {
        Answer::Lines(pictures) if as_text => {
            let read =
                |lines| Generated { generated_text: seed::OcrAnswer::of(model, lines).predicted_label };
            TaskAnswer::Texts(pictures.into_iter().map(read).collect())
        }
        Answer::Lines(mut pictures) => {
            let mut answers = pictures.drain(..).map(|lines| seed::OcrAnswer::of(model, lines));
            match (answers.next(), answers.len()) {
                (Some(only), 0) => TaskAnswer::Picture(only),
                (first, _) => TaskAnswer::Pictures(first.into_iter().chain(answers).collect()),
            }
        }
        Answer::Labels(mut labels) if model.task() == Task::ImageClassification && labels.len() == 1 => {
            TaskAnswer::Labels(labels.pop().unwrap_or_default())
        }
        Answer::Labels(labels) => TaskAnswer::LabelsOfEach(labels),
        Answer::Embeddings(embeddings) if similarity => {
            TaskAnswer::Similarities(embedding::similarities(&embeddings))
        }
        Answer::Embeddings(embeddings) => {
            let rows = embeddings.into_iter().map(|embedding| shortened(embedding, dimensions).map(nested));
            TaskAnswer::Vectors(rows.collect::<Result<_, _>>()?)
        }
        Answer::Tensors(_) => {
            let message = "a tensor model answers to the Open Inference Protocol: /v2/models/{model}/infer";
            return Err(ApiError::bad_request(message));
        }
    })
}
