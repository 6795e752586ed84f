//! The list of deliberate breakages fits the sources: each applies, and names a test that is there. That the tests
//! catch them is shown by `make mutations`.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::collections::BTreeSet;
use std::path::Path;

use larder_tests::mutations::{list, mutated};

/// Where the tests of a program are, from the root of the repository.
fn path_of(program: &str, test: &str) -> String {
    let module = || test.rsplit_once("::tests::").unwrap().0.replace("::", "/");
    match program {
        "larder" => format!("controller/src/{}.rs", module()),
        "larder_core" => format!("controller/core/src/{}.rs", module()),
        "larder_contract" => format!("functions/contract/src/{}.rs", module()),
        "larder_model_sync" => format!("functions/model-sync/src/{}.rs", module()),
        "hostile" | "wire" | "keys" | "sharing" => format!("functions/model-sync/tests/{program}.rs"),
        "properties" => "controller/core/tests/properties.rs".to_owned(),
        program => format!("tests/tests/{program}.rs"),
    }
}

#[test]
fn every_breakage_applies_and_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mutations = list(root).unwrap();
    mutated(root, &mutations).unwrap();
    for mutation in &mutations {
        let (program, test) = mutation.test().unwrap();
        let path = path_of(program, test);
        let source = std::fs::read_to_string(root.join(&path)).unwrap();
        let name = test.rsplit("::").next().unwrap();
        assert!(source.contains(&format!("fn {name}(")), "{path} has no test {name}");
    }
    let rules: BTreeSet<&str> = mutations.iter().map(|it| it.rule.as_str()).collect();
    assert_eq!(rules.len(), mutations.len(), "each rule is written once");
}
