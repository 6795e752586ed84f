//! Connections to checked addresses only.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::address;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("its address is not on the public Internet")]
    Closed,
    #[error(transparent)]
    Unresolved(io::Error),
    #[error("no connection within {0:?}")]
    Slow(Duration),
    #[error(transparent)]
    Refused(io::Error),
}

/// Connects to a URI's host, where its addresses are public or the host is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    allowed_hosts: Arc<[String]>,
    time: Duration,
}

impl Connector {
    pub(crate) fn new(allowed_hosts: Vec<String>, time: Duration) -> Self {
        Self { allowed_hosts: allowed_hosts.into(), time }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        // An IPv6 host is written in brackets.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<SocketAddr> = if let Ok(ip) = bare.parse::<IpAddr>() {
            vec![(ip, port).into()]
        } else {
            let found = tokio::net::lookup_host((bare, port)).await;
            found.map_err(ConnectError::Unresolved)?.collect()
        };
        // One closed address among public ones is a trick, not a misfortune.
        if !self.allows(host, port) && !addresses.iter().all(|a| address::is_public(a.ip())) {
            return Err(ConnectError::Closed);
        }
        let stream = tokio::time::timeout(self.time, TcpStream::connect(&addresses[..]))
            .await
            .map_err(|_| ConnectError::Slow(self.time))?
            .map_err(ConnectError::Refused)?;
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        Ok(TokioIo::new(stream))
    }

    fn allows(&self, host: &str, port: u16) -> bool {
        let with_port = format!("{host}:{port}");
        self.allowed_hosts.iter().any(|a| a.eq_ignore_ascii_case(host) || a.eq_ignore_ascii_case(&with_port))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
