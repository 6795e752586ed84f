//! Artifacts and images in registries.
//!
//! - [`manifest`]: which files a manifest stands for. Pure.
//!
//! The files of an image are known once its layers are unpacked, which the listing must not wait for. So its
//! layers are what is listed, under the folder's name, and whoever copies them takes the folder out.
//!
//! - [`login`]: how a registry wants to be asked.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

pub(crate) mod login;
mod manifest;

use larder_contract::source::{IMAGE_FOLDER, OciPick, OciReference, OciSource};
use larder_contract::{Digest, RelativePath};
use url::Url;

use crate::session::{Session, parsed};
use crate::{Class, Content, File, Image, SourceError};
use manifest::{Configuration, Document, Layer};

/// The manifests that are read here.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";

/// Those of an image: the files are its layers.
type Listed = (Vec<File>, Option<Image>);

pub(crate) async fn list(session: &Session, source: &OciSource) -> Result<Listed, SourceError> {
    let reference = &source.reference;
    let address = format!("oci://{reference}");
    let invalid = |why: &str| SourceError::new(Class::Invalid, &address, why);
    let mut pick = match &reference.pick {
        OciPick::Tag(tag) => tag.clone(),
        OciPick::Digest(digest) => digest.to_string(),
    };
    // An index names manifests, and those are no indexes.
    for _ in 0..2 {
        let url = at(reference, "manifests", &pick)?;
        let (_, text) = session.fetch(&url, ACCEPT).await?;
        let wanted: Option<Digest> = pick.starts_with("sha256:").then(|| pick.parse().ok()).flatten();
        if wanted.is_some_and(|wanted| wanted != Digest::of(&text)) {
            return Err(SourceError::new(Class::Transient, &address, "the manifest has another digest"));
        }
        match manifest::read(&parsed(&url, &text)?).map_err(|why| invalid(&why))? {
            Document::Index(digest) => pick = digest.to_string(),
            Document::Artifact(layers) => {
                if source.path.is_some() {
                    return Err(invalid("it is an artifact and no image: leave path out"));
                }
                let files = layers.into_iter().map(|layer| file(reference, layer));
                return Ok((files.collect::<Result<_, _>>()?, None));
            }
            Document::Image(config, layers) => return image(session, source, config, &layers).await,
        }
    }
    Err(invalid("it is an index of indexes"))
}

async fn image(
    session: &Session,
    source: &OciSource,
    config: Digest,
    layers: &[(Digest, u64)],
) -> Result<Listed, SourceError> {
    let reference = &source.reference;
    let address = format!("oci://{reference}");
    let invalid = |why: &str| SourceError::new(Class::Invalid, &address, why);
    let url = at(reference, "blobs", &config.to_string())?;
    let (_, text) = session.fetch(&url, "*/*").await?;
    if Digest::of(&text) != config {
        return Err(SourceError::new(Class::Transient, &address, "the configuration has another digest"));
    }
    let Configuration { rootfs } = parsed(&url, &text)?;
    let diff_ids = rootfs.diff_ids.iter().map(|id| manifest::digest(id)).collect::<Result<Vec<_>, _>>();
    let diff_ids = diff_ids.map_err(|why| invalid(&why))?;
    if diff_ids.len() != layers.len() {
        return Err(invalid("its configuration has another number of layers"));
    }
    let folder = source.path.clone().map_or_else(|| RelativePath::parse(IMAGE_FOLDER), Ok);
    let folder = folder.map_err(|e| invalid(&e.to_string()))?;
    let mut files = Vec::with_capacity(layers.len());
    for (nth, (digest, size)) in layers.iter().enumerate() {
        // The folder and the order are part of what is copied, so they are in the names: four digits sort as layers do.
        let path = RelativePath::parse(&format!("{folder}/{nth:04}")).map_err(|e| invalid(&e.to_string()))?;
        let url = at(reference, "blobs", &digest.to_string())?;
        let content = Content::Layer(*digest);
        files.push(File { path, size: *size, content, url, is_fixed: true, etag: None });
    }
    Ok((files, Some(Image { folder, diff_ids })))
}

fn file(reference: &OciReference, layer: Layer) -> Result<File, SourceError> {
    let Layer { path, size, content } = layer;
    let url = at(reference, "blobs", &content.validator())?;
    Ok(File { path, size, content, url, is_fixed: true, etag: None })
}

/// Registries on this machine speak HTTP without TLS.
fn at(reference: &OciReference, what: &str, name: &str) -> Result<Url, SourceError> {
    let OciReference { registry, repository, .. } = reference;
    let parse = |scheme: &str| Url::parse(&format!("{scheme}://{registry}/v2/{repository}/{what}/{name}"));
    let refused = |e| SourceError::new(Class::Invalid, registry, &format!("it is no host ({e})"));
    let url = parse("https").map_err(refused)?;
    let is_here = url.host().is_some_and(|host| larder_web::is_loopback(&host));
    if is_here { parse("http").map_err(refused) } else { Ok(url) }
}
