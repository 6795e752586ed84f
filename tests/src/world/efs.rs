//! Amazon EFS: what its API reference says of life-cycle states, tokens and conflicts.

use std::collections::BTreeSet;
use std::time::Duration;

use larder_core::Class;
use larder_core::endpoint::AccessPointSpec;
use larder_core::names::Owner;
use larder_core::observed::{self, Remote};

use super::account::{AccessPoint, Account, FileSystem, MountTarget, Refusal, access_point_arn, refuse};

/// `UpdateFileSystem` changes the throughput mode once in this time.
const MODE_CHANGE: Duration = Duration::from_hours(24);

/// Bytes of burst credits that a new file system has: 2.1 TiB.
const BURST_CREDITS: u64 = 2_308_974_418_329;

impl FileSystem {
    fn state(&self, now: Duration) -> &'static str {
        match self.gone_at {
            Some(_) => "deleting",
            None if self.available_at > now => "creating",
            None => "available",
        }
    }
}

impl MountTarget {
    /// Its `LifeCycleState`.
    pub(super) fn state(&self, now: Duration) -> &'static str {
        match self.gone_at {
            Some(_) => "deleting",
            None if self.available_at > now => "creating",
            None if self.is_broken => "error",
            None => "available",
        }
    }
}

impl AccessPoint {
    /// Its `LifeCycleState`.
    pub(super) fn state(&self, now: Duration) -> &'static str {
        match self.gone_at {
            Some(_) => "deleting",
            None if self.available_at > now => "creating",
            None => "available",
        }
    }
}

/// `Remote` as an adapter reads a life-cycle state.
fn remote<T>(state: &str, it: T) -> Remote<T> {
    match state {
        "available" => Remote::Ready(it),
        "deleting" => Remote::Deleting(it),
        _ => Remote::Pending(it),
    }
}

/// Whose a tag says that a thing is.
pub(super) fn owned<T>(tag: Option<&String>, owner: &Owner, it: Remote<T>, id: &str) -> Remote<T> {
    if tag == Some(&owner.0) {
        return it;
    }
    Remote::Foreign { owner: tag.cloned().unwrap_or_default(), id: id.to_owned() }
}

/// The ARN of a key: what EFS says, however it was told which.
fn key_arn(key: &str) -> String {
    let id = key.strip_prefix("alias/").map_or(key, |_| "of-the-alias");
    if key.starts_with("arn:") {
        key.to_owned()
    } else {
        format!("arn:aws:kms:eu-west-1:111122223333:key/{id}")
    }
}

impl Account {
    pub(super) fn file_system_by_token(&self, token: &str, owner: &Owner) -> Remote<observed::FileSystem> {
        let found = self.file_systems.iter().find(|(_, fs)| fs.token == token);
        found.map_or(Remote::Absent, |(id, fs)| {
            owned(fs.owner.as_ref(), owner, self.seen_file_system(id, fs), id)
        })
    }

    pub(super) fn file_system_by_id(&self, id: &str) -> Remote<observed::FileSystem> {
        self.file_systems.get(id).map_or(Remote::Absent, |fs| self.seen_file_system(id, fs))
    }

    fn seen_file_system(&self, id: &str, fs: &FileSystem) -> Remote<observed::FileSystem> {
        remote(
            fs.state(self.now),
            observed::FileSystem {
                id: id.to_owned(),
                throughput_mode: fs.mode.clone(),
                is_encrypted: fs.is_encrypted,
                burst_credits: (fs.mode == "bursting")
                    .then_some(self.broken.burst_credits.unwrap_or(BURST_CREDITS)),
                kms_key_id: fs.kms_key_id.clone(),
            },
        )
    }

    pub(super) fn seen_mount_targets(&self, file_system: &str) -> Vec<observed::MountTarget> {
        self.mount_targets
            .iter()
            .filter(|(_, mt)| mt.file_system == file_system)
            .map(|(id, mt)| observed::MountTarget {
                id: id.clone(),
                subnet: mt.subnet.clone(),
                zone: mt.zone.clone(),
                state: mt.state(self.now).to_owned(),
                security_groups: mt.security_groups.clone(),
            })
            .collect()
    }

    pub(super) fn seen_access_points(
        &self,
        file_system: &str,
        owner: &Owner,
    ) -> Vec<larder::cloud::ListedAccessPoint> {
        self.access_points
            .iter()
            .filter(|(_, ap)| ap.file_system == file_system)
            .map(|(id, ap)| {
                let mut it = observed::AccessPoint::of(&ap.spec, id.clone(), access_point_arn(id));
                it.user.iter_mut().for_each(|user| user.secondary_gids.clone_from(&ap.secondary_gids));
                let it = owned(ap.owner.as_ref(), owner, remote(ap.state(self.now), it), id);
                larder::cloud::ListedAccessPoint { id: id.clone(), token: ap.token.clone(), it }
            })
            .collect()
    }

    /// The file system, when it is available.
    fn available(&self, id: &str) -> Result<&FileSystem, Refusal> {
        let Some(fs) = self.file_systems.get(id) else {
            return refuse(Class::NotFound, "FileSystemNotFound", format!("file system {id} does not exist"));
        };
        match fs.state(self.now) {
            "available" => Ok(fs),
            state => refuse(
                Class::Conflict,
                "IncorrectFileSystemLifeCycleState",
                format!("file system {id} is {state}"),
            ),
        }
    }

