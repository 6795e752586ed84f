//! A plain HTTP server.

use std::future::Future;

use tokio::net::TcpListener;

use super::StartError;
use crate::routes::{Served, router};

/// Binds an address. Port 0 takes a free one; the listener knows which.
///
/// # Errors
/// [`StartError::Listen`].
pub async fn bound(address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address: address.to_owned(), source })
}

/// Serves until `stop` is done, then until the requests under way are answered.
///
/// # Errors
/// [`StartError::Serve`].
pub async fn serve(
    listener: TcpListener,
    served: Served,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let failed = |source| StartError::Serve { source };
    let address = listener.local_addr().map_err(failed)?;
    let manifest = served.models.manifest();
    tracing::info!(%address, manifest = manifest.short(), "listening on http://{address}");
    axum::serve(listener, router(served)).with_graceful_shutdown(stop).await.map_err(failed)
}

/// Done at SIGTERM or SIGINT.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut stream) => {
            stream.recv().await;
        }
        // Without a handler the signal ends the process, which is what it asks for.
        Err(error) => {
            tracing::warn!(%error, "a signal cannot be handled");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
    tracing::info!("stopping: no new requests are taken");
}
