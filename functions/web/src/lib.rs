//! HTTP where somebody else says the address: a link in a request, a model's source.
//!
//! - [`address`]: which addresses are on the public Internet.
//! - [`connect`]: connections to checked addresses only.
//! - [`Web`]: a GET, with redirects.
//!
//! Names are resolved here, every address is checked, and the connection goes to a checked address: what a name
//! server says a moment later changes nothing. Redirects are followed one by one through the same checks. Proxies
//! in the environment are not used.
//!
//! Deliberately absent: retries, and limits of time and of a body's length. They are the caller's.

pub mod address;
mod connect;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::{Host, Position, Url};

use connect::{ConnectError, Connector};

/// What may be asked, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What we call ourselves.
    pub agent: &'static str,
    /// Hosts that may have any address, as `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
    /// Where HTTP without TLS is spoken.
    pub plain: Plain,
    /// The most redirects.
    pub redirects: usize,
    /// How long one connection may take.
    pub connect: Duration,
    /// How many connections to each host are kept open for later.
    pub idle: usize,
}

/// Where HTTP without TLS is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// Wherever the address says so.
    Anywhere,
    /// To this machine only.
    Loopback,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WebError {
    #[error("it is not a URL ({0}); write http:// or https:// and a host")]
    NotAUrl(#[from] url::ParseError),
    #[error("its scheme is {0:?}; only http and https are fetched")]
    Scheme(String),
    #[error("it has a user name or password; leave them out")]
    Credentials,
    #[error("it has no host")]
    NoHost,
    #[error("host {0:?} is to be asked without TLS, and only this machine is; write https://")]
    Plain(String),
    #[error("host {0:?} is not on the public Internet")]
    Closed(String),
    #[error("host {0:?} has no address: {1}")]
    Unresolved(String, std::io::Error),
    #[error("host {0:?} cannot be reached: {1}")]
    Unreachable(String, String),
    #[error("host {0:?} does not speak HTTP: {1}")]
    Http(String, String),
    #[error("host {0:?} redirects without a usable Location")]
    Location(String),
    #[error("it redirects more than {0} times")]
    Redirects(usize),
    #[error("it cannot be sent: {0}")]
    Request(#[from] http::Error),
}

impl WebError {
    /// Whether the address itself is at fault, and will be again.
    #[must_use]
    pub const fn is_of_the_address(&self) -> bool {
        match self {
            Self::NotAUrl(_)
            | Self::Scheme(_)
            | Self::Credentials
            | Self::NoHost
            | Self::Plain(_)
            | Self::Closed(_)
            | Self::Request(_) => true,
            Self::Unresolved(..)
            | Self::Unreachable(..)
            | Self::Http(..)
            | Self::Location(_)
            | Self::Redirects(_) => false,
        }
    }
}

/// Asks. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Web {
    client: Client<HttpsConnector<Connector>, Empty<Bytes>>,
    agent: HeaderValue,
    plain: Plain,
    redirects: usize,
}

impl Web {
    /// One that trusts the certificate authorities that Mozilla trusts.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn new(settings: Settings) -> Result<Self, tokio_rustls::rustls::Error> {
        Self::trusting(public_roots(), settings)
    }

    /// One that trusts these certificate authorities.
    ///
    /// # Errors
    /// As [`Web::new`].
    pub fn trusting(roots: RootCertStore, settings: Settings) -> Result<Self, tokio_rustls::rustls::Error> {
        let tls = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(settings.allowed_hosts, settings.connect));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(settings.idle)
            .build(connector);
        Ok(Self {
            client,
            agent: HeaderValue::from_static(settings.agent),
            plain: settings.plain,
            redirects: settings.redirects,
        })
    }

    /// The answer to a GET, whatever its status, after redirects; and who gave it.
    ///
    /// `Authorization` is not sent on to another host.
    ///
    /// # Errors
    /// See [`WebError`].
    pub async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<(Url, Response<Incoming>), WebError> {
        let mut url = url.clone();
        let mut headers = headers.clone();
        headers.insert(USER_AGENT, self.agent.clone());
        for _ in 0..=self.redirects {
            let host = self.check(&url)?;
            let mut request = Request::get(&url[..Position::AfterQuery]).body(Empty::<Bytes>::new())?;
            request.headers_mut().extend(headers.clone());
            let answer = self.client.request(request).await.map_err(|e| explain(host.clone(), &e))?;
            if !answer.status().is_redirection() {
                return Ok((url, answer));
            }
            let location = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.ok_or(WebError::Location(host))?;
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(WebError::Redirects(self.redirects))
    }

    /// What of a URL can be seen without asking anybody; answers its host.
    fn check(&self, url: &Url) -> Result<String, WebError> {
        let is_plain = match url.scheme() {
            "http" => true,
            "https" => false,
            other => return Err(WebError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebError::Credentials);
        }
        let host = url.host().ok_or(WebError::NoHost)?;
        if is_plain && self.plain == Plain::Loopback && !is_loopback(&host) {
            return Err(WebError::Plain(host.to_string()));
        }
        Ok(host.to_string())
    }
}

/// The certificate authorities that Mozilla trusts.
#[must_use]
pub fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// Whether a host is this machine, by its name alone.
#[must_use]
pub fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(v4) => v4.is_loopback(),
        Host::Ipv6(v6) => v6.is_loopback(),
    }
}

fn explain(host: String, error: &hyper_util::client::legacy::Error) -> WebError {
    let causes = || std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let innermost = causes().last().map(ToString::to_string).unwrap_or_default();
    match causes().find_map(|cause| cause.downcast_ref::<ConnectError>()) {
        Some(ConnectError::Closed) => WebError::Closed(host),
        Some(ConnectError::Unresolved(e)) => {
            WebError::Unresolved(host, std::io::Error::new(e.kind(), e.to_string()))
        }
        Some(ConnectError::Slow(_) | ConnectError::Refused(_)) => WebError::Unreachable(host, innermost),
        None if error.is_connect() => WebError::Unreachable(host, innermost),
        None => WebError::Http(host, innermost),
    }
}
