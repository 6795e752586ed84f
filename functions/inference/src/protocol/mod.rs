//! How clients talk to models.
//!
//! - [`seed`]: `POST /ocr`, the request and answer of the system that Larder replaces.
//! - [`task`]: `POST /models/{model}`, in the shapes of Hugging Face's inference clients.
//! - [`openai`]: `POST /v1/embeddings`, and `GET /v1/models`.
//! - [`oip`]: the Open Inference Protocol, version 2, over REST.
//!
//! `embedding` has what two of them share.

mod embedding;
pub mod oip;
pub mod openai;
pub mod seed;
pub mod task;
