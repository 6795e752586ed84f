//! Where models live besides S3. The controller lists, model-sync lists and reads, both by this code, so that
//! both come to the same revision.
//!
//! - [`oci`]: artifacts and images in registries.
//! - [`hub`]: repositories of a Hugging Face hub.
//! - [`https`]: files that have a URL each.
//! - [`session`]: GETs as somebody, of one source.
//! - [`credentials`]: what proves who asks, and where it comes from in AWS.
//! - [`error`]: what went wrong, and what to do.
//!
//! Every file is known by what its bytes hash to before one of them is fetched. Deliberately absent: retries, time
//! limits, and the comparison of what came with what was wanted. They are the caller's.

pub mod credentials;
pub mod error;
mod https;
mod hub;
mod oci;
mod session;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use larder_contract::revision::MAX_OBJECTS;
use larder_contract::{Digest, ModelSource, ObjectEntry, RelativePath};
use larder_web::{Plain, Settings, Web};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use url::Url;

pub use credentials::Credentials;
pub use error::{Class, SourceError};
use session::Session;

/// What the bytes of a file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// They have this SHA-256.
    Sha256(Digest),
    /// As a blob of git they have this name: the SHA-1 of `blob`, their length and themselves.
    GitBlob([u8; 20]),
    /// They have this SHA-256, and are the layer of an image.
    Layer(Digest),
}

impl Content {
    /// As an object's validator in a listing.
    #[must_use]
    pub fn validator(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::GitBlob(name) => format!("git-blob:{}", hex::encode(name)),
            // Not that of a file: what comes of it is not the file.
            Self::Layer(digest) => format!("layer:{digest}"),
        }
    }
}

/// A file of a model, at its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it goes in the model's folder.
    pub path: RelativePath,
    /// Length in bytes.
    pub size: u64,
    /// What its bytes must be.
    pub content: Content,
    /// Where it is.
    pub url: Url,
    /// Whether the URL stands for one content for ever.
    pub is_fixed: bool,
    /// A strong validator that the server has for the content, as a condition.
    pub etag: Option<String>,
}

impl File {
    /// As an object of a listing.
    #[must_use]
    pub fn entry(&self) -> ObjectEntry {
        ObjectEntry { path: self.path.clone(), size: self.size, etag: self.content.validator() }
    }
}

/// What is to be taken out of a container image, whose layers are the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The folder of the image that is the model.
    pub folder: RelativePath,
    /// What each layer hashes to before it is compressed, in the order of the files' paths, the lowest first.
    pub diff_ids: Vec<Digest>,
}

/// The bytes of a file, as they come.
pub type Body = BoxStream<'static, Result<Bytes, SourceError>>;

/// Certificate authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AuthorityError {
    #[error("the certificate authorities hold no certificate; write each as -----BEGIN CERTIFICATE-----")]
    None,
    #[error("the certificate authorities are no PEM ({0})")]
    Pem(#[from] pem::Error),
    #[error("one of the certificate authorities cannot be used ({0})")]
    Tls(#[from] rustls::Error),
}

/// Lists and opens sources. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    web: Web,
}

impl Sources {
    /// With hosts that may have any address, as `host` or `host:port`, and certificate authorities in PEM that are
    /// trusted beside the public ones.
    ///
    /// # Errors
    /// When the text holds no certificate, or one that is no authority's.
    pub fn new(allowed_hosts: Vec<String>, authorities: Option<&str>) -> Result<Self, AuthorityError> {
        let settings = Settings {
            agent: concat!("larder/", env!("CARGO_PKG_VERSION")),
            allowed_hosts,
            plain: Plain::Loopback,
            redirects: 5,
            connect: Duration::from_secs(5),
            idle: 64,
        };
        let mut roots = larder_web::public_roots();
        if let Some(text) = authorities {
            let certificates: Vec<_> =
                CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>()?;
            if certificates.is_empty() {
                return Err(AuthorityError::None);
            }
            certificates.into_iter().try_for_each(|certificate| roots.add(certificate))?;
        }
        Ok(Self { web: Web::trusting(roots, settings)? })
    }

    /// Lists a source; nothing of its files is fetched.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn open(
        &self,
        source: &ModelSource,
        credentials: Option<Credentials>,
    ) -> Result<Opened, SourceError> {
        let (session, (files, image)) = match source {
            ModelSource::Oci(oci) => {
                let session = Session::registry(self.web.clone(), &oci.reference, credentials);
                let listed = oci::list(&session, oci).await?;
                (session, listed)
            }
            ModelSource::HuggingFace(hub) => {
                let session = Session::plain(self.web.clone(), credentials)?;
                let files = hub::list(&session, hub).await?;
                (session, (files, None))
            }
            ModelSource::Https(https) => {
                let session = Session::plain(self.web.clone(), credentials)?;
                let files = https::list(&session, https).await?;
                (session, (files, None))
            }
            ModelSource::S3(_) => {
                let why = "it is listed by the S3 client";
                return Err(SourceError::new(Class::Invalid, &source.to_string(), why));
            }
        };
        if files.len() > MAX_OBJECTS {
            let why = format!("it has more than {MAX_OBJECTS} files");
            return Err(SourceError::new(Class::Invalid, &source.to_string(), &why));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = files.iter().find(|file| !seen.insert(&file.path)) {
            let why = format!("it has two files {}", twice.path);
            return Err(SourceError::new(Class::Invalid, &source.to_string(), &why));
        }
        Ok(Opened { session, files, image })
    }
}

/// A source that was listed.
#[derive(Debug)]
pub struct Opened {
    session: Session,
    files: Vec<File>,
    image: Option<Image>,
}

impl Opened {
    /// Its files, in no order.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// What is to be taken out of the files, where they are an image's layers.
    #[must_use]
    pub const fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// Whether parts of a file can be had, and are surely parts of the same content.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn has_ranges(&self, file: &File) -> Result<bool, SourceError> {
        let probed = self.session.probe(&file.url).await?;
        let is_bound = file.is_fixed || (file.etag.is_some() && probed.etag == file.etag);
        Ok(probed.has_ranges && is_bound && probed.size == Some(file.size))
    }

    /// The bytes of a file, or of a range of it. A body may lie about its length: the caller counts.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn read(&self, file: &File, range: Option<Range<u64>>) -> Result<Body, SourceError> {
        self.session.read(&file.url, range, file.etag.as_deref()).await
    }
}
