//! A plan: what is done with each range, and what each store has to look like for that.
//!
//! It is JSON that people can read, and is carried out as it was made: its name is a digest of the rest, so that a plan that was changed by hand, or
//! damaged on its way, is refused.

use proto::{Epoch, Key, NodeId, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaId, Span};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version of plans that this program writes and carries out.
pub const FORMAT: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub format: u32,
    /// A digest of everything else.
    pub plan: String,
    pub cluster: String,
    /// The nodes that are given up for good.
    pub dead: Vec<Dead>,
    /// What may be lost, in sentences.
    pub losses: Vec<String>,
    /// Where the plan has to be applied, and what has to be found there.
    pub stores: Vec<StorePlan>,
    pub ranges: Vec<RangePlan>,
    /// Everything in the ranges that are rebuilt counts as read up to this timestamp.
    pub read_floor: u64,
    /// No range has this id or a higher one.
    pub next_range: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dead {
    pub node: u64,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorePlan {
    pub node: u64,
    pub address: String,
    /// The store's own id.
    pub store: String,
    /// How often it had been started.
    pub starts: u64,
    /// The replicas that it held.
    pub replicas: Vec<Held>,
}

/// A replica as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    pub range: u64,
    pub replica: u64,
    pub applied_index: u64,
    pub last_term: u64,
    pub last_index: u64,
}

/// What is done with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It has its majority: nothing.
    Keep,
    /// Its best survivor becomes its only voter.
    Rebuild,
    /// No replica survives; it is made of an older copy, from before it was split off.
    Fill,
    /// No replica survives, nor any older copy: it begins without contents.
    Empty,
    /// Others hold all of its keys by now: what is left of it goes.
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangePlan {
    pub range: u64,
    pub action: Action,
    /// Its bounds in words.
    pub keys: String,
    /// Its bounds in hexadecimal.
    pub start: String,
    pub end: String,
    /// The tables that have rows there, as far as the catalog is known.
    pub tables: Vec<String>,
    /// Its replicas as they were known last: `p3 on n2`.
    pub replicas: Vec<String>,
    pub why: String,
    /// What may be lost, in a sentence.
    pub loss: Option<String>,
    /// The replica whose contents are taken.
    pub source: Option<Source>,
    /// What it is afterwards.
    pub becomes: Option<Becomes>,
}

/// A replica whose contents are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub node: u64,
    pub range: u64,
    pub replica: u64,
    pub last_term: u64,
    pub last_index: u64,
    /// The range whose log holds the split that brings it into being, if it is not there yet.
    pub born_of: Option<u64>,
}

/// A range with one voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Becomes {
    pub node: u64,
    pub replica: u64,
    pub epoch: u64,
    /// Its log goes on in a term above this.
    pub term: u64,
}

