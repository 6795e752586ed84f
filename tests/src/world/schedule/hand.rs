//! What people change in AWS by hand.

use std::fmt;

use larder_core::step::{Permission, PermissionAction};

use super::super::account::{AccessPoint, Account, Alias, FileSystem, Function};
use super::super::example::{BROUGHT, SUBNET_A, digest};

/// A change by hand.
#[derive(Clone, Copy)]
pub struct ByHand {
    /// In words.
    pub what: &'static str,
    /// What serves is down until it is made good.
    pub is_outage: bool,
    /// An owner tag is gone.
    pub untags: bool,
    /// The change itself.
    pub happens: fn(&mut Account),
}

impl fmt::Debug for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

const fn drift(what: &'static str, happens: fn(&mut Account)) -> ByHand {
    ByHand { what, is_outage: false, untags: false, happens }
}

const fn outage(what: &'static str, happens: fn(&mut Account)) -> ByHand {
    ByHand { what, is_outage: true, untags: false, happens }
}

const fn untag(what: &'static str, happens: fn(&mut Account)) -> ByHand {
    ByHand { what, is_outage: false, untags: true, happens }
}

/// All of them.
pub const BY_HAND: [ByHand; 30] = [
    drift("sets the memory to 128 MiB", |a| functions(a).for_each(|f| f.latest.config.memory_mib = 128)),
    drift("empties the environment", |a| inference(a, |f| f.latest.config.env.clear())),
    drift("unmounts the file system", |a| inference(a, |f| f.latest.config.mount = None)),
    drift("adds a layer", |a| inference(a, |f| f.latest.config.start.layers.push("arn:layer".to_owned()))),
    drift("deploys other code", |a| inference(a, |f| f.latest.code_digest = digest("other"))),
    drift("publishes a version", |a| inference(a, publish)),
    drift("reserves a concurrency of 100", |a| inference(a, |f| f.reserved = Some(100))),
    drift("stops provisioned concurrency", |a| {
        inference(a, |f| f.versions.values_mut().for_each(|version| version.provisioned = None));
    }),
    drift("halves provisioned concurrency", |a| {
        inference(a, |f| {
            for provisioned in f.versions.values_mut().filter_map(|version| version.provisioned.as_mut()) {
                provisioned.requested = 1.max(provisioned.requested / 2);
                provisioned.available = provisioned.available.min(provisioned.requested);
            }
        });
    }),
    drift("gives another version a tenth of the requests", |a| inference(a, weigh)),
    drift("deletes the alias", |a| inference(a, |f| f.alias = None)),
    drift("opens the function URL to everyone", |a| {
        alias(a, |alias| {
            alias.url.iter_mut().for_each(|url| "NONE".clone_into(&mut url.auth_type));
            let everyone = Permission { action: PermissionAction::InvokeFunctionUrl, public: true };
            alias.statements.insert(everyone.statement().to_owned(), everyone.into());
        });
    }),
    drift("deletes the function URL", |a| alias(a, |alias| alias.url = None)),
    drift("takes the permissions away", |a| alias(a, |alias| alias.statements.clear())),
    drift("turns a permission into another", |a| {
        alias(a, |alias| alias.statements.values_mut().for_each(|it| "lambda:*".clone_into(&mut it.action)));
    }),
    drift("takes the conditions off the permissions", |a| {
        alias(a, |alias| alias.statements.values_mut().for_each(|it| it.condition = None));
    }),
    drift("keeps logs for ever", |a| a.log_groups.values_mut().for_each(|group| group.retention_days = None)),
    // Lambda may make them again before Larder does, and gives them no tag.
    untag("deletes the log groups", |a| a.log_groups.clear()),
    drift("sets the throughput mode to bursting", |a| {
        managed(a).for_each(|(_, fs)| "bursting".clone_into(&mut fs.mode));
    }),
    drift("disables the rule", |a| a.rules.values_mut().for_each(|rule| rule.is_enabled = false)),
    drift("deletes the rule", |a| a.rules.clear()),
    drift("silences the bucket", |a| a.notifications.clear()),
    drift("deletes the model-sync function", |a| a.functions.retain(|name, _| !name.ends_with("-sync"))),
    outage("deletes the functions", |a| a.functions.clear()),
    outage("deletes a mount target", |a| {
        let ours: Vec<String> = managed(a).map(|(id, _)| id.clone()).collect();
        a.mount_targets.retain(|_, mt| mt.subnet != SUBNET_A || !ours.contains(&mt.file_system));
    }),
    outage("deletes the access point", |a| a.access_points.clear()),
    untag("takes the functions' owner tags away", |a| functions(a).for_each(|f| f.owner = None)),
    untag("takes the file system's owner tag away", |a| managed(a).for_each(|(_, fs)| fs.owner = None)),
    untag("takes the access point's owner tag away", |a| access_points(a).for_each(|ap| ap.owner = None)),
    untag("takes the log groups' and the rule's owner tags away", |a| {
        a.log_groups.values_mut().for_each(|group| group.owner = None);
        a.rules.values_mut().for_each(|rule| rule.owner = None);
    }),
];

fn functions(account: &mut Account) -> impl Iterator<Item = &mut Function> {
    account.functions.values_mut()
}

fn access_points(account: &mut Account) -> impl Iterator<Item = &mut AccessPoint> {
    account.access_points.values_mut()
}

fn managed(account: &mut Account) -> impl Iterator<Item = (&String, &mut FileSystem)> {
    account.file_systems.iter_mut().filter(|(id, _)| *id != BROUGHT)
}

fn inference(account: &mut Account, change: impl Fn(&mut Function)) {
    let found = account.functions.iter_mut().filter(|(name, _)| !name.ends_with("-sync"));
    found.for_each(|(_, function)| change(function));
}

fn alias(account: &mut Account, change: impl Fn(&mut Alias)) {
    inference(account, |function| function.alias.iter_mut().for_each(&change));
}

/// A version of what `$LATEST` is.
fn publish(function: &mut Function) {
    let Some(mut version) = function.versions.values().next_back().cloned() else { return };
    version.provisioned = None;
    version.body = function.latest.clone();
    function.last_published = Some((function.next_version, version.body.clone()));
    function.versions.insert(function.next_version, version);
    function.next_version += 1;
    function.revision += 1;
}

/// A version that is no worse than the one that serves.
fn weigh(function: &mut Function) {
    let Some(alias) = &mut function.alias else { return };
    let Some(version) = function.versions.get(&alias.version).cloned() else { return };
    alias.second = Some((function.next_version, 10));
    alias.revision += 1;
    function.versions.insert(function.next_version, version);
    function.next_version += 1;
}
