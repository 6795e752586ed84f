//! Requests to function URLs as events of payload format 2.0, and answers back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::stack::http::{self, Body};
use crate::stack::{ACCOUNT, REGION};

/// What AWS hands on as text; everything else is base64.
const TEXT: [&str; 3] = ["application/json", "application/xml", "application/javascript"];

/// The event of a request to the function URL with this id.
pub(crate) fn from_request(id: &str, parts: &Parts, body: &Bytes, anonymous: bool) -> Value {
    let path = parts.uri.path();
    let prefix = format!("/_aws/lambda-url/{id}");
    let path = match path.strip_prefix(&prefix).unwrap_or(path) {
        "" => "/",
        rest => rest,
    };
    let query = parts.uri.query().unwrap_or_default();
    let domain = format!("{id}.lambda-url.{REGION}.on.aws");
    let header =
        |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();

    let mut headers = Map::new();
    for name in parts.headers.keys().filter(|name| **name != COOKIE) {
        let values: Vec<&str> =
            parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        headers.insert(name.as_str().to_owned(), json!(values.join(",")));
    }
    headers.insert("host".to_owned(), json!(domain));
    headers.insert("x-forwarded-for".to_owned(), json!("127.0.0.1"));
    headers.insert("x-forwarded-port".to_owned(), json!("443"));
    headers.insert("x-forwarded-proto".to_owned(), json!("https"));

    let now = jiff::Timestamp::now();
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": if anonymous { "anonymous" } else { ACCOUNT },
            "apiId": id,
            "domainName": domain,
            "domainPrefix": id,
            "http": {
                "method": parts.method.as_str(),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": header(&USER_AGENT),
            },
            "requestId": uuid::Uuid::new_v4().to_string(),
            "routeKey": "$default",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "timeEpoch": now.as_millisecond(),
        },
        "isBase64Encoded": false,
    });
    // AWS leaves these out where there is nothing to say.
    let cookies = header(&COOKIE);
    if !cookies.is_empty() {
        event["cookies"] = cookies.split(';').map(|cookie| json!(cookie.trim())).collect();
    }
    if !query.is_empty() {
        event["queryStringParameters"] = parameters(query);
    }
    if !body.is_empty() {
        let kind = header(&CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match std::str::from_utf8(body) {
            Ok(text) if kind.starts_with("text/") || TEXT.contains(&kind.as_str()) => {
                event["body"] = json!(text);
            }
            _ => {
                event["body"] = json!(STANDARD.encode(body));
                event["isBase64Encoded"] = json!(true);
            }
        }
    }
    event
}

/// Decoded parameters; values of one name are joined with commas.
fn parameters(query: &str) -> Value {
    let mut parameters: Map<String, Value> = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| crate::stack::proxy::percent_decode(&text.replace('+', " "));
        let (name, value) = (decode(name), decode(value));
        let joined = match parameters.get(&name).and_then(Value::as_str) {
            Some(before) => format!("{before},{value}"),
            None => value,
        };
        parameters.insert(name, json!(joined));
    }
    Value::Object(parameters)
}

/// The answer of a function as HTTP. An answer without `statusCode` is the body itself, as JSON.
pub(crate) fn to_response(answer: &Bytes) -> Response<Body> {
    let value: Value = serde_json::from_slice(answer).unwrap_or(Value::Null);
    let Some(status) = value["statusCode"].as_u64() else {
        let mut response = Response::new(http::whole(answer.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return response;
    };
    let text = value["body"].as_str().unwrap_or_default();
    let body = if value["isBase64Encoded"] == true {
        STANDARD.decode(text).map(Bytes::from)
    } else {
        Ok(Bytes::from(text.to_owned()))
    };
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let (Ok(body), Some(status)) = (body, status) else {
        return http::json(StatusCode::BAD_GATEWAY, &json!({"Message": "Internal Server Error"}));
    };
    let mut response = Response::new(http::whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in value["headers"].as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&text)) {
            // The length is the body's own.
            if name != hyper::header::CONTENT_LENGTH {
                headers.insert(name, value);
            }
        }
    }
    for cookie in value["cookies"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Ok(cookie) = HeaderValue::from_str(cookie) {
            headers.append(SET_COOKIE, cookie);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_an_event() {
        let (parts, ()) = hyper::Request::post("/_aws/lambda-url/abc/v2/models?a=1&a=2&b=x%20y")
            .header("content-type", "application/octet-stream")
            .header("cookie", "k=v; l=w")
            .body(())
            .unwrap()
            .into_parts();
        let event = from_request("abc", &parts, &Bytes::from_static(b"\xff\x00"), true);
        assert_eq!(event["rawPath"], "/v2/models");
        assert_eq!(event["queryStringParameters"], json!({"a": "1,2", "b": "x y"}));
        assert_eq!(event["cookies"], json!(["k=v", "l=w"]));
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
        assert_eq!(event["requestContext"]["http"]["method"], "POST");
    }

    #[tokio::test]
    async fn an_answer_becomes_a_response() {
        let check = async |answer: Value, status: u16, body: &str| {
            let response = to_response(&answer.to_string().into());
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(http::collect(response.into_body()).await.unwrap(), body.as_bytes());
        };
        check(json!({"statusCode": 201, "body": "aGk=", "isBase64Encoded": true}), 201, "hi").await;
        check(json!({"statusCode": 404, "headers": {"x": "y"}, "body": "no"}), 404, "no").await;
        check(json!({"plain": true}), 200, r#"{"plain":true}"#).await;
        check(
            json!({"statusCode": 200, "body": "?", "isBase64Encoded": true}),
            502,
            r#"{"Message":"Internal Server Error"}"#,
        )
        .await;
    }
}
