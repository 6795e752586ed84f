//! Listings of models' sources other than S3.

use std::time::Duration;

use larder_contract::{ModelSource, ObjectEntry};
use larder_core::Class;
use larder_sources::{File, SourceError, credentials};

use super::clients::Clients;
use super::error::Call;
use crate::cloud::{CloudError, Result};

/// How long one listing may take: several calls to one server.
const MAX_LISTING: Duration = Duration::from_secs(20);

impl Clients {
    pub(super) async fn files(&self, source: &ModelSource) -> Result<Vec<ObjectEntry>> {
        let list = async {
            let credentials = credentials::of(&self.config, source).await?;
            self.sources.open(source, credentials).await
        };
        match tokio::time::timeout(MAX_LISTING, list).await {
            Ok(Ok(opened)) => Ok(opened.files().iter().map(File::entry).collect()),
            Ok(Err(error)) => Err(explain(error)),
            Err(_) => {
                let call = Call::new("GET", source.to_string());
                Err(call.failed(Class::Transient, "", &format!("no listing within {MAX_LISTING:?}")))
            }
        }
    }
}

fn explain(error: SourceError) -> CloudError {
    use larder_sources::Class as Theirs;
    let class = match error.class {
        Theirs::NotFound => Class::NotFound,
        Theirs::Denied => Class::Denied,
        Theirs::Changed => Class::Conflict,
        Theirs::Throttled => Class::Throttled,
        Theirs::Transient => Class::Transient,
        Theirs::Invalid => Class::Invalid,
    };
    let told = Call::new(error.operation, error.resource.as_str()).failed(class, "", &error.code);
    CloudError { source: Some(Box::new(error)), ..told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_read_a_source_is_told_of_secrets_and_who_may_not_read_a_secret_of_policies() {
        let denied = |operation, resource| {
            let error = SourceError::new(larder_sources::Class::Denied, resource, "the server answers 401");
            explain(SourceError { operation, ..error }).to_string()
        };
        assert_eq!(
            denied("GET", "https://registry.example/v2/models/ocr/manifests/v4"),
            "GET of https://registry.example/v2/models/ocr/manifests/v4 failed: the server answers 401; name a \
             secret in secretArn whose user may read it; Larder tries again by itself"
        );
        let secret =
            denied("GetSecretValue", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:registry");
        assert!(secret.ends_with("; allow this action in the role's policy; Larder tries again by itself"));
    }
}
