//! `POST /ocr`: a picture, or a link to one, in; its text out.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use larder_contract::{Parameters, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::models::Model;
use crate::request::stage;
use crate::routes::{Served, body, json, query};
use crate::tasks::ocr::Line;
use crate::tasks::{Answer, Input};

/// What the query may say besides the body.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OcrOptions {
    /// Language codes with commas between them; any when absent.
    pub language: Option<String>,
    /// The model's name; not needed when there is one ocr model.
    pub model: Option<String>,
    /// Turn lines that are upside down, if the model has an orientation file.
    pub orientation: Option<bool>,
}

impl OcrOptions {
    fn parameters(&self) -> Parameters {
        let codes = |list: &String| list.split(',').map(|code| code.trim().to_owned()).collect();
        Parameters {
            languages: self.language.as_ref().map(codes),
            orientation: self.orientation,
            ..Parameters::default()
        }
    }
}

/// The JSON body.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OcrBody {
    /// Where the picture is; this or `image`.
    link: Option<String>,
    /// The picture's bytes in base64.
    image: Option<String>,
    /// Language codes with commas between them; any when absent.
    language: Option<String>,
    /// The model's name; not needed when there is one ocr model.
    model: Option<String>,
    /// Turn lines that are upside down, if the model has an orientation file.
    orientation: Option<bool>,
}

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OcrAnswer {
    /// The lines' texts, a space between them.
    pub(super) predicted_label: String,
    /// The lines, in reading order.
    lines: Vec<Line>,
    /// Which model read them.
    model: String,
    /// That model's revision.
    revision: String,
}

impl OcrAnswer {
    pub(super) fn of(model: &Model, lines: Vec<Line>) -> Self {
        let texts: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
        Self {
            predicted_label: texts.join(" "),
            lines,
            model: model.name().to_owned(),
            revision: model.revision().to_string(),
        }
    }
}

/// Handles `POST /ocr`.
///
/// # Errors
/// As [`ApiError`]s, with the status that fits.
pub async fn ocr(
    State(served): State<Served>,
    asked: Result<Query<OcrOptions>, QueryRejection>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<OcrAnswer>, ApiError> {
    let asked = query(asked)?;
    let (options, picture) = request(&headers, body(bytes)?, asked)?;
    let model = chosen(&served, options.model.as_deref())?;
    let bytes = match picture {
        Content::Bytes(bytes) => bytes,
        Content::Link(link) => {
            stage("fetching the link");
            served.links.fetch(&link).await.map_err(|e| e.into_api_error(&link))?
        }
    };
    let lines = read(model, bytes, options.parameters()).await?;
    Ok(Json(OcrAnswer::of(model, lines)))
}

/// Reads a picture's bytes with an ocr model.
///
/// # Errors
/// As [`Model::answer`].
pub async fn read(model: &Model, bytes: Bytes, parameters: Parameters) -> Result<Vec<Line>, ApiError> {
    match model.answer(Input::Pictures(vec![bytes]), parameters).await? {
        Answer::Lines(mut lines) => Ok(lines.pop().unwrap_or_default()),
        Answer::Labels(_) | Answer::Embeddings(_) | Answer::Tensors(_) => {
            Err(ApiError::bad_request(format!("model {:?} is not an ocr model", model.name())))
        }
    }
}

/// Where the picture is.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Bytes(Bytes),
    Link(String),
}

/// Takes the request apart by its content type. What the body says goes before what the query says.
fn request(headers: &HeaderMap, bytes: Bytes, asked: OcrOptions) -> Result<(OcrOptions, Content), ApiError> {
    let content_type =
        headers.get(CONTENT_TYPE).map_or("application/octet-stream", |v| v.to_str().unwrap_or(""));
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence.starts_with("image/") || essence == "application/octet-stream" {
        if bytes.is_empty() {
            return Err(ApiError::bad_request(
                "the body is empty; send a picture, or JSON with \"link\" or \"image\"",
            ));
        }
        return Ok((asked, Content::Bytes(bytes)));
    }
    if essence != "application/json" {
        let message = format!(
            "content type {content_type:?} is not taken; send application/json, image/png, image/jpeg or application/octet-stream"
        );
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body: OcrBody = json(&bytes)?;
    let options = OcrOptions {
        language: body.language.or(asked.language),
        model: body.model.or(asked.model),
        orientation: body.orientation.or(asked.orientation),
    };
    match (body.link, body.image) {
        (Some(link), None) => Ok((options, Content::Link(link))),
        (None, Some(image)) => {
            let bytes = BASE64_STANDARD
                .decode(image.trim())
                .map_err(|e| ApiError::bad_request(format!("field \"image\" is not base64: {e}")))?;
            Ok((options, Content::Bytes(bytes.into())))
        }
        (None, None) => Err(ApiError::bad_request(
            "neither field \"link\" nor field \"image\" is there; send one of them, or the picture as the body",
        )),
        (Some(_), Some(_)) => {
            Err(ApiError::bad_request("fields \"link\" and \"image\" are both there; send one"))
        }
    }
}

fn chosen<'a>(served: &'a Served, name: Option<&str>) -> Result<&'a Model, ApiError> {
    if let Some(name) = name {
        let model = served.models.model(name)?;
        if model.task() != Task::Ocr {
            let task = model.task().as_str();
            return Err(ApiError::bad_request(format!(
                "field \"model\": {name:?} is a {task} model, not an ocr model"
            )));
        }
        return Ok(model);
    }
    let models: Vec<_> = served.models.of_task(Task::Ocr).collect();
    match models[..] {
        [only] => Ok(only),
        [] => Err(ApiError::new(StatusCode::NOT_FOUND, "there is no ocr model here")),
        _ => {
            let names: Vec<&str> = models.iter().map(|m| m.name()).collect();
            Err(ApiError::bad_request(format!("field \"model\" is missing; use one of {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(content_type: &str, body: &str) -> Result<(OcrOptions, Content), String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        request(&headers, Bytes::copy_from_slice(body.as_bytes()), OcrOptions::default())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn requests_are_taken_apart() {
        let link = || Content::Link("http://a/b.png".to_owned());
        let json = r#"{"language": "en,ch_sim", "link": "http://a/b.png"}"#;
        let language = OcrOptions { language: Some("en,ch_sim".to_owned()), ..OcrOptions::default() };
        assert_eq!(parse("application/json", json), Ok((language, link())));
        let (_, image) = parse("Application/JSON; charset=utf-8", r#"{"image": "aGk="}"#).unwrap();
        assert_eq!(image, Content::Bytes(Bytes::from_static(b"hi")));
        let (_, bytes) = parse("image/jpeg", "hi").unwrap();
        assert_eq!(bytes, Content::Bytes(Bytes::from_static(b"hi")));
    }

    #[test]
    fn bad_requests_name_the_field() {
        let check = |content_type, body, status: &str, parts: &[&str]| {
            let refusal = parse(content_type, body).unwrap_err();
            for part in parts.iter().chain([&status]) {
                assert!(refusal.contains(part), "{refusal}");
            }
        };
        check("text/plain", "hi", "415", &["text/plain", "image/png"]);
        check("image/png", "", "400", &["empty"]);
        check("application/json", "{", "400", &["JSON"]);
        check("application/json", "{}", "400", &["link", "image"]);
        check("application/json", r#"{"link": 3}"#, "400", &["link", "expected a string"]);
        check("application/json", r#"{"lnk": "x"}"#, "400", &["lnk"]);
        check("application/json", r#"{"image": "%"}"#, "400", &["image", "base64"]);
        check("application/json", r#"{"image": "", "link": ""}"#, "400", &["both"]);
    }
}
