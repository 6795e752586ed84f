//! The names that an endpoint's AWS resources bear: deterministic, so that a crash at any point finds
//! again what it made, and unlike any other endpoint's, so that nothing foreign is ever hit.

use std::fmt;

use larder_contract::Digest;

/// The tag that says whose a resource is.
pub const OWNER_TAG: &str = "larder.dev/owner";

/// The alias that clients reach the inference function by.
pub const ALIAS: &str = "live";

/// Which object an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster's id, from the controller's flags.
    pub cluster: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's UID: a deleted and re-created object is another one.
    pub uid: String,
}

impl Identity {
    /// Which object it is, whoever made it and how often: what a folder of models is for.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}/{}", self.cluster, self.namespace, self.name)
    }
}

/// The value of [`OWNER_TAG`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub String);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of everything that an endpoint owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The value of the owner tag.
    pub owner: Owner,
    /// The inference function: at most 64 characters (`CreateFunction`).
    pub function: String,
    /// The model-sync function.
    pub sync_function: String,
    /// The file system's `CreationToken` and `Name` tag: at most 64 characters (`CreateFileSystem`).
    pub file_system: String,
    /// The access point's `ClientToken`: at most 64 characters (`CreateAccessPoint`).
    pub access_point: String,
    /// The rule that sends S3's events to the queue: at most 64 characters (`PutRule`).
    pub event_rule: String,
    /// The queue of S3's events, one for all endpoints of a cluster in an account and region.
    pub event_queue: String,
    /// The value of the owner tag of what a cluster's endpoints share.
    pub cluster: Owner,
}

impl Names {
    /// The names of the resources of `identity`.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let Identity { cluster, namespace, name, uid } = identity;
        let owner = format!("{cluster}/{namespace}/{name}/{uid}");
        let digest = Digest::of(owner.as_bytes()).hex();
        // 64 in all: "larder-", the readable part, "-", 10 of the digest, "-sync".
        let readable: String = format!("{namespace}-{name}").replace('.', "-").chars().take(41).collect();
        let base = format!("larder-{}-{}", readable.trim_end_matches('-'), &digest[..10]);
        Self {
            owner: Owner(owner),
            sync_function: format!("{base}-sync"),
            file_system: base.clone(),
            access_point: format!("{base}-ap"),
            event_rule: base.clone(),
            event_queue: format!("larder-events-{}", &Digest::of(cluster.as_bytes()).hex()[..10]),
            cluster: Owner(cluster.clone()),
            function: base,
        }
    }

    /// The log group that Lambda writes a function's logs to.
    #[must_use]
    pub fn log_group(function: &str) -> String {
        format!("/aws/lambda/{function}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_fit_aws_and_differ_between_objects(
            namespace in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?",
            name in "[a-z]([-a-z0-9.]{0,61}[a-z0-9])?",
            uid in "[0-9a-f]{8}", other in "[0-9a-f]{8}",
        ) {
            let identity = |uid: &str| Identity {
                cluster: "c".into(), namespace: namespace.clone(), name: name.clone(), uid: uid.into(),
            };
            let names = Names::of(&identity(&uid));
            for text in [
                &names.function, &names.sync_function, &names.file_system, &names.access_point,
                &names.event_rule, &names.event_queue,
            ] {
                prop_assert!(text.len() <= 64, "{text}");
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{text}");
            }
            prop_assert_eq!(&names, &Names::of(&identity(&uid)));
            if uid != other {
                prop_assert_ne!(names.function, Names::of(&identity(&other)).function);
            }
        }
    }
}
