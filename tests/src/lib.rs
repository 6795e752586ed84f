//! Larder tested from the outside.
//!
//! - [`chart`]: the Helm chart, rendered and installed.
//! - [`contract`]: what the world and AWS on the wire must both do.
//! - [`demo`]: the main job, live.
//! - [`mutations`]: the product broken on purpose, which its tests must notice.
//! - [`scenario`]: its setting: a stack with the CRD, models, images and controllers.
//! - [`stack`]: the real thing on one machine: Kubernetes, AWS on the wire, and functions that run.
//! - [`world`]: AWS in memory behind the controller's trait, with time that the test moves.

pub mod chart;
pub mod contract;
pub mod demo;
pub mod mutations;
pub mod scenario;
pub mod stack;
pub mod world;

/// Asks until the answer is there, every 50 ms for half a minute.
///
/// # Errors
/// When it has not come by then.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> anyhow::Result<T> {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("did not happen: {what}")
}
