//! Larder's planner. Everything here is data and pure functions:
//!
//! - [`names`]: the names that an endpoint's AWS resources bear.
//! - [`endpoint`]: an `InferenceEndpoint`, parsed; after that nothing can be malformed.
//! - [`desired`]: what it wants AWS to hold.
//! - [`observed`]: what AWS was seen to hold.
//! - [`plan()`]: the steps between them, one module per area.
//! - [`foresee()`](foresee::foresee): a plan played to its end.
//! - [`status`]: what the user is told.
//! - [`retry`]: when to try again.
//!
//! Deliberately absent: time, randomness, environment, Kubernetes and AWS clients. They are the
//! caller's; the build checks that this crate cannot reach them.

pub mod desired;
pub mod endpoint;
pub mod foresee;
pub mod names;
pub mod observed;
pub mod plan;
pub mod retry;
pub mod status;
pub mod step;

pub use desired::Desired;
pub use endpoint::{Defaults, Endpoint, Refused};
pub use observed::{Observed, Remote};
pub use plan::{Area, Plan, Plans, plan};
pub use retry::{Class, Problem};
pub use step::Step;
