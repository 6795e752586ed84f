//! Drives controllers over a world: pass after pass, with the time between them, through crashes, one
//! controller or two at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::Timestamp;
use larder::known::JUST_NOW;
use larder::observe::observe_ahead;
use larder::reconcile::{Memory, Now, pass};
use larder_core::drift::foresee_held;
use larder_core::foresee::Foreseen;
use larder_core::observed::Observed;
use larder_core::{Defaults, Desired, Endpoint};
use larder_crds::spec::InferenceEndpointSpec;
use larder_crds::{ADOPT_FROM, InferenceEndpoint, InferenceEndpointStatus, RECONCILE_AT};

use super::drive::{Passing, drive};
use super::end::end;
use super::invariants::Wanted;
use super::truth::{surplus, untruth};
use super::{World, time_of_day};

/// Why a run did not come to where it should, with what led to it.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n{told}")]
pub struct Stuck {
    /// What went wrong.
    pub what: String,
    /// Conditions and history.
    pub told: String,
}

/// The most passes of one settling.
const MAX_PASSES: u32 = 2000;

/// How long a process takes to come back after it died.
const RESTART: Duration = Duration::from_secs(1);

/// An object, the controllers that work on it, and the world that they work on.
#[derive(Debug)]
pub struct Run {
    /// The world.
    pub world: World,
    /// The object as the API server holds it, without its status.
    pub object: InferenceEndpoint,
    /// Its status.
    pub status: InferenceEndpointStatus,
    /// Whether `Ready` is held against the world after each pass.
    pub checks_truth: bool,
    /// Passes so far.
    pub passes: u32,
    /// Deaths so far.
    pub deaths: u32,
    /// The finalizer is gone.
    pub is_deleted: bool,
    defaults: Defaults,
    endpoint: Endpoint,
    /// The last pass came to its end, so that the status is about what it saw.
    has_told: bool,
    memories: Vec<Memory>,
    rng: fastrand::Rng,
    /// How far the controllers' wall clock is ahead of the world's, in seconds.
    ahead: i64,
}

impl Run {
    /// One controller, on an object that it has not seen before.
    ///
    /// # Errors
    /// When the object is refused.
    pub fn new(world: World, object: InferenceEndpoint, defaults: Defaults) -> Result<Self, Stuck> {
        let endpoint = parse(&object, &defaults)?;
        world.expect(Wanted::of(&endpoint));
        Ok(Self {
            world,
            object,
            status: InferenceEndpointStatus::default(),
            checks_truth: true,
            passes: 0,
            deaths: 0,
            is_deleted: false,
            defaults,
            endpoint,
            has_told: false,
            memories: vec![Memory::default()],
            rng: fastrand::Rng::with_seed(1),
            ahead: 0,
        })
    }

