//! What went wrong, and what to do.

use http::StatusCode;
use larder_web::WebError;

/// What kind of failure, and so what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It does not exist.
    NotFound,
    /// Who asks may not have it.
    Denied,
    /// It is no longer what it was.
    Changed,
    /// The server asks for fewer requests.
    Throttled,
    /// Nothing wrong with the request: a lost connection, a time-out, an error inside the server.
    Transient,
    /// It will be refused again.
    Invalid,
}

/// A source that cannot be listed or read.
#[derive(Debug, thiserror::Error)]
#[error("{resource}: {code}; {}", class.advice())]
pub struct SourceError {
    /// The call: `GET`, or the operation of AWS that was to give credentials for it.
    pub operation: &'static str,
    /// What was asked for, without what may be secret.
    pub resource: String,
    /// What kind of failure.
    pub class: Class,
    /// What happened.
    pub code: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Class {
    /// What to do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NotFound => "correct the address, or put it there",
            Self::Denied => "name a secret whose user may read it, and allow the role to read the secret",
            Self::Changed => "it was replaced meanwhile",
            Self::Throttled => "the server asks for fewer requests; it is tried again",
            Self::Transient => "it is tried again (a VPC without NAT reaches no server outside of it)",
            Self::Invalid => "correct the source",
        }
    }
}

impl SourceError {
    /// Without a cause of its own.
    #[must_use]
    pub fn new(class: Class, resource: &str, code: &str) -> Self {
        Self {
            operation: "GET",
            resource: without_query(resource),
            class,
            code: code.to_owned(),
            source: None,
        }
    }

    pub(crate) fn web(resource: &str, error: WebError) -> Self {
        let class = if error.is_of_the_address() { Class::Invalid } else { Class::Transient };
        let is_closed = matches!(error, WebError::Closed(_));
        let hint = if is_closed { "; name a public host, or have the operator allow it" } else { "" };
        let told = Self::new(class, resource, &format!("{error}{hint}"));
        Self { source: Some(Box::new(error)), ..told }
    }

    pub(crate) fn status(resource: &str, status: StatusCode) -> Self {
        let class = match status.as_u16() {
            401 | 403 => Class::Denied,
            404 | 410 => Class::NotFound,
            412 => Class::Changed,
            429 => Class::Throttled,
            408 | 425 | 500.. => Class::Transient,
            _ => Class::Invalid,
        };
        Self::new(class, resource, &format!("the server answers {status}"))
    }
}

/// What a URL has after its `?` may be a signature.
pub(crate) fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_classes_and_errors_keep_no_signature() {
        for (status, class) in [
            (401, Class::Denied),
            (404, Class::NotFound),
            (412, Class::Changed),
            (429, Class::Throttled),
            (503, Class::Transient),
            (400, Class::Invalid),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = SourceError::status("https://a.example/m?sig=s1gned", status);
            assert_eq!(error.class, class);
            assert!(!error.to_string().contains("s1gned"), "{error}");
        }
    }
}
