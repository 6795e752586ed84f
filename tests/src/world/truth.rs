//! Whether the world serves what a spec asks for: what `Ready` claims, checked without the planner.

use std::collections::BTreeSet;
use std::time::Duration;

use larder::known::JUST_NOW;
use larder_contract::source::S3Prefix;
use larder_contract::{ModelSource, layout};
use larder_core::Endpoint;
use larder_core::endpoint::AuthType;
use larder_core::observed::ProvisionedStatus;

use super::World;
use super::account::{Account, Body};
use super::events::queue_arn;

/// What is not as `endpoint` asks for; none when all of it is served.
///
/// A source may have been listed at any moment since `listed_since`, and code resolved just before.
#[must_use]
pub fn untruth(world: &World, endpoint: &Endpoint, listed_since: Duration) -> Option<String> {
    let listed = world.stores_since(listed_since);
    let resolved = world.stores_since(world.now().saturating_sub(JUST_NOW));
    world.look(|account| {
        let Some(function) = account.functions.get(&endpoint.names.function) else {
            return Some("there is no function".to_owned());
        };
        let Some(alias) = &function.alias else { return Some("there is no alias".to_owned()) };
        if alias.second.is_some() {
            return Some("a second version takes requests".to_owned());
        }
        let Some(version) = function.versions.get(&alias.version) else {
            return Some("the serving version is gone".to_owned());
        };
        let warm = version.provisioned.as_ref().filter(|p| p.status == ProvisionedStatus::Ready);
        if warm.map(|p| (p.requested, p.available)) != endpoint.provisioned.map(|n| (n, n)) {
            return Some(format!("warm are {:?}, wanted {:?}", version.provisioned, endpoint.provisioned));
        }
        if function.reserved != endpoint.reserved {
            return Some(format!("reserved are {:?}, wanted {:?}", function.reserved, endpoint.reserved));
        }
        let auth = endpoint.url.map(|auth| match auth {
            AuthType::AwsIam => "AWS_IAM",
            AuthType::None => "NONE",
        });
        if alias.url.as_ref().map(|url| url.auth_type.as_str()) != auth {
            return Some(format!("the URL is {:?}, wanted {auth:?}", alias.url));
        }
        let statements: BTreeSet<&str> = match endpoint.url {
            None => BTreeSet::new(),
            Some(AuthType::AwsIam) => BTreeSet::from(["larder-url-account", "larder-invoke-account"]),
            Some(AuthType::None) => BTreeSet::from(["larder-url-public", "larder-invoke-public"]),
        };
        let is_named = alias.statements.iter().all(|(id, it)| it.is_as_named(id));
        if !is_named || alias.statements.keys().map(String::as_str).collect::<BTreeSet<_>>() != statements {
            return Some(format!("the permissions are {:?}", alias.statements));
        }
        untrue_events(account, endpoint)
            .or_else(|| untrue_body(&resolved, endpoint, &version.body))
            .or_else(|| account.missing_models(&version.body))
            .or_else(|| untrue_manifest(account, endpoint, &version.body, &listed))
    })
}

/// What is left of versions that no request can reach, beyond what is to be kept.
#[must_use]
pub fn surplus(world: &World, endpoint: &Endpoint) -> Option<String> {
    world.look(|account| {
        let function = account.functions.get(&endpoint.names.function)?;
        let alias = function.alias.as_ref()?;
        let mut others = function.versions.iter().filter(|(number, _)| !alias.serves(**number));
        let history = others.clone().count();
        if history > endpoint.rollout.history_limit {
            return Some(format!("{history} old versions are kept, not {}", endpoint.rollout.history_limit));
        }
        let (number, _) = others.find(|(_, version)| version.provisioned.is_some())?;
        Some(format!("version {number} is kept warm for nobody"))
    })
}