    /// Chance, from a seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.rng = fastrand::Rng::with_seed(seed);
        self
    }

    /// So many controllers at once, whose calls take turns.
    #[must_use]
    pub fn with_controllers(mut self, count: usize) -> Self {
        self.memories = (0..count.max(1)).map(|_| Memory::default()).collect();
        self.world.take_turns(count > 1);
        self
    }

    /// The endpoint as it is parsed.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The user changes the spec.
    ///
    /// # Errors
    /// When the new spec is refused.
    pub fn change(&mut self, change: impl FnOnce(&mut InferenceEndpointSpec)) -> Result<(), Stuck> {
        change(&mut self.object.spec);
        self.object.metadata.generation = self.object.metadata.generation.map(|generation| generation + 1);
        self.reparse()
    }

    /// The user asks for a look at the sources now.
    ///
    /// # Errors
    /// Never, once the object was accepted.
    pub fn ask(&mut self) -> Result<(), Stuck> {
        let now = self.world.now().as_nanos().to_string();
        self.object.metadata.annotations.get_or_insert_default().insert(RECONCILE_AT.to_owned(), now);
        self.reparse()
    }

    /// The user annotates the object, or takes an annotation away.
    ///
    /// # Errors
    /// When the annotation is refused.
    pub fn annotate(&mut self, key: &str, value: Option<&str>) -> Result<(), Stuck> {
        let annotations = self.object.metadata.annotations.get_or_insert_default();
        match value {
            Some(value) => annotations.insert(key.to_owned(), value.to_owned()),
            None => annotations.remove(key),
        };
        self.reparse()
    }

    /// The user deletes the object.
    ///
    /// # Errors
    /// Never, once the object was accepted.
    pub fn delete(&mut self) -> Result<(), Stuck> {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
        self.object.metadata.deletion_timestamp = Some(Time(self.timestamp()));
        self.object.metadata.generation = self.object.metadata.generation.map(|generation| generation + 1);
        self.reparse()
    }

    fn reparse(&mut self) -> Result<(), Stuck> {
        self.endpoint = parse(&self.object, &self.defaults)?;
        self.world.expect(Wanted::of(&self.endpoint));
        Ok(())
    }

    /// Every controller dies and comes back with nothing in its memory.
    pub fn restart(&mut self) {
        self.memories.fill_with(Memory::default);
    }

    /// The controllers' wall clock jumps, by so many seconds. What they measure waits by goes on as ever.
    pub const fn jump(&mut self, seconds: i64) {
        self.ahead += seconds;
    }

    /// The object is lost, and made again from Git: the same spec, with another uid and no status, and of its
    /// annotations only the one that is there for good.
    ///
    /// # Errors
    /// Never, once the object was accepted.
    pub fn make_again(&mut self) -> Result<(), Stuck> {
        let metadata = &mut self.object.metadata;
        metadata.uid = metadata.uid.as_ref().map(|uid| format!("{uid}+"));
        metadata.generation = Some(1);
        metadata.annotations.get_or_insert_default().retain(|key, _| key == ADOPT_FROM);
        self.status = InferenceEndpointStatus::default();
        self.restart();
        self.reparse()
    }

    /// The object moves to another namespace, and takes its AWS resources along; not if it did so before.
    ///
    /// # Errors
    /// When its annotation is refused.
    pub fn move_to(&mut self, namespace: &str) -> Result<(), Stuck> {
        let place = self.endpoint.names.place.to_string();
        let annotations = self.object.metadata.annotations.get_or_insert_default();
        if annotations.contains_key(ADOPT_FROM) {
            return Ok(());
        }
        annotations.insert(ADOPT_FROM.to_owned(), place);
        self.object.metadata.namespace = Some(namespace.to_owned());
        self.make_again()
    }

    /// What `larder plan` foretells of the object as it is now; none while a call waits.
    #[must_use]
    pub fn foretold(&self) -> Option<Foreseen> {
        let seen = self.observed()?;
        Some(foresee_held(&self.endpoint, &Desired::of(&self.endpoint), &seen, &self.status))
    }

    /// What a plan looks at; none while a call waits.
    #[must_use]
    pub fn observed(&self) -> Option<Observed> {
        let mut looking =
            Box::pin(observe_ahead(&self.world, &self.endpoint, &self.status, self.timestamp()));
        match looking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(seen) => Some(seen),
            Poll::Pending => None,
        }
    }

    fn timestamp(&self) -> Timestamp {
        let time = time_of_day(self.world.now());
        time.checked_add(jiff::SignedDuration::from_secs(self.ahead)).unwrap_or(time)
    }

    /// One pass of every controller. Answers when to look again.
    ///
    /// # Errors
    /// [`Stuck`] when something happened that never should.
    pub fn pass(&mut self) -> Result<Duration, Stuck> {
        self.passes += 1;
        let (since_start, timestamp) = (self.world.now(), self.timestamp());
        let jitter = self.rng.f64();
        let now = Now { since_start, timestamp, jitter };
        let (world, endpoint, status) = (&self.world, &self.endpoint, &self.status);
        let passes = self
            .memories
            .iter_mut()
            .map(|memory| Some(Box::pin(pass(world, endpoint, status, memory, now)) as Passing<'_>))
            .collect();
        let outcomes = drive(world, passes, &mut self.rng);
        let mut again: Option<Duration> = None;
        self.has_told = false;
        for (i, outcome) in outcomes.into_iter().enumerate() {
            let next = if let Some(pass) = outcome {
                self.is_deleted |= pass.is_deleted;
                self.status = pass.status;
                self.has_told = true;
                pass.again
            } else {
                self.deaths += 1;
                if let Some(memory) = self.memories.get_mut(i) {
                    *memory = Memory::default();
                }
                RESTART
            };
            again = Some(again.map_or(next, |soonest| soonest.min(next)));
        }
        self.check()?;
        Ok(again.unwrap_or(RESTART))
    }

    /// What must hold after each pass.
    fn check(&self) -> Result<(), Stuck> {
        if let Some(breach) = self.world.breaches().first() {
            return Err(self.stuck(&format!("an invariant is broken: {breach}")));
        }
        if self.checks_truth && self.has_told && self.is_ready() && !self.may_lag() {
            let refresh = self.endpoint.refresh_seconds.max(self.endpoint.max_refresh_seconds);
            let longest = Duration::from_secs(refresh.into()).mul_f64(1.1);
            // A listing that tells of what was is kept as any other.
            let has_lied = self.world.lied_at().is_some();
            let listed_since =
                if has_lied { Duration::ZERO } else { self.world.now().saturating_sub(longest) };
            if let Some(untruth) = untruth(&self.world, &self.endpoint, listed_since) {
                return Err(self.stuck(&format!("Ready is True, and it is not so: {untruth}")));
            }
            let is_pruned = self.condition("HistoryPruned").is_some_and(|(status, ..)| status == "True");
            if is_pruned && let Some(surplus) = surplus(&self.world, &self.endpoint) {
                return Err(self.stuck(&format!("HistoryPruned is True, and it is not so: {surplus}")));
            }
        }
        Ok(())
    }

    /// Whether a status may still be about what was: that everything is as wanted rests on what was read within
    /// [`JUST_NOW`], which a read that left out the last write, or another controller's write since, belies until then.
    fn may_lag(&self) -> bool {
        let others = if self.memories.len() > 1 { self.world.wrote_at() } else { None };
        let at = self.world.lied_at().max(others);
        at.is_some_and(|at| self.world.now().saturating_sub(at) < JUST_NOW)
    }

    /// Whether the status says that this generation is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|(status, ..)| status == "True")
    }

    /// A condition of this generation: status, reason and message.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<(&str, &str, &str)> {
        let generation = self.object.metadata.generation;
        let condition = self.status.conditions.iter().find(|c| c.type_ == type_)?;
        (condition.observed_generation == generation).then_some((
            condition.status.as_str(),
            condition.reason.as_str(),
            condition.message.as_str(),
        ))
    }

    /// Passes until the endpoint is ready, or deleted.
    ///
    /// # Errors
    /// [`Stuck`] when it does not get there, or something happened that never should.
    pub fn settle(&mut self) -> Result<(), Stuck> {
        self.until("to be ready or deleted", |run| {
            let is_pruned = run.condition("HistoryPruned").is_some_and(|(status, ..)| status == "True");
            let is_verifying =
                run.condition("StorageMaintained").is_some_and(|(_, reason, _)| reason == "Verifying");
            run.is_deleted || (run.is_ready() && is_pruned && !is_verifying && run.status.plan.is_empty())
        })
    }

    /// Passes until the status, or anything else, is so.
    ///
    /// # Errors
    /// [`Stuck`] when it never is, or something happened that never should.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), Stuck> {
        for _ in 0..MAX_PASSES {
            let again = self.pass()?;
            if self.has_told && is_so(self) {
                return Ok(());
            }
            if self.is_deleted {
                return Err(self.stuck(&format!("deleted, while waiting for it {what}")));
            }
            self.world.advance(again);
        }
        Err(self.stuck(&format!("waited in vain for it {what}")))
    }

    /// Passes for some time.
    ///
    /// # Errors
    /// [`Stuck`] when something happened that never should.
    pub fn go_on_for(&mut self, time: Duration) -> Result<(), Stuck> {
        let end = self.world.now() + time;
        while self.world.now() < end && !self.is_deleted {
            let again = self.pass()?;
            self.world.advance(again.min(end.saturating_sub(self.world.now())).max(Duration::from_millis(1)));
        }
        Ok(())
    }

    /// Another pass, with an empty memory, writes nothing.
    ///
    /// # Errors
    /// [`Stuck`] when it writes.
    pub fn stays_quiet(&mut self) -> Result<(), Stuck> {
        let (writes, status) = (self.world.writes(), self.status.clone());
        self.restart();
        self.pass()?;
        if self.world.writes() != writes {
            return Err(self.stuck("a second pass wrote, where nothing was to be done"));
        }
        if !larder_core::status::is_same(&status, &self.status) {
            let what = differences(&status, &self.status).join("; ");
            return Err(self.stuck(&format!("a second pass tells another status: {what}")));
        }
        Ok(())
    }

    /// What is left of the endpoint in the world.
    #[must_use]
    pub fn end(&self) -> Vec<String> {
        self.world.look(|account| end(account, &self.endpoint))
    }

    /// Stuck, for this reason.
    pub(super) fn stuck(&self, what: &str) -> Stuck {
        let mut told = String::from("conditions:\n");
        for condition in &self.status.conditions {
            let _ = writeln!(
                told,
                "  {} {} {} (generation {:?}): {}",
                condition.type_,
                condition.status,
                condition.reason,
                condition.observed_generation,
                condition.message
            );
        }
        let history = self.world.history();
        let _ = writeln!(told, "history ({} entries, the last of them):", history.len());
        for line in history
            .iter()
            .skip(history.len().saturating_sub(40))
            .map(|line| line.chars().take(240).collect::<String>())
        {
            let _ = writeln!(told, "  {line}");
        }
        Stuck { what: what.to_owned(), told }
    }
}

fn parse(object: &InferenceEndpoint, defaults: &Defaults) -> Result<Endpoint, Stuck> {
    Endpoint::parse(object, defaults)
        .map_err(|refused| Stuck { what: refused.to_string(), told: String::new() })
}

/// The fields in which two statuses differ, each with both values.
fn differences(before: &InferenceEndpointStatus, now: &InferenceEndpointStatus) -> Vec<String> {
    let fields = |status| match serde_json::to_value(status) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (before, now) = (fields(before), fields(now));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let is_other = |name: &&&String| before.get(**name) != now.get(**name);
    let nothing = serde_json::Value::Null;
    let tell = |name: &String| {
        let (before, now) = (before.get(name).unwrap_or(&nothing), now.get(name).unwrap_or(&nothing));
        format!("{name}: {before} → {now}")
    };
    names.iter().filter(is_other).map(|name| tell(name)).collect()
}
