//! A plain HTTP server.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::StartError;
use crate::routes::{Served, router};

/// The most time for the requests under way when the server stops.
const MOST_STOPPING: Duration = Duration::from_secs(30);

/// Binds an address. Port 0 takes a free one; the listener knows which.
///
/// # Errors
/// [`StartError::Listen`].
pub async fn bound(address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address: address.to_owned(), source })
}

/// Serves until `stop` is done, then until the requests under way are answered, `MOST_STOPPING` at most.
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
    let router = router(served);
    let (stopping, stopped) = oneshot::channel();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        // The receiver is only gone when the server is.
        let _ = stopping.send(());
    });
    let too_long = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(MOST_STOPPING).await;
    };
    tokio::select! {
        ended = serving.into_future() => ended.map_err(failed),
        () = too_long => {
            tracing::warn!("requests under way are given up after {MOST_STOPPING:?}");
            Ok(())
        }
    }
}

/// Done at SIGTERM or SIGINT. From the call on, not only once it is waited for, they no longer end the process.
pub fn stop_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    // Without a handler the signal ends the process, which is what it asks for.
    let handled =
        |kind| signal(kind).inspect_err(|error| tracing::warn!(%error, "a signal cannot be handled"));
    let (terminate, interrupt) = (handled(SignalKind::terminate()), handled(SignalKind::interrupt()));
    let wait = async |signal: std::io::Result<Signal>| match signal {
        Ok(mut stream) => {
            stream.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    async move {
        tokio::select! {
            () = wait(terminate) => {}
            () = wait(interrupt) => {}
        }
        tracing::info!("stopping: no new requests are taken");
    }
}
