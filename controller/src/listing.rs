//! Lists a model's source: every page, whether all of it can be files of a folder, when it last changed, and
//! what its marker says.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

use jiff::Timestamp;
use larder_contract::key::no_file_is_a_folder;
use larder_contract::revision::{MAX_OBJECTS, is_folder_marker, revision};
use larder_contract::source::S3Prefix;
use larder_contract::{ModelSource, ObjectEntry};
use larder_core::observed::Source;
use larder_crds::InferenceEndpointStatus;
use serde::Deserialize;

use crate::cloud::{Cloud, CloudError, ListedObject};

/// The most bytes of a marker that lists files.
const MAX_MARKER: u64 = 32 << 20;

/// The most objects that a listing may hold beside its files.
const MAX_LISTED: usize = 2 * MAX_OBJECTS;

/// Lists a model's source at `now`: all of it, and whether all of it can be files of a folder.
///
/// # Errors
/// When it, or its marker, cannot be had. What breaks a rule is an answer: [`Source::Unusable`].
pub async fn source<C: Cloud>(
    cloud: &C,
    source: &ModelSource,
    marker: Option<&str>,
    now: Timestamp,
) -> Result<Source, CloudError> {
    match source {
        ModelSource::S3(prefix) => objects(cloud, prefix, marker, now).await,
        ModelSource::Oci(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => {
            Ok(found(&Box::pin(cloud.files(source)).await?, now, now))
        }
    }
}

async fn objects<C: Cloud>(
    cloud: &C,
    from: &S3Prefix,
    marker: Option<&str>,
    now: Timestamp,
) -> Result<Source, CloudError> {
    let mut listed: Vec<ListedObject> = Vec::new();
    let mut next = None;
    loop {
        let page = Box::pin(cloud.objects(&from.bucket, &from.prefix, next)).await?;
        listed.extend(page.items);
        if listed.len() > MAX_LISTED {
            break;
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    listed.retain(|object| !is_folder_marker(&object.relative_key, object.size));
    if listed.len() > MAX_OBJECTS {
        return Ok(Source::Unusable(format!(
            "there are more than {MAX_OBJECTS} objects under the prefix: write a longer one"
        )));
    }
    if listed.is_empty() {
        return Ok(Source::Empty);
    }
    if let Some(marker) = marker
        && let Some(why) = unmarked(cloud, from, marker, &listed).await?
    {
        return Ok(Source::Unmarked(why));
    }
    let changed = listed.iter().map(|object| object.modified).max().unwrap_or(now);
    let objects = listed.into_iter().map(ObjectEntry::try_from).collect::<Result<Vec<_>, _>>();
    let objects = match objects {
        Ok(objects) => objects,
        Err(unsafe_path) => return Ok(Source::Unusable(unsafe_path.to_string())),
    };
    Ok(found(&objects, changed, now))
}

/// What these files come to.
fn found(objects: &[ObjectEntry], changed: Timestamp, now: Timestamp) -> Source {
    if objects.is_empty() {
        return Source::Empty;
    }
    if let Err(collision) = no_file_is_a_folder(objects.iter().map(|o| o.path.as_str())) {
        return Source::Unusable(collision.to_string());
    }
    Source::Found {
        revision: revision(objects),
        bytes: objects.iter().map(|o| o.size).sum(),
        files: objects.len() as u64,
        changed,
        listed: now,
    }
}

/// The source with the time of its last change corrected by what was told of it before: S3's times do not
/// show a deletion, nor an object in parts whose upload began long ago. What is listed for the first time
/// has only them.
#[must_use]
pub fn dated(found: Source, model: &str, previous: &InferenceEndpointStatus, now: Timestamp) -> Source {
    let Source::Found { revision, bytes, files, changed: newest, listed } = found else { return found };
    let before = previous.models.iter().find(|before| before.name == model);
    let changed = match before {
        None => newest,
        Some(before) if before.desired_digest.as_ref() == Some(&revision.to_string()) => {
            before.changed_time.as_ref().and_then(|at| at.parse().ok()).unwrap_or(newest)
        }
        Some(_) => now,
    };
    // Clocks differ, and a source must not wait for S3's to be overtaken.
    Source::Found { revision, bytes, files, changed: changed.min(now), listed }
}

/// What a marker named `*.json` may hold. Other fields are the uploader's own.
#[derive(Deserialize)]
struct Marker {
    files: Option<Vec<MarkedFile>>,
}

#[derive(Deserialize)]
struct MarkedFile {
    path: String,
    size: u64,
}

/// Why the source's marker does not vouch for it; none when it does.
async fn unmarked<C: Cloud>(
    cloud: &C,
    from: &S3Prefix,
    marker: &str,
    listed: &[ListedObject],
) -> Result<Option<String>, CloudError> {
    let Some(mark) = listed.iter().find(|object| object.relative_key == marker) else {
        return Ok(Some(format!("there is no {marker} yet: upload it last (source.s3.marker)")));
    };
    if let Some(newer) = listed.iter().find(|object| object.modified > mark.modified) {
        return Ok(Some(format!(
            "{} is newer than {marker}: upload {marker} again when all is there",
            newer.relative_key
        )));
    }
    if Path::new(marker).extension() != Some(OsStr::new("json")) {
        return Ok(None);
    }
    let key = format!("{}{marker}", from.prefix);
    let text = Box::pin(cloud.object(&from.bucket, &key, MAX_MARKER)).await?;
    Ok(match serde_json::from_slice::<Marker>(&text) {
        Err(error) => Some(format!("{marker} cannot be read: {error}")),
        Ok(Marker { files }) => {
            let sizes: HashMap<&str, u64> =
                listed.iter().map(|object| (object.relative_key.as_str(), object.size)).collect();
            files.into_iter().flatten().find_map(|MarkedFile { path, size }| match sizes.get(path.as_str()) {
                None => Some(format!("{path} is not there, and {marker} lists it")),
                Some(is) if *is != size => {
                    Some(format!("{path} has {is} bytes, and {marker} lists it with {size}"))
                }
                Some(_) => None,
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use larder_contract::Digest;
    use larder_crds::status::ModelStatus;

    use super::*;

    #[test]
    fn a_change_is_dated_by_s3_at_first_sight_and_then_by_what_was_seen() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let told = |digest: Option<&[u8]>, changed: Option<i64>| ModelStatus {
            name: "ocr".to_owned(),
            desired_digest: digest.map(|bytes| Digest::of(bytes).to_string()),
            changed_time: changed.map(|second| at(second).to_string()),
            ..ModelStatus::default()
        };
        for (models, newest, want) in [
            (vec![], 50, 50),
            // S3's clock is ahead.
            (vec![], 500, 100),
            (vec![told(Some(b"other"), Some(20))], 50, 100),
            // An object in parts, or one that was missing.
            (vec![told(None, None)], 50, 100),
            (vec![told(Some(b"this"), Some(70))], 50, 70),
            (vec![told(Some(b"this"), Some(700))], 50, 100),
            // Told by an older controller.
            (vec![told(Some(b"this"), None)], 50, 50),
            (vec![ModelStatus { name: "another".to_owned(), ..told(Some(b"other"), Some(20)) }], 50, 50),
        ] {
            let previous = InferenceEndpointStatus { models, ..InferenceEndpointStatus::default() };
            let found = Source::Found {
                revision: Digest::of(b"this"),
                bytes: 1,
                files: 1,
                changed: at(newest),
                listed: at(100),
            };
            let Source::Found { changed, .. } = dated(found, "ocr", &previous, at(100)) else {
                unreachable!()
            };
            assert_eq!(changed, at(want), "{:?}", previous.models);
        }
    }
}
