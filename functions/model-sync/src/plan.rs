//! Which byte ranges are still to be fetched, and by which of several workers. Pure.

use larder_contract::Worker;

/// A range of one file, fetched by one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The file's place in the listing.
    pub file: u32,
    /// The part's place in the file.
    pub index: u32,
    /// Where it starts.
    pub offset: u64,
    /// Its length; 0 only for the single part of an empty file.
    pub length: u64,
}

/// The parts of files with these `sizes`, in order, without those that are done.
///
/// An empty file has one empty part, so that making it is work like any other.
#[must_use]
pub fn parts(sizes: &[u64], part_bytes: u64, is_done: impl Fn(u32, u32) -> bool) -> Vec<Part> {
    let part_bytes = part_bytes.max(1);
    (0..)
        .zip(sizes)
        .flat_map(|(file, size)| parts_of(file, *size, part_bytes))
        .filter(|p| !is_done(p.file, p.index))
        .collect()
}

/// How many parts a file of this `size` has: at least one.
#[must_use]
pub fn count(size: u64, part_bytes: u64) -> u64 {
    size.div_ceil(part_bytes.max(1)).max(1)
}

/// Who fetches what, when several share a copy: each a run of consecutive parts.
///
/// A part belongs to the worker in whose stretch of the bytes it starts, all files one after the other. So a
/// worker's share differs from an equal one by less than a part, whatever is done of it does not change it, and
/// most files are one worker's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    worker: Option<Worker>,
    part_bytes: u64,
    sizes: Vec<u64>,
    /// Where each file starts.
    starts: Vec<u64>,
    total: u64,
}

impl Division {
    /// What of files with these `sizes` is for `worker`; everything, when there is none.
    #[must_use]
    pub fn new(sizes: Vec<u64>, part_bytes: u64, worker: Option<Worker>) -> Self {
        let mut total = 0;
        let mut starts = Vec::with_capacity(sizes.len());
        for size in &sizes {
            starts.push(total);
            total += size;
        }
        Self { worker, part_bytes: part_bytes.max(1), sizes, starts, total }
    }

    /// The worker, when the copy is shared.
    #[must_use]
    pub const fn worker(&self) -> Option<Worker> {
        self.worker
    }

    /// Whether this part is in the share.
    #[must_use]
    pub fn has(&self, part: &Part) -> bool {
        self.has_byte(part.file, part.offset)
    }

    /// Whether all parts of this file are in the share.
    #[must_use]
    pub fn has_file(&self, file: u32) -> bool {
        let size = self.sizes.get(file as usize).copied().unwrap_or_default();
        let last = (count(size, self.part_bytes) - 1) * self.part_bytes;
        self.has_byte(file, 0) && self.has_byte(file, last)
    }

    /// Whether this file is a single part.
    #[must_use]
    pub fn is_one_part(&self, file: u32) -> bool {
        self.sizes.get(file as usize).is_none_or(|size| count(*size, self.part_bytes) == 1)
    }

    fn has_byte(&self, file: u32, offset: u64) -> bool {
        let Some(worker) = self.worker else { return true };
        let start = self.starts.get(file as usize).copied().unwrap_or_default() + offset;
        let nth = u128::from(start) * u128::from(worker.of()) / u128::from(self.total.max(1));
        // Empty files at the end start where the last stretch ends.
        nth.min(u128::from(worker.of() - 1)) == u128::from(worker.index())
    }
}

fn parts_of(file: u32, size: u64, part_bytes: u64) -> impl Iterator<Item = Part> {
    let count = count(size, part_bytes);
    (0u32..).zip(0..count).map(move |(index, nth)| {
        let offset = nth * part_bytes;
        Part { file, index, offset, length: part_bytes.min(size - offset) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_cover_every_byte_once(sizes in prop::collection::vec(0u64..5_000, 1..6), part in 1u64..700) {
            let all = parts(&sizes, part, |_, _| false);
            for (file, size) in (0..).zip(&sizes) {
                let of: Vec<_> = all.iter().filter(|p| p.file == file).collect();
                prop_assert!(!of.is_empty());
                let mut end = 0;
                for (index, p) in (0..).zip(&of) {
                    prop_assert_eq!((p.index, p.offset), (index, end));
                    prop_assert!(p.length <= part && (p.length > 0 || *size == 0));
                    end += p.length;
                }
                prop_assert_eq!(end, *size);
            }
        }

        #[test]
        fn done_parts_are_left_out(size in 1u64..5_000, part in 1u64..700, odd in any::<bool>()) {
            let done = |_, index: u32| index % 2 == u32::from(odd);
            let left = parts(&[size], part, done);
            prop_assert!(left.iter().all(|p| !done(p.file, p.index)));
            prop_assert_eq!(
                left.len() + parts(&[size], part, |f, i| !done(f, i)).len(),
                parts(&[size], part, |_, _| false).len()
            );
        }
    }

    proptest! {
        /// Every part is in exactly one share, a share is no more than a part larger than an equal one, and a file
        /// is a worker's own exactly when all of its parts are.
        #[test]
        fn shares_are_disjoint_complete_and_balanced(
            sizes in prop::collection::vec(0u64..5_000, 1..30), part in 1u64..700, of in 1u16..=64
        ) {
            let all = parts(&sizes, part, |_, _| false);
            let shares: Vec<_> =
                Worker::all(of).map(|worker| Division::new(sizes.clone(), part, Some(worker))).collect();
            for p in &all {
                prop_assert_eq!(shares.iter().filter(|share| share.has(p)).count(), 1);
            }
            let equal = sizes.iter().sum::<u64>() / u64::from(of);
            for share in &shares {
                let bytes: u64 = all.iter().filter(|p| share.has(p)).map(|p| p.length).sum();
                prop_assert!(bytes <= equal + part && bytes + part >= equal, "{} of {}", bytes, equal);
                for file in 0..u32::try_from(sizes.len()).unwrap() {
                    let is_own = all.iter().filter(|p| p.file == file).all(|p| share.has(p));
                    prop_assert_eq!(share.has_file(file), is_own);
                }
            }
            let undivided = Division::new(sizes, part, None);
            prop_assert!(all.iter().all(|p| undivided.has(p) && undivided.has_file(p.file)));
        }
    }

    #[test]
    fn the_largest_file_that_s3_holds_is_divided_without_overflow() {
        let sizes = vec![50 << 40; 100_000];
        let last = Worker::new(63, 64).unwrap();
        let share = Division::new(sizes, 8 << 20, Some(last));
        assert!(share.has_file(99_999) && !share.has_file(0));
    }
}
