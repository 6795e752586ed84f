//! How fast a copy goes and when it ends, from two looks at it, and in words.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use larder_contract::speed::{averaged, remaining_seconds};
use larder_contract::sync::{ModelReport, ModelState};
use larder_crds::status::{InferenceEndpointStatus, ModelStatus};

use super::details::signed;
use super::{is_same, size};

/// What two looks at a copy tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) bytes_per_second: Option<i64>,
    pub(super) remaining_seconds: Option<i64>,
    pub(super) time: Option<String>,
}

/// How far the copy of `wanted` that `seen` tells of has come since `before`, of `total` bytes; nothing when none
/// is at work.
pub(super) fn progress(
    wanted: Option<&str>,
    seen: Option<&ModelReport>,
    total: u64,
    before: Option<&ModelStatus>,
    now: Timestamp,
) -> Progress {
    let Some(seen) = seen.filter(|seen| seen.state == ModelState::Syncing) else {
        return Progress::default();
    };
    let last = before.and_then(|before| {
        let time: Timestamp = before.progress_time.as_ref()?.parse().ok()?;
        let is_same = before.desired_digest.as_deref() == wanted;
        is_same.then_some((before, time))
    });
    let Some((before, then)) = last else {
        return Progress { time: Some(now.to_string()), ..Progress::default() };
    };
    let elapsed = u64::try_from(now.as_millisecond().saturating_sub(then.as_millisecond())).unwrap_or(0);
    if elapsed == 0 {
        return Progress {
            bytes_per_second: before.bytes_per_second,
            remaining_seconds: before.remaining_seconds,
            time: before.progress_time.clone(),
        };
    }
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let came = seen.bytes_done.saturating_sub(unsigned(before.bytes_done));
    let was = before.bytes_per_second.map(unsigned);
    // Who copies knows better than who looks on.
    let speed = seen.bytes_per_second.or_else(|| averaged(was, came, Duration::from_millis(elapsed)));
    let left = total.saturating_sub(seen.bytes_done);
    Progress {
        bytes_per_second: speed.map(signed),
        remaining_seconds: speed.and_then(|speed| remaining_seconds(left, speed)).map(signed),
        time: Some(now.to_string()),
    }
}

/// How far a model's copy is, for people: `412.0 MiB of 1.2 GiB, 2 of 7 files, 96.0 MiB/s, 9 s left`.
#[must_use]
pub fn progress_in_words(model: &ModelStatus) -> String {
    let mut words = format!("{} of {}", size(model.bytes_done), size(model.bytes));
    let _ = write!(words, ", {} of {} files", model.files_done, model.files);
    if let Some(speed) = model.bytes_per_second {
        let _ = write!(words, ", {}/s", size(speed));
    }
    if let Some(seconds) = model.remaining_seconds {
        let _ = write!(words, ", {seconds} s left");
    }
    words
}

/// The same of all models that are being copied, for a column.
pub(super) fn column(models: &[ModelStatus]) -> Option<String> {
    let syncing: Vec<&ModelStatus> = models.iter().filter(|model| model.state == "Syncing").collect();
    let sum = |of: fn(&ModelStatus) -> i64| syncing.iter().map(|m| of(m)).fold(0, i64::saturating_add);
    let mut words = format!("{}/{}", size(sum(|m| m.bytes_done)), size(sum(|m| m.bytes)));
    if syncing.iter().any(|model| model.bytes_per_second.is_some()) {
        let _ = write!(words, " {}/s", size(sum(|m| m.bytes_per_second.unwrap_or_default())));
    }
    (!syncing.is_empty()).then_some(words)
}

/// Whether two statuses differ in nothing but how far copies are, which alone is not worth a write each second.
#[must_use]
pub fn is_progress_alone(a: &InferenceEndpointStatus, b: &InferenceEndpointStatus) -> bool {
    let still = |status: &InferenceEndpointStatus| {
        let mut status = status.clone();
        status.summary.sync = None;
        for model in status.models.iter_mut().filter(|model| model.state == "Syncing") {
            (model.bytes_done, model.files_done) = (0, 0);
            (model.bytes_per_second, model.remaining_seconds) = (None, None);
        }
        for condition in status.conditions.iter_mut().filter(|c| c.reason == "Syncing") {
            condition.message.clear();
        }
        status
    };
    is_same(&still(a), &still(b))
}

