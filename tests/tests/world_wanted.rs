//! What an endpoint's object comes to, before anything of AWS is seen.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeMap;

use larder_contract::layout;
use larder_core::desired::{EventsWant, FunctionWant, Want};
use larder_core::{Defaults, Desired, Endpoint};
use larder_crds::InferenceEndpoint;
use larder_tests::world::example::{BUCKET, defaults, object};
use serde_json::{Value, json};

fn wanted(object: &InferenceEndpoint, defaults: &Defaults) -> Desired {
    Desired::of(&Endpoint::parse(object, defaults).unwrap())
}

fn sync(desired: &Desired) -> &FunctionWant {
    match &desired.sync {
        Want::Present(it) => it,
        Want::Absent | Want::Leave => panic!("no model-sync function is wanted"),
    }
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_model_sync_function_is_told_whose_it_is_and_which_sources_it_may_ask() {
    let plain = wanted(&object(), &defaults());
    assert_eq!(sync(&plain).env, env(&[(layout::ENV_OWNER, "test/vision/signs")]));
    let hosts = vec!["models.example.com".to_owned(), "hub.example.com:8443".to_owned()];
    let told = Defaults { source_hosts: hosts, source_ca: Some("a certificate".to_owned()), ..defaults() };
    assert_eq!(
        sync(&wanted(&object(), &told)).env,
        env(&[
            (layout::ENV_OWNER, "test/vision/signs"),
            (layout::ENV_SOURCE_CA, "a certificate"),
            (layout::ENV_SOURCE_HOSTS, "models.example.com,hub.example.com:8443"),
        ])
    );
}

/// An endpoint with a model at each of these prefixes.
fn with_events(prefixes: &[String]) -> EventsWant {
    let mut object = object();
    let models: Vec<Value> = prefixes
        .iter()
        .enumerate()
        .map(|(i, prefix)| {
            let source = json!({"s3": {"bucket": BUCKET, "prefix": prefix, "events": "EventBridge"}});
            json!({"name": format!("m{i}"), "task": "tensor", "source": source})
        })
        .collect();
    object.spec.models = serde_json::from_value(Value::Array(models)).unwrap();
    match wanted(&object, &defaults()).events {
        Want::Present(it) => it,
        Want::Absent | Want::Leave => panic!("no events are wanted"),
    }
}

/// `PutRule` takes patterns of up to 4,096 characters.
#[test]
fn a_rule_names_the_prefixes_for_as_long_as_they_fit() {
    // Of the first, all that is left to 4,096 characters.
    let prefixes = |first: usize| {
        let others = (0..10).map(|i| format!("{i}{}/", "a".repeat(300)));
        std::iter::once(format!("x{}/", "b".repeat(first))).chain(others).collect::<Vec<_>>()
    };
    let short = with_events(&prefixes(0)).pattern;
    let rest = 4096 - short.len();
    let fits = with_events(&prefixes(rest)).pattern;
    assert_eq!(fits.len(), 4096);
    assert_eq!(
        serde_json::from_str::<Value>(&fits).unwrap()["detail"]["object"]["key"].as_array().unwrap().len(),
        11
    );
    let longer = with_events(&prefixes(rest + 1)).pattern;
    assert_eq!(
        serde_json::from_str::<Value>(&longer).unwrap()["detail"],
        json!({"bucket": {"name": [BUCKET]}}),
        "events of the whole bucket"
    );
}
