//! How much memory there is for models, and how much is taken.

use std::io::Read as _;
use std::path::Path;

/// What is left to everything but models, at least: the program and ONNX Runtime themselves take 26 MiB of
/// anonymous memory once started; the rest is for a request's own bytes, pictures and tensors.
const LEAST_RESERVE_MIB: u64 = 96;

/// The part of a large sandbox's memory that is left to everything but models: larger ones get more done at once.
const RESERVED_PART: u64 = 8;

const MIB: u64 = 1 << 20;

/// Room for models in a sandbox of this much memory, in bytes.
#[must_use]
pub fn budget(memory_mib: u32) -> u64 {
    let memory = u64::from(memory_mib);
    memory.saturating_sub(LEAST_RESERVE_MIB.max(memory / RESERVED_PART)) * MIB
}

/// The memory that this process may take, in MiB: its control group's limit, else the machine's.
#[must_use]
pub fn machine_mib() -> Option<u32> {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = group.and_then(|text| text.trim().parse::<u64>().ok()).map(|bytes| bytes / MIB);
    let machine = kilobytes(Path::new("/proc/meminfo"), "MemTotal:").map(|kb| kb / 1024);
    let least = [limit, machine].into_iter().flatten().min()?;
    u32::try_from(least).ok()
}

/// The anonymous memory that this process takes, in bytes: what cannot be dropped and read again from a file.
#[must_use]
pub fn anonymous() -> Option<u64> {
    Some(kilobytes(Path::new("/proc/self/status"), "RssAnon:")? * 1024)
}

fn kilobytes(path: &Path, field: &str) -> Option<u64> {
    // In one read, for this is asked after each request: a file of the kernel's is made anew for each.
    let mut text = [0; 8192];
    let length = std::fs::File::open(path).ok()?.read(&mut text).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_leave_room_for_requests() {
        for (memory, expected) in [(0, 0), (128, 32), (512, 416), (1769, 1548), (10_240, 8960)] {
            assert_eq!(budget(memory), expected * MIB, "{memory}");
        }
    }

    #[test]
    fn memory_is_read_from_the_system() {
        assert!(anonymous().unwrap() > 0);
        assert!(machine_mib().unwrap() > 100);
    }
}
