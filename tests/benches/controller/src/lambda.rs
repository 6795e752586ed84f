//! Lambda, and the model-sync function as it answers:
//! <https://docs.aws.amazon.com/lambda/latest/api/API_Operations.html>

use std::collections::BTreeMap;
use std::time::Instant;

use larder_contract::Digest;
use larder_contract::sync::{ModelReport, ModelState, SyncEvent, SyncReport, SyncRequest};
use larder_contract::upkeep::{Inventory, NamedRevision, StoredManifest, StoredRevision};
use serde_json::{Value, json};

use super::{Answer, Ask, Region, Waits, is_over};

#[derive(Debug)]
pub(crate) struct Function {
    /// `FunctionConfiguration` of `$LATEST`.
    config: Value,
    image: String,
    tags: Value,
    reserved: Option<i64>,
    revision: u64,
    alias_revision: u64,
    ready_at: Instant,
    versions: BTreeMap<u64, (Value, Instant)>,
    provisioned: BTreeMap<u64, (i64, Instant)>,
    alias: Option<Value>,
    url: Option<Value>,
    statements: Vec<Value>,
    copied: Option<(SyncRequest, Instant)>,
}

pub(super) fn operation(method: &str, what: &str) -> &'static str {
    match (method, what) {
        ("POST", "") => "CreateFunction",
        ("GET", "") => "GetFunction",
        ("PUT", "configuration") => "UpdateFunctionConfiguration",
        ("POST", "invocations") => "Invoke",
        ("POST", "versions") => "PublishVersion",
        ("GET", "versions") => "ListVersionsByFunction",
        ("DELETE", "") => "DeleteFunction",
        ("POST", "aliases") => "CreateAlias",
        ("GET", "aliases") => "GetAlias",
        ("PUT", "aliases") => "UpdateAlias",
        ("GET", "policy") => "GetPolicy",
        ("POST", "policy") => "AddPermission",
        ("PUT", "concurrency") => "PutFunctionConcurrency",
        ("GET", "provisioned-concurrency") => "GetProvisionedConcurrencyConfig",
        ("PUT", "provisioned-concurrency") => "PutProvisionedConcurrencyConfig",
        ("DELETE", "provisioned-concurrency") => "DeleteProvisionedConcurrencyConfig",
        ("GET", "url") => "GetFunctionUrlConfig",
        ("POST", "url") => "CreateFunctionUrlConfig",
        _ => "Unknown",
    }
}

fn missing() -> Answer {
    Answer::refusal(404, "ResourceNotFoundException", "not there")
}

impl Region {
    pub(super) fn lambda(&mut self, operation: &str, ask: &Ask) -> Answer {
        if operation == "CreateFunction" {
            let function = Function::new(&ask.body, self.waits);
            let answer = function.latest();
            self.functions.insert(ask.text("FunctionName").to_owned(), function);
            return Answer::json(&answer);
        }
        let waits = self.waits;
        let Some(function) = self.functions.get_mut(&ask.resource) else { return missing() };
        if operation == "DeleteFunction" && ask.query("Qualifier").is_empty() {
            self.functions.remove(&ask.resource);
            return Answer::json(&json!({}));
        }
        function.answer(operation, ask, waits).unwrap_or_else(missing)
    }
}

impl Function {
    fn new(body: &Value, waits: Waits) -> Self {
        let image = body["Code"]["ImageUri"].as_str().unwrap_or_default().to_owned();
        let name = body["FunctionName"].as_str().unwrap_or_default();
        let mut config = body.clone();
        if let Some(config) = config.as_object_mut() {
            config.remove("Code");
            config.remove("Tags");
        }
        config["FunctionArn"] = json!(format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}"));
        let digest = image.split_once("@sha256:").map_or("", |(_, hex)| hex);
        config["CodeSha256"] = json!(digest);
        config["LastModified"] = json!("2026-01-01T00:00:00.000+0000");
        Self {
            config,
            image,
            tags: body["Tags"].clone(),
            reserved: None,
            revision: 1,
            alias_revision: 0,
            ready_at: Instant::now() + waits.function,
            versions: BTreeMap::new(),
            provisioned: BTreeMap::new(),
            alias: None,
            url: None,
            statements: Vec::new(),
            copied: None,
        }
    }

