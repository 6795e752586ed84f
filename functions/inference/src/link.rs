//! Fetching the `link` of a request, within limits and from the public Internet only.

use std::time::Duration;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use larder_web::{Plain, Settings, Web, WebError};
use tokio_rustls::rustls::{self, RootCertStore};
use url::Url;

use crate::error::ApiError;
use crate::request;

/// The limits of a fetch.
#[derive(Debug, Clone)]
pub struct LinkLimits {
    /// The most bytes of a body.
    pub bytes: usize,
    /// The most time for everything: names, connections, redirects, body.
    pub time: Duration,
    /// The most redirects.
    pub redirects: usize,
    /// Hosts that may have any address, as `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            bytes: 10 * 1024 * 1024,
            time: Duration::from_secs(10),
            redirects: 3,
            allowed_hosts: Vec::new(),
        }
    }
}

/// Why a link is not fetched.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LinkError {
    #[error(transparent)]
    Web(WebError),
    #[error("{0}; use a public address, or have the operator allow the host with ALLOW_LINK_HOSTS")]
    Closed(WebError),
    #[error("host {0:?} answered {1}; it must answer 200 with the picture")]
    Status(String, StatusCode),
    #[error("host {0:?} does not speak HTTP: {1}")]
    Http(String, hyper::Error),
    #[error("its content is larger than {0} bytes; link to a smaller picture")]
    TooLarge(usize),
    #[error("fetching it took longer than {0:?}")]
    TooSlow(Duration),
}

impl From<WebError> for LinkError {
    fn from(error: WebError) -> Self {
        if matches!(error, WebError::Closed(_)) { Self::Closed(error) } else { Self::Web(error) }
    }
}

impl LinkError {
    /// The answer for the client that sent the link.
    #[must_use]
    pub fn into_api_error(self, link: &str) -> ApiError {
        let status = match &self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Web(error) | Self::Closed(error) if error.is_of_the_address() => StatusCode::BAD_REQUEST,
            Self::Web(_) | Self::Closed(_) | Self::Status(..) | Self::Http(..) | Self::TooSlow(_) => {
                StatusCode::BAD_GATEWAY
            }
        };
        ApiError::new(status, format!("field \"link\": {link:?} cannot be fetched: {self}"))
    }
}

/// Fetches links.
#[derive(Debug, Clone)]
pub struct LinkFetcher {
    web: Web,
    bytes: usize,
    time: Duration,
}

impl LinkFetcher {
    /// A fetcher that trusts the certificate authorities that Mozilla trusts.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn new(limits: LinkLimits) -> Result<Self, rustls::Error> {
        let (bytes, time) = (limits.bytes, limits.time);
        Ok(Self { web: Web::new(settings(limits))?, bytes, time })
    }

    /// A fetcher that trusts these certificate authorities.
    ///
    /// # Errors
    /// As [`LinkFetcher::new`].
    pub fn trusting(roots: RootCertStore, limits: LinkLimits) -> Result<Self, rustls::Error> {
        let (bytes, time) = (limits.bytes, limits.time);
        Ok(Self { web: Web::trusting(roots, settings(limits))?, bytes, time })
    }

    /// The bytes behind `link`.
    ///
    /// # Errors
    /// [`LinkError`], every one of them the link's or its host's doing.
    pub async fn fetch(&self, link: &str) -> Result<Bytes, LinkError> {
        let time = self.time;
        tokio::time::timeout(time, self.get(link)).await.unwrap_or(Err(LinkError::TooSlow(time)))
    }

    async fn get(&self, link: &str) -> Result<Bytes, LinkError> {
        let url = Url::parse(link).map_err(WebError::from)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("image/png, image/jpeg"));
        if let Some(context) = request::current() {
            headers.extend(context.trace().headers());
        }
        let (from, answer) = self.web.get(&url, &headers).await?;
        let host = from.host_str().unwrap_or_default();
        match answer.status() {
            StatusCode::OK => read(answer.into_body(), self.bytes, host).await,
            status => Err(LinkError::Status(host.to_owned(), status)),
        }
    }
}

fn settings(limits: LinkLimits) -> Settings {
    Settings {
        agent: concat!("larder-inference/", env!("CARGO_PKG_VERSION")),
        allowed_hosts: limits.allowed_hosts,
        plain: Plain::Anywhere,
        redirects: limits.redirects,
        connect: limits.time,
        // A sandbox that was frozen finds its old connections dead.
        idle: 0,
    }
}

async fn read(mut body: Incoming, limit: usize, host: &str) -> Result<Bytes, LinkError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|e| LinkError::Http(host.to_owned(), e))?.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(LinkError::TooLarge(limit));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::rustls::{ServerConfig, crypto};

    use super::*;

    /// Answers one HTTPS request for `localhost`; returns the port and the certificate's store.
    async fn https_host() -> (u16, RootCertStore) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust us hangs up here.
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let head = String::from_utf8_lossy(&request[..read]).to_lowercase();
            let fits = head.starts_with("get /a%20b?c=d http/1.1\r\n")
                && head.contains(&format!("host: localhost:{port}\r\n"));
            let status = if fits { "200 OK" } else { "400 Bad Request" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        (port, roots)
    }

    fn limits(port: u16) -> LinkLimits {
        LinkLimits { allowed_hosts: vec![format!("localhost:{port}")], ..LinkLimits::default() }
    }

    #[tokio::test]
    async fn https_is_fetched_from_whom_the_certificate_names() {
        let (port, roots) = https_host().await;
        let fetcher = LinkFetcher::trusting(roots, limits(port)).unwrap();
        let link = format!("https://localhost:{port}/a b?c=d#e");
        assert_eq!(fetcher.fetch(&link).await.unwrap(), "hi");
    }

    #[tokio::test]
    async fn an_unknown_certificate_is_refused() {
        let (port, _) = https_host().await;
        let refusal =
            LinkFetcher::new(limits(port)).unwrap().fetch(&format!("https://localhost:{port}/")).await;
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains("localhost") && refusal.contains("certificate"), "{refusal}");
    }
}
