//! File systems, mount targets and access points.

use aws_sdk_efs::types::{MountTargetDescription, Tag};
use futures::future::try_join_all;
use larder_core::Class;
use larder_core::names::OWNER_TAG;
use larder_core::names::Owner;
use larder_core::observed::{AccessPoint, CreationInfo, FileSystem, MountTarget, PosixUser, Remote};

use super::clients::Clients;
use super::error::Call;
use super::owned;
use crate::cloud::{FileSystemQuery, ListedAccessPoint, Page, Result};

/// `LifeCycleState`, the same words for all three resources.
fn life<T>(state: &str, it: T) -> Remote<T> {
    match state {
        "creating" => Remote::Pending(it),
        "available" | "updating" => Remote::Ready(it),
        "deleting" => Remote::Deleting(it),
        "deleted" => Remote::Absent,
        other => Remote::Failed { it, reason: format!("its life cycle state is {other}") },
    }
}

fn owner_tag(tags: &[Tag]) -> Option<&str> {
    tags.iter().find(|tag| tag.key == OWNER_TAG).map(|tag| tag.value.as_str())
}

impl Clients {
    /// <https://docs.aws.amazon.com/efs/latest/ug/API_DescribeFileSystems.html>
    pub(super) async fn file_system(&self, query: FileSystemQuery<'_>) -> Result<Remote<FileSystem>> {
        let request = self.efs.describe_file_systems();
        let (request, name) = match query {
            FileSystemQuery::Ours { token, .. } => (request.creation_token(token), token),
            FileSystemQuery::Existing(id) => (request.file_system_id(id), id),
        };
        let call = Call::new("DescribeFileSystems", format!("file system {name}"));
        let answer = call.found(request.send().await)?;
        let found = answer.and_then(|answer| answer.file_systems).unwrap_or_default();
        // One that is going may be listed beside the one that took its token.
        let Some(found) =
            found.into_iter().min_by_key(|it| it.life_cycle_state.as_str().starts_with("delet"))
        else {
            return Ok(Remote::Absent);
        };
        let mode = found.throughput_mode.as_ref().map_or("bursting", |mode| mode.as_str());
        let throughput_mode = mode.to_ascii_lowercase();
        let id = found.file_system_id;
        let burst_credits = if throughput_mode == "bursting" { self.burst_credits(&id).await } else { None };
        let it = FileSystem {
            id: id.clone(),
            throughput_mode,
            is_encrypted: found.encrypted.unwrap_or_default(),
            burst_credits,
            kms_key_id: found.kms_key_id.filter(|key| !key.is_empty()),
        };
        let remote = life(found.life_cycle_state.as_str(), it);
        Ok(match query {
            FileSystemQuery::Ours { owner, .. } => owned(remote, owner, owner_tag(&found.tags), &id),
            FileSystemQuery::Existing(_) => remote,
        })
    }

    /// <https://docs.aws.amazon.com/efs/latest/ug/API_DescribeMountTargets.html>
    pub(super) async fn mount_targets(
        &self,
        file_system: &str,
        page: Option<String>,
    ) -> Result<Page<MountTarget>> {
        let call = Call::new("DescribeMountTargets", format!("file system {file_system}"));
        let request = self.efs.describe_mount_targets().file_system_id(file_system).set_marker(page);
        let Some(answer) = call.found(request.send().await)? else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let targets = answer.mount_targets.unwrap_or_default();
        let items = try_join_all(targets.into_iter().map(|target| self.mount_target(target))).await?;
        Ok(Page { items, next: answer.next_marker.filter(|marker| !marker.is_empty()) })
    }

    /// A mount target with its security groups: none while it is not in a state to be asked for them.
    ///
    /// <https://docs.aws.amazon.com/efs/latest/ug/API_DescribeMountTargetSecurityGroups.html>
    async fn mount_target(&self, target: MountTargetDescription) -> Result<MountTarget> {
        let mut it = MountTarget {
            id: target.mount_target_id,
            subnet: target.subnet_id,
            zone: target.availability_zone_name.unwrap_or_default(),
            state: target.life_cycle_state.as_str().to_owned(),
            security_groups: [].into(),
        };
        if it.state == "available" {
            let call = Call::new("DescribeMountTargetSecurityGroups", format!("mount target {}", it.id));
            let request = self.efs.describe_mount_target_security_groups().mount_target_id(&it.id);
            match call.answer(request.send().await) {
                Ok(answer) => it.security_groups = answer.security_groups.into_iter().collect(),
                // It left its state between the two calls.
                Err(error) if error.problem.class == Class::NotFound => "deleted".clone_into(&mut it.state),
                Err(error) if error.problem.class == Class::Conflict => "updating".clone_into(&mut it.state),
                Err(error) => return Err(error),
            }
        }
        Ok(it)
    }

    /// <https://docs.aws.amazon.com/efs/latest/ug/API_DescribeAccessPoints.html>
    pub(super) async fn access_points(
        &self,
        file_system: &str,
        owner: &Owner,
        page: Option<String>,
    ) -> Result<Page<ListedAccessPoint>> {
        let call = Call::new("DescribeAccessPoints", format!("file system {file_system}"));
        let request = self.efs.describe_access_points().file_system_id(file_system).set_next_token(page);
        let Some(answer) = call.found(request.send().await)? else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let items = answer.access_points.unwrap_or_default().into_iter().filter_map(|found| {
            let root = found.root_directory;
            let (path, creation) = root.map_or((None, None), |root| (root.path, root.creation_info));
            let id = found.access_point_id?;
            let it = AccessPoint {
                id: id.clone(),
                arn: found.access_point_arn?,
                path: path.unwrap_or_else(|| "/".to_owned()),
                user: found.posix_user.map(|it| PosixUser {
                    uid: it.uid,
                    gid: it.gid,
                    secondary_gids: it.secondary_gids.unwrap_or_default().into_iter().collect(),
                }),
                creation: creation.map(|it| CreationInfo {
                    owner_uid: it.owner_uid,
                    owner_gid: it.owner_gid,
                    permissions: it.permissions,
                }),
            };
            let state = found.life_cycle_state.as_ref().map_or("creating", |state| state.as_str());
            let it = owned(life(state, it), owner, owner_tag(found.tags.as_deref().unwrap_or_default()), &id);
            Some(ListedAccessPoint { id, token: found.client_token.unwrap_or_default(), it })
        });
        Ok(Page { items: items.collect(), next: answer.next_token.filter(|token| !token.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_cycle_states_are_read() {
        for (state, remote) in [
            ("creating", Remote::Pending(1)),
            ("available", Remote::Ready(1)),
            ("updating", Remote::Ready(1)),
            ("deleting", Remote::Deleting(1)),
            ("deleted", Remote::Absent),
            ("error", Remote::Failed { it: 1, reason: "its life cycle state is error".to_owned() }),
        ] {
            assert_eq!(life(state, 1), remote, "{state}");
        }
    }

    #[test]
    fn what_bears_another_tag_is_foreign() {
        let owner = Owner("c/ns/n/u".to_owned());
        for (tag, remote) in [
            (Some("c/ns/n/u"), Remote::Ready(1)),
            (Some("c/ns/n/v"), Remote::Foreign { owner: "c/ns/n/v".to_owned(), id: "id".to_owned() }),
            (None, Remote::Foreign { owner: String::new(), id: "id".to_owned() }),
        ] {
            assert_eq!(owned(Remote::Ready(1), &owner, tag, "id"), remote);
        }
        assert_eq!(owned(Remote::<u8>::Absent, &owner, None, "id"), Remote::Absent);
    }
}
