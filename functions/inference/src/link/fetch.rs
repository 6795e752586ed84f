//! One GET to an address that has been checked.

use std::sync::Arc;

use axum::http::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use axum::http::{Request, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Position, Url};

use super::{LinkError, Target};
use crate::request;

/// What a server answers.
pub(super) enum Answer {
    Body(Bytes),
    Redirect(String),
}

/// Asks `target` for `url`, reading at most `limit` bytes.
pub(super) async fn get(
    target: &Target,
    url: &Url,
    tls: &Arc<ClientConfig>,
    limit: usize,
) -> Result<Answer, LinkError> {
    let stream = TcpStream::connect(&target.addresses[..])
        .await
        .map_err(|e| LinkError::Unreachable(target.host.clone(), e))?;
    if !target.tls {
        return exchange(stream, target, url, limit).await;
    }
    // An IPv6 host is written in brackets, a certificate's name is not.
    let name = target.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|e| LinkError::ServerName(target.host.clone(), e))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(|e| LinkError::Unreachable(target.host.clone(), e))?;
    exchange(stream, target, url, limit).await
}

async fn exchange<S>(stream: S, target: &Target, url: &Url, limit: usize) -> Result<Answer, LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e| LinkError::Http(target.host.clone(), e);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(ACCEPT, "image/png, image/jpeg")
        .header(USER_AGENT, concat!("larder-inference/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    if let Some(context) = request::current() {
        request.headers_mut().extend(context.trace().headers());
    }
    let conversation = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            StatusCode::OK => read(response.into_body(), limit, broken).await.map(Answer::Body),
            status if status.is_redirection() => {
                let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
                let location = location.ok_or_else(|| LinkError::Location(target.host.clone()))?;
                Ok(Answer::Redirect(location.to_owned()))
            }
            status => Err(LinkError::Status(target.host.clone(), status)),
        }
    };
    // The connection is driven here, not in a task of its own, so that it ends with the exchange. The
    // conversation hears of any error of the connection, and outlives it for what is buffered.
    let mut conversation = std::pin::pin!(conversation);
    tokio::select! {
        answer = &mut conversation => answer,
        _ = connection => conversation.await,
    }
}

async fn read(
    mut body: Incoming,
    limit: usize,
    broken: impl Fn(hyper::Error) -> LinkError,
) -> Result<Bytes, LinkError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(&broken)?.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(LinkError::TooLarge(limit));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}
