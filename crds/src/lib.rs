//! Larder's API types.
//!
//! - [`spec`]: what a user writes.
//! - [`status`]: what they see.
//! - [`crd_json`]: the CustomResourceDefinition, generated; `larder crd` prints it and
//!   `crds/inferenceendpoints.larder.dev.yaml` is its committed copy.
//!
//! The doc comments of the types are the CRD's documentation (`kubectl explain iep.spec`).
//! Deliberately absent: fields that the controller does not honour yet.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct inside a function, where pub reaches nobody"
)]

pub mod spec;
pub mod status;

pub use spec::{InferenceEndpoint, InferenceEndpointSpec};
pub use status::InferenceEndpointStatus;

/// The finalizer that keeps an object until nothing of it is left in AWS.
pub const FINALIZER: &str = "larder.dev/aws-resources";

/// Any new value of this annotation asks for a pass now, with a fresh look at the sources.
pub const RECONCILE_AT: &str = "larder.dev/reconcile-at";

/// This annotation of a Namespace names the roles that its endpoints may use, where the controller asks for it: ARNs, or
/// patterns in which `*` stands for any characters, with commas between them.
pub const ALLOWED_ROLES: &str = "larder.dev/allowed-roles";

/// What [`ALLOWED_ROLES`] calls the controller's own role, which is that of endpoints that name none.
pub const CONTROLLERS_OWN_ROLE: &str = "controller";
/// `true` holds a rollout where it is.
pub const ROLLOUT_PAUSED: &str = "larder.dev/rollout-paused";

/// The number of a version that takes all requests as soon as it is warm, without the rest of its rollout.
pub const PROMOTE: &str = "larder.dev/promote";

/// The numbers of versions that take no requests, separated by commas: the newest other one serves.
pub const REJECTED_VERSIONS: &str = "larder.dev/rejected-versions";

/// A time, RFC 3339. A rollout that was taken back before it is begun again.
pub const RETRY_AT: &str = "larder.dev/retry-at";

/// The id of a managed file system that is gone: the controller may make an empty one in its place.
pub const RECREATE_FILE_SYSTEM: &str = "larder.dev/recreate-file-system";

/// The owner tag of what was made elsewhere and is taken over, with or without its UID.
pub const ADOPT_FROM: &str = "larder.dev/adopt-from";

/// The API group.
pub const GROUP: &str = "larder.dev";

/// The CustomResourceDefinition as JSON.
///
/// # Errors
/// Never in practice; `serde_json`'s error is passed on.
pub fn crd_json() -> Result<serde_json::Value, serde_json::Error> {
    use kube::CustomResourceExt;
    let mut crd = serde_json::to_value(InferenceEndpoint::crd())?;
    strip_unknown_formats(&mut crd);
    Ok(crd)
}

/// Takes out `format: uint*`, which the API server warns about at every apply.
fn strip_unknown_formats(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            if map.get("format").and_then(|f| f.as_str()).is_some_and(|f| f.starts_with("uint")) {
                map.remove("format");
            }
            map.values_mut().for_each(strip_unknown_formats);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip_unknown_formats),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}
