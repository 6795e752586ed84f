//! GETs as somebody, of one source.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, RANGE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use larder_contract::source::OciReference;
use larder_web::Web;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::without_query;
use crate::oci::login;
use crate::{Body, Class, Credentials, SourceError};

/// The most bytes of an answer that is no file.
const MAX_ANSWER: usize = 8 << 20;

/// GETs as somebody.
#[derive(Debug)]
pub(crate) struct Session {
    web: Web,
    credentials: Option<Credentials>,
    /// The repository whose registry says how to log in, when it is asked without.
    repository: Option<String>,
    authorization: Mutex<Option<HeaderValue>>,
}

/// What a server says of a file before it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) size: Option<u64>,
    pub(crate) has_ranges: bool,
    /// A strong validator of the content.
    pub(crate) etag: Option<String>,
}

impl Session {
    /// As the bearer of these credentials, if any.
    pub(crate) fn plain(web: Web, credentials: Option<Credentials>) -> Result<Self, SourceError> {
        let header = credentials.as_ref().map(|credentials| {
            let bad = "they hold what no HTTP header can";
            credentials.header().ok_or_else(|| SourceError::new(Class::Invalid, "the credentials", bad))
        });
        let authorization = Mutex::new(header.transpose()?);
        Ok(Self { web, credentials, repository: None, authorization })
    }

    /// As a registry wants it.
    pub(crate) fn registry(web: Web, reference: &OciReference, credentials: Option<Credentials>) -> Self {
        let repository = Some(reference.repository.clone());
        Self { web, credentials, repository, authorization: Mutex::default() }
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The answer, whatever its status.
    async fn ask(&self, url: &Url, headers: &HeaderMap) -> Result<(Url, Response<Incoming>), SourceError> {
        let mut headers = headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let send = async || {
            let mut headers = headers.clone();
            if let Some(authorization) = self.authorization() {
                headers.insert(AUTHORIZATION, authorization);
            }
            self.web.get(url, &headers).await.map_err(|e| SourceError::web(url.as_str(), e))
        };
        let (from, answer) = send().await?;
        let Some(repository) = &self.repository else { return Ok((from, answer)) };
        // The first time, and when a token is too old.
        if answer.status() != StatusCode::UNAUTHORIZED || from.origin() != url.origin() {
            return Ok((from, answer));
        }
        let Some(challenge) = answer.headers().get(WWW_AUTHENTICATE).and_then(|c| c.to_str().ok()) else {
            return Ok((from, answer));
        };
        let (web, credentials) = (&self.web, self.credentials.as_ref());
        let header = login::answer(web, url, repository, challenge, credentials).await?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(header);
        send().await
    }

    /// A whole answer that is no file, with its headers.
    pub(crate) async fn fetch(
        &self,
        url: &Url,
        accept: &'static str,
    ) -> Result<(HeaderMap, Bytes), SourceError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let (_, answer) = self.ask(url, &headers).await?;
        if answer.status() != StatusCode::OK {
            return Err(SourceError::status(url.as_str(), answer.status()));
        }
        let headers = answer.headers().clone();
        Ok((headers, whole(url, answer.into_body()).await?))
    }

    /// As [`Session::fetch`], read as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<(HeaderMap, T), SourceError> {
        let (headers, text) = self.fetch(url, "application/json").await?;
        Ok((headers, parsed(url, &text)?))
    }

    /// Asks for the first byte: every server that knows ranges shows it so, while some refuse HEAD.
    pub(crate) async fn probe(&self, url: &Url) -> Result<Probed, SourceError> {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
        let (_, answer) = self.ask(url, &headers).await?;
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let etag = text(ETAG).filter(|etag| etag.starts_with('"')).map(str::to_owned);
        let total = || text(CONTENT_RANGE)?.rsplit_once('/')?.1.parse().ok();
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => Ok(Probed { size: total(), has_ranges: true, etag }),
            // Not even a first byte.
            StatusCode::RANGE_NOT_SATISFIABLE if total() == Some(0) => {
                Ok(Probed { size: Some(0), has_ranges: false, etag })
            }
            StatusCode::OK => {
                let size = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
                Ok(Probed { size, has_ranges: false, etag })
            }
            status => Err(SourceError::status(url.as_str(), status)),
        }
    }

    /// The bytes of a file, or of a range of it; `etag` is a condition.
    pub(crate) async fn read(
        &self,
        url: &Url,
        range: Option<Range<u64>>,
        etag: Option<&str>,
    ) -> Result<Body, SourceError> {
        let mut headers = HeaderMap::new();
        let bad = |_| SourceError::new(Class::Invalid, url.as_str(), "its ETag is no header");
        if let Some(etag) = etag {
            headers.insert(IF_MATCH, HeaderValue::from_str(etag).map_err(bad)?);
        }
        if let Some(range) = &range {
            let text = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            headers.insert(RANGE, HeaderValue::from_str(&text).map_err(bad)?);
        }
        let (_, answer) = self.ask(url, &headers).await?;
        let is =
            |name, want: &str| answer.headers().get(name).is_none_or(|is| is.as_bytes() == want.as_bytes());
        if etag.is_some_and(|etag| !is(ETAG, etag)) {
            return Err(SourceError::new(Class::Changed, url.as_str(), "its ETag is another"));
        }
        match (range, answer.status()) {
            (None, StatusCode::OK) => {}
            (Some(range), StatusCode::PARTIAL_CONTENT) => {
                let want = format!("bytes {}-{}/", range.start, range.end.saturating_sub(1));
                let have = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                if !have.is_some_and(|have| have.starts_with(&want)) {
                    let why = format!("Content-Range is {}, not {want}…", have.unwrap_or("absent"));
                    return Err(SourceError::new(Class::Transient, url.as_str(), &why));
                }
            }
            (Some(_), StatusCode::OK) => {
                let why = "the server does not give a part that it gave before";
                return Err(SourceError::new(Class::Transient, url.as_str(), why));
            }
            (_, status) => return Err(SourceError::status(url.as_str(), status)),
        }
        let resource = without_query(url.as_str());
        let chunks = answer.into_body().into_data_stream();
        Ok(chunks.map(move |chunk| chunk.map_err(|e| broken(&resource, e))).boxed())
    }
}

fn broken(resource: &str, error: hyper::Error) -> SourceError {
    let code = format!("the connection broke ({error})");
    SourceError { source: Some(Box::new(error)), ..SourceError::new(Class::Transient, resource, &code) }
}

pub(crate) fn parsed<T: DeserializeOwned>(url: &Url, text: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(text).map_err(|e| {
        let code = format!("the answer is not what such a server says ({e})");
        SourceError { source: Some(Box::new(e)), ..SourceError::new(Class::Invalid, url.as_str(), &code) }
    })
}

/// A whole body, which is short.
pub(crate) async fn whole(url: &Url, mut body: Incoming) -> Result<Bytes, SourceError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|e| broken(url.as_str(), e))?.into_data() {
            if bytes.len() + data.len() > MAX_ANSWER {
                let why = format!("the answer is longer than {MAX_ANSWER} bytes");
                return Err(SourceError::new(Class::Invalid, url.as_str(), &why));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}
