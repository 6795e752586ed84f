//! Amazon EFS.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use larder::cloud::{Cloud as _, FileSystemQuery, ListedAccessPoint};
use larder_core::endpoint::AccessPointSpec;
use larder_core::names::Owner;
use larder_core::observed::{AccessPoint, FileSystem, MountTarget, Remote};
use larder_core::step::Tagged;
use larder_core::{Class, Step};

use super::ground::Ground;
use super::{all, done, done_twice, eventually, other, owner, refused};

fn create(token: &str) -> Step {
    Step::CreateFileSystem {
        token: token.to_owned(),
        owner: owner(),
        throughput_mode: "elastic",
        encrypted: true,
        kms_key_id: None,
    }
}

async fn seen<G: Ground>(ground: &G, token: &str, owner: &Owner) -> Result<Remote<FileSystem>> {
    Ok(ground.cloud().file_system(FileSystemQuery::Ours { token, owner }).await?)
}

/// A file system that can be used.
pub(super) async fn file_system<G: Ground>(ground: &G) -> Result<FileSystem> {
    let token = ground.name("fs");
    done(ground, create(&token)).await?;
    eventually(ground, "the file system is available", async || {
        Ok(seen(ground, &token, &owner()).await?.ready().cloned())
    })
    .await
}

async fn targets<G: Ground>(ground: &G, file_system: &str) -> Result<Vec<MountTarget>> {
    all(async |page| ground.cloud().mount_targets(file_system, page).await).await
}

fn create_target<G: Ground>(ground: &G, file_system: &str, subnet: usize) -> Step {
    let it = &ground.subnets()[subnet];
    Step::CreateMountTarget {
        file_system: file_system.to_owned(),
        subnet: it.id.clone(),
        zone: it.zone.clone(),
        security_groups: vec![ground.security_groups()[0].clone()],
    }
}

/// A mount target that can be used.
pub(super) async fn target<G: Ground>(ground: &G, file_system: &str) -> Result<MountTarget> {
    done(ground, create_target(ground, file_system, 0)).await?;
    eventually(ground, "the mount target is available", async || {
        Ok(targets(ground, file_system).await?.into_iter().find(|it| it.state == "available"))
    })
    .await
}

fn spec() -> AccessPointSpec {
    AccessPointSpec { path: "/larder".to_owned(), uid: 1000, gid: 1001, permissions: "0750".to_owned() }
}

fn create_point(token: &str, file_system: &str) -> Step {
    Step::CreateAccessPoint {
        token: token.to_owned(),
        owner: owner(),
        file_system: file_system.to_owned(),
        spec: spec(),
    }
}

async fn points<G: Ground>(ground: &G, file_system: &str, owner: &Owner) -> Result<Vec<ListedAccessPoint>> {
    all(async |page| ground.cloud().access_points(file_system, owner, page).await).await
}

/// An access point that can be used.
pub(super) async fn point<G: Ground>(ground: &G, file_system: &str, what: &str) -> Result<AccessPoint> {
    let token = ground.name(what);
    done(ground, create_point(&token, file_system)).await?;
    eventually(ground, "the access point is available", async || {
        let found = points(ground, file_system, &owner()).await?;
        Ok(found.into_iter().find(|it| it.token == token).and_then(|it| it.it.ready().cloned()))
    })
    .await
}

pub(super) async fn a_file_system_is_made_once_for_a_token<G: Ground>(ground: &G) -> Result<()> {
    let token = ground.name("fs");
    ensure!(seen(ground, &token, &owner()).await? == Remote::Absent, "before it is made");
    done(ground, create(&token)).await?;
    let first = seen(ground, &token, &owner()).await?;
    ensure!(matches!(first, Remote::Pending(_)), "it is being made: {first:?}");
    refused(ground.cloud().perform(&create(&token)).await, Class::Conflict, "while it is being made")?;
    let made = eventually(ground, "it is available", async || {
        Ok(seen(ground, &token, &owner()).await?.ready().cloned())
    })
    .await?;
    refused(ground.cloud().perform(&create(&token)).await, Class::Conflict, "when it is there")?;
    ensure!((made.throughput_mode.as_str(), made.is_encrypted) == ("elastic", true), "{made:?}");
    let by_id = ground.cloud().file_system(FileSystemQuery::Existing(&made.id)).await?;
    ensure!(by_id == Remote::Ready(made), "{by_id:?}");
    Ok(())
}

