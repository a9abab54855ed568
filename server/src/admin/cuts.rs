//! Where ranges are split so that wishes can be kept: a range goes to a place as a whole, so a part of the key space with rules of its
//! own begins and ends with ranges of its own.

use std::collections::BTreeMap;

use proto::{Key, RangeDescriptor};
use range_split::placement::{Picture, Range};

use crate::env::SplitWish;
use crate::kv::wishes::Wish;

/// The splits that are due, one a range and so many in all. A range that is being changed, or that nobody leads, waits.
pub fn cuts(picture: &Picture, wishes: &[Wish], max: usize) -> Vec<SplitWish> {
    let by_start: BTreeMap<Key, &Range> =
        picture.ranges.values().map(|range| (range.descriptor.start.clone(), range)).collect();
    let mut found: BTreeMap<&Key, SplitWish> = BTreeMap::new();
    for wish in wishes {
        for (key, which) in [(&wish.span.start, "begin"), (&wish.span.end, "end")] {
            let Some((_, range)) = by_start.range::<Key, _>(..=key).next_back() else { continue };
            let descriptor: &RangeDescriptor = &range.descriptor;
            let is_inside = descriptor.start < *key && *key < descriptor.end;
            let is_free = range.leader.is_some() && !range.in_flight && !descriptor.is_joint();
            if is_inside && is_free && found.len() < max {
                let reason = format!("{} has placement rules of its own, which {which} here", wish.owner);
                found.entry(&descriptor.start).or_insert_with(|| SplitWish {
                    range: descriptor.clone(),
                    key: key.clone(),
                    reason,
                });
            }
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proto::{Epoch, NodeId, PlacementRules, RangeId, ReplicaDescriptor, ReplicaId, Span};
    use range_split::placement::Settings;
    use range_split::policy::SplitLimits;

    use super::super::picture::{Sources, picture};
    use super::*;
    use crate::kv::reports::Reports;
    use proto::range::RangeStatus;
    use proto::report::StoreReport;

    fn status(range: u64, start: &str, end: &str) -> RangeStatus {
        let replica = ReplicaDescriptor::voter(NodeId(1), ReplicaId(1));
        let descriptor = RangeDescriptor::new(RangeId(range), Span::new(start, end), Epoch(1), vec![replica]);
        let leader = NodeId(1);
        RangeStatus {
            descriptor,
            replicas: Vec::new(),
            last_index: 0,
            leader,
            bytes: 0,
            load: 0,
            note: None,
            frozen: None,
            pinned: false,
        }
    }

    fn wish(start: &str, end: &str, rules: &str) -> Wish {
        Wish { span: Span::new(start, end), rules: rules.parse().unwrap(), owner: format!("table \"{start}\"") }
    }

    /// The rules of each range, and where they are cut.
    fn look(ranges: Vec<RangeStatus>, wishes: &[Wish]) -> (Vec<String>, Vec<String>) {
        let mut reports = Reports::default();
        let _ = reports.hear(
            Duration::ZERO,
            NodeId(1),
            StoreReport { number: 1, full: true, ranges, ..StoreReport::default() },
        );
        let member = proto::NodeRecord::founding(proto::NodeDescriptor {
            id: NodeId(1),
            address: String::new(),
            boot_id: String::new(),
            locality: proto::Locality::default(),
        });
        let sources = Sources {
            now: Duration::ZERO,
            since: Duration::ZERO,
            members: &[member],
            reports: &reports,
            descriptors: &[],
            in_flight: &BTreeSet::new(),
            wishes,
            settings: &Settings::default(),
            limits: &SplitLimits::default(),
        };
        let picture = picture(&sources);
        let rules = picture.ranges.values().map(|r| PlacementRules::to_string(&r.rules)).collect();
        let cuts = cuts(&picture, wishes, 10);
        (rules, cuts.iter().map(|cut| format!("{} at {}: {}", cut.range.id, cut.key, cut.reason)).collect())
    }

    #[test]
    fn a_range_with_others_in_it_is_cut_before_it_keeps_to_a_wish() {
        let wishes = [wish("d", "e", "replicas = 5"), wish("e", "f", "replicas = 1")];
        let (rules, cuts) = look(vec![status(1, "a", "z")], &wishes);
        assert_eq!(rules, [""]);
        assert_eq!(cuts, ["r1 at d: table \"d\" has placement rules of its own, which begin here"]);
        let (rules, cuts) = look(vec![status(1, "a", "d"), status(2, "d", "dd"), status(3, "dd", "z")], &wishes);
        assert_eq!(rules, ["", "replicas = 5", ""]);
        assert_eq!(cuts, ["r3 at e: table \"d\" has placement rules of its own, which end here"]);
        let whole = vec![status(2, "d", "dd"), status(3, "dd", "e"), status(4, "e", "f"), status(5, "f", "z")];
        let (rules, cuts) = look(whole, &wishes);
        assert_eq!(rules, ["replicas = 5", "replicas = 5", "replicas = 1", ""]);
        assert!(cuts.is_empty());
    }
}
