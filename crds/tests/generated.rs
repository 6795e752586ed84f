//! The committed CRD is the generated one. `make crd` writes it again.

use std::path::Path;

#[test]
fn the_committed_crd_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("inferenceendpoints.larder.dev.yaml");
    let generated = serde_yaml::to_string(&larder_crds::crd_json().unwrap()).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{} is not what crds/src says: run make crd", path.display());
}
