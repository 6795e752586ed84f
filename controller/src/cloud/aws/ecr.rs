//! Container images.

use aws_config::Region;
use aws_sdk_ecr::types::ImageIdentifier;
use larder_core::Class;
use larder_core::endpoint::{ImageRef, ImageReference};
use larder_core::observed::{Code, Package};

use super::clients::Clients;
use super::error::Call;
use crate::cloud::Result;

impl Clients {
    /// The image that a tag picks now, or one by digest if it is there.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>
    pub(super) async fn image(&self, image: &ImageRef) -> Result<Code> {
        let call = Call::new("DescribeImages", format!("image {image}"));
        let id = match &image.reference {
            ImageReference::Tag(tag) => ImageIdentifier::builder().image_tag(tag),
            ImageReference::Digest(digest) => ImageIdentifier::builder().image_digest(digest),
        };
        let config = aws_sdk_ecr::config::Builder::from(&self.config)
            .region(Region::new(image.region.clone()))
            .build();
        let request = aws_sdk_ecr::Client::from_conf(config)
            .describe_images()
            .registry_id(&image.account)
            .repository_name(&image.repository)
            .image_ids(id.build());
        let answer = call.answer(request.send().await)?;
        let found = answer
            .image_details
            .and_then(|details| details.into_iter().next())
            .ok_or_else(|| call.failed(Class::NotFound, "ImageNotFoundException", "not in the repository"))?;
        if found.image_manifest_media_type.as_deref().is_some_and(is_index) {
            return Err(call.failed(
                Class::Invalid,
                "",
                "it is an index of several images and Lambda takes one: push the image of the function's \
                 architecture alone, or name it by its own digest",
            ));
        }
        let digest = found.image_digest.ok_or_else(|| call.lacks("digest"))?;
        Ok(Code { package: Package::Image { uri: image.with_digest(&digest) }, digest })
    }
}

fn is_index(media_type: &str) -> bool {
    media_type == "application/vnd.oci.image.index.v1+json"
        || media_type == "application/vnd.docker.distribution.manifest.list.v2+json"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_told_from_an_image() {
        for (media_type, is_one) in [
            ("application/vnd.oci.image.index.v1+json", true),
            ("application/vnd.docker.distribution.manifest.list.v2+json", true),
            ("application/vnd.oci.image.manifest.v1+json", false),
            ("application/vnd.docker.distribution.manifest.v2+json", false),
        ] {
            assert_eq!(is_index(media_type), is_one, "{media_type}");
        }
    }
}
