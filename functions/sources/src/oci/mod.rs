//! Artifacts and images in registries.
//!
//! - [`manifest`]: which files a manifest stands for. Pure.
//! - [`login`]: how a registry wants to be asked.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

pub(crate) mod login;
mod manifest;

use larder_contract::Digest;
use larder_contract::source::{OciPick, OciReference, OciSource};
use url::Url;

use crate::session::{Session, parsed};
use crate::{Class, File, SourceError};
use manifest::{Document, Layer};

/// The manifests that are read here.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";

pub(crate) async fn list(session: &Session, source: &OciSource) -> Result<Vec<File>, SourceError> {
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
                return layers.into_iter().map(|layer| file(reference, layer)).collect();
            }
        }
    }
    Err(invalid("it is an index of indexes"))
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
