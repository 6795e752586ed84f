//! Which texts run together: those of like length, so that little is padded.

/// The most tokens of a batch, padding included: it bounds the memory of a run.
const MOST_TOKENS: usize = 4096;

/// A text that is shorter than the longest of its batch by more than this many tokens must have three
/// quarters of its length: padding costs as much as text, a batch more costs little.
const LITTLE: usize = 8;

/// Batches of places in `lengths`, the longest texts first. `rows` is the size that the graph insists on.
pub(super) fn planned(lengths: &[usize], rows: Option<usize>) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..lengths.len()).collect();
    places.sort_by_key(|&place| std::cmp::Reverse(lengths[place]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for place in places {
        let length = lengths[place];
        let fits = |batch: &Vec<usize>| {
            let longest = lengths[batch[0]];
            match rows {
                Some(rows) => batch.len() < rows,
                None => {
                    (batch.len() + 1) * longest <= MOST_TOKENS
                        && (longest - length <= LITTLE || length * 4 >= longest * 3)
                }
            }
        };
        match batches.last_mut().filter(|batch| fits(batch)) {
            Some(batch) => batch.push(place),
            None => batches.push(vec![place]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_lengths_run_together() {
        let check = |lengths: &[usize], rows: Option<usize>, expected: &[&[usize]]| {
            assert_eq!(planned(lengths, rows), expected, "{lengths:?}");
        };
        check(&[], None, &[]);
        check(&[5], None, &[&[0]]);
        check(&[5, 100, 6, 80], None, &[&[1, 3], &[2, 0]]);
        check(&[2048, 2048, 2048], None, &[&[0, 1], &[2]]);
        check(&[9000], None, &[&[0]]);
        check(&[10, 500, 20], Some(1), &[&[1], &[2], &[0]]);
        check(&[10, 500, 20], Some(2), &[&[1, 2], &[0]]);
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_in_one_batch_and_little_is_padded(
            lengths in proptest::collection::vec(1_usize..600, 0..200),
        ) {
            let batches = planned(&lengths, None);
            let mut places: Vec<usize> = batches.concat();
            places.sort_unstable();
            proptest::prop_assert_eq!(places, (0..lengths.len()).collect::<Vec<_>>());
            for batch in batches {
                let text: usize = batch.iter().map(|&place| lengths[place]).sum();
                let run = lengths[batch[0]] * batch.len();
                proptest::prop_assert!(run <= MOST_TOKENS.max(lengths[batch[0]]));
                proptest::prop_assert!(run - text <= LITTLE * batch.len() || text * 4 >= run * 3);
            }
        }
    }
}
