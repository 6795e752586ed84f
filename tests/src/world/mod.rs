//! AWS in memory, behind the controller's [`Cloud`](larder::cloud::Cloud) trait, with time that the test
//! moves.
//!
//! - [`account`]: what an account holds, as data; [`behaviour`]: how long things take in it, and what fails.
//! - `efs`, `events`, `lambda`, `published`, `rollout`, `stores`, `sync`, `upkeep`: how it changes, as the API references say;
//!   [`step`] sends each write to its place.
//! - [`faults`]: what goes wrong with calls. `calls`: how a call meets them. `cloud`: the trait.
//! - [`invariants`]: what must hold at every write.
//! - [`run`]: drives controllers over a world, with `drive` to poll them. [`end`]: what is left, without its random parts.
//! - [`schedule`]: what befalls an endpoint in its life, by chance from a seed, and shrunk when it fails.
//! - [`truth`]: whether the world serves what a spec asks for. [`example`]: an endpoint to begin with.
//!
//! Deliberately absent: the wire, credentials, waiting. No call takes time; nothing is random but what a
//! seed says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use larder_core::observed::Subnet;

pub mod account;
pub mod behaviour;
mod calls;
mod cloud;
mod drive;
mod efs;
pub mod end;
pub mod events;
pub mod example;
pub mod faults;
pub mod invariants;
mod lambda;
mod published;
pub mod rollout;
pub mod run;
pub mod schedule;
pub mod step;
mod stores;
mod sync;
pub mod truth;
mod upkeep;

use account::{Account, Bucket, FileSystem, MountTarget, Object};
use example::digest;
use faults::{Chance, Fault};
use invariants::Wanted;

/// A handle to an account and everything that the test does to it. Clones are the same world.
#[derive(Debug, Clone, Default)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
}

/// The account, and what the test knows of it.
#[derive(Debug, Default)]
struct Inner {
    account: Account,
    /// The account before the last write, for stale reads.
    before: Account,
    wanted: Option<Wanted>,
    page_size: usize,
    faults: Vec<Fault>,
    befallen: Vec<Fault>,
    chance: Option<Chance>,
    denied: BTreeSet<String>,
    calls: BTreeMap<&'static str, u64>,
    writes: u64,
    writes_this_second: (u64, u32),
    history: Vec<String>,
    refused: Vec<String>,
    breaches: Vec<String>,
    is_killed: bool,
    takes_turns: bool,
    is_outage: bool,
    /// When a read last told of what was, if ever.
    lied_at: Option<Duration>,
    /// When something was last written, if ever.
    wrote_at: Option<Duration>,
    stores_at: Vec<(Duration, Stores)>,
}

/// What people change at any moment, and a pass may have read just before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stores {
    buckets: BTreeMap<String, Bucket>,
    images: BTreeMap<String, String>,
}

/// A moment of the world, as a time of day.
#[must_use]
pub fn time_of_day(now: Duration) -> Timestamp {
    let nanos = i128::try_from(now.as_nanos()).unwrap_or_default();
    Timestamp::from_nanosecond(1_800_000_000_000_000_000 + nanos).unwrap_or_default()
}

