//! One clock for all processes of a host: the time since it was booted, plus an offset on which they agree.
//!
//! The time since the boot is the same to every process, and nobody steps it. The offset is each process's own wall clock's at
//! first; the greatest that anyone has proposed wins, and once every member has said the same one, no greater can come: all
//! proposals were made before. So then they share one clock, exactly. A process writes its offset down before it tells it,
//! for it may not propose another in the same boot.

use std::collections::BTreeMap;

use proto::clock::ClockDomain;
use proto::{NodeId, Timestamp};

/// See the module.
#[derive(Clone, Debug)]
pub struct HostTime {
    boot: String,
    /// Microseconds from the boot to the Unix epoch.
    offset: u64,
    others: BTreeMap<NodeId, Option<u64>>,
}

impl HostTime {
    /// `offset` is what was written down in this boot, or else a proposal that has been written down now.
    pub fn new(boot: String, offset: u64, others: impl IntoIterator<Item = NodeId>) -> HostTime {
        HostTime { boot, offset, others: others.into_iter().map(|node| (node, None)).collect() }
    }

    pub fn boot(&self) -> &str {
        &self.boot
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What another node says of its clock. Returns a greater offset than this node's, to be written down and then [adopted](Self::adopt).
    pub fn hear(&mut self, from: NodeId, domain: &ClockDomain) -> Option<u64> {
        let theirs = match domain {
            ClockDomain::Host { boot, offset } if *boot == self.boot => Some(*offset),
            _ => None,
        };
        *self.others.get_mut(&from)? = theirs;
        theirs.filter(|theirs| *theirs > self.offset)
    }

    pub fn adopt(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    /// Whether all members keep this offset, so that the clock is without error among them.
    pub fn is_agreed(&self) -> bool {
        self.others.values().all(|theirs| *theirs == Some(self.offset))
    }

    /// The wall clock at a time since the boot.
    pub fn wall(&self, since_boot_micros: u64) -> Timestamp {
        Timestamp::from_micros(self.offset.saturating_add(since_boot_micros))
    }

    pub fn domain(&self) -> ClockDomain {
        ClockDomain::Host { boot: self.boot.clone(), offset: self.offset }
    }
}
