//! A model's content, as the listing of its source shows it.
//!
//! Controller and model-sync list the same prefix and must come to the same [`Digest`], so the rule
//! lives here once: sorted by path, each object as `path`, `size` and the source's own validator.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// The most objects one model may have.
pub const MAX_OBJECTS: usize = 100_000;

/// A path inside a model's folder: relative, `/`-separated, no empty, `.` or `..` segment.
///
/// Keys that break this rule would leave the model's folder when written to disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

/// Why a key cannot be a file in the model's folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("object key {key:?} cannot be a file in the model's folder: {why}; rename or remove the object")]
pub struct UnsafePath {
    /// The key, relative to the prefix.
    pub key: String,
    /// The broken rule.
    pub why: &'static str,
}

impl RelativePath {
    /// Checks a key that was found under a model's prefix, the prefix already taken off.
    ///
    /// # Errors
    /// [`UnsafePath`] when the key is empty, absolute, ends in `/`, has an empty, `.` or `..` segment,
    /// a backslash or control character, or a segment of more than 255 bytes.
    pub fn parse(key: &str) -> Result<Self, UnsafePath> {
        let refuse = |why| Err(UnsafePath { key: key.to_owned(), why });
        if key.is_empty() {
            return refuse("it is empty");
        }
        if key.starts_with('/') {
            return refuse("it is absolute");
        }
        if key.ends_with('/') {
            return refuse("it ends in /");
        }
        if key.len() > 1024 {
            return refuse("it is longer than 1,024 bytes");
        }
        if key.chars().any(|c| c.is_control() || c == '\\') {
            return refuse("it has a control character or a backslash");
        }
        for segment in key.split('/') {
            match segment {
                "" => return refuse("it has an empty segment"),
                "." | ".." => return refuse("it has a . or .. segment"),
                long if long.len() > 255 => return refuse("a segment is longer than 255 bytes"),
                _ => {}
            }
        }
        Ok(Self(key.to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RelativePath {
    type Error = UnsafePath;
    fn try_from(key: String) -> Result<Self, UnsafePath> {
        Self::parse(&key)
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0
    }
}

/// One object of a model's source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEntry {
    /// Where it goes in the model's folder.
    pub path: RelativePath,
    /// Length in bytes.
    pub size: u64,
    /// The `ETag` of S3's listing, without quotes. Changes whenever the content does.
    pub etag: String,
}

/// Whether an object stands for a folder and is no file: consoles and tools make one named exactly as the
/// prefix, and empty ones whose keys end in a slash. `relative_key` is the key without the prefix.
#[must_use]
pub fn is_folder_marker(relative_key: &str, size: u64) -> bool {
    relative_key.is_empty() || (size == 0 && relative_key.ends_with('/'))
}

/// The revision of a model with these objects, in any order.
///
/// Each field ends in a byte that it cannot hold, so no two listings share an encoding.
#[must_use]
pub fn revision(objects: &[ObjectEntry]) -> Digest {
    let mut sorted: Vec<&ObjectEntry> = objects.iter().collect();
    sorted.sort();
    let mut hash = Sha256::new();
    for object in sorted {
        hash.update(object.path.as_str().as_bytes());
        hash.update([0]);
        hash.update(object.size.to_string().as_bytes());
        hash.update([0]);
        hash.update(object.etag.as_bytes());
        hash.update([b'\n']);
    }
    Digest::from_bytes(hash.finalize().into())
}

/// The most copies of one content that may lie side by side.
pub const MAX_COPIES: u32 = 100;

/// The name of the nth copy of a revision, counted from 0: the first has the revision's own digest. A copy that is
/// found damaged is never mended in place, but copied again under the next name.
#[must_use]
pub fn copy_name(content: &Digest, nth: u32) -> Digest {
    if nth == 0 { *content } else { Digest::of(format!("{content} copy {nth}").as_bytes()) }
}

/// Whether `name` is that of a copy of `content`.
#[must_use]
pub fn is_copy_of(name: &Digest, content: &Digest) -> bool {
    (0..MAX_COPIES).any(|nth| copy_name(content, nth) == *name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, size: u64, etag: &str) -> ObjectEntry {
        ObjectEntry { path: RelativePath::parse(path).unwrap(), size, etag: etag.to_owned() }
    }

    #[test]
    fn unsafe_keys_are_refused_by_name() {
        for (key, why) in [
            ("", "it is empty"),
            ("/etc/passwd", "it is absolute"),
            ("a/", "it ends in /"),
            ("a//b", "it has an empty segment"),
            ("../b", "it has a . or .. segment"),
            ("a/./b", "it has a . or .. segment"),
            ("a\\b", "it has a control character or a backslash"),
            ("a\nb", "it has a control character or a backslash"),
        ] {
            assert_eq!(RelativePath::parse(key), Err(UnsafePath { key: key.to_owned(), why }));
        }
        assert!(RelativePath::parse("det/..inference.onnx").is_ok());
    }

    #[test]
    fn copies_have_names_of_their_own() {
        let content = Digest::of(b"x");
        assert_eq!(copy_name(&content, 0), content);
        let names: std::collections::BTreeSet<_> =
            (0..MAX_COPIES).map(|nth| copy_name(&content, nth)).collect();
        assert_eq!(names.len(), MAX_COPIES as usize);
        assert!(names.iter().all(|name| is_copy_of(name, &content)));
        assert!(!is_copy_of(&Digest::of(b"y"), &content) && !is_copy_of(&content, &copy_name(&content, 1)));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_every_field_does(
            paths in prop::collection::btree_set("[a-z]{1,8}(/[a-z]{1,8}){0,2}", 1..8),
            size in 0u64..1_000_000,
        ) {
            let objects: Vec<_> = paths.iter().map(|p| entry(p, size, "e")).collect();
            let base = revision(&objects);
            let mut reversed = objects.clone();
            reversed.reverse();
            prop_assert_eq!(revision(&reversed), base);
            for i in 0..objects.len() {
                let mut other = objects.clone();
                other[i].size += 1;
                prop_assert_ne!(revision(&other), base);
                let mut other = objects.clone();
                other[i].etag.push('x');
                prop_assert_ne!(revision(&other), base);
                let mut other = objects.clone();
                other.remove(i);
                prop_assert_ne!(revision(&other), base);
            }
        }
    }
}