/// Whether an object that is put at a source with events leads to a message in the queue.
fn untrue_events(account: &Account, endpoint: &Endpoint) -> Option<String> {
    let names = &endpoint.names;
    let wanted = endpoint.models.iter().filter(|model| model.has_events);
    let places = wanted.filter_map(|model| match &model.source {
        ModelSource::S3(place) => Some(place),
        ModelSource::Oci(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => None,
    });
    let untrue = |place: &S3Prefix| {
        let rule = account.rules.get(&names.event_rule).filter(|rule| rule.is_enabled);
        let Some(rule) = rule else { return Some("there is no rule".to_owned()) };
        let pattern: serde_json::Value = serde_json::from_str(&rule.pattern).unwrap_or_default();
        let has = |of: &serde_json::Value, what: serde_json::Value| {
            of.as_array().is_some_and(|all| all.contains(&what))
        };
        let is_sent = account.notifications.get(&place.bucket).is_some_and(|it| it.event_bridge);
        let is_matched = has(&pattern["detail"]["bucket"]["name"], place.bucket.clone().into())
            && has(&pattern["detail"]["object"]["key"], serde_json::json!({"prefix": place.prefix}));
        let is_taken = account.queues.get(&names.event_queue).is_some_and(|queue| queue.takes_events);
        let is_routed = rule.targets.values().any(|arn| *arn == queue_arn(&names.event_queue));
        let is_heard = is_sent && is_matched && is_taken && is_routed;
        (!is_heard).then(|| format!("events of {place:?}: {:?} {rule:?}", (is_sent, is_matched, is_taken)))
    };
    let mut places = places.peekable();
    if places.peek().is_none() && account.rules.contains_key(&names.event_rule) {
        return Some("a rule is there, and no events are wanted".to_owned());
    }
    places.find_map(untrue)
}

fn untrue_body(stores: &[Account], endpoint: &Endpoint, body: &Body) -> Option<String> {
    let (config, spec) = (&body.config, &endpoint.function);
    let codes: Vec<String> =
        stores.iter().filter_map(|it| it.resolve(&spec.code).ok()).map(|code| code.digest).collect();
    if !codes.contains(&body.code_digest) {
        return Some(format!("the code is {}, wanted one of {codes:?}", body.code_digest));
    }
    let mut env = config.env.clone();
    env.retain(|name, _| !name.starts_with(layout::ENV_RESERVED_PREFIX));
    let is_as_asked = body.architecture == spec.architecture
        && config.memory_mib == spec.memory_mib
        && config.timeout_seconds == spec.timeout_seconds
        && config.ephemeral_mib == spec.ephemeral_mib
        && config.role == spec.role_arn
        && config.subnets == endpoint.subnets
        && config.security_groups == endpoint.security_groups
        && env == spec.env;
    (!is_as_asked).then(|| format!("the settings are {config:?}"))
}

fn untrue_manifest(
    account: &Account,
    endpoint: &Endpoint,
    body: &Body,
    stores: &[Account],
) -> Option<String> {
    let folder = account.folder_of(&body.config).and_then(|key| account.folders.get(&key))?;
    let manifest = folder.manifests.get(body.config.env.get(layout::ENV_MANIFEST)?)?;
    if manifest.models.len() != endpoint.models.len() {
        return Some(format!("{} models are served", manifest.models.len()));
    }
    endpoint.models.iter().find_map(|model| {
        let Some(served) = manifest.models.iter().find(|served| served.name == model.name) else {
            return Some(format!("model {} is not served", model.name));
        };
        if served.task != model.task || served.preload != model.preload {
            return Some(format!("model {} is served with other options", model.name));
        }
        let is_right = match model.pin {
            Some(pin) => served.content() == pin,
            None => stores.iter().any(|store| {
                let found = store.revision_at(&model.source);
                found.is_some_and(|(revision, ..)| revision == served.content())
            }),
        };
        (!is_right).then(|| {
            format!("model {} is served as {}, which is not at its source", model.name, served.revision)
        })
    })
}
