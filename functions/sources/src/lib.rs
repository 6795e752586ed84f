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
}

impl Content {
    /// As an object's validator in a listing.
    #[must_use]
    pub fn validator(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::GitBlob(name) => format!("git-blob:{}", hex::encode(name)),
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

/// The bytes of a file, as they come.
pub type Body = BoxStream<'static, Result<Bytes, SourceError>>;

/// Lists and opens sources. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    web: Web,
}

impl Sources {
    /// With hosts that may have any address, as `host` or `host:port`.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn new(allowed_hosts: Vec<String>) -> Result<Self, rustls::Error> {
        let settings = Settings {
            agent: concat!("larder/", env!("CARGO_PKG_VERSION")),
            allowed_hosts,
            plain: Plain::Loopback,
            redirects: 5,
            connect: Duration::from_secs(5),
            idle: 64,
        };
        Ok(Self { web: Web::new(settings)? })
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
        let (session, files) = match source {
            ModelSource::Oci(oci) => {
                let session = Session::registry(self.web.clone(), &oci.reference, credentials);
                let files = oci::list(&session, oci).await?;
                (session, files)
            }
            ModelSource::HuggingFace(hub) => {
                let session = Session::plain(self.web.clone(), credentials)?;
                let files = hub::list(&session, hub).await?;
                (session, files)
            }
            ModelSource::Https(https) => {
                let session = Session::plain(self.web.clone(), credentials)?;
                let files = https::list(&session, https).await?;
                (session, files)
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
        Ok(Opened { session, files })
    }
}

/// A source that was listed.
#[derive(Debug)]
pub struct Opened {
    session: Session,
    files: Vec<File>,
}

impl Opened {
    /// Its files, in no order.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
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
