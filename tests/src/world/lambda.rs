//! AWS Lambda's functions: Pending and Failed, updates in progress, preconditions, and what a VPC and a
//! file system demand of a function. Versions and what hangs on them are in `published`.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_core::Class;
use larder_core::endpoint::Architecture;
use larder_core::names::{Names, Owner};
use larder_core::observed::{self, Code, FunctionConfig, LastUpdate, ProvisionedStatus, Remote};

use super::account::{Account, Body, Broken, Function, LogGroup, Refusal, State, refuse};
use super::efs::owned;

impl Function {
    /// What was due has happened.
    pub(super) fn settle(&mut self, now: Duration, broken: &Broken) {
        if let Some((_, outcome)) = self.busy.take_if(|(until, _)| *until <= now) {
            // `RevisionId` changes with the state, too.
            self.revision += 1;
            if self.state == State::Pending {
                self.state = outcome.map_or_else(State::Failed, |()| State::Active);
            } else {
                self.last_update = outcome.map_or_else(LastUpdate::Failed, |()| LastUpdate::Successful);
            }
        }
        for version in self.versions.values_mut() {
            let Some(provisioned) = &mut version.provisioned else { continue };
            if provisioned.status != ProvisionedStatus::InProgress || provisioned.due > now {
                continue;
            }
            let manifest = version.body.config.env.get(larder_contract::layout::ENV_MANIFEST);
            let fails = broken.init.contains(&version.body.code_digest)
                || manifest.is_some_and(|manifest| broken.init.contains(manifest));
            if fails {
                provisioned.available = 0;
                provisioned.status = ProvisionedStatus::Failed("FUNCTION_ERROR_INIT_FAILURE".to_owned());
            } else {
                provisioned.available = provisioned.requested;
                provisioned.status = ProvisionedStatus::Ready;
            }
        }
    }

    /// `RevisionId` of `$LATEST`.
    pub(super) fn revision_id(&self) -> String {
        format!("revision-{}", self.revision)
    }

    /// Refuses what a busy function refuses, and what was decided on an older look.
    fn writable(&self, name: &str, revision_id: Option<&str>) -> Result<(), Refusal> {
        if self.busy.is_some() {
            return refuse(
                Class::Conflict,
                "ResourceConflictException",
                format!(
                    "the operation cannot be performed at this time: an update is in progress for {name}"
                ),
            );
        }
        if let State::Failed(why) = &self.state {
            return refuse(
                Class::Conflict,
                "ResourceConflictException",
                format!("{name} is in state Failed: {why}"),
            );
        }
        if revision_id.is_some_and(|expected| expected != self.revision_id()) {
            return refuse(
                Class::Conflict,
                "PreconditionFailedException",
                "the revision id does not match the latest one: call GetFunction again",
            );
        }
        Ok(())
    }
}

/// A function as `GetFunction` shows it.
pub(super) fn seen(name: &str, body: &Body, function: &Function, revision_id: String) -> observed::Function {
    observed::Function {
        name: name.to_owned(),
        arn: format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}"),
        code_digest: body.code_digest.clone(),
        code_sha256: body.code_digest.trim_start_matches("sha256:").to_owned(),
        architecture: body.architecture,
        config: body.config.clone(),
        last_update: function.last_update.clone(),
        revision_id,
        reserved: function.reserved,
        last_modified: format!("{}s", function.modified_at.as_secs()),
        modified: Some(super::time_of_day(function.modified_at)),
    }
}

impl Account {
    pub(super) fn seen_function(&self, name: &str, owner: &Owner) -> Remote<observed::Function> {
        let Some(function) = self.functions.get(name) else { return Remote::Absent };
        let it = seen(name, &function.latest, function, function.revision_id());
        let it = match &function.state {
            State::Pending => Remote::Pending(it),
            State::Active | State::Inactive => Remote::Ready(it),
            State::Failed(reason) => Remote::Failed { it, reason: reason.clone() },
        };
        owned(function.owner.as_ref(), owner, it, name)
    }

    /// The function, for a change.
    pub(super) fn function_mut(&mut self, name: &str) -> Result<&mut Function, Refusal> {
        match self.functions.get_mut(name) {
            Some(function) => Ok(function),
            None => {
                refuse(Class::NotFound, "ResourceNotFoundException", format!("function not found: {name}"))
            }
        }
    }

    /// What Lambda checks of a role, a network and a file system before it takes a function.
    fn check(&self, config: &FunctionConfig) -> Result<(), Refusal> {
        let invalid = |message: String| refuse(Class::Invalid, "InvalidParameterValueException", message);
        match self.roles_assumable_at.get(&config.role) {
            Some(at) if *at <= self.now => {}
            // "Not yet", however final it sounds.
            Some(_) | None => {
                return refuse(
                    Class::Transient,
                    "InvalidParameterValueException",
                    format!("the role {} defined for the function cannot be assumed by Lambda", config.role),
                );
            }
        }
        let Some((arn, _)) = &config.mount else { return Ok(()) };
        let Some((id, ap)) = self.access_point_by_arn(arn) else {
            return invalid(format!("access point {arn} does not exist"));
        };
        if ap.state(self.now) != "available" {
            return invalid(format!("access point {id} is {}", ap.state(self.now)));
        }
        for subnet in &config.subnets {
            let Some(subnet) = self.subnets.get(subnet) else {
                return invalid(format!("subnet {subnet} does not exist"));
            };
            let is_mountable = self.mount_targets.values().any(|mt| {
                mt.file_system == ap.file_system
                    && mt.zone == subnet.zone
                    && mt.state(self.now) == "available"
            });
            if !is_mountable {
                return refuse(
                    Class::Transient,
                    "InvalidParameterValueException",
                    format!(
                        "EFS file system {} has no mount targets in state available in {}",
                        ap.file_system, subnet.zone
                    ),
                );
            }
        }
        let size: usize = config.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > 4096 {
            return invalid(format!("the environment has {size} bytes, and at most 4096 are allowed"));
        }
        Ok(())
    }

