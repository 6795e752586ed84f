//! Archives of code, and listings of models.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, EncodingType};
use aws_smithy_types::base64;
use jiff::Timestamp;
use larder_contract::Digest;
use larder_contract::key::url_decoded;
use larder_contract::listing::{CutShort, next_page};
use larder_core::Class;
use larder_core::observed::{Code, Package};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OnceCell};

use super::clients::Clients;
use super::error::Call;
use crate::cloud::{ListedObject, Page, Result};

/// Lambda takes 250 MB unzipped; a larger archive is not one of code.
const MAX_ARCHIVE: i64 = 300_000_000;

/// How long reading an archive may take.
const MAX_READ: Duration = Duration::from_mins(2);

/// The most archives that are remembered.
const MAX_REMEMBERED: usize = 256;

/// The digests of archives that were read, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct Archives(Mutex<HashMap<Archive, Arc<OnceCell<Digest>>>>);

/// An object, and which content of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Archive {
    bucket: String,
    key: String,
    version_id: Option<String>,
    etag: String,
}

impl Archives {
    async fn cell(&self, archive: &Archive) -> Arc<OnceCell<Digest>> {
        let mut known = self.0.lock().await;
        if known.len() >= MAX_REMEMBERED && !known.contains_key(archive) {
            known.clear();
        }
        Arc::clone(known.entry(archive.clone()).or_default())
    }
}

impl Clients {
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
    pub(super) async fn archive(&self, bucket: &str, key: &str, version_id: Option<&str>) -> Result<Code> {
        let resource = format!("object s3://{bucket}/{key}");
        let call = Call::new("HeadObject", resource.as_str());
        let version_id = version_id.map(str::to_owned);
        let request = self.s3.head_object().bucket(bucket).key(key).set_version_id(version_id.clone());
        let head = call.answer(request.checksum_mode(ChecksumMode::Enabled).send().await)?;
        if head.content_length.unwrap_or_default() > MAX_ARCHIVE {
            let message = format!("it is larger than {MAX_ARCHIVE} bytes, which no function's code may be");
            return Err(call.failed(Class::Invalid, "", &message));
        }
        let digest = if let Some(digest) = whole_checksum(&head) {
            digest
        } else {
            let etag = head.e_tag.ok_or_else(|| call.lacks("ETag"))?;
            let archive = Archive {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
                version_id: version_id.clone(),
                etag,
            };
            let known = self.archives.cell(&archive).await;
            *known.get_or_try_init(|| self.read(&resource, &archive)).await?
        };
        let package = Package::Zip { bucket: bucket.to_owned(), key: key.to_owned(), version_id };
        Ok(Code { package, digest: digest.to_string() })
    }

