//! Writes to EFS and CloudWatch Logs. A token makes a repeated create find the first one's work.

use aws_sdk_efs::types::{CreationInfo, PerformanceMode, PosixUser, RootDirectory, Tag, ThroughputMode};
use aws_smithy_types::error::operation::BuildError;
use larder_core::endpoint::AccessPointSpec;
use larder_core::names::Owner;

use super::clients::Clients;
use super::error::Call;
use super::tags;
use crate::cloud::Result;

impl Clients {
    pub(super) async fn create_file_system(
        &self,
        token: &str,
        owner: &Owner,
        throughput_mode: &str,
        encrypted: bool,
        kms_key_id: Option<&str>,
    ) -> Result<()> {
        let call = Call::new("CreateFileSystem", format!("file system {token}"));
        let request = self
            .efs
            .create_file_system()
            .creation_token(token)
            .performance_mode(PerformanceMode::GeneralPurpose)
            .throughput_mode(ThroughputMode::from(throughput_mode))
            .encrypted(encrypted)
            .set_kms_key_id(kms_key_id.map(str::to_owned))
            .set_tags(Some(call.built(efs_tags(owner, token))?));
        call.done(request.send().await)
    }

    pub(super) async fn update_file_system(&self, id: &str, throughput_mode: &str) -> Result<()> {
        let call = Call::new("UpdateFileSystem", format!("file system {id}"));
        let request = self.efs.update_file_system().file_system_id(id);
        call.done(request.throughput_mode(ThroughputMode::from(throughput_mode)).send().await)
    }

    pub(super) async fn delete_file_system(&self, id: &str) -> Result<()> {
        let call = Call::new("DeleteFileSystem", format!("file system {id}"));
        call.done(self.efs.delete_file_system().file_system_id(id).send().await)
    }

    pub(super) async fn create_mount_target(
        &self,
        file_system: &str,
        subnet: &str,
        security_groups: &[String],
    ) -> Result<()> {
        let resource = format!("mount target of file system {file_system} in subnet {subnet}");
        let call = Call::new("CreateMountTarget", resource);
        let request = self.efs.create_mount_target().file_system_id(file_system).subnet_id(subnet);
        call.done(request.set_security_groups(Some(security_groups.to_vec())).send().await)
    }

    pub(super) async fn set_security_groups(&self, id: &str, security_groups: &[String]) -> Result<()> {
        let call = Call::new("ModifyMountTargetSecurityGroups", format!("mount target {id}"));
        let request = self.efs.modify_mount_target_security_groups().mount_target_id(id);
        call.done(request.set_security_groups(Some(security_groups.to_vec())).send().await)
    }

    pub(super) async fn delete_mount_target(&self, id: &str) -> Result<()> {
        let call = Call::new("DeleteMountTarget", format!("mount target {id}"));
        call.done(self.efs.delete_mount_target().mount_target_id(id).send().await)
    }

    pub(super) async fn create_access_point(
        &self,
        token: &str,
        owner: &Owner,
        file_system: &str,
        spec: &AccessPointSpec,
    ) -> Result<()> {
        let resource = format!("access point {token} of file system {file_system}");
        let call = Call::new("CreateAccessPoint", resource);
        let (user, root) = call.built(folder(spec))?;
        let request = self
            .efs
            .create_access_point()
            .client_token(token)
            .file_system_id(file_system)
            .posix_user(user)
            .root_directory(root)
            .set_tags(Some(call.built(efs_tags(owner, token))?));
        call.done(request.send().await)
    }

    pub(super) async fn delete_access_point(&self, id: &str) -> Result<()> {
        let call = Call::new("DeleteAccessPoint", format!("access point {id}"));
        call.done(self.efs.delete_access_point().access_point_id(id).send().await)
    }

    pub(super) async fn create_log_group(&self, name: &str, owner: &Owner) -> Result<()> {
        let call = Call::new("CreateLogGroup", format!("log group {name}"));
        let request = self.logs.create_log_group().log_group_name(name);
        call.done(request.set_tags(Some(tags(owner).into())).send().await)
    }

    pub(super) async fn put_retention_policy(&self, name: &str, days: i32) -> Result<()> {
        let call = Call::new("PutRetentionPolicy", format!("log group {name}"));
        let request = self.logs.put_retention_policy().log_group_name(name);
        call.done(request.retention_in_days(days).send().await)
    }

    pub(super) async fn delete_log_group(&self, name: &str) -> Result<()> {
        let call = Call::new("DeleteLogGroup", format!("log group {name}"));
        call.done(self.logs.delete_log_group().log_group_name(name).send().await)
    }
}

fn efs_tags(owner: &Owner, name: &str) -> std::result::Result<Vec<Tag>, BuildError> {
    let name = [("Name".to_owned(), name.to_owned())];
    let tags = tags(owner).into_iter().chain(name);
    tags.map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Who the functions are on the file system, and the folder that they see; it is made for them.
fn folder(spec: &AccessPointSpec) -> std::result::Result<(PosixUser, RootDirectory), BuildError> {
    let user = PosixUser::builder().uid(spec.uid).gid(spec.gid).build()?;
    let made = CreationInfo::builder().owner_uid(spec.uid).owner_gid(spec.gid);
    let made = made.permissions(&spec.permissions).build()?;
    Ok((user, RootDirectory::builder().path(&spec.path).creation_info(made).build()))
}
