//! What the inference function is asked to do with itself: an invocation with `{"op": "prepare"}`.

use serde::{Deserialize, Serialize};

/// The value of `op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Makes once what ONNX Runtime makes of each model at each start.
    Prepare,
}
