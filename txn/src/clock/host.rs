//! One clock for all processes of a host: the time since it was booted, plus an offset on which they agree.
//!
//! The time since the boot is the same to every process, and nobody steps it. The offset is each process's own wall clock's at
//! first; the greatest that anyone has proposed wins, and once every member has said the same one, no greater can come: all
//! proposals were made before. So then they share one clock, exactly. A process writes its offset down before it tells it,
//! for it may not propose another in the same boot.
//!
//! Members come and go. A process that joins proposes nothing: it begins with the offset of the member that let it in, so that still
//! none can come that is greater than what all had agreed on.

use std::collections::BTreeMap;

use proto::clock::ClockDomain;
use proto::{NodeId, Timestamp};

use super::Voice;

/// See the module.
#[derive(Clone, Debug)]
pub struct HostTime {
    boot: String,
    /// Microseconds from the boot to the Unix epoch.
    offset: u64,
    others: BTreeMap<NodeId, (Voice, Option<u64>)>,
}

impl HostTime {
    /// `offset` is what was written down in this boot, or else a proposal that has been written down now.
    pub fn new(boot: String, offset: u64, others: impl IntoIterator<Item = NodeId>) -> HostTime {
        HostTime { boot, offset, others: others.into_iter().map(|node| (node, (Voice::Counted, None))).collect() }
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
        self.others.get_mut(&from)?.1 = theirs;
        theirs.filter(|theirs| *theirs > self.offset)
    }

    /// From now on these are the other members. What is known of those that stay is kept.
    pub fn set_others(&mut self, others: &BTreeMap<NodeId, Voice>) {
        let known = |node: &NodeId| self.others.get(node).and_then(|(_, offset)| *offset);
        self.others = others.iter().map(|(node, voice)| (*node, (*voice, known(node)))).collect();
    }

    pub fn adopt(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    /// Whether all members that count keep this offset, so that the clock is without error among them.
    pub fn is_agreed(&self) -> bool {
        let mut counted = self.others.values().filter(|(voice, _)| *voice == Voice::Counted);
        counted.all(|(_, theirs)| *theirs == Some(self.offset))
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
    #[test]
    fn one_that_joins_with_the_agreed_offset_disturbs_nobody() {
        let (ann, bob, joiner) = (NodeId(1), NodeId(2), NodeId(3));
        let host = |offset| ClockDomain::Host { boot: "a boot".into(), offset };
        let mut time = HostTime::new("a boot".into(), 30, [bob]);
        time.hear(bob, &host(30));
        assert!(time.is_agreed());
        time.set_others(&BTreeMap::from([(bob, Voice::Counted), (joiner, Voice::Heard)]));
        assert!(time.is_agreed(), "it does not count before it begins");
        assert_eq!(time.hear(joiner, &host(30)), None);
        time.set_others(&BTreeMap::from([(bob, Voice::Counted), (joiner, Voice::Counted)]));
        assert!(time.is_agreed(), "what it said before it counted is remembered");
        let mut theirs = HostTime::new("a boot".into(), 30, [ann, bob]);
        theirs.hear(ann, &host(30));
        assert!(!theirs.is_agreed(), "it has not heard everybody");
        theirs.set_others(&BTreeMap::from([(ann, Voice::Counted)]));
        assert!(theirs.is_agreed(), "one that is gone is not waited for");
    }
}
