//! `GET /openapi.json`: what the routes take and give, as `OpenAPI` 3.1, from the types that they use.
//!
//! [`Operation`] says it for one route, beside its handler in [`routes`](crate::routes); the document is
//! put together when it is asked for, not before.

mod operation;

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use operation::Operation;
use operation::{Content, Shape};

use crate::error;

/// The document of some operations.
#[must_use]
pub fn document(operations: &[Operation]) -> Value {
    let settings =
        || SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut given = settings().for_deserialize().into_generator();
    let mut answered = settings().for_serialize().into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let described = described(operation, &mut given, &mut answered);
        paths.entry(&operation.path).or_default().insert(operation.method.to_owned(), described);
    }
    let mut schemas = given.take_definitions(true);
    schemas.extend(answered.take_definitions(true));
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Larder inference",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The models of one endpoint, in the protocols that clients have.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        // Where this document is: a stage or a base path may come before it.
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn described(operation: &Operation, given: &mut SchemaGenerator, answered: &mut SchemaGenerator) -> Value {
    let mut described = Map::new();
    described.insert("summary".to_owned(), json!(operation.summary));
    described.insert("operationId".to_owned(), json!(operation.id()));
    let mut parameters: Vec<Value> = operation
        .path_parameters()
        .map(|name| {
            json!({
                "name": name, "in": "path", "required": true, "schema": {"type": "string"}
            })
        })
        .collect();
    if let Some(query) = operation.query {
        parameters.extend(query_parameters(&query(given)));
    }
    parameters.extend(operation.headers.iter().map(|(name, what)| {
        json!({"name": name.as_str(), "in": "header", "description": what, "schema": {"type": "integer", "minimum": 0}})
    }));
    if !parameters.is_empty() {
        described.insert("parameters".to_owned(), json!(parameters));
    }
    if !operation.takes.is_empty() {
        let content = contents(&operation.takes, given);
        described
            .insert("requestBody".to_owned(), json!({"required": operation.needs_body, "content": content}));
    }
    let ok = json!({"description": "The answer", "content": contents(&operation.gives, answered)});
    let refusal = operation.refusal.unwrap_or(SchemaGenerator::subschema_for::<error::Body<'_>>);
    let refusal = |description: &str, generator: &mut SchemaGenerator| json!({"description": description, "content": {"application/json": {"schema": refusal(generator)}}});
    let responses = json!({
        "200": ok,
        "4XX": refusal("Refused: what is wrong with the request, and the remedy", answered),
        "5XX": refusal("Failed, busy (with Retry-After) or too slow", answered),
    });
    described.insert("responses".to_owned(), responses);
    Value::Object(described)
}

/// Bodies by their media type: of one that has several shapes, any.
fn contents(contents: &[Content], generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut by_media: BTreeMap<&str, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for content in contents {
        let (schemas, examples) = by_media.entry(content.media).or_default();
        if let Shape::Json(schema) = content.shape {
            schemas.push(schema(generator).to_value());
        }
        examples
            .extend(content.example.map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text))));
    }
    let described = |(media, (mut schemas, examples)): (&str, (Vec<Value>, Vec<Value>))| {
        let mut described = Map::new();
        let schema = if schemas.len() > 1 { Some(json!({"anyOf": schemas})) } else { schemas.pop() };
        described.extend(schema.map(|schema| ("schema".to_owned(), schema)));
        let example = |(nth, value): (usize, Value)| (format!("{}", nth + 1), json!({"value": value}));
        let examples: Map<String, Value> = examples.into_iter().enumerate().map(example).collect();
        if !examples.is_empty() {
            described.insert("examples".to_owned(), Value::Object(examples));
        }
        (media.to_owned(), Value::Object(described))
    };
    by_media.into_iter().map(described).collect()
}

/// The fields of a query's type, one parameter each.
fn query_parameters(schema: &schemars::Schema) -> Vec<Value> {
    let Some(Value::Object(properties)) = schema.get("properties") else { return Vec::new() };
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|s| s.remove("description"));
        json!({"name": name, "in": "query", "description": description.unwrap_or_default(), "schema": schema})
    };
    properties.iter().map(parameter).collect()
}
