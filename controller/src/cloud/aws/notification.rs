//! What a bucket tells whom of its events.
//!
//! S3 takes the configuration only as a whole and with no precondition. So it is read, added to, read again
//! right before it is written, and read once more after: another writer in between is noticed in all but the
//! moment of the write itself, and the next pass looks again.

use aws_sdk_s3::operation::get_bucket_notification_configuration::GetBucketNotificationConfigurationOutput;
use aws_sdk_s3::types::{EventBridgeConfiguration, NotificationConfiguration};
use larder_core::Class;

use super::clients::Clients;
use super::error::Call;
use crate::cloud::Result;

impl Clients {
    pub(super) async fn sends_events(&self, bucket: &str) -> Result<bool> {
        Ok(self.notification(bucket).await?.event_bridge_configuration.is_some())
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketNotificationConfiguration.html>
    async fn notification(&self, bucket: &str) -> Result<NotificationConfiguration> {
        let call = Call::new("GetBucketNotificationConfiguration", format!("bucket {bucket}"));
        let request = self.s3.get_bucket_notification_configuration().bucket(bucket);
        Ok(whole(call.answer(request.send().await)?))
    }

    /// Adds events to Amazon `EventBridge` to what the bucket has, and nothing else.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html>
    pub(super) async fn enable_bucket_events(&self, bucket: &str) -> Result<()> {
        let there = self.notification(bucket).await?;
        if there.event_bridge_configuration.is_some() {
            return Ok(());
        }
        let call = Call::new("PutBucketNotificationConfiguration", format!("bucket {bucket}"));
        let wanted = with_event_bridge(&there);
        let changed = || {
            let message = "the bucket's notifications changed while they were added to";
            call.failed(Class::Conflict, "", message)
        };
        if self.notification(bucket).await? != there {
            return Err(changed());
        }
        let request = self.s3.put_bucket_notification_configuration().bucket(bucket);
        // What others put there was validated when they did; their queue may be gone since.
        let request = request.skip_destination_validation(true).notification_configuration(wanted.clone());
        call.done(request.send().await)?;
        if self.notification(bucket).await? == wanted { Ok(()) } else { Err(changed()) }
    }
}

/// All that is there, and events to Amazon `EventBridge`.
fn with_event_bridge(there: &NotificationConfiguration) -> NotificationConfiguration {
    let mut wanted = there.clone();
    wanted.event_bridge_configuration = Some(EventBridgeConfiguration::builder().build());
    wanted
}

fn whole(answer: GetBucketNotificationConfigurationOutput) -> NotificationConfiguration {
    NotificationConfiguration::builder()
        .set_topic_configurations(answer.topic_configurations)
        .set_queue_configurations(answer.queue_configurations)
        .set_lambda_function_configurations(answer.lambda_function_configurations)
        .set_event_bridge_configuration(answer.event_bridge_configuration)
        .build()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{Event, LambdaFunctionConfiguration, QueueConfiguration, TopicConfiguration};

    use super::*;

    #[test]
    fn what_others_put_there_is_read_and_written_back() {
        let event = Event::S3ObjectCreated;
        let topic =
            TopicConfiguration::builder().topic_arn("arn:topic").events(event.clone()).build().unwrap();
        let queue =
            QueueConfiguration::builder().queue_arn("arn:queue").events(event.clone()).build().unwrap();
        let function = LambdaFunctionConfiguration::builder().lambda_function_arn("arn:f").events(event);
        let answer = GetBucketNotificationConfigurationOutput::builder()
            .topic_configurations(topic.clone())
            .queue_configurations(queue.clone())
            .lambda_function_configurations(function.clone().build().unwrap())
            .build();
        let wanted = with_event_bridge(&whole(answer));
        assert_eq!(wanted.topic_configurations(), [topic]);
        assert_eq!(wanted.queue_configurations(), [queue]);
        assert_eq!(wanted.lambda_function_configurations(), [function.build().unwrap()]);
        assert!(wanted.event_bridge_configuration().is_some());
    }
}
