//! Larder's planner. Everything here is data and pure functions:
//!
//! - [`names`]: the names that an endpoint's AWS resources bear.
//! - [`endpoint`]: an `InferenceEndpoint`, parsed; after that nothing can be malformed.
//! - [`desired`]: what it wants AWS to hold.
//! - [`observed`]: what AWS was seen to hold.
//! - [`plan()`]: the steps between them, one module per area.
//! - [`foresee()`](foresee::foresee): a plan played to its end.
//! - [`drift`]: what somebody else has changed.
//! - [`status`]: what the user is told; [`explain`]: the same as a tree, with the calls behind it.
//! - [`retry`]: when to try again.
//! - [`tenants`]: which namespace may use which role.
//!
//! Deliberately absent: time, randomness, environment, Kubernetes and AWS clients. They are the
//! caller's; the build checks that this crate cannot reach them.

pub mod desired;
pub mod drift;
pub mod endpoint;
pub mod explain;
pub mod foresee;
pub mod names;
pub mod observed;
pub mod plan;
pub mod retry;
pub mod status;
pub mod step;
pub mod tenants;

pub use desired::Desired;
pub use endpoint::{Defaults, Endpoint, Refused};
pub use observed::{Observed, Remote};
pub use plan::{Area, Plan, Plans, plan};
pub use retry::{Class, Problem};
pub use step::Step;
