//! The list of deliberate breakages fits the sources: each applies, and names a test that is there. That the tests
//! catch them is shown by `make mutations`.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

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

/// What the formatter says of a source that is none; it looks at nothing but its input.
fn syntax_error(source: &str) -> Option<String> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    rustfmt.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = rustfmt.wait_with_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_breakage_applies_and_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mutations = list(root).unwrap();
    for (file, source) in mutated(root, &mutations).unwrap() {
        assert_eq!(syntax_error(&source), None, "{file} with its breakages");
    }
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
