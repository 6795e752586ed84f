//! Larder tested from the outside.
//!
//! - [`stack`]: the real thing on one machine: Kubernetes, AWS on the wire, and functions that run.

pub mod stack;
