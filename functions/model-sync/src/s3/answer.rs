//! What S3 says in its answers: checksums and errors.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::base64;

use crate::checksum::{Algorithm, Checksum};
use crate::expected::{Expected, MAX_PARTS};
use crate::source::{Class, SourceError, Store};

/// What an answer of the SDK to `HeadObject` or `GetObject` says of the object's bytes: both have the same fields.
macro_rules! said {
    ($answer:expr) => {
        $crate::s3::answer::Said {
            checksums: [
                $answer.checksum_sha512,
                $answer.checksum_sha256,
                $answer.checksum_crc64_nvme,
                $answer.checksum_sha1,
                $answer.checksum_md5,
                $answer.checksum_crc32_c,
                $answer.checksum_crc32,
            ],
            encryption: $answer.server_side_encryption,
            customer_algorithm: $answer.sse_customer_algorithm,
        }
    };
}

/// The checksums that S3 may know, the stronger first, and the headers that it tells them in.
const CHECKSUMS: [(Algorithm, &str); 7] = [
    (Algorithm::Sha512, "x-amz-checksum-sha512"),
    (Algorithm::Sha256, "x-amz-checksum-sha256"),
    (Algorithm::Crc64Nvme, "x-amz-checksum-crc64nvme"),
    (Algorithm::Sha1, "x-amz-checksum-sha1"),
    (Algorithm::Md5, "x-amz-checksum-md5"),
    (Algorithm::Crc32C, "x-amz-checksum-crc32c"),
    (Algorithm::Crc32, "x-amz-checksum-crc32"),
];

/// What an answer says of the object's bytes.
#[derive(Debug)]
pub(super) struct Said {
    /// In the order of [`CHECKSUMS`].
    pub(super) checksums: [Option<String>; CHECKSUMS.len()],
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) customer_algorithm: Option<String>,
}

impl Said {
    fn of_http(headers: &Headers) -> Self {
        let header = |name: &str| headers.get(name).map(ToOwned::to_owned);
        Self {
            checksums: CHECKSUMS.map(|(_, name)| header(name)),
            encryption: header("x-amz-server-side-encryption").as_deref().map(ServerSideEncryption::from),
            customer_algorithm: header("x-amz-server-side-encryption-customer-algorithm"),
        }
    }

    /// What the bytes must hash to, if anything is known of it.
    pub(super) fn expected(&self, bucket: &str, etag: &str) -> Option<Expected> {
        let stored = CHECKSUMS.iter().zip(&self.checksums);
        let stored: Vec<_> = stored.map(|((algorithm, _), text)| (*algorithm, text.as_deref())).collect();
        let is_plain = is_plain(self.encryption.as_ref(), self.customer_algorithm.as_deref());
        strongest(&stored).or_else(|| md5_of(bucket, etag, is_plain))
    }
}

/// What `GetObject` answers, as far as it matters here.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) etag: Option<String>,
    pub(super) content_range: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) body: ByteStream,
    pub(super) said: Said,
}

/// The most of an answer that tells of a failure.
const MOST_OF_A_FAILURE: usize = 64 << 10;

impl Answer {
    pub(super) fn of_sdk(answer: GetObjectOutput) -> Self {
        Self {
            request_id: answer.request_id().map(ToOwned::to_owned),
            etag: answer.e_tag,
            content_range: answer.content_range,
            body: answer.body,
            said: said!(answer),
        }
    }

    /// # Errors
    /// When it tells of a failure: its class, its code, and the request's id.
    pub(super) async fn of_http(answer: HttpResponse) -> Result<Self, (Class, String, Option<String>)> {
        let header = |name: &str| answer.headers().get(name).map(ToOwned::to_owned);
        let (status, request_id) = (answer.status(), header("x-amz-request-id"));
        if status.is_success() {
            return Ok(Self {
                request_id,
                etag: header("etag"),
                content_range: header("content-range"),
                said: Said::of_http(answer.headers()),
                body: ByteStream::new(answer.into_body()),
            });
        }
        let status = status.as_u16();
        let code = code_of(ByteStream::new(answer.into_body())).await;
        let class = class(code.as_deref(), Some(status), false);
        Err((class, code.unwrap_or_else(|| format!("HTTP {status}")), request_id))
    }
}

/// What an answer that tells of a failure calls it, if its body does.
async fn code_of(mut body: ByteStream) -> Option<String> {
    let mut text = Vec::new();
    while let Some(Ok(bytes)) = body.next().await {
        text.extend_from_slice(&bytes);
        if text.len() > MOST_OF_A_FAILURE {
            return None;
        }
    }
    let text = std::str::from_utf8(&text).ok()?;
    let code = text.split_once("<Code>")?.1.split_once("</Code>")?.0.trim();
    (!code.is_empty()).then(|| code.to_owned())
}

pub(super) fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

/// The strongest of the checksums that an answer holds, those of the whole object first; each as S3 writes it:
/// base64, and for a composite `-` and the number of parts.
pub(super) fn strongest<'a>(stored: &[(Algorithm, Option<&'a str>)]) -> Option<Expected> {
    let read = |(algorithm, text): &(Algorithm, Option<&'a str>)| {
        let (text, parts) = match (*text)?.split_once('-') {
            Some((text, parts)) => (text, Some(parts.parse().ok().filter(|n| (1..=MAX_PARTS).contains(n))?)),
            None => ((*text)?, None),
        };
        let value = base64::decode(text).ok().filter(|value| value.len() == algorithm.length())?;
        let checksum = Checksum { algorithm: *algorithm, value };
        Some(match parts {
            None => Expected::Whole(checksum),
            Some(parts) => Expected::Composite { checksum, parts },
        })
    };
    let mut all: Vec<Expected> = stored.iter().filter_map(read).collect();
    // Stable: the stronger stay before the weaker.
    all.sort_by_key(|expected| matches!(expected, Expected::Composite { .. }));
    all.into_iter().next()
}

