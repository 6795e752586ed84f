//! Amazon S3, or what speaks like it.

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::base64;
use futures::StreamExt as _;

use crate::checksum::{Algorithm, Checksum};
use crate::source::{Body, Class, Listed, Page, Place, Source, SourceError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client by the environment: region, credentials, and `AWS_ENDPOINT_URL` when set.
///
/// With an endpoint of one's own, buckets are in the path: few such servers have a name for each bucket.
pub async fn client(endpoint: Option<&str>, region: Option<String>) -> Client {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().tls_provider(tls).build_https())
        // The copy has its own retries, with one budget, and its own idea of a stalled body.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    let shared = loader.load().await;
    let has_endpoint = shared.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let config = aws_sdk_s3::config::Builder::from(&shared)
        .region(shared.region().cloned().unwrap_or(Region::from_static("us-east-1")))
        .force_path_style(has_endpoint)
        // What is checked is the whole file on disk, against the object's checksum.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

/// One place on S3.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    place: Place,
}

impl S3 {
    /// Looks at `place` through `client`.
    #[must_use]
    pub const fn new(client: Client, place: Place) -> Self {
        Self { client, place }
    }

    fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.place.bucket)
    }
}

impl Source for S3 {
    fn place(&self) -> &Place {
        &self.place
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
    async fn list(&self, token: Option<String>) -> Result<Page, SourceError> {
        let request = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&self.place.prefix);
        let answer = request
            .set_continuation_token(token)
            .send()
            .await
            .map_err(|e| failed("ListObjectsV2", self.place.to_string(), e))?;
        let next = answer.next_continuation_token.filter(|_| answer.is_truncated == Some(true));
        let objects = answer.contents.unwrap_or_default().into_iter().filter_map(|object| {
            Some(Listed {
                key: object.key?,
                size: u64::try_from(object.size?).ok()?,
                etag: unquoted(&object.e_tag?).to_owned(),
            })
        });
        Ok(Page { objects: objects.collect(), next })
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
    async fn checksum(&self, key: &str, etag: &str) -> Result<Option<Checksum>, SourceError> {
        let request = self.client.head_object().bucket(&self.place.bucket).key(key).if_match(quoted(etag));
        let answer = request
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|e| failed("HeadObject", self.address(key), e))?;
        Ok(best_checksum(&answer, etag))
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
    async fn read(&self, key: &str, etag: &str, range: Range<u64>) -> Result<Body, SourceError> {
        let request = self.client.get_object().bucket(&self.place.bucket).key(key).if_match(quoted(etag));
        let wanted = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let answer =
            request.range(wanted).send().await.map_err(|e| failed("GetObject", self.address(key), e))?;
        let refused = |class, code: String| SourceError {
            operation: "GetObject",
            resource: self.address(key),
            class,
            code,
            request_id: answer.request_id().map(ToOwned::to_owned),
            source: None,
        };
        // Servers exist that do not know If-Match, or Range.
        if answer.e_tag().is_some_and(|is| unquoted(is) != etag) {
            return Err(refused(
                Class::Changed,
                format!("ETag is {}, not {etag}", answer.e_tag().unwrap_or("")),
            ));
        }
        let expected = format!("bytes {}-{}/", range.start, range.end.saturating_sub(1));
        if !answer.content_range().is_some_and(|is| is.starts_with(&expected)) && range.start > 0 {
            let is = answer.content_range().unwrap_or("absent");
            return Err(refused(Class::Invalid, format!("Content-Range is {is}, not {expected}…")));
        }
        let address = self.address(key);
        let body = futures::stream::try_unfold(answer.body, move |mut body| {
            let address = address.clone();
            async move {
                match body.next().await {
                    None => Ok(None),
                    Some(Ok(bytes)) => Ok(Some((bytes, body))),
                    Some(Err(error)) => Err(SourceError {
                        operation: "GetObject",
                        resource: address,
                        class: Class::Transient,
                        code: innermost(&error),
                        request_id: None,
                        source: Some(error.into()),
                    }),
                }
            }
        });
        Ok(body.boxed())
    }
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

/// The strongest checksum of the whole object. A composite one (`value-parts`) says nothing about the bytes
/// without the borders of the parts, and the MD5 in an `ETag` is one only for objects that were uploaded in
/// one piece and are not encrypted with a key.
fn best_checksum(answer: &HeadObjectOutput, etag: &str) -> Option<Checksum> {
    let stored = [
        (Algorithm::Sha256, answer.checksum_sha256(), 32),
        (Algorithm::Crc64Nvme, answer.checksum_crc64_nvme(), 8),
        (Algorithm::Crc32C, answer.checksum_crc32_c(), 4),
        (Algorithm::Crc32, answer.checksum_crc32(), 4),
    ];
    let whole = stored.into_iter().find_map(|(algorithm, text, length)| {
        let value = base64::decode(text.filter(|text| !text.contains('-'))?).ok()?;
        (value.len() == length).then_some(Checksum { algorithm, value })
    });
    let plain = match answer.server_side_encryption() {
        None | Some(ServerSideEncryption::Aes256) => answer.sse_customer_algorithm().is_none(),
        Some(_) => false,
    };
    whole.or_else(|| {
        let value = hex::decode(etag).ok().filter(|value| plain && value.len() == 16)?;
        Some(Checksum { algorithm: Algorithm::Md5, value })
    })
}

fn failed<E>(
    operation: &'static str,
    resource: String,
    error: SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
) -> SourceError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(|e| e.code()).map(ToOwned::to_owned);
    let class = class(code.as_deref(), status, matches!(error, SdkError::ConstructionFailure(_)));
    let code = match (code, status) {
        (Some(code), _) => code,
        (None, Some(status)) => format!("HTTP {status}"),
        (None, None) => innermost(&error),
    };
    let request_id = error.request_id().map(ToOwned::to_owned);
    SourceError { operation, resource, class, code, request_id, source: Some(error.into()) }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn class(code: Option<&str>, status: Option<u16>, was_never_sent: bool) -> Class {
    match (code, status) {
        (Some("NoSuchBucket"), _) => Class::NoBucket,
        (Some("NoSuchKey" | "NotFound" | "PreconditionFailed"), _) | (None, Some(404 | 412)) => {
            Class::Changed
        }
        (Some("SlowDown" | "RequestLimitExceeded" | "Throttling" | "ThrottlingException"), _)
        | (_, Some(429)) => Class::Throttled,
        (Some("RequestTimeout" | "InternalError" | "ServiceUnavailable"), _) | (_, Some(500..)) => {
            Class::Transient
        }
        (_, Some(401 | 403)) => Class::Denied,
        (_, Some(_)) => Class::Invalid,
        (_, None) if was_never_sent => Class::Invalid,
        (_, None) => Class::Transient,
    }
}

/// The last cause, which is the one that says something.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_whole_checksum_is_taken() {
        let md5 = "25f9e794323b453885f5181f1b624d0b";
        let crc32 = Checksum::of(Algorithm::Crc32, b"123456789");
        let sha256 = Checksum::of(Algorithm::Sha256, b"123456789");
        let head = HeadObjectOutput::builder;
        for (answer, etag, want) in [
            (head(), md5, Some(Checksum::of(Algorithm::Md5, b"123456789"))),
            (head().server_side_encryption(ServerSideEncryption::AwsKms), md5, None),
            (head().sse_customer_algorithm("AES256"), md5, None),
            (head(), "25f9e794323b453885f5181f1b624d0b-2", None),
            (head().checksum_crc32(base64::encode(&crc32.value)), md5, Some(crc32.clone())),
            (head().checksum_crc32(format!("{}-2", base64::encode(&crc32.value))), "x-2", None),
            (
                head()
                    .checksum_crc32(base64::encode(&crc32.value))
                    .checksum_sha256(base64::encode(&sha256.value)),
                md5,
                Some(sha256),
            ),
            (head().checksum_crc32("not base64!"), "x-2", None),
        ] {
            assert_eq!(best_checksum(&answer.build(), etag), want);
        }
    }

    #[test]
    fn errors_have_classes() {
        for (code, status, never_sent, want) in [
            (Some("NoSuchBucket"), Some(404), false, Class::NoBucket),
            (Some("NoSuchKey"), Some(404), false, Class::Changed),
            (None, Some(412), false, Class::Changed),
            (Some("SlowDown"), Some(503), false, Class::Throttled),
            (Some("InternalError"), Some(500), false, Class::Transient),
            (None, Some(503), false, Class::Transient),
            (Some("AccessDenied"), Some(403), false, Class::Denied),
            (None, Some(403), false, Class::Denied),
            (Some("PermanentRedirect"), Some(301), false, Class::Invalid),
            (None, None, false, Class::Transient),
            (None, None, true, Class::Invalid),
        ] {
            assert_eq!(class(code, status, never_sent), want, "{code:?} {status:?}");
        }
    }
}
