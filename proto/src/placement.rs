//! Where a range's replicas are to stand: the rules that an operator gives to a table, a part of the key space or all of it.
//!
//! ```text
//! replicas = 5, constraints = '+region=eu,-zone=b', leader_preference = 'zone=a,zone=c', non_voters = 'region=us:1'
//! ```
//!
//! `+tier=value` (or without the sign) must hold for each voter, `-tier=value` for none, and `tier=value:2` for at least two. Leader
//! preferences stand in order, the dearest first. Non-voters count for no majority and are not bound by the constraints: each entry
//! says how many of them stand where.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::Locality;
use crate::locality::Tier;

/// See the module. The default has no wishes: as many replicas as the cluster's default says, spread as widely as they can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct PlacementRules {
    /// Voters; if unset, the cluster's default.
    #[n(0)]
    pub replicas: Option<u32>,
    #[n(1)]
    #[cbor(default)]
    pub constraints: Vec<Constraint>,
    /// Where the leader should stand, the dearest first.
    #[n(2)]
    #[cbor(default)]
    pub leader_preferences: Vec<Tier>,
    #[n(3)]
    #[cbor(default)]
    pub non_voters: Vec<TierCount>,
}

/// A demand on the localities of a range's voters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Constraint {
    #[n(0)]
    pub tier: Tier,
    #[n(1)]
    pub demand: Demand,
}

/// How many voters a constraint speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Demand {
    /// Each of them.
    #[n(0)]
    Required,
    /// None of them.
    #[n(1)]
    Forbidden,
    /// So many, or more.
    #[n(2)]
    AtLeast(#[n(0)] u32),
}

/// So many replicas in one failure domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct TierCount {
    #[n(0)]
    pub tier: Tier,
    #[n(1)]
    pub count: u32,
}

/// Why rules could not be read: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesError(String);

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RulesError {}

fn refuse<T>(why: impl Into<String>) -> Result<T, RulesError> {
    Err(RulesError(why.into()))
}

impl PlacementRules {
    /// Voters past which rules are refused.
    pub const REPLICAS_MAX: u32 = 9;
    /// Non-voters, all entries together, past which rules are refused.
    pub const NON_VOTERS_MAX: u32 = 32;
    /// Constraints and preferences past which rules are refused, each.
    pub const ENTRIES_MAX: usize = 16;

    /// These rules with one option set from its text, as a statement gives it. An empty text unsets the option.
    ///
    /// # Errors
    /// When there is no such option, its text cannot be read, or it contradicts the others.
    pub fn with_option(mut self, name: &str, text: &str) -> Result<PlacementRules, RulesError> {
        let text = text.trim();
        match name {
            "replicas" if text.is_empty() => self.replicas = None,
            "replicas" => match text.parse() {
                Ok(count) if (1..=Self::REPLICAS_MAX).contains(&count) => self.replicas = Some(count),
                _ => return refuse(format!("replicas is a number from 1 to {}, not \"{text}\"", Self::REPLICAS_MAX)),
            },
            "constraints" => self.constraints = entries(text, str::parse)?,
            "leader_preference" => self.leader_preferences = entries(text, tier)?,
            "non_voters" => self.non_voters = entries(text, tier_count)?,
            _ => {
                return refuse(format!(
                    "there is no option \"{name}\": write replicas, constraints, leader_preference or non_voters"
                ));
            }
        }
        self.check()?;
        Ok(self)
    }

    /// Whether the rules can be kept by any cluster at all.
    fn check(&self) -> Result<(), RulesError> {
        let mut counted = 0;
        for (n, constraint) in self.constraints.iter().enumerate() {
            for other in &self.constraints[..n] {
                let (a, b) = (&constraint.tier, &other.tier);
                let both_required = constraint.demand == Demand::Required && other.demand == Demand::Required;
                if a == b || (a.key == b.key && both_required) {
                    return refuse(format!("\"{other}\" and \"{constraint}\" cannot both stand"));
                }
            }
            if let Demand::AtLeast(count) = constraint.demand {
                counted += count;
            }
        }
        // Counts on different tiers may speak of the same voters; on one tier they cannot.
        let one_tier = self.constraints.windows(2).all(|pair| pair[0].tier.key == pair[1].tier.key);
        match self.replicas {
            Some(replicas) if one_tier && counted > replicas => {
                return refuse(format!("the constraints speak of {counted} voters, and replicas is {replicas}"));
            }
            _ => {}
        }
        let non_voters: u32 = self.non_voters.iter().fold(0, |sum, entry| sum.saturating_add(entry.count));
        if non_voters > Self::NON_VOTERS_MAX {
            return refuse(format!("a range has at most {} non-voters", Self::NON_VOTERS_MAX));
        }
        Ok(())
    }
}

/// The entries of a list, read one by one.
fn entries<T>(text: &str, read: impl Fn(&str) -> Result<T, RulesError>) -> Result<Vec<T>, RulesError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let all: Vec<T> = parts.map(read).collect::<Result<_, _>>()?;
    if all.len() > PlacementRules::ENTRIES_MAX {
        return refuse(format!("a list has at most {} entries", PlacementRules::ENTRIES_MAX));
    }
    Ok(all)
}

