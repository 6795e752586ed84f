//! Published versions of a function, their provisioned concurrency, the alias, the function URL and its
//! permissions.

use std::collections::BTreeMap;

use larder_core::Class;
use larder_core::names::Owner;
use larder_core::observed::{self, ProvisionedStatus, Remote};
use larder_core::step::Permission;

use super::account::{Account, Alias, Provisioned, Refusal, Version, refuse};
use super::efs::owned;
use super::lambda::seen;

/// A resource policy has at most 20 KB: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const POLICY: usize = 20 << 10;

/// Bytes of a statement, about.
const STATEMENT: usize = 400;

impl Account {
    pub(super) fn seen_version(&self, name: &str, number: u64, owner: &Owner) -> Remote<observed::Function> {
        let Some(function) = self.functions.get(name) else { return Remote::Absent };
        let Some(version) = function.versions.get(&number) else { return Remote::Absent };
        let mut it = seen(name, &version.body, function, format!("version-{number}"));
        it.last_update = observed::LastUpdate::Successful;
        it.last_modified = format!("{}s", version.published_at.as_secs());
        it.modified = Some(super::time_of_day(version.published_at));
        it.reserved = None;
        let it = if version.active_at > self.now { Remote::Pending(it) } else { Remote::Ready(it) };
        owned(function.owner.as_ref(), owner, it, name)
    }

    pub(super) fn seen_provisioned(&self, name: &str, number: u64) -> Option<observed::Provisioned> {
        let it = self.functions.get(name)?.versions.get(&number)?.provisioned.as_ref()?;
        Some(observed::Provisioned {
            requested: it.requested,
            available: it.available,
            status: it.status.clone(),
            changed: Some(super::time_of_day(it.changed_at)),
        })
    }

    pub(super) fn seen_alias(&self, name: &str) -> Option<observed::Alias> {
        let alias = self.functions.get(name)?.alias.as_ref()?;
        Some(observed::Alias {
            version: alias.version,
            second: alias.second,
            description: alias.description.clone(),
            revision_id: format!("alias-{}", alias.revision),
        })
    }

    pub(super) fn seen_url(&self, name: &str) -> Option<observed::FunctionUrl> {
        self.functions.get(name)?.alias.as_ref()?.url.clone()
    }

    pub(super) fn seen_permissions(&self, name: &str) -> BTreeMap<String, bool> {
        let alias = self.functions.get(name).and_then(|function| function.alias.as_ref());
        let statements = alias.iter().flat_map(|alias| &alias.statements);
        statements.map(|(id, it)| (id.clone(), it.is_as_named(id))).collect()
    }

    pub(super) fn publish(&mut self, name: &str, sha256: &str, revision_id: &str) -> Result<(), Refusal> {
        self.check_publishable(name, sha256, revision_id)?;
        let (now, active_at) = (self.now, self.now + self.delays.version);
        let function = self.function_mut(name)?;
        // Nothing new: Lambda answers with the version that it published last.
        let last = function.last_published.as_ref();
        if last.is_some_and(|(n, body)| *body == function.latest && function.versions.contains_key(n)) {
            return Ok(());
        }
        let number = function.next_version;
        function.next_version += 1;
        let body = function.latest.clone();
        function.last_published = Some((number, body.clone()));
        let version = Version { body, active_at, provisioned: None, published_at: now };
        function.versions.insert(number, version);
        function.revision += 1;
        Ok(())
    }

    pub(super) fn delete_version(&mut self, name: &str, number: u64) -> Result<(), Refusal> {
        let Ok(function) = self.function_mut(name) else { return Ok(()) };
        if function.alias.as_ref().is_some_and(|alias| alias.serves(number)) {
            return refuse(
                Class::Conflict,
                "ResourceConflictException",
                format!("an alias points at version {number}: delete or move it first"),
            );
        }
        function.versions.remove(&number);
        Ok(())
    }

    fn version_mut(&mut self, name: &str, number: u64) -> Result<&mut Version, Refusal> {
        match self.function_mut(name)?.versions.get_mut(&number) {
            Some(version) => Ok(version),
            None => refuse(
                Class::NotFound,
                "ResourceNotFoundException",
                format!("function not found: {name}:{number}"),
            ),
        }
    }

    pub(super) fn put_provisioned(&mut self, name: &str, number: u64, count: i32) -> Result<(), Refusal> {
        let invalid = |message: &str| refuse(Class::Invalid, "InvalidParameterValueException", message);
        let (now, due) = (self.now, self.now + self.delays.provisioned);
        if number == 0 {
            return invalid("provisioned concurrency cannot be applied to unpublished function versions");
        }
        let function = self.function_mut(name)?;
        let others: i32 = function
            .versions
            .iter()
            .filter(|(n, _)| **n != number)
            .filter_map(|(_, v)| v.provisioned.as_ref())
            .map(|p| p.requested)
            .sum();
        if function.reserved.is_some_and(|reserved| others + count > reserved) {
            return invalid(
                "requested provisioned concurrency should not be greater than the reservedConcurrentExecution for function",
            );
        }
        if function.alias.as_ref().is_some_and(|a| a.second.is_some() && a.serves(number)) {
            return invalid(
                "provisioned concurrency cannot be applied to a version of an alias with weights",
            );
        }
        let version = self.version_mut(name, number)?;
        if version.active_at > now {
            return refuse(
                Class::Conflict,
                "ResourceConflictException",
                format!("version {number} is not active yet"),
            );
        }
        // What is warm already stays warm while the number changes.
        let available = version.provisioned.as_ref().map_or(0, |p| p.available.min(count));
        let status = ProvisionedStatus::InProgress;
        version.provisioned = Some(Provisioned { requested: count, available, status, due, changed_at: now });
        Ok(())
    }