    /// The digest of an archive's bytes.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
    async fn read(&self, resource: &str, archive: &Archive) -> Result<Digest> {
        let call = Call::new("GetObject", resource);
        let request = self.s3.get_object().bucket(&archive.bucket).key(&archive.key);
        // An object that was replaced since it was looked at fails the call.
        let request = request.set_version_id(archive.version_id.clone()).if_match(&archive.etag);
        let answer = call.answer(request.send().await)?;
        let read = tokio::time::timeout(MAX_READ, digest(&call, answer.body)).await;
        read.unwrap_or_else(|_| {
            let message = format!("it was not read within {} s", MAX_READ.as_secs());
            Err(call.failed(Class::Transient, "", &message))
        })
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
    pub(super) async fn objects(
        &self,
        bucket: &str,
        prefix: &str,
        page: Option<String>,
    ) -> Result<Page<ListedObject>> {
        let call = Call::new("ListObjectsV2", format!("bucket {bucket}"));
        let request = self.s3.list_objects_v2().bucket(bucket).prefix(prefix).set_continuation_token(page);
        let answer = call.answer(request.encoding_type(EncodingType::Url).send().await)?;
        let contents = answer.contents.unwrap_or_default();
        let (is_truncated, next) = (answer.is_truncated, answer.next_continuation_token);
        let next = next_page(is_truncated, next, answer.key_count, contents.len());
        let next = next.map_err(|CutShort| call.lacks("end"))?;
        let is_encoded = matches!(answer.encoding_type, Some(EncodingType::Url));
        let items = contents.into_iter().map(|object| {
            let key = object.key.ok_or_else(|| call.lacks("key"))?;
            let key = if is_encoded { url_decoded(&key) } else { Some(key) };
            let key = key.ok_or_else(|| call.lacks("key in URL-encoded UTF-8"))?;
            Ok(ListedObject {
                relative_key: key.strip_prefix(prefix).unwrap_or(&key).to_owned(),
                size: object.size.and_then(|size| size.try_into().ok()).ok_or_else(|| call.lacks("size"))?,
                etag: object.e_tag.ok_or_else(|| call.lacks("ETag"))?.trim_matches('"').to_owned(),
                modified: object
                    .last_modified
                    .and_then(|at| Timestamp::from_second(at.secs()).ok())
                    .ok_or_else(|| call.lacks("LastModified"))?,
            })
        });
        Ok(Page { items: items.collect::<Result<_>>()?, next })
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
    pub(super) async fn object(&self, bucket: &str, key: &str, limit: u64) -> Result<Vec<u8>> {
        let call = Call::new("GetObject", format!("object s3://{bucket}/{key}"));
        let answer = call.answer(self.s3.get_object().bucket(bucket).key(key).send().await)?;
        let length = answer.content_length.and_then(|length| u64::try_from(length).ok());
        if length.is_none_or(|length| length > limit) {
            return Err(call.failed(Class::Invalid, "", &format!("it is larger than {limit} bytes")));
        }
        match tokio::time::timeout(MAX_READ, answer.body.collect()).await {
            Ok(Ok(bytes)) => Ok(bytes.to_vec()),
            Ok(Err(error)) => {
                Err(call.failed(Class::Transient, "", &format!("its bytes end early: {error}")))
            }
            Err(_) => {
                let message = format!("it was not read within {} s", MAX_READ.as_secs());
                Err(call.failed(Class::Transient, "", &message))
            }
        }
    }
}

/// The SHA-256 of the whole object that S3 keeps, where it keeps one: that of an object in parts is of
/// its parts' checksums.
fn whole_checksum(head: &HeadObjectOutput) -> Option<Digest> {
    if head.checksum_type == Some(ChecksumType::Composite) {
        return None;
    }
    let bytes = base64::decode(head.checksum_sha256.as_deref()?).ok()?;
    <[u8; 32]>::try_from(bytes).ok().map(Digest::from_bytes)
}

async fn digest(call: &Call, mut body: ByteStream) -> Result<Digest> {
    let mut state = Sha256::new();
    let mut length: usize = 0;
    while let Some(bytes) = body.next().await {
        let bytes =
            bytes.map_err(|e| call.failed(Class::Transient, "", &format!("its bytes end early: {e}")))?;
        length = length.saturating_add(bytes.len());
        if i64::try_from(length).is_ok_and(|length| length > MAX_ARCHIVE) {
            return Err(call.failed(Class::Invalid, "", &format!("it is larger than {MAX_ARCHIVE} bytes")));
        }
        state.update(&bytes);
    }
    Ok(Digest::from_bytes(state.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_checksum_of_the_whole_object_is_its_digest() {
        let sum = base64::encode([7_u8; 32]);
        for (kind, sum, digest) in [
            (Some(ChecksumType::FullObject), Some(sum.clone()), Some(Digest::from_bytes([7; 32]))),
            (None, Some(sum.clone()), Some(Digest::from_bytes([7; 32]))),
            (Some(ChecksumType::Composite), Some(sum.clone()), None),
            (None, Some(format!("{sum}-2")), None),
            (None, None, None),
        ] {
            let head = HeadObjectOutput::builder().set_checksum_type(kind).set_checksum_sha256(sum).build();
            assert_eq!(whole_checksum(&head), digest, "{head:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_its_digest() {
        let call = Call::new("GetObject", "object s3://b/k");
        assert_eq!(digest(&call, ByteStream::from_static(b"zip")).await.unwrap(), Digest::of(b"zip"));
    }

    #[tokio::test]
    async fn few_archives_are_remembered() {
        let archives = Archives::default();
        let archive = |n: usize| Archive {
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            version_id: None,
            etag: n.to_string(),
        };
        let first = archives.cell(&archive(0)).await;
        assert!(Arc::ptr_eq(&first, &archives.cell(&archive(0)).await));
        for n in 0..1000 {
            archives.cell(&archive(n)).await;
            assert!(archives.0.lock().await.len() <= MAX_REMEMBERED);
        }
    }
}
