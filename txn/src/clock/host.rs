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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_offset_wins_and_is_free_of_error_once_all_keep_it() {
        let boot = || "a boot".to_string();
        let ids = [NodeId(1), NodeId(2), NodeId(3)];
        let others = |me: NodeId| ids.into_iter().filter(move |id| *id != me);
        let mut nodes: Vec<HostTime> =
            ids.iter().zip([10, 30, 20]).map(|(me, offset)| HostTime::new(boot(), offset, others(*me))).collect();
        for round in 0..2 {
            for from in 0..3 {
                for to in (0..3).filter(|to| *to != from) {
                    let domain = nodes[from].domain();
                    if let Some(greater) = nodes[to].hear(ids[from], &domain) {
                        nodes[to].adopt(greater);
                    }
                }
            }
            assert_eq!(nodes.iter().all(HostTime::is_agreed), round == 1);
        }
        assert!(nodes.iter().all(|node| node.wall(5) == Timestamp::from_micros(35)));
        nodes[0].hear(NodeId(2), &ClockDomain::Host { boot: "another".into(), offset: 99 });
        assert!(!nodes[0].is_agreed(), "a node of another host shares nothing");
        assert_eq!(nodes[0].offset(), 30);
    }
}
