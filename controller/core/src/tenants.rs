//! Which namespace may use which role. It is the platform team's to say, on the Namespace, where those who write
//! endpoints cannot change it. And whose resources are whose: what a living endpoint has made is taken over by none.

use std::fmt;

use larder_crds::{ADOPT_FROM, ALLOWED_ROLES, CONTROLLERS_OWN_ROLE};

use crate::endpoint::Endpoint;
use crate::names::Place;

/// What an endpoint may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolePolicy {
    /// Any role that AWS lets the controller assume or pass on.
    Any,
    /// The roles that the annotation [`ALLOWED_ROLES`] of its Namespace names.
    Annotated,
}

/// A role that an endpoint may not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleNotAllowed {
    /// The field that names it.
    pub field: &'static str,
    /// Its ARN, or [`CONTROLLERS_OWN_ROLE`].
    pub role: String,
    /// The endpoint's namespace.
    pub namespace: String,
    /// What the annotation says; none when it is not there.
    pub allowed: Option<String>,
}

impl fmt::Display for RoleNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, role, namespace, allowed } = self;
        if role == CONTROLLERS_OWN_ROLE {
            write!(
                f,
                "{field} is not set, and namespace {namespace} may not use the controller's own role: "
            )?;
            write!(
                f,
                "name a role, or add {CONTROLLERS_OWN_ROLE} to annotation {ALLOWED_ROLES} of the namespace"
            )?;
        } else {
            write!(f, "namespace {namespace} may not use {role} ({field}): ")?;
            write!(f, "name another role, or add this one to annotation {ALLOWED_ROLES} of the namespace")?;
        }
        match allowed {
            Some(allowed) => write!(f, ", which is now {allowed:?}"),
            None => f.write_str(", which is not there"),
        }
    }
}

/// An endpoint whose resources another one asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillOwned {
    /// Where it is.
    pub place: Place,
    /// The object is there; else the API server does not let it be looked for.
    pub is_seen: bool,
}

impl fmt::Display for StillOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { namespace, name, .. } = &self.place;
        write!(f, "annotation {ADOPT_FROM} names InferenceEndpoint {namespace}/{name}, ")?;
        if self.is_seen {
            f.write_str("which is there, so what it has made in AWS is its own: ")?;
            f.write_str("to hand it over, set spec.deletionPolicy: Retain there and delete that object, ")?;
            f.write_str("which leaves all of it in AWS as it is; or delete this one, and nothing is changed")
        } else {
            write!(
                f,
                "which this controller may not look for: allow it to list inferenceendpoints in namespace {namespace}"
            )
        }
    }
}

/// Looks whether `allowed`, the value of the annotation on the endpoint's Namespace, lets it use its roles: the one
/// that is assumed, and the one that its functions run as.
///
/// # Errors
/// The first role that it may not use.
pub fn check(policy: RolePolicy, endpoint: &Endpoint, allowed: Option<&str>) -> Result<(), RoleNotAllowed> {
    if policy == RolePolicy::Any {
        return Ok(());
    }
    let assumed = endpoint.place.role_arn.as_deref().unwrap_or(CONTROLLERS_OWN_ROLE);
    let roles = [("spec.aws.roleArn", assumed), ("spec.function.roleArn", &endpoint.function.role_arn)];
    for (field, role) in roles {
        let mut patterns = allowed.unwrap_or_default().split([',', '\n']).map(str::trim);
        if !patterns.any(|pattern| matches(pattern, role)) {
            return Err(RoleNotAllowed {
                field,
                role: role.to_owned(),
                namespace: endpoint.identity.namespace.clone(),
                allowed: allowed.map(|text| text.chars().take(500).collect()),
            });
        }
    }
    Ok(())
}

/// Whether `pattern` stands for `text`: `*` for any characters, everything else for itself. The controller's own
/// role is only ever meant by its word.
fn matches(pattern: &str, text: &str) -> bool {
    if text == CONTROLLERS_OWN_ROLE {
        return pattern == text;
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_all_else_for_itself() {
        let role = "arn:aws:iam::111122223333:role/teams/vision-serving";
        for (pattern, is_match) in [
            (role, true),
            ("arn:aws:iam::111122223333:role/*", true),
            ("arn:aws:iam::*:role/*/vision-*", true),
            ("*", true),
            ("*serving", true),
            ("arn:*", true),
            ("**", true),
            ("", false),
            ("arn:aws:iam::111122223333:role/teams/vision", false),
            ("rn:aws:iam::111122223333:role/teams/vision-serving", false),
            ("arn:aws:iam::444455556666:role/*", false),
            ("arn:aws:iam::111122223333:role/*-training", false),
            ("arn:aws:iam::1?1122223333:role/*", false),
            ("*vision*vision*", false),
            ("*serving*serving", false),
            ("arn:aws:iam::111122223333:role/teams/vision-serving*serving", false),
        ] {
            assert_eq!(matches(pattern, role), is_match, "{pattern}");
        }
        assert!(matches("controller", CONTROLLERS_OWN_ROLE));
        assert!(!matches("*", CONTROLLERS_OWN_ROLE) && !matches("c*", CONTROLLERS_OWN_ROLE));
    }
}