fn hex(key: &Key) -> String {
    use std::fmt::Write;
    key.as_bytes().iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn from_hex(text: &str) -> Option<Key> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(Key(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
}

impl RangePlan {
    /// The bounds as text.
    pub fn bounds(span: &Span) -> (String, String) {
        (hex(&span.start), hex(&span.end))
    }

    /// # Errors
    /// A sentence, if the bounds make no span.
    pub fn span(&self) -> Result<Span, String> {
        let wrong = || format!("range r{} has no bounds that can be read", self.range);
        let span =
            Span { start: from_hex(&self.start).ok_or_else(wrong)?, end: from_hex(&self.end).ok_or_else(wrong)? };
        if span.is_empty() { Err(wrong()) } else { Ok(span) }
    }

    /// The range as it is afterwards; none if it is left alone or goes.
    ///
    /// # Errors
    /// A sentence, if the bounds make no span.
    pub fn descriptor(&self) -> Result<Option<RangeDescriptor>, String> {
        let Some(becomes) = self.becomes else { return Ok(None) };
        let replica = ReplicaDescriptor::voter(NodeId(becomes.node), ReplicaId(becomes.replica));
        let (id, epoch) = (RangeId(self.range), Epoch(becomes.epoch));
        Ok(Some(RangeDescriptor::new(id, self.span()?, epoch, vec![replica])))
    }
}

impl Plan {
    /// Names the plan.
    #[must_use]
    pub fn sealed(self) -> Plan {
        let plan = self.digest();
        Plan { plan, ..self }
    }

    fn digest(&self) -> String {
        let unnamed = Plan { plan: String::new(), ..self.clone() };
        let text = serde_json::to_vec(&unnamed).expect("a plan is plain data");
        Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// As it is written to a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan is plain data") + "\n"
    }

    /// Reads what [`Plan::to_json`] wrote.
    ///
    /// # Errors
    /// A sentence, if it is no plan, one of another version, or was changed.
    pub fn from_json(text: &str) -> Result<Plan, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| {
            format!("it is no JSON ({e}): it is no plan, or was damaged on its way. Take it from where it was made")
        })?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(format!("it has format {format}, and this version of meridian reads format {FORMAT}"));
            }
            None => return Err("it is no recovery plan: it has no format".into()),
        }
        let plan: Plan = serde_json::from_value(value).map_err(|e| format!("it is no recovery plan: {e}"))?;
        if plan.plan != plan.digest() {
            return Err("it was changed since it was made: make a new one instead".into());
        }
        Ok(plan)
    }

    /// The part of a node's store.
    pub fn store(&self, node: NodeId) -> Option<&StorePlan> {
        self.stores.iter().find(|store| store.node == node.0)
    }

    /// The ranges as they are afterwards, of those that are rebuilt or made anew.
    ///
    /// # Errors
    /// A sentence, if the plan contradicts itself.
    pub fn descriptors(&self) -> Result<Vec<RangeDescriptor>, String> {
        self.ranges.iter().filter_map(|range| range.descriptor().transpose()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let (start, end) = RangePlan::bounds(&Span::new("a", "m"));
        let range = RangePlan {
            range: 7,
            action: Action::Rebuild,
            keys: "t .. <end>".into(),
            start,
            end,
            tables: vec!["t".into()],
            replicas: vec!["p1 on n1".into()],
            why: "it has lost its majority".into(),
            loss: None,
            source: None,
            becomes: Some(Becomes { node: 2, replica: 1005, epoch: 1001, term: 8 }),
        };
        let unnamed = Plan {
            format: FORMAT,
            plan: String::new(),
            cluster: "c".into(),
            dead: vec![Dead { node: 3, address: "host:3".into() }],
            losses: Vec::new(),
            stores: Vec::new(),
            ranges: vec![range],
            read_floor: 1 << 60,
            next_range: 9,
        };
        unnamed.sealed()
    }

    #[test]
    fn a_plan_is_read_back_as_it_was_written() {
        let plan = plan();
        assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan.clone()));
        let descriptor = plan.descriptors().unwrap().remove(0);
        assert_eq!(descriptor.span(), Span::new("a", "m"));
        assert_eq!((descriptor.epoch, descriptor.next_replica), (Epoch(1001), ReplicaId(1006)));
    }

    #[test]
    fn what_is_no_plan_or_was_changed_is_refused_in_words() {
        let text = plan().to_json();
        let refused = |text: &str, words: &str| {
            let why = Plan::from_json(text).unwrap_err();
            assert!(why.contains(words), "{why}");
        };
        refused("", "no JSON");
        refused("[]", "no recovery plan");
        refused(&text.replace("\"format\": 1", "\"format\": 2"), "format 2");
        refused(&text.replace("\"node\": 2", "\"node\": 1"), "was changed");
        refused(&text.replace("\"keys\"", "\"kees\""), "no recovery plan");
        let crooked = RangePlan { start: "6".into(), ..plan().ranges.remove(0) };
        assert!(crooked.span().is_err());
    }
}
