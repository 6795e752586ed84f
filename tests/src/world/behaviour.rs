//! How an account behaves: how long things take, and what goes wrong until it is mended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long things take. They are shorter than AWS's where only their being there matters.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// A file system, from creating to available, and from deleting to gone.
    pub file_system: Duration,
    /// A mount target, from creating to available, and from deleting to gone.
    pub mount_target: Duration,
    /// An access point, likewise.
    pub access_point: Duration,
    /// A function from Pending to Active.
    pub function: Duration,
    /// An update from `InProgress` to Successful.
    pub update: Duration,
    /// A published version from Pending to Active.
    pub version: Duration,
    /// Provisioned concurrency from `IN_PROGRESS` to READY or FAILED.
    pub provisioned: Duration,
    /// Network interfaces, after their function is gone.
    pub interfaces: Duration,
    /// Bytes a second that model-sync copies.
    pub copy_rate: u64,
}

impl Default for Delays {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            file_system: s(5),
            mount_target: s(90),
            access_point: s(2),
            function: s(8),
            update: s(4),
            version: s(5),
            provisioned: s(20),
            interfaces: s(1800),
            copy_rate: 10 << 20,
        }
    }
}

/// What goes wrong in the account until the test mends it.
#[derive(Debug, Clone, Default)]
pub struct Broken {
    /// Manifests and code digests whose sandboxes fail to start.
    pub init: BTreeSet<String>,
    /// Those that fail one request in ten.
    pub serving: BTreeSet<String>,
    /// Those that are slow.
    pub slow: BTreeSet<String>,
    /// Those that give another answer than they should.
    pub answers: BTreeSet<String>,
    /// Functions whose creation ends in state Failed, and why.
    pub creation: BTreeMap<String, String>,
    /// Functions whose updates fail, and why.
    pub update: BTreeMap<String, String>,
    /// Copies fail with this message.
    pub copy: Option<String>,
    /// Nothing can be written to file systems, for this reason: a copy leaves no trace, not even of its failure.
    pub writes: Option<String>,
    /// Mount targets that are created end in state error.
    pub mount_targets: bool,
    /// Burst credits that bursting file systems have left, where that is less than a new one has.
    pub burst_credits: Option<u64>,
    /// Bytes that statements of others take of an alias's resource policy.
    pub policy_bytes: usize,
}
