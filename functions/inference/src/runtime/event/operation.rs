//! What the function is asked to do with itself: `{"op": "prepare"}`. Only by `Invoke`, never through a URL.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use larder_contract::operation::Operation;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::models::{ModelOutcome, Registry, Which};
use crate::prepared::Preparer;
use crate::request::answered::Invocation;
use crate::request::trace::Trace;
use crate::request::{Context, scope};

/// What operations are done with.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    /// The models, and with what they are prepared, if they may be.
    pub preparing: Option<(Arc<Registry>, Preparer)>,
}

/// The answer to [`Operation::Prepare`].
#[derive(Debug, Serialize)]
pub(super) struct Prepared {
    models: Vec<ModelOutcome>,
}

impl Operations {
    /// Does what `op` says, within the invocation's time.
    ///
    /// # Errors
    /// 400 for what is no operation; 409 where it is switched off.
    pub(super) async fn answer(&self, op: &RawValue, invocation: &Invocation) -> Result<Prepared, ApiError> {
        let operation = serde_json::from_str(op.get())
            .map_err(|error| ApiError::bad_request(format!("field \"op\": {error}")))?;
        match operation {
            Operation::Prepare => {
                let context = Context::new(invocation.id.clone(), Trace::of(&HeaderMap::new()));
                scope(Arc::new(context), self.prepare(invocation)).await
            }
        }
    }

    async fn prepare(&self, invocation: &Invocation) -> Result<Prepared, ApiError> {
        let Some((models, preparer)) = &self.preparing else {
            let message = "models are not prepared here: the variable PREPARE_MODELS is off";
            return Err(ApiError::new(StatusCode::CONFLICT, message));
        };
        let models = models.prepare(preparer, Which::All, invocation.time).await;
        tracing::info!(models = models.len(), "models looked at to be prepared");
        Ok(Prepared { models })
    }
}
