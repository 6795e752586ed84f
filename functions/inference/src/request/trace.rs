//! W3C Trace Context (Recommendation of 23 November 2021) and X-Ray's header: taken in, passed on.
//!
//! A request without a valid context starts a trace of its own, which is not sampled: nothing here
//! records spans, but the ids tie the log to what others record.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The trace, the caller's span and its flags.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems add for themselves.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// X-Ray's form of both.
pub const X_AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// The most of `tracestate` that is passed on: what the recommendation asks for at least.
const MOST_STATE: usize = 512;
/// The most members of `tracestate`.
const MOST_MEMBERS: usize = 32;

/// The trace that a request is part of, with a span of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    id: String,
    parent: Option<String>,
    span: String,
    flags: u8,
    state: Option<String>,
    /// X-Ray's root, when the context came from X-Ray's header or together with it.
    xray: Option<Xray>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Xray {
    root: String,
    parent: Option<String>,
    sampled: Option<bool>,
}

impl Trace {
    /// The context in a request's headers, `traceparent` before X-Ray's; else a new trace.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let span = random()[16..].to_owned();
        let xray = only(headers, &X_AMZN_TRACE_ID).and_then(Xray::parse);
        if let Some((trace, parent, flags)) = only(headers, &TRACEPARENT).and_then(traceparent) {
            let state = tracestate(headers);
            return Self { id: trace.to_owned(), parent: Some(parent.to_owned()), span, flags, state, xray };
        }
        match xray {
            Some(xray) => Self {
                id: xray.trace(),
                parent: xray.parent.clone(),
                span,
                flags: u8::from(xray.sampled == Some(true)),
                state: None,
                xray: Some(xray),
            },
            None => Self { id: random(), parent: None, span, flags: 0, state: None, xray: None },
        }
    }

    /// The trace's id: 32 lower-case hex digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.id
    }

    /// The id of this request's own span: 16 lower-case hex digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        &self.span
    }

    /// The caller's span, if it told.
    #[must_use]
    pub fn parent_id(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// The headers that pass it on, with this request's span as the parent.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let parent = Some(format!("00-{}-{}-{:02x}", self.id, self.span, self.flags));
        let xray = self.xray.as_ref().map(|xray| xray.with_parent(&self.span));
        [(TRACEPARENT, parent), (TRACESTATE, self.state.clone()), (X_AMZN_TRACE_ID, xray)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value?).ok()?)))
    }
}

impl Xray {
    /// `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`, other fields left out.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.split(';').filter_map(|part| part.trim().split_once('=')).find(|f| f.0 == name).map(|f| f.1)
        };
        let root = field("Root")?;
        let mut parts = root.split('-');
        let (version, time, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let valid = version == "1" && is_hex(time, 8) && is_hex(rest, 24) && parts.next().is_none();
        valid.then(|| Self {
            root: root.to_owned(),
            parent: field("Parent").filter(|p| is_hex(p, 16)).map(str::to_owned),
            sampled: field("Sampled").and_then(|s| match s {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            }),
        })
    }

    /// The same trace in W3C's form.
    fn trace(&self) -> String {
        self.root[2..].replace('-', "")
    }

    fn with_parent(&self, span: &str) -> String {
        let mut text = format!("Root={};Parent={span}", self.root);
        if let Some(sampled) = self.sampled {
            let _ = write!(text, ";Sampled={}", u8::from(sampled));
        }
        text
    }
}

/// The trace, the parent and the flags of a `traceparent`.
fn traceparent(text: &str) -> Option<(&str, &str, u8)> {
    let (head, rest) = text.split_at_checked(55)?;
    let mut parts = head.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = match version {
        "00" => rest.is_empty(),
        // Later versions may have more after these four.
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    let valid = whole
        && parts.next().is_none()
        && (is_hex(version, 2) && version != "ff")
        && (is_hex(trace, 32) && trace.bytes().any(|b| b != b'0'))
        && (is_hex(parent, 16) && parent.bytes().any(|b| b != b'0'))
        && is_hex(flags, 2);
    // Only the flag that the recommendation knows is passed on.
    valid.then(|| Some((trace, parent, u8::from_str_radix(flags, 16).ok()? & 1))).flatten()
}

/// All `tracestate` headers in one, if they are within the limits.
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let mut members = Vec::new();
    for header in headers.get_all(TRACESTATE) {
        members.extend(header.to_str().ok()?.split(',').map(str::trim).filter(|m| !m.is_empty()));
    }
    let state = members.join(",");
    let valid = !members.is_empty()
        && members.len() <= MOST_MEMBERS
        && state.len() <= MOST_STATE
        && members
            .iter()
            .all(|m| m.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty()));
    valid.then_some(state)
}

