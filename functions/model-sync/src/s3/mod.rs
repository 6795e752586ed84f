//! Amazon S3, or what speaks like it.
//!
//! - [`answer`]: reads what it says: checksums, errors.
//! - [`direct`]: `GetObject` at a fraction of what the SDK takes for it.

#[macro_use]
mod answer;
mod direct;

use std::ops::Range;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, EncodingType, Object};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use futures::StreamExt as _;
use larder_contract::source::S3Prefix;

use answer::{Answer, failed, innermost, unquoted};
use larder_contract::key::url_decoded;
use larder_contract::listing::{CutShort, next_page};

use direct::Direct;

use crate::expected::Expected;
use crate::source::{Body, Class, Listed, Page, Source, SourceError, Store, Whole};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the environment says of AWS: region, credentials, and `AWS_ENDPOINT_URL` when set.
pub async fn config(endpoint: Option<&str>, region: Option<String>) -> SdkConfig {
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
    let config = loader.load().await;
    let region = config.region().cloned().unwrap_or(Region::from_static("us-east-1"));
    config.into_builder().region(region).build()
}

/// A client for S3. With an endpoint of one's own, buckets are in the path: few such servers have a name for each.
#[must_use]
pub fn client(config: &SdkConfig) -> Client {
    let has_endpoint = config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let config = aws_sdk_s3::config::Builder::from(config)
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
    place: S3Prefix,
    direct: Direct,
}

impl S3 {
    /// Looks at `place` through `client`.
    #[must_use]
    pub fn new(client: Client, place: S3Prefix) -> Self {
        Self { client, place, direct: Direct::default() }
    }
}

impl Source for S3 {
    fn place(&self) -> String {
        self.address(&self.place.prefix)
    }

    fn prefix(&self) -> &str {
        &self.place.prefix
    }

    fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.place.bucket)
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
    ///
    /// Keys are asked for in URL encoding, because a key may hold characters that XML cannot.
    async fn list(&self, token: Option<String>) -> Result<Page, SourceError> {
        let request = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&self.place.prefix);
        let answer = request
            .encoding_type(EncodingType::Url)
            .set_continuation_token(token)
            .send()
            .await
            .map_err(|e| failed("ListObjectsV2", self.place(), e))?;
        let contents = answer.contents.unwrap_or_default();
        let (is_truncated, next) = (answer.is_truncated, answer.next_continuation_token);
        let next = next_page(is_truncated, next, answer.key_count, contents.len());
        let next = next.map_err(|cut_short| self.unlisted(Class::Transient, cut_short.to_string()))?;
        let is_encoded = matches!(answer.encoding_type, Some(EncodingType::Url));
        let listed = |object: Object| {
            let size = object.size.and_then(|size| u64::try_from(size).ok());
            let (Some(key), Some(size), Some(etag)) = (object.key, size, object.e_tag) else {
                return Err(self.unlisted(Class::Transient, CutShort.to_string()));
            };
            let key = if is_encoded { url_decoded(&key).ok_or(key) } else { Ok(key) };
            let key = key
                .map_err(|key| self.unlisted(Class::Invalid, format!("key {key} is no URL-encoded UTF-8")))?;
            Ok(Listed { key, size, etag: unquoted(&etag).to_owned() })
        };
        let objects = contents.into_iter().map(listed).collect::<Result<_, _>>()?;
        Ok(Page { objects, next, image: None })
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
    async fn expected(&self, key: &str, etag: &str) -> Result<Option<Expected>, SourceError> {
        let request = self.client.head_object().bucket(&self.place.bucket).key(key).if_match(quoted(etag));
        let answer = request
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|e| failed("HeadObject", self.address(key), e))?;
        Ok(said!(answer).expected(&self.place.bucket, etag))
    }

    /// `HeadObject` with a part's number needs `s3:GetObject` alone; `GetObjectAttributes` would need a right of
    /// its own.
    async fn part_length(&self, key: &str, etag: &str, number: u32) -> Result<Option<u64>, SourceError> {
        let request = self.client.head_object().bucket(&self.place.bucket).key(key).if_match(quoted(etag));
        let answer = request
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|e| failed("HeadObject", self.address(key), e))?;
        // A server that does not know parts answers for the whole object, and does not count them.
        let length = answer.content_length.filter(|_| answer.parts_count.is_some());
        Ok(length.and_then(|length| u64::try_from(length).ok()))
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
    async fn read(&self, key: &str, etag: &str, range: Range<u64>) -> Result<Body, SourceError> {
        let (start, last) = (range.start, range.end.saturating_sub(1));
        let answer = self.get(key, etag, ("range", format!("bytes={start}-{last}"))).await?;
        // Servers exist that do not know Range.
        let expected = format!("bytes {start}-{last}/");
        if !answer.content_range.as_deref().is_some_and(|is| is.starts_with(&expected)) && start > 0 {
            let is = answer.content_range.as_deref().unwrap_or("absent");
            let code = format!("Content-Range is {is}, not {expected}…");
            return Err(self.refused(key, Class::Invalid, code, answer.request_id));
        }
        Ok(body(answer.body, self.address(key)))
    }

    /// As [`S3::read`]. The checksum is asked for behind the SDK's back, which would else compute it too.
    async fn read_whole(&self, key: &str, etag: &str) -> Result<Whole, SourceError> {
        let answer = self.get(key, etag, ("x-amz-checksum-mode", "ENABLED".to_owned())).await?;
        let expected = answer.said.expected(&self.place.bucket, etag);
        Ok(Whole { expected, body: body(answer.body, self.address(key)) })
    }
}

