//! Larder's inference function: serves the models of one manifest.
//!
//! - [`runtime`]: AWS Lambda or a plain HTTP server, onto the same [`routes`].
//! - [`protocol`]: what clients say, [`error`]: what they hear when something goes wrong.
//! - [`request`]: what all requests share, [`telemetry`]: their metrics.
//! - [`page`]: a page to try the models in a browser.
//! - [`openapi`]: what the routes are, for machines.
//! - [`models`]: the registry. [`tasks`]: what models do. [`onnx`]: ONNX Runtime.
//! - [`prepared`]: what ONNX Runtime makes of a model at each start, made once.
//! - [`link`]: pictures from the Internet, fetched within limits.
//!
//! Deliberately absent: copying models (model-sync does) and choosing versions (the controller does).

pub mod error;
pub mod link;
pub mod models;
pub mod onnx;
pub mod openapi;
pub mod page;
pub mod prepared;
pub mod protocol;
pub mod request;
pub mod routes;
pub mod runtime;
pub mod tasks;
pub mod telemetry;
