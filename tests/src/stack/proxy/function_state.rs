//! What the proxy knows of functions beyond the emulator: their age, URLs and provisioned concurrency.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};

use super::Timings;
use super::capacity::Capacity;
use super::invoke::Url;
use crate::stack::locked;

/// When a function was and will be what.
#[derive(Debug)]
pub(super) struct Ages {
    active_at: Instant,
    updated_at: Instant,
    versions: HashMap<String, Instant>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) functions: HashMap<String, Ages>,
    /// By the id in the URL.
    pub(super) urls: HashMap<String, Url>,
    /// By function and version.
    pub(super) capacities: BTreeMap<(String, String), Capacity>,
    /// Invocations of weighted aliases so far: spreads them exactly, without chance.
    pub(super) turns: u64,
}

/// What the proxy knows of Lambda beyond the emulator.
#[derive(Debug)]
pub(super) struct Lambda {
    pub(super) timings: Timings,
    pub(super) state: Mutex<State>,
}

impl Lambda {
    pub(super) fn new(timings: Timings) -> Self {
        Self { timings, state: Mutex::default() }
    }

    pub(super) fn capacities(&self) -> Vec<String> {
        locked(&self.state)
            .capacities
            .keys()
            .map(|(function, version)| format!("{function} {version}"))
            .collect()
    }

    /// Why the function cannot be changed or called now.
    pub(super) fn busy(&self, name: &str, version: &str) -> Option<&'static str> {
        let state = locked(&self.state);
        let ages = state.functions.get(name)?;
        let now = Instant::now();
        let pending = if version == "$LATEST" { Some(&ages.active_at) } else { ages.versions.get(version) };
        if pending.is_some_and(|at| now < *at) { Some("Pending") } else { None }
    }

    pub(super) fn updating(&self, name: &str) -> bool {
        locked(&self.state).functions.get(name).is_some_and(|ages| Instant::now() < ages.updated_at)
    }

    /// Gives a configuration the states of its age, and an image the digest that it is.
    pub(super) fn age(&self, config: &mut Value) {
        let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let (name, version) = (text("FunctionName"), text("Version"));
        if let Some((_, digest)) = text("ImageUri").rsplit_once("@sha256:") {
            config["CodeSha256"] = json!(digest);
        }
        let known = locked(&self.state).functions.contains_key(&name);
        let Some(fields) = config.as_object_mut().filter(|_| known) else { return };
        for field in
            ["StateReason", "StateReasonCode", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"]
        {
            fields.remove(field);
        }
        if self.busy(&name, &version).is_some() {
            fields.insert("State".to_owned(), json!("Pending"));
            fields.insert("StateReason".to_owned(), json!("The function is being created."));
            fields.insert("StateReasonCode".to_owned(), json!("Creating"));
            fields.remove("LastUpdateStatus");
        } else {
            let updating = version == "$LATEST" && self.updating(&name);
            fields.insert("State".to_owned(), json!("Active"));
            fields.insert(
                "LastUpdateStatus".to_owned(),
                json!(if updating { "InProgress" } else { "Successful" }),
            );
        }
    }

    /// Notes what a successful call made.
    pub(super) fn note(&self, operation: &str, config: &Value) {
        let (Some(name), Some(version)) = (config["FunctionName"].as_str(), config["Version"].as_str())
        else {
            return;
        };
        let now = Instant::now();
        let mut state = locked(&self.state);
        let active_at = now + self.timings.function_pending;
        let ages = state.functions.entry(name.to_owned()).or_insert_with(|| Ages {
            active_at,
            updated_at: now,
            versions: HashMap::new(),
        });
        match operation {
            "CreateFunction" => ages.active_at = active_at,
            "UpdateFunctionCode" | "UpdateFunctionConfiguration" => {
                ages.updated_at = now + self.timings.function_update;
            }
            _ => {}
        }
        if version != "$LATEST" {
            ages.versions.entry(version.to_owned()).or_insert(active_at);
        }
    }
}
