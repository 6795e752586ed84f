//! Requests from the events of function URLs, API Gateway and load balancers.
//!
//! The shapes are those of the Lambda developer guide ("Invoking Lambda function URLs"), the API Gateway
//! developer guide ("Input format of a Lambda function for proxy integration", payload formats 1.0 and 2.0)
//! and the Elastic Load Balancing user guide ("Lambda functions as targets").

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::COOKIE;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use url::Url;

use super::{Event, Text};
use crate::error::ApiError;
use crate::runtime::event::reply::Origin;

/// The request that an event tells of, without what gateways put before its path.
pub(super) fn request(event: &Event<'_>, origin: Origin, base: Option<&str>) -> Result<Request, ApiError> {
    let broken = |what: &str| ApiError::bad_request(format!("the event's {what} cannot be used"));
    let method = match origin {
        Origin::Http2 => {
            event.request_context.as_ref().and_then(|c| c.http.as_ref()).map(|h| h.method.as_str())
        }
        Origin::Rest | Origin::LoadBalancer { .. } => event.http_method.as_ref().map(Text::as_str),
    };
    let method =
        method.and_then(|m| Method::from_bytes(m.as_bytes()).ok()).ok_or_else(|| broken("method"))?;
    let body = match (&event.body, event.is_base64_encoded) {
        (None, _) => Vec::new(),
        (Some(text), false) => text.as_str().as_bytes().to_vec(),
        (Some(text), true) => BASE64_STANDARD
            .decode(text.as_str())
            .map_err(|e| ApiError::bad_request(format!("the event's body is not base64: {e}")))?,
    };
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri(event, origin, base).ok_or_else(|| broken("path"))?;
    *request.headers_mut() = headers(event);
    Ok(request)
}

fn uri(event: &Event<'_>, origin: Origin, base: Option<&str>) -> Option<Uri> {
    let stage = event.request_context.as_ref().and_then(|c| c.stage.as_ref()).map(Text::as_str);
    let whole = match origin {
        Origin::Http2 => event.raw_path.as_ref(),
        Origin::Rest | Origin::LoadBalancer { .. } => event.path.as_ref(),
    };
    let whole = whole.map_or("/", Text::as_str);
    let path = match origin {
        Origin::Http2 => stage.and_then(|stage| without(whole, stage)).unwrap_or(whole),
        Origin::Rest => without_mapping(event, whole),
        Origin::LoadBalancer { .. } => whole,
    };
    let path = base.and_then(|base| without(path, base.trim_matches('/'))).unwrap_or(path);
    let mut url = Url::parse("http://function/").ok()?;
    // Writes what a path cannot have as its escape, and leaves escapes alone.
    url.set_path(path);
    match origin {
        Origin::Http2 => {
            url.set_query(event.raw_query_string.as_ref().map(Text::as_str).filter(|q| !q.is_empty()));
        }
        // API Gateway has decoded them.
        Origin::Rest => {
            let pairs = pairs(event);
            if !pairs.is_empty() {
                url.query_pairs_mut().extend_pairs(pairs);
            }
        }
        // A load balancer has not.
        Origin::LoadBalancer { .. } => {
            let pairs: Vec<String> =
                pairs(event).iter().map(|(name, value)| format!("{name}={value}")).collect();
            url.set_query((!pairs.is_empty()).then(|| pairs.join("&")).as_deref());
        }
    }
    let rest = &url[url::Position::BeforePath..url::Position::AfterQuery];
    Some(Uri::from(PathAndQuery::try_from(rest).ok()?))
}

/// A path without the first segments `prefix`, if it begins with them.
fn without<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix('/')?.strip_prefix(prefix)?;
    match rest {
        "" => Some("/"),
        _ => rest.starts_with('/').then_some(rest),
    }
}

/// A REST API's path without the base path that a custom domain's mapping puts before it: what the
/// resource says with the path's parameters filled in is the path behind the mapping.
fn without_mapping<'a>(event: &Event<'_>, path: &'a str) -> &'a str {
    let (Some(resource), Some(parameters)) = (&event.resource, &event.path_parameters) else { return path };
    let mut behind = String::new();
    for segment in resource.as_str().split('/').skip(1) {
        let name =
            segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')).map(|s| s.trim_end_matches('+'));
        let value = name.and_then(|name| parameters.iter().find(|p| p.0.as_str() == name));
        let _ = write!(behind, "/{}", value.map_or(segment, |(_, value)| value.as_str()));
    }
    match path.len().checked_sub(behind.len()) {
        Some(at) if path.is_char_boundary(at) && path[at..] == behind => &path[at..],
        _ => path,
    }
}