/// Whether a condition that is not as wanted is on its way there by itself: its reason tells of no failure.
#[must_use]
pub fn is_progress(reason: &str) -> bool {
    reason.starts_with("Waiting")
        || matches!(
            reason,
            "InProgress"
                | "CoolingDown"
                | "Progressing"
                | "Paused"
                | "Draining"
                | "Settling"
                | "Syncing"
                | "SourceChanged"
                | "Deleting"
                | "PlanOnly"
                | "Suspended"
                | "Conflict"
        )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use larder_contract::Digest;
    use larder_crds::status::Summary;

    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millisecond).unwrap()
    }

    fn report(bytes_done: u64, state: ModelState) -> ModelReport {
        ModelReport {
            model: "ocr".to_owned(),
            revision: Digest::of(b"x"),
            state,
            bytes_done,
            bytes_total: 1000,
            files: 2,
            files_done: 1,
            message: String::new(),
            bytes_per_second: None,
            remaining_seconds: None,
            workers: Vec::new(),
        }
    }

    fn status(bytes_done: i64, progress: Progress) -> ModelStatus {
        ModelStatus {
            state: "Syncing".to_owned(),
            desired_digest: Some("sha256:1".to_owned()),
            bytes: 1000,
            bytes_done,
            files: 2,
            files_done: 1,
            bytes_per_second: progress.bytes_per_second,
            remaining_seconds: progress.remaining_seconds,
            progress_time: progress.time,
            ..ModelStatus::default()
        }
    }

    /// Looks at a copy at these milliseconds, when so many bytes are there; gives the last look.
    fn looks(all: &[(i64, u64)]) -> ModelStatus {
        let mut last: Option<ModelStatus> = None;
        for &(millisecond, bytes) in all {
            let seen = report(bytes, ModelState::Syncing);
            let got = progress(Some("sha256:1"), Some(&seen), 1000, last.as_ref(), at(millisecond));
            last = Some(status(signed(bytes), got));
        }
        last.unwrap()
    }

    #[test]
    fn a_speed_takes_two_looks_and_follows_what_comes() {
        assert_eq!(looks(&[(0, 100)]).bytes_per_second, None);
        let two = looks(&[(0, 100), (2000, 300)]);
        assert_eq!((two.bytes_per_second, two.remaining_seconds), (Some(100), Some(7)));
        assert_eq!(progress_in_words(&two), "300 B of 1000 B, 1 of 2 files, 100 B/s, 7 s left");
        // One look of two seconds weighs a fifth.
        assert_eq!(looks(&[(0, 100), (2000, 300), (4000, 300)]).bytes_per_second, Some(80));
        // What stands still comes to a halt, and then nothing says when it ends.
        let still: Vec<(i64, u64)> = (0..30).map(|n| (n * 10_000, 300)).collect();
        assert_eq!((looks(&still).bytes_per_second, looks(&still).remaining_seconds), (Some(0), None));
        // A clock that was set back, and work that was lost, make no nonsense.
        assert_eq!(looks(&[(0, 100), (2000, 300), (1000, 400)]).bytes_per_second, Some(100));
        assert_eq!(looks(&[(0, 100), (2000, 0)]).bytes_per_second, Some(0));
    }

    #[test]
    fn who_copies_knows_its_speed_better() {
        let before = looks(&[(0, 100), (2000, 300)]);
        let seen = ModelReport { bytes_per_second: Some(50), ..report(400, ModelState::Syncing) };
        let got = progress(Some("sha256:1"), Some(&seen), 1000, Some(&before), at(3000));
        assert_eq!((got.bytes_per_second, got.remaining_seconds), (Some(50), Some(12)));
    }

    #[test]
    fn no_speed_is_told_of_what_is_not_copied_or_of_other_content() {
        let before = looks(&[(0, 100), (2000, 300)]);
        for state in [ModelState::Ready, ModelState::Pending, ModelState::Failed] {
            let got = progress(Some("sha256:1"), Some(&report(0, state)), 0, Some(&before), at(9));
            assert_eq!(got, Progress::default());
        }
        let got = progress(
            Some("sha256:2"),
            Some(&report(900, ModelState::Syncing)),
            1000,
            Some(&before),
            at(3000),
        );
        assert_eq!((got.bytes_per_second, got.time), (None, Some(at(3000).to_string())));
    }

    #[test]
    fn progress_alone_is_told_from_news() {
        let of = |model: ModelStatus| InferenceEndpointStatus {
            summary: Summary { sync: column(std::slice::from_ref(&model)), ..Summary::default() },
            models: vec![model],
            conditions: vec![Condition {
                type_: "ModelsSynced".to_owned(),
                status: "False".to_owned(),
                reason: "Syncing".to_owned(),
                message: "some of it".to_owned(),
                observed_generation: None,
                last_transition_time: Time(at(0)),
            }],
            ..InferenceEndpointStatus::default()
        };
        let (early, late) = (of(looks(&[(0, 100)])), of(looks(&[(0, 100), (2000, 300)])));
        assert_eq!(late.summary.sync.as_deref(), Some("300 B/1000 B 100 B/s"));
        assert!(!is_same(&early, &late) && is_progress_alone(&early, &late));
        let mut done = late.clone();
        done.models[0].state = "Ready".to_owned();
        assert!(!is_progress_alone(&late, &done));
        let mut failed = late.clone();
        failed.conditions[0].reason = "SyncFailed".to_owned();
        assert!(!is_progress_alone(&late, &failed));
    }
}