    pub(super) fn delete_provisioned(&mut self, name: &str, number: u64) {
        if let Ok(version) = self.version_mut(name, number) {
            version.provisioned = None;
        }
    }

    fn alias_mut(&mut self, name: &str) -> Result<&mut Alias, Refusal> {
        match &mut self.function_mut(name)?.alias {
            Some(alias) => Ok(alias),
            None => {
                refuse(Class::NotFound, "ResourceNotFoundException", format!("no alias of function {name}"))
            }
        }
    }

    pub(super) fn create_alias(
        &mut self,
        name: &str,
        version: u64,
        description: &str,
    ) -> Result<(), Refusal> {
        self.version_mut(name, version)?;
        self.serial += 1;
        let revision = self.serial * 1000;
        let function = self.function_mut(name)?;
        if function.alias.is_some() {
            return refuse(Class::Conflict, "ResourceConflictException", "the alias already exists");
        }
        function.alias = Some(Alias {
            version,
            second: None,
            description: description.to_owned(),
            revision,
            url: None,
            statements: BTreeMap::new(),
        });
        Ok(())
    }

    pub(super) fn update_alias(
        &mut self,
        name: &str,
        version: u64,
        second: Option<(u64, u8)>,
        description: &str,
        revision_id: &str,
    ) -> Result<(), Refusal> {
        self.version_mut(name, version)?;
        if let Some((other, _)) = second {
            self.version_mut(name, other)?;
            if other == version {
                return refuse(
                    Class::Invalid,
                    "InvalidParameterValueException",
                    format!("version {version} cannot be both of an alias's versions"),
                );
            }
        }
        let alias = self.alias_mut(name)?;
        if format!("alias-{}", alias.revision) != revision_id {
            return refuse(
                Class::Conflict,
                "PreconditionFailedException",
                "the alias's revision id does not match",
            );
        }
        alias.version = version;
        alias.second = second;
        description.clone_into(&mut alias.description);
        alias.revision += 1;
        Ok(())
    }

    pub(super) fn delete_alias(&mut self, name: &str) -> Result<(), Refusal> {
        let Ok(function) = self.function_mut(name) else { return Ok(()) };
        if function.alias.as_ref().is_some_and(|alias| alias.url.is_some()) {
            return refuse(Class::Conflict, "ResourceConflictException", "the alias has a function URL");
        }
        function.alias = None;
        Ok(())
    }

    pub(super) fn create_url(&mut self, name: &str, auth_type: &str) -> Result<(), Refusal> {
        let alias = self.alias_mut(name)?;
        if alias.url.is_some() {
            return refuse(Class::Conflict, "ResourceConflictException", "the function URL already exists");
        }
        let url = format!("https://{name}.lambda-url.eu-west-1.on.aws/");
        let (auth_type, invoke_mode) = (auth_type.to_owned(), "BUFFERED".to_owned());
        alias.url = Some(observed::FunctionUrl { url, auth_type, invoke_mode, has_cors: false });
        Ok(())
    }

    pub(super) fn update_url(&mut self, name: &str, auth_type: &str) -> Result<(), Refusal> {
        match &mut self.alias_mut(name)?.url {
            Some(url) => {
                auth_type.clone_into(&mut url.auth_type);
                "BUFFERED".clone_into(&mut url.invoke_mode);
                url.has_cors = false;
                Ok(())
            }
            None => refuse(Class::NotFound, "ResourceNotFoundException", "there is no function URL"),
        }
    }

    pub(super) fn delete_url(&mut self, name: &str) {
        if let Ok(alias) = self.alias_mut(name) {
            alias.url = None;
        }
    }

    pub(super) fn add_permission(&mut self, name: &str, permission: Permission) -> Result<(), Refusal> {
        let others = self.broken.policy_bytes;
        let (alias, statement) = (self.alias_mut(name)?, permission.statement());
        if others + (alias.statements.len() + 1) * STATEMENT > POLICY {
            return refuse(
                Class::Quota,
                "PolicyLengthExceededException",
                format!("the final policy size is bigger than the limit ({POLICY})"),
            );
        }
        if alias.statements.insert(statement.to_owned(), permission.into()).is_some() {
            return refuse(
                Class::Conflict,
                "ResourceConflictException",
                format!("the statement id {statement} already exists"),
            );
        }
        Ok(())
    }

    pub(super) fn remove_permission(&mut self, name: &str, statement: &str) {
        if let Ok(alias) = self.alias_mut(name) {
            alias.statements.remove(statement);
        }
    }
}