/// The query's pairs, every value of a name.
fn pairs<'a>(event: &'a Event<'_>) -> Vec<(&'a str, &'a str)> {
    if let Some(all) = event.multi_value_query_string_parameters.as_ref().filter(|all| !all.is_empty()) {
        return all
            .iter()
            .flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())))
            .collect();
    }
    let all = event.query_string_parameters.iter().flatten();
    all.map(|(name, value)| (name.as_str(), value.as_ref().map_or("", Text::as_str))).collect()
}

/// The headers that can be ones, every value of a name.
fn headers(event: &Event<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    let multi_value = event.multi_value_headers.as_ref().filter(|all| !all.is_empty());
    match multi_value {
        Some(all) => {
            for (name, values) in all {
                for value in values {
                    add(name.as_str(), value.as_str());
                }
            }
        }
        None => {
            for (name, value) in event.headers.iter().flatten() {
                add(name.as_str(), value.as_ref().map_or("", Text::as_str));
            }
        }
    }
    if let Some(cookies) = event.cookies.as_ref().filter(|all| !all.is_empty()) {
        let all: Vec<&str> = cookies.iter().map(Text::as_str).collect();
        add(COOKIE.as_str(), &all.join("; "));
    }
    headers
}

/// A segment of a path, escaped.
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(event: &Value, origin: Origin, base: Option<&str>, expected: &str) {
        let text = event.to_string();
        let event: Event<'_> = serde_json::from_str(&text).unwrap();
        let found = request(&event, origin, base).unwrap();
        assert_eq!(found.uri().to_string(), expected, "{text}");
    }

    #[test]
    fn paths_lose_what_gateways_put_before_them() {
        let http2 = |path: &str, stage: &str, query: &str| {
            json!({"rawPath": path, "rawQueryString": query,
                "requestContext": {"stage": stage, "http": {"method": "GET"}}})
        };
        check(&http2("/ocr", "$default", ""), Origin::Http2, None, "/ocr");
        check(&http2("/prod/ocr", "prod", "model=a%20b&x"), Origin::Http2, None, "/ocr?model=a%20b&x");
        check(&http2("/prod", "prod", ""), Origin::Http2, None, "/");
        check(&http2("/production/ocr", "prod", ""), Origin::Http2, None, "/production/ocr");
        check(&http2("/ml/v2", "$default", ""), Origin::Http2, Some("/ml/"), "/v2");
        check(&http2("/a b/%2Fé", "$default", ""), Origin::Http2, None, "/a%20b/%2F%C3%A9");

        let rest = |path: &str, resource: &str, parameters: Value| json!({"httpMethod": "GET", "path": path, "resource": resource, "pathParameters": parameters});
        check(
            &rest("/v2/models/a", "/{proxy+}", json!({"proxy": "v2/models/a"})),
            Origin::Rest,
            None,
            "/v2/models/a",
        );
        check(
            &rest("/ml/v2/models/a", "/{proxy+}", json!({"proxy": "v2/models/a"})),
            Origin::Rest,
            None,
            "/v2/models/a",
        );
        check(&rest("/ml/models/a", "/models/{name}", json!({"name": "a"})), Origin::Rest, None, "/models/a");
        check(&rest("/ocr", "/ocr", Value::Null), Origin::Rest, None, "/ocr");
        check(&rest("/ml/ocr", "/ml/{proxy+}", json!({"proxy": "ocr"})), Origin::Rest, Some("/ml"), "/ocr");
    }

    #[test]
    fn queries_keep_every_value() {
        let rest = json!({"httpMethod": "GET", "path": "/ocr", "queryStringParameters": {"a": "2"},
            "multiValueQueryStringParameters": {"a": ["1 &", "2"], "b": ["é"]}});
        check(&rest, Origin::Rest, None, "/ocr?a=1+%26&a=2&b=%C3%A9");
        let balancer = json!({"httpMethod": "GET", "path": "/ocr", "queryStringParameters": {"a": "1%20%26", "b": null}});
        check(&balancer, Origin::LoadBalancer { multi_value: false }, None, "/ocr?a=1%20%26&b=");
    }

    #[test]
    fn headers_keep_every_value() {
        let event = json!({"httpMethod": "GET", "path": "/", "headers": {"a": "2", "b": "x"},
            "multiValueHeaders": {"a": ["1", "2"], "b": ["x"], "bad name": ["x"]}});
        let text = event.to_string();
        let headers = headers(&serde_json::from_str(&text).unwrap());
        assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn a_models_name_is_one_segment() {
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
    }
}
