//! What one published function version serves.

use serde::{Deserialize, Serialize};

use crate::{Digest, Parameters, Task};

/// One model of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestModel {
    /// The name that clients use. Unique in the manifest.
    pub name: String,
    /// What it does; read from the files when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Its content: a folder under `revisions/`.
    pub revision: Digest,
    /// What that is a later copy of, if it is one: see [`crate::revision::copy_name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<Digest>,
    /// How it does it, where its files are to be overridden.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// Loaded before the sandbox takes traffic, or at first use.
    pub preload: bool,
}

impl ManifestModel {
    /// The revision of its content, whichever copy of it this is.
    #[must_use]
    pub fn content(&self) -> Digest {
        self.copy_of.unwrap_or(self.revision)
    }
}

/// What one published function version serves. Stored as `manifests/<digest>.json`.
///
/// The function has the digest in its environment, so a Lambda version pins models as it pins code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The models, by name.
    pub models: Vec<ManifestModel>,
}

impl Manifest {
    /// A manifest with its models in the order of their names.
    #[must_use]
    pub fn new(mut models: Vec<ManifestModel>) -> Self {
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Self { models }
    }

    /// The bytes that are stored and hashed: compact JSON, fields in the order of this file.
    ///
    /// # Panics
    /// Never: the types hold nothing that JSON cannot say.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings, booleans and lists always serialise")]
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest always serialises")
    }

    /// The digest of [`Manifest::canonical`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_stable() {
        let model = |name: &str| ManifestModel {
            name: name.to_owned(),
            task: Some(Task::Ocr),
            revision: Digest::of(b"x"),
            copy_of: None,
            parameters: Parameters::default(),
            preload: true,
        };
        let manifest = Manifest::new(vec![model("b"), model("a")]);
        assert_eq!(manifest, Manifest::new(vec![model("a"), model("b")]));
        let text = String::from_utf8(manifest.canonical()).unwrap();
        let hex = Digest::of(b"x").hex();
        assert_eq!(
            text,
            format!(
                r#"{{"models":[{{"name":"a","task":"ocr","revision":"sha256:{hex}","preload":true}},{{"name":"b","task":"ocr","revision":"sha256:{hex}","preload":true}}]}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }
}
