//! Polls the passes of several controllers in turn. Nothing in the world waits for real, so a pass that is
//! pending either lets another go first or is dead.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use larder::reconcile::Pass;

use super::World;

/// A pass under way.
pub(super) type Passing<'a> = Pin<Box<dyn Future<Output = Pass> + 'a>>;

/// Polls passes in an order by chance until each is done, or dead.
pub(super) fn drive(
    world: &World,
    mut passes: Vec<Option<Passing<'_>>>,
    rng: &mut fastrand::Rng,
) -> Vec<Option<Pass>> {
    let mut context = Context::from_waker(Waker::noop());
    let mut outcomes: Vec<Option<Pass>> = passes.iter().map(|_| None).collect();
    loop {
        let alive: Vec<usize> = (0..passes.len()).filter(|i| passes[*i].is_some()).collect();
        let Some(i) = rng.choice(alive) else { return outcomes };
        let Some(passing) = &mut passes[i] else { continue };
        match passing.as_mut().poll(&mut context) {
            Poll::Ready(pass) => {
                outcomes[i] = Some(pass);
                passes[i] = None;
            }
            Poll::Pending if world.take_killed() => passes[i] = None,
            Poll::Pending => {}
        }
    }
}
