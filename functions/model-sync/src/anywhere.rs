//! A source of any kind, and how it is opened.

use std::ops::Range;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use larder_contract::ModelSource;
use larder_sources::{Credentials, Sources};

use crate::expected::Expected;
use crate::remote::Remote;
use crate::s3::{self, S3};
use crate::source::{Body, Page, Source, SourceError, Whole};

/// Opens sources of any kind.
#[derive(Debug, Clone)]
pub struct Opener {
    config: SdkConfig,
    s3: Client,
    sources: Sources,
}

impl Opener {
    /// With AWS as `config` has it, and what `sources` may ask.
    #[must_use]
    pub fn new(config: SdkConfig, sources: Sources) -> Self {
        Self { s3: s3::client(&config), config, sources }
    }

    /// Opens a source; nobody is asked yet.
    #[must_use]
    pub fn open(&self, source: &ModelSource, credentials: Option<Credentials>) -> Anywhere {
        match source {
            ModelSource::S3(prefix) => Anywhere::S3(S3::new(self.s3.clone(), prefix.clone())),
            ModelSource::Oci(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => {
                let (sources, config) = (self.sources.clone(), self.config.clone());
                Anywhere::Remote(Box::new(Remote::new(sources, source.clone(), config, credentials)))
            }
        }
    }
}

/// A source of any kind.
#[derive(Debug)]
pub enum Anywhere {
    /// A prefix on S3.
    S3(S3),
    /// Anything else.
    Remote(Box<Remote>),
}

impl Source for Anywhere {
    fn place(&self) -> String {
        match self {
            Self::S3(it) => it.place(),
            Self::Remote(it) => it.place(),
        }
    }

    fn prefix(&self) -> &str {
        match self {
            Self::S3(it) => it.prefix(),
            Self::Remote(it) => it.prefix(),
        }
    }

    fn address(&self, key: &str) -> String {
        match self {
            Self::S3(it) => it.address(key),
            Self::Remote(it) => it.address(key),
        }
    }

    async fn list(&self, token: Option<String>) -> Result<Page, SourceError> {
        match self {
            Self::S3(it) => it.list(token).await,
            Self::Remote(it) => it.list(token).await,
        }
    }

    async fn has_ranges(&self, key: &str, etag: &str) -> Result<bool, SourceError> {
        match self {
            Self::S3(it) => it.has_ranges(key, etag).await,
            Self::Remote(it) => it.has_ranges(key, etag).await,
        }
    }

    async fn expected(&self, key: &str, etag: &str) -> Result<Option<Expected>, SourceError> {
        match self {
            Self::S3(it) => it.expected(key, etag).await,
            Self::Remote(it) => it.expected(key, etag).await,
        }
    }

    async fn part_length(&self, key: &str, etag: &str, number: u32) -> Result<Option<u64>, SourceError> {
        match self {
            Self::S3(it) => it.part_length(key, etag, number).await,
            Self::Remote(it) => it.part_length(key, etag, number).await,
        }
    }

    async fn read(&self, key: &str, etag: &str, range: Range<u64>) -> Result<Body, SourceError> {
        match self {
            Self::S3(it) => it.read(key, etag, range).await,
            Self::Remote(it) => it.read(key, etag, range).await,
        }
    }

    async fn read_whole(&self, key: &str, etag: &str) -> Result<Whole, SourceError> {
        match self {
            Self::S3(it) => it.read_whole(key, etag).await,
            Self::Remote(it) => it.read_whole(key, etag).await,
        }
    }
}
