//! Where a model's files are, before they are on the file system.
//!
//! The controller and model-sync read the same [`ModelSource`], list it by the same code and come to the same
//! revision.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, RelativePath};

/// Where one model's files are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModelSource {
    /// Every object under a prefix.
    S3(S3Prefix),
    /// An artifact or image in a registry.
    Oci(OciSource),
    /// Files that have a URL each.
    Https(HttpsSource),
    /// A repository of a Hugging Face hub.
    HuggingFace(HubSource),
}

impl ModelSource {
    /// The secret with what proves who asks, where the source names one: its ARN in AWS Secrets Manager.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::S3(_) => None,
            Self::Oci(OciSource { secret, .. })
            | Self::Https(HttpsSource { secret, .. })
            | Self::HuggingFace(HubSource { secret, .. }) => secret.as_deref(),
        }
    }
}

/// As an address, for people. What a URL has after its `?` may be a secret, and is left out.
impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(S3Prefix { bucket, prefix }) => write!(f, "s3://{bucket}/{prefix}"),
            Self::Oci(OciSource { reference, path: None, .. }) => write!(f, "oci://{reference}"),
            Self::Oci(OciSource { reference, path: Some(path), .. }) => {
                write!(f, "oci://{reference}#path={path}")
            }
            Self::Https(HttpsSource { files, .. }) => {
                let url = files.first().map_or("", |file| file.url.as_str());
                f.write_str(url.split(['?', '#']).next().unwrap_or_default())?;
                match files.len() {
                    0 | 1 => Ok(()),
                    n => write!(f, " and {} more", n - 1),
                }
            }
            Self::HuggingFace(HubSource { endpoint, repository, revision, .. }) => {
                write!(f, "{}/{repository}@{revision}", endpoint.trim_end_matches('/'))
            }
        }
    }
}

/// Every object under a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Prefix {
    /// The bucket.
    pub bucket: String,
    /// The key prefix; what follows it is the path in the model's folder.
    pub prefix: String,
}

/// An artifact or image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciSource {
    /// Which.
    pub reference: OciReference,
    /// The folder of an image that holds the model, [`IMAGE_FOLDER`] when absent; all of an artifact is the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RelativePath>,
    /// The ARN of a secret with what proves who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The folder of an image that holds the model when none is named, as in the images that `KServe` serves from.
/// <https://kserve.github.io/website/docs/model-serving/storage/providers/oci>
pub const IMAGE_FOLDER: &str = "models";

/// Files that have a URL each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpsSource {
    /// At least one.
    pub files: Vec<HttpsFile>,
    /// The ARN of a secret with what proves who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A file that has a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpsFile {
    /// Where it is.
    pub url: String,
    /// What it is.
    pub sha256: Digest,
    /// Where it goes in the model's folder.
    pub path: RelativePath,
}

impl HttpsFile {
    /// The path of a file that is named by its URL alone: the URL's last segment. None when that is no name.
    #[must_use]
    pub fn path_of(url: &str) -> Option<RelativePath> {
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let (_, rest) = url.split_once("://")?;
        let (_, name) = rest.rsplit_once('/')?;
        // A name that was escaped is better given by hand.
        (!name.contains('%')).then(|| RelativePath::parse(name).ok()).flatten()
    }
}

/// A repository of a Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubSource {
    /// The hub.
    pub endpoint: String,
    /// `owner/name`.
    pub repository: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// Only files that match one of these patterns; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Pattern>,
    /// The ARN of a secret with what proves who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The hub that is meant when none is named.
pub const HUGGING_FACE: &str = "https://huggingface.co";

/// A pattern of paths: `*` stands for any characters, also `/`, as in `huggingface_hub`'s `allow_patterns`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether a path is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = path.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }
}

/// An artifact or image: `registry/repository:tag` or `registry/repository@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OciReference {
    /// Host, and port where it is not 443.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// Which of its manifests.
    pub pick: OciPick,
}

/// What picks a manifest in its repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OciPick {
    /// A tag, which may move.
    Tag(String),
    /// Its digest.
    Digest(Digest),
}

/// Text that is no [`OciReference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no reference to an artifact or image: {why}; write REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST"
)]
pub struct NotAReference {
    /// The text.
    pub text: String,
    /// What is wrong.
    pub why: &'static str,
}