pub(super) async fn a_file_system_is_told_by_its_owner_tag<G: Ground>(ground: &G) -> Result<()> {
    let made = file_system(ground).await?;
    let token = ground.name("fs");
    let theirs = seen(ground, &token, &other()).await?;
    ensure!(matches!(&theirs, Remote::Foreign { owner: it, .. } if *it == owner().0), "{theirs:?}");
    let tag = Step::TagResource {
        tagged: Tagged::FileSystem,
        id: made.id.clone(),
        resource: made.id.clone(),
        from: owner().0,
        owner: other(),
    };
    done_twice(ground, tag).await?;
    ensure!(seen(ground, &token, &other()).await?.ready().is_some(), "taken over");
    let ours = seen(ground, &token, &owner()).await?;
    ensure!(matches!(&ours, Remote::Foreign { owner: it, .. } if *it == other().0), "{ours:?}");
    Ok(())
}

pub(super) async fn a_throughput_mode_is_changed<G: Ground>(ground: &G) -> Result<()> {
    let made = file_system(ground).await?;
    let update = |id: &str| Step::UpdateFileSystem { id: id.to_owned(), throughput_mode: "bursting" };
    done(ground, update(&made.id)).await?;
    eventually(ground, "the mode is another", async || {
        let seen = ground.cloud().file_system(FileSystemQuery::Existing(&made.id)).await?;
        Ok(seen.ready().filter(|it| it.throughput_mode == "bursting").map(drop))
    })
    .await?;
    let none = update("fs-00000000000000000");
    refused(ground.cloud().perform(&none).await, Class::NotFound, "a file system that is not there")
}

pub(super) async fn a_file_system_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let made = file_system(ground).await?;
    let delete = Step::DeleteFileSystem { id: made.id.clone() };
    done(ground, delete.clone()).await?;
    let leaving = ground.cloud().file_system(FileSystemQuery::Existing(&made.id)).await?;
    ensure!(matches!(leaving, Remote::Deleting(_)), "it is seen to go: {leaving:?}");
    eventually(ground, "it is gone", async || {
        let seen = ground.cloud().file_system(FileSystemQuery::Existing(&made.id)).await?;
        Ok((seen == Remote::Absent).then_some(()))
    })
    .await?;
    done_twice(ground, delete).await
}

pub(super) async fn nothing_is_added_to_a_file_system_that_is_being_made<G: Ground>(
    ground: &G,
) -> Result<()> {
    let token = ground.name("fs");
    done(ground, create(&token)).await?;
    let Remote::Pending(it) = seen(ground, &token, &owner()).await? else {
        anyhow::bail!("it is available at once");
    };
    let target = create_target(ground, &it.id, 0);
    refused(ground.cloud().perform(&target).await, Class::Conflict, "a mount target")?;
    let point = create_point(&ground.name("ap"), &it.id);
    refused(ground.cloud().perform(&point).await, Class::Conflict, "an access point")
}

pub(super) async fn a_mount_target_is_one_of_its_zone<G: Ground>(ground: &G) -> Result<()> {
    let id = file_system(ground).await?.id;
    ensure!(targets(ground, &id).await?.is_empty(), "none is there");
    let create = create_target(ground, &id, 0);
    done(ground, create.clone()).await?;
    let found = targets(ground, &id).await?;
    ensure!(found.len() == 1 && found[0].state == "creating", "it is being made: {found:?}");
    refused(ground.cloud().perform(&create).await, Class::Conflict, "a second one in the zone")?;
    let there = eventually(ground, "it is available", async || {
        Ok(targets(ground, &id).await?.into_iter().find(|it| it.state == "available"))
    })
    .await?;
    let subnet = &ground.subnets()[0];
    ensure!((&there.subnet, &there.zone) == (&subnet.id, &subnet.zone), "{there:?}");
    ensure!(there.security_groups == BTreeSet::from([ground.security_groups()[0].clone()]), "{there:?}");
    done(ground, create_target(ground, &id, 1)).await?;
    let zones: BTreeSet<String> = targets(ground, &id).await?.into_iter().map(|it| it.zone).collect();
    ensure!(zones.len() == 2, "{zones:?}");
    Ok(())
}

pub(super) async fn security_groups_of_a_mount_target_are_changed<G: Ground>(ground: &G) -> Result<()> {
    let id = file_system(ground).await?.id;
    let groups = ground.security_groups()[1..].to_vec();
    let set =
        |id: &str| Step::SetMountTargetSecurityGroups { id: id.to_owned(), security_groups: groups.clone() };
    let it = target(ground, &id).await?;
    for _ in 0..2 {
        done(ground, set(&it.id)).await?;
        let found = targets(ground, &id).await?.remove(0).security_groups;
        ensure!(found == groups.iter().cloned().collect(), "{found:?}");
    }
    let none = set("fsmt-00000000000000000");
    refused(ground.cloud().perform(&none).await, Class::NotFound, "a mount target that is not there")
}

