//! `GetObject` without what the SDK does anew for each call: for a file of some KiB that is most of the time.
//!
//! The SDK's first request to a bucket shows where it goes and how it is signed ([`Learn`]). Those that follow differ in
//! key, condition, range and time alone. They are signed by the SDK's own crate, with the credentials that the SDK keeps
//! fresh, and go out by its own connections. A bucket whose requests are signed in another way than plain Signature
//! Version 4 (directory buckets, Multi-Region Access Points) stays with the SDK, and so does one that refuses what was
//! signed here, and all that is not `GetObject`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{
    ConfigBag, HttpClient as _, Intercept, ResolveCachedIdentity as _, RuntimeComponents,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::auth::{AuthScheme as _, AuthSchemeId};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::http::Headers;

use super::CONNECT_TIMEOUT;

/// How plain requests are signed.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=";
/// The service that they are signed for.
const SERVICE: &str = "s3";
/// The SHA-256 of nothing: a `GetObject` has no body.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// How a bucket's objects are asked for, once that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Direct(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// None where requests are not plain.
    pattern: OnceLock<Option<Pattern>>,
    /// The bucket refused what was signed here: the SDK has the last word.
    is_refused: AtomicBool,
}

impl Direct {
    /// Gets `key` with these headers; none where that is for the SDK to do. The answer may be any but that the request
    /// is not allowed.
    pub(super) async fn get(
        &self,
        key: &str,
        headers: &[(&'static str, String)],
    ) -> Option<Result<HttpResponse, BoxError>> {
        let pattern = self.0.pattern.get()?.as_ref()?;
        if self.0.is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let answer = pattern.get(key, headers).await;
        let status = answer.as_ref().map(|answer| answer.status().as_u16());
        let is_refused = matches!(status, Ok(400 | 401 | 403));
        self.0.is_refused.fetch_or(is_refused, Ordering::Relaxed);
        (!is_refused).then_some(answer)
    }

    /// What finds out how, from a request for `key`; none when that was tried.
    pub(super) fn learn(&self, key: &str) -> Option<Learn> {
        let is_known = self.0.pattern.get().is_some();
        (!is_known).then(|| Learn { key: key.to_owned(), direct: self.clone() })
    }
}

/// Looks at one request of the SDK.
#[derive(Debug)]
pub(super) struct Learn {
    key: String,
    direct: Direct,
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Learn {
    fn name(&self) -> &'static str {
        "Learn"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let pattern = || Pattern::of(context.request(), &self.key, components);
        self.direct.0.pattern.get_or_init(pattern);
        Ok(())
    }
}

/// What all requests to a bucket have in common, and what sends them.
#[derive(Debug)]
struct Pattern {
    shape: Shape,
    connector: SharedHttpConnector,
    identity: SharedIdentityResolver,
    components: RuntimeComponents,
}

/// What all requests to a bucket have in common.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    /// All before the key: `https://bucket.s3.eu-west-1.amazonaws.com/`.
    before: String,
    /// All after it: `?x-id=GetObject`.
    after: String,
    region: String,
    user_agent: String,
}

impl Shape {
    /// As a request for `key` shows it; none where it is not plain.
    fn of(uri: &str, headers: &Headers, key: &str) -> Option<Self> {
        // CREDENTIAL/DATE/REGION/SERVICE/aws4_request, …
        let mut scope = headers.get("authorization")?.strip_prefix(SIGNED)?.split(['/', ',']);
        let (region, service) = (scope.nth(2)?.to_owned(), scope.next()?);
        if service != SERVICE || headers.get("x-amz-s3session-token").is_some() {
            return None;
        }
        let (address, query) = uri.split_once('?')?;
        Some(Self {
            before: address.strip_suffix(&encoded(key))?.to_owned(),
            after: format!("?{query}"),
            region,
            user_agent: headers.get("user-agent")?.to_owned(),
        })
    }
}

impl Pattern {
    fn of(request: &HttpRequest, key: &str, components: &RuntimeComponents) -> Option<Self> {
        // The SDK's own, so that its connections are shared.
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
        Some(Self {
            shape: Shape::of(request.uri(), request.headers(), key)?,
            connector: components.http_client()?.http_connector(&settings, components),
            identity: components.auth_scheme(AuthSchemeId::from("sigv4"))?.identity_resolver(components)?,
            components: components.clone(),
        })
    }

