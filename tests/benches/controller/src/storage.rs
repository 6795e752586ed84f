//! EFS: <https://docs.aws.amazon.com/efs/latest/ug/api-reference.html>

use std::time::Instant;

use serde_json::{Value, json};

use super::{Answer, Ask, Region, is_over};

#[derive(Debug)]
pub(crate) struct FileSystem {
    token: String,
    mode: String,
    tags: Value,
    available_at: Instant,
    mount_targets: Vec<MountTarget>,
    access_points: Vec<Value>,
}

#[derive(Debug)]
struct MountTarget {
    id: String,
    subnet: String,
    groups: Value,
    available_at: Instant,
}

pub(super) fn operation(method: &str, kind: &str, what: &str) -> &'static str {
    match (method, kind, what) {
        ("GET", "file-systems", _) => "DescribeFileSystems",
        ("POST", "file-systems", _) => "CreateFileSystem",
        ("GET", "mount-targets", "security-groups") => "DescribeMountTargetSecurityGroups",
        ("GET", "mount-targets", _) => "DescribeMountTargets",
        ("POST", "mount-targets", _) => "CreateMountTarget",
        ("GET", "access-points", _) => "DescribeAccessPoints",
        ("POST", "access-points", _) => "CreateAccessPoint",
        _ => "Unknown",
    }
}

fn state(at: Instant) -> &'static str {
    if is_over(at) { "available" } else { "creating" }
}

impl Region {
    pub(super) fn storage(&mut self, operation: &str, ask: &Ask) -> Answer {
        match operation {
            "DescribeFileSystems" => {
                let (token, id) = (ask.query("CreationToken"), ask.query("FileSystemId"));
                let id = self.tokens.get(token).map_or(id, String::as_str);
                let found = self.file_systems.get(id).map(|it| it.described(id));
                Answer::json(&json!({"FileSystems": found.into_iter().collect::<Vec<_>>()}))
            }
            "CreateFileSystem" => {
                let id = self.id("fs");
                let it = FileSystem {
                    token: ask.text("CreationToken").to_owned(),
                    mode: ask.text("ThroughputMode").to_owned(),
                    tags: ask.body["Tags"].clone(),
                    available_at: Instant::now() + self.waits.file_system,
                    mount_targets: Vec::new(),
                    access_points: Vec::new(),
                };
                self.tokens.insert(it.token.clone(), id.clone());
                let answer = it.described(&id);
                self.file_systems.insert(id, it);
                Answer::json(&answer)
            }
            "DescribeMountTargetSecurityGroups" => {
                let all = self.file_systems.values().flat_map(|fs| &fs.mount_targets);
                // The id ends with that of its file system, so that nothing is searched.
                let fs = ask.resource.split_once('.').map_or("", |(_, fs)| fs);
                let mine = self.file_systems.get(fs).map(|fs| fs.mount_targets.iter());
                let found = match mine {
                    Some(mut mine) => mine.find(|it| it.id == ask.resource),
                    None => all.into_iter().find(|it| it.id == ask.resource),
                };
                match found {
                    Some(it) => Answer::json(&json!({"SecurityGroups": it.groups})),
                    None => Answer::refusal(404, "MountTargetNotFound", "no such mount target"),
                }
            }
            "DescribeMountTargets" => {
                let id = ask.query("FileSystemId");
                let Some(fs) = self.file_systems.get(id) else { return unknown() };
                let all: Vec<Value> = fs.mount_targets.iter().map(|it| it.described(id)).collect();
                Answer::json(&json!({"MountTargets": all}))
            }
            "CreateMountTarget" => {
                let fs = ask.text("FileSystemId").to_owned();
                let it = MountTarget {
                    id: format!("{}.{fs}", self.id("fsmt")),
                    subnet: ask.text("SubnetId").to_owned(),
                    groups: ask.body["SecurityGroups"].clone(),
                    available_at: Instant::now() + self.waits.mount_target,
                };
                let Some(found) = self.file_systems.get_mut(&fs) else { return unknown() };
                let answer = it.described(&fs);
                found.mount_targets.push(it);
                Answer::json(&answer)
            }
            "DescribeAccessPoints" => {
                let Some(fs) = self.file_systems.get(ask.query("FileSystemId")) else { return unknown() };
                Answer::json(&json!({"AccessPoints": fs.access_points}))
            }
            "CreateAccessPoint" => {
                let id = self.id("fsap");
                let fs = ask.text("FileSystemId");
                let it = json!({
                    "ClientToken": ask.body["ClientToken"],
                    "AccessPointId": id,
                    "AccessPointArn": format!("arn:aws:elasticfilesystem:eu-west-1:111122223333:access-point/{id}"),
                    "FileSystemId": fs,
                    "PosixUser": ask.body["PosixUser"],
                    "RootDirectory": ask.body["RootDirectory"],
                    "Tags": ask.body["Tags"],
                    "OwnerId": "111122223333",
                    "LifeCycleState": "available",
                });
                let Some(found) = self.file_systems.get_mut(fs) else { return unknown() };
                found.access_points.push(it.clone());
                Answer::json(&it)
            }
            _ => Answer::refusal(400, "BadRequest", &ask.operation),
        }
    }
}

fn unknown() -> Answer {
    Answer::refusal(404, "FileSystemNotFound", "no such file system")
}

impl FileSystem {
    fn described(&self, id: &str) -> Value {
        json!({
            "OwnerId": "111122223333",
            "CreationToken": self.token,
            "FileSystemId": id,
            "CreationTime": 1_700_000_000,
            "LifeCycleState": state(self.available_at),
            "NumberOfMountTargets": self.mount_targets.len(),
            "SizeInBytes": {"Value": 6144},
            "PerformanceMode": "generalPurpose",
            "ThroughputMode": self.mode,
            "Encrypted": true,
            "Tags": self.tags,
        })
    }
}

impl MountTarget {
    fn described(&self, file_system: &str) -> Value {
        json!({
            "OwnerId": "111122223333",
            "MountTargetId": self.id,
            "FileSystemId": file_system,
            "SubnetId": self.subnet,
            "LifeCycleState": state(self.available_at),
            "AvailabilityZoneName": super::others::zone(&self.subnet),
        })
    }
}
