//! Larder's inference function.

pub mod onnx;
pub mod tasks;
