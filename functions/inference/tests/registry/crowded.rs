//! Models that are all to be preloaded, and do not fit.

use serde_json::json;

use crate::program::{Server, models};

/// What the sandbox keeps for everything but models.
const RESERVE_MIB: u64 = 96;

#[test]
fn what_fits_is_preloaded_and_the_rest_comes_when_it_is_wanted() {
    let root = tempfile::tempdir().unwrap();
    // Twice 24 MiB and six of 24: of the first, real networks, each takes less.
    let models = models(root.path(), 9);
    let (first, crowded) = (&models[5], &models[6..]);
    for (name, _) in &models[..5] {
        std::fs::remove_dir_all(root.path().join("models").join(name)).unwrap();
    }
    // Each is thought to take 47 MiB: there is room for two, and one of them is kept for the others.
    let server = Server::start(&root.path().join("models"), RESERVE_MIB + 100, &[]);
    let states = || {
        let (_, listed) = server.send("POST", "/v2/repository/index", "{}");
        let entries = listed.as_array().unwrap().clone();
        entries.into_iter().map(|e| (e["name"].clone(), e["state"].clone(), e["reason"].clone()))
    };
    for (name, state, reason) in states() {
        let preloaded = name == json!(first.0);
        assert_eq!(state, if preloaded { "READY" } else { "UNAVAILABLE" }, "{name}");
        assert_eq!(reason.as_str().unwrap().starts_with("not preloaded"), !preloaded, "{name}: {reason}");
    }
    for (name, reference) in crowded.iter().chain([first]).chain(crowded) {
        server.ask(name, reference).unwrap();
    }
    assert!(states().any(|(name, state, _)| name == json!(first.0) && state == "READY"), "it stays");
    let log = server.running.killed();
    assert_eq!(log.matches("a model is not preloaded").count(), crowded.len(), "{log}");
}
