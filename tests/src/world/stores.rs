//! Log groups, buckets and image registries.

use larder::cloud::ListedObject;
use larder_contract::{Digest, ModelSource, ObjectEntry};
use larder_core::Class;
use larder_core::endpoint::{CodeRef, ImageReference};
use larder_core::names::Owner;
use larder_core::observed::{self, Code, Package, Remote};

use super::account::{Account, LogGroup, Object, Refusal, refuse};
use super::efs::owned;
use super::time_of_day;

impl Account {
    pub(super) fn seen_log_group(&self, name: &str, owner: &Owner) -> Remote<observed::LogGroup> {
        self.log_groups.get(name).map_or(Remote::Absent, |group| {
            let it = observed::LogGroup { retention_days: group.retention_days };
            owned(group.owner.as_ref(), owner, Remote::Ready(it), name)
        })
    }

    pub(super) fn create_log_group(&mut self, name: &str, owner: &Owner) -> Result<(), Refusal> {
        if self.log_groups.contains_key(name) {
            return refuse(Class::Conflict, "ResourceAlreadyExistsException", format!("{name} exists"));
        }
        self.log_groups
            .insert(name.to_owned(), LogGroup { owner: Some(owner.0.clone()), retention_days: None });
        Ok(())
    }

    pub(super) fn put_retention(&mut self, name: &str, days: i32) -> Result<(), Refusal> {
        match self.log_groups.get_mut(name) {
            Some(group) => {
                group.retention_days = Some(days);
                Ok(())
            }
            None => refuse(Class::NotFound, "ResourceNotFoundException", format!("{name} does not exist")),
        }
    }

    pub(super) fn listed_objects(&self, bucket: &str, prefix: &str) -> Result<Vec<ListedObject>, Refusal> {
        let Some(objects) = self.buckets.get(bucket) else {
            return refuse(Class::NotFound, "NoSuchBucket", "the specified bucket does not exist");
        };
        Ok(objects
            .iter()
            .filter_map(|(key, Object { size, etag, modified, .. })| {
                let relative_key = key.strip_prefix(prefix)?.to_owned();
                let modified = time_of_day(*modified);
                Some(ListedObject { relative_key, size: *size, etag: etag.clone(), modified })
            })
            .collect())
    }

    pub(super) fn content(&self, bucket: &str, key: &str, limit: u64) -> Result<Vec<u8>, Refusal> {
        match self.buckets.get(bucket).and_then(|objects| objects.get(key)) {
            Some(object) if object.size > limit => {
                refuse(Class::Invalid, "", format!("it has {} bytes, more than {limit}", object.size))
            }
            Some(object) => Ok(object.text.clone().into_bytes()),
            None => refuse(Class::NotFound, "NoSuchKey", format!("s3://{bucket}/{key} does not exist")),
        }
    }

    pub(super) fn listed_files(&self, source: &ModelSource) -> Result<Vec<ObjectEntry>, Refusal> {
        match self.elsewhere.get(source) {
            Some(files) => Ok(files.clone()),
            None => refuse(Class::NotFound, "", "the server answers 404 Not Found"),
        }
    }

    pub(super) fn resolve(&self, code: &CodeRef) -> Result<Code, Refusal> {
        match code {
            CodeRef::Image(image) => {
                let digest = match &image.reference {
                    ImageReference::Tag(tag) => self.images.get(&format!("{}:{tag}", image.repository)),
                    ImageReference::Digest(digest) => self.images.values().find(|known| *known == digest),
                };
                let Some(digest) = digest else {
                    return refuse(
                        Class::NotFound,
                        "ImageNotFoundException",
                        format!("{image} does not exist"),
                    );
                };
                Ok(Code {
                    package: Package::Image { uri: image.with_digest(digest) },
                    digest: digest.clone(),
                })
            }
            CodeRef::Zip { bucket, key, version_id } => {
                let Some(Object { etag, .. }) = self.buckets.get(bucket).and_then(|objects| objects.get(key))
                else {
                    return refuse(
                        Class::NotFound,
                        "NoSuchKey",
                        format!("s3://{bucket}/{key} does not exist"),
                    );
                };
                Ok(Code {
                    package: Package::Zip {
                        bucket: bucket.clone(),
                        key: key.clone(),
                        version_id: version_id.clone(),
                    },
                    digest: Digest::of(etag.as_bytes()).to_string(),
                })
            }
        }
    }
}