    pub(super) fn create_file_system(
        &mut self,
        token: &str,
        owner: &Owner,
        mode: &str,
        is_encrypted: bool,
        kms_key_id: Option<&str>,
    ) -> Result<(), Refusal> {
        if let Some((id, _)) = self.file_systems.iter().find(|(_, fs)| fs.token == token) {
            return refuse(
                Class::Conflict,
                "FileSystemAlreadyExists",
                format!("{id} has this creation token"),
            );
        }
        let id = self.id("fs");
        let it = FileSystem {
            token: token.to_owned(),
            owner: Some(owner.0.clone()),
            mode: mode.to_owned(),
            is_encrypted,
            kms_key_id: kms_key_id.map(key_arn),
            available_at: self.now + self.delays.file_system,
            gone_at: None,
            mode_changed_at: None,
        };
        self.file_systems.insert(id, it);
        Ok(())
    }

    pub(super) fn update_file_system(&mut self, id: &str, mode: &str) -> Result<(), Refusal> {
        let changed_at = self.available(id)?.mode_changed_at;
        if changed_at.is_some_and(|at| at + MODE_CHANGE > self.now) {
            return refuse(
                Class::Cooldown,
                "TooManyRequests",
                "the throughput mode was changed less than 24 hours ago",
            );
        }
        let now = self.now;
        if let Some(fs) = self.file_systems.get_mut(id) {
            mode.clone_into(&mut fs.mode);
            fs.mode_changed_at = Some(now);
        }
        Ok(())
    }

    pub(super) fn delete_file_system(&mut self, id: &str) -> Result<(), Refusal> {
        let gone_at = self.now + self.delays.file_system;
        match self.file_systems.get(id) {
            None => return Ok(()),
            Some(fs) if fs.gone_at.is_some() => return Ok(()),
            Some(_) => self.available(id)?,
        };
        if self.mount_targets.values().any(|mt| mt.file_system == id) {
            return refuse(Class::Conflict, "FileSystemInUse", format!("file system {id} has mount targets"));
        }
        if let Some(fs) = self.file_systems.get_mut(id) {
            fs.gone_at = Some(gone_at);
        }
        // Access points go with their file system.
        for ap in self.access_points.values_mut().filter(|ap| ap.file_system == id) {
            ap.gone_at = Some(gone_at);
        }
        Ok(())
    }

    pub(super) fn create_mount_target(
        &mut self,
        file_system: &str,
        subnet: &str,
        security_groups: &[String],
    ) -> Result<(), Refusal> {
        self.available(file_system)?;
        let Some(subnet) = self.subnets.get(subnet).cloned() else {
            return refuse(Class::NotFound, "SubnetNotFound", format!("subnet {subnet} does not exist"));
        };
        let mut there = self.mount_targets.values().filter(|mt| mt.file_system == file_system);
        let conflict = |message: &str| refuse(Class::Conflict, "MountTargetConflict", message);
        if there.clone().any(|mt| mt.zone == subnet.zone) {
            return conflict("there is a mount target in this availability zone");
        }
        if there.any(|mt| self.subnets.get(&mt.subnet).is_some_and(|other| other.vpc != subnet.vpc)) {
            return conflict("there are mount targets in another VPC");
        }
        if security_groups.len() > 5 {
            return refuse(Class::Invalid, "SecurityGroupLimitExceeded", "more than 5 security groups");
        }
        let id = self.id("fsmt");
        let it = MountTarget {
            file_system: file_system.to_owned(),
            subnet: subnet.id,
            zone: subnet.zone,
            security_groups: security_groups.iter().cloned().collect(),
            available_at: self.now + self.delays.mount_target,
            is_broken: self.broken.mount_targets,
            gone_at: None,
        };
        self.mount_targets.insert(id, it);
        Ok(())
    }

    pub(super) fn set_mount_target_security_groups(
        &mut self,
        id: &str,
        groups: &[String],
    ) -> Result<(), Refusal> {
        let now = self.now;
        let Some(mt) = self.mount_targets.get_mut(id) else {
            return refuse(
                Class::NotFound,
                "MountTargetNotFound",
                format!("mount target {id} does not exist"),
            );
        };
        if mt.state(now) != "available" {
            return refuse(Class::Conflict, "IncorrectMountTargetState", format!("it is {}", mt.state(now)));
        }
        mt.security_groups = groups.iter().cloned().collect::<BTreeSet<_>>();
        Ok(())
    }

    pub(super) fn delete_mount_target(&mut self, id: &str) {
        let gone_at = self.now + self.delays.mount_target / 3;
        if let Some(mt) = self.mount_targets.get_mut(id) {
            mt.gone_at.get_or_insert(gone_at);
        }
    }

    pub(super) fn create_access_point(
        &mut self,
        token: &str,
        owner: &Owner,
        file_system: &str,
        spec: &AccessPointSpec,
    ) -> Result<(), Refusal> {
        self.available(file_system)?;
        if let Some((id, _)) = self.access_points.iter().find(|(_, ap)| ap.token == token) {
            return refuse(
                Class::Conflict,
                "AccessPointAlreadyExists",
                format!("{id} has this client token"),
            );
        }
        let id = self.id("fsap");
        let it = AccessPoint {
            token: token.to_owned(),
            owner: Some(owner.0.clone()),
            file_system: file_system.to_owned(),
            spec: spec.clone(),
            secondary_gids: BTreeSet::new(),
            available_at: self.now + self.delays.access_point,
            gone_at: None,
        };
        self.access_points.insert(id, it);
        // The root directory is made at the first mount, and stays.
        self.folders.entry((file_system.to_owned(), spec.path.clone())).or_default();
        Ok(())
    }

    pub(super) fn delete_access_point(&mut self, id: &str) {
        let gone_at = self.now + self.delays.access_point;
        if let Some(ap) = self.access_points.get_mut(id) {
            ap.gone_at.get_or_insert(gone_at);
        }
    }
}
