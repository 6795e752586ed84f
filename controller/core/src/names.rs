//! The names that an endpoint's AWS resources bear: deterministic, so that a crash at any point finds
//! again what it made, and unlike any other endpoint's, so that nothing foreign is ever hit.

use std::fmt;

use larder_contract::Digest;

/// The tag that says whose a resource is.
pub const OWNER_TAG: &str = "larder.dev/owner";

/// The alias that clients reach the inference function by.
pub const ALIAS: &str = "live";

/// What the names of the queues of S3's events begin with.
pub const EVENT_QUEUES: &str = "larder-events-";

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
    /// Where it is, whoever made it and how often.
    #[must_use]
    pub fn place(&self) -> Place {
        let Self { cluster, namespace, name, .. } = self.clone();
        Place { cluster, namespace, name }
    }
}

/// Where an object is, or was. Names come from it, and what lies on a file system is labelled with it: an object that
/// is made again from Git finds what it had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The cluster's id.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Place {
    /// Reads `<cluster>/<namespace>/<name>`, with or without a UID behind it, as owner tags have it.
    #[must_use]
    pub fn parse(owner: &str) -> Option<Self> {
        let parts: Vec<&str> = owner.split('/').collect();
        let [cluster, namespace, name] = match parts.as_slice() {
            [cluster, namespace, name] | [cluster, namespace, name, _] => [*cluster, *namespace, *name],
            _ => return None,
        };
        let is_whole = parts.iter().all(|part| !part.is_empty());
        is_whole.then(|| Self { cluster: cluster.into(), namespace: namespace.into(), name: name.into() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.name)
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
    /// What the names come from: where the object is, or where what it takes over comes from.
    pub place: Place,
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
    /// The queue of S3's events, one for all endpoints of a controller in an account and region.
    pub event_queue: String,
    /// The value of the owner tag of what a cluster's endpoints share.
    pub cluster: Owner,
}

impl Names {
    /// The names of the resources of `identity`, which has taken over what was made at `place`, or makes its own there.
    #[must_use]
    pub fn of(identity: &Identity, place: &Place) -> Self {
        let owner = format!("{}/{}", identity.place(), identity.uid);
        let cluster = &identity.cluster;
        let Place { namespace, name, .. } = place;
        let digest = Digest::of(place.to_string().as_bytes()).hex();
        // 64 in all: "larder-", the readable part, "-", 10 of the digest, "-sync".
        let readable: String = format!("{namespace}-{name}").replace('.', "-").chars().take(41).collect();
        let base = format!("larder-{}-{}", readable.trim_end_matches('-'), &digest[..10]);
        Self {
            owner: Owner(owner),
            place: place.clone(),
            sync_function: format!("{base}-sync"),
            file_system: base.clone(),
            access_point: format!("{base}-ap"),
            event_rule: base.clone(),
            event_queue: event_queue(cluster, None),
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

/// The queue of S3's events of the controller that works on `scope` of a cluster; on all of it when none. Whoever reads a
/// message takes it off, so controllers that work on different endpoints have different queues.
#[must_use]
pub fn event_queue(cluster: &str, scope: Option<&str>) -> String {
    let whose = scope.map_or_else(|| cluster.to_owned(), |scope| format!("{cluster} {scope}"));
    format!("{EVENT_QUEUES}{}", &Digest::of(whose.as_bytes()).hex()[..10])
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
            cluster in "[0-9a-f]{8}", other in "[0-9a-f]{8}", uid in "[0-9a-f]{8}",
        ) {
            let identity = |cluster: &str, uid: &str| Identity {
                cluster: cluster.into(), namespace: namespace.clone(), name: name.clone(), uid: uid.into(),
            };
            let of = |identity: &Identity| Names::of(identity, &identity.place());
            let names = of(&identity(&cluster, &uid));
            for text in [
                &names.function, &names.sync_function, &names.file_system, &names.access_point,
                &names.event_rule, &names.event_queue,
            ] {
                prop_assert!(text.len() <= 64, "{text}");
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{text}");
            }
            let again = of(&identity(&cluster, &other));
            prop_assert_eq!(&names.function, &again.function);
            prop_assert_eq!(names.owner == again.owner, uid == other);
            prop_assert_eq!(Place::parse(&names.owner.to_string()), Some(names.place.clone()));
            if cluster != other {
                let elsewhere = identity(&other, &uid);
                prop_assert_ne!(&names.function, &of(&elsewhere).function);
                prop_assert_eq!(&names.function, &Names::of(&elsewhere, &names.place).function);
            }
        }
    }

    #[test]
    fn each_scope_of_a_cluster_has_a_queue_of_its_own() {
        let queues = [
            event_queue("c", None),
            event_queue("c", Some("a")),
            event_queue("c", Some("b")),
            event_queue("d", None),
            event_queue("d", Some("a")),
        ];
        assert_eq!(queues.iter().collect::<std::collections::BTreeSet<_>>().len(), queues.len());
        assert!(queues.iter().all(|it| it.starts_with(EVENT_QUEUES) && it.len() <= 80), "{queues:?}");
    }

    #[test]
    fn places_are_read() {
        for text in ["", "c/n", "c/n/", "/n/o", "c/n/o/u/x", "c//o/u"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
