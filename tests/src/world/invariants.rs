//! What must hold at every write, whatever fails around it. A breach is noted, with the write that
//! caused it, and fails the test that drives the world.

use std::collections::BTreeMap;

use larder_contract::layout;
use larder_core::Step;
use larder_core::endpoint::{Adoption, DeletionPolicy, Endpoint, FileSystemRef};
use larder_core::names::Names;

use super::account::{Account, Alias, Body, Function};
use super::events::{queue_arn, queue_at};
use super::step::{Target, target};

/// What the test's endpoint wants, as far as invariants depend on it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The owner tag of what is ours.
    pub owner: String,
    /// The owner tag of what the cluster's endpoints share.
    pub cluster: String,
    /// The queue that its rule is to send to.
    pub queue: String,
    /// Its rule.
    pub rule: String,
    /// Warm sandboxes.
    pub provisioned: Option<i32>,
    /// The file system stays, whatever happens.
    pub keeps_data: bool,
    /// The endpoint is being deleted.
    pub deleting: bool,
    /// What is untagged, or its predecessor's, may be taken over.
    pub adopts: bool,
    /// What bears this tag may be, or this one and any UID.
    pub adopts_from: Option<String>,
}

/// Whether `from`, the annotation, means what bears the tag `owner`.
fn is_meant(from: &str, owner: &str) -> bool {
    let has_uid = from.split('/').count() == 4;
    from == owner || (!has_uid && owner.rsplit_once('/').is_some_and(|(place, _)| place == from))
}

impl Wanted {
    /// What `endpoint` wants.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        let is_managed = matches!(endpoint.file_system, FileSystemRef::Managed { .. });
        Self {
            owner: endpoint.names.owner.0.clone(),
            cluster: endpoint.names.cluster.0.clone(),
            queue: endpoint.names.event_queue.clone(),
            rule: endpoint.names.event_rule.clone(),
            provisioned: endpoint.provisioned,
            keeps_data: !(endpoint.deleting && is_managed && endpoint.deletion == DeletionPolicy::Delete),
            deleting: endpoint.deleting,
            adopts: endpoint.adoption == Adoption::Adopt,
            adopts_from: endpoint.adopt_from.clone(),
        }
    }
}

impl Account {
    /// The owner tag of what a step writes to, empty where there is none; none when nothing is there.
    fn owner_of(&self, step: &Step) -> Option<&str> {
        let file_system = |id: &str| Some(&self.file_systems.get(id)?.owner);
        let owner = match target(step) {
            Target::New | Target::Bucket(_) => return None,
            Target::FileSystem(id) => file_system(id),
            Target::MountTarget(id) => file_system(&self.mount_targets.get(id)?.file_system),
            Target::AccessPoint(id) => Some(&self.access_points.get(id)?.owner),
            Target::LogGroup(name) => Some(&self.log_groups.get(name)?.owner),
            Target::Function(name) => Some(&self.functions.get(name)?.owner),
            Target::Queue(name) => Some(&self.queues.get(name)?.owner),
            Target::Rule(name) => Some(&self.rules.get(name)?.owner),
        };
        owner.map(|owner| owner.as_deref().unwrap_or_default())
    }

    /// Whether a rule sends to a queue, other than the endpoint's to one that it is leaving.
    fn is_needed(&self, queue: &str, wanted: &Wanted) -> bool {
        let own = (queue != wanted.queue).then_some(wanted.rule.as_str());
        self.is_shared(&queue_arn(queue), own)
    }

