//! How clients talk to models.
//!
//! - [`seed`]: `POST /ocr`, the request and answer of the system that Larder replaces.
//! - [`oip`]: the Open Inference Protocol, version 2, over REST, with JSON.

pub mod oip;
pub mod seed;