fn tier(text: &str) -> Result<Tier, RulesError> {
    let pair = text.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    let Some((key, value)) = pair.filter(|(key, value)| !key.is_empty() && !value.is_empty()) else {
        return refuse(format!("\"{text}\" is not of the form tier=value"));
    };
    if [key, value].iter().any(|word| word.contains(['\'', '=', ':', '+'])) {
        return refuse(format!("\"{text}\" holds a sign that a tier cannot have"));
    }
    Ok(Tier { key: key.into(), value: value.into() })
}

fn tier_count(text: &str) -> Result<TierCount, RulesError> {
    let Some((left, count)) = text.rsplit_once(':') else {
        return refuse(format!("\"{text}\" is not of the form tier=value:count"));
    };
    match count.trim().parse() {
        Ok(count) if (1..=PlacementRules::NON_VOTERS_MAX).contains(&count) => {
            Ok(TierCount { tier: tier(left)?, count })
        }
        _ => refuse(format!("\"{count}\" in \"{text}\" is not a count")),
    }
}

impl Constraint {
    /// Whether a voter that stands there is one that the constraint speaks of.
    pub fn matches(&self, locality: &Locality) -> bool {
        locality.get(&self.tier.key) == Some(self.tier.value.as_str())
    }
}

impl FromStr for Constraint {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Constraint, RulesError> {
        if let Some(rest) = text.strip_prefix('-') {
            return Ok(Constraint { tier: tier(rest)?, demand: Demand::Forbidden });
        }
        if let Some(rest) = text.strip_prefix('+') {
            return Ok(Constraint { tier: tier(rest)?, demand: Demand::Required });
        }
        if text.contains(':') {
            let TierCount { tier, count } = tier_count(text)?;
            return Ok(Constraint { tier, demand: Demand::AtLeast(count) });
        }
        Ok(Constraint { tier: tier(text)?, demand: Demand::Required })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tier { key, value } = &self.tier;
        match self.demand {
            Demand::Required => write!(f, "+{key}={value}"),
            Demand::Forbidden => write!(f, "-{key}={value}"),
            Demand::AtLeast(count) => write!(f, "{key}={value}:{count}"),
        }
    }
}

impl fmt::Display for TierCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.tier.key, self.tier.value, self.count)
    }
}

impl FromStr for PlacementRules {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<PlacementRules, RulesError> {
        let mut rules = PlacementRules::default();
        let mut named = Vec::new();
        for option in outside_quotes(text).into_iter().filter(|option| !option.is_empty()) {
            let Some((name, value)) = option.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else {
                return refuse(format!("\"{option}\" is not of the form option = value"));
            };
            if named.contains(&name) {
                return refuse(format!("\"{name}\" is given twice"));
            }
            named.push(name);
            let unquoted = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).unwrap_or(value);
            rules = rules.with_option(name, unquoted)?;
        }
        Ok(rules)
    }
}

/// The parts between commas that stand outside of quotes, trimmed.
fn outside_quotes(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

impl fmt::Display for PlacementRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &str, entries: Vec<String>| {
            (!entries.is_empty()).then(|| format!("{name} = '{}'", entries.join(",")))
        };
        let preferences = self.leader_preferences.iter().map(|tier| format!("{}={}", tier.key, tier.value));
        let options = [
            self.replicas.map(|count| format!("replicas = {count}")),
            quoted("constraints", self.constraints.iter().map(ToString::to_string).collect()),
            quoted("leader_preference", preferences.collect()),
            quoted("non_voters", self.non_voters.iter().map(ToString::to_string).collect()),
        ];
        let set: Vec<String> = options.into_iter().flatten().collect();
        f.write_str(&set.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn read(text: &str) -> Result<PlacementRules, String> {
        text.parse().map_err(|e: RulesError| e.to_string())
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        let text = "replicas = 5, constraints = '+region=eu,-zone=b,zone=a:2', leader_preference = 'zone=a,zone=c', \
                    non_voters = 'region=us:1'";
        let rules = read(text).unwrap();
        assert_eq!(rules.to_string(), text);
        assert_eq!(rules.replicas, Some(5));
        assert_eq!(rules.constraints[2].demand, Demand::AtLeast(2));
        assert_eq!(read("constraints = region=eu").unwrap().to_string(), "constraints = '+region=eu'");
        assert_eq!(read("").unwrap(), PlacementRules::default());
        let unset = rules.with_option("constraints", "").unwrap();
        assert!(unset.constraints.is_empty());
    }

    #[test]
    fn rules_that_nothing_can_keep_are_refused() {
        let why = |text| read(text).unwrap_err();
        assert!(why("replicas = 0").contains("from 1 to 9"));
        assert!(why("replicas = 3, constraints = 'region=eu:2,region=us:2'").contains("speak of 4 voters"));
        assert!(why("constraints = '+zone=a,-zone=a'").contains("cannot both stand"));
        assert!(why("constraints = '+zone=a,+zone=b'").contains("cannot both stand"));
        assert!(why("replica = 3").contains("there is no option \"replica\""));
        assert!(why("replicas = 3, replicas = 5").contains("given twice"));
        assert!(why("leader_preference = 'eu'").contains("tier=value"));
        assert!(why("non_voters = 'region=us'").contains("tier=value:count"));
        assert!(why("non_voters = 'region=us:33'").contains("not a count"));
    }

    #[test]
    fn rules_survive_their_encoding() {
        let rules = read("replicas = 3, constraints = '-zone=b,region=eu:2', non_voters = 'region=us:1'").unwrap();
        assert_eq!(codec::decode::<PlacementRules>("rules", &codec::encode(&rules)).unwrap(), rules);
    }
}
