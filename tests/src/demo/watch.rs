//! Shows an endpoint as it converges: a line for each condition that turns and for the models' progress.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::Api;
use larder_crds::InferenceEndpoint;

use super::screen::{Screen, mib};

/// Shows `name` until `is_done`.
///
/// # Errors
/// When that takes longer than `patience`; the message holds the last conditions.
pub async fn until(
    screen: &Screen,
    api: &Api<InferenceEndpoint>,
    name: &str,
    patience: Duration,
    is_done: impl Fn(&InferenceEndpoint) -> bool,
) -> Result<()> {
    let begun = Instant::now();
    let mut shown = BTreeMap::new();
    loop {
        let endpoint = api.get(name).await?;
        show(screen, &endpoint, &mut shown);
        if is_done(&endpoint) {
            return Ok(());
        }
        if begun.elapsed() > patience {
            let conditions = endpoint.status.map(|s| s.conditions).unwrap_or_default();
            let lines: Vec<String> = conditions
                .iter()
                .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
                .collect();
            bail!("{name} is not there after {} s:\n{}", patience.as_secs(), lines.join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Prints what is new.
fn show(screen: &Screen, endpoint: &InferenceEndpoint, shown: &mut BTreeMap<String, String>) {
    let Some(status) = &endpoint.status else { return };
    let mut tell = |key: &str, text: String, is_good: Option<bool>| {
        if shown.insert(key.to_owned(), text.clone()) != Some(text.clone()) {
            screen.event(is_good, &text);
        }
    };
    for model in &status.models {
        let (done, all) = (u64::try_from(model.bytes_done), u64::try_from(model.bytes));
        if let (Ok(done), Ok(all)) = (done, all)
            && all > 0
        {
            let text = format!("model {:<12} {:<8} {} of {}", model.name, model.state, mib(done), mib(all));
            tell(&format!("model {}", model.name), text, (model.state == "Ready").then_some(true));
        }
    }
    if let Some(capacity) = &status.capacity {
        let word = capacity.status.clone().unwrap_or_default();
        let text = format!(
            "capacity           {word:<8} {} of {} sandboxes warm",
            capacity.available, capacity.requested
        );
        tell("capacity", text, (word == "READY").then_some(true));
    }
    for condition in &status.conditions {
        if matches!(condition.type_.as_str(), "Reconciling" | "Stalled" | "Accepted") {
            continue;
        }
        let is_true = condition.status == "True";
        let detail = if is_true { String::new() } else { format!("  {}", first(&condition.message)) };
        let text = format!("{:<14} {:<5} {}{detail}", condition.type_, condition.status, condition.reason);
        let is_good = match (is_true, condition.reason.as_str()) {
            (true, _) => Some(true),
            (false, "AccessDenied" | "Rejected" | "SyncFailed" | "FunctionFailed" | "CapacityFailed") => {
                Some(false)
            }
            (false, _) => None,
        };
        tell(&condition.type_, text, is_good);
    }
}

/// As much of a message as fits a line.
fn first(message: &str) -> String {
    const WIDTH: usize = 96;
    if message.chars().count() <= WIDTH {
        return message.to_owned();
    }
    message.chars().take(WIDTH - 1).chain(['…']).collect()
}
