//! Models that are corrupt or ill-meant.

use serde_json::json;

use crate::common::write_models;
use crate::program::Server;

#[test]
fn a_hostile_model_fails_alone() {
    let root = tempfile::tempdir().unwrap();
    let cases = write_models(&["hostile".as_ref(), root.path().as_ref()]);
    let server = Server::start(&root.path().join("models"), 1769, &[]);
    let works = || {
        let tensor = json!({"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]});
        let (status, answer) =
            server.send("POST", "/v2/models/good/infer", &json!({"inputs": [tensor]}).to_string());
        assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([2.0, 3.0, 4.0, 5.0])), "{answer}");
    };
    works();
    let (_, listed) = server.send("GET", "/models", "");
    let models = listed.as_array().unwrap();
    assert_eq!(cases.lines().count() + 1, models.len());
    assert!(models.len() > 25, "{models:?}");
    for case in cases.lines() {
        let listed = models.iter().find(|m| m["name"] == case).unwrap();
        assert_eq!(listed["state"], "failed", "{case}");
        // The backoff is over or not: the id of the log's line is told either way, and nothing else.
        let (status, answer) = server.send("GET", &format!("/v2/models/{case}"), "");
        let error = answer["error"].as_str().unwrap();
        assert!([500, 503].contains(&status) && error.contains("under id"), "{case}: {status} {error}");
        assert!(!error.contains(root.path().to_str().unwrap()), "{case}: {error}");
        works();
    }
}
