//! The id of a request is in its answer and in every line of the log that belongs to it, whatever it was and
//! however it came.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::lambda::{self, Invoked, http, model};
use common::program::{exchanged, server};
use larder_contract::{Digest, Manifest};
use serde_json::{Value, json};

const JSON: &str = "content-type: application/json\r\n";

/// Folders of models: texts, vectors, pictures as tensors, a run without an end, and what cannot be loaded.
fn write_models(parent: &Path, name_of: impl Fn(&str) -> String) {
    for (name, export) in [("texts", "sentiment-distilbert"), ("vectors", "sentences-xlmr")] {
        let files: Vec<_> =
            std::fs::read_dir(common::export(export)).unwrap().map(|e| e.unwrap().path()).collect();
        common::folder_of(parent, &name_of(name), &files);
    }
    common::folder_of(parent, &name_of("net"), &common::models("v6")[..1]);
    let looped = common::folder_of(parent, &name_of("loop"), &[]).join("model.onnx");
    let writer = common::model_writer();
    common::run_python(&[
        writer.as_ref(),
        "loop".as_ref(),
        looped.as_ref(),
        "--width".as_ref(),
        "64".as_ref(),
    ]);
    let broken = common::folder_of(parent, &name_of("broken"), &[]);
    std::fs::write(broken.join("model.onnx"), "not a model").unwrap();
}

/// A run of more than a day.
fn endless() -> Value {
    let x = json!({"name": "x", "shape": [64, 64], "datatype": "FP32", "data": vec![0.5; 64 * 64]});
    json!({"inputs": [{"name": "n", "shape": [], "datatype": "INT64", "data": [1_u64 << 40]}, x]})
}

/// What the graph alone can refuse.
fn odd() -> Value {
    let data = vec![0; 3 * 33 * 32];
    json!({"inputs": [{"name": "x", "shape": [1, 3, 33, 32], "datatype": "FP32", "data": data}]})
}

/// The lines of a log: each is JSON, ONNX Runtime's too.
fn lines(log: &str) -> Vec<Value> {
    let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    log.lines().map(parsed).collect()
}

/// The id that a line has: its own, or its request's.
fn id(line: &Value) -> Option<&str> {
    line["fields"]["id"].as_str().or_else(|| line["span"]["id"].as_str())
}

fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or("")
}

/// Which requests have lines that say this.
fn who_said<'a>(lines: &'a [Value], part: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| message(line).contains(part)).filter_map(id).collect()
}

