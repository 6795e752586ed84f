//! What S3 says in its answers: checksums and errors.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_types::base64;

use crate::checksum::{Algorithm, Checksum};
use crate::expected::{Expected, MAX_PARTS};
use crate::source::{Class, SourceError, Store};

/// What an answer to `HeadObject` or `GetObject` says of the object's bytes: both have the same fields.
macro_rules! expected {
    ($bucket:expr, $answer:expr, $etag:expr) => {
        $crate::s3::answer::strongest(&[
            ($crate::checksum::Algorithm::Sha512, $answer.checksum_sha512()),
            ($crate::checksum::Algorithm::Sha256, $answer.checksum_sha256()),
            ($crate::checksum::Algorithm::Crc64Nvme, $answer.checksum_crc64_nvme()),
            ($crate::checksum::Algorithm::Sha1, $answer.checksum_sha1()),
            ($crate::checksum::Algorithm::Md5, $answer.checksum_md5()),
            ($crate::checksum::Algorithm::Crc32C, $answer.checksum_crc32_c()),
            ($crate::checksum::Algorithm::Crc32, $answer.checksum_crc32()),
        ])
        .or_else(|| {
            let plain = $crate::s3::answer::is_plain(
                $answer.server_side_encryption(),
                $answer.sse_customer_algorithm(),
            );
            $crate::s3::answer::md5_of($bucket, $etag, plain)
        })
    };
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
            assert_eq!(expected!("models", answer, etag), want);
        }
        let answer = head().build();
        assert_eq!(expected!("models--use1-az4--x-s3", answer, md5), None);
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
