//! A prefix as the files of a model.
//!
//! What follows the prefix in a key is the file's path. "Directory" objects, which some tools make, are not
//! files: one named exactly as the prefix is ignored, and so are empty ones whose key ends in `/`. One that
//! ends in `/` and has content cannot be a file and is refused, as is every other unsafe key.

use std::time::Duration;

use larder_contract::Digest;
use larder_contract::key::{FileAndFolder, no_file_is_a_folder};
use larder_contract::revision::{
    MAX_OBJECTS, ObjectEntry, RelativePath, UnsafePath, is_folder_marker, revision,
};

use larder_sources::Image;

use crate::retry::{Budget, retrying};
use crate::source::{Listed, Source, SourceError};

/// S3 gives up to 1,000 objects a page, but may give fewer; no listing that we accept needs more pages.
const MAX_PAGES: usize = 10 * MAX_OBJECTS / 1_000;

/// The files of a model, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// At least one, sorted, each path once.
    pub objects: Vec<ObjectEntry>,
    /// The digest over them, or the name of another copy of that.
    pub revision: Digest,
    /// What is to be taken out of them, where they are an image's layers and the model is a folder in it.
    pub image: Option<Image>,
}

impl Listing {
    /// The length of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }
}

/// A prefix that cannot be listed, or is not a model.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// No files.
    #[error("{0} holds no files; put the model's files there or correct the address")]
    Empty(String),
    /// Too many files.
    #[error("{0} holds more than {MAX_OBJECTS} files; a model is one folder: name a smaller one")]
    TooMany(String),
    /// A key that would leave the folder.
    #[error("{place}: {source}")]
    Unsafe {
        /// Where it was found.
        place: String,
        /// What is wrong with it.
        source: UnsafePath,
    },
    /// Two keys that cannot both be files.
    #[error("{place}: {source}")]
    FileAndFolder {
        /// Where they were found.
        place: String,
        /// Which two.
        source: FileAndFolder,
    },
    /// The store did not list.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store did not answer.
    #[error("{place}: no answer for {}s (a VPC without NAT needs an S3 gateway endpoint)", after.as_secs())]
    Silent {
        /// What was listed.
        place: String,
        /// For how long.
        after: Duration,
    },
}

impl ListingError {
    const fn is_passing(&self) -> bool {
        match self {
            Self::Source(error) => error.class.is_passing(),
            Self::Silent { .. } => true,
            Self::Empty(_) | Self::TooMany(_) | Self::Unsafe { .. } | Self::FileAndFolder { .. } => false,
        }
    }
}

/// Lists all pages of a source, each within `stall`.
///
/// # Errors
/// See [`ListingError`]; an empty prefix is one.
pub async fn list(source: &impl Source, budget: &Budget, stall: Duration) -> Result<Listing, ListingError> {
    let place = source.place();
    let mut listed = Vec::new();
    let mut token = None;
    for _ in 0..MAX_PAGES {
        let page = retrying(budget, ListingError::is_passing, || async {
            let page = tokio::time::timeout(stall, source.list(token.clone())).await;
            Ok(page.map_err(|_| ListingError::Silent { place: place.clone(), after: stall })??)
        })
        .await?;
        listed.extend(page.objects);
        if listed.len() > MAX_OBJECTS {
            break;
        }
        token = page.next;
        if token.is_none() {
            let listing = as_model(&place, source.prefix(), listed)?;
            return Ok(Listing { image: page.image, ..listing });
        }
    }
    Err(ListingError::TooMany(place))
}

/// The pure rest of [`list`].
///
/// # Errors
/// See [`ListingError`].
pub fn as_model(place: &str, prefix: &str, listed: Vec<Listed>) -> Result<Listing, ListingError> {
    let mut objects = Vec::with_capacity(listed.len());
    for Listed { key, size, etag } in listed {
        // A store that answers with a key outside of the prefix is refused like any unsafe key.
        let Some(rest) = key.strip_prefix(prefix) else {
            let why = "it is outside of the prefix that was listed";
            return Err(ListingError::Unsafe { place: place.to_owned(), source: UnsafePath { key, why } });
        };
        if is_folder_marker(rest, size) {
            continue;
        }
        let path = RelativePath::parse(rest).map_err(|source| ListingError::Unsafe {
            place: place.to_owned(),
            source: UnsafePath { key, ..source },
        })?;
        objects.push(ObjectEntry { path, size, etag });
    }
    objects.sort();
    objects.dedup_by(|a, b| a.path == b.path);
    if objects.is_empty() {
        return Err(ListingError::Empty(place.to_owned()));
    }
    no_file_is_a_folder(objects.iter().map(|object| object.path.as_str()))
        .map_err(|source| ListingError::FileAndFolder { place: place.to_owned(), source })?;
    let revision = revision(&objects);
    Ok(Listing { objects, revision, image: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[(&str, u64)]) -> Result<Vec<String>, String> {
        let listed = keys
            .iter()
            .map(|(key, size)| Listed { key: (*key).to_owned(), size: *size, etag: "e".to_owned() })
            .collect();
        as_model("s3://b/m/", "m/", listed)
            .map(|l| l.objects.iter().map(|o| o.path.to_string()).collect())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn what_follows_the_prefix_is_the_path() {
        assert_eq!(check(&[("m/b", 1), ("m/a/c", 0)]), Ok(vec!["a/c".to_owned(), "b".to_owned()]));
        assert_eq!(check(&[("m/", 0), ("m/a/", 0), ("m/a/c", 2)]), Ok(vec!["a/c".to_owned()]));
        assert_eq!(check(&[("m/", 7), ("m/b", 1)]), Ok(vec!["b".to_owned()]));
    }

    #[test]
    fn what_is_no_model_is_refused_by_name() {
        let empty = "s3://b/m/ holds no files; put the model's files there or correct the address";
        assert_eq!(check(&[]), Err(empty.to_owned()));
        assert_eq!(check(&[("m/", 0), ("m/a/", 0)]), Err(empty.to_owned()));
        for (keys, named) in [
            (
                &[("m/../x", 1)][..],
                "\"m/../x\" cannot be a file in the model's folder: it has a . or .. segment",
            ),
            (&[("m//x", 1)], "it is absolute"),
            (&[("m/a/", 1)], "it ends in /"),
            (&[("elsewhere", 1)], "\"elsewhere\""),
            (&[("m/a", 1), ("m/a/b", 1)], "\"a\" is also the folder of \"a/b\""),
            (&[("m/a", 1), ("m/a.b", 1), ("m/a/b/c", 1)], "\"a\" is also the folder of \"a/b/c\""),
        ] {
            let refused = check(keys).unwrap_err();
            assert!(refused.contains(named) && refused.starts_with("s3://b/m/: "), "{refused}");
        }
    }
}