    pub(super) fn create_function(
        &mut self,
        name: &str,
        owner: &Owner,
        code: &Code,
        architecture: Architecture,
        config: &FunctionConfig,
    ) -> Result<(), Refusal> {
        if self.functions.contains_key(name) {
            return refuse(
                Class::Conflict,
                "ResourceConflictException",
                format!("function already exists: {name}"),
            );
        }
        self.check(config)?;
        let outcome = self.broken.creation.get(name).map_or(Ok(()), |why| Err(why.clone()));
        let body = Body { code_digest: code.digest.clone(), architecture, config: config.clone() };
        self.serial += 1;
        let it = Function {
            owner: Some(owner.0.clone()),
            latest: body,
            revision: self.serial * 1000,
            state: State::Pending,
            last_update: LastUpdate::Successful,
            busy: Some((self.now + self.delays.function, outcome)),
            reserved: None,
            versions: BTreeMap::new(),
            next_version: 1,
            last_published: None,
            alias: None,
            served: super::rollout::Served::new(),
            modified_at: self.now,
        };
        self.functions.insert(name.to_owned(), it);
        Ok(())
    }

    fn begin_update(&mut self, name: &str, change: impl FnOnce(&mut Body)) -> Result<(), Refusal> {
        let until = self.now + self.delays.update;
        let now = self.now;
        let outcome = self.broken.update.get(name).map_or(Ok(()), |why| Err(why.clone()));
        let function = self.function_mut(name)?;
        change(&mut function.latest);
        function.revision += 1;
        function.last_update = LastUpdate::InProgress;
        function.busy = Some((until, outcome));
        function.modified_at = now;
        Ok(())
    }

    pub(super) fn update_code(
        &mut self,
        name: &str,
        code: &Code,
        architecture: Architecture,
        revision_id: &str,
    ) -> Result<(), Refusal> {
        self.function_mut(name)?.writable(name, Some(revision_id))?;
        self.begin_update(name, |latest| {
            latest.code_digest.clone_from(&code.digest);
            latest.architecture = architecture;
        })
    }

    pub(super) fn update_configuration(
        &mut self,
        name: &str,
        config: &FunctionConfig,
        revision_id: &str,
    ) -> Result<(), Refusal> {
        self.function_mut(name)?.writable(name, Some(revision_id))?;
        self.check(config)?;
        self.begin_update(name, |latest| latest.config = config.clone())
    }

    pub(super) fn check_publishable(
        &mut self,
        name: &str,
        sha256: &str,
        revision_id: &str,
    ) -> Result<(), Refusal> {
        let function = self.function_mut(name)?;
        function.writable(name, Some(revision_id))?;
        if function.latest.code_digest.trim_start_matches("sha256:") != sha256 {
            return refuse(
                Class::Conflict,
                "InvalidParameterValueException",
                "CodeSha256 is different from that of $LATEST",
            );
        }
        Ok(())
    }

    pub(super) fn delete_function(&mut self, name: &str) {
        let Some(function) = self.functions.remove(name) else { return };
        if !function.latest.config.subnets.is_empty() {
            // Interfaces stay long after their function (deleting their network waits for them).
            self.interfaces.push((name.to_owned(), self.now + self.delays.interfaces));
        }
        self.copies.retain(|copy| copy.function != name);
    }

    pub(super) fn set_reserved(&mut self, name: &str, reserved: Option<i32>) -> Result<(), Refusal> {
        let function = self.function_mut(name)?;
        let provisioned: i32 =
            function.versions.values().filter_map(|v| v.provisioned.as_ref()).map(|p| p.requested).sum();
        if reserved.is_some_and(|reserved| reserved < provisioned) {
            return refuse(
                Class::Invalid,
                "InvalidParameterValueException",
                format!(
                    "ReservedConcurrentExecutions must not be lower than the function's total provisioned concurrency [{provisioned}]"
                ),
            );
        }
        function.reserved = reserved;
        Ok(())
    }

    /// An invoke reaches a function, or wakes it. Lambda makes the log group when there is none.
    pub(super) fn invoke(&mut self, name: &str) -> Result<&Function, Refusal> {
        let until = self.now + self.delays.function;
        let function = self.function_mut(name)?;
        match function.state {
            State::Active => {}
            State::Inactive => {
                function.state = State::Pending;
                function.busy = Some((until, Ok(())));
                return refuse(Class::Conflict, "ResourceConflictException", format!("{name} is waking up"));
            }
            State::Pending | State::Failed(_) => {
                return refuse(Class::Conflict, "ResourceConflictException", format!("{name} is not active"));
            }
        }
        let untagged = LogGroup { owner: None, retention_days: None };
        self.log_groups.entry(Names::log_group(name)).or_insert(untagged);
        self.function_mut(name).map(|function| &*function)
    }
}
