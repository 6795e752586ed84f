//! Published versions and their provisioned concurrency.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use larder::cloud::Cloud as _;
use larder_core::observed::{ProvisionedStatus, Remote};
use larder_core::{Class, Step};

use super::function::{config, configure, function, settled};
use super::ground::Ground;
use super::traffic::{create_alias, update_alias};
use super::{all, done, done_twice, eventually, owner, refused};

fn publish<G: Ground>(ground: &G, code_sha256: &str, revision_id: &str) -> Step {
    let (code_sha256, revision_id) = (code_sha256.to_owned(), revision_id.to_owned());
    Step::PublishVersion { name: ground.name("f"), code_sha256, revision_id }
}

async fn numbers<G: Ground>(ground: &G) -> Result<BTreeSet<u64>> {
    let name = ground.name("f");
    let found = all(async |page| ground.cloud().version_numbers(&name, page).await).await?;
    let numbers: BTreeSet<u64> = found.iter().copied().collect();
    ensure!(numbers.len() == found.len(), "each is listed once: {found:?}");
    Ok(numbers)
}

/// Publishes what the function is, as this number.
async fn published<G: Ground>(ground: &G, number: u64) -> Result<()> {
    let it = settled(ground).await?;
    done(ground, publish(ground, &it.code_sha256, &it.revision_id)).await?;
    eventually(ground, "the version is ready", async || {
        Ok(ground.cloud().version(&ground.name("f"), number, &owner()).await?.ready().map(drop))
    })
    .await
}

/// A function with so many versions, each of other settings.
pub(super) async fn versions<G: Ground>(ground: &G, count: u64) -> Result<()> {
    function(ground).await?;
    published(ground, 1).await?;
    for number in 2..=count {
        let it = settled(ground).await?;
        let memory = 512 + i32::try_from(number)?;
        done(ground, configure(ground, memory, &it.revision_id)).await?;
        published(ground, number).await?;
    }
    Ok(())
}

fn provision<G: Ground>(ground: &G, version: u64, count: i32) -> Step {
    Step::PutProvisionedConcurrency { name: ground.name("f"), version, count }
}

pub(super) async fn a_version_is_published_at_the_revision_that_was_read<G: Ground>(
    ground: &G,
) -> Result<()> {
    let it = function(ground).await?;
    let stale = publish(ground, &it.code_sha256, "stale");
    refused(ground.cloud().perform(&stale).await, Class::Conflict, "another revision")?;
    ensure!(numbers(ground).await?.is_empty(), "none is published");
    published(ground, 1).await?;
    ensure!(numbers(ground).await? == BTreeSet::from([1]), "$LATEST is no version");
    let found = ground.cloud().version(&ground.name("f"), 1, &owner()).await?;
    let Remote::Ready(version) = found else { anyhow::bail!("{found:?}") };
    ensure!(version.config == config(ground, 512) && version.code_sha256 == it.code_sha256, "{version:?}");
    let none = ground.cloud().version(&ground.name("f"), 2, &owner()).await?;
    ensure!(none == Remote::Absent, "{none:?}");
    Ok(())
}

pub(super) async fn nothing_new_is_published_once<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    let it = settled(ground).await?;
    done(ground, publish(ground, &it.code_sha256, &it.revision_id)).await?;
    ensure!(numbers(ground).await? == BTreeSet::from([1]), "{:?}", numbers(ground).await?);
    Ok(())
}

pub(super) async fn versions_are_listed_in_pages<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 3).await?;
    ensure!(numbers(ground).await? == BTreeSet::from([1, 2, 3]), "{:?}", numbers(ground).await?);
    Ok(())
}

pub(super) async fn a_version_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 2).await?;
    done_twice(ground, Step::DeleteVersion { name: ground.name("f"), version: 1 }).await?;
    ensure!(numbers(ground).await? == BTreeSet::from([2]), "{:?}", numbers(ground).await?);
    let gone = ground.cloud().version(&ground.name("f"), 1, &owner()).await?;
    ensure!(gone == Remote::Absent, "{gone:?}");
    Ok(())
}

pub(super) async fn a_version_that_serves_stays<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    done(ground, create_alias(ground, 1)).await?;
    let delete = Step::DeleteVersion { name: ground.name("f"), version: 1 };
    refused(ground.cloud().perform(&delete).await, Class::Conflict, "an alias points at it")
}

pub(super) async fn sandboxes_become_warm<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    let name = ground.name("f");
    ensure!(ground.cloud().provisioned(&name, 1).await?.is_none(), "none is asked for");
    done(ground, provision(ground, 1, 2)).await?;
    let asked = ground.cloud().provisioned(&name, 1).await?;
    let is_under_way = |it: &larder_core::observed::Provisioned| {
        (it.requested, &it.status) == (2, &ProvisionedStatus::InProgress)
    };
    ensure!(asked.as_ref().is_some_and(is_under_way), "{asked:?}");
    eventually(ground, "all of them are warm", async || {
        let found = ground.cloud().provisioned(&name, 1).await?;
        Ok(found.filter(|it| it.status == ProvisionedStatus::Ready && it.available == 2).map(drop))
    })
    .await?;
    done_twice(ground, Step::DeleteProvisionedConcurrency { name: name.clone(), version: 1 }).await?;
    ensure!(ground.cloud().provisioned(&name, 1).await?.is_none(), "they are gone");
    Ok(())
}

pub(super) async fn only_versions_that_are_there_become_warm<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    let none = provision(ground, 7, 2);
    refused(ground.cloud().perform(&none).await, Class::NotFound, "a version that is not there")
}

pub(super) async fn no_more_are_warm_than_reserved<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    done(ground, Step::PutFunctionConcurrency { name: ground.name("f"), reserved: 2 }).await?;
    refused(ground.cloud().perform(&provision(ground, 1, 3)).await, Class::Invalid, "more than are reserved")
}

pub(super) async fn fewer_are_not_reserved_than_are_warm<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 1).await?;
    done(ground, provision(ground, 1, 3)).await?;
    let fewer = Step::PutFunctionConcurrency { name: ground.name("f"), reserved: 2 };
    refused(ground.cloud().perform(&fewer).await, Class::Invalid, "fewer than are warm")
}

pub(super) async fn a_version_that_shares_requests_does_not_become_warm<G: Ground>(ground: &G) -> Result<()> {
    versions(ground, 2).await?;
    done(ground, create_alias(ground, 1)).await?;
    update_alias(ground, 1, Some((2, 10))).await?;
    refused(ground.cloud().perform(&provision(ground, 2, 1)).await, Class::Invalid, "an alias has weights")
}
