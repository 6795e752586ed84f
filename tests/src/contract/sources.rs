//! What the user brings: subnets, code and models.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use larder::cloud::Cloud as _;
use larder_core::Class;
use larder_core::endpoint::{CodeRef, ImageRef, ImageReference};
use larder_core::observed::Package;

use super::ground::Ground;
use super::{all, refused};

pub(super) async fn subnets_are_known_by_id<G: Ground>(ground: &G) -> Result<()> {
    let wanted = ground.subnets();
    let mut found = ground.cloud().subnets(&wanted.iter().map(|it| it.id.clone()).collect()).await?;
    found.sort_by(|a, b| a.id.cmp(&b.id));
    let mut wanted = wanted.to_vec();
    wanted.sort_by(|a, b| a.id.cmp(&b.id));
    ensure!(found == wanted && found[0].zone != found[1].zone && found[0].vpc == found[1].vpc, "{found:?}");
    ensure!(ground.cloud().subnets(&BTreeSet::new()).await?.is_empty(), "none were asked for");
    let none = ground.cloud().subnets(&["subnet-00000000000000000".to_owned()].into()).await;
    refused(none, Class::NotFound, "a subnet that is not there")
}

pub(super) async fn a_tag_is_resolved_to_a_digest<G: Ground>(ground: &G) -> Result<()> {
    let (image, digest) = ground.push("a", "first").await?;
    let found = ground.cloud().code(&CodeRef::Image(image.clone())).await?;
    let uri = image.with_digest(&digest);
    ensure!((&found.digest, &found.package) == (&digest, &Package::Image { uri }), "{found:?}");
    let by_digest = ImageRef { reference: ImageReference::Digest(digest.clone()), ..image.clone() };
    ensure!(ground.cloud().code(&CodeRef::Image(by_digest)).await?.digest == digest, "by its digest");
    let (_, another) = ground.push("a", "second").await?;
    let moved = ground.cloud().code(&CodeRef::Image(image.clone())).await?.digest;
    ensure!(moved == another && moved != digest, "the tag has moved: {moved}");
    let none = ImageRef { reference: ImageReference::Tag("not-there".to_owned()), ..image };
    refused(ground.cloud().code(&CodeRef::Image(none)).await, Class::NotFound, "a tag that is not there")
}

pub(super) async fn an_archive_is_told_by_its_bytes<G: Ground>(ground: &G) -> Result<()> {
    let bucket = ground.name("code");
    let archive = |key: &str| CodeRef::Zip { bucket: bucket.clone(), key: key.to_owned(), version_id: None };
    refused(ground.cloud().code(&archive("a.zip")).await, Class::NotFound, "a bucket that is not there")?;
    ground.make_bucket(&bucket).await?;
    refused(ground.cloud().code(&archive("a.zip")).await, Class::NotFound, "an object that is not there")?;
    let mut digests = BTreeSet::new();
    for (key, body) in [("a.zip", "first"), ("a.zip", "first"), ("b.zip", "first"), ("a.zip", "second")] {
        ground.put(&bucket, key, body).await?;
        digests.insert(ground.cloud().code(&archive(key)).await?.digest);
    }
    ensure!(digests.len() == 2, "{digests:?}");
    Ok(())
}

pub(super) async fn objects_are_listed_in_pages<G: Ground>(ground: &G) -> Result<()> {
    let bucket = ground.name("models");
    ground.make_bucket(&bucket).await?;
    let count = ground.more_than_a_page();
    for n in 0..count {
        ground.put(&bucket, &format!("ocr/{n:04}"), "four").await?;
    }
    ground.put(&bucket, "other", "x").await?;
    let first = ground.cloud().objects(&bucket, "ocr/", None).await?;
    ensure!(first.next.is_some() && first.items.len() < count, "{} are one page", first.items.len());
    let found = all(async |page| ground.cloud().objects(&bucket, "ocr/", page).await).await?;
    let keys: BTreeSet<&str> = found.iter().map(|it| it.relative_key.as_str()).collect();
    ensure!((found.len(), keys.len()) == (count, count), "{} objects, {} keys", found.len(), keys.len());
    ensure!(found.iter().all(|it| it.size == 4 && !it.etag.contains('"')), "{:?}", found[0]);
    let none = all(async |page| ground.cloud().objects(&bucket, "none/", page).await).await?;
    ensure!(none.is_empty(), "{none:?}");
    Ok(())
}

pub(super) async fn a_bucket_that_is_not_there_is_missed<G: Ground>(ground: &G) -> Result<()> {
    let bucket = ground.name("none");
    refused(ground.cloud().objects(&bucket, "ocr/", None).await, Class::NotFound, "its objects")
}

pub(super) async fn small_objects_are_read<G: Ground>(ground: &G) -> Result<()> {
    let bucket = ground.name("markers");
    ground.make_bucket(&bucket).await?;
    ground.put(&bucket, "larder.json", "first").await?;
    ensure!(ground.cloud().object(&bucket, "larder.json", 5).await? == b"first", "its bytes");
    refused(ground.cloud().object(&bucket, "larder.json", 4).await, Class::Invalid, "one that is too large")?;
    refused(ground.cloud().object(&bucket, "none", 5).await, Class::NotFound, "one that is not there")
}
