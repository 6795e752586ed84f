//! What models do. One module for each task, and [`files`] to tell which one a folder is for.

pub mod files;
pub mod ocr;
pub mod tensor;