pub(super) async fn a_file_system_with_a_mount_target_stays<G: Ground>(ground: &G) -> Result<()> {
    let id = file_system(ground).await?.id;
    target(ground, &id).await?;
    let delete = Step::DeleteFileSystem { id };
    refused(ground.cloud().perform(&delete).await, Class::Conflict, "it is in use")
}

pub(super) async fn a_mount_target_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let id = file_system(ground).await?.id;
    let it = target(ground, &id).await?;
    let delete = Step::DeleteMountTarget { id: it.id };
    done(ground, delete.clone()).await?;
    let leaving = targets(ground, &id).await?;
    ensure!(leaving.len() == 1 && leaving[0].state == "deleting", "it is seen to go: {leaving:?}");
    eventually(ground, "it is gone", async || Ok(targets(ground, &id).await?.is_empty().then_some(())))
        .await?;
    done_twice(ground, delete).await
}

pub(super) async fn an_access_point_is_made_once_for_a_token<G: Ground>(ground: &G) -> Result<()> {
    let id = file_system(ground).await?.id;
    let token = ground.name("ap");
    done(ground, create_point(&token, &id)).await?;
    let found = points(ground, &id, &owner()).await?;
    ensure!(found.len() == 1 && found[0].token == token, "{found:?}");
    ensure!(matches!(found[0].it, Remote::Pending(_)), "it is being made: {found:?}");
    let again = ground.cloud().perform(&create_point(&token, &id)).await;
    refused(again, Class::Conflict, "the same token")?;
    let made = eventually(ground, "it is available", async || {
        Ok(points(ground, &id, &owner()).await?.remove(0).it.ready().cloned())
    })
    .await?;
    ensure!(made.arn.ends_with(&format!("/{}", made.id)), "{made:?}");
    ensure!(made == AccessPoint::of(&spec(), made.id.clone(), made.arn.clone()), "{made:?}");
    let theirs = points(ground, &id, &other()).await?.remove(0).it;
    ensure!(theirs == Remote::Foreign { owner: owner().0, id: made.id }, "{theirs:?}");
    Ok(())
}

pub(super) async fn access_points_are_listed_in_pages<G: Ground>(ground: &G) -> Result<()> {
    let id = file_system(ground).await?.id;
    for n in 0..3 {
        done(ground, create_point(&ground.name(&format!("ap-{n}")), &id)).await?;
    }
    let found = points(ground, &id, &owner()).await?;
    let tokens: BTreeSet<String> = found.iter().map(|it| it.token.clone()).collect();
    ensure!((found.len(), tokens.len()) == (3, 3), "{found:?}");
    Ok(())
}

pub(super) async fn an_access_point_goes_and_goes_again<G: Ground>(ground: &G) -> Result<()> {
    let id = file_system(ground).await?.id;
    let it = point(ground, &id, "ap").await?;
    let delete = Step::DeleteAccessPoint { id: it.id };
    done(ground, delete.clone()).await?;
    let leaving = points(ground, &id, &owner()).await?;
    ensure!(
        leaving.len() == 1 && matches!(leaving[0].it, Remote::Deleting(_)),
        "it is seen to go: {leaving:?}"
    );
    eventually(ground, "it is gone", async || {
        Ok(points(ground, &id, &owner()).await?.is_empty().then_some(()))
    })
    .await?;
    done_twice(ground, delete).await
}

pub(super) async fn what_is_not_there_has_no_parts<G: Ground>(ground: &G) -> Result<()> {
    let none = "fs-00000000000000000";
    let by_id = ground.cloud().file_system(FileSystemQuery::Existing(none)).await?;
    ensure!(by_id == Remote::Absent, "{by_id:?}");
    ensure!(targets(ground, none).await?.is_empty(), "no mount targets");
    ensure!(points(ground, none, &owner()).await?.is_empty(), "no access points");
    let target = create_target(ground, none, 0);
    refused(ground.cloud().perform(&target).await, Class::NotFound, "a mount target")?;
    let point = create_point(&ground.name("ap"), none);
    refused(ground.cloud().perform(&point).await, Class::NotFound, "an access point")
}
