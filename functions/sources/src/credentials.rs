//! What proves who asks: from a secret's text, from AWS Secrets Manager, or from Amazon ECR.

use std::fmt;
use std::str::FromStr;

use aws_config::{Region, SdkConfig};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use larder_contract::ModelSource;
use serde::Deserialize;

use crate::{Class, SourceError};

/// What proves who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User and password, as of a registry's login.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A bearer's token, as of a hub.
    Token(String),
}

/// Says nothing of what is secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => {
                f.debug_struct("Basic").field("username", username).finish_non_exhaustive()
            }
            Self::Token(_) => f.debug_tuple("Token").finish_non_exhaustive(),
        }
    }
}

/// A secret's text that is no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(r#"it is neither {{"username": …, "password": …}} nor {{"token": …}}; write one of them"#)]
pub struct NotCredentials;

impl FromStr for Credentials {
    type Err = NotCredentials;

    fn from_str(text: &str) -> Result<Self, NotCredentials> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Basic { username: String, password: String },
            Token { token: String },
        }
        Ok(match serde_json::from_str(text).map_err(|_| NotCredentials)? {
            Written::Basic { username, password } => Self::Basic { username, password },
            Written::Token { token } => Self::Token(token),
        })
    }
}

impl Credentials {
    /// As an `Authorization` header; none when it holds what no header can.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let text = match self {
            Self::Basic { username, password } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
            }
            Self::Token(token) => format!("Bearer {token}"),
        };
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// The credentials that a source is to be asked with: those of the secret that it names; Amazon ECR's own where it
/// is a registry of that; else none.
///
/// # Errors
/// When the secret cannot be read, or ECR gives no token.
pub async fn of(config: &SdkConfig, source: &ModelSource) -> Result<Option<Credentials>, SourceError> {
    if let Some(arn) = source.secret() {
        return secret(config, arn).await.map(Some);
    }
    match source {
        ModelSource::Oci(oci) => match ecr_region(&oci.reference.registry) {
            Some(region) => ecr(config, region, &oci.reference.registry).await.map(Some),
            None => Ok(None),
        },
        ModelSource::S3(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => Ok(None),
    }
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>
async fn secret(config: &SdkConfig, arn: &str) -> Result<Credentials, SourceError> {
    // It lies in the region that its ARN names.
    let region = arn.split(':').nth(3).map(|region| Region::new(region.to_owned()));
    let config = aws_sdk_secretsmanager::config::Builder::from(config)
        .region(region.or_else(|| config.region().cloned()))
        .build();
    let request = aws_sdk_secretsmanager::Client::from_conf(config).get_secret_value().secret_id(arn);
    let answer = request.send().await.map_err(|e| refused("GetSecretValue", arn, e))?;
    let text = answer.secret_string.unwrap_or_default();
    text.parse().map_err(|e: NotCredentials| SourceError::new(Class::Invalid, arn, &e.to_string()))
}

/// The region of a registry of Amazon ECR.
fn ecr_region(registry: &str) -> Option<&str> {
    let mut parts = registry.split('.');
    let account = parts.next()?;
    let is_ecr = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let is_ecr = is_ecr && parts.next() == Some("dkr") && parts.next() == Some("ecr");
    let region = parts.next()?;
    (is_ecr && matches!(parts.collect::<Vec<_>>()[..], ["amazonaws", "com"] | ["amazonaws", "com", "cn"]))
        .then_some(region)
}

/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
async fn ecr(config: &SdkConfig, region: &str, registry: &str) -> Result<Credentials, SourceError> {
    let config = aws_sdk_ecr::config::Builder::from(config).region(Region::new(region.to_owned())).build();
    let request = aws_sdk_ecr::Client::from_conf(config).get_authorization_token();
    let answer = request.send().await.map_err(|e| refused("GetAuthorizationToken", registry, e))?;
    let token = answer.authorization_data.unwrap_or_default().into_iter().next();
    let token = token.and_then(|data| STANDARD.decode(data.authorization_token?).ok());
    let token = token.and_then(|bytes| String::from_utf8(bytes).ok());
    let both = token.as_deref().and_then(|token| token.split_once(':'));
    let (username, password) =
        both.ok_or_else(|| SourceError::new(Class::Transient, registry, "the answer of ECR has no token"))?;
    Ok(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
}

fn refused<E, R>(operation: &'static str, resource: &str, error: SdkError<E, R>) -> SourceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(str::to_owned);
    let class = match code.as_deref() {
        Some("AccessDeniedException" | "DecryptionFailure" | "UnrecognizedClientException") => Class::Denied,
        Some("ResourceNotFoundException") => Class::NotFound,
        Some("InvalidParameterException" | "InvalidRequestException" | "ValidationException") => {
            Class::Invalid
        }
        Some("ThrottlingException") => Class::Throttled,
        Some(_) | None => Class::Transient,
    };
    let code = code.unwrap_or_else(|| "AWS does not answer".to_owned());
    SourceError { operation, source: Some(Box::new(error)), ..SourceError::new(class, resource, &code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_not_shown() {
        let basic = Credentials::Basic { username: "u".to_owned(), password: "p4ss".to_owned() };
        for (text, want) in [
            (r#"{"username":"u","password":"p4ss"}"#, Ok(basic.clone())),
            (r#"{"token":"t0ken"}"#, Ok(Credentials::Token("t0ken".to_owned()))),
            ("t0ken", Err(NotCredentials)),
            (r#"{"username":"u"}"#, Err(NotCredentials)),
        ] {
            let read = text.parse::<Credentials>();
            assert!(!format!("{read:?}").contains("p4ss") && !format!("{read:?}").contains("t0ken"));
            assert_eq!(read, want);
        }
        assert_eq!(basic.header().unwrap(), "Basic dTpwNHNz");
    }

    #[test]
    fn registries_of_ecr_have_a_region() {
        for (registry, want) in [
            ("111122223333.dkr.ecr.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("111122223333.dkr.ecr.eu-west-1.amazonaws.com.evil.example", None),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("ghcr.io", None),
        ] {
            assert_eq!(ecr_region(registry), want, "{registry}");
        }
    }
}
