//! What leads requests to a version, and what is watched of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use larder::cloud::{Cloud as _, HealthQuery};
use larder_core::step::{Permission, PermissionAction};
use larder_core::{Class, Step};

use super::ground::Ground;
use super::version::versions;
use super::{done, done_twice, refused};

/// What the controller remembers in the alias.
const DESCRIPTION: &str = "larder: version=1 since=2026-01-31T12:00:00Z";

pub(super) fn create_alias<G: Ground>(ground: &G, version: u64) -> Step {
    Step::CreateAlias { function: ground.name("f"), version, description: DESCRIPTION.to_owned() }
}

fn moved<G: Ground>(ground: &G, version: u64, second: Option<(u64, u8)>, revision_id: String) -> Step {
    Step::UpdateAlias {
        function: ground.name("f"),
        from: 1,
        version,
        second,
        description: "moved".to_owned(),
        revision_id,
    }
}

/// Moves the alias from where it is.
pub(super) async fn update_alias<G: Ground>(
    ground: &G,
    version: u64,
    second: Option<(u64, u8)>,
) -> Result<()> {
    let alias = ground.cloud().alias(&ground.name("f")).await?.context("the alias is there")?;
    done(ground, moved(ground, version, second, alias.revision_id)).await
}

fn create_url<G: Ground>(ground: &G) -> Step {
    Step::CreateFunctionUrl { function: ground.name("f"), auth_type: "AWS_IAM" }
}

/// A function with two versions, the first of which serves.
async fn serving<G: Ground>(ground: &G) -> Result<String> {
    versions(ground, 2).await?;
    done(ground, create_alias(ground, 1)).await?;
    Ok(ground.name("f"))
}

pub(super) async fn an_alias_is_made_once<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    let name = ground.name("f");
    ensure!(ground.cloud().alias(&name).await?.is_none(), "before it is made");
    ensure!(ground.cloud().serving(&name).await?.is_none(), "nothing serves");
    done(ground, create_alias(ground, 1)).await?;
    let made = ground.cloud().alias(&name).await?.context("it is there")?;
    ensure!((made.version, made.second, made.description.as_str()) == (1, None, DESCRIPTION), "{made:?}");
    ensure!(ground.cloud().serving(&name).await? == Some(1), "it serves");
    refused(ground.cloud().perform(&create_alias(ground, 1)).await, Class::Conflict, "it is there")
}

pub(super) async fn an_alias_leads_to_versions_that_are_there<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    refused(ground.cloud().perform(&create_alias(ground, 7)).await, Class::NotFound, "an alias of nothing")?;
    done(ground, create_alias(ground, 1)).await?;
    let revision_id = ground.cloud().alias(&ground.name("f")).await?.context("it is there")?.revision_id;
    let step = moved(ground, 7, None, revision_id.clone());
    refused(ground.cloud().perform(&step).await, Class::NotFound, "to a version that is not there")?;
    let step = moved(ground, 1, Some((1, 10)), revision_id);
    refused(ground.cloud().perform(&step).await, Class::Invalid, "to one version twice")
}

pub(super) async fn an_alias_moves_at_the_revision_that_was_read<G: Ground>(ground: &G) -> Result<()> {
    let name = serving(ground).await?;
    let first = ground.cloud().alias(&name).await?.context("it is there")?;
    let stale = moved(ground, 2, None, "stale".to_owned());
    refused(ground.cloud().perform(&stale).await, Class::Conflict, "another revision")?;
    update_alias(ground, 1, Some((2, 7))).await?;
    let found = ground.cloud().alias(&name).await?.context("it is there")?;
    ensure!(
        (found.version, found.second, found.description.as_str()) == (1, Some((2, 7)), "moved"),
        "{found:?}"
    );
    ensure!(ground.cloud().serving(&name).await? == Some(1), "weights change nothing of that");
    let stale = moved(ground, 2, None, first.revision_id);
    refused(ground.cloud().perform(&stale).await, Class::Conflict, "the revision before")?;
    update_alias(ground, 2, None).await?;
    let found = ground.cloud().alias(&name).await?.context("it is there")?;
    ensure!((found.version, found.second) == (2, None), "all requests go to one version: {found:?}");
    ensure!(ground.cloud().serving(&name).await? == Some(2), "the other serves");
    Ok(())
}

