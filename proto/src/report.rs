//! What a node tells of the ranges that it leads, for the placement driver.

use minicbor::{Decode, Encode};

use crate::RangeId;
use crate::range::RangeStatus;

/// What has changed since the node's last report; or everything, where that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct StoreReport {
    /// Counted from the start of the process, so that an older one is not taken for newer.
    #[n(0)]
    pub number: u64,
    /// Whether it tells of all ranges that the node leads.
    #[n(1)]
    pub full: bool,
    /// Bytes of all replicas here.
    #[n(2)]
    pub bytes_used: u64,
    /// Of the disk; 0 if it is not known.
    #[n(3)]
    pub bytes_capacity: u64,
    #[n(4)]
    pub ranges: Vec<RangeStatus>,
    /// Ranges that the node led and leads no more.
    #[n(5)]
    pub lost: Vec<RangeId>,
    /// Replicas here.
    #[n(6)]
    pub replicas: u64,
    /// Ranges that the node leads, as it has told of them: a receiver that counts others has missed something.
    #[n(7)]
    #[cbor(default)]
    pub leads: u64,
}