/// What an `ETag` says of the bytes: their MD5, or the composite of their parts' MD5. Not where a key encrypts
/// them, and not in directory buckets, whose `ETag`s are random.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>
pub(super) fn md5_of(bucket: &str, etag: &str, is_plain: bool) -> Option<Expected> {
    let (digits, parts) = match etag.split_once('-') {
        Some((digits, parts)) => (digits, Some(parts.parse().ok().filter(|n| (1..=MAX_PARTS).contains(n))?)),
        None => (etag, None),
    };
    let is_md5 = is_plain && digits.len() == 32 && !bucket.ends_with("--x-s3");
    let checksum =
        Checksum { algorithm: Algorithm::Md5, value: hex::decode(digits).ok().filter(|_| is_md5)? };
    Some(match parts {
        None => Expected::Whole(checksum),
        Some(parts) => Expected::Composite { checksum, parts },
    })
}

pub(super) fn is_plain(encryption: Option<&ServerSideEncryption>, customer_key: Option<&str>) -> bool {
    match encryption {
        None | Some(ServerSideEncryption::Aes256) => customer_key.is_none(),
        Some(_) => false,
    }
}

pub(super) fn failed<E>(
    operation: &'static str,
    resource: String,
    error: SdkError<E, HttpResponse>,
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
    SourceError { operation, resource, class, store: Store::S3, code, request_id, source: Some(error.into()) }
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
        // An answer that was cut short reads as no answer.
        (None, Some(200..=299)) => Class::Transient,
        (_, Some(401 | 403)) => Class::Denied,
        (_, Some(_)) => Class::Invalid,
        (_, None) if was_never_sent => Class::Invalid,
        (_, None) => Class::Transient,
    }
}

/// The last cause, which is the one that says something.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::head_object::HeadObjectOutput;

    use super::*;

    #[test]
    fn the_strongest_checksum_is_taken_and_those_of_the_whole_first() {
        let md5 = "25f9e794323b453885f5181f1b624d0b";
        let of = |algorithm| Checksum::of(algorithm, b"123456789");
        let text = |algorithm| base64::encode(of(algorithm).value);
        let whole = |algorithm| Some(Expected::Whole(of(algorithm)));
        let composite = |algorithm, parts| Some(Expected::Composite { checksum: of(algorithm), parts });
        let head = HeadObjectOutput::builder;
        let (crc32, sha256, sha1) = (text(Algorithm::Crc32), text(Algorithm::Sha256), text(Algorithm::Sha1));
        let (crc32c, crc64) = (text(Algorithm::Crc32C), text(Algorithm::Crc64Nvme));
        let sha512 = text(Algorithm::Sha512);
        for (answer, etag, want) in vec![
            (head(), md5, whole(Algorithm::Md5)),
            (head().server_side_encryption(ServerSideEncryption::Aes256), md5, whole(Algorithm::Md5)),
            (head().server_side_encryption(ServerSideEncryption::AwsKms), md5, None),
            (head().sse_customer_algorithm("AES256"), md5, None),
            (head(), "25f9e794323b453885f5181f1b624d0b-2", composite(Algorithm::Md5, 2)),
            (head(), "25f9e794323b453885f5181f1b624d0b-0", None),
            (head(), "25f9e794323b-2", None),
            (head().checksum_crc32(&crc32), md5, whole(Algorithm::Crc32)),
            (head().checksum_crc32(format!("{crc32}-2")), "x-2", composite(Algorithm::Crc32, 2)),
            (head().checksum_sha1(format!("{sha1}-10000")), "x-2", composite(Algorithm::Sha1, 10_000)),
            (head().checksum_sha1(format!("{sha1}-10001")), "x-2", None),
            (head().checksum_crc32(&crc32).checksum_sha256(&sha256), md5, whole(Algorithm::Sha256)),
            (
                head().checksum_crc32(&crc32).checksum_sha256(format!("{sha256}-3")),
                md5,
                whole(Algorithm::Crc32),
            ),
            (head().checksum_crc32_c(&crc32c).checksum_crc32(&crc32), "x-2", whole(Algorithm::Crc32C)),
            (head().checksum_crc32_c(format!("{crc32c}-7")), "x-2", composite(Algorithm::Crc32C, 7)),
            (head().checksum_crc64_nvme(&crc64).checksum_sha1(&sha1), "x-2", whole(Algorithm::Crc64Nvme)),
            (
                head().checksum_sha256(&sha256).checksum_sha512(&sha512).checksum_crc64_nvme(&crc64),
                md5,
                whole(Algorithm::Sha512),
            ),
            (head().checksum_sha512(format!("{sha512}-2")), "x-2", composite(Algorithm::Sha512, 2)),
            // Of another length, it is none of these.
            (head().checksum_sha512(&sha256), "x-2", None),
            (head().checksum_crc32("not base64!"), "x-2", None),
            (head().checksum_crc32(&sha1), "x-2", None),
        ] {
            let answer = answer.build();
            assert_eq!(said!(answer).expected("models", etag), want);
        }
        let answer = head().build();
        assert_eq!(said!(answer).expected("models--use1-az4--x-s3", md5), None);
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
            (None, Some(200), false, Class::Transient),
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
