//! Which models there are and where they are, and loading and unloading them (Triton, "Model Repository
//! Extension").
//!
//! Models come from the manifest: a request cannot bring its own files or configuration. A model that is
//! loaded already stays as it is, since its revision never changes. Any model can be unloaded, a preloaded
//! one too; its next request loads it again.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ModelPath;
use crate::error::ApiError;
use crate::models::{self, Listed};
use crate::routes::{Served, body, json};

/// What the index is asked for.
#[derive(Default, Deserialize, JsonSchema)]
pub(crate) struct IndexRequest {
    /// Only models that are in memory.
    #[serde(default)]
    ready: bool,
}

/// A model in the index.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IndexEntry {
    name: String,
    version: String,
    state: &'static str,
    reason: String,
}

impl From<Listed> for IndexEntry {
    fn from(Listed { name, version, state, crowded_out }: Listed) -> Self {
        let (state, reason) = match state {
            models::State::Ready => ("READY", String::new()),
            models::State::Loading => ("LOADING", String::new()),
            models::State::Unloading => ("UNLOADING", String::new()),
            models::State::Unloaded if crowded_out => (
                "UNAVAILABLE",
                "not preloaded, for there was no room beside the others; its next request loads it"
                    .to_owned(),
            ),
            models::State::Unloaded => ("UNAVAILABLE", "unloaded; its next request loads it".to_owned()),
            models::State::Failed(failure) => {
                ("UNAVAILABLE", format!("loading failed; the log has the reason under id {}", failure.id))
            }
        };
        Self { name, version, state, reason }
    }
}

/// `POST /v2/repository/index`: all models, or those that are ready.
///
/// # Errors
/// 400 that names the field.
pub async fn index(
    State(served): State<Served>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Vec<IndexEntry>>, ApiError> {
    let IndexRequest { ready } = said(bytes)?;
    let entries = served.models.index().into_iter().map(IndexEntry::from);
    Ok(Json(entries.filter(|entry| !ready || entry.state == "READY").collect()))
}

/// What loading and unloading may be told.
#[derive(Default, Deserialize, JsonSchema)]
pub(crate) struct LoadRequest {
    /// None that is a file or a configuration.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    parameters: Option<BTreeMap<String, Box<RawValue>>>,
}

/// A model was loaded.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Loaded {
    name: String,
    load: bool,
}

/// A model was taken out of memory.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Unloaded {
    name: String,
    unload: bool,
}

/// `POST /v2/repository/models/{model}/load`: loads it, though it failed a short while ago.
///
/// # Errors
/// 400 for files and configurations, 404, 500 when it cannot be loaded, 503 when not in time.
pub async fn load(
    State(served): State<Served>,
    path: ModelPath,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Loaded>, ApiError> {
    let name = path.find(&served)?.name();
    let LoadRequest { parameters } = said(bytes)?;
    let brought = |name: &String| name == "config" || name.starts_with("file:");
    if let Some(parameter) = parameters.unwrap_or_default().into_keys().find(brought) {
        return Err(ApiError::bad_request(format!(
            "parameter {parameter:?}: models come from the manifest, a request cannot bring its own"
        )));
    }
    served.models.load_model(name).await?;
    Ok(Json(Loaded { name: name.to_owned(), load: true }))
}

/// `POST /v2/repository/models/{model}/unload`: takes it out of memory once no request uses it.
///
/// # Errors
/// 404; 503 when it stays in use.
pub async fn unload(
    State(served): State<Served>,
    path: ModelPath,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Unloaded>, ApiError> {
    let name = path.find(&served)?.name();
    // What it may say is about models that are made of others, which there are none of.
    said::<LoadRequest>(bytes)?;
    served.models.unload_model(name).await?;
    Ok(Json(Unloaded { name: name.to_owned(), unload: true }))
}

/// A body that may be empty.
fn said<T: Default + DeserializeOwned>(bytes: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let bytes = body(bytes)?;
    if bytes.trim_ascii().is_empty() { Ok(T::default()) } else { json(&bytes) }
}
