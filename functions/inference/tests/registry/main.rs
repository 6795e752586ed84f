//! Many models in one process, as the program: its memory, its idle time, models that are hostile, and models
//! that were prepared.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod memory;
mod prepared;
mod program;
