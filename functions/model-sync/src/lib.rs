//! Copies models from S3 to the file system that Larder's functions share: verified, resumable, atomic.
//!
//! One straight line, read it in [`copy`]:
//!
//! ```text
//! list ──▶ revision ──▶ begin (lock, journal) ──▶ share ──▶ plan ──▶ fetch parts ──▶ judge files ──▶ (unpack) ──▶ publish
//! ```
//!
//! - [`source`]: what is asked of a source, as a narrow trait; [`s3`] and [`remote`] are the real ones, and
//!   [`anywhere`] opens either.
//! - [`listing`]: a prefix as the files of a model, or the reason why it cannot be one.
//! - `share`: files that another revision has are linked.
//! - [`plan`]: pure; which byte ranges are still to be fetched.
//! - [`transfer`]: those ranges, many at once, into files at their offsets.
//! - [`checksum`]: the algorithms; [`expected`]: what the source says of an object's bytes, whole or in parts.
//! - [`image`]: what was fetched are the layers of a container image: the model's files are taken out of them.
//! - [`judge`]: does a file on disk have the content that the source says?
//! - [`verify`]: later, without the source: is it still what was copied?
//! - [`store`]: staging, lock, journal, heartbeat, and the atomic step to `revisions/`.
//! - [`status`]: how far a request is; [`inventory`]: what there is. Both read the file system only.
//! - [`collect`]: what is not needed any more goes; [`reverify`]: what is there is read again, bit by bit.
//! - [`handler`]: a request of the controller, answered; [`lambda`] brings them, [`command`] is the command
//!   line.
//! - [`retry`]: how often and when again.
//!
//! Deliberately absent: deciding what is not needed. The controller does.

pub mod anywhere;
pub mod checksum;
pub mod collect;
pub mod command;
pub mod copy;
mod crc;
pub mod expected;
pub mod handler;
pub mod image;
pub mod inventory;
mod judge;
pub mod lambda;
pub mod listing;
pub mod plan;
pub mod remote;
pub mod retry;
pub mod reverify;
pub mod s3;
mod share;
pub mod source;
pub mod status;
pub mod store;
pub mod transfer;
pub mod verify;
