//! Among how many invocations of model-sync a copy is spread, and which of them are to be started.
//!
//! An invocation ends after 15 minutes, and has one network card. A copy that is more than it can do in half of
//! that is shared: by so many that each needs no more than half, as far as the file system takes what they write.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_contract::Worker;
use larder_contract::sync::{ModelState, SyncReport, WorkerState};

/// Bytes a second that one invocation is taken to copy, unless the controller is told another figure. Assumed: AWS documents no figure for an invocation's
/// network, and the program itself copies ten times as much (docs/sync-speed.md). One that is faster ends sooner,
/// one that is half as fast still ends in time.
pub const WORKER_RATE: u64 = 64 << 20;

/// The most invocations: together they write what EFS takes in every Region, 1 GiB/s with elastic throughput.
/// <https://docs.aws.amazon.com/efs/latest/ug/limits.html>
pub const MOST_WORKERS: u16 = 16;

/// How many invocations share a copy of so many bytes, each of which copies `rate` bytes a second and may take `timeout`. With a reserved
/// concurrency one is left for questions about progress.
#[must_use]
pub fn workers(bytes: u64, rate: u64, timeout: Duration, reserved: Option<i32>) -> u16 {
    let share = rate.saturating_mul(timeout.as_secs() / 2).max(1);
    let wanted = u16::try_from(bytes.div_ceil(share)).unwrap_or(u16::MAX);
    let room = reserved.map_or(MOST_WORKERS, |most| u16::try_from(most.saturating_sub(1)).unwrap_or(0));
    wanted.min(room).clamp(1, MOST_WORKERS)
}

/// Those to start when nobody is at work; none, when one copies by itself.
///
/// Whose share is there is not started again. When all shares are, the last to finish was cut short before it made
/// the models complete, and any one of them does.
#[must_use]
pub fn to_start(report: &SyncReport, workers: u16) -> Vec<Option<Worker>> {
    if workers <= 1 {
        return vec![None];
    }
    let left: Vec<Option<Worker>> =
        Worker::all(workers).filter(|worker| !is_done(report, *worker)).map(Some).collect();
    if left.is_empty() { Worker::all(workers).take(1).map(Some).collect() } else { left }
}

/// Those to start again while others are at work: they were cut short.
#[must_use]
pub fn stalled(report: &SyncReport) -> Vec<Worker> {
    let mut states: BTreeMap<Worker, Vec<WorkerState>> = BTreeMap::new();
    for it in report.models.iter().flat_map(|model| &model.workers) {
        states.entry(it.worker).or_default().push(it.state);
    }
    // It may be at another of the models by now.
    let is_at_work = |states: &[WorkerState]| states.contains(&WorkerState::Running);
    states.retain(|_, states| states.contains(&WorkerState::Stalled) && !is_at_work(states));
    states.into_keys().collect()
}

fn is_done(report: &SyncReport, worker: Worker) -> bool {
    let mut left = report.models.iter().filter(|model| model.state != ModelState::Ready);
    left.all(|model| model.workers.iter().any(|it| it.worker == worker && it.state == WorkerState::Done))
}

#[cfg(test)]
mod tests {
    use larder_contract::Digest;
    use larder_contract::sync::{ModelReport, WorkerReport};
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;
    const LIMIT: Duration = Duration::from_mins(15);

    #[test]
    fn what_one_can_do_is_done_by_one() {
        for (gib, reserved, want) in [
            (0, None, 1),
            (28, None, 1),
            (29, None, 2),
            (100, None, 4),
            (200, None, 8),
            (10_000, None, 16),
            (100, Some(100), 4),
            (100, Some(4), 3),
            (100, Some(2), 1),
            (100, Some(1), 1),
            (100, Some(0), 1),
        ] {
            assert_eq!(workers(gib * GIB, WORKER_RATE, LIMIT, reserved), want, "{gib} GiB, {reserved:?}");
        }
    }

    fn report(models: &[&[WorkerState]]) -> SyncReport {
        let model = |states: &&[WorkerState]| ModelReport {
            model: "m".to_owned(),
            revision: Digest::of(b"m"),
            state: ModelState::Syncing,
            bytes_done: 0,
            bytes_total: 0,
            files: 0,
            files_done: 0,
            message: String::new(),
            bytes_per_second: None,
            remaining_seconds: None,
            workers: Worker::all(u16::try_from(states.len()).unwrap())
                .zip(*states)
                .map(|(worker, state)| WorkerReport { worker, state: *state })
                .collect(),
        };
        SyncReport { models: models.iter().map(model).collect(), ..SyncReport::default() }
    }

    #[test]
    fn only_what_is_left_is_started() {
        use WorkerState::{Done, Idle, Running, Stalled};
        for (models, of, starts, again) in [
            (&[&[][..]][..], 3, vec![0, 1, 2], vec![]),
            (&[&[Done, Idle, Stalled]], 3, vec![1, 2], vec![2]),
            (&[&[Done, Running, Stalled]], 3, vec![1, 2], vec![2]),
            (&[&[Done, Done, Done]], 3, vec![0], vec![]),
            // Divided among another number.
            (&[&[Done, Done]], 3, vec![0, 1, 2], vec![]),
            // The second of two models is at another point.
            (&[&[Stalled, Done], &[Running, Done]], 2, vec![0], vec![]),
            (&[&[Done, Done], &[]], 2, vec![0, 1], vec![]),
        ] {
            let report = report(models);
            let started: Vec<u16> = to_start(&report, of).into_iter().flatten().map(Worker::index).collect();
            assert_eq!(started, starts, "{models:?}");
            let stalled: Vec<u16> = stalled(&report).into_iter().map(Worker::index).collect();
            assert_eq!(stalled, again, "{models:?}");
        }
        assert_eq!(to_start(&report(&[&[Done, Idle]]), 1), [None]);
    }

    proptest! {
        #[test]
        fn there_is_always_somebody_to_start(bytes in any::<u64>(), reserved in prop::option::of(any::<i32>())) {
            let of = workers(bytes, WORKER_RATE, LIMIT, reserved);
            prop_assert!((1..=MOST_WORKERS).contains(&of));
            prop_assert!(reserved.is_none_or(|most| i32::from(of) < most.max(2)));
            prop_assert_eq!(to_start(&report(&[&[]]), of).len(), usize::from(of));
        }
    }
}
