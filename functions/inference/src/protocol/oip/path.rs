//! The model and the version that a path names.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;

use crate::error::ApiError;
use crate::models::Model;
use crate::routes::Served;

/// A model in a path, with or without a version. What cannot be decoded is refused in our own words.
#[derive(Debug)]
pub struct ModelPath {
    model: String,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(Named { model, version }) = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        Ok(Self { model, version })
    }
}

impl ModelPath {
    /// A model in whatever version there is.
    pub(crate) fn of(model: String) -> Self {
        Self { model, version: None }
    }

    /// The model of this name, whose version is the one that it has.
    ///
    /// # Errors
    /// 404 that says what there is.
    pub(super) fn find<'a>(&self, served: &'a Served) -> Result<&'a Model, ApiError> {
        let model = served.models.model(&self.model)?;
        match &self.version {
            Some(asked) if *asked != model.version() => Err(ApiError::new(
                StatusCode::NOT_FOUND,
                format!("model {:?} has no version {asked:?}; it has {}", self.model, model.version()),
            )),
            _ => Ok(model),
        }
    }
}
