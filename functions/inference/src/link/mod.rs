//! Fetching the `link` of a request, within limits and from the public Internet only.
//!
//! Names are resolved here, every address is checked, and the connection goes to a checked address: what
//! a name server says a moment later changes nothing. Redirects are followed one by one through the same
//! checks. Proxies in the environment are not used.

pub mod address;
mod fetch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use tokio_rustls::rustls::pki_types::InvalidDnsNameError;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::{Host, Url};

use crate::error::ApiError;

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
    #[error("it is not a URL ({0}); write http:// or https:// and a host")]
    NotAUrl(#[from] url::ParseError),
    #[error("its scheme is {0:?}; only http and https are fetched")]
    Scheme(String),
    #[error("it has a user name or password; leave them out")]
    Credentials,
    #[error("it has no host")]
    NoHost,
    #[error(
        "host {0:?} is not on the public Internet; use a public address, or have the operator allow the host with ALLOW_LINK_HOSTS"
    )]
    Closed(String),
    #[error("host {0:?} has no address: {1}")]
    Unresolved(String, std::io::Error),
    #[error("host {0:?} cannot be reached: {1}")]
    Unreachable(String, std::io::Error),
    #[error("host {0:?} cannot be a server's name: {1}")]
    ServerName(String, InvalidDnsNameError),
    #[error("host {0:?} does not speak HTTP: {1}")]
    Http(String, hyper::Error),
    #[error("host {0:?} answered {1}; it must answer 200 with the picture")]
    Status(String, StatusCode),
    #[error("host {0:?} redirects without a usable Location")]
    Location(String),
    #[error("it redirects more than {0} times; link to the picture itself")]
    Redirects(usize),
    #[error("its content is larger than {0} bytes; link to a smaller picture")]
    TooLarge(usize),
    #[error("fetching it took longer than {0:?}")]
    TooSlow(Duration),
    #[error("the path cannot be sent: {0}")]
    Path(#[from] axum::http::Error),
}

impl LinkError {
    /// The answer for the client that sent the link.
    #[must_use]
    pub fn into_api_error(self, link: &str) -> ApiError {
        let status = match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotAUrl(_)
            | Self::Scheme(_)
            | Self::Credentials
            | Self::NoHost
            | Self::Closed(_)
            | Self::ServerName(..)
            | Self::Path(_) => StatusCode::BAD_REQUEST,
            Self::Unresolved(..)
            | Self::Unreachable(..)
            | Self::Http(..)
            | Self::Status(..)
            | Self::Location(_)
            | Self::Redirects(_)
            | Self::TooSlow(_) => StatusCode::BAD_GATEWAY,
        };
        ApiError::new(status, format!("field \"link\": {link:?} cannot be fetched: {self}"))
    }
}

/// Fetches links.
#[derive(Debug, Clone)]
pub struct LinkFetcher {
    limits: Arc<LinkLimits>,
    tls: Arc<ClientConfig>,
}

impl LinkFetcher {
    /// A fetcher that trusts the certificate authorities that Mozilla trusts.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn new(limits: LinkLimits) -> Result<Self, tokio_rustls::rustls::Error> {
        Self::trusting(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), limits)
    }

    /// A fetcher that trusts these certificate authorities.
    ///
    /// # Errors
    /// As [`LinkFetcher::new`].
    pub fn trusting(roots: RootCertStore, limits: LinkLimits) -> Result<Self, tokio_rustls::rustls::Error> {
        let tls = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { limits: Arc::new(limits), tls: Arc::new(tls) })
    }

    /// The bytes behind `link`.
    ///
    /// # Errors
    /// [`LinkError`], every one of them the link's or its host's doing.
    pub async fn fetch(&self, link: &str) -> Result<Bytes, LinkError> {
        let url = Url::parse(link)?;
        let time = self.limits.time;
        tokio::time::timeout(time, self.follow(url)).await.unwrap_or(Err(LinkError::TooSlow(time)))
    }

    async fn follow(&self, mut url: Url) -> Result<Bytes, LinkError> {
        for _ in 0..=self.limits.redirects {
            let target = self.target(&url).await?;
            match fetch::get(&target, &url, &self.tls, self.limits.bytes).await? {
                fetch::Answer::Body(bytes) => return Ok(bytes),
                fetch::Answer::Redirect(location) => {
                    url = url.join(&location).map_err(|_| LinkError::Location(target.host))?;
                }
            }
        }
        Err(LinkError::Redirects(self.limits.redirects))
    }

    /// Checks a URL and resolves its host to addresses that may be connected to.
    async fn target(&self, url: &Url) -> Result<Target, LinkError> {
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(LinkError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(LinkError::Credentials);
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(LinkError::NoHost);
        };
        let name = host.to_string();
        let unresolved = |e| LinkError::Unresolved(name.clone(), e);
        let addresses: Vec<SocketAddr> = match host {
            Host::Ipv4(v4) => vec![(v4, port).into()],
            Host::Ipv6(v6) => vec![(v6, port).into()],
            Host::Domain(domain) => {
                tokio::net::lookup_host((domain, port)).await.map_err(unresolved)?.collect()
            }
        };
        // One closed address among public ones is a trick, not a misfortune.
        let open = self.allows(&name, port) || addresses.iter().all(|a| address::is_public(a.ip()));
        if !open {
            return Err(LinkError::Closed(name));
        }
        Ok(Target { host: name, addresses, tls })
    }

    fn allows(&self, host: &str, port: u16) -> bool {
        let with_port = format!("{host}:{port}");
        self.limits
            .allowed_hosts
            .iter()
            .any(|a| a.eq_ignore_ascii_case(host) || a.eq_ignore_ascii_case(&with_port))
    }
}

/// A server that may be connected to.
struct Target {
    host: String,
    addresses: Vec<SocketAddr>,
    tls: bool,
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

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