    pub(crate) fn spoil_alias(&mut self) {
        if let Some(alias) = &mut self.alias {
            alias["FunctionVersion"] = json!("$LATEST");
        }
    }

    fn latest(&self) -> Value {
        let is_ready = is_over(self.ready_at);
        let mut config = self.config.clone();
        config["State"] = json!(if is_ready { "Active" } else { "Pending" });
        config["LastUpdateStatus"] = json!(if is_ready { "Successful" } else { "InProgress" });
        config["RevisionId"] = json!(format!("{}-{}", self.revision, u8::from(is_ready)));
        config["Version"] = json!("$LATEST");
        config
    }

    fn version(&self, number: u64) -> Option<Value> {
        let (config, ready_at) = self.versions.get(&number)?;
        let mut config = config.clone();
        config["State"] = json!(if is_over(*ready_at) { "Active" } else { "Pending" });
        Some(config)
    }

    fn answer(&mut self, operation: &str, ask: &Ask, waits: Waits) -> Option<Answer> {
        let qualifier = ask.query("Qualifier");
        let number = qualifier.parse::<u64>().unwrap_or_default();
        let answer = match operation {
            "GetFunction" => self.get(qualifier)?,
            "UpdateFunctionConfiguration" => {
                for (key, value) in ask.body.as_object()? {
                    self.config[key] = value.clone();
                }
                self.revision += 1;
                self.ready_at = Instant::now() + waits.version;
                self.latest()
            }
            "Invoke" => return Some(self.invoke(ask, waits)),
            "PublishVersion" => self.publish(waits),
            "ListVersionsByFunction" => {
                let published = self.versions.keys().filter_map(|number| self.version(*number));
                json!({"Versions": std::iter::once(self.latest()).chain(published).collect::<Vec<_>>()})
            }
            "DeleteFunction" => {
                self.versions.remove(&number);
                json!({})
            }
            "PutFunctionConcurrency" => {
                self.reserved = ask.body["ReservedConcurrentExecutions"].as_i64();
                ask.body.clone()
            }
            "GetProvisionedConcurrencyConfig" => self.provisioned(number)?,
            "PutProvisionedConcurrencyConfig" => {
                let count = ask.body["ProvisionedConcurrentExecutions"].as_i64()?;
                self.provisioned.insert(number, (count, Instant::now() + waits.provisioned));
                self.provisioned(number)?
            }
            "DeleteProvisionedConcurrencyConfig" => {
                self.provisioned.remove(&number);
                json!({})
            }
            "GetAlias" => self.alias.clone()?,
            "CreateAlias" | "UpdateAlias" => {
                self.alias_revision += 1;
                self.alias = Some(json!({
                    "Name": "live",
                    "FunctionVersion": ask.body["FunctionVersion"],
                    "RevisionId": format!("alias-{}", self.alias_revision),
                }));
                self.alias.clone()?
            }
            "GetFunctionUrlConfig" => self.url.clone()?,
            "CreateFunctionUrlConfig" => {
                self.url = Some(json!({
                    "FunctionUrl": format!("https://{}.lambda-url.eu-west-1.on.aws/", ask.resource),
                    "FunctionArn": self.config["FunctionArn"],
                    "AuthType": ask.body["AuthType"],
                    "CreationTime": "2026-01-01T00:00:00Z",
                    "LastModifiedTime": "2026-01-01T00:00:00Z",
                }));
                self.url.clone()?
            }
            "AddPermission" => {
                let condition = match ask.body["FunctionUrlAuthType"].as_str() {
                    Some(auth) => json!({"StringEquals": {"lambda:FunctionUrlAuthType": auth}}),
                    None => json!({"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
                };
                self.statements.push(json!({
                    "Sid": ask.body["StatementId"],
                    "Effect": "Allow",
                    "Action": ask.body["Action"],
                    "Principal": {"AWS": ask.body["Principal"]},
                    "Condition": condition,
                }));
                json!({"Statement": "{}"})
            }
            "GetPolicy" if self.statements.is_empty() => return None,
            "GetPolicy" => json!({"Policy": json!({"Statement": self.statements}).to_string()}),
            _ => return Some(Answer::refusal(400, "UnknownOperationException", operation)),
        };
        Some(Answer::json(&answer))
    }

    fn get(&self, qualifier: &str) -> Option<Value> {
        let config = match qualifier {
            "" => self.latest(),
            "live" => match self.alias.as_ref()?["FunctionVersion"].as_str()?.parse() {
                Ok(number) => self.version(number)?,
                Err(_) => self.latest(),
            },
            number => self.version(number.parse().ok()?)?,
        };
        let mut answer = json!({
            "Configuration": config,
            "Code": {"ImageUri": self.image, "ResolvedImageUri": self.image, "RepositoryType": "ECR"},
            "Tags": self.tags,
        });
        if let Some(reserved) = self.reserved {
            answer["Concurrency"] = json!({"ReservedConcurrentExecutions": reserved});
        }
        Some(answer)
    }

    fn publish(&mut self, waits: Waits) -> Value {
        let number = self.versions.keys().next_back().copied().unwrap_or_default() + 1;
        let mut config = self.latest();
        config["Version"] = json!(number.to_string());
        self.versions.insert(number, (config.clone(), Instant::now() + waits.version));
        self.revision += 1;
        config
    }

    fn provisioned(&self, number: u64) -> Option<Value> {
        let (count, ready_at) = self.provisioned.get(&number)?;
        let is_ready = is_over(*ready_at);
        Some(json!({
            "RequestedProvisionedConcurrentExecutions": count,
            "AvailableProvisionedConcurrentExecutions": if is_ready { *count } else { 0 },
            "Status": if is_ready { "READY" } else { "IN_PROGRESS" },
        }))
    }

    /// What the model-sync function answers.
    fn invoke(&mut self, ask: &Ask, waits: Waits) -> Answer {
        let Ok(event) = serde_json::from_value::<SyncEvent>(ask.body.clone()) else {
            return Answer::refusal(400, "InvalidRequestContentException", "no event of model-sync");
        };
        let is_there = self.copied.as_ref().is_some_and(|(_, done_at)| is_over(*done_at));
        Answer::json(&match event {
            SyncEvent::Copy(request) => {
                self.copied = Some((request, Instant::now() + waits.copy));
                json!({})
            }
            SyncEvent::Status(request) => json!(self.report(&request, is_there)),
            SyncEvent::Inventory | SyncEvent::Collect(_) => json!(self.inventory(is_there)),
            SyncEvent::Verify(_) => json!({}),
        })
    }

    fn report(&self, request: &SyncRequest, is_there: bool) -> SyncReport {
        let (state, done) = match &self.copied {
            None => (ModelState::Pending, 0),
            Some(_) if is_there => (ModelState::Ready, 1_000_000),
            Some(_) => (ModelState::Syncing, 500_000),
        };
        let model = |model: &larder_contract::ManifestModel| ModelReport {
            model: model.name.clone(),
            revision: model.revision,
            state,
            bytes_done: done,
            bytes_total: 1_000_000,
            files_done: u64::from(is_there),
            files: 1,
            message: String::new(),
            bytes_per_second: None,
            remaining_seconds: None,
            workers: Vec::new(),
        };
        SyncReport {
            inventory: Some(self.inventory(is_there)),
            models: request.manifest.models.iter().map(model).collect(),
            manifest_present: is_there,
            running: self.copied.is_some() && !is_there,
        }
    }

    fn inventory(&self, is_there: bool) -> Inventory {
        let now = jiff::Timestamp::now().as_second().unsigned_abs();
        let Some((request, _)) = self.copied.as_ref().filter(|_| is_there) else {
            return Inventory { now, ..Inventory::default() };
        };
        let models = &request.manifest.models;
        let revision = |revision: Digest| StoredRevision {
            revision,
            is_complete: true,
            bytes: 1_000_000,
            copied: now,
            marked: None,
            verified: None,
            is_verifying: false,
        };
        Inventory {
            now,
            revisions: models.iter().map(|it| revision(it.revision)).collect(),
            manifests: vec![StoredManifest {
                manifest: request.manifest.digest(),
                models: models
                    .iter()
                    .map(|it| NamedRevision { model: it.name.clone(), revision: it.revision })
                    .collect(),
                marked: None,
            }],
            used_bytes: 1_000_000,
            ..Inventory::default()
        }
    }
}
