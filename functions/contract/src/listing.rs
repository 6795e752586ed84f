//! Whether a page of a listing of S3 is whole.

/// A page that does not hold what it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the listing is cut short")]
pub struct CutShort;

/// What the next page is asked for with, none after the last, of a page of `ListObjectsV2` with `listed` objects that
/// says these things of itself (`IsTruncated`, `NextContinuationToken`, `KeyCount`). The SDK reads an answer that was cut
/// short as a shorter one.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
///
/// # Errors
/// When it does not hold all that it announces.
pub fn next_page(
    is_truncated: Option<bool>,
    next: Option<String>,
    announced: Option<i32>,
    listed: usize,
) -> Result<Option<String>, CutShort> {
    if announced.is_some_and(|count| usize::try_from(count) != Ok(listed)) {
        return Err(CutShort);
    }
    match (is_truncated, next) {
        (Some(true), Some(next)) => Ok(Some(next)),
        (Some(false), _) => Ok(None),
        (Some(true) | None, _) => Err(CutShort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_all_that_it_announces() {
        let token = || Some("t".to_owned());
        for (is_truncated, next, announced, want) in [
            (Some(true), token(), Some(2), Ok(token())),
            (Some(false), None, Some(2), Ok(None)),
            // Servers exist that do not count.
            (Some(false), None, None, Ok(None)),
            (Some(true), None, Some(2), Err(CutShort)),
            (None, None, Some(2), Err(CutShort)),
            (Some(true), token(), Some(3), Err(CutShort)),
            (Some(false), None, Some(-1), Err(CutShort)),
        ] {
            assert_eq!(next_page(is_truncated, next, announced, 2), want, "{is_truncated:?} {announced:?}");
        }
    }
}
