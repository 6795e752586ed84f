//! Sources other than S3, as [`Source`]s: what [`larder_sources`] lists and reads.

use std::collections::BTreeMap;
use std::ops::Range;

use aws_config::SdkConfig;
use futures::StreamExt as _;
use larder_contract::ModelSource;
use larder_sources::{Content, Credentials, File, Opened, Sources, credentials};
use tokio::sync::OnceCell;

use crate::checksum::{Algorithm, Checksum};
use crate::expected::Expected;
use crate::source::{Body, Listed, Page, Source, SourceError, Whole};

/// A source other than S3.
#[derive(Debug)]
pub struct Remote {
    sources: Sources,
    from: ModelSource,
    /// For the secret that the source names, and the token of Amazon ECR.
    config: SdkConfig,
    /// Those of a person at the command line, instead.
    credentials: Option<Credentials>,
    opened: OnceCell<(Opened, BTreeMap<String, usize>)>,
    /// What one server says of ranges, it says of all its files.
    has_ranges: OnceCell<bool>,
}

impl Remote {
    /// Reads `from`, as whoever the credentials say, or its secret, or AWS.
    #[must_use]
    pub fn new(
        sources: Sources,
        from: ModelSource,
        config: SdkConfig,
        credentials: Option<Credentials>,
    ) -> Self {
        let (opened, has_ranges) = (OnceCell::new(), OnceCell::new());
        Self { sources, from, config, credentials, opened, has_ranges }
    }

    async fn opened(&self) -> Result<&(Opened, BTreeMap<String, usize>), SourceError> {
        let open = async || {
            let credentials = match &self.credentials {
                Some(credentials) => Some(credentials.clone()),
                None => Box::pin(credentials::of(&self.config, &self.from)).await?,
            };
            let opened = Box::pin(self.sources.open(&self.from, credentials)).await?;
            let by_path = |(nth, file): (usize, &File)| (file.path.to_string(), nth);
            let by_path = opened.files().iter().enumerate().map(by_path).collect();
            Ok::<_, larder_sources::SourceError>((opened, by_path))
        };
        Ok(self.opened.get_or_try_init(open).await?)
    }

    /// A file, if it is the one that was listed.
    async fn file(&self, key: &str, etag: &str) -> Result<(&Opened, &File), SourceError> {
        let (opened, by_path) = self.opened().await?;
        let file = by_path.get(key).and_then(|nth| opened.files().get(*nth));
        match file.filter(|file| file.content.validator() == etag) {
            Some(file) => Ok((opened, file)),
            None => Err(SourceError::changed(&self.address(key), "its listing has other content now")),
        }
    }
}

fn expected(file: &File) -> Expected {
    Expected::Whole(match &file.content {
        Content::Sha256(digest) | Content::Layer(digest) => {
            Checksum { algorithm: Algorithm::Sha256, value: digest.as_bytes().to_vec() }
        }
        Content::GitBlob(name) => Checksum { algorithm: Algorithm::GitBlob, value: name.to_vec() },
    })
}

fn body(body: larder_sources::Body) -> Body {
    body.map(|chunk| chunk.map_err(SourceError::from)).boxed()
}

impl Source for Remote {
    fn place(&self) -> String {
        self.from.to_string()
    }

    fn prefix(&self) -> &'static str {
        ""
    }

    fn address(&self, key: &str) -> String {
        format!("{}: {key}", self.from)
    }

    async fn list(&self, _: Option<String>) -> Result<Page, SourceError> {
        let (opened, _) = self.opened().await?;
        let listed = |file: &File| Listed {
            key: file.path.to_string(),
            size: file.size,
            etag: file.content.validator(),
        };
        let objects = opened.files().iter().map(listed).collect();
        Ok(Page { objects, next: None, image: opened.image().cloned() })
    }

    async fn has_ranges(&self, key: &str, etag: &str) -> Result<bool, SourceError> {
        let (opened, file) = self.file(key, etag).await?;
        let ask = async || opened.has_ranges(file).await;
        Ok(match &self.from {
            ModelSource::Https(_) => ask().await?,
            ModelSource::S3(_) | ModelSource::Oci(_) | ModelSource::HuggingFace(_) => {
                *self.has_ranges.get_or_try_init(ask).await?
            }
        })
    }

    async fn expected(&self, key: &str, etag: &str) -> Result<Option<Expected>, SourceError> {
        Ok(Some(expected(self.file(key, etag).await?.1)))
    }

    async fn part_length(&self, _: &str, _: &str, _: u32) -> Result<Option<u64>, SourceError> {
        Ok(None)
    }

    async fn read(&self, key: &str, etag: &str, range: Range<u64>) -> Result<Body, SourceError> {
        let (opened, file) = self.file(key, etag).await?;
        Ok(body(opened.read(file, Some(range)).await?))
    }

    async fn read_whole(&self, key: &str, etag: &str) -> Result<Whole, SourceError> {
        let (opened, file) = self.file(key, etag).await?;
        Ok(Whole { expected: Some(expected(file)), body: body(opened.read(file, None).await?) })
    }
}
