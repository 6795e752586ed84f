//! The Larder controller, as a library that the binary and the tests share.
//!
//! - [`reconcile`]: the one straight line, on one screen.
//! - [`observe`], [`act`], [`publish`]: the only three arrows that do I/O.
//! - [`known`]: what was seen a moment ago.
//! - [`pace`]: how soon to look again. [`turns`]: whose turn it is.
//! - [`listing`]: one source, listed. [`sources`]: listings that are still true.
//! - [`wake`]: S3's events. [`tenants`]: what Namespaces allow.
//! - [`cloud`]: what is asked of AWS (a trait), and AWS itself.
//! - [`run`]: the Kubernetes side: watch, queue, finalizer.
//! - [`scope`]: which endpoints. [`lease`]: leader election.
//! - [`server`]: health and readiness. [`metrics`]: what is counted.
//! - [`plan_command`], [`plan_markdown`]: `larder plan`. [`explain`]: `larder explain`. [`manifests`]: the endpoints
//!   of files. [`rollout_command`]: what a person says about a rollout.
//! - [`args`]: the command line. [`cluster`]: the cluster that it names.
//!
//! Deliberately absent: decisions. They are `larder-core`'s.

pub mod act;
pub mod args;
pub mod cloud;
pub mod cluster;
pub mod context;
pub mod explain;
pub mod known;
pub mod lease;
pub mod listing;
pub mod manifests;
pub mod metrics;
pub mod observe;
pub mod pace;
pub mod plan_command;
pub mod plan_markdown;
pub mod publish;
pub mod reconcile;
pub mod rollout_command;
pub mod run;
pub mod scope;
pub mod server;
pub mod sources;
pub mod tenants;
pub mod turns;
pub mod wake;
