//! Which files a manifest stands for. Pure.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/manifest.md>

use std::collections::BTreeMap;

use larder_contract::{Digest, RelativePath};
use serde::Deserialize;

use crate::Content;

/// What names a layer's file: that of ORAS and of most tools, and that of the CNCF's model format.
const NAMES: [&str; 2] = ["org.opencontainers.image.title", "org.cncf.model.filepath"];

/// Says that a layer is a folder, packed.
const UNPACK: &str = "io.deis.oras.content.unpack";

/// The layer of an artifact that has none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What the layers of an image are, before the `.` or `+` of their compression.
const IMAGE_LAYERS: [&str; 2] =
    ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];

/// The most layers of an image; tools make up to 127.
pub(crate) const MAX_LAYERS: usize = 1_000;

/// As a registry sends it: a manifest or an index.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// A manifest, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// Look at this one.
    Index(Digest),
    /// Each layer is a file.
    Artifact(Vec<Layer>),
    /// Each layer, from the lowest on, is what changes in a file system. The digest is that of its configuration.
    Image(Digest, Vec<(Digest, u64)>),
}

/// Of an image's configuration: what its layers are before they are compressed.
/// <https://github.com/opencontainers/image-spec/blob/main/config.md>
#[derive(Debug, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) rootfs: Rootfs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rootfs {
    #[serde(default)]
    pub(crate) diff_ids: Vec<String>,
}

/// A layer that is a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) path: RelativePath,
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// Understands a manifest.
pub(crate) fn read(written: &Written) -> Result<Document, String> {
    if !written.manifests.is_empty() {
        return pick(&written.manifests).map(Document::Index);
    }
    let layers: Vec<&Descriptor> = written.layers.iter().filter(|layer| layer.media_type != EMPTY).collect();
    if layers.is_empty() {
        return Err("it has no layers".to_owned());
    }
    if let Some(config) = &written.config
        && layers.iter().all(|layer| name(layer).is_none() && is_of_an_image(&layer.media_type))
    {
        return image(config, &layers);
    }
    layers.into_iter().map(layer).collect::<Result<_, _>>().map(Document::Artifact)
}

fn image(config: &Descriptor, layers: &[&Descriptor]) -> Result<Document, String> {
    if layers.len() > MAX_LAYERS {
        return Err(format!("it has more than {MAX_LAYERS} layers"));
    }
    let unpacked = ["", "+gzip", ".gzip", "+zstd"];
    let known = |layer: &Descriptor| {
        let rest = IMAGE_LAYERS.iter().find_map(|kind| layer.media_type.strip_prefix(kind));
        rest.is_some_and(|rest| unpacked.contains(&rest))
    };
    if let Some(other) = layers.iter().find(|layer| !known(layer)) {
        let Descriptor { digest, media_type, .. } = other;
        return Err(format!(
            "its layer {digest} is {media_type}, and tar, gzip and zstd are unpacked: push it without encryption"
        ));
    }
    let each = |layer: &&Descriptor| Ok((digest(&layer.digest)?, layer.size));
    Ok(Document::Image(digest(&config.digest)?, layers.iter().map(each).collect::<Result<_, String>>()?))
}

fn is_of_an_image(media_type: &str) -> bool {
    IMAGE_LAYERS.iter().any(|kind| media_type.starts_with(kind))
}

fn name(layer: &Descriptor) -> Option<&String> {
    NAMES.iter().find_map(|name| layer.annotations.get(*name))
}

pub(crate) fn digest(text: &str) -> Result<Digest, String> {
    let digest = text.strip_prefix("sha256:").and_then(|_| text.parse().ok());
    digest.ok_or_else(|| format!("{text} is no sha256 digest, and others are not verified"))
}

fn layer(layer: &Descriptor) -> Result<Layer, String> {
    let name = name(layer).ok_or_else(|| {
        format!(
            "its layer {} has no annotation {}, and is none of an image: push it with a tool that writes them",
            layer.digest, NAMES[0]
        )
    })?;
    if layer.annotations.get(UNPACK).is_some_and(|unpack| unpack == "true") {
        return Err(format!(
            "its layer {name:?} is a packed folder: push the files of the folder one by one"
        ));
    }
    let path = RelativePath::parse(name).map_err(|e| format!("its layer {}: {e}", layer.digest))?;
    Ok(Layer { path, size: layer.size, content: Content::Sha256(digest(&layer.digest)?) })
}

/// The only manifest of an index, or the one for the usual machine: a model is the same on all.
fn pick(manifests: &[Descriptor]) -> Result<Digest, String> {
    // Attestations of a build stand beside what was built.
    let is_real = |it: &&Descriptor| it.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
    let real: Vec<&Descriptor> = manifests.iter().filter(is_real).collect();
    let is_usual = |it: &&&Descriptor| {
        it.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64")
    };
    match real.as_slice() {
        [only] => digest(&only.digest),
        several => match several.iter().find(is_usual) {
            Some(usual) => digest(&usual.digest),
            None => Err("it is an index of several, none for linux/amd64: name one by its digest".to_owned()),
        },
    }
}
