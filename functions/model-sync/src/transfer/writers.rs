//! Threads that make small files.
//!
//! A thread for each file would be woken for each, thousands of times a second, and all of them would wait for the
//! lock of one folder. Here a thread goes on with the next file while there is one, and another one comes when more
//! are waiting than those there are get done: on a local disk one or two, on a network file system as many as its
//! round trips take.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::TransferError;
use crate::store::StoreError;

/// How many files wait for each thread before there is one more.
const WAITING_FOR_ONE: usize = 2;

type Work = Box<dyn FnOnce() + Send>;

/// Makes files, by as few threads as keep up with them.
#[derive(Default)]
pub struct Writers(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
}

impl std::fmt::Debug for Writers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writers").field("threads", &self.state().threads).finish_non_exhaustive()
    }
}

impl Writers {
    /// Does this on one of the threads.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, TransferError> {
        let (tell, told) = oneshot::channel();
        // Nobody listens any more when the copy has failed.
        self.add(Box::new(move || drop(tell.send(work()))));
        let died = || io::Error::other("a thread died; this is a fault of the program");
        Ok(told.await.map_err(|_| StoreError::at("write", Path::new("a small file"))(died()))??)
    }

    fn add(self: &Arc<Self>, work: Work) {
        let mut state = self.state();
        state.waiting.push_back(work);
        if state.waiting.len() > state.threads * WAITING_FOR_ONE {
            state.threads += 1;
            let writers = Arc::clone(self);
            tokio::task::spawn_blocking(move || writers.work());
        }
    }

    fn work(&self) {
        while let Some(work) = self.next() {
            // Whoever waits for it is told that it died; the others go on.
            catch_unwind(AssertUnwindSafe(work)).unwrap_or_default();
        }
    }

    /// The next file; the thread ends when there is none.
    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.threads -= 1;
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
