//! What holds for every endpoint and everything that AWS may be seen to hold.

#![expect(clippy::unwrap_used, reason = "this is a test")]

mod support;

use jiff::Timestamp;
use larder_core::endpoint::DeletionPolicy;
use larder_core::foresee::foresee;
use larder_core::observed::MountTarget;
use larder_core::status::{Failures, is_progress_alone, is_same, status};
use larder_core::{Area, Desired, Observed, Plan, Remote, Step, plan};
use larder_crds::InferenceEndpointStatus;
use proptest::prelude::*;

use support::any::{any_pair, lambda, living_pair, mended_pair};
use support::wanted::{foresee_but_for_upkeep, is_deleted, is_pruned, is_satisfied, named, touches_foreign};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn there_is_always_a_plan_and_a_status((endpoint, seen) in any_pair()) {
        let plans = plan(&Desired::of(&endpoint), &seen);
        let told = status(&endpoint, &seen, &plans, &Failures::new(), &InferenceEndpointStatus::default(), Timestamp::UNIX_EPOCH);
        let ready = told.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        prop_assert_eq!(ready.status == "True", plans.is_converged() && !endpoint.deleting);
        // Whatever is not converged says why.
        for area in Area::ALL {
            let condition = told.conditions.iter().find(|c| c.type_ == area.condition()).unwrap();
            prop_assert_eq!(condition.status == "True", *plans.get(area) == Plan::Converged);
            prop_assert!(!condition.message.is_empty());
        }
    }

    #[test]
    fn what_is_foreign_is_never_touched((endpoint, seen) in any_pair()) {
        for (_, step) in plan(&Desired::of(&endpoint), &seen).steps() {
            prop_assert!(!touches_foreign(step, &endpoint, &seen), "{}", step);
        }
    }

    /// Nothing that a version or the spec names is ever deleted, nor anything that is not marked for long enough;
    /// and nothing is done before all else is as wanted.
    #[test]
    fn what_can_serve_is_never_collected((endpoint, seen) in living_pair(), twice in any::<bool>()) {
        let desired = Desired::of(&endpoint);
        // At random it is hardly ever converged.
        let seen = if twice { foresee_but_for_upkeep(&desired, &seen) } else { seen };
        let plans = plan(&desired, &seen);
        for (area, step) in plans.steps() {
            let Step::Collect { request, .. } = step else { continue };
            prop_assert!(area == Area::Upkeep && plans.is_converged());
            let named = named(&endpoint, &seen);
            let stored = seen.stored.as_ref().unwrap().as_ref().unwrap();
            prop_assert!(stored.others.is_empty(), "others use the folder, too");
            for digest in request.mark.iter().chain(request.delete.iter().map(|it| &it.digest)) {
                prop_assert!(!named.contains(digest), "{} is named: {:#?}", digest, seen);
            }
            for it in &request.delete {
                let mark = stored.revisions.iter().find(|r| r.revision == it.digest).map(|r| r.marked);
                let mark = mark.or(stored.manifests.iter().find(|m| m.manifest == it.digest).map(|m| m.marked));
                prop_assert_eq!(mark, Some(Some(it.since)));
                prop_assert!(stored.now - it.since >= endpoint.collect_after_seconds);
            }
        }
    }

    #[test]
    fn what_others_mount_is_never_deleted((mut endpoint, mut seen) in any_pair(), by_access_point in any::<bool>()) {
        endpoint.deleting = true;
        if by_access_point {
            seen.other_access_points = Ok(vec!["fsap-2".to_owned()]);
        } else if let Ok(targets) = &mut seen.mount_targets {
            targets.push(MountTarget {
                id: "fsmt-others".to_owned(),
                subnet: "subnet-others".to_owned(),
                zone: "zone-others".to_owned(),
                state: "available".to_owned(),
                security_groups: ["sg-others".to_owned()].into(),
            });
        }
        let is_known = by_access_point || seen.mount_targets.is_ok();
        for (_, step) in plan(&Desired::of(&endpoint), &seen).steps() {
            let deletes = matches!(step, Step::DeleteFileSystem { .. } | Step::DeleteMountTarget { .. });
            prop_assert!(!(is_known && deletes), "{}", step);
        }
    }

    #[test]
    fn retained_is_never_touched((endpoint, seen) in any_pair()) {
        let plans = plan(&Desired::of(&endpoint), &seen);
        if endpoint.deleting && endpoint.deletion == DeletionPolicy::Retain {
            prop_assert!(plans.is_converged());
        }
        let deletes_data = plans.steps().any(|(_, step)| matches!(step, Step::DeleteFileSystem { .. }));
        if !endpoint.deleting || endpoint.deletion != DeletionPolicy::Delete {
            prop_assert!(!deletes_data);
        }
    }

    #[test]
    fn converged_is_satisfied_and_satisfied_is_converged((endpoint, seen) in mended_pair()) {
        let desired = Desired::of(&endpoint);
        let holds = |seen: &Observed| match (endpoint.deleting, endpoint.deletion) {
            (false, _) => is_satisfied(&endpoint, &desired, seen),
            (true, DeletionPolicy::Retain) => true,
            (true, _) => is_deleted(&endpoint, seen),
        };
        prop_assert_eq!(plan(&desired, &seen).is_converged(), holds(&seen), "at the start");
        let end = foresee(&desired, &seen);
        prop_assert!(end.end.is_converged(), "{:#?}\nafter {:#?}", end.end, end.steps);
        prop_assert!(holds(&end.observed), "after {:#?}: {:#?}", end.steps, end.observed);
        prop_assert!(endpoint.deleting || is_pruned(&endpoint, &end.observed), "after {:#?}: {:#?}", end.steps, end.observed);
    }

    #[test]
    fn anything_that_differs_in_the_end_is_mended(
        (endpoint, seen) in living_pair(),
        other in lambda("any".to_owned()),
        what in 0u8..5,
    ) {
        let desired = Desired::of(&endpoint);
        let mut end = foresee(&desired, &seen).observed;
        let Ok(Remote::Ready(function)) = &mut end.inference.function else { return Err(TestCaseError::fail("not there")) };
        let right = function.config.clone();
        match what {
            0 => function.config.memory_mib = other.config.memory_mib,
            1 => function.config.env = other.config.env,
            2 => function.config.subnets = other.config.subnets,
            3 => function.config.mount = other.config.mount,
            _ => function.config.security_groups = other.config.security_groups,
        }
        let differs = function.config != right;
        let plans = plan(&desired, &end);
        prop_assert_eq!(plans.is_converged(), !differs);
        let changes = plans.steps().find_map(|(_, step)| {
            let Step::UpdateFunctionConfiguration { changes, config, .. } = step else { return None };
            Some((changes.clone(), config.clone()))
        });
        match changes {
            Some((changes, config)) => {
                prop_assert!(!changes.is_empty());
                prop_assert_eq!(config, right);
            }
            None => prop_assert!(!differs),
        }
    }

    #[test]
    fn time_alone_changes_no_status((endpoint, seen) in any_pair(), later in 1i64..1_000_000) {
        let plans = plan(&Desired::of(&endpoint), &seen);
        let at = |previous: &InferenceEndpointStatus, second| {
            let now = Timestamp::from_second(second).unwrap();
            status(&endpoint, &seen, &plans, &Failures::new(), previous, now)
        };
        let first = at(&InferenceEndpointStatus::default(), 0);
        let second = at(&first, later);
        // A copy that has not come further in that time is slow.
        prop_assert!(is_progress_alone(&first, &second));
        if !first.models.iter().any(|model| model.state == "Syncing") {
            prop_assert!(is_same(&first, &second));
            prop_assert_eq!(first, second);
        }
    }
}
