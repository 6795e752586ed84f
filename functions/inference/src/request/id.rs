//! The id of a request: what ties an answer to the lines of the log.

use std::fmt;

use axum::http::{HeaderMap, HeaderName};

/// The header that has it, in requests and in every answer.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a client.
const LONGEST: usize = 128;

/// The id of a request: 1 to 128 letters, digits and `-_.:=+/@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// An id from outside, if it can be written into a log and a header without harm.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:=+/@".contains(&b);
        ((1..=LONGEST).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }

    /// The id in a request's headers, if there is exactly one and it is valid.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(HEADER).iter();
        let (first, second) = (all.next()?, all.next());
        second.is_none().then(|| Self::parse(first.to_str().ok()?)).flatten()
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_taken_over() {
        let check = |values: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, value.parse().unwrap());
            }
            assert_eq!(RequestId::of(&headers).as_ref().map(RequestId::as_str), expected, "{values:?}");
        };
        check(&["a-1"], Some("a-1"));
        check(
            &["Root=1-5759e988-bd862e3fe1be46a994272793"],
            Some("Root=1-5759e988-bd862e3fe1be46a994272793"),
        );
        check(&[""], None);
        check(&["a b"], None);
        check(&["a\"}"], None);
        check(&["a", "b"], None);
        check(&["x".repeat(128).as_str()], Some("x".repeat(128).as_str()));
        check(&["x".repeat(129).as_str()], None);
        check(&[], None);
    }
}
