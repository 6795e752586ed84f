//! The endpoint that the suites begin with, and a world that has what it names.

use larder_core::Defaults;
use larder_core::endpoint::{CodeRef, ImageRef, ImageReference};
use larder_core::plan::spread::WORKER_RATE;
use larder_crds::InferenceEndpoint;
use serde_json::json;

use super::World;

/// A subnet in the first zone.
pub const SUBNET_A: &str = "subnet-0000000a";
/// A subnet in the second zone.
pub const SUBNET_B: &str = "subnet-0000000b";
/// The execution role.
pub const ROLE: &str = "arn:aws:iam::111122223333:role/larder";
/// The registry of the images.
pub const REGISTRY: &str = "111122223333.dkr.ecr.eu-west-1.amazonaws.com";
/// The bucket of the models.
pub const BUCKET: &str = "acme-models";
/// A file system that was brought along.
pub const BROUGHT: &str = "fs-0123456789abcdef0";

/// A digest for tests: the letter's.
#[must_use]
pub fn digest(of: &str) -> String {
    larder_contract::Digest::of(of.as_bytes()).to_string()
}

/// An image's URI.
#[must_use]
pub fn image(repository: &str, tag: &str) -> String {
    format!("{REGISTRY}/{repository}:{tag}")
}

/// What the controller's flags say.
#[must_use]
pub fn defaults() -> Defaults {
    Defaults {
        source_hosts: Vec::new(),
        source_ca: None,
        sync_bytes_per_second: WORKER_RATE,
        cluster: "test".to_owned(),
        scope: None,
        region: Some("eu-west-1".to_owned()),
        sync_code: CodeRef::Image(ImageRef {
            account: "111122223333".to_owned(),
            region: "eu-west-1".to_owned(),
            registry: REGISTRY.to_owned(),
            repository: "larder-model-sync".to_owned(),
            reference: ImageReference::Tag("1".to_owned()),
        }),
    }
}

/// An endpoint that uses most of what there is.
///
/// # Panics
/// Never: it is a valid object.
#[must_use]
#[expect(clippy::expect_used, reason = "the object is written here, and every test would show it wrong")]
pub fn object() -> InferenceEndpoint {
    serde_json::from_value(json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": "signs", "namespace": "vision", "uid": "uid-1", "generation": 1},
        "spec": {
            "models": [{"name": "ocr", "task": "ocr", "source": {"s3": {"bucket": BUCKET, "prefix": "ocr/"}}}],
            "storage": {"efs": {"managed": {}}},
            "network": {"subnetIds": [SUBNET_A, SUBNET_B], "securityGroupIds": ["sg-0000000a"]},
            "function": {"image": image("larder-inference", "1"), "roleArn": ROLE},
            "capacity": {"provisioned": 2, "reserved": 10},
            "expose": {"functionUrl": {"authType": "AWS_IAM"}},
        },
    }))
    .expect("the example is a valid InferenceEndpoint")
}

/// A world with the images and models that [`object`] names, and something to bring along.
#[must_use]
pub fn world() -> World {
    let world = World::new();
    world.push_image("larder-inference:1", &digest("inference 1"));
    world.push_image("larder-inference:2", &digest("inference 2"));
    world.push_image("larder-model-sync:1", &digest("sync 1"));
    world.put_object(BUCKET, "ocr/det.onnx", 40 << 20, "det-1");
    world.put_object(BUCKET, "ocr/rec.onnx", 20 << 20, "rec-1");
    world.put_object(BUCKET, "extra/model.onnx", 5 << 20, "extra-1");
    world.bring_file_system(BROUGHT);
    world
}
