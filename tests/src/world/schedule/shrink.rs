//! The smallest schedule that fails as a large one does, found by leaving things out.

use super::play::Failed;
use super::{Faults, Schedule, Settings};

/// Leaves out what a failure does not need, with at most so many `tries` of `play`.
///
/// What is left fails in the same way as `failed`, with other particulars perhaps.
#[must_use]
pub fn shrink(
    schedule: Schedule,
    failed: Failed,
    tries: u32,
    play: impl Fn(&Schedule) -> Result<(), Failed>,
) -> (Schedule, Failed) {
    let mut shrinking = Shrinking { schedule, failed, tries, play };
    shrinking.shrink();
    (shrinking.schedule, shrinking.failed)
}

struct Shrinking<P> {
    schedule: Schedule,
    failed: Failed,
    tries: u32,
    play: P,
}

/// One thing simpler.
type Simplification = fn(&mut Schedule);

const SIMPLIFICATIONS: [Simplification; 7] = [
    |it| it.settings.controllers = 1,
    |it| it.settings.is_brought = false,
    |it| it.settings.keeps_data = false,
    |it| it.settings.verify_every = None,
    |it| it.settings.page_size = 2,
    |it| it.settings.rollout = Settings::plain_rollout(it.settings.rollout.history_limit),
    |it| it.settles = true,
];

impl<P: Fn(&Schedule) -> Result<(), Failed>> Shrinking<P> {
    fn shrink(&mut self) {
        self.thin(|it| &mut it.events);
        for simplification in SIMPLIFICATIONS {
            self.with(simplification);
        }
        self.thin(|it| &mut it.faults.kinds);
        // From what chance brought to the calls that it hit: each can be left out on its own.
        let planned = self.failed.faults.clone();
        self.with(|it| it.faults = Faults { planned, ..Faults::default() });
        self.thin(|it| &mut it.faults.planned);
        self.thin(|it| &mut it.events);
        for i in 0..self.schedule.events.len() {
            self.with(|it| it.events.iter_mut().skip(i).take(1).for_each(|(_, wait)| *wait = 1));
        }
        self.with(|it| it.begins = 1);
    }

    /// Leaves out halves, then quarters, and so on to single ones.
    fn thin<T>(&mut self, list: fn(&mut Schedule) -> &mut Vec<T>) {
        let mut size = list(&mut self.schedule).len();
        while size > 0 {
            let mut start = 0;
            while start < list(&mut self.schedule).len() {
                let is_left_out = self.with(|it| {
                    let list = list(it);
                    let end = list.len().min(start + size);
                    list.drain(start..end);
                });
                if !is_left_out {
                    start += size;
                }
            }
            size /= 2;
        }
    }

    /// Whether it still fails so with this change. Then the change stays.
    fn with(&mut self, change: impl FnOnce(&mut Schedule)) -> bool {
        let mut simpler = self.schedule.clone();
        change(&mut simpler);
        if self.tries == 0 || simpler.to_string() == self.schedule.to_string() {
            return false;
        }
        self.tries -= 1;
        match (self.play)(&simpler) {
            Err(failed) if failed.kind() == self.failed.kind() => {
                (self.schedule, self.failed) = (simpler, failed);
                true
            }
            Err(_) | Ok(()) => false,
        }
    }
}
