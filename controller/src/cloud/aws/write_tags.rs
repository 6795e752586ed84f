//! The owner tag, on what is taken over.

use aws_sdk_eventbridge::types::Tag;
use larder_core::names::{OWNER_TAG, Owner};
use larder_core::step::Tagged;

use super::clients::Clients;
use super::error::Call;
use super::tags;
use crate::cloud::Result;

impl Clients {
    /// Sets the owner tag beside the other tags of a resource.
    pub(super) async fn tag(&self, tagged: Tagged, id: &str, resource: &str, owner: &Owner) -> Result<()> {
        let call = Call::new("TagResource", resource.to_owned());
        match tagged {
            Tagged::FileSystem | Tagged::AccessPoint => {
                let tag = aws_sdk_efs::types::Tag::builder().key(OWNER_TAG).value(&owner.0);
                let request = self.efs.tag_resource().resource_id(id).tags(call.built(tag.build())?);
                call.done(request.send().await)
            }
            Tagged::Function => {
                let request = self.lambda.tag_resource().resource(id).set_tags(Some(tags(owner).into()));
                call.done(request.send().await)
            }
            Tagged::LogGroup => {
                let request = self.logs.tag_resource().resource_arn(id).set_tags(Some(tags(owner).into()));
                call.done(request.send().await)
            }
            Tagged::Rule => {
                let tag = call.built(Tag::builder().key(OWNER_TAG).value(&owner.0).build())?;
                call.done(self.eventbridge.tag_resource().resource_arn(id).tags(tag).send().await)
            }
        }
    }
}
