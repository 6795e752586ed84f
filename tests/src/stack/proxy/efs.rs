//! EFS as AWS does it.
//!
//! The emulator makes everything `available` at once, removes it at once, and takes a repeated token for
//! success (file systems) or for a new wish (access points). AWS needs time, and refuses a token that it
//! has seen with 409 and the id of what the token made.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Timings;
use super::fault::error;
use super::operation::{percent_decode, query_value};
use super::upstream::{Scope, Upstream};
use crate::stack::http::{self, Body, BoxError};
use crate::stack::locked;

/// What EFS calls one kind of its resources.
struct Kind {
    path: &'static str,
    list: &'static str,
    id: &'static str,
    /// The names of page size, page token asked for, and page token given.
    page: (&'static str, &'static str, &'static str),
    missing: &'static str,
}

const FILE_SYSTEM: Kind = Kind {
    path: "file-systems",
    list: "FileSystems",
    id: "FileSystemId",
    page: ("MaxItems", "Marker", "NextMarker"),
    missing: "FileSystemNotFound",
};
const MOUNT_TARGET: Kind = Kind {
    path: "mount-targets",
    list: "MountTargets",
    id: "MountTargetId",
    page: ("MaxItems", "Marker", "NextMarker"),
    missing: "MountTargetNotFound",
};
const ACCESS_POINT: Kind = Kind {
    path: "access-points",
    list: "AccessPoints",
    id: "AccessPointId",
    page: ("MaxResults", "NextToken", "NextToken"),
    missing: "AccessPointNotFound",
};

/// The page size that AWS takes when none is asked for.
const PAGE: usize = 100;

/// A deleted resource that is still seen.
#[derive(Debug, Clone)]
struct Leaving {
    list: &'static str,
    record: Value,
    until: Instant,
}

#[derive(Debug, Default)]
struct State {
    available_at: HashMap<String, Instant>,
    leaving: HashMap<String, Leaving>,
}

/// What the proxy knows of EFS beyond the emulator.
#[derive(Debug)]
pub(super) struct Efs {
    timings: Timings,
    state: Mutex<State>,
    /// Looking for a token and using it must be one act.
    tokens: tokio::sync::Mutex<()>,
}

impl Efs {
    pub(super) fn new(timings: Timings) -> Self {
        Self { timings, state: Mutex::default(), tokens: tokio::sync::Mutex::default() }
    }