/// A header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// 32 random hex digits; the variant's bits keep both halves from being zero.
fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn of(headers: &[(&str, &str)]) -> (Trace, Vec<(String, String)>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let trace = Trace::of(&map);
        let passed = trace
            .headers()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        (trace, passed)
    }

    #[test]
    fn valid_contexts_are_passed_on_with_a_span_of_our_own() {
        let check = |value: &str, flags: &str| {
            let (trace, passed) =
                of(&[("traceparent", value), ("tracestate", "a=1, b=2"), ("tracestate", "c=3")]);
            assert_eq!((trace.trace_id(), trace.parent_id()), (TRACE, Some(PARENT)), "{value}");
            let own = trace.span_id().to_owned();
            assert!(is_hex(&own, 16) && own != PARENT);
            assert_eq!(passed[0], ("traceparent".to_owned(), format!("00-{TRACE}-{own}-{flags}")));
            assert_eq!(passed[1], ("tracestate".to_owned(), "a=1,b=2,c=3".to_owned()));
            assert_eq!(passed.len(), 2);
        };
        check(&format!("00-{TRACE}-{PARENT}-01"), "01");
        check(&format!("00-{TRACE}-{PARENT}-00"), "00");
        check(&format!("cc-{TRACE}-{PARENT}-03-what-is-to-come"), "01");
        check(&format!("01-{TRACE}-{PARENT}-01"), "01");
    }

    #[test]
    fn invalid_contexts_start_a_new_trace() {
        let check = |headers: &[(&str, &str)]| {
            let (trace, passed) = of(headers);
            assert!(trace.trace_id() != TRACE && is_hex(trace.trace_id(), 32), "{headers:?}");
            assert_eq!(trace.parent_id(), None);
            assert!(passed.len() == 1 && passed[0].1.ends_with("-00"), "{passed:?}");
        };
        let good = format!("00-{TRACE}-{PARENT}-01");
        check(&[]);
        check(&[("tracestate", "a=1")]);
        check(&[("traceparent", &good), ("traceparent", &good)]);
        for bad in [
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("cc-{TRACE}-{PARENT}-01.what"),
            "é".repeat(40),
            String::new(),
        ] {
            check(&[("traceparent", &bad), ("tracestate", "a=1")]);
        }
    }

    #[test]
    fn a_state_beyond_the_limits_is_left_out() {
        let parent = format!("00-{TRACE}-{PARENT}-01");
        let many = vec!["a=1"; 33].join(",");
        let long = format!("a={}", "x".repeat(511));
        for state in [many.as_str(), long.as_str(), "a", "=1", "a="] {
            let (_, passed) = of(&[("traceparent", &parent), ("tracestate", state)]);
            assert_eq!(passed.len(), 1, "{state}");
        }
    }

    #[test]
    fn the_header_of_xray_is_the_same_trace() {
        let root = "1-5759e988-bd862e3fe1be46a994272793";
        let xray =
            format!("Self=1-67891234-12456789abcdef012345678;Root={root};Parent=53995c3f42cd8ad8;Sampled=1");
        let (trace, passed) = of(&[("x-amzn-trace-id", &xray)]);
        assert_eq!(trace.trace_id(), "5759e988bd862e3fe1be46a994272793");
        assert_eq!(trace.parent_id(), Some("53995c3f42cd8ad8"));
        let own = trace.span_id();
        assert_eq!(passed[0].1, format!("00-5759e988bd862e3fe1be46a994272793-{own}-01"));
        assert_eq!(passed[1].1, format!("Root={root};Parent={own};Sampled=1"));
        // A client's own context goes before the one that Lambda makes.
        let parent = format!("00-{TRACE}-{PARENT}-00");
        let (trace, passed) = of(&[("traceparent", &parent), ("x-amzn-trace-id", &xray)]);
        assert_eq!((trace.trace_id(), passed.len()), (TRACE, 2));
        for bad in ["Root=2-5759e988-bd862e3fe1be46a994272793", "Root=1-5759e988", "nothing", ""] {
            assert_eq!(of(&[("x-amzn-trace-id", bad)]).1.len(), 1, "{bad}");
        }
    }
}
