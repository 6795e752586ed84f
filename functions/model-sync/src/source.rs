//! What is asked of an object store.

use std::fmt;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use futures::stream::BoxStream;
use larder_sources::Image;

use crate::expected::Expected;

/// One object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole key.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// The `ETag`, without quotes.
    pub etag: String,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its objects.
    pub objects: Vec<Listed>,
    /// What to ask the next page with; none at the end.
    pub next: Option<String>,
    /// What is to be taken out of the objects, where they are an image's layers. On the last page.
    pub image: Option<Image>,
}

/// The bytes of a range, as they come.
pub type Body = BoxStream<'static, Result<Bytes, SourceError>>;

/// A whole object, on its way.
pub struct Whole {
    /// What its bytes must hash to, when the store says so.
    pub expected: Option<Expected>,
    /// Its bytes.
    pub body: Body,
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whole").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// Where a model's files are.
///
/// Implementations do not retry: the caller has one budget for all calls. `etag` is a condition in all
/// calls that have it: when the object is no longer that, they fail with [`Class::Changed`].
pub trait Source: Send + Sync + 'static {
    /// The address of it all, for people.
    fn place(&self) -> String;

    /// What every key begins with; what follows is the file's path.
    fn prefix(&self) -> &str;

    /// The address of an object, for people.
    fn address(&self, key: &str) -> String;

    /// The page after `token`, or the first.
    fn list(&self, token: Option<String>) -> impl Future<Output = Result<Page, SourceError>> + Send;

    /// What the store says that the object's bytes hash to.
    fn expected(
        &self,
        key: &str,
        etag: &str,
    ) -> impl Future<Output = Result<Option<Expected>, SourceError>> + Send;

    /// Whether ranges of the object can be had that are surely of one content.
    fn has_ranges(&self, key: &str, etag: &str) -> impl Future<Output = Result<bool, SourceError>> + Send {
        let _ = (key, etag);
        std::future::ready(Ok(true))
    }

    /// The length of one of the parts that the object was uploaded in, counted from 1; none when the store does
    /// not know.
    fn part_length(
        &self,
        key: &str,
        etag: &str,
        number: u32,
    ) -> impl Future<Output = Result<Option<u64>, SourceError>> + Send;

    /// The bytes of `range`. A body may lie about its length: the caller counts.
    fn read(
        &self,
        key: &str,
        etag: &str,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Body, SourceError>> + Send;

    /// All bytes, and what they must hash to: one call where [`Source::read`] and [`Source::expected`] are two.
    fn read_whole(&self, key: &str, etag: &str) -> impl Future<Output = Result<Whole, SourceError>> + Send;
}

/// What kind of failure, and so what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// There is no such bucket, repository or server.
    NoBucket,
    /// The credentials do not allow it.
    Denied,
    /// The object is gone, or is no longer the one that was listed.
    Changed,
    /// The store asks for fewer requests.
    Throttled,
    /// Nothing wrong with the request: a lost connection, a time-out, an error inside the store.
    Transient,
    /// The store refuses the request, and would again.
    Invalid,
}

impl Class {
    /// Whether the same call may succeed later without anything being mended.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient)
    }

    const fn advice(self, store: Store) -> &'static str {
        match (store, self) {
            (Store::S3, Self::NoBucket) => {
                "the bucket does not exist; create it or correct the bucket's name"
            }
            (Store::S3, Self::Denied) => {
                "access is denied; allow this role s3:ListBucket on the bucket and s3:GetObject on its objects \
                 (and kms:Decrypt when they are encrypted with a key)"
            }
            (Store::S3, Self::Changed) => "the object was replaced or removed while it was copied",
            (Store::S3, Self::Throttled) => {
                "the store asks for fewer requests; the copy can be started again and goes on"
            }
            (Store::S3, Self::Transient) => {
                "no good answer; the copy can be started again and goes on (a VPC without NAT needs an S3 \
                 gateway endpoint)"
            }
            (Store::S3, Self::Invalid) => "the store refuses the request; check bucket, region and endpoint",
            (Store::Other, class) => class.of_others().advice(),
        }
    }

    const fn of_others(self) -> larder_sources::Class {
        match self {
            Self::NoBucket => larder_sources::Class::NotFound,
            Self::Denied => larder_sources::Class::Denied,
            Self::Changed => larder_sources::Class::Changed,
            Self::Throttled => larder_sources::Class::Throttled,
            Self::Transient => larder_sources::Class::Transient,
            Self::Invalid => larder_sources::Class::Invalid,
        }
    }
}

/// What kind of store a failed call was to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// S3, or what speaks like it.
    S3,
    /// A registry, a hub or a web server.
    Other,
}

/// A call to the object store that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {resource}: {} ({code}{})", class.advice(*store), in_words(request_id.as_deref()))]
pub struct SourceError {
    /// The API operation.
    pub operation: &'static str,
    /// What it was about, as an address.
    pub resource: String,
    /// What kind of failure.
    pub class: Class,
    /// Whose.
    pub store: Store,
    /// The store's error code, or what happened when there was no answer.
    pub code: String,
    /// The store's id of the request, when it answered.
    pub request_id: Option<String>,
    /// The client's own error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// Of an object that is no longer what was listed, at a source other than S3.
    pub(crate) fn changed(resource: &str, code: &str) -> Self {
        larder_sources::SourceError::new(larder_sources::Class::Changed, resource, code).into()
    }
}

impl From<larder_sources::SourceError> for SourceError {
    fn from(error: larder_sources::SourceError) -> Self {
        use larder_sources::Class as Theirs;
        let class = match error.class {
            Theirs::NotFound => Class::NoBucket,
            Theirs::Denied => Class::Denied,
            Theirs::Changed => Class::Changed,
            Theirs::Throttled => Class::Throttled,
            Theirs::Transient => Class::Transient,
            Theirs::Invalid => Class::Invalid,
        };
        let larder_sources::SourceError { operation, resource, code, class: _, source } = error;
        Self { operation, resource, class, store: Store::Other, code, request_id: None, source }
    }
}

fn in_words(request_id: Option<&str>) -> String {
    request_id.map(|id| format!(", request id {id}")).unwrap_or_default()
}