#[test]
fn over_http() {
    let models = tempfile::tempdir().unwrap();
    write_models(models.path(), str::to_owned);
    let running = server(models.path(), &["--lazy", "--request-timeout", "3"], &[]);
    let address = running.address();
    let text = json!({"inputs": "a fine day"}).to_string();
    let requests = [
        ("good", "POST", "/models/texts", text.clone(), 200),
        ("unknown-model", "POST", "/models/none", text.clone(), 404),
        ("bad-body", "POST", "/models/texts", "{\"inputs\": ".to_owned(), 400),
        ("too-large", "POST", "/models/texts", " ".repeat(6 * 1024 * 1024 + 1), 413),
        ("no-route", "GET", "/nowhere", String::new(), 404),
        ("ended", "POST", "/v2/models/loop/infer", endless().to_string(), 504),
        ("odd", "POST", "/v2/models/net/infer", odd().to_string(), 500),
        ("no-load", "POST", "/v2/models/broken/infer", odd().to_string(), 500),
        ("no-load-yet", "POST", "/v2/models/broken/infer", odd().to_string(), 503),
        ("no-load-by-hand", "POST", "/v2/repository/models/broken/load", String::new(), 500),
        ("unload", "POST", "/v2/repository/models/texts/unload", String::new(), 200),
        ("again", "POST", "/models/texts", text, 200),
    ];
    for (id, method, path, body, status) in &requests {
        let head = format!("{JSON}x-request-id: {id}\r\n");
        let (found, head, body) = exchanged(&address, method, path, &head, body.as_bytes());
        let body = String::from_utf8_lossy(&body);
        assert_eq!(found, *status, "{id}: {body}");
        assert!(head.lines().any(|line| line == format!("x-request-id: {id}")), "{id}: {head}");
        if found == 500 {
            assert!(body.contains(&format!("under id {id}")), "{id}: {body}");
        }
    }
    // The run that was ended says so once it has.
    running.found(|line| message(line).contains("a run was ended").then_some(()));
    let (_, log) = running.terminated();
    let lines = lines(&log);
    let of_requests = lines
        .iter()
        .skip_while(|line| !message(line).contains("listening"))
        .skip(1)
        .filter(|line| !message(line).starts_with("stopping"));
    for line in of_requests {
        let id = id(line).unwrap_or_else(|| panic!("no id: {line}"));
        assert!(requests.iter().any(|request| request.0 == id), "{id:?} is nobody's: {line}");
    }
    // What concerns the repository alone is no news, as probes are not.
    for (id, .., status) in requests.iter().filter(|request| request.0 != "unload") {
        let said = lines.iter().find(|line| message(line) == "answered" && self::id(line) == Some(id));
        let found = said.and_then(|line| line["fields"]["status"].as_u64());
        assert_eq!(found, Some(u64::from(*status)), "{id}: {log}");
    }
    assert_eq!(who_said(&lines, "a run was ended"), ["ended"]);
    assert_eq!(who_said(&lines, "model loaded"), ["good", "ended", "odd", "again"]);
    assert_eq!(who_said(&lines, "models unloaded"), ["unload"]);
    assert_eq!(who_said(&lines, "model cannot be loaded"), ["no-load", "no-load-by-hand"]);
    assert_eq!(who_said(&lines, "request failed"), ["odd", "no-load", "no-load-by-hand"]);
    let native: Vec<_> = lines.iter().filter(|line| line["target"] == "onnxruntime").filter_map(id).collect();
    assert!(native.contains(&"odd"), "{log}");
}

