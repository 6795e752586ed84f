//! Which byte ranges are still to be fetched. Pure.

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
}