    pub(super) async fn perform(
        &self,
        upstream: &Upstream,
        operation: &str,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Body>, BoxError> {
        match operation {
            "CreateFileSystem" => self.create(upstream, &FILE_SYSTEM, parts, body).await,
            "CreateMountTarget" => self.create(upstream, &MOUNT_TARGET, parts, body).await,
            "CreateAccessPoint" => self.create(upstream, &ACCESS_POINT, parts, body).await,
            "DescribeFileSystems" => self.describe(upstream, &FILE_SYSTEM, parts).await,
            "DescribeMountTargets" => self.describe(upstream, &MOUNT_TARGET, parts).await,
            "DescribeAccessPoints" => self.describe(upstream, &ACCESS_POINT, parts).await,
            "DeleteFileSystem" => self.delete(upstream, &FILE_SYSTEM, parts, body).await,
            "DeleteMountTarget" => self.delete(upstream, &MOUNT_TARGET, parts, body).await,
            "DeleteAccessPoint" => self.delete(upstream, &ACCESS_POINT, parts, body).await,
            _ => Ok(upstream.forward(parts, http::whole(body)).await?.map(http::streamed)),
        }
    }

    async fn create(
        &self,
        upstream: &Upstream,
        kind: &Kind,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Body>, BoxError> {
        let wish: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let file_system = wish["FileSystemId"].as_str().unwrap_or_default();
        if self.is_creating(file_system) || self.is_leaving(file_system) {
            let message = format!("File system '{file_system}' is not in the available state.");
            return Ok(error("efs", 409, "IncorrectFileSystemLifeCycleState", &message, &[]));
        }
        let _one_at_a_time = self.tokens.lock().await;
        if kind.id == ACCESS_POINT.id {
            let (_, found) = upstream
                .ask(&Scope::of(parts), Method::GET, "/2015-02-01/access-points?MaxResults=100000", None)
                .await?;
            let same = records(&found, kind).iter().find(|point| point["ClientToken"] == wish["ClientToken"]);
            if let Some(id) = same.and_then(|point| point[kind.id].as_str()) {
                let message = format!("Access point already exists: {id}");
                return Ok(error("efs", 409, "AccessPointAlreadyExists", &message, &[(kind.id, id)]));
            }
        }
        let response = upstream.forward(parts, http::whole(body)).await?;
        let (status, mut record) = read(response).await?;
        let id = record[kind.id].as_str().unwrap_or_default().to_owned();
        // The emulator says 201 for a new file system and 200 for one that the token had made before.
        if kind.id == FILE_SYSTEM.id && status == StatusCode::OK {
            let message =
                format!("File system '{id}' already exists with creation token {}", wish["CreationToken"]);
            return Ok(error("efs", 409, "FileSystemAlreadyExists", &message, &[(kind.id, &id)]));
        }
        if status.is_success() {
            locked(&self.state).available_at.insert(id, Instant::now() + self.timings.efs_creating);
            self.age(kind, &mut record);
        }
        Ok(http_answer(status, &record))
    }

    async fn describe(
        &self,
        upstream: &Upstream,
        kind: &Kind,
        parts: &Parts,
    ) -> Result<Response<Body>, BoxError> {
        let query = percent_decode(parts.uri.query().unwrap_or_default());
        let filters: Vec<(&str, &str)> = ["FileSystemId", "MountTargetId", "AccessPointId", "CreationToken"]
            .into_iter()
            .filter_map(|name| Some((name, query_value(&query, name)?.rsplit('/').next()?)))
            .collect();
        let (size, asked, given) = kind.page;
        // All of them: pages are cut here, since the emulator cuts without saying that more follow.
        let mut target = format!("/2015-02-01/{}?{size}=100000", kind.path);
        for (name, value) in &filters {
            target.extend(["&", name, "=", value]);
        }
        let (status, mut answer) = upstream.ask(&Scope::of(parts), Method::GET, &target, None).await?;
        let leaving = self.leaving(kind, &filters);
        if !status.is_success() && leaving.is_empty() {
            return Ok(http_error(status, &answer, kind));
        }
        let mut found = answer[kind.list].as_array_mut().map(std::mem::take).unwrap_or_default();
        for record in &mut found {
            self.age(kind, record);
        }
        found.extend(leaving);
        let start: usize = query_value(&query, asked).and_then(|marker| marker.parse().ok()).unwrap_or(0);
        let count: usize =
            query_value(&query, size).and_then(|count| count.parse().ok()).unwrap_or(PAGE).max(1);
        let more = found.len() > start + count;
        let page: Vec<Value> = found.into_iter().skip(start).take(count).collect();
        let mut answer = json!({kind.list: page});
        if more {
            answer[given] = json!((start + count).to_string());
        }
        Ok(http::json(StatusCode::OK, &answer))
    }

    async fn delete(
        &self,
        upstream: &Upstream,
        kind: &Kind,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Body>, BoxError> {
        let id = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        if kind.id == FILE_SYSTEM.id && !self.leaving(&MOUNT_TARGET, &[("FileSystemId", &id)]).is_empty() {
            let message = format!("File system '{id}' has mount targets and cannot be deleted.");
            return Ok(error("efs", 409, "FileSystemInUse", &message, &[]));
        }
        let target = format!("/2015-02-01/{}?{}={id}", kind.path, kind.id);
        let (_, seen) = upstream.ask(&Scope::of(parts), Method::GET, &target, None).await?;
        let response = upstream.forward(parts, http::whole(body)).await?;
        if response.status().is_success()
            && let Some(mut record) = records(&seen, kind).first().cloned()
        {
            record["LifeCycleState"] = json!("deleting");
            let until = Instant::now() + self.timings.efs_deleting;
            let mut state = locked(&self.state);
            state.available_at.remove(&id);
            state.leaving.insert(id, Leaving { list: kind.list, record, until });
        }
        Ok(response.map(http::streamed))
    }

    /// Makes a record as old as it is: `creating` at first, and with the mount targets that still leave.
    fn age(&self, kind: &Kind, record: &mut Value) {
        let id = record[kind.id].as_str().unwrap_or_default().to_owned();
        if self.is_creating(&id) {
            record["LifeCycleState"] = json!("creating");
        }
        if kind.id == FILE_SYSTEM.id {
            let leaving = self.leaving(&MOUNT_TARGET, &[("FileSystemId", &id)]).len() as u64;
            let count = record["NumberOfMountTargets"].as_u64().unwrap_or(0);
            record["NumberOfMountTargets"] = json!(count + leaving);
        }
    }

    fn is_creating(&self, id: &str) -> bool {
        locked(&self.state).available_at.get(id).is_some_and(|at| Instant::now() < *at)
    }

    fn is_leaving(&self, id: &str) -> bool {
        locked(&self.state).leaving.get(id).is_some_and(|leaving| Instant::now() < leaving.until)
    }

    fn leaving(&self, kind: &Kind, filters: &[(&str, &str)]) -> Vec<Value> {
        let mut state = locked(&self.state);
        let now = Instant::now();
        state.leaving.retain(|_, leaving| now < leaving.until);
        state
            .leaving
            .values()
            .filter(|leaving| leaving.list == kind.list)
            .filter(|leaving| filters.iter().all(|(name, value)| leaving.record[*name] == **value))
            .map(|leaving| leaving.record.clone())
            .collect()
    }
}

fn records<'a>(answer: &'a Value, kind: &Kind) -> &'a [Value] {
    answer[kind.list].as_array().map_or(&[], Vec::as_slice)
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<(StatusCode, Value), BoxError> {
    let status = response.status();
    let body = http::collect(response.into_body()).await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// What the emulator said, again; an error gets back the header that names it.
fn http_answer(status: StatusCode, answer: &Value) -> Response<Body> {
    match answer["ErrorCode"].as_str() {
        Some(code) => {
            error("efs", status.as_u16(), code, answer["Message"].as_str().unwrap_or_default(), &[])
        }
        None => http::json(status, answer),
    }
}

fn http_error(status: StatusCode, answer: &Value, kind: &Kind) -> Response<Body> {
    let code = answer["ErrorCode"].as_str().unwrap_or(kind.missing);
    error("efs", status.as_u16(), code, answer["Message"].as_str().unwrap_or_default(), &[])
}
