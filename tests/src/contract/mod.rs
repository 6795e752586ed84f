//! What every implementation of [`Cloud`] must do, as named cases: the world in memory and AWS on the wire are held to
//! the same.
//!
//! - [`storage`], [`logs`], [`function`], [`version`], [`traffic`], [`events`], [`sources`]: the cases. Each is about one
//!   operation or two: absent, made, read back, made again, with a wrong precondition, in pages, deleted, deleted again.
//! - [`ground`]: what they stand on.
//!
//! What an implementation is known to do otherwise is skipped by name, with the difference in words. A case on that list
//! that passes is a failure, too: the list says nothing that is no longer so.

use std::pin::Pin;

use anyhow::{Context as _, Result, bail, ensure};
use larder::cloud::{Cloud, CloudError, Page};
use larder_core::names::Owner;
use larder_core::{Class, Step};

mod events;
mod function;
pub mod ground;
mod logs;
mod sources;
mod storage;
mod traffic;
mod version;

use ground::Ground;

/// What a case comes to.
type Outcome<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A case.
pub struct Case<G> {
    /// Its name: module and function.
    pub name: &'static str,
    run: fn(&G) -> Outcome<'_>,
}

impl<G> std::fmt::Debug for Case<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! cases {
    ($($module:ident: $($case:ident)+;)+) => {
        /// All cases.
        #[must_use]
        pub fn cases<G: Ground>() -> Vec<Case<G>> {
            vec![$($(Case {
                name: concat!(stringify!($module), "::", stringify!($case)),
                run: |ground| Box::pin($module::$case(ground)),
            },)+)+]
        }
    };
}

cases! {
    storage:
        a_file_system_is_made_once_for_a_token
        a_file_system_is_told_by_its_owner_tag
        a_throughput_mode_is_changed
        a_file_system_goes_and_goes_again
        nothing_is_added_to_a_file_system_that_is_being_made
        a_mount_target_is_one_of_its_zone
        security_groups_of_a_mount_target_are_changed
        a_file_system_with_a_mount_target_stays
        a_mount_target_goes_and_goes_again
        an_access_point_is_made_once_for_a_token
        access_points_are_listed_in_pages
        an_access_point_goes_and_goes_again
        what_is_not_there_has_no_parts;
    logs:
        a_log_group_is_made_once
        a_longer_name_is_another_log_group
        retention_is_set_and_read
        a_log_group_goes_and_goes_again;
    function:
        a_function_is_made_once
        a_function_is_told_by_its_owner_tag
        a_function_that_is_being_made_takes_no_update
        settings_change_at_the_revision_that_was_read
        code_changes_at_the_revision_that_was_read
        a_mount_is_read_back
        what_is_not_there_takes_no_change
        reserved_concurrency_is_set_and_taken_away
        what_is_not_there_answers_nobody
        a_function_goes_and_goes_again;
    version:
        a_version_is_published_at_the_revision_that_was_read
        nothing_new_is_published_once
        versions_are_listed_in_pages
        a_version_goes_and_goes_again
        a_version_that_serves_stays
        sandboxes_become_warm
        only_versions_that_are_there_become_warm
        no_more_are_warm_than_reserved
        fewer_are_not_reserved_than_are_warm
        a_version_that_shares_requests_does_not_become_warm;
    traffic:
        an_alias_is_made_once
        an_alias_leads_to_versions_that_are_there
        an_alias_moves_at_the_revision_that_was_read
        an_alias_goes_and_goes_again
        a_function_url_is_made_once
        a_function_url_is_changed
        a_function_url_goes_and_goes_again
        permissions_are_added_once_and_taken_away
        a_permission_is_as_named_on_its_condition_alone
        alarms_that_are_not_there_are_missed;
    events:
        a_queue_takes_events_when_its_policy_lets_it
        a_queue_goes_and_goes_again
        the_name_of_a_deleted_queue_is_taken_for_a_while
        a_rule_matches_and_sends
        a_rule_with_targets_stays
        a_rule_goes_and_goes_again
        a_queue_is_shared_while_another_rule_sends_to_it
        a_bucket_tells_event_bridge;
    sources:
        subnets_are_known_by_id
        a_tag_is_resolved_to_a_digest
        an_archive_is_told_by_its_bytes
        objects_are_listed_in_pages
        a_bucket_that_is_not_there_is_missed
        small_objects_are_read;
}

/// Holds an implementation to every case, each on ground of its own; `known` are the differences, by case. Answers what
/// is not as it should be.
pub async fn hold<G: Ground>(ground: impl Fn() -> G, known: &[(&str, &str)]) -> Vec<String> {
    let cases = cases();
    let mut found: Vec<String> = known
        .iter()
        .filter(|(name, _)| !cases.iter().any(|case: &Case<G>| case.name == *name))
        .map(|(name, _)| format!("{name} is on the list of differences, and there is no such case"))
        .collect();
    for case in cases {
        let outcome = (case.run)(&ground()).await;
        let difference = known.iter().find(|(name, _)| *name == case.name);
        match (outcome, difference) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Err(error), None) => found.push(format!("{}: {error:#}", case.name)),
            (Ok(()), Some((_, words))) => {
                found.push(format!("{} passes: take it off the list of differences ({words})", case.name));
            }
        }
    }
    found
}

/// Asks until the answer is there, while time passes.
async fn eventually<G: Ground, T>(
    ground: &G,
    what: &str,
    ask: impl AsyncFn() -> Result<Option<T>>,
) -> Result<T> {
    for _ in 0..600 {
        if let Some(answer) = ask().await.with_context(|| what.to_owned())? {
            return Ok(answer);
        }
        ground.time_passes().await;
    }
    bail!("does not happen: {what}")
}

/// That a call is refused so.
fn refused<T: std::fmt::Debug>(answer: Result<T, CloudError>, class: Class, what: &str) -> Result<()> {
    match answer {
        Ok(it) => bail!("{what}: is done, not refused as {class:?}: {it:?}"),
        Err(error) => {
            let found = error.problem.class;
            ensure!(found == class, "{what}: is refused as {found:?}, not {class:?}: {error}");
            ensure!(!error.problem.resource.is_empty(), "{what}: the refusal names no resource: {error}");
            Ok(())
        }
    }
}

/// All items of a list, in pages; there must be an end.
async fn all<T>(page: impl AsyncFn(Option<String>) -> Result<Page<T>, CloudError>) -> Result<Vec<T>> {
    let (mut items, mut next) = (Vec::new(), None);
    for _ in 0..100 {
        let found = page(next).await?;
        items.extend(found.items);
        next = found.next;
        if next.is_none() {
            return Ok(items);
        }
    }
    bail!("the list has no end")
}

/// Does a step.
async fn done<G: Ground>(ground: &G, step: Step) -> Result<()> {
    ground.cloud().perform(&step).await.with_context(|| step.to_string())
}

/// Does steps twice: what is gone is deleted again without an error.
async fn done_twice<G: Ground>(ground: &G, step: Step) -> Result<()> {
    done(ground, step.clone()).await?;
    done(ground, step).await.context("again")
}

fn owner() -> Owner {
    Owner("cluster/namespace/name/1".to_owned())
}

fn other() -> Owner {
    Owner("cluster/namespace/name/2".to_owned())
}