impl World {
    /// An empty account with two subnets in two zones and one role.
    #[must_use]
    pub fn new() -> Self {
        let world = Self::default();
        {
            let mut inner = world.lock();
            inner.page_size = 2;
            for (id, zone) in [(example::SUBNET_A, "eu-west-1a"), (example::SUBNET_B, "eu-west-1b")] {
                let subnet = Subnet { id: id.to_owned(), zone: zone.to_owned(), vpc: "vpc-1".to_owned() };
                inner.account.subnets.insert(id.to_owned(), subnet);
            }
            inner.account.roles_assumable_at.insert(example::ROLE.to_owned(), Duration::ZERO);
        }
        world
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the account.
    pub fn look<T>(&self, at: impl FnOnce(&Account) -> T) -> T {
        at(&self.lock().account)
    }

    /// Changes the account behind the controller's back: what people, and AWS itself, do.
    pub fn meddle<T>(&self, with: impl FnOnce(&mut Account) -> T) -> T {
        let mut inner = self.lock();
        let done = with(&mut inner.account);
        inner.account.settle();
        inner.before = inner.account.clone();
        let now = inner.account.now;
        let stores = Stores { buckets: inner.account.buckets.clone(), images: inner.account.images.clone() };
        if inner.stores_at.last().is_none_or(|(_, last)| *last != stores) {
            inner.stores_at.push((now, stores));
        }
        done
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.lock().account.now
    }

    /// Time goes on.
    pub fn advance(&self, by: Duration) {
        let mut inner = self.lock();
        inner.account.advance(by);
        let wanted = inner.wanted.clone().filter(|_| !inner.is_outage);
        let breaches = wanted.map(|wanted| inner.account.breaches(&wanted)).unwrap_or_default();
        inner.breaches.extend(breaches.into_iter().map(|breach| format!("time went on: {breach}")));
        let now = inner.account.now;
        inner.before.now = now;
    }

    /// Puts an object, into a bucket that is made when it is missing.
    pub fn put_object(&self, bucket: &str, key: &str, size: u64, etag: &str) {
        self.meddle(|account| {
            let object = Object { size, etag: etag.to_owned(), modified: account.now, text: String::new() };
            account.buckets.entry(bucket.to_owned()).or_default().insert(key.to_owned(), object);
        });
    }

    /// Puts an object whose content is read.
    pub fn put_text(&self, bucket: &str, key: &str, text: &str) {
        self.put_object(bucket, key, text.len() as u64, &digest(text));
        self.meddle(|account| {
            let objects = account.buckets.entry(bucket.to_owned()).or_default();
            if let Some(object) = objects.get_mut(key) {
                text.clone_into(&mut object.text);
            }
        });
    }

    /// Takes an object away.
    pub fn delete_object(&self, bucket: &str, key: &str) {
        self.meddle(|account| account.buckets.get_mut(bucket).and_then(|objects| objects.remove(key)));
    }

    /// Points `repository:tag` at an image.
    pub fn push_image(&self, tag: &str, digest: &str) {
        self.meddle(|account| account.images.insert(tag.to_owned(), digest.to_owned()));
    }

    /// A file system that is not the controller's, with a mount target in each subnet.
    pub fn bring_file_system(&self, id: &str) {
        self.meddle(|account| {
            let it = FileSystem {
                token: format!("console-{id}"),
                owner: None,
                mode: "bursting".to_owned(),
                is_encrypted: true,
                kms_key_id: None,
                available_at: Duration::ZERO,
                gone_at: None,
                mode_changed_at: None,
            };
            account.file_systems.insert(id.to_owned(), it);
            for subnet in account.subnets.clone().into_values() {
                let it = MountTarget {
                    file_system: id.to_owned(),
                    subnet: subnet.id,
                    zone: subnet.zone.clone(),
                    security_groups: BTreeSet::from(["sg-0000000f".to_owned()]),
                    available_at: Duration::ZERO,
                    is_broken: false,
                    gone_at: None,
                };
                account.mount_targets.insert(format!("fsmt-{id}-{}", subnet.zone), it);
            }
        });
    }

    /// The running copy with this number dies, if there is one.
    pub fn cut_copy(&self, nth: usize) {
        self.meddle(|account| {
            if nth < account.copies.len() {
                account.copies.remove(nth);
            }
        });
    }

    /// Running copies die, and what they have done so far stays.
    pub fn cut_copies(&self) {
        self.meddle(|account| account.copies.clear());
    }

    /// An operation is not allowed, until [`World::allow`].
    pub fn deny(&self, operation: &str) {
        self.lock().denied.insert(operation.to_owned());
    }

    /// An operation is allowed again.
    pub fn allow(&self, operation: &str) {
        self.lock().denied.remove(operation);
    }

    /// Plans a fault.
    pub fn plan_fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Plans these faults and no other.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.lock().faults = faults;
    }

    /// The faults that befell calls so far. Planned for another world, they befall the same calls.
    #[must_use]
    pub fn befallen(&self) -> Vec<Fault> {
        self.lock().befallen.clone()
    }

    /// Faults by chance, from now on.
    pub fn set_chance(&self, chance: Option<Chance>) {
        self.lock().chance = chance;
    }

    /// What invariants are held against.
    pub fn expect(&self, wanted: Wanted) {
        self.lock().wanted = Some(wanted);
    }

    /// What serves is down, and not by the controller: that is not held against it, but each write still is.
    pub fn set_outage(&self, is_outage: bool) {
        self.lock().is_outage = is_outage;
    }

    /// Whether what serves is down, and not by the controller.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.lock().is_outage
    }

    /// Items of a page of a list.
    pub fn set_page_size(&self, size: usize) {
        self.lock().page_size = size.max(1);
    }

    /// Calls answer one at a time, so that two controllers can be interleaved.
    pub fn take_turns(&self, takes_turns: bool) {
        self.lock().takes_turns = takes_turns;
    }

    /// When a read last told of what was, if ever.
    #[must_use]
    pub fn lied_at(&self) -> Option<Duration> {
        self.lock().lied_at
    }

    /// When something was last written, if ever.
    #[must_use]
    pub fn wrote_at(&self) -> Option<Duration> {
        self.lock().wrote_at
    }

    /// How many writes were tried.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// How often an operation was called.
    #[must_use]
    pub fn calls(&self, operation: &str) -> u64 {
        self.lock().calls.get(operation).copied().unwrap_or_default()
    }

    /// How often each operation was called.
    #[must_use]
    pub fn all_calls(&self) -> BTreeMap<&'static str, u64> {
        self.lock().calls.clone()
    }

    /// Whether the controller that was polled last has died; asking buries it.
    #[must_use]
    pub fn take_killed(&self) -> bool {
        std::mem::take(&mut self.lock().is_killed)
    }

    /// What was done, for messages: writes with their outcome, and faults.
    #[must_use]
    pub fn history(&self) -> Vec<String> {
        self.lock().history.clone()
    }

    /// Writes that AWS itself refused, as against those that a fault befell.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.lock().refused.clone()
    }

    /// What should never have happened.
    #[must_use]
    pub fn breaches(&self) -> Vec<String> {
        self.lock().breaches.clone()
    }

    /// Accounts with the buckets and the images that there were at any moment since `since`, and nothing else.
    fn stores_since(&self, since: Duration) -> Vec<Account> {
        let inner = self.lock();
        let ended_before = |i: usize| inner.stores_at.get(i + 1).is_some_and(|(next, _)| *next < since);
        let moments = inner.stores_at.iter().enumerate().filter(|(i, _)| !ended_before(*i));
        moments
            .map(|(_, (_, stores))| Account {
                buckets: stores.buckets.clone(),
                images: stores.images.clone(),
                elsewhere: inner.account.elsewhere.clone(),
                ..Account::default()
            })
            .collect()
    }
}
