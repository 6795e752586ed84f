//! ONNX Runtime's own log lines, as lines of ours. It writes them on the thread that loads or runs a model, so they
//! have that request's id.

use std::sync::Arc;

use ort::logging::{LogLevel, LoggerFunction};

/// What is not worse than this it keeps to itself: writing it takes time whoever reads it.
pub(super) const LEAST: LogLevel = LogLevel::Error;

pub(super) fn logger() -> LoggerFunction {
    Arc::new(|level, category, _name, place, message| match level {
        LogLevel::Error | LogLevel::Fatal => {
            tracing::error!(target: "onnxruntime", category, place, "{message}");
        }
        LogLevel::Verbose | LogLevel::Info | LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", category, place, "{message}");
        }
    })
}