impl S3 {
    /// Gets an object, if it is still this one, with another header beside.
    async fn get(
        &self,
        key: &str,
        etag: &str,
        header: (&'static str, String),
    ) -> Result<Answer, SourceError> {
        let failed_so = |class, code, request_id| self.refused(key, class, code, request_id);
        let headers = [("if-match", quoted(etag)), header];
        let answer = match self.direct.get(key, &headers).await {
            Some(answer) => {
                let answer = answer.map_err(|e| {
                    let failed = failed_so(Class::Transient, innermost(&*e), None);
                    SourceError { source: Some(e), ..failed }
                })?;
                Answer::of_http(answer).await.map_err(|(class, code, id)| failed_so(class, code, id))?
            }
            None => self.get_by_sdk(key, headers).await?,
        };
        // Servers exist that do not know If-Match.
        match answer.etag.as_deref() {
            Some(is) if unquoted(is) != etag => {
                Err(failed_so(Class::Changed, format!("ETag is {is}, not {etag}"), answer.request_id))
            }
            Some(_) | None => Ok(answer),
        }
    }

    /// The SDK's first request shows what all have in common.
    async fn get_by_sdk(
        &self,
        key: &str,
        headers: [(&'static str, String); 2],
    ) -> Result<Answer, SourceError> {
        let request = self.client.get_object().bucket(&self.place.bucket).key(key);
        let mut request = request.customize().mutate_request(move |request| {
            for (name, value) in &headers {
                request.headers_mut().insert(*name, value.clone());
            }
        });
        if let Some(learn) = self.direct.learn(key) {
            request = request.interceptor(learn);
        }
        let answer = request.send().await.map_err(|e| failed("GetObject", self.address(key), e))?;
        Ok(Answer::of_sdk(answer))
    }

    /// A page of the listing that cannot be used.
    fn unlisted(&self, class: Class, code: String) -> SourceError {
        SourceError {
            operation: "ListObjectsV2",
            resource: self.place(),
            class,
            store: Store::S3,
            code,
            request_id: None,
            source: None,
        }
    }

    fn refused(&self, key: &str, class: Class, code: String, request_id: Option<String>) -> SourceError {
        SourceError {
            operation: "GetObject",
            resource: self.address(key),
            class,
            store: Store::S3,
            code,
            request_id,
            source: None,
        }
    }
}

fn body(bytes: ByteStream, address: String) -> Body {
    let body = futures::stream::try_unfold(bytes, move |mut body| {
        let address = address.clone();
        async move {
            match body.next().await {
                None => Ok(None),
                Some(Ok(bytes)) => Ok(Some((bytes, body))),
                Some(Err(error)) => Err(SourceError {
                    operation: "GetObject",
                    resource: address,
                    class: Class::Transient,
                    store: Store::S3,
                    code: innermost(&error),
                    request_id: None,
                    source: Some(error.into()),
                }),
            }
        }
    });
    body.boxed()
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
