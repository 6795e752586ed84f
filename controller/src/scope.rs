//! Which endpoints a process works on.

use std::collections::BTreeSet;

use kube::Api;
use larder_contract::Digest;
use larder_crds::InferenceEndpoint;

use crate::lease;

/// The endpoints that a process sees. Processes with other scopes have other Leases, and share the work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// In these namespaces; in all when there are none.
    pub namespaces: BTreeSet<String>,
    /// With labels that this selects.
    pub selector: Option<String>,
}

impl Scope {
    /// It in words; none when it is everything.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let Self { namespaces, selector } = self;
        let is_everything = namespaces.is_empty() && selector.is_none();
        (!is_everything).then(|| format!("{namespaces:?} {selector:?}"))
    }

    /// The name of the Lease of those who share this scope.
    #[must_use]
    pub fn lease_name(&self) -> String {
        match self.words() {
            None => lease::NAME.to_owned(),
            Some(scope) => format!("{}-{}", lease::NAME, &Digest::of(scope.as_bytes()).hex()[..10]),
        }
    }

    /// The namespace that they are all in, where there is such.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        self.namespaces.first().filter(|_| self.namespaces.len() == 1).map(String::as_str)
    }

    pub(crate) fn apis(&self, kube: &kube::Client) -> Vec<Api<InferenceEndpoint>> {
        if self.namespaces.is_empty() {
            return vec![Api::all(kube.clone())];
        }
        self.namespaces.iter().map(|namespace| Api::namespaced(kube.clone(), namespace)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_has_a_lease_of_its_own() {
        let scope = |namespaces: &[&str], selector: Option<&str>| Scope {
            namespaces: namespaces.iter().map(|&it| it.to_owned()).collect(),
            selector: selector.map(str::to_owned),
        };
        let names = [
            scope(&[], None),
            scope(&["a"], None),
            scope(&["a", "b"], None),
            scope(&[], Some("shard=a")),
            scope(&["a"], Some("shard=a")),
        ]
        .map(|scope| scope.lease_name());
        assert_eq!(names[0], "larder-controller");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert_eq!(scope(&["b", "a"], None).lease_name(), names[2]);
    }
}
