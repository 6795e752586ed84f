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

/// `CreateAccessPoint` takes folders of up to 100 characters.
#[test]
fn a_folder_is_named_after_the_object_for_as_long_as_it_fits() {
    let folder = |length: usize| {
        let mut object = object();
        object.metadata.namespace = Some("n".repeat(40));
        object.metadata.name = Some("o".repeat(length - "/larder//".len() - 40));
        let endpoint = Endpoint::parse(&object, &defaults()).unwrap();
        (endpoint.access_point.path, endpoint.names.function)
    };
    for length in [99, 100] {
        let (path, _) = folder(length);
        assert!(path.starts_with("/larder/nnn") && path.len() == length, "{path}");
    }
    let (path, function) = folder(101);
    assert_eq!(path, format!("/larder/{function}"));
}

#[test]
fn what_would_be_called_otherwise_than_before_is_refused() {
    let parse = |name: &str| {
        let mut object = object();
        let status = json!({"function": {"name": name}});
        object.status = Some(serde_json::from_value(status).unwrap());
        Endpoint::parse(&object, &defaults())
    };
    let name = Endpoint::parse(&object(), &defaults()).unwrap().names.function;
    assert!(parse(&name).is_ok());
    let refused = parse("larder-of-another-cluster").unwrap_err();
    assert_eq!(
        (refused.field.as_str(), refused.value.as_str()),
        ("status.function.name", "larder-of-another-cluster")
    );
    assert!(refused.remedy.contains("--cluster-id") && refused.remedy.contains(&name), "{refused}");
}

#[test]
fn models_are_pinned_or_looked_for_again() {
    let is_pinned = |policy: &str| {
        let mut object = object();
        object.spec.refresh.policy = serde_json::from_value(json!(policy)).unwrap();
        Endpoint::parse(&object, &defaults()).unwrap().pinned
    };
    assert!(is_pinned("Pinned") && !is_pinned("OnChange"));
}

#[test]
fn a_predecessor_is_another_object_of_this_cluster() {
    let of = |owner: Option<&str>| {
        let mut object = object();
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.extend(owner.map(|owner| (larder_crds::ADOPT_FROM.to_owned(), owner.to_owned())));
        let endpoint = Endpoint::parse(&object, &defaults()).unwrap();
        endpoint.predecessor().map(ToString::to_string)
    };
    assert_eq!(of(Some("test/vision/old/uid")).as_deref(), Some("test/vision/old"));
    assert_eq!(of(Some("test/vision/signs/uid")), None, "an earlier object of the same name");
    assert_eq!(of(Some("other/vision/signs/uid")), None, "in another cluster");
    assert_eq!(of(None), None);
}