pub(super) async fn an_alias_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let name = serving(ground).await?;
    done_twice(ground, Step::DeleteAlias { function: name.clone() }).await?;
    ensure!(ground.cloud().alias(&name).await?.is_none(), "it is gone");
    Ok(())
}

pub(super) async fn a_function_url_is_made_once<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    let name = ground.name("f");
    refused(ground.cloud().perform(&create_url(ground)).await, Class::NotFound, "without the alias")?;
    done(ground, create_alias(ground, 1)).await?;
    ensure!(ground.cloud().function_url(&name).await?.is_none(), "before it is made");
    done(ground, create_url(ground)).await?;
    let made = ground.cloud().function_url(&name).await?.context("it is there")?;
    ensure!((made.auth_type.as_str(), made.has_cors) == ("AWS_IAM", false), "{made:?}");
    ensure!(made.url.starts_with("https://") && made.url.contains("lambda-url"), "{made:?}");
    refused(ground.cloud().perform(&create_url(ground)).await, Class::Conflict, "it is there")
}

pub(super) async fn a_function_url_is_changed<G: Ground>(ground: &G) -> Result<()> {
    let name = serving(ground).await?;
    let update = Step::UpdateFunctionUrl { function: name.clone(), auth_type: "NONE" };
    refused(ground.cloud().perform(&update).await, Class::NotFound, "before it is made")?;
    done(ground, create_url(ground)).await?;
    let before = ground.cloud().function_url(&name).await?.context("it is there")?;
    done_twice(ground, update).await?;
    let after = ground.cloud().function_url(&name).await?.context("it is there")?;
    ensure!((after.auth_type.as_str(), &after.url) == ("NONE", &before.url), "{after:?}");
    Ok(())
}

pub(super) async fn a_function_url_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let name = serving(ground).await?;
    done(ground, create_url(ground)).await?;
    done_twice(ground, Step::DeleteFunctionUrl { function: name.clone() }).await?;
    ensure!(ground.cloud().function_url(&name).await?.is_none(), "it is gone");
    Ok(())
}

pub(super) async fn permissions_are_added_once_and_taken_away<G: Ground>(ground: &G) -> Result<()> {
    let function = serving(ground).await?;
    ensure!(ground.cloud().permissions(&function).await?.is_empty(), "nobody may");
    let mut expected = BTreeMap::new();
    for action in [PermissionAction::InvokeFunctionUrl, PermissionAction::InvokeFunction] {
        for public in [true, false] {
            let permission = Permission { action, public };
            let add = Step::AddPermission { function: function.clone(), permission };
            // Lambda takes so many writes a second.
            ground.time_passes().await;
            done(ground, add.clone()).await?;
            refused(ground.cloud().perform(&add).await, Class::Conflict, "it is there")?;
            expected.insert(permission.statement().to_owned(), true);
            let found = ground.cloud().permissions(&function).await?;
            ensure!(found == expected, "{found:?}");
        }
    }
    for statement in expected.into_keys() {
        done_twice(ground, Step::RemovePermission { function: function.clone(), statement }).await?;
    }
    ensure!(ground.cloud().permissions(&function).await?.is_empty(), "nobody may any more");
    Ok(())
}

pub(super) async fn a_permission_is_as_named_on_its_condition_alone<G: Ground>(ground: &G) -> Result<()> {
    let function = serving(ground).await?;
    for permission in Permission::ALL {
        ground.time_passes().await;
        ground.allow_unconditionally(&function, permission).await?;
    }
    let all = Permission::ALL.iter().map(|it| (it.statement().to_owned(), false));
    let (expected, found) = (all.collect::<BTreeMap<_, _>>(), ground.cloud().permissions(&function).await?);
    ensure!(found == expected, "without their conditions: {found:?}");
    Ok(())
}

pub(super) async fn alarms_that_are_not_there_are_missed<G: Ground>(ground: &G) -> Result<()> {
    let function = serving(ground).await?;
    let alarms = [ground.name("alarm")];
    let (since, until) = (Timestamp::from_second(1_800_000_000)?, Timestamp::from_second(1_800_000_300)?);
    let mut query =
        HealthQuery { function: &function, version: 1, since, until, has_metrics: false, alarms: &alarms };
    refused(ground.cloud().health(&query).await, Class::NotFound, "an alarm that is not there")?;
    query.alarms = &[];
    let health = ground.cloud().health(&query).await?;
    ensure!(health.alarms_on.is_empty(), "{health:?}");
    Ok(())
}
