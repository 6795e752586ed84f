//! What bears our name and not our tag: taken over where the user has consented, else left alone.

use super::{Plan, Reason};
use crate::desired::Desired;
use crate::endpoint::Adoption;
use crate::names::{OWNER_TAG, Place};
use crate::observed::Observed;
use crate::retry::Class;
use crate::step::{Step, Tagged};

/// What becomes of a resource with another owner's tag, or none.
pub(super) fn foreign(
    desired: &Desired,
    observed: &Observed,
    tagged: Tagged,
    resource: &str,
    (from, id): (&str, &str),
) -> Plan {
    if !is_taken_over(desired, observed, from) {
        return left_alone(resource, from, desired.names.place.to_string().as_str());
    }
    Plan::Do(vec![Step::TagResource {
        tagged,
        id: id.to_owned(),
        resource: resource.to_owned(),
        from: from.to_owned(),
        owner: desired.names.owner.clone(),
    }])
}

/// Once an endpoint was as wanted, it takes nothing over from another owner: what then bears another tag was taken from
/// it, and two that take from each other would never end.
pub(super) fn is_taken_over(desired: &Desired, observed: &Observed, from: &str) -> bool {
    let adopts = &desired.adopts;
    if from.is_empty() {
        return adopts.policy == Adoption::Adopt;
    }
    let is_named = adopts.from.as_deref().is_some_and(|named| {
        named == from || (named.matches('/').count() == 2 && Place::parse(from) == Place::parse(named))
    });
    let is_predecessor =
        Place::parse(from).is_some_and(|place| desired.names.owner.0.starts_with(&format!("{place}/")));
    !observed.was_converged && (is_named || (is_predecessor && adopts.policy == Adoption::Adopt))
}

pub(super) fn left_alone(resource: &str, owner: &str, place: &str) -> Plan {
    let (whose, remedy) = if owner.is_empty() {
        let remedy = "set spec.adoption: Adopt to take it over".to_owned();
        ("nobody's tag".to_owned(), remedy)
    } else if owner.starts_with(&format!("{place}/")) {
        let remedy =
            "set spec.adoption: Adopt on a new object to take over what its predecessor made".to_owned();
        (format!("owner {owner}"), remedy)
    } else {
        let remedy =
            format!("set annotation {}: {owner} on a new object to take it over", larder_crds::ADOPT_FROM);
        (format!("owner {owner}"), remedy)
    };
    Plan::blocked(
        Reason::ForeignResource,
        Class::Invalid,
        format!(
            "{resource} exists with {whose}, not this endpoint's (tag {OWNER_TAG}), so it is left alone: delete it, or {remedy}"
        ),
    )
}
