//! What is left of an endpoint in a world, as lines of text without random ids, times and counters: two
//! histories that came to the same end have equal lines.

use larder_contract::layout;
use larder_core::Endpoint;

use super::account::{Account, Body};

/// Everything that bears the owner tag of `endpoint`, and what hangs on it.
#[must_use]
pub fn end(account: &Account, endpoint: &Endpoint) -> Vec<String> {
    let owner = Some(&endpoint.names.owner.0);
    let mut lines = Vec::new();
    for (id, fs) in account.file_systems.iter().filter(|(_, it)| it.owner.as_ref() == owner) {
        lines.push(format!("file system {}: {}", fs.token, fs.mode));
        for mt in account.mount_targets.values().filter(|mt| mt.file_system == *id) {
            lines.push(format!(
                "mount target {}: {:?} {}",
                mt.zone,
                mt.security_groups,
                mt.state(account.now)
            ));
        }
    }
    for ap in account.access_points.values().filter(|it| it.owner.as_ref() == owner) {
        lines.push(format!("access point {}: {:?} {}", ap.token, ap.spec, ap.state(account.now)));
    }
    for (name, group) in account.log_groups.iter().filter(|(_, it)| it.owner.as_ref() == owner) {
        lines.push(format!("log group {name}: {:?}", group.retention_days));
    }
    for (name, function) in account.functions.iter().filter(|(_, it)| it.owner.as_ref() == owner) {
        lines.push(format!("function {name}: {} reserved {:?}", body(&function.latest), function.reserved));
        for version in function.versions.values() {
            let warm = version.provisioned.as_ref().map(|p| (p.requested, p.available, p.status.clone()));
            lines.push(format!("version of {name}: {} warm {warm:?}", body(&version.body)));
        }
        if let Some(alias) = &function.alias {
            let serving = function.versions.get(&alias.version).map(|version| body(&version.body));
            lines.push(format!(
                "alias of {name}: {serving:?} second {:?} url {:?} statements {:?}",
                alias.second, alias.url, alias.statements
            ));
        }
    }
    for (name, rule) in account.rules.iter().filter(|(_, it)| it.owner.as_ref() == owner) {
        lines.push(format!("rule {name}: {} {} to {:?}", rule.pattern, rule.is_enabled, rule.targets));
    }
    let cluster = Some(&endpoint.names.cluster.0);
    for (name, queue) in account.queues.iter().filter(|(_, it)| it.owner.as_ref() == cluster) {
        lines.push(format!("queue {name}: takes events {}", queue.takes_events));
    }
    // What carries no tag, but would not be there without the endpoint.
    for name in [&endpoint.names.function, &endpoint.names.sync_function] {
        let group = larder_core::names::Names::log_group(name);
        if account.log_groups.get(&group).is_some_and(|group| group.owner.is_none()) {
            lines.push(format!("untagged log group {group}"));
        }
    }
    lines.sort();
    lines
}

fn body(body: &Body) -> String {
    let config = &body.config;
    format!(
        "{} {:?} {} MiB {} s {} MiB {} env {:?} manifest {:?} subnets {:?} groups {:?} mounted {} starts {:?}",
        body.code_digest,
        body.architecture,
        config.memory_mib,
        config.timeout_seconds,
        config.ephemeral_mib,
        config.role,
        config.env.iter().filter(|(name, _)| *name != layout::ENV_MANIFEST).collect::<Vec<_>>(),
        config.env.get(layout::ENV_MANIFEST),
        config.subnets,
        config.security_groups,
        config.mount.is_some(),
        config.start,
    )
}
