//! Larder tested from the outside.
//!
//! - [`stack`]: the real thing on one machine: Kubernetes, AWS on the wire, and functions that run.
//! - [`world`]: AWS in memory behind the controller's trait, with time that the test moves.

pub mod stack;
pub mod world;
