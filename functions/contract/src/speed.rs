//! How fast a copy goes, and when it ends. One formula, for who copies and for who looks on.

use std::time::Duration;

/// A speed is averaged over about so long, since the parts of a copy end in bursts.
const WINDOW: Duration = Duration::from_secs(10);

/// The speed, in bytes a second, after `bytes` more have come within `elapsed`, where it `was` something before. What it
/// was, when no time has gone by.
#[must_use]
pub fn averaged(was: Option<u64>, bytes: u64, elapsed: Duration) -> Option<u64> {
    let millis = |time: Duration| i128::try_from(time.as_millis()).unwrap_or(i128::MAX);
    if elapsed.as_millis() == 0 {
        return was;
    }
    let now = i128::from(bytes) * 1000 / millis(elapsed);
    let speed = match was.map(i128::from) {
        Some(was) => was + (now - was) * millis(elapsed.min(WINDOW)) / millis(WINDOW),
        None => now,
    };
    u64::try_from(speed).ok()
}

/// The seconds until `left` bytes have come at this speed, rounded up; none when nothing comes.
#[must_use]
pub fn remaining_seconds(left: u64, bytes_per_second: u64) -> Option<u64> {
    (bytes_per_second > 0).then(|| left.div_ceil(bytes_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_follows_what_comes() {
        let s = Duration::from_secs;
        for (was, bytes, elapsed, want) in [
            (None, 200, s(2), Some(100)),
            (None, 0, s(2), Some(0)),
            (None, 5, s(0), None),
            (Some(7), 5, s(0), Some(7)),
            // Two seconds weigh a fifth, ten and more are all that counts.
            (Some(100), 0, s(2), Some(80)),
            (Some(100), 400, s(2), Some(120)),
            (Some(100), 3_000, s(30), Some(100)),
            (Some(100), 0, s(30), Some(0)),
            (None, u64::MAX, s(1), Some(u64::MAX)),
        ] {
            assert_eq!(averaged(was, bytes, elapsed), want, "{was:?} {bytes} {elapsed:?}");
        }
    }

    #[test]
    fn what_is_left_takes_its_time_or_nobody_knows() {
        assert_eq!(remaining_seconds(700, 100), Some(7));
        assert_eq!(remaining_seconds(701, 100), Some(8));
        assert_eq!((remaining_seconds(0, 100), remaining_seconds(1, 0)), (Some(0), None));
    }
}
