//! What the function is asked to do with itself: `{"op": "prepare"}`. Only by `Invoke`, never through a URL.

use std::sync::Arc;

use axum::http::StatusCode;
use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::reply;
use crate::error::ApiError;
use crate::models::{ModelOutcome, Registry, Which};
use crate::prepared::Preparer;
use crate::request::answered::Invocation;

/// What operations are done with.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    /// The models, and with what they are prepared, if they may be.
    pub preparing: Option<(Arc<Registry>, Preparer)>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    /// Makes once what ONNX Runtime makes of each model at each start.
    Prepare,
}

/// The answer to [`Operation::Prepare`].
#[derive(Debug, Serialize)]
struct Prepared {
    models: Vec<ModelOutcome>,
}

impl Operations {
    /// Does what `op` says, within the invocation's time.
    pub(super) async fn answer(
        &self,
        op: &RawValue,
        invocation: &Invocation,
    ) -> Result<Box<RawValue>, Diagnostic> {
        let operation = serde_json::from_str(op.get())
            .map_err(|error| ApiError::bad_request(format!("field \"op\": {error}")));
        match operation {
            Ok(Operation::Prepare) => self.prepare(invocation).await,
            Err(error) => reply::refusal(&error, invocation),
        }
    }

    async fn prepare(&self, invocation: &Invocation) -> Result<Box<RawValue>, Diagnostic> {
        let Some((models, preparer)) = &self.preparing else {
            let message = "models are not prepared here: the variable PREPARE_MODELS is off";
            return reply::refusal(&ApiError::new(StatusCode::CONFLICT, message), invocation);
        };
        let models = models.prepare(preparer, Which::All, invocation.time).await;
        reply::written(&Prepared { models })
    }
}
