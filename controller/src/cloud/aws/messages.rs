//! The queue of S3's events, read.

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;

use super::AwsCloud;
use super::error::Call;
use crate::cloud::Result;

/// The longest that a read waits for a message, seconds: the most that SQS allows.
const LONG_POLL: i32 = 20;

/// The most messages of a read: the most that SQS allows.
const AT_ONCE: i32 = 10;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub body: String,
    receipt: String,
}

impl AwsCloud {
    /// Waits for messages, up to 20 s.
    ///
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn receive(&self, queue_url: &str) -> Result<Vec<Message>> {
        let call = Call::new("ReceiveMessage", format!("queue {queue_url}"));
        let request = self.0.poll.receive_message().queue_url(queue_url);
        let request = request.wait_time_seconds(LONG_POLL).max_number_of_messages(AT_ONCE);
        let messages = call.answer(request.send().await)?.messages.unwrap_or_default();
        let message = |message: aws_sdk_sqs::types::Message| {
            Some(Message { body: message.body.unwrap_or_default(), receipt: message.receipt_handle? })
        };
        Ok(messages.into_iter().filter_map(message).collect())
    }

    /// Takes messages off the queue. One that stays comes again, to no harm.
    ///
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html>
    ///
    /// # Errors
    /// When the queue cannot be written to.
    pub async fn take_off(&self, queue_url: &str, messages: &[Message]) -> Result<()> {
        let call = Call::new("DeleteMessageBatch", format!("queue {queue_url}"));
        let mut request = self.0.sqs.delete_message_batch().queue_url(queue_url);
        for (n, message) in messages.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder();
            let entry = entry.id(n.to_string()).receipt_handle(&message.receipt).build();
            request = request.entries(call.built(entry)?);
        }
        call.done(request.send().await)
    }
}