#[tokio::test]
async fn in_lambda() {
    let root = tempfile::tempdir().unwrap();
    write_models(&root.path().join("revisions"), |name| Digest::of(name.as_bytes()).hex());
    let manifest =
        Manifest::new(["broken", "loop", "net", "texts", "vectors"].map(|name| model(name, false)).into());
    // One vector for each token: more than an answer may hold, though the request is small.
    let many = json!({"inputs": vec!["harbour ".repeat(30); 1500], "parameters": {"pooling": "None"}});
    let many_plain = json!({"model": "vectors", "inputs": many["inputs"], "parameters": many["parameters"]});
    let url = |method: &str, path: &str, body: &str| {
        json!({
            "version": "2.0", "rawPath": path, "rawQueryString": "", "body": body,
            "headers": {"content-type": "application/json"}, "isBase64Encoded": false,
            "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"}
        })
    };
    let mut no_base64 = url("POST", "/models/texts", "%");
    no_base64["isBase64Encoded"] = json!(true);
    let message = |id: &str, body: &str| json!({"messageId": id, "body": body, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:1:q"});
    let text = json!({"model": "texts", "inputs": "a fine day"});
    let batch =
        json!({"Records": [message("m1", &text.to_string()), message("m2", "{"), message("m3", "{}")]});
    let mut late = endless();
    late["model"] = json!("loop");
    let events = [
        ("good", text.clone(), 200),
        ("good-url", url("POST", "/models/texts", &text.to_string()), 200),
        ("unknown-model", json!({"model": "none", "inputs": "a"}), 404),
        ("bad-body", json!({"model": "texts", "inputs": 3}), 400),
        ("no-load", json!({"model": "broken", "inputs": []}), 500),
        ("ended", late, 504),
        ("large", many_plain, 413),
        ("large-url", url("POST", "/models/vectors", &many.to_string()), 413),
        ("no-event", json!({"greeting": "hello"}), 400),
        ("no-base64", no_base64, 400),
        ("no-op", json!({"op": "repair"}), 400),
        ("op", json!({"op": "prepare"}), 200),
        ("batch", batch, 200),
        ("no-batch", json!({"Records": [{"eventSource": "aws:s3"}]}), 400),
    ];
    let invoked = events.iter().map(|(id, event, _)| Invoked {
        id: (*id).to_owned(),
        event: event.clone(),
        time: Duration::from_secs(if *id == "ended" { 2 } else { 100 }),
    });
    let played = lambda::play(root.path(), &manifest, invoked.collect(), &[]).await;

    for ((id, _, status), outcome) in events.iter().zip(&played.outcomes) {
        match outcome {
            Err(error) => assert_eq!(*id, "no-batch", "{error}"),
            Ok(reply) if reply["statusCode"].is_u64() => {
                let (found, headers, body) = http(outcome);
                assert_eq!(found, *status, "{id}: {body}");
                assert_eq!(headers["x-request-id"], *id, "{id}: {headers}");
                assert_eq!(headers["x-larder-version"], "7", "{id}: {headers}");
                assert!(headers["traceparent"].is_string(), "{id}: {headers}");
            }
            Ok(reply) if *status == 200 => assert!(reply["error"].is_null(), "{id}: {reply}"),
            Ok(reply) => {
                assert_eq!((&reply["status"], &reply["requestId"]), (&json!(status), &json!(id)), "{reply}");
            }
        }
    }

    let lines = lines(&played.stderr);
    for line in lines.iter().filter(|line| !self::message(line).starts_with("ONNX Runtime is ready")) {
        let id = id(line).unwrap_or_else(|| panic!("no id: {line}"));
        let of_message = id.strip_prefix("batch/").is_some_and(|id| ["m1", "m2", "m3"].contains(&id));
        assert!(of_message || events.iter().any(|event| event.0 == id), "{id:?} is nobody's: {line}");
    }
    assert_eq!(who_said(&lines, "a run was ended"), ["ended"]);
    assert_eq!(who_said(&lines, "model cannot be loaded"), ["no-load"]);
    assert!(who_said(&lines, "model prepared").contains(&"op"), "{}", played.stderr);

    // What the log and the metrics say of a request is what it was answered.
    let mut counted: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut loads: BTreeMap<(String, bool), String> = BTreeMap::new();
    for line in played.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let id = line["RequestId"].as_str().unwrap_or_else(|| panic!("no id: {line}")).to_owned();
        if line["Loads"].is_null() {
            counted.entry(id).or_default().push(line["Status"].as_u64().unwrap());
        } else {
            let model = line["Model"].as_str().unwrap().to_owned();
            let before = loads.insert((model, line["Loads"] == 1), id);
            assert_eq!(before, None, "{line}");
        }
    }
    let loaded = |model: &str, whole, id: &str| ((model.to_owned(), whole), id.to_owned());
    let expected = [
        loaded("broken", false, "no-load"),
        loaded("loop", true, "ended"),
        loaded("texts", true, "good"),
        loaded("vectors", true, "large"),
    ];
    assert_eq!(loads, BTreeMap::from(expected));
    let messages = [("batch/m1", 200), ("batch/m2", 400), ("batch/m3", 400)];
    let requests = events.iter().map(|(id, _, status)| (*id, *status));
    // They are no requests to a model: a batch's messages are.
    let requests = requests.filter(|(id, _)| !["op", "batch"].contains(id)).chain(messages);
    for (id, status) in requests {
        assert_eq!(counted.remove(id), Some(vec![status]), "{id}: {}", played.stdout);
        let said = lines.iter().find(|line| self::message(line) == "answered" && self::id(line) == Some(id));
        let found = said.and_then(|line| line["fields"]["status"].as_u64());
        assert_eq!(found, Some(status), "{id}: {}", played.stderr);
    }
    assert!(counted.is_empty(), "{counted:?}");
}
