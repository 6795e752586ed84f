//! How a registry wants to be asked.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use larder_web::Web;
use serde::Deserialize;
use url::Url;

use crate::session::{parsed, whole};
use crate::{Class, Credentials, SourceError};

/// A `WWW-Authenticate` header, understood.
#[derive(Debug, PartialEq, Eq)]
enum Challenge<'a> {
    Basic,
    Bearer { realm: &'a str, service: Option<&'a str>, scope: Option<&'a str> },
}

impl<'a> Challenge<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let value = |name: &str| {
            // Values may hold commas: a name is looked for with its equals sign and quotation mark.
            let start = format!("{name}=\"");
            let at = rest.match_indices(&start).find(|(at, _)| {
                rest[..*at].trim_end().is_empty() || { rest[..*at].trim_end().ends_with(',') }
            });
            let (value, _) = rest[at?.0 + start.len()..].split_once('"')?;
            Some(value)
        };
        Some(Self::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") })
    }
}

#[derive(Deserialize)]
struct Issued {
    token: Option<String>,
    access_token: Option<String>,
}

/// The header that answers a registry's challenge.
pub(crate) async fn answer(
    web: &Web,
    registry: &Url,
    repository: &str,
    challenge: &str,
    credentials: Option<&Credentials>,
) -> Result<HeaderValue, SourceError> {
    let denied = |why: &str| SourceError::new(Class::Denied, registry.as_str(), why);
    let unfit = "the credentials hold what no HTTP header can";
    match (Challenge::read(challenge), credentials) {
        (_, Some(token @ Credentials::Token(_))) => token.header().ok_or_else(|| denied(unfit)),
        (Some(Challenge::Basic), Some(basic)) => basic.header().ok_or_else(|| denied(unfit)),
        (Some(Challenge::Basic), None) => Err(denied("the registry wants a user and a password")),
        (Some(Challenge::Bearer { realm, service, scope }), credentials) => {
            let mut url = Url::parse(realm).map_err(|_| denied("the registry's realm is no URL"))?;
            let pull = format!("repository:{repository}:pull");
            url.query_pairs_mut().append_pair("scope", scope.unwrap_or(&pull));
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            issued(web, &url, credentials).await
        }
        (None, _) => Err(denied("the registry wants to be asked in a way that is not known here")),
    }
}

async fn issued(web: &Web, url: &Url, credentials: Option<&Credentials>) -> Result<HeaderValue, SourceError> {
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    if let Some(header) = credentials.and_then(Credentials::header) {
        headers.insert(AUTHORIZATION, header);
    }
    let (_, answer) = web.get(url, &headers).await.map_err(|e| SourceError::web(url.as_str(), e))?;
    if answer.status() != StatusCode::OK {
        return Err(SourceError::status(url.as_str(), answer.status()));
    }
    let issued: Issued = parsed(url, &whole(url, answer.into_body()).await?)?;
    let token = issued.token.or(issued.access_token);
    let header = token.and_then(|token| Credentials::Token(token).header());
    header.ok_or_else(|| SourceError::new(Class::Transient, url.as_str(), "the answer has no token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        for (text, want) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                Some(Challenge::Bearer {
                    realm: "https://auth.docker.io/token",
                    service: Some("registry.docker.io"),
                    scope: Some("repository:a/b:pull,push"),
                }),
            ),
            (
                r#"bearer realm="https://a.example/?x=1", error="insufficient_scope""#,
                Some(Challenge::Bearer { realm: "https://a.example/?x=1", service: None, scope: None }),
            ),
            (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (r#"Bearer service="x""#, None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::read(text), want, "{text}");
        }
    }
}
