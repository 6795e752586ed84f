//! What AWS in memory holds, and how it is asked.
//!
//! - `lambda`, `storage` (EFS), `others` (EC2, ECR, S3, STS, logs): the operations.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Uri;
use serde_json::{Value, json};

#[path = "lambda.rs"]
mod lambda;
#[path = "others.rs"]
mod others;
#[path = "storage.rs"]
mod storage;

/// How long AWS takes for things.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waits {
    pub(crate) file_system: Duration,
    pub(crate) mount_target: Duration,
    pub(crate) function: Duration,
    pub(crate) version: Duration,
    pub(crate) provisioned: Duration,
    pub(crate) copy: Duration,
}

impl Waits {
    /// About what the references and the trackers of others tell.
    pub(crate) const fn as_in_aws() -> Self {
        let s = Duration::from_secs;
        Self {
            file_system: s(5),
            mount_target: s(80),
            function: s(8),
            version: s(4),
            provisioned: s(60),
            copy: s(10),
        }
    }
}

/// A call, recognised.
#[derive(Debug)]
pub(crate) struct Ask {
    /// `service.Operation`
    pub(crate) operation: String,
    /// The function, file system or group that it is about, where the path tells.
    pub(crate) resource: String,
    query: HashMap<String, String>,
    body: Value,
}

impl Ask {
    pub(crate) fn new(service: &str, method: &str, uri: &Uri, target: &str, body: &Bytes) -> Self {
        let path: Vec<String> = uri.path().split('/').skip(2).map(decoded).collect();
        let mut query = pairs(uri.query().unwrap_or_default());
        let text = std::str::from_utf8(body).unwrap_or_default();
        if matches!(service, "ec2" | "sts") {
            query.extend(pairs(text));
        }
        let part = |nth: usize| path.get(nth).map_or("", String::as_str);
        let name = match service {
            "lambda" => lambda::operation(method, part(2)),
            "elasticfilesystem" => storage::operation(method, part(0), part(2)),
            "s3" => "ListObjectsV2",
            "ec2" | "sts" => query.get("Action").map_or("", String::as_str),
            _ => target.rsplit('.').next().unwrap_or_default(),
        };
        let operation = format!("{service}.{name}");
        Self {
            resource: part(1).to_owned(),
            operation,
            body: serde_json::from_str(text).unwrap_or_default(),
            query,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        let name = self.operation.split('.').nth(1).unwrap_or_default();
        !["Get", "List", "Describe", "Invoke"].iter().any(|read| name.starts_with(read))
    }

    fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

fn pairs(text: &str) -> HashMap<String, String> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v))).collect()
}

fn decoded(text: &str) -> String {
    larder_contract::key::url_decoded(text).unwrap_or_else(|| text.to_owned())
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) error: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    fn json(body: &Value) -> Self {
        Self { status: 200, error: "", content_type: "application/json", body: body.to_string() }
    }

    fn xml(body: String) -> Self {
        Self { status: 200, error: "", content_type: "text/xml", body }
    }

    pub(crate) fn refusal(status: u16, error: &'static str, message: &str) -> Self {
        let body = json!({"message": message, "Message": message, "__type": error}).to_string();
        Self { status, error, content_type: "application/json", body }
    }
}

/// What one account holds in one region.
#[derive(Debug, Default)]
pub(crate) struct Region {
    pub(crate) waits: Waits,
    pub(crate) functions: BTreeMap<String, lambda::Function>,
    file_systems: HashMap<String, storage::FileSystem>,
    /// The ids of file systems, by their tokens.
    tokens: HashMap<String, String>,
    /// Tags and retention, by name.
    log_groups: BTreeMap<String, (Value, Option<i64>)>,
    serial: u64,
}

impl Region {
    pub(crate) fn new(waits: Waits) -> Self {
        Self { waits, ..Self::default() }
    }

    pub(crate) fn answer(&mut self, ask: &Ask) -> Answer {
        match ask.operation.split_once('.') {
            Some(("lambda", operation)) => self.lambda(operation, ask),
            Some(("elasticfilesystem", operation)) => self.storage(operation, ask),
            Some((_, operation)) => self.others(operation, ask),
            None => Answer::refusal(400, "UnknownOperationException", &ask.operation),
        }
    }

    fn id(&mut self, kind: &str) -> String {
        self.serial += 1;
        format!("{kind}-{:017x}", self.serial)
    }
}

fn is_over(at: Instant) -> bool {
    Instant::now() >= at
}