    /// What would be wrong with performing `step` now.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a step that breaks no rule of its own is most of them"
    )]
    pub(super) fn breaches_before(&self, step: &Step, wanted: &Wanted) -> Vec<String> {
        let mut breaches = Vec::new();
        if let Step::TagResource { .. } = step {
            let owner = self.owner_of(step).unwrap_or_default();
            let is_before = |owner: &str| {
                owner.rsplit_once('/').is_some_and(|(place, _)| {
                    wanted.owner.rsplit_once('/').is_some_and(|(ours, _)| ours == place)
                })
            };
            // A list that lags, or another controller, may have it that what is ours by now is not yet.
            let may = owner == wanted.owner
                || (wanted.adopts && (owner.is_empty() || is_before(owner)))
                || wanted.adopts_from.as_ref().is_some_and(|from| is_meant(from, owner));
            if !may {
                breaches.push(format!("it takes over what belongs to {owner:?}"));
            }
        } else if let Some(owner) = self.owner_of(step)
            && owner != if matches!(target(step), Target::Queue(_)) { &wanted.cluster } else { &wanted.owner }
        {
            breaches.push(format!("it changes what belongs to {owner:?}"));
        }
        match step {
            Step::DeleteQueue { url } if self.is_needed(queue_at(url), wanted) => {
                breaches.push("it deletes a queue that a rule sends to".to_owned());
            }
            Step::DeleteFileSystem { .. } if wanted.keeps_data => {
                breaches.push("it deletes data that must stay".to_owned());
            }
            Step::CreateFunction { name, .. } => {
                let group = self.log_groups.get(&Names::log_group(name));
                if group.is_none_or(|group| group.owner.as_ref() != Some(&wanted.owner)) {
                    breaches.push("the function is made before its tagged log group".to_owned());
                }
            }
            Step::DeleteVersion { name, version } if self.serves(name, *version) => {
                breaches.push("it deletes a version that serves".to_owned());
            }
            Step::DeleteProvisionedConcurrency { name, version }
                if self.serves(name, *version) && wanted.provisioned.is_some() && !wanted.deleting =>
            {
                breaches.push("it takes the capacity of a version that serves".to_owned());
            }
            Step::DeleteFunction { name }
                if !wanted.deleting && self.functions.get(name).is_some_and(|f| f.alias.is_some()) =>
            {
                breaches.push("it deletes a function that serves".to_owned());
            }
            Step::CreateAlias { function, version, .. } => {
                breaches.extend(self.unfit_to_serve(function, *version, wanted));
            }
            Step::UpdateAlias { function, version, second, .. } => {
                // What serves already may go on, whatever has become of it.
                let new = [Some(*version), second.map(|(second, _)| second)].into_iter().flatten();
                let new = new.filter(|number| !self.serves(function, *number));
                breaches.extend(new.filter_map(|number| self.unfit_to_serve(function, number, wanted)));
            }
            _ => {}
        }
        breaches
    }

    fn serves(&self, name: &str, version: u64) -> bool {
        let alias = self.functions.get(name).and_then(|function| function.alias.as_ref());
        alias.is_some_and(|alias| alias.serves(version))
    }

    /// Why a version must not take requests yet.
    fn unfit_to_serve(&self, name: &str, number: u64, wanted: &Wanted) -> Option<String> {
        let version = self.functions.get(name)?.versions.get(&number)?;
        if version.active_at > self.now {
            return Some(format!("version {number} is not active"));
        }
        if let Some(count) = wanted.provisioned {
            // What is warm counts, not the status: asking again for the same number keeps it warm.
            let is_warm = version.provisioned.as_ref().is_some_and(|p| p.available >= count);
            if !is_warm {
                return Some(format!("version {number} is cold, and {count} are to be warm"));
            }
        }
        self.missing_models(&version.body).map(|why| format!("version {number}: {why}"))
    }

    /// What a function that runs `body` would miss on the file system.
    pub(super) fn missing_models(&self, body: &Body) -> Option<String> {
        let Some(digest) = body.config.env.get(layout::ENV_MANIFEST) else {
            return Some("it names no manifest".to_owned());
        };
        let Some(folder) = self.folder_of(&body.config).and_then(|key| self.folders.get(&key)) else {
            return Some("its access point is gone".to_owned());
        };
        let Some(manifest) = folder.manifests.get(digest) else {
            return Some(format!("manifest {digest} is not on the file system"));
        };
        let missing = manifest.models.iter().find(|m| !folder.revisions.contains_key(&m.revision))?;
        Some(format!("revision {} of model {} is not on the file system", missing.revision, missing.name))
    }

    /// What others had a bucket tell, and it tells no more.
    pub(super) fn lost_notifications(&self, before: &Self) -> Vec<String> {
        let now = |bucket: &String| self.notifications.get(bucket).cloned().unwrap_or_default();
        let lost = before.notifications.iter().filter(|(bucket, was)| {
            let is = now(bucket);
            is.entries != was.entries || (was.event_bridge && !is.event_bridge)
        });
        lost.map(|(bucket, was)| format!("bucket {bucket} no longer tells {was:?}")).collect()
    }

    /// What is wrong with the account as it is.
    pub(super) fn breaches(&self, wanted: &Wanted) -> Vec<String> {
        let mut breaches = self.duplicates(wanted);
        for (name, function) in &self.functions {
            let ours = function.owner.as_ref() == Some(&wanted.owner);
            if ours && !wanted.deleting {
                breaches.extend(self.uncollectable(name, function));
            }
            let Some(alias) = function.alias.as_ref().filter(|_| ours && !wanted.deleting) else { continue };
            breaches.extend(self.unservable(name, function, alias));
        }
        breaches
    }

    /// A version that can still be given requests, and whose models were collected.
    fn uncollectable(&self, name: &str, function: &Function) -> Option<String> {
        function.versions.iter().find_map(|(number, version)| {
            let folder = self.folder_of(&version.body.config).and_then(|key| self.folders.get(&key))?;
            (folder.freed > 0).then_some(())?;
            let missing = self.missing_models(&version.body)?;
            Some(format!("version {number} of {name} has lost its models: {missing}"))
        })
    }

    /// What the requests that an alias takes would run into.
    fn unservable(&self, name: &str, function: &Function, alias: &Alias) -> Option<String> {
        let second = alias.second.map(|(number, _)| number);
        [Some(alias.version), second]
            .into_iter()
            .flatten()
            .find_map(|number| self.unservable_version(name, function, number))
    }

    fn unservable_version(&self, name: &str, function: &Function, number: u64) -> Option<String> {
        let Some(version) = function.versions.get(&number) else {
            return Some(format!("alias of {name} points at version {number}, which is gone"));
        };
        let config = &version.body.config;
        let ap = config.mount.as_ref().and_then(|(arn, _)| self.access_point_by_arn(arn));
        let Some((id, ap)) = ap else {
            return Some(format!("the access point of serving version {number} is gone"));
        };
        if ap.gone_at.is_some() {
            return Some(format!("access point {id} of serving version {number} is being deleted"));
        }
        config.subnets.iter().filter_map(|subnet| self.subnets.get(subnet)).find_map(|subnet| {
            let mut targets = self.mount_targets.values();
            let is_mountable = targets.any(|mt| {
                mt.file_system == ap.file_system
                    && mt.zone == subnet.zone
                    && mt.state(self.now) == "available"
            });
            (!is_mountable)
                .then(|| format!("serving version {number} cannot mount its file system in {}", subnet.zone))
        })
    }

    fn duplicates(&self, wanted: &Wanted) -> Vec<String> {
        let ours = |owner: &Option<String>| owner.as_ref() == Some(&wanted.owner);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut count = |what, n| *counts.entry(what).or_default() += n;
        count("file systems", self.file_systems.values().filter(|it| ours(&it.owner)).count());
        count("access points", self.access_points.values().filter(|it| ours(&it.owner)).count());
        let mut breaches: Vec<String> = counts
            .into_iter()
            .filter(|(_, n)| *n > 1)
            .map(|(what, n)| format!("{n} {what} of one owner"))
            .collect();
        let functions = self.functions.values().filter(|it| ours(&it.owner)).count();
        if functions > 2 {
            breaches.push(format!("{functions} functions of one owner"));
        }
        breaches
    }
}
