//! What all requests share, whatever the protocol and however they come: an [id](mod@id), a [`trace`], a
//! bound on their time, their place in logs and metrics ([`answered`]), and the reading of bodies ([`body`]).
//!
//! All of it is known to the code that runs inside of [`scope`], without being handed on.

pub mod answered;
pub mod body;
pub mod id;
pub mod trace;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use larder_contract::Task;

use crate::error::ApiError;
use id::RequestId;
use trace::Trace;

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// What is known of a request while it is under way.
#[derive(Debug)]
pub struct Context {
    id: RequestId,
    trace: Trace,
    began: Instant,
    subject: OnceLock<(String, Task)>,
    stages: Mutex<Vec<(&'static str, Instant)>>,
}

impl Context {
    /// A request that begins now.
    #[must_use]
    pub fn new(id: RequestId, trace: Trace) -> Self {
        let began = Instant::now();
        Self { id, trace, began, subject: OnceLock::new(), stages: Mutex::new(vec![(RECEIVING, began)]) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The trace that it is part of.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How long it has been under way.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.began.elapsed()
    }

    /// The model that it is for, once that is known.
    #[must_use]
    pub fn subject(&self) -> Option<(&str, Task)> {
        self.subject.get().map(|(name, task)| (name.as_str(), *task))
    }

    /// The stage that it is in.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        self.stages().last().map_or(RECEIVING, |stage| stage.0)
    }

    /// The milliseconds that each stage took until now.
    #[must_use]
    pub fn account(&self) -> BTreeMap<&'static str, f64> {
        let stages = self.stages();
        let ends = stages.iter().skip(1).map(|stage| stage.1).chain([Instant::now()]);
        let mut account = BTreeMap::new();
        for ((name, start), end) in stages.iter().zip(ends) {
            *account.entry(*name).or_default() += end.duration_since(*start).as_secs_f64() * 1000.0;
        }
        account
    }

    fn stages(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, Instant)>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stage that every request begins in.
pub const RECEIVING: &str = "receiving the body";

/// The stage of a request that waits for its model.
pub const LOADING: &str = "loading";

/// More changes of stage than this are not kept: a batch may have any number of texts, not of stages.
const MOST_STAGES: usize = 64;

/// Runs `work` as the request.
pub async fn scope<T>(context: Arc<Context>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(context, work).await
}

/// The request that this code runs for; `None` outside of [`scope`].
#[must_use]
pub fn current() -> Option<Arc<Context>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// The request's id; a new one outside of [`scope`], so that an error always has one.
#[must_use]
pub fn id() -> RequestId {
    CURRENT.try_with(|context| context.id.clone()).unwrap_or_else(|_| RequestId::random())
}

/// The request goes on to a stage: what it is told to have spent its time on when that is over.
pub fn stage(name: &'static str) {
    // Outside of a request nobody asks.
    let _ = CURRENT.try_with(|context| {
        let mut stages = context.stages();
        if stages.len() < MOST_STAGES && stages.last().is_none_or(|stage| stage.0 != name) {
            stages.push((name, Instant::now()));
        }
    });
}

/// The request is for this model: for its metrics and its line in the log. The first one counts.
pub fn concerns(model: &str, task: Task) {
    let _ = CURRENT.try_with(|context| {
        let _ = context.subject.set((model.to_owned(), task));
        tracing::Span::current().record("model", model);
    });
}

/// Work on no more bytes than this is done where it is: handing it to another thread and back takes longer.
const SMALL: usize = 32 * 1024;

/// Does work on this many bytes, as part of the request: off the threads that serve connections, unless
/// there is little of it.
///
/// # Errors
/// Those of the work; 500 when it panics.
pub async fn work_on<T: Send + 'static>(
    bytes: usize,
    operation: &'static str,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if bytes > SMALL {
        return aside(operation, work).await;
    }
    stage(operation);
    work()
}

/// Does work that takes longer than a moment off the threads that serve connections, as part of the
/// request.
///
/// # Errors
/// Those of the work; 500 when it panics.
pub async fn aside<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    stage(operation);
    let done = tokio::task::spawn_blocking(carried(work)).await;
    done.unwrap_or_else(|e| Err(ApiError::internal(operation, "any", &e)))
}

/// Work as part of the request, on whatever thread it is done: what it logs has the request's id.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (context, span) = (current(), tracing::Span::current());
    move || {
        let _entered = span.entered();
        match context {
            Some(context) => CURRENT.sync_scope(context, work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_for_a_request_knows_it() {
        let context =
            || Arc::new(Context::new(RequestId::random(), Trace::of(&axum::http::HeaderMap::new())));
        let (first, second) = (context(), context());
        assert!(current().is_none() && id() != id());
        let inside = scope(Arc::clone(&first), async {
            concerns("a", Task::Ocr);
            concerns("b", Task::Ocr);
            assert_eq!(scope(Arc::clone(&second), async { id() }).await, second.id);
            aside("decoding", || Ok(id())).await
        });
        assert_eq!(inside.await.unwrap(), first.id);
        assert_eq!(first.subject(), Some(("a", Task::Ocr)));
        assert_eq!((first.stage(), second.stage()), ("decoding", RECEIVING));
        let account = first.account();
        assert_eq!(account.keys().copied().collect::<Vec<_>>(), ["decoding", RECEIVING]);
    }

    #[tokio::test]
    async fn a_panic_aside_is_an_error_with_the_requests_id() {
        let context = Arc::new(Context::new(RequestId::random(), Trace::of(&axum::http::HeaderMap::new())));
        let failure =
            scope(Arc::clone(&context), aside::<()>("work", || panic!("on purpose"))).await.unwrap_err();
        assert_eq!(failure.status.as_u16(), 500);
        assert!(failure.message.contains(context.id().as_str()), "{failure}");
    }
}