    /// Gets `key` with these headers. The answer may be any that the server gives.
    ///
    /// # Errors
    /// When there are no credentials, or no answer.
    async fn get(&self, key: &str, headers: &[(&'static str, String)]) -> Result<HttpResponse, BoxError> {
        let cache = self.components.identity_cache();
        let bag = ConfigBag::base();
        let identity = cache.resolve_cached_identity(self.identity.clone(), &self.components, &bag).await?;
        let now = self.components.time_source().map_or_else(SystemTime::now, |clock| clock.now());
        let Shape { before, after, region, user_agent } = &self.shape;
        let uri = format!("{before}{}{after}", encoded(key));
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(SERVICE)
            .time(now)
            .settings(settings)
            .build()?;
        let given = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let body = SignableBody::Precomputed(EMPTY.to_owned());
        let signable = SignableRequest::new("GET", uri.as_str(), given, body)?;
        let (signed, _) = sign(signable, &params.into())?.into_parts();
        let (signed, _) = signed.into_parts();
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(uri)?;
        let all = request.headers_mut();
        for (name, value) in headers {
            all.try_insert(*name, value.clone())?;
        }
        for header in signed {
            all.try_insert(header.name(), header.value().to_owned())?;
        }
        all.try_insert("user-agent", user_agent.clone())?;
        Ok(self.connector.call(request).await?)
    }
}

/// A key as it stands in a path: all but what RFC 3986 leaves alone is encoded, and slashes stay.
fn encoded(key: &str) -> String {
    let mut all = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            all.push(char::from(byte));
        } else {
            write!(all, "%{byte:02X}").ok();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headers of a request that is signed so.
    fn signed(authorization: &str) -> Headers {
        let mut headers = Headers::new();
        headers.insert("user-agent", "aws-sdk-rust");
        headers.insert("authorization", authorization.to_owned());
        headers
    }

    const PLAIN: &str = "AWS4-HMAC-SHA256 Credential=AKID/20270115/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0";

    #[test]
    fn plain_requests_show_their_shape() {
        for (uri, key, before) in [
            (
                "https://b.s3.eu-west-1.amazonaws.com/ocr/det.onnx?x-id=GetObject",
                "ocr/det.onnx",
                "https://b.s3.eu-west-1.amazonaws.com/",
            ),
            (
                "http://127.0.0.1:9000/models/a%20b%2B%C3%BC?x-id=GetObject",
                "a b+ü",
                "http://127.0.0.1:9000/models/",
            ),
        ] {
            let shape = Shape::of(uri, &signed(PLAIN), key).unwrap();
            assert_eq!((shape.before.as_str(), shape.after.as_str()), (before, "?x-id=GetObject"));
            assert_eq!((shape.region.as_str(), shape.user_agent.as_str()), ("eu-west-1", "aws-sdk-rust"));
        }
    }

    #[test]
    fn others_are_the_sdks() {
        let uri = "https://b.s3.eu-west-1.amazonaws.com/a?x-id=GetObject";
        let none =
            |uri, headers: &Headers, key| assert_eq!(Shape::of(uri, headers, key), None, "{headers:?}");
        for authorization in [
            "AWS4-ECDSA-P256-SHA256 Credential=AKID/20270115/s3/aws4_request, SignedHeaders=host, Signature=0",
            "AWS4-HMAC-SHA256 Credential=AKID/20270115/eu-west-1/s3express/aws4_request, SignedHeaders=host, Signature=0",
            "AWS4-HMAC-SHA256 Credential=AKID",
            "Bearer t0ken",
        ] {
            none(uri, &signed(authorization), "a");
        }
        none(uri, &signed(PLAIN), "another/key");
        none("https://b.s3.eu-west-1.amazonaws.com/a", &signed(PLAIN), "a");
        let mut session = signed(PLAIN);
        session.insert("x-amz-s3session-token", "t");
        none(uri, &session, "a");
        let mut unsigned = signed(PLAIN);
        unsigned.remove("authorization");
        none(uri, &unsigned, "a");
    }
}
