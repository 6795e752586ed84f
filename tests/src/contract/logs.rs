//! CloudWatch Logs.

use anyhow::{Result, ensure};
use larder::cloud::Cloud as _;
use larder_core::names::Owner;
use larder_core::observed::{LogGroup, Remote};
use larder_core::{Class, Step};

use super::ground::Ground;
use super::{done, done_twice, other, owner, refused};

fn create(name: &str) -> Step {
    Step::CreateLogGroup { name: name.to_owned(), owner: owner() }
}

fn group<G: Ground>(ground: &G) -> String {
    format!("/aws/lambda/{}", ground.name("logs"))
}

async fn seen<G: Ground>(ground: &G, name: &str, owner: &Owner) -> Result<Remote<LogGroup>> {
    let [found] = ground.cloud().log_groups([name], owner).await?;
    Ok(found)
}

pub(super) async fn a_log_group_is_made_once<G: Ground>(ground: &G) -> Result<()> {
    let name = group(ground);
    ensure!(seen(ground, &name, &owner()).await? == Remote::Absent, "before it is made");
    done(ground, create(&name)).await?;
    let made = seen(ground, &name, &owner()).await?;
    ensure!(made == Remote::Ready(LogGroup { retention_days: None }), "{made:?}");
    refused(ground.cloud().perform(&create(&name)).await, Class::Conflict, "it is there")?;
    let theirs = seen(ground, &name, &other()).await?;
    ensure!(matches!(&theirs, Remote::Foreign { owner: it, .. } if *it == owner().0), "{theirs:?}");
    Ok(())
}

pub(super) async fn a_longer_name_is_another_log_group<G: Ground>(ground: &G) -> Result<()> {
    let name = group(ground);
    let longer = format!("{name}-sync");
    done(ground, create(&longer)).await?;
    ensure!(seen(ground, &name, &owner()).await? == Remote::Absent, "a longer name begins with it");
    let both = ground.cloud().log_groups([&name, &longer], &owner()).await?;
    ensure!(matches!(&both, [Remote::Absent, Remote::Ready(_)]), "each in its place: {both:?}");
    Ok(())
}

pub(super) async fn retention_is_set_and_read<G: Ground>(ground: &G) -> Result<()> {
    let name = group(ground);
    let put = Step::PutRetentionPolicy { name: name.clone(), days: 14 };
    refused(ground.cloud().perform(&put).await, Class::NotFound, "a log group that is not there")?;
    done(ground, create(&name)).await?;
    done_twice(ground, put).await?;
    let found = seen(ground, &name, &owner()).await?;
    ensure!(found == Remote::Ready(LogGroup { retention_days: Some(14) }), "{found:?}");
    Ok(())
}

pub(super) async fn a_log_group_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let name = group(ground);
    done(ground, create(&name)).await?;
    done_twice(ground, Step::DeleteLogGroup { name: name.clone() }).await?;
    ensure!(seen(ground, &name, &owner()).await? == Remote::Absent, "it is gone");
    Ok(())
}
