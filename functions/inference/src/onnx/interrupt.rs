//! Runs that nobody waits for any more are ended.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::session::RunOptions;

/// What ends the runs of one model's sessions. A model answers one request at a time, so all runs between
/// one [`Interrupt::begin`] and the next are one request's.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    turn: u64,
    ended: bool,
    running: Vec<Arc<RunOptions>>,
}

impl Interrupt {
    /// A request begins to use the sessions, and the one before it has ended. Its runs are ended when what
    /// is returned is dropped.
    pub(crate) fn begin(&self) -> EndOnDrop {
        let mut state = self.state();
        state.turn += 1;
        state.ended = false;
        EndOnDrop { interrupt: self.clone(), turn: state.turn }
    }

    /// Whether the request that uses the sessions was ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.state().ended
    }

    /// A run with these options begins; it is over when what is returned is dropped.
    pub(super) fn running(&self, options: &Arc<RunOptions>) -> Running {
        let mut state = self.state();
        if state.ended {
            end(options);
        }
        state.running.push(Arc::clone(options));
        Running { interrupt: self.clone(), options: Arc::clone(options) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { turn, ended, running } = &*self.state();
        write!(f, "Interrupt {{ turn: {turn}, ended: {ended}, running: {} }}", running.len())
    }
}

/// ONNX Runtime looks at the mark before each operator, in graphs inside of operators too.
fn end(options: &RunOptions) {
    if let Err(error) = options.terminate() {
        tracing::warn!(%error, "a run cannot be ended");
    }
}

/// A request's right to run: without it, its runs end.
#[derive(Debug)]
pub(crate) struct EndOnDrop {
    interrupt: Interrupt,
    turn: u64,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let mut state = self.interrupt.state();
        if state.turn == self.turn {
            state.ended = true;
            state.running.iter().for_each(|options| end(options));
        }
    }
}

/// A run that is under way.
pub(super) struct Running {
    interrupt: Interrupt,
    options: Arc<RunOptions>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupt.state().running.retain(|other| !Arc::ptr_eq(other, &self.options));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_its_own_runs_alone() {
        let interrupt = Interrupt::default();
        let first = interrupt.begin();
        assert!(!interrupt.is_ended());
        let second = interrupt.begin();
        drop(first);
        assert!(!interrupt.is_ended(), "another request has begun");
        drop(second);
        assert!(interrupt.is_ended());
        let _third = interrupt.begin();
        assert!(!interrupt.is_ended());
    }
}
