//! What Larder's three programs say to each other.
//!
//! - [`digest`]: SHA-256 content addresses.
//! - [`key`]: object keys as listings give them; [`listing`]: whether a page of one is whole.
//! - [`revision`]: what a model's content *is*, computed alike by controller and model-sync.
//! - [`source`]: where a model's files are.
//! - [`task`]: what a model does, and how.
//! - [`manifest`]: what one published function version serves.
//! - [`speed`]: how fast a copy goes, and when it ends.
//! - [`sync`]: the request to model-sync and its report.
//! - [`worker`]: one of several invocations that copy a model together.
//! - [`upkeep`]: what lies on the file system, and collecting and verifying it.
//! - [`operation`]: what the inference function is asked to do with itself.
//! - [`layout`]: where things lie on the file system, and the environment of the functions.
//!
//! Deliberately absent: I/O. Everything here is data and pure functions.

pub mod digest;
pub mod key;
pub mod layout;
pub mod listing;
pub mod manifest;
pub mod operation;
pub mod revision;
pub mod source;
pub mod speed;
pub mod sync;
pub mod task;
pub mod upkeep;
pub mod worker;

pub use digest::Digest;
pub use manifest::{Manifest, ManifestModel};
pub use revision::{ObjectEntry, RelativePath};
pub use source::ModelSource;
pub use task::{Parameters, Pooling, ScoreFunction, Task};
pub use worker::Worker;