impl FromStr for OciReference {
    type Err = NotAReference;

    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
    fn from_str(text: &str) -> Result<Self, NotAReference> {
        let refuse = |why| NotAReference { text: text.to_owned(), why };
        let bare = text.strip_prefix("oci://").unwrap_or(text);
        let (registry, rest) = bare.split_once('/').ok_or_else(|| refuse("it names no repository"))?;
        let is_host = registry.contains(['.', ':']) || registry == "localhost";
        let of_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if !is_host || !registry.chars().all(of_host) {
            return Err(refuse("it does not begin with a registry's host"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let is_name =
            |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(of_name);
        if repository.len() > 255 || !repository.split('/').all(is_name) {
            return Err(refuse("its repository is not of lower-case names with / between them"));
        }
        let of_tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_tag = |tag: &str| (1..=128).contains(&tag.len()) && tag.chars().all(of_tag);
        let pick = match (tag, digest) {
            (_, Some(digest)) => match (digest.starts_with("sha256:"), digest.parse()) {
                (true, Ok(digest)) => OciPick::Digest(digest),
                _ => return Err(refuse("its digest is not sha256: and 64 lower-case hex digits")),
            },
            (Some(tag), None) if is_tag(tag) => OciPick::Tag(tag.to_owned()),
            (Some(_), None) => return Err(refuse("its tag is not of letters, digits, dots, dashes")),
            (None, None) => return Err(refuse("it has neither tag nor digest")),
        };
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), pick })
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, pick } = self;
        match pick {
            OciPick::Tag(tag) => write!(f, "{registry}/{repository}:{tag}"),
            OciPick::Digest(digest) => write!(f, "{registry}/{repository}@{digest}"),
        }
    }
}

impl TryFrom<String> for OciReference {
    type Error = NotAReference;
    fn try_from(text: String) -> Result<Self, NotAReference> {
        text.parse()
    }
}

impl From<OciReference> for String {
    fn from(reference: OciReference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_registries_write_them() {
        let digest = Digest::of(b"");
        for (text, want) in [
            ("ghcr.io/acme/ocr:v1", Ok("ghcr.io/acme/ocr:v1")),
            ("oci://127.0.0.1:5000/a/b_c:V1.0", Ok("127.0.0.1:5000/a/b_c:V1.0")),
            ("localhost/a:1", Ok("localhost/a:1")),
            ("acme/ocr:v1", Err("registry's host")),
            ("ghcr.io", Err("names no repository")),
            ("ghcr.io/acme/ocr", Err("neither tag nor digest")),
            ("ghcr.io/Acme/ocr:v1", Err("lower-case names")),
            ("ghcr.io/acme/../ocr:v1", Err("lower-case names")),
            ("ghcr.io//ocr:v1", Err("lower-case names")),
            ("ghcr.io/ocr:", Err("its tag is not")),
            ("ghcr.io/ocr:a?b", Err("its tag is not")),
            ("ghcr.io/ocr@sha256:abc", Err("its digest is not")),
            ("user@ghcr.io/ocr:v1", Err("registry's host")),
        ] {
            match (text.parse::<OciReference>(), want) {
                (Ok(reference), Ok(want)) => assert_eq!(reference.to_string(), want),
                (Err(refused), Err(why)) => assert!(refused.to_string().contains(why), "{refused}"),
                (read, want) => assert_eq!(format!("{read:?}"), format!("{want:?}"), "{text}"),
            }
        }
        let both: OciReference = format!("ghcr.io/ocr:v1@{digest}").parse().unwrap();
        assert_eq!(both.to_string(), format!("ghcr.io/ocr@{digest}"), "the digest counts");
    }

    #[test]
    fn patterns_match_as_in_the_hub_s_client() {
        for (pattern, path, want) in [
            ("*.onnx", "onnx/model.onnx", true),
            ("*.onnx", "model.onnx_data", false),
            ("onnx/*", "onnx/model.onnx", true),
            ("onnx/*", "model.onnx", false),
            ("config.json", "config.json", true),
            ("config.json", "x/config.json", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(Pattern(pattern.to_owned()).matches(path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn a_url_names_its_file() {
        for (url, want) in [
            ("https://a.example/x/model.onnx?sig=1#f", Some("model.onnx")),
            ("https://a.example/x/", None),
            ("https://a.example", None),
            ("https://a.example/a%20b", None),
            ("https://a.example/..", None),
        ] {
            assert_eq!(HttpsFile::path_of(url).map(String::from).as_deref(), want, "{url}");
        }
    }

    #[test]
    fn an_address_keeps_the_secret_of_a_url() {
        let file = HttpsFile {
            url: "https://a.example/m.onnx?X-Amz-Signature=1".to_owned(),
            sha256: Digest::of(b""),
            path: RelativePath::parse("m.onnx").unwrap(),
        };
        let source = |files| ModelSource::Https(HttpsSource { files, secret: None });
        assert_eq!(source(vec![file.clone()]).to_string(), "https://a.example/m.onnx");
        assert_eq!(source(vec![file.clone(), file]).to_string(), "https://a.example/m.onnx and 1 more");
    }
}
