//! How many texts, how long, and what is said about more.

use crate::tasks::{TaskError, Text};

/// The most texts of one request.
pub const MAX_TEXTS: usize = 2048;

/// The most bytes of one text, its pair included. What is beyond a model's tokens is cut anyway.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// The most tokens of one request, after cutting.
pub const MAX_TOKENS: usize = 256 * 1024;

/// Refuses what is too much before any work is done on it.
pub(super) fn checked(texts: &[Text]) -> Result<(), TaskError> {
    if texts.len() > MAX_TEXTS {
        return Err(TaskError::TooLarge(format!(
            "the request has {} texts, the most is {MAX_TEXTS}: send them in several requests",
            texts.len()
        )));
    }
    for (place, text) in texts.iter().enumerate() {
        let bytes = text.text.len() + text.pair.as_ref().map_or(0, String::len);
        if bytes > MAX_TEXT_BYTES {
            return Err(TaskError::TooLarge(format!(
                "text {place} has {bytes} bytes, the most is {MAX_TEXT_BYTES}: shorten it"
            )));
        }
    }
    Ok(())
}

/// Refuses texts without tokens, which no graph takes, and too many tokens in all.
pub(super) fn checked_tokens(lengths: impl Iterator<Item = usize>) -> Result<(), TaskError> {
    let mut sum = 0;
    for (place, length) in lengths.enumerate() {
        if length == 0 {
            return Err(TaskError::Refused(format!(
                "text {place} has no tokens: this model cannot take an empty text"
            )));
        }
        sum += length;
    }
    if sum > MAX_TOKENS {
        return Err(TaskError::TooLarge(format!(
            "the request has {sum} tokens, the most is {MAX_TOKENS}: send its texts in several requests"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_refused_with_the_numbers() {
        let text = |bytes: usize, pair: Option<usize>| Text {
            text: "x".repeat(bytes),
            pair: pair.map(|bytes| "y".repeat(bytes)),
        };
        let check = |done: Result<(), TaskError>, expected: Option<&str>| match expected {
            None => done.unwrap(),
            Some(part) => {
                let refusal = done.unwrap_err();
                assert!(refusal.to_string().contains(part), "{refusal}");
                let is_too_much = matches!(refusal, TaskError::TooLarge(_));
                assert_eq!(is_too_much, !part.contains("no tokens"), "{refusal}");
            }
        };
        check(checked(&[]), None);
        check(checked(&vec![text(0, None); MAX_TEXTS]), None);
        check(checked(&vec![text(0, None); MAX_TEXTS + 1]), Some("has 2049 texts, the most is 2048"));
        check(checked(&[text(1, None), text(MAX_TEXT_BYTES - 1, Some(1))]), None);
        check(checked(&[text(1, None), text(MAX_TEXT_BYTES, Some(1))]), Some("text 1 has 1048577 bytes"));
        check(checked_tokens([MAX_TOKENS - 1, 1].into_iter()), None);
        check(checked_tokens([MAX_TOKENS, 1].into_iter()), Some("has 262145 tokens"));
        check(checked_tokens([3, 0].into_iter()), Some("text 1 has no tokens"));
    }
}
