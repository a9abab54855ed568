//! The real-time order of operations, in few edges.

use std::collections::{BTreeMap, BTreeSet};

/// Pairs such that one operation ended before another began exactly if the pairs lead from the one to the other.
///
/// Each operation is given by the event with which it began and the one with which it ended, if it did; no two events are the same. There
/// are at most about as many pairs as operations times the number of those that overlap: of what has ended, only what no other ended
/// operation follows needs a pair.
pub fn pairs(operations: &[(u64, Option<u64>)]) -> Vec<(usize, usize)> {
    let mut events: BTreeMap<u64, (usize, bool)> = BTreeMap::new();
    for (number, (began, ended)) in operations.iter().enumerate() {
        events.insert(*began, (number, true));
        if let Some(ended) = ended {
            events.insert(*ended, (number, false));
        }
    }
    let mut frontier: BTreeSet<usize> = BTreeSet::new();
    let mut followed: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut pairs = Vec::new();
    for (number, begins) in events.into_values() {
        if begins {
            pairs.extend(frontier.iter().map(|before| (*before, number)));
            if operations[number].1.is_some() {
                followed.insert(number, frontier.clone());
            }
        } else {
            for before in followed.remove(&number).unwrap_or_default() {
                frontier.remove(&before);
            }
            frontier.insert(number);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;

    #[test]
    fn pairs_lead_from_whatever_ended_to_whatever_began_later() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed, "frontier");
            let mut events: Vec<u64> = (0..40).collect();
            for n in 0..events.len() {
                events.swap(n, rng.below(40) as usize);
            }
            let operations: Vec<(u64, Option<u64>)> = events
                .chunks(2)
                .map(|pair| (pair[0].min(pair[1]), Some(pair[0].max(pair[1])).filter(|_| !rng.one_in(5))))
                .collect();
            let mut reaches = vec![vec![false; 20]; 20];
            for (a, b) in pairs(&operations) {
                reaches[a][b] = true;
            }
            for k in 0..20 {
                for a in 0..20 {
                    for b in 0..20 {
                        reaches[a][b] |= reaches[a][k] && reaches[k][b];
                    }
                }
            }
            for a in 0..20 {
                for b in 0..20 {
                    let before = operations[a].1.is_some_and(|ended| ended < operations[b].0);
                    assert_eq!(reaches[a][b], before, "seed {seed}: {operations:?}");
                }
            }
        }
    }
}
