//! What a node remembers of statements: how a text was parsed, and the plan of a statement with given parameter types.
//!
//! Shared by all sessions of the node. Both caches drop what was used longest ago. A plan names the tables that it was
//! made for; the session compares them with the catalog before it uses the plan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use proto::DataType;

use super::limits::Limits;
use super::parser::Statement;
use super::plan::Planned;

type PlanKey = (String, Vec<Option<DataType>>);

/// The caches of a node.
pub struct PlanCache {
    text_bytes_max: usize,
    texts: Mutex<Lru<String, Arc<[Statement]>>>,
    plans: Mutex<Lru<PlanKey, Arc<Planned>>>,
}

impl PlanCache {
    pub fn new(limits: &Limits) -> PlanCache {
        PlanCache {
            text_bytes_max: limits.plan_cache_text_bytes_max,
            texts: Mutex::new(Lru::new(limits.plan_cache_entries_max)),
            plans: Mutex::new(Lru::new(limits.plan_cache_entries_max)),
        }
    }

    pub fn parsed(&self, text: &str) -> Option<Arc<[Statement]>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).get(text)
    }

    pub fn remember_parsed(&self, text: &str, statements: Arc<[Statement]>) {
        if text.len() <= self.text_bytes_max {
            let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
            texts.insert(text.to_string(), statements);
        }
    }

    pub fn planned(&self, text: &str, hints: &[Option<DataType>]) -> Option<Arc<Planned>> {
        let key = (text.to_string(), hints.to_vec());
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
    }

    pub fn remember_planned(&self, text: &str, hints: &[Option<DataType>], planned: Arc<Planned>) {
        if text.len() <= self.text_bytes_max {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            plans.insert((text.to_string(), hints.to_vec()), planned);
        }
    }
}

/// A map of bounded size that forgets what was used longest ago.
struct Lru<K, V> {
    entries_max: usize,
    clock: u64,
    entries: BTreeMap<K, (V, u64)>,
    by_use: BTreeMap<u64, K>,
}

impl<K: Ord + Clone, V: Clone> Lru<K, V> {
    fn new(entries_max: usize) -> Lru<K, V> {
        Lru { entries_max, clock: 0, entries: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    fn get<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let (value, used) = self.entries.get_mut(key)?;
        self.clock += 1;
        if let Some(key) = self.by_use.remove(used) {
            self.by_use.insert(self.clock, key);
        }
        *used = self.clock;
        Some(value.clone())
    }

    fn insert(&mut self, key: K, value: V) {
        self.clock += 1;
        if let Some((_, used)) = self.entries.insert(key.clone(), (value, self.clock)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, key);
        while self.entries.len() > self.entries_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_goes_first() {
        let mut lru = Lru::new(2);
        lru.insert("a".to_string(), 1);
        lru.insert("b".to_string(), 2);
        assert_eq!(lru.get("a"), Some(1));
        lru.insert("c".to_string(), 3);
        assert_eq!((lru.get("a"), lru.get("b"), lru.get("c")), (Some(1), None, Some(3)));
        lru.insert("c".to_string(), 4);
        assert_eq!((lru.entries.len(), lru.by_use.len()), (2, 2));
    }
}
