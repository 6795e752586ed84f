//! Faults that a test asks for, and the shape that each service gives its errors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::operation::Call;
use crate::stack::http::{Body, whole};
use crate::stack::locked;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes so much longer.
    Latency(Duration),
    /// The service's own answer to too many requests; no effect.
    Throttled,
    /// The service's own answer to an error inside it; no effect.
    Internal,
    /// The service's own answer to a caller without the permission; no effect.
    Denied,
    /// The connection ends before the call has an effect.
    ResetBefore,
    /// The call has its effect, then the connection ends without an answer.
    ResetAfter,
}

/// Which of the matching calls a rule hits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Every one.
    Always,
    /// The next so many.
    Next(u64),
    /// Only the n-th from now, counted from 1.
    Nth(u64),
    /// This share of them, 0 to 1, spread by a generator that starts at `seed`.
    Chance {
        /// The share.
        share: f64,
        /// The same seed hits the same calls.
        seed: u64,
    },
}

/// A fault and the calls it is for.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `efs`, `lambda`, `s3`, `ec2`, …
    pub service: String,
    /// The operation's name; empty means any.
    pub operation: String,
    /// What path, query or body must hold; empty means anything.
    pub resource: String,
    /// Which of those calls.
    pub when: When,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// A rule for every resource.
    #[must_use]
    pub fn new(service: &str, operation: &str, when: When, fault: Fault) -> Self {
        let (service, operation) = (service.to_owned(), operation.to_owned());
        Self { service, operation, resource: String::new(), when, fault }
    }

    /// Only for calls whose path, query or body holds `resource`.
    #[must_use]
    pub fn on(mut self, resource: &str) -> Self {
        resource.clone_into(&mut self.resource);
        self
    }
}

/// A rule at work.
#[derive(Debug)]
struct Active {
    rule: Rule,
    /// Matching calls so far.
    seen: u64,
    /// State of the generator of [`When::Chance`].
    random: u64,
}

/// All rules, and how often they hit.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Mutex<Vec<Active>>,
    hits: AtomicU64,
}

impl Faults {
    pub(crate) fn add(&self, rule: Rule) {
        let random = match rule.when {
            When::Chance { seed, .. } => seed,
            When::Always | When::Next(_) | When::Nth(_) => 0,
        };
        locked(&self.rules).push(Active { rule, seen: 0, random });
    }

