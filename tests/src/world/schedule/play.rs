//! A schedule against a world: invariants hold throughout, and once faults stop, the end is the wanted one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use larder_crds::spec::{Adoption, DeletionPolicy, DriftPolicy};
use larder_crds::{InferenceEndpoint, PROMOTE, REJECTED_VERSIONS, RETRY_AT, ROLLOUT_PAUSED};

use super::super::account::Account;
use super::super::example::{BROUGHT, defaults, object, world};
use super::super::faults::{Chance, Fault};
use super::super::run::{Run, Stuck};
use super::super::truth::untruth;
use super::super::{World, time_of_day};
use super::disturbance::Disturbance;
use super::{Schedule, Settings};

/// How a schedule failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What went wrong.
    pub what: String,
    /// Conditions and history.
    pub told: String,
    /// The faults that befell it until then.
    pub faults: Vec<Fault>,
}

impl Failed {
    /// What went wrong without its particulars.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.what.split(':').next().unwrap_or_default()
    }
}

/// Waits are shortened: their being there matters, not their length.
fn hurry(world: &World) {
    world.meddle(|account| {
        let s = Duration::from_secs;
        account.delays.mount_target = s(9);
        account.delays.provisioned = s(6);
        account.delays.function = s(4);
        account.delays.copy_rate = 20 << 20;
    });
}

impl Settings {
    fn object(&self) -> InferenceEndpoint {
        let mut object = object();
        let spec = &mut object.spec;
        spec.deletion_policy =
            if self.keeps_data { DeletionPolicy::RetainData } else { DeletionPolicy::Delete };
        if self.is_brought {
            spec.storage.efs.managed = None;
            spec.storage.efs.file_system_id = Some(BROUGHT.to_owned());
        }
        spec.storage.collect_after_seconds = self.collect_after;
        spec.storage.retain_revisions = self.retain;
        spec.storage.verify_every_seconds = self.verify_every;
        spec.rollout = self.rollout.clone();
        object
    }
}

impl Schedule {
    /// Plays it; a panic is a failure as well.
    ///
    /// # Errors
    /// When anything happened that never should, or it did not end well.
    pub fn play(&self) -> Result<(), Failed> {
        let world = world();
        let played = catch_unwind(AssertUnwindSafe(|| self.live(&world)));
        let (what, told) = match played {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Stuck { what, told })) => (what, told),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                (format!("it panics: {text}"), world.history().join("\n"))
            }
        };
        Err(Failed { what, told, faults: world.befallen() })
    }

    fn live(&self, world: &World) -> Result<(), Stuck> {
        let settings = &self.settings;
        hurry(world);
        world.set_page_size(settings.page_size);
        let mut run = Run::new(world.clone(), settings.object(), defaults())?
            .with_seed(self.seed)
            .with_controllers(settings.controllers);
        self.set_faults(&run, 0);
        run.go_on_for(Duration::from_secs(self.begins))?;
        for (disturbance, seconds) in &self.events {
            disturbance.happen(&mut run)?;
            run.go_on_for(Duration::from_secs(*seconds))?;
        }
        if self.settles {
            self.come_to_rest(&mut run)?;
        }
        // The delete meets the same kinds of fault.
        run.checks_truth = false;
        self.set_faults(&run, 1);
        run.delete()?;
        run.go_on_for(Duration::from_secs(self.ends))?;
        self.mend(&mut run)?;
        if !run.is_deleted {
            run.settle()?;
        }
        let left = world.look(|account| left(account, settings.keeps_data));
        if left.is_empty() {
            Ok(())
        } else {
            Err(run.stuck(&format!("deleted, and there is left: {left:#?}")))
        }
    }

    fn set_faults(&self, run: &Run, part: u64) {
        let faults = &self.faults;
        let chance = Chance::new(faults.seed.wrapping_add(part), faults.per_mille, &faults.kinds);
        run.world.set_chance(Some(chance));
        run.world.set_faults(faults.planned.clone());
    }

    fn come_to_rest(&self, run: &mut Run) -> Result<(), Stuck> {
        self.mend(run)?;
        run.ask()?;
        run.pass()?;
        run.settle()?;
        if let Some(untruth) = untruth(&run.world, run.endpoint(), run.world.now()) {
            return Err(run.stuck(&format!("settled, and it is not so: {untruth}")));
        }
        run.stays_quiet()
    }

    /// Faults stop, what was broken is mended, what was taken back is tried again, and consent is given.
    fn mend(&self, run: &mut Run) -> Result<(), Stuck> {
        run.world.set_chance(None);
        run.world.set_faults(Vec::new());
        run.world.meddle(|account| {
            account.broken.init.clear();
            account.broken.serving.clear();
            account.broken.slow.clear();
            account.broken.answers.clear();
            account.broken.copy = None;
            account.broken.writes = None;
        });
        // Later than any clock has shown.
        let later = time_of_day(run.world.now() + Duration::from_hours(24 * 7)).to_string();
        run.annotate(RETRY_AT, Some(&later))?;
        [ROLLOUT_PAUSED, REJECTED_VERSIONS, PROMOTE]
            .into_iter()
            .try_for_each(|key| run.annotate(key, None))?;
        if self.events.iter().any(|(it, _)| matches!(it, Disturbance::DriftPolicy(DriftPolicy::Report))) {
            run.change(|spec| spec.drift_policy = DriftPolicy::Correct)?;
        }
        if self.events.iter().any(|(it, _)| it.needs_consent()) {
            run.change(|spec| spec.adoption = Adoption::Adopt)?;
        }
        Ok(())
    }
}

/// What is left in an account that one endpoint had to itself, whoever's tag it bears.
fn left(account: &Account, keeps_data: bool) -> Vec<String> {
    let mut left: Vec<String> = account.functions.keys().map(|name| format!("function {name}")).collect();
    left.extend(account.access_points.keys().map(|id| format!("access point {id}")));
    left.extend(account.log_groups.keys().map(|name| format!("log group {name}")));
    left.extend(account.rules.keys().map(|name| format!("rule {name}")));
    left.extend(account.queues.keys().map(|name| format!("queue {name}")));
    if !keeps_data {
        let file_systems = account.file_systems.keys().filter(|id| *id != BROUGHT);
        left.extend(file_systems.map(|id| format!("file system {id}")));
    }
    left
}
