//! Many models in one process, as the program: its memory, its idle time, models that are hostile, models
//! that were prepared, and runs that are ended.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod crowded;
mod hostile;
mod late;
mod memory;
mod prepared;
mod program;