    pub(crate) fn clear(&self) {
        locked(&self.rules).clear();
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// The faults for this call. Rules count the call even when another one hits it too.
    pub(crate) fn strike(&self, call: &Call) -> Vec<Fault> {
        let mut struck = Vec::new();
        for active in locked(&self.rules).iter_mut() {
            let rule = &active.rule;
            let meant = rule.service == call.service
                && (rule.operation.is_empty() || rule.operation == call.operation)
                && (rule.resource.is_empty() || call.resource.contains(&rule.resource));
            if !meant {
                continue;
            }
            active.seen += 1;
            let hit = match rule.when {
                When::Always => true,
                When::Next(count) => active.seen <= count,
                When::Nth(n) => active.seen == n,
                When::Chance { share, .. } => unit(&mut active.random) < share,
            };
            if hit {
                struck.push(rule.fault);
            }
        }
        self.hits.fetch_add(struck.len() as u64, Ordering::Relaxed);
        struck
    }
}

/// The next number in 0..1 of a `SplitMix64` generator.
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    f64::from(u32::try_from(z >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

/// The answer that `service` gives for a fault; `None` for faults that are not answers.
pub(crate) fn answer(service: &str, fault: Fault) -> Option<Response<Body>> {
    let (status, code, message) = match (fault, service) {
        (Fault::Latency(_) | Fault::ResetBefore | Fault::ResetAfter, _) => return None,
        (Fault::Throttled, "lambda") => (429, "TooManyRequestsException", "Rate exceeded"),
        (Fault::Throttled, "efs") => (429, "ThrottlingException", "Rate exceeded"),
        (Fault::Throttled, "s3") => (503, "SlowDown", "Please reduce your request rate."),
        (Fault::Throttled, "ec2") => (503, "RequestLimitExceeded", "Request limit exceeded."),
        (Fault::Throttled, "iam" | "sts") => (400, "Throttling", "Rate exceeded"),
        (Fault::Throttled, _) => (400, "ThrottlingException", "Rate exceeded"),
        (Fault::Internal, "lambda") => {
            (500, "ServiceException", "An error occurred and the request cannot be processed.")
        }
        (Fault::Internal, "efs") => (500, "InternalServerError", "An error occurred on the server side."),
        (Fault::Internal, "s3" | "ec2") => (500, "InternalError", "An internal error has occurred."),
        (Fault::Internal, _) => (500, "InternalFailure", "The request processing has failed."),
        (Fault::Denied, "s3" | "iam" | "sts") => (403, "AccessDenied", "Access Denied"),
        (Fault::Denied, "ec2") => {
            (403, "UnauthorizedOperation", "You are not authorized to perform this operation.")
        }
        (Fault::Denied, "ecr" | "logs") => {
            (400, "AccessDeniedException", "User is not authorized to perform this action")
        }
        (Fault::Denied, _) => (403, "AccessDeniedException", "User is not authorized to perform this action"),
    };
    Some(error(service, status, code, message, &[]))
}

/// An error in the shape that `service` gives its errors, with members of its own.
pub(crate) fn error(
    service: &str,
    status: u16,
    code: &str,
    message: &str,
    members: &[(&str, &str)],
) -> Response<Body> {
    const REQUEST_ID: &str = "00000000-0000-4000-8000-00000000fa17";
    let xml = |text: String| ("text/xml", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}"));
    let json = |mut value: serde_json::Value| {
        for (name, member) in members {
            value[*name] = json!(member);
        }
        ("application/json", value.to_string())
    };
    let (kind, body) = match service {
        "s3" => xml(format!(
            "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{REQUEST_ID}</RequestId></Error>"
        )),
        "ec2" => xml(format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
             <RequestID>{REQUEST_ID}</RequestID></Response>"
        )),
        "iam" | "sts" => xml(format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
        )),
        "efs" => json(json!({"ErrorCode": code, "Message": message})),
        "lambda" => json(json!({"Type": "User", "Message": message})),
        _ => json(json!({"__type": code, "message": message})),
    };
    let mut response = Response::new(whole(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(HeaderName::from_static("x-amzn-requestid"), HeaderValue::from_static(REQUEST_ID));
    if let Ok(code) = HeaderValue::from_str(code) {
        headers.insert(HeaderName::from_static("x-amzn-errortype"), code);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_hit_what_they_name() {
        let call = |operation: &str, resource: &str| Call {
            service: "efs".to_owned(),
            operation: operation.to_owned(),
            resource: resource.to_owned(),
        };
        let check = |rule: Rule, calls: &[(&str, &str)], want: &[bool]| {
            let faults = Faults::default();
            faults.add(rule);
            let got: Vec<bool> = calls.iter().map(|(o, r)| !faults.strike(&call(o, r)).is_empty()).collect();
            assert_eq!(got, want);
            assert_eq!(faults.hits(), want.iter().filter(|hit| **hit).count() as u64);
        };
        let create = [("CreateFileSystem", "a"), ("CreateFileSystem", "b"), ("CreateFileSystem", "a")];
        check(Rule::new("efs", "", When::Always, Fault::Denied), &create, &[true, true, true]);
        check(Rule::new("s3", "", When::Always, Fault::Denied), &create, &[false, false, false]);
        check(
            Rule::new("efs", "CreateFileSystem", When::Next(2), Fault::Throttled),
            &create,
            &[true, true, false],
        );
        check(
            Rule::new("efs", "CreateFileSystem", When::Nth(2), Fault::Throttled).on("a"),
            &create,
            &[false, false, true],
        );
        check(Rule::new("efs", "DeleteFileSystem", When::Always, Fault::Internal), &create, &[false; 3]);
    }

    #[test]
    fn chance_repeats_with_its_seed_and_keeps_its_share() {
        let run = |seed| {
            let mut state = seed;
            (0..1000).filter(|_| unit(&mut state) < 0.3).count()
        };
        assert_eq!(run(7), run(7));
        assert!((200..400).contains(&run(7)), "{}", run(7));
    }
}
